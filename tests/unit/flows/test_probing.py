"""Execution environments that share the doubt after an unknown outcome: one probe at a time, and few."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from optus_sms.flows.breaker import Breaker
from optus_sms.flows.probing import CERTAIN_SECONDS, Probing
from optus_sms.gateway.api import PostResult
from tests.support.builders import sent, unknown, unreachable
from tests.support.fakes import FakeClock
from tests.support.health import MemoryHealthRecords


class FailingRecords(MemoryHealthRecords):
    """``failing``: the operations that raise."""

    failing: frozenset[str] = frozenset()

    def __getattribute__(self, name: str) -> object:
        if name in super().__getattribute__("failing"):
            raise ConnectionError
        return super().__getattribute__(name)


class Stack:
    """Some execution environments on one table."""

    def __init__(self, environments: int = 2) -> None:
        self.time = FakeClock()
        self.records = FailingRecords()
        self.all = [Probing(Breaker(self.time.monotonic), self.records, self.time.clock) for _ in range(environments)]
        self.posts = 0

    def batch(self, environment: Probing, result: PostResult) -> bool:
        """Handle a batch of one message; return whether it was posted."""
        before = self.posts
        environment.before_batch()
        send = self.post(environment, result)
        if environment.breaker.wants_probe():
            environment.send_alone(send)
        else:
            send()
        environment.after_batch()
        return self.posts > before

    def post(self, environment: Probing, result: PostResult) -> Callable[[], None]:
        def send() -> None:
            if not environment.breaker.blocked_seconds():
                self.posts += 1
                environment.breaker.note(result, "message-1")

        return send


LOST = unknown().outcome


def test_while_all_is_well_nothing_is_written_and_one_read_a_minute_at_most() -> None:
    stack = Stack(1)
    stack.batch(stack.all[0], sent())
    stack.records.failing = frozenset({"read_doubt", "begin_doubt", "claim_probe"})
    for _ in range(10):
        stack.time.advance(CERTAIN_SECONDS)
        assert stack.batch(stack.all[0], sent())
    assert stack.records._table.get("health#gateway") == {}


def test_another_execution_environment_learns_of_the_doubt() -> None:
    stack = Stack()
    one, other = stack.all
    assert stack.batch(one, LOST)
    stack.time.advance(3)
    assert stack.batch(other, LOST), "as the probe"
    stack.time.advance(3)
    assert not stack.batch(one, LOST)
    assert not stack.batch(other, LOST)


def test_of_all_together_few_send_anything() -> None:
    stack = Stack(10)
    for _ in range(3600):
        for environment in stack.all:
            stack.batch(environment, LOST)
        stack.time.advance(1)
    assert stack.posts <= len(stack.all) + 6


def test_a_certain_outcome_lets_all_send_again() -> None:
    stack = Stack(5)
    for environment in stack.all:
        stack.batch(environment, sent())
    for environment in stack.all:
        stack.batch(environment, LOST)
    stack.time.advance(3)
    assert stack.batch(stack.all[0], sent())
    stack.time.advance(60)
    assert all(stack.batch(environment, sent()) for environment in stack.all)
    assert stack.records.read_doubt() is None


def test_what_was_certainly_not_sent_costs_no_probe() -> None:
    stack = Stack(1)
    (only,) = stack.all
    stack.batch(only, LOST)
    for _ in range(10):
        stack.time.advance(61)
        assert stack.batch(only, unreachable())
        assert only.breaker.in_doubt()
    stack.time.advance(61)
    assert stack.batch(only, sent())
    assert stack.records.read_doubt() is None


def test_a_message_that_is_not_posted_costs_no_probe() -> None:
    stack = Stack(1)
    (only,) = stack.all
    stack.batch(only, LOST)
    stack.time.advance(3)
    only.send_alone(lambda: None)
    assert stack.batch(only, sent())


def test_an_open_breaker_lets_nothing_be_read_or_claimed_to_its_last_moment() -> None:
    stack = Stack(2)
    one, other = stack.all
    stack.batch(one, LOST)
    other.breaker.note(unreachable(), "message-2")
    stack.time.advance(1.5)
    other.before_batch()
    assert not other.breaker.in_doubt()
    stack.records.failing = frozenset({"claim_probe"})
    one.send_alone(lambda: None)
    assert one.breaker.blocked_seconds() == 0.5, "a claim that fails opens the breaker anew"


@pytest.mark.parametrize("failing", ["read_doubt", "begin_doubt", "claim_probe", "end_doubt", "return_probe"])
def test_a_table_that_fails_stops_no_batch_and_lets_no_message_through_unclaimed(failing: str) -> None:
    stack = Stack(2)
    stack.records.failing = frozenset({failing})
    for minute in range(60):
        for environment in stack.all:
            stack.batch(environment, LOST if minute < 30 else sent())
        stack.time.advance(61)
    assert (stack.posts <= len(stack.all)) == (failing in ("begin_doubt", "claim_probe"))
    stack.records.failing = frozenset()
    stack.time.advance(900)
    for environment in stack.all * 2:
        stack.batch(environment, sent())
        stack.time.advance(61)
    assert stack.records.read_doubt() is None


def test_the_doubt_is_read_again_only_after_a_while_also_without_a_response_of_its_own() -> None:
    stack = Stack(1)
    (only,) = stack.all
    only.before_batch()
    stack.records.begin_doubt(now=stack.time.now())  # of another execution environment
    stack.time.advance(CERTAIN_SECONDS - 1)
    only.before_batch()
    assert not only.breaker.in_doubt()
    stack.time.advance(1)
    only.before_batch()
    assert only.breaker.in_doubt()


def test_who_may_not_probe_waits_just_until_the_next_probe_may_go() -> None:
    stack = Stack()
    one, other = stack.all
    for environment in (one, other):
        stack.batch(environment, LOST)
        stack.time.advance(3)
    stack.batch(one, LOST)
    doubt = stack.records.read_doubt()
    assert doubt is not None
    assert one.breaker.blocked_seconds() == pytest.approx(doubt.probe_after - stack.time.now(), abs=1)
