"""The health check: the result of a check, changes of the state, pauses and resumes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

import pytest
from botocore.exceptions import ClientError

from optus_sms.aws.traffic import Traffic
from optus_sms.flows.check_health import (
    QUIET_SECONDS,
    Observation,
    judge_credentials,
    judge_health,
    judge_response,
    judge_service_status,
    note,
    weigh,
)
from optus_sms.flows.pausing import (
    FAILED_PROBES,
    Action,
    Admission,
    Thresholds,
    Trial,
    decide,
)
from optus_sms.gateway.transport import Exchange
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import Doubt, Health, HealthRecord, Pause, PausedBy, PauseReason
from optus_sms.runtime.observability import Metric
from tests.support.builders import NOW
from tests.support.health import NO_MESSAGE, NO_PATH, World, answer, no_response, service_status

THROTTLED = ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "AnyCall")
DAY = 86_400


class TestOneLook:
    @pytest.mark.parametrize(
        ("looked", "health"),
        [
            (answer(200), Health.HEALTHY),
            (answer(500), Health.UNHEALTHY),
            (answer(503), Health.UNHEALTHY),
            (no_response("timed_out"), Health.UNHEALTHY),
            (no_response("name_not_resolved"), Health.UNHEALTHY),
            (answer(429), Health.UNKNOWN),
            (answer(408), Health.UNKNOWN),
        ],
    )
    def test_healthz(self, looked: Exchange, health: Health) -> None:
        seen = judge_health(looked)
        assert seen is not None
        assert seen.health is health

    @pytest.mark.parametrize(
        ("looked", "reason"),
        [(no_response("timed_out"), "timed_out"), (answer(None), "no response"), (answer(503), "HTTP 503")],
    )
    def test_healthz_that_is_bad_says_why(self, looked: Exchange, reason: str) -> None:
        seen = judge_health(looked)
        assert seen is not None
        assert seen.reason == reason

    @pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 204, 499])
    def test_a_gateway_without_healthz_is_not_down(self, status: int) -> None:
        assert judge_health(answer(status)) is None

    @pytest.mark.parametrize(
        ("looked", "health"),
        [
            (service_status("available"), Health.HEALTHY),
            (service_status("unavailable"), Health.UNHEALTHY),
            (service_status("unknown"), Health.UNKNOWN),
            (service_status("on holiday"), Health.UNKNOWN),
            (answer(200, {"services": {}}), Health.UNKNOWN),
            (
                answer(200, {"services": {"a": {"status": "available"}, "b": {"status": "unavailable"}}}),
                Health.UNHEALTHY,
            ),
            (answer(200, {"services": {"a": {"status": "available"}, "b": "?"}}), Health.UNKNOWN),
            (answer(200, {"services": ["restv2"]}), Health.UNKNOWN),
            (answer(200, b"<html>"), Health.UNKNOWN),
            (answer(503, {"message": "Health check service temporarily unavailable"}), Health.UNKNOWN),
            (no_response(), Health.UNKNOWN),
            (None, Health.UNKNOWN),
        ],
    )
    def test_service_status(self, looked: Exchange | None, health: Health) -> None:
        assert judge_service_status(looked).health is health

    @pytest.mark.parametrize(("looked", "reason"), [(no_response("timed_out"), "timed_out"), (answer(503), "HTTP 503")])
    def test_service_status_that_is_not_known_says_why(self, looked: Exchange, reason: str) -> None:
        assert f"({reason})" in judge_service_status(looked).reason

    @pytest.mark.parametrize(
        ("looked", "admission"),
        [
            (answer(404, NO_MESSAGE), Admission.ACCEPTED),
            (answer(200, {"id": "x"}), Admission.ACCEPTED),
            (answer(404, NO_PATH), Admission.UNKNOWN),
            (answer(404, b"<html>"), Admission.UNKNOWN),
            (answer(401), Admission.REFUSED),
            (answer(401, NO_MESSAGE), Admission.REFUSED),
            (answer(403, {"message": "Forbidden"}), Admission.REFUSED),
            (answer(403, b"<html>Forbidden"), Admission.REFUSED_IN_FRONT),
            (answer(401, b"<html>Unauthorized"), Admission.REFUSED_IN_FRONT),
            (answer(400, b"<h1>400 Bad Request</h1>"), Admission.REFUSED_IN_FRONT),
            (answer(413, b"<html>"), Admission.REFUSED_IN_FRONT),
            (answer(422, b"<html>"), Admission.REFUSED_IN_FRONT),
            (answer(405), Admission.UNKNOWN),
            (answer(429), Admission.UNKNOWN),
            (answer(500), Admission.UNKNOWN),
            (no_response(), Admission.UNKNOWN),
        ],
    )
    def test_credentials(self, looked: Exchange, admission: Admission) -> None:
        assert judge_credentials(looked) is admission


class TestJudgeResponse:
    @pytest.mark.parametrize(
        ("looked", "responds"),
        [
            (answer(404, NO_MESSAGE), True),
            (answer(200, {"id": "gw-1"}), True),
            (answer(401, {"message": "Unauthorized"}), True),
            (answer(404, NO_PATH), None),
            (answer(403, b"<html>"), None),
            (answer(429), None),
            (answer(501), None),
            (answer(499), None),
            (answer(500), False),
            (answer(503, b"<html>"), False),
            (no_response("timed_out"), False),
        ],
    )
    def test_only_the_api_shows_that_it_responds_and_501_only_that_it_offers_no_look_up(
        self, looked: Exchange, responds: bool | None
    ) -> None:
        assert judge_response(looked) is responds


HEALTHY = Observation(Health.HEALTHY, "ok")


@pytest.mark.parametrize(
    ("own", "admission", "health"),
    [
        (None, Admission.REFUSED_IN_FRONT, Health.UNHEALTHY),
        (HEALTHY, Admission.REFUSED_IN_FRONT, Health.HEALTHY),
        (None, Admission.UNKNOWN, Health.HEALTHY),
    ],
)
def test_a_refusal_in_front_is_an_outage_only_if_healthz_got_no_answer_either(
    own: Observation | None, admission: Admission, health: Health
) -> None:
    assert weigh(own, HEALTHY, Trial(admission)).health is health


def expected_state(history: tuple[Health, ...]) -> Health:
    """Return the state by another algorithm: the last certain observations since three unknown ones in a row."""
    state, since = Health.UNKNOWN, 0
    for end in range(1, len(history) + 1):
        if history[max(since, end - 3) : end] == (Health.UNKNOWN,) * 3 or (
            state is Health.UNKNOWN and since == end - 1 and since and history[end - 1] is Health.UNKNOWN
        ):
            state, since = Health.UNKNOWN, end
            continue
        certain = [health for health in history[since:end] if health is not Health.UNKNOWN]
        if certain[-2:] == [Health.HEALTHY] * 2:
            state = Health.HEALTHY
        if certain[-3:] == [Health.UNHEALTHY] * 3:
            state = Health.UNHEALTHY
    return state


def noted(*history: Health, before: HealthRecord | None = None) -> HealthRecord:
    record = before or HealthRecord()
    for number, health in enumerate(history):
        trial = Trial(Admission.UNKNOWN)
        seen = Observation(health, health.value)
        record = note(record, seen, trial, now=NOW + 60 * number, thresholds=Thresholds())
    return record


class TestHysteresis:
    def test_every_history_of_seven_checks(self) -> None:
        for history in product(Health, repeat=7):
            assert noted(*history).state is expected_state(history), history

    def test_the_state_never_changes_without_its_row(self) -> None:
        for history in product(Health, repeat=6):
            before, after = noted(*history[:-1]), noted(*history)
            if before.state is not after.state:
                assert history[-1] is after.state, history
                assert after.since == after.checked_at, history
            else:
                assert after.since == before.since, history

    def test_the_first_check_dates_the_state_and_says_why(self) -> None:
        first = noted(Health.HEALTHY)
        assert (first.state, first.since, first.reason) == (Health.UNKNOWN, NOW_TEXT, "healthy")
        assert noted(Health.HEALTHY, Health.UNHEALTHY).since == NOW_TEXT

    def test_other_thresholds_count(self) -> None:
        one = Thresholds(unhealthy_after=1, healthy_after=1, unknown_after=1)
        record = HealthRecord()
        for health in (Health.HEALTHY, Health.UNHEALTHY, Health.UNKNOWN, Health.HEALTHY):
            record = note(record, Observation(health, "-"), Trial(Admission.UNKNOWN), now=NOW, thresholds=one)
            assert record.state is health

    def test_the_reason_is_that_of_the_state(self) -> None:
        healthy = noted(Health.HEALTHY, Health.HEALTHY)
        assert noted(Health.UNHEALTHY, before=healthy).reason == "healthy"
        assert noted(*[Health.UNHEALTHY] * 3, before=healthy).reason == "unhealthy"

    def test_failing_since_is_the_first_of_the_row(self) -> None:
        record = noted(Health.HEALTHY, Health.UNHEALTHY, Health.UNKNOWN, Health.UNHEALTHY, Health.UNHEALTHY)
        assert record.failing_since == int(NOW) + 60
        assert noted(Health.HEALTHY, before=record).failing_since == 0

    def test_unknown_credentials_neither_count_nor_interrupt(self) -> None:
        record = HealthRecord()
        for admission in (Admission.REFUSED, Admission.UNKNOWN, Admission.REFUSED):
            seen = Observation(Health.HEALTHY, "ok")
            now = NOW + 60 * record.checks
            record = note(record, seen, Trial(admission), now=now, thresholds=Thresholds())
        assert (record.refused_checks, record.refused_since) == (2, int(NOW))
        record = note(record, seen, Trial(Admission.ACCEPTED), now=NOW, thresholds=Thresholds())
        assert (record.refused_checks, record.refused_since) == (0, 0)


NOW_TEXT, LONG_AGO = format_rfc3339(NOW), format_rfc3339(NOW - 600)  # the times of docs/outages.md
PAUSES = [
    *(
        Pause(at, reason, confirmed, "v1")
        for at, reason, confirmed in product((NOW_TEXT, LONG_AGO), PauseReason, (False, True))
    ),
    *(Pause(LONG_AGO, PauseReason.OUTCOMES_UNKNOWN, confirmed, probing=True) for confirmed in (False, True)),
    *(Pause(LONG_AGO, None, confirmed) for confirmed in (False, True)),
]
TRIALS = [
    Trial(Admission.ACCEPTED, version="v1", responds=True),
    Trial(Admission.REFUSED, version="v1", responds=True),
    Trial(Admission.REFUSED, version="v2", responds=True),
    Trial(Admission.REFUSED),  # the secret can't be read
    Trial(Admission.UNKNOWN, version="v1", responds=False),
    Trial(Admission.REFUSED_IN_FRONT, version="v1"),
]
# One message is enough, because a quiet stack can send only one in five minutes.
TRAFFIC = [None, Traffic(0, 0), Traffic(0, 1), Traffic(0, 0, 1, 1), Traffic(1, 0), Traffic(1, 3, 2, 5)]
LASTING = Doubt(int(NOW) - 1, 2, int(NOW) - 180)
DOUBTS = [None, LASTING, LASTING._replace(probe_after=int(NOW) + 60), LASTING._replace(probes=1)]


@dataclass(frozen=True, slots=True)
class Case:
    record: HealthRecord
    trial: Trial
    is_on: bool | None
    traffic: Traffic | None
    allowed: bool
    action: Action
    after: HealthRecord


def records() -> Iterator[HealthRecord]:
    for state, refused, doubt, since in product(Health, (0, 3), DOUBTS, (0, int(NOW) - 60)):
        record = HealthRecord(
            state=state, refused_checks=refused, doubt=doubt, messages_decide_since=since, checks=9, checked_at=NOW_TEXT
        )
        for resuming in (False, True):
            yield record._replace(resuming=resuming)
        for pause in PAUSES:
            yield record._replace(pause=pause)


@cache
def cases() -> list[Case]:
    found = []
    for record, trial, is_on, traffic, allowed in product(
        records(), TRIALS, (True, False, None), TRAFFIC, (True, False)
    ):
        action, after = decide(
            record, trial, is_on=is_on, traffic=traffic, pause_on_outage=allowed, thresholds=Thresholds(), now=NOW
        )
        found.append(Case(record, trial, is_on, traffic, allowed, action, after))
    return found


def is_ours(pause: Pause | None) -> bool:
    return pause is not None and pause.by is PausedBy.HEALTH


class TestDecide:
    """For every combination of facts: decisions that must never happen, and those that must."""

    def test_there_are_many(self) -> None:
        assert len(cases()) == 3 * 2 * 4 * 2 * (2 + len(PAUSES)) * 6 * 3 * 6 * 2

    def test_what_an_operator_shut_stays_shut(self) -> None:
        for case in cases():
            if case.is_on is False and not is_ours(case.record.pause) and not case.record.resuming:
                assert case.action is Action.LEAVE
                assert case.after.pause is not None
                assert (case.after.pause.by, case.after.pause.confirmed) == (PausedBy.OPERATOR, True)

    def test_what_an_operator_began_is_finished(self) -> None:
        for case in cases():
            if case.record.resuming and case.is_on is False:
                assert (case.action, case.after.pause) == (Action.RESUME, None)
            if case.record.pause == Pause(LONG_AGO, None) and case.is_on:
                assert (case.action, case.after.pause) == (Action.PAUSE, case.record.pause)

    def test_what_cannot_be_seen_is_left_alone(self) -> None:
        for case in cases():
            if case.is_on is None:
                assert (case.action, case.after) == (Action.LEAVE, case.record)

    def test_a_pause_is_new_exactly_if_there_is_a_reason_and_nothing_accepted(self) -> None:
        seen = set()
        for case in cases():
            record, traffic = case.record, case.traffic
            if record.pause or not case.is_on:
                continue
            fails = traffic is not None and (traffic.failed > 0 or traffic.refused > 0)
            reasons = {
                PauseReason.OUTAGE: record.state is Health.UNHEALTHY and (fails or not record.messages_decide_since),
                PauseReason.CREDENTIALS_REFUSED: record.refused_checks >= 3 and traffic and traffic.refused > 0,
                PauseReason.OUTCOMES_UNKNOWN: record.doubt
                and record.doubt.probes >= 2
                and traffic
                and traffic.unknown > 0,
            }
            may = case.allowed and traffic is not None and traffic.accepted == 0
            assert (case.action is Action.PAUSE) == (may and any(reasons.values()))
            if case.action is Action.PAUSE:
                assert case.after.pause is not None
                assert case.after.pause.reason is not None
                assert reasons[case.after.pause.reason]
                assert not case.after.pause.confirmed
                seen.add(case.after.pause.reason)
        assert seen == set(PauseReason)

    def test_only_our_own_pause_is_ended_and_only_when_it_is_over_or_probed(self) -> None:
        for case in cases():
            pause = case.record.pause
            if not is_ours(pause) or case.is_on is None:
                assert case.action is not Action.RESUME or (case.record.resuming and case.is_on is False)
                continue
            assert pause is not None
            over = (
                not case.allowed
                or {
                    PauseReason.OUTAGE: case.record.state is not Health.UNHEALTHY,
                    PauseReason.CREDENTIALS_REFUSED: case.trial.admission is Admission.ACCEPTED
                    or case.trial.version == "v2",
                    PauseReason.OUTCOMES_UNKNOWN: case.record.doubt is None,
                    None: False,
                }[pause.reason]
            )
            if over:
                assert (case.after.pause, case.action) == (None, Action.LEAVE if case.is_on else Action.RESUME)
            elif case.action is Action.RESUME:
                assert pause.reason is not PauseReason.CREDENTIALS_REFUSED
                assert pause.at == LONG_AGO
                assert pause.probing or case.trial.responds is not False or case.record.state is not Health.UNHEALTHY

    def test_after_our_pause_a_probe_goes_first(self) -> None:
        for case in cases():
            if is_ours(case.record.pause) and case.action is Action.RESUME:
                assert case.after.doubt == (case.record.doubt or Doubt(int(NOW), 0, int(NOW)))

    def test_unknown_outcomes_are_probed_after_a_while_unless_the_gateway_is_certainly_down(self) -> None:
        for case in cases():
            pause, doubt = case.record.pause, case.record.doubt
            if pause != Pause(LONG_AGO, PauseReason.OUTCOMES_UNKNOWN, True, "v1") or not case.allowed or not doubt:
                continue
            is_down = case.record.state is Health.UNHEALTHY and case.trial.responds is False
            is_due = case.is_on is False and doubt.probe_after <= NOW
            assert (case.action is Action.RESUME) is (is_due and not is_down)

    def test_a_pause_for_unknown_outcomes_ends_by_nothing_but_a_certain_outcome(self) -> None:
        for case in cases():
            pause = case.record.pause
            if pause and pause.reason is PauseReason.OUTCOMES_UNKNOWN and case.record.doubt and case.allowed:
                if case.action is Action.RESUME:
                    assert case.after.pause is not None
                    assert case.after.pause.probing
                if not case.is_on and not (pause.probing and pause.confirmed):
                    assert is_ours(case.after.pause)

    def test_what_an_operator_opened_stays_open_until_messages_fail(self) -> None:
        for case in cases():
            record, traffic = case.record, case.traffic
            fails = traffic is not None and (traffic.failed or traffic.refused or traffic.unknown)
            if record.pause is None and record.messages_decide_since and case.is_on and not fails:
                assert case.action is Action.LEAVE
                doubt = record.doubt
                is_doubted = doubt is not None and doubt.probes >= 2
                is_over = record.state is not Health.UNHEALTHY and record.refused_checks == 0 and not is_doubted
                assert (case.after.messages_decide_since == 0) is is_over
            if case.record.pause and case.record.pause.confirmed and not case.record.pause.probing and case.is_on:
                assert case.action is Action.LEAVE
                assert case.after.pause is None
                if not is_ours(case.record.pause):
                    assert case.after.messages_decide_since == int(NOW)


class TestOutage:
    def test_pauses_at_the_third_failure_and_resumes_at_the_second_success(self) -> None:
        world = World().healthy()
        world.go_down()
        assert world.minutes(2).pause is None
        assert world.switch.calls == []
        record = world.minutes(1)
        assert (record.state, record.pause and record.pause.reason) == (Health.UNHEALTHY, PauseReason.OUTAGE)
        assert (record.pause and record.pause.confirmed, world.switch.calls) == (True, ["pause"])
        asked = len(world.sender_metrics.asked)
        world.minutes(3 * 24 * 60)  # three days
        assert (len(world.sender_metrics.asked), world.switch.calls) == (asked, ["pause"])
        world.come_back()
        world.minutes(1)
        assert world.switch.calls == ["pause"], "one good check is not a recovery"
        record = world.minutes(1)
        assert (record.state, record.pause, world.switch.calls) == (Health.HEALTHY, None, ["pause", "resume"])
        assert (record.resuming, world.results[-1]["paused"]) == (False, False)

    def test_pauses_at_the_first_failure_if_one_is_enough(self) -> None:
        world = World(thresholds=Thresholds(unhealthy_after=1)).healthy()
        world.go_down()
        world.minutes(1)
        assert world.switch.calls == ["pause"]

    def test_one_write_and_no_question_to_cloudwatch_while_all_is_well(self) -> None:
        world = World()
        world.minutes(10)
        assert world.store.writes == 10
        assert world.sender_metrics.asked == []

    def test_is_asked_about_since_the_first_failure_and_five_minutes_at_most(self) -> None:
        world = World().healthy()
        world.sender_metrics.traffic = Traffic(1, 0)
        first = world.clock.now()
        world.go_down()
        world.minutes(20)
        assert world.sender_metrics.asked[0] == (first, first + 120)
        start, end = world.sender_metrics.asked[-1]
        assert end - start == QUIET_SECONDS
        assert world.sender_metrics.asked[0][1] <= end

    def test_while_messages_get_through_nothing_is_paused(self) -> None:
        world = World().healthy()
        world.sender_metrics.traffic = Traffic(5, 0)
        world.go_down()
        assert world.minutes(10).state is Health.UNHEALTHY
        assert world.switch.calls == []
        world.sender_metrics.traffic = Traffic(0, 0)
        world.minutes(1)
        assert world.switch.calls == ["pause"]

    def test_not_knowing_what_gets_through_pauses_nothing(self) -> None:
        world = World().healthy()
        world.sender_metrics.traffic = THROTTLED
        world.go_down()
        world.minutes(10)
        assert world.switch.calls == []

    def test_flapping_pauses_nothing(self) -> None:
        world = World().healthy()
        for _ in range(20):
            world.go_down()
            world.minutes(2)
            world.come_back()
            world.minutes(1)
        assert world.switch.calls == []
        assert world.record.state is Health.HEALTHY

    def test_switched_off_it_never_pauses_and_ends_its_own_pause(self) -> None:
        world = World().healthy()
        world.go_down()
        world.minutes(3)
        world.pause_on_outage = False
        world.minutes(1)
        assert world.switch.calls == ["pause", "resume"]
        asked = len(world.sender_metrics.asked)
        world.minutes(10)
        assert (len(world.sender_metrics.asked), world.switch.calls) == (asked, ["pause", "resume"])

    def test_a_monitor_that_fails_itself_pauses_nothing(self) -> None:
        world = World().healthy()
        world.gateway.health, world.gateway.service = answer(404), answer(503)
        record = world.minutes(10)
        assert record.state is Health.UNKNOWN
        assert world.switch.calls == []
        assert Metric.GATEWAY_HEALTHY not in world.metrics[-1]

    def test_a_monitor_that_fails_during_an_outage_holds_nothing_back_for_ever(self) -> None:
        world = World().healthy()
        world.gateway.health, world.gateway.service = answer(404), service_status("unavailable")
        world.gateway.message = answer(404, NO_PATH)
        world.minutes(3)
        assert world.switch.calls == ["pause"]
        world.gateway.service = answer(503)
        world.minutes(2)
        assert world.switch.calls == ["pause"]
        world.minutes(1)
        assert world.switch.calls == ["pause", "resume"]

    def test_without_healthz_the_status_service_is_asked(self) -> None:
        world = World()
        world.gateway.health, world.gateway.service = answer(404), service_status("available")
        assert world.minutes(2).state is Health.HEALTHY


class TestOperators:
    def test_a_pause_of_theirs_is_never_undone(self) -> None:
        world = World().healthy()
        world.switch.on = False
        world.go_down()
        world.minutes(10)
        world.come_back()
        world.minutes(10)
        assert world.switch.calls == []
        assert world.metrics[-1][Metric.SENDING_PAUSED] == 1.0
        assert world.record.pause is not None
        assert world.record.pause.by is PausedBy.OPERATOR
        world.switch.on = True
        assert world.minutes(1).pause is None

    @pytest.mark.parametrize("by_hand", [False, True])
    def test_after_they_resumed_in_an_outage_the_messages_decide(
        self, by_hand: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        world = World().healthy()
        world.go_down()
        world.sender_metrics.traffic, world.sender_metrics.at = Traffic(0, 0, failed=2), world.clock.now()
        world.minutes(5)
        assert world.switch.calls == ["pause"]
        if not by_hand:
            world.store.resume_by_operator(now=world.clock.now())
        world.switch.on = True
        world.minutes(10)
        assert (world.switch.calls, world.switch.on) == (["pause"], True), "no message has failed since then"
        assert [line for line in caplog.messages if "by hand" in line] == [
            "an operator resumed sending by hand; it is paused again if messages fail"
        ] * by_hand
        world.sender_metrics.at = world.clock.now()
        record = world.minutes(1)
        assert (record.pause and record.pause.reason, world.switch.on) == (PauseReason.OUTAGE, False)
        world.come_back()
        world.minutes(2)
        assert world.switch.on

    def test_after_they_resumed_and_the_outage_ended_the_next_one_is_another(self) -> None:
        world = World().healthy()
        world.go_down()
        world.minutes(5)
        world.store.resume_by_operator(now=world.clock.now())
        world.switch.on = True
        world.come_back()
        assert world.minutes(2).messages_decide_since == 0
        world.go_down()
        world.minutes(3)
        assert world.switch.on is False

    def test_messages_that_are_accepted_after_they_resumed_keep_sending_on(self) -> None:
        world = World().healthy()
        world.go_down()
        world.minutes(5)
        world.store.resume_by_operator(now=world.clock.now())
        world.switch.on = True
        world.sender_metrics.traffic = Traffic(1, 0, failed=20)
        world.minutes(60)
        assert world.switch.on, "a check that fails proves less than a message that is accepted"

    def test_a_pause_that_was_made_theirs_outlasts_the_outage(self) -> None:
        world = World().healthy()
        world.go_down()
        world.minutes(5)
        world.store.pause_by_operator(now=world.clock.now())
        world.switch.pause()
        world.switch.calls.clear()
        world.come_back()
        world.minutes(10)
        assert world.switch.calls == []


class TestCrashes:
    def test_one_between_remembering_and_pausing_is_made_good(self) -> None:
        world = World().healthy()
        world.go_down()
        world.minutes(3)
        assert world.record.pause is not None
        world.store.record = world.record._replace(pause=world.record.pause._replace(confirmed=False))
        world.switch.on = True  # as if the call was never made
        world.minutes(1)
        assert world.switch.calls == ["pause", "pause"]
        world.come_back()
        world.minutes(2)
        assert world.switch.calls == ["pause", "pause", "resume"]

    def test_one_between_resuming_and_remembering_leaves_it_open(self) -> None:
        world = World().healthy()
        world.go_down()
        world.minutes(5)
        world.come_back()
        world.minutes(1)
        world.switch.on = True  # resumed, but the write was lost
        record = world.minutes(3)
        assert (record.pause, record.messages_decide_since, world.switch.on) == (None, 0, True)

    def test_a_failure_to_pause_or_resume_is_tried_again(self, caplog: pytest.LogCaptureFixture) -> None:
        world = World().healthy()
        world.go_down()
        world.minutes(2)
        world.switch.change_failure = THROTTLED
        world.minutes(1)
        assert world.metrics[-1][Metric.SENDING_PAUSED] == 0.0
        world.switch.change_failure = None
        world.minutes(2)
        assert world.switch.calls == ["pause"]
        world.come_back()
        world.minutes(1)
        world.switch.change_failure = THROTTLED
        record = world.minutes(1)
        assert (record.pause, record.resuming) == (None, True)
        world.switch.change_failure = None
        assert not world.minutes(1).resuming
        assert world.switch.calls == ["pause", "resume"]
        failures = [line for line in caplog.messages if line.startswith("sending not ")]
        assert failures == ["sending not paused", "sending not resumed"]

    @pytest.mark.parametrize("command", ["pause", "resume"])
    def test_a_command_before_the_pause_is_recorded_as_done_is_what_the_result_tells(self, command: str) -> None:
        world = World().healthy()
        world.go_down()
        world.minutes(2)
        write = world.store.write

        def after_the_command(record: HealthRecord, *, seen: HealthRecord) -> bool:
            if world.switch.calls:
                getattr(world.store, f"{command}_by_operator")(now=world.clock.now())
            return write(record, seen=seen)

        world.store.write = after_the_command  # type: ignore[method-assign]
        world.minutes(1)
        assert (world.results[-1]["paused"], world.switch.on) == (command == "pause", command == "resume")

    def test_a_mapping_that_cannot_be_read_is_left_alone(self) -> None:
        world = World().healthy()
        world.switch.read_failure = THROTTLED
        world.go_down()
        world.minutes(5)
        assert world.record.state is Health.UNHEALTHY
        assert Metric.SENDING_PAUSED not in world.metrics[-1]
        assert (world.results[-1]["paused"], world.results[-1]["paused_lanes"]) == (None, None)
        assert world.sender_metrics.asked == []

    def test_of_two_checks_at_the_same_time_one_counts_and_acts(self) -> None:
        world = World().healthy()
        world.go_down()
        world.minutes(2)
        store, seen = world.store, world.record
        world.minutes(1)
        late = store.write(seen._replace(checks=seen.checks + 1, reason="another"), seen=seen)
        assert not late
        read, store.read = store.read, lambda: seen  # type: ignore[method-assign]
        world.minutes(1)
        store.read = read  # type: ignore[method-assign]
        assert world.results[-1]["skipped"]
        assert world.switch.calls == ["pause"]
        assert world.metrics[-1] == {}


class TestCredentials:
    def refused(self, world: World) -> World:
        world.gateway.valid = frozenset()
        world.sender_metrics.traffic = Traffic(0, 2)
        return world

    def test_are_tried_without_sending(self) -> None:
        world = World()
        world.minutes(1)
        assert world.results[-1]["credentials"] == "accepted"
        assert [credentials.password for credentials in world.gateway.tried] == ["right"]

    def test_refused_three_times_and_to_messages_too_pauses(self) -> None:
        world = self.refused(World().healthy())
        world.minutes(2)
        assert world.switch.calls == []
        record = world.minutes(1)
        assert record.pause is not None
        assert (record.pause.reason, record.state) == (PauseReason.CREDENTIALS_REFUSED, Health.HEALTHY)
        assert world.switch.calls == ["pause"]
        assert world.metrics[-1][Metric.CREDENTIALS_REFUSED] == 1.0

    def test_refused_only_for_reading_pauses_nothing(self) -> None:
        """An application can be allowed to send and not to read."""
        world = self.refused(World().healthy())
        world.sender_metrics.traffic = Traffic(0, 0)
        world.minutes(10)
        world.sender_metrics.traffic = Traffic(3, 1)
        world.minutes(10)
        assert world.switch.calls == []

    def test_accepted_again_resumes_at_once(self) -> None:
        world = self.refused(World().healthy())
        world.minutes(5)
        world.gateway.valid = None
        world.minutes(1)
        assert world.switch.calls == ["pause", "resume"]

    def test_new_ones_that_are_accepted_resume_in_the_same_check(self) -> None:
        world = World().healthy()
        world.gateway.valid = frozenset({"new"})
        world.sender_metrics.traffic = Traffic(0, 2)
        world.minutes(5)
        world.secret.store("new", "v2")
        world.minutes(1)
        assert world.switch.calls == ["pause", "resume"]

    def test_new_ones_resume_even_if_reading_is_not_allowed(self) -> None:
        """Only a message can try them then."""
        world = self.refused(World().healthy())
        world.minutes(5)
        world.secret.store("new", "v2")
        world.minutes(1)
        assert world.switch.calls == ["pause", "resume"]

    def test_an_unusable_secret_is_refused_and_a_usable_one_resumes(self, caplog: pytest.LogCaptureFixture) -> None:
        world = World().healthy()
        world.secret.break_()
        world.sender_metrics.traffic = Traffic(0, 2)
        world.minutes(5)
        assert world.switch.calls == ["pause"]
        assert "right" not in caplog.text
        assert {
            record.__dict__["reason"] for record in caplog.records if record.getMessage() == "credentials refused"
        } == {"GatewaySecret still holds the placeholder"}
        world.secret.store("right", "v3")
        world.minutes(1)
        assert world.switch.calls == ["pause", "resume"]

    def test_a_secret_that_cannot_be_read_is_as_good_as_refused(self) -> None:
        world = World().healthy()
        world.secret.break_()
        world.secret.stored = THROTTLED
        world.sender_metrics.traffic = Traffic(0, 2)
        world.minutes(5)
        assert world.results[-1]["credentials"] == "refused"
        assert world.switch.calls == ["pause"]
        world.secret.store("right", "v2")
        world.minutes(3)
        assert world.switch.calls == ["pause", "resume"]

    def test_are_tried_while_healthz_fails_too(self) -> None:
        world = World().healthy()
        world.gateway.health = answer(503)
        record = world.minutes(5)
        assert len(world.gateway.tried) == 7
        assert (record.state, record.credentials) == (Health.UNKNOWN, "accepted")
        assert "but the API responds" in record.reason


class TestHealthzAlone:
    """A broken `/healthz` must not stop a gateway that sends."""

    def world(self, message: Exchange) -> World:
        world = World().healthy()
        world.gateway.health, world.gateway.message = answer(503), message
        return world

    def test_what_responds_in_the_words_of_the_api_is_not_down(self) -> None:
        for message in (answer(404, NO_MESSAGE), answer(401, {"message": "Unauthorized"})):
            world = self.world(message)
            world.minutes(240)
            assert world.switch.calls == []

    @pytest.mark.parametrize("message", [answer(404, NO_PATH), answer(403, b"<html>"), answer(429), answer(405)])
    def test_a_pause_that_nothing_else_upholds_ends_by_itself_and_begins_again_if_messages_fail(
        self, message: Exchange
    ) -> None:
        world = self.world(message)
        world.minutes(3)
        assert world.switch.calls == ["pause"]
        world.minutes(9)
        assert world.switch.calls == ["pause"]
        world.minutes(1)
        assert world.switch.calls == ["pause", "resume"]
        assert world.record.doubt is not None, "one message goes first"
        world.minutes(240)
        assert world.switch.calls == ["pause", "resume"], "no message fails"
        world.sender_metrics.traffic = Traffic(0, 0, failed=1)
        world.minutes(1)
        assert world.switch.calls == ["pause", "resume", "pause"]

    @pytest.mark.parametrize("message", [no_response("timed_out"), answer(503), answer(500, NO_MESSAGE)])
    def test_a_pause_that_another_request_upholds_lasts(self, message: Exchange) -> None:
        world = self.world(message)
        world.minutes(240)
        assert world.switch.calls == ["pause"]

    def test_recovery_begins_anew(self) -> None:
        world = self.world(answer(404, NO_PATH))
        world.minutes(13)
        world.come_back()
        assert world.minutes(3).messages_decide_since == 0


class TestUnknownOutcomes:
    """POSTs have only unknown outcomes, while everything else is healthy."""

    def doubted(self) -> World:
        world = World().healthy()
        world.sender_metrics.traffic = Traffic(0, 0, 3, 3)
        doubt = world.store.begin_doubt(now=world.clock.now())
        for _ in range(FAILED_PROBES):
            world.clock.advance(max(0.0, doubt.probe_after - world.clock.now()))
            claimed, after = world.store.claim_probe(doubt, now=world.clock.now())
            assert claimed
            assert after is not None
            doubt = after
        return world

    def probe(self, world: World, *, certain: bool) -> None:
        before = world.store.read_doubt()
        assert before is not None
        _, claimed = world.store.claim_probe(before, now=world.clock.now())
        assert claimed is not None
        if certain:
            world.store.end_doubt(claimed)

    def test_pause_after_some_minutes_and_are_tried_rarely(self) -> None:
        world = self.doubted()
        world.minutes(3)
        assert world.switch.calls == []
        record = world.minutes(1)
        assert (record.state, record.pause and record.pause.reason) == (Health.HEALTHY, PauseReason.OUTCOMES_UNKNOWN)
        world.minutes(9)
        assert world.switch.calls == ["pause"], "`GET /messages` shows nothing of POSTs"
        world.minutes(5)
        assert world.switch.calls == ["pause", "resume"]
        assert world.metrics[-1][Metric.SENDING_PAUSED] == 1.0, "on for a probe is not resumed"
        assert world.results[-1]["paused_lanes"] == ["ordinary", "urgent"]
        self.probe(world, certain=False)
        world.minutes(1)
        assert world.switch.calls == ["pause", "resume", "pause"]
        world.minutes(15)
        assert world.switch.calls == ["pause", "resume", "pause", "resume"], "it is not an operator's pause"
        assert world.record.pause is not None

    def test_a_probe_that_cannot_be_let_through_is_tried_again(self) -> None:
        """A check that ends between its record and the change must not make the pause an operator's."""
        world = self.doubted()
        world.minutes(10)
        world.switch.change_failure = THROTTLED
        world.minutes(10)
        world.switch.change_failure = None
        record = world.minutes(1)
        assert (world.switch.calls, record.pause and record.pause.by) == (["pause", "resume"], PausedBy.HEALTH)

    def test_a_pause_after_a_failed_probe_that_cannot_be_made_is_tried_again(self) -> None:
        """Otherwise it looks as if an operator had resumed sending by hand."""
        world = self.doubted()
        world.minutes(20)
        self.probe(world, certain=False)
        world.switch.change_failure = THROTTLED
        world.minutes(1)
        world.switch.change_failure = None
        record = world.minutes(1)
        assert world.switch.calls == ["pause", "resume", "pause"]
        assert (record.pause and record.pause.by, record.messages_decide_since) == (PausedBy.HEALTH, 0)

    def test_end_with_the_first_certain_outcome(self) -> None:
        world = self.doubted()
        world.minutes(20)
        self.probe(world, certain=True)
        record = world.minutes(1)
        assert (record.pause, world.switch.on) == (None, True)
        assert world.metrics[-1][Metric.SENDING_PAUSED] == 0.0

    def test_without_a_message_sending_stays_on_for_the_first_one(self) -> None:
        world = self.doubted()
        world.minutes(120)
        assert world.switch.calls == ["pause", "resume"]
        assert world.record.pause is not None

    def test_an_operator_who_pauses_by_hand_during_a_trial_is_not_overruled(self) -> None:
        world = self.doubted()
        world.minutes(20)
        world.switch.on = False
        world.minutes(30)
        assert world.switch.calls == ["pause", "resume"]
        assert world.record.pause is not None
        assert world.record.pause.by is PausedBy.OPERATOR

    def test_accepted_messages_or_no_figures_pause_nothing(self) -> None:
        for traffic in (Traffic(1, 0, 3, 3), Traffic(0, 0, 0, 0), THROTTLED):
            world = self.doubted()
            world.sender_metrics.traffic = traffic
            world.minutes(30)
            assert world.switch.calls == []

    def test_no_trial_while_the_gateway_is_down(self) -> None:
        world = self.doubted()
        world.minutes(4)
        world.go_down()
        world.minutes(60)
        assert world.switch.calls == ["pause"]


class TestTimeBetweenChecks:
    def test_checks_at_once_count_as_one(self) -> None:
        world = World().healthy()
        world.go_down()
        for _ in range(10):
            world.minutes(1)
            world.clock.advance(-59.9)
        assert world.record.bad_checks == 1
        assert world.switch.calls == []
        assert world.results[-1]["skipped"]

    @pytest.mark.parametrize(("seconds", "checks"), [(0, 1), (29, 1), (30, 2)])
    def test_a_check_counts_half_a_minute_after_the_last(self, seconds: int, checks: int) -> None:
        world = World()
        world.minutes(1)
        world.clock.advance(seconds - 60)
        assert world.minutes(1).checks == checks

    def test_a_clock_that_was_set_back_stops_no_check(self) -> None:
        world = World().healthy()
        world.clock.advance(-3600)
        assert world.minutes(1).checks == 3


class TestWhatIsTold:
    def test_every_check_is_counted_and_health_and_pause_measured(self) -> None:
        world = World().healthy()
        assert world.metrics[-1] == {
            Metric.HEALTH_CHECKS: 1.0,
            Metric.GATEWAY_HEALTHY: 1.0,
            Metric.GATEWAY_LATENCY: 250.0,
            Metric.SENDING_PAUSED: 0.0,
        }
        world.go_down()
        world.minutes(3)
        assert world.metrics[-1] == {
            Metric.HEALTH_CHECKS: 1.0,
            Metric.GATEWAY_HEALTHY: 0.0,
            Metric.SENDING_PAUSED: 1.0,
        }

    def test_one_log_line_for_each_change(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        world = World().healthy()
        world.go_down()
        world.minutes(10)
        world.come_back()
        world.minutes(10)
        assert [record.getMessage() for record in caplog.records] == [
            "gateway health changed",
            "gateway health changed",
            "sending paused",
            "gateway health changed",
            "sending resumed",
        ]
        paused, resumed = (vars(record) for record in caplog.records if record.getMessage().startswith("sending "))
        assert paused["reason"] == PauseReason.OUTAGE
        assert (resumed["paused_at"], resumed["probing"]) == (format_rfc3339(NOW + 240), False)

    @pytest.mark.parametrize(
        ("stored", "reason"), [(None, "the gateway refused them"), (THROTTLED, "GatewaySecret can't be read")]
    )
    def test_refused_credentials_say_why(
        self, stored: Exception | None, reason: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        world = World()
        world.gateway.valid = frozenset()
        world.secret.stored = stored or world.secret.stored
        world.minutes(1)
        assert vars(caplog.records[-1])["reason"] == reason

    def test_the_result_says_what_was_seen_and_what_is_held(self) -> None:
        world = World()
        world.gateway.health = answer(200)._replace(seconds=2.0)
        world.minutes(2)
        assert world.results[-1]["milliseconds"] == 2000
        world.go_down()
        world.minutes(3)
        assert world.results[-1] == {
            "state": "unhealthy",
            "reason": "connection_refused",
            "seen": "unhealthy",
            "seen_reason": "connection_refused",
            "credentials": "unknown",
            "paused": True,
            "paused_by": "health",
            "paused_lanes": ["ordinary", "urgent"],
            "milliseconds": 0,
        }
