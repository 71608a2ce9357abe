"""When an execution environment stops sending, and how it starts again."""

from __future__ import annotations

import pytest

from optus_sms.flows.breaker import NOT_BEGUN, REFUSED_IN_FRONT, Breaker
from optus_sms.gateway.api import Outcome, PostResult, Stop
from tests.support.builders import (
    credentials_refused,
    rejected,
    send_failed,
    sent,
    server_error,
    throttled,
    unknown,
    unreachable,
)
from tests.support.fakes import FakeClock, Step


@pytest.fixture
def time() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(time: FakeClock) -> Breaker:
    return Breaker(time.monotonic)


def test_lets_everybody_through_at_first(breaker: Breaker) -> None:
    assert breaker.blocked_seconds() == 0
    assert not breaker.wants_probe()


@pytest.mark.parametrize("outcome", [unreachable(), credentials_refused(), throttled()], ids=lambda o: o.reason)
def test_opens_at_the_first_condition_that_stops_everybody(breaker: Breaker, outcome: PostResult) -> None:
    breaker.note(outcome, "message-1")
    assert breaker.blocked_seconds() == 2
    assert breaker.wants_probe()


def test_waits_longer_each_time_up_to_a_minute(breaker: Breaker, time: FakeClock) -> None:
    waits = []
    for _ in range(8):
        breaker.note(unreachable(), "message-1")
        waits.append(breaker.blocked_seconds())
        time.advance(breaker.blocked_seconds())
        assert breaker.blocked_seconds() == 0
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_threads_that_fail_together_open_it_once(breaker: Breaker, time: FakeClock) -> None:
    for _ in range(10):
        breaker.note(unreachable(), "message-1")
    assert breaker.blocked_seconds() == 2


def test_waits_as_long_as_the_gateway_asks(breaker: Breaker, time: FakeClock) -> None:
    breaker.note(throttled(45), "message-1")
    assert breaker.blocked_seconds() == 45
    breaker.note(throttled(10), "message-1")
    assert breaker.blocked_seconds() == 45  # a later thread does not shorten it


@pytest.mark.parametrize("lost", [unknown(), server_error()], ids=lambda step: step.outcome.reason)
def test_opens_at_the_first_unknown_outcome_and_is_in_doubt(breaker: Breaker, time: FakeClock, lost: Step) -> None:
    breaker.note(lost.outcome, "message-1")
    assert (breaker.blocked_seconds(), breaker.wants_probe(), breaker.in_doubt()) == (2, True, True)
    assert breaker.unknown_outcomes == 1
    time.advance(2)
    breaker.note(unreachable(), "message-1")
    assert breaker.in_doubt(), "what was not sent shows nothing of what is"
    breaker.note(sent(), "message-1")
    assert not breaker.in_doubt()


@pytest.mark.parametrize("certain", [sent(), rejected(), send_failed()], ids=lambda o: o.reason)
def test_closes_at_the_first_certain_answer(breaker: Breaker, time: FakeClock, certain: PostResult) -> None:
    breaker.note(unreachable(), "message-1")
    breaker.note(unknown().outcome, "message-1")
    breaker.note(certain, "message-1")
    assert breaker.blocked_seconds() == 0
    assert not breaker.wants_probe()
    breaker.note(unreachable(), "message-1")
    assert breaker.blocked_seconds() == 2  # counted from the start again


def test_a_post_that_was_never_begun_says_nothing(breaker: Breaker) -> None:
    breaker.note(unreachable(), "message-1")
    for reason in NOT_BEGUN:
        breaker.note(PostResult(Outcome.NOT_SENT, reason), "message-1")
    assert breaker.blocked_seconds() == 2
    assert breaker.wants_probe()


def test_can_be_tripped_for_another_reason(breaker: Breaker) -> None:
    breaker.trip()
    assert breaker.blocked_seconds() == 2
    assert breaker.wants_probe()


def test_every_stop_opens_it() -> None:
    for stop in Stop:
        breaker = Breaker(FakeClock().monotonic)
        for number in range(REFUSED_IN_FRONT):
            breaker.note(PostResult(Outcome.NOT_SENT, "x", stop=stop), f"message-{number}")
        assert breaker.blocked_seconds() > 0


def test_a_retry_after_of_hours_silences_nobody_for_hours(breaker: Breaker) -> None:
    breaker.note(throttled(retry_after_seconds=43_200.0), "message-1")
    assert 60 < breaker.blocked_seconds() <= 900


IN_FRONT = PostResult(Outcome.NOT_SENT, "refused_in_front", 403, stop=Stop.REFUSED_IN_FRONT)


def test_one_message_that_is_refused_in_front_of_the_api_stops_no_other(breaker: Breaker) -> None:
    for _ in range(20):
        breaker.note(IN_FRONT, "message-1")
    assert (breaker.blocked_seconds(), breaker.wants_probe()) == (0, False)


def test_an_acceptance_between_shows_that_it_is_about_the_messages(breaker: Breaker) -> None:
    for number in range(20):
        breaker.note(IN_FRONT, f"message-{number}")
        breaker.note(sent(), "another")
    assert breaker.blocked_seconds() == 0


def test_several_messages_refused_in_front_of_the_api_are_an_outage(breaker: Breaker) -> None:
    for number in range(3):
        assert breaker.blocked_seconds() == 0
        breaker.note(IN_FRONT, f"message-{number}")
    assert breaker.blocked_seconds() > 0


def test_an_acceptance_is_evidence_for_a_while(breaker: Breaker, time: FakeClock) -> None:
    assert not breaker.responds_to_others(within_seconds=60)
    breaker.note(sent(), "message-1")
    assert breaker.responds_to_others(within_seconds=60)
    time.advance(61)
    assert not breaker.responds_to_others(within_seconds=60)


def test_doubt_of_others_lets_messages_go_alone_only(breaker: Breaker) -> None:
    breaker.doubt()
    assert (breaker.blocked_seconds(), breaker.wants_probe()) == (0, True)
    breaker.close()
    assert not breaker.wants_probe()


@pytest.mark.parametrize(("asked", "held"), [(-5.0, 1), (30.0, 30), (720.0, 60)])
def test_is_held_for_a_minute_at_most(breaker: Breaker, asked: float, held: float) -> None:
    breaker.hold(asked)
    assert breaker.blocked_seconds() == held
