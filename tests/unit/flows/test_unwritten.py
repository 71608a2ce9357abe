"""Outcomes whose write to the ledger failed, which an execution environment remembers."""

from __future__ import annotations

from functools import partial

import pytest

from optus_sms.flows import unwritten
from optus_sms.flows.unwritten import LedgerWrite, UnwrittenOutcomes
from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.table import EditedItemError
from optus_sms.runtime.observability import Metric
from tests.support.bench import FaultError
from tests.support.builders import wanted
from tests.support.fakes import FakeClock, MemoryLedger, Moment

LATE_SECONDS = 900.0


class Memory:
    """A ledger, a clock and the remembered outcomes."""

    def __init__(self) -> None:
        self.time = FakeClock()
        self.ledger = MemoryLedger()
        self.outcomes = UnwrittenOutcomes()

    def claim(self, key: str) -> LedgerRecord:
        return self.ledger.claim(wanted(key, owner=f"owner of {key}"), now=self.time.now())

    def accepted(self, claim: LedgerRecord, gateway_id: str = "gw-1") -> LedgerWrite:
        return partial(self.ledger.accepted, claim, gateway_id)

    def remember(self, claim: LedgerRecord, write: LedgerWrite, error: type[Exception] = FaultError) -> None:
        accepted = (Metric.MESSAGES_ACCEPTED, 1.0)
        with pytest.raises(error), self.outcomes.remembered(claim.owner, write, accepted):
            raise error

    def lose(self, claim: LedgerRecord) -> None:
        release, until = partial(self.ledger.release, claim, "lost"), self.time.now() + LATE_SECONDS
        with pytest.raises(FaultError), self.outcomes.remembered(claim.owner, release, repeat_until=until):
            raise FaultError

    def write(self, seconds: float = 5.0) -> dict[str, float]:
        until = self.time.now() + seconds
        return {metric.value: count for metric, count in self.outcomes.write(self.time.clock, until=until)}


def test_an_outcome_that_is_written_needs_no_memory() -> None:
    memory = Memory()
    claim = memory.claim("a")
    with memory.outcomes.remembered(claim.owner, memory.accepted(claim)):
        pass
    assert claim.owner not in memory.outcomes
    assert memory.write() == {}


def test_one_that_fails_again_does_not_keep_the_others() -> None:
    memory = Memory()
    claims = [memory.claim(key) for key in ("a", "b", "c")]
    for number, claim in enumerate(claims):
        memory.remember(claim, memory.accepted(claim, f"gw-{number}"))
    failures = iter((True, False, False))

    def fail_first(step: str, moment: Moment) -> None:
        if (step, moment) == ("ledger.accepted", "before") and next(failures):
            raise FaultError

    memory.ledger.hook = fail_first
    assert memory.write()["MessagesAccepted"] == 1.0
    assert [memory.ledger.records[key].state for key in ("a", "b", "c")] == [
        State.SENDING, State.ACCEPTED, State.ACCEPTED,
    ]  # fmt: skip
    memory.ledger.hook = lambda *_: None
    memory.write()
    assert memory.ledger.records["a"].state is State.ACCEPTED


def test_what_the_ledger_refuses_is_neither_counted_nor_written_again() -> None:
    memory = Memory()
    claim = memory.claim("a")
    memory.remember(claim, partial(memory.ledger.unknown, claim, "timed_out"))
    memory.ledger.accepted(claim, "gw-1", now=memory.time.now())
    assert memory.write() == {}
    assert claim.owner not in memory.outcomes
    assert memory.ledger.records["a"].state is State.ACCEPTED


def test_an_item_that_was_edited_by_hand_is_not_tried_for_ever() -> None:
    memory = Memory()
    edited, other = memory.claim("a"), memory.claim("b")
    memory.remember(edited, memory.accepted(edited), EditedItemError)
    assert edited.owner not in memory.outcomes
    memory.remember(edited, memory.accepted(edited, "gw-a"))
    memory.remember(other, memory.accepted(other, "gw-b"))

    failures = iter((True, False))

    def is_edited(step: str, moment: Moment) -> None:
        if (step, moment) == ("ledger.accepted", "before") and next(failures):
            raise EditedItemError

    memory.ledger.hook = is_edited
    memory.write()
    assert edited.owner not in memory.outcomes
    assert other.owner not in memory.outcomes


def test_nothing_is_written_when_the_time_is_over() -> None:
    memory = Memory()
    claim = memory.claim("a")
    memory.remember(claim, memory.accepted(claim))
    assert memory.write(0.0) == {}
    assert claim.owner in memory.outcomes


def test_a_lost_claim_is_given_back_whenever_it_comes_and_then_forgotten() -> None:
    memory = Memory()
    lost = wanted("a", owner="me")
    memory.lose(lost)
    memory.write()
    assert "me" in memory.outcomes, "it can still be stored"
    memory.ledger.claim(lost, now=memory.time.now())
    memory.write()
    assert (memory.ledger.records["a"].state, "me" in memory.outcomes) == (State.RETRY, False)
    memory.lose(wanted("b", owner="never stored"))
    memory.time.advance(LATE_SECONDS + 1)
    memory.write()
    assert "never stored" not in memory.outcomes


def test_of_too_many_the_lost_claims_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unwritten, "MOST", 2)
    memory = Memory()
    proof, *lost = (wanted(key, owner=key) for key in ("proof", "lost", "newer"))
    memory.remember(proof, memory.accepted(proof))
    for claim in lost:
        memory.lose(claim)
    assert [owner in memory.outcomes for owner in ("proof", "lost", "newer")] == [True, False, True]
