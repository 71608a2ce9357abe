"""Pauses of one lane and of both, and the effect of a change of one on the other."""

from __future__ import annotations

import pytest

from optus_sms.flows.pausing import Action, decide_for_all
from optus_sms.model.lanes import Lane
from optus_sms.records.items import HealthRecord, Hold, Pause, PausedBy, PauseReason
from tests.support.health import World

URGENT, ORDINARY = Lane.URGENT, Lane.ORDINARY


def operator(world: World, verb: str, lane: Lane | None = None) -> None:
    """Run the command's two steps in order."""
    steps = {"pause": world.store.pause_by_operator, "resume": world.store.resume_by_operator}
    steps[verb](lane, now=world.clock.now())
    lanes = [lane] if lane else Lane
    (world.switch.pause if verb == "pause" else world.switch.resume)(lanes)


def on(world: World) -> list[Lane]:
    return [lane for lane, is_on in world.switch.lanes().items() if is_on]


def test_one_lane_is_paused_until_an_operator_resumes_it() -> None:
    world = World().healthy()
    operator(world, "pause", URGENT)
    record = world.minutes(3)
    assert (on(world), record.pause, record.hold(URGENT)) == ([ORDINARY], None, Hold.CONFIRMED)
    assert world.results[-1]["paused_lanes"] == [URGENT]
    operator(world, "resume", URGENT)
    record = world.minutes(2)
    assert (on(world), record.hold(URGENT), world.results[-1]["paused_lanes"]) == ([ORDINARY, URGENT], Hold.NONE, [])


def test_an_outage_pauses_both_lanes_and_ends_the_operators_pause_of_none() -> None:
    world = World().healthy()
    operator(world, "pause", ORDINARY)
    world.minutes(1)
    world.go_down()
    record = world.minutes(4)
    assert (on(world), record.pause and record.pause.by) == ([], PausedBy.HEALTH)
    world.come_back()
    record = world.minutes(4)
    assert (on(world), record.pause, record.hold(ORDINARY)) == ([URGENT], None, Hold.CONFIRMED)


def test_resuming_one_lane_of_a_pause_leaves_the_other_paused() -> None:
    world = World().healthy()
    operator(world, "pause")
    world.minutes(1)
    operator(world, "resume", URGENT)
    record = world.minutes(3)
    assert (on(world), record.pause, record.hold(ORDINARY)) == ([URGENT], None, Hold.CONFIRMED)
    operator(world, "resume")
    world.minutes(2)
    assert on(world) == [ORDINARY, URGENT]


def test_a_lane_paused_and_resumed_by_hand_is_an_operators_wish() -> None:
    world = World().healthy()
    world.switch.own = {URGENT: False}
    assert world.minutes(1).hold(URGENT) is Hold.CONFIRMED
    world.switch.own = {}
    assert world.minutes(1).hold(URGENT) is Hold.NONE
    assert on(world) == [ORDINARY, URGENT]


@pytest.mark.parametrize("by", ["operator", "health check"])
def test_a_new_mapping_does_not_end_a_pause(by: str) -> None:
    """A deployment enables a mapping that it creates, such as that of the urgent queue."""
    world = World().healthy()
    if by == "operator":
        operator(world, "pause")
    else:
        world.go_down()
    world.minutes(4)
    world.switch.own, world.switch.on = {URGENT: True}, False
    record = world.minutes(1)
    assert (on(world), record.pause is not None, record.free) == ([], True, tuple(Lane))
    world.come_back()
    world.minutes(3)
    assert on(world) == ([] if by == "operator" else [ORDINARY, URGENT])


@pytest.mark.parametrize("left", Lane)
def test_a_resume_cut_short_between_the_lanes_is_finished(left: Lane) -> None:
    world = World().healthy()
    operator(world, "pause")
    world.minutes(1)
    world.store.resume_by_operator(now=world.clock.now())
    world.switch.own = {left: False}
    world.switch.on = True
    record = world.minutes(2)
    assert (on(world), record.free) == ([ORDINARY, URGENT], tuple(Lane))


def test_a_lane_whose_command_was_cut_short_is_paused_by_the_next_check() -> None:
    world = World().healthy()
    world.store.pause_by_operator(URGENT, now=world.clock.now())
    record = world.minutes(2)
    assert (on(world), record.hold(URGENT)) == ([ORDINARY], Hold.CONFIRMED)


def test_if_one_state_is_not_known_nothing_changes() -> None:
    world = World().healthy()
    world.go_down()
    world.switch.own = {URGENT: None}
    record = world.minutes(4)
    assert (world.switch.calls, record.pause, world.results[-1]["paused_lanes"]) == ([], None, None)


def test_a_pause_of_both_lanes_one_by_one_is_a_pause() -> None:
    world = World().healthy()
    operator(world, "pause", URGENT)
    operator(world, "pause", ORDINARY)
    record = world.minutes(2)
    assert (on(world), record.pause and record.pause.by) == ([], PausedBy.OPERATOR)
    operator(world, "resume", URGENT)
    world.minutes(2)
    assert on(world) == [URGENT]


def test_a_hold_edited_by_hand_is_one() -> None:
    item = HealthRecord(pause=Pause("", None, confirmed=True)).to_item() | {"urgent_hold": "yes"}
    assert HealthRecord.from_item(item).hold(URGENT) is Hold.RECORDED


def test_a_pause_that_a_new_lane_completes_is_not_made_yet_so_no_operator_ended_it() -> None:
    """Otherwise a check that ends before the change would let the next one take the lanes that are on for a wish."""
    lanes = {ORDINARY: True, URGENT: False}
    record = HealthRecord(pause=Pause("2026-01-01T00:00:00Z", PauseReason.OUTAGE, confirmed=True))
    action, after = decide_for_all(Action.LEAVE, record, lanes)
    assert (action, after.pause and after.pause.confirmed) == (Action.PAUSE, False)
