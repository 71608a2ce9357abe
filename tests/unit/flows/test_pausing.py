"""An operator's command during a health check, in every order: the command wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations_with_replacement
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from cli.target import Target
from optus_sms.aws.traffic import Traffic
from optus_sms.model.lanes import Lane
from optus_sms.records.items import HealthRecord, Hold, PausedBy
from tests.support.health import FakeSwitch, MemoryHealthRecords, World

Step = Callable[[], None]


class CrashError(BaseException):
    """Stands for the end of the health check."""


@dataclass
class Turns:
    """Runs others before each step of a health check. ``at``: the actions, by step."""

    at: dict[int, list[Step]] = field(default_factory=dict)
    steps: int = 0
    taken: int = 0
    inside: bool = False

    def step(self) -> None:
        if self.inside:
            return
        self.inside = True
        for turn in self.at.pop(self.steps, []):
            self.taken += 1
            turn()
        self.inside = False
        self.steps += 1

    def rest(self) -> None:
        """Run the actions whose step did not come."""
        self.inside = True
        for number in sorted(self.at):
            for turn in self.at[number]:
                if turn is not crash:
                    turn()
        self.at.clear()
        self.inside = False


def crash() -> None:
    raise CrashError


class Records(MemoryHealthRecords):
    turns: Turns

    def read(self) -> HealthRecord:
        self.turns.step()
        return super().read()

    def write(self, record: HealthRecord, *, seen: HealthRecord) -> bool:
        self.turns.step()
        return super().write(record, seen=seen)


@dataclass
class Switch(FakeSwitch):
    turns: Turns = field(default_factory=Turns)

    def lanes(self) -> dict[Lane, bool | None]:
        self.turns.step()
        return super().lanes()

    def _change(self, call: str, lanes: list[Lane], *, on: bool) -> None:
        self.turns.step()
        super()._change(call, lanes, on=on)


def empty_world() -> World:
    store = Records()
    store.turns = Turns()
    return World(store=store, switch=Switch(turns=store.turns))


def new_world() -> World:
    return empty_world().healthy()


def about_to_pause() -> World:
    world = new_world()
    world.go_down()
    world.minutes(2)
    return world


def paused() -> World:
    world = about_to_pause()
    world.minutes(4)
    return world


def about_to_resume() -> World:
    world = paused()
    world.come_back()
    world.minutes(1)
    return world


def credentials_refused() -> World:
    world = new_world()
    world.gateway.valid = frozenset()
    world.sender_metrics.traffic = Traffic(0, 2)
    world.minutes(5)
    world.sender_metrics.at = world.clock.now()  # paused since, so no message has failed since
    return world


def credentials_mended() -> World:
    world = credentials_refused()
    world.gateway.valid = None
    return world


def outcomes_unknown() -> World:
    world = new_world()
    world.sender_metrics.traffic = Traffic(0, 0, 3, 3)
    doubt = world.store.begin_doubt(now=world.clock.now())
    for _ in range(2):
        world.clock.advance(max(0.0, doubt.probe_after - world.clock.now()))
        doubt = world.store.claim_probe(doubt, now=world.clock.now())[1] or doubt
    world.minutes(11)
    world.sender_metrics.at = world.clock.now()
    return world


def probing() -> World:
    world = outcomes_unknown()
    world.minutes(4)
    doubt = world.store.read_doubt()
    assert doubt is not None
    world.store.claim_probe(doubt, now=world.clock.now())
    return world


def paused_by_operator() -> World:
    world = about_to_resume()
    for step in command(world, "pause"):
        step()
    return world


WORLDS: Final = (
    new_world, about_to_pause, paused, about_to_resume, credentials_refused, credentials_mended, outcomes_unknown,
    probing, paused_by_operator,
)  # fmt: skip


@cache
def prototype(make: Callable[[], World]) -> World:
    return make()


def copy_of(original: World) -> World:
    """Return a copy of the world without its past."""
    world = empty_world()
    world.store.record, world.switch.on = original.record, original.switch.on
    world.gateway = replace(original.gateway, tried=[])
    world.sender_metrics, world.secret = replace(original.sender_metrics), replace(original.secret)
    world.clock.advance(original.clock.now() - world.clock.now())
    return world


def command(world: World, name: str) -> list[Step]:
    """Return the steps of `optus-sms pause` or `resume`, in order."""
    steps: list[Step] = []

    class Recorder:
        def __init__(self, target: object) -> None:
            self._target = target

        def __getattr__(self, method: str) -> Callable[..., None]:
            def later(*lanes: Any, **arguments: Any) -> None:
                steps.append(lambda: getattr(self._target, method)(*lanes, **arguments))

            return later

    target = cast("Target", SimpleNamespace(health=Recorder(world.store), switch=Recorder(world.switch)))
    verb, _, lane = name.partition(" ")
    {"pause": Target.pause_sending, "resume": Target.resume_sending}[verb](target, Lane(lane) if lane else None)
    assert len(steps) == 2
    return steps


def run(
    make: Callable[[], World], name: str, at: dict[int, list[str]], *, checks: int, more: int = 3
) -> tuple[World, int]:
    """Run some checks, with the steps of a command and a crash at their places, then some more checks."""
    world = copy_of(prototype(make))
    turns = cast("Records", world.store).turns
    steps = dict(zip(("write", "act"), command(world, name), strict=True)) | {"crash": crash}
    turns.steps, turns.at = 0, {number: [steps[word] for word in words] for number, words in at.items()}
    for _ in range(checks):
        try:
            world.minutes(1)
        except CrashError:
            turns.inside = False
            world.clock.advance(60)
    taken = turns.steps
    turns.rest()
    world.minutes(more)
    return world, taken


def is_obeyed(world: World, name: str) -> bool:
    record = world.record
    verb, _, lane = name.partition(" ")
    if lane:
        is_held = record.hold(Lane(lane)) is not Hold.NONE
        return (is_held, world.switch.lanes()[Lane(lane)]) == (verb == "pause", verb == "resume")
    if name == "resume":
        return world.switch.on is True and record.pause is None
    return world.switch.on is False and record.pause is not None and record.pause.by is PausedBy.OPERATOR


def orders(steps: int) -> Iterator[dict[int, list[str]]]:
    for write, act in combinations_with_replacement(range(steps + 1), 2):
        yield {write: ["write"], act: ["act"]} if write != act else {write: ["write", "act"]}


@pytest.mark.parametrize("name", ["pause", "resume", "pause urgent", "resume urgent"])
@pytest.mark.parametrize("make", WORLDS, ids=lambda make: make.__name__)
class TestEveryOrder:
    def test_the_operator_has_the_last_word(self, make: Callable[[], World], name: str) -> None:
        _, steps = run(make, name, {}, checks=3)
        wrong = [at for at in orders(steps + 2) if not is_obeyed(run(make, name, at, checks=3)[0], name)]
        assert wrong == []

    def test_it_has_the_last_word_at_once(self, make: Callable[[], World], name: str) -> None:
        _, steps = run(make, name, {}, checks=1)
        worlds = [run(make, name, at, checks=1, more=0)[0] for at in orders(steps + 2)]
        lanes = [Lane(lane)] if (lane := name.partition(" ")[2]) else Lane
        assert {world.switch.lanes()[lane] for world in worlds for lane in lanes} == {name.startswith("resume")}

    def test_also_if_the_command_ends_after_its_write(self, make: Callable[[], World], name: str) -> None:
        _, steps = run(make, name, {}, checks=2)
        places = range(steps + 2)
        assert [at for at in places if not is_obeyed(run(make, name, {at: ["write"]}, checks=2)[0], name)] == []

    def test_also_if_the_check_ends_anywhere(self, make: Callable[[], World], name: str) -> None:
        _, steps = run(make, name, {}, checks=1)
        wrong = []
        for at in orders(steps + 1):
            for place in range(steps + 1):
                # After a step of the command at the same place: before it is the same as one place earlier.
                crashed = at | {place: [*at.get(place, []), "crash"]}
                if not is_obeyed(run(make, name, crashed, checks=1)[0], name):
                    wrong.append(crashed)
        assert wrong == []


def test_without_a_command_a_check_that_ends_anywhere_is_finished_by_the_next() -> None:
    for make in WORLDS:
        expected, steps = run(make, "pause", {}, checks=1)
        for place in range(steps):
            crashed, _ = run(make, "pause", {place: ["crash"]}, checks=1)
            assert crashed.switch.on is expected.switch.on, (make.__name__, place)
