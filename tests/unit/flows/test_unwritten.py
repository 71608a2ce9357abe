"""What an execution environment remembers of outcomes that the ledger did not take."""

from __future__ import annotations

import pytest

from optus_sms.flows import unwritten
from optus_sms.flows.unwritten import CLAIM_RESPONSE_LOST, LATE_SECONDS, UnwrittenOutcomes
from optus_sms.gateway.api import Outcome, PostResult
from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.table import EditedItemError
from tests.support.bench import FaultError
from tests.support.builders import sent, wanted
from tests.support.fakes import FakeClock, MemoryLedger, Moment

LOST = PostResult(Outcome.NOT_SENT, CLAIM_RESPONSE_LOST)


class Memory:
    """A ledger, a clock, and what is remembered."""

    def __init__(self) -> None:
        self.time = FakeClock()
        self.ledger = MemoryLedger()
        self.outcomes = UnwrittenOutcomes()

    def claim(self, key: str) -> LedgerRecord:
        return self.ledger.claim(wanted(key, owner=f"owner of {key}"), now=self.time.now())

    def remember(self, claim: LedgerRecord, result: PostResult, error: type[Exception] = FaultError) -> None:
        with pytest.raises(error), self.outcomes.remembered(claim, result, now=self.time.now()):
            raise error

    def write(self, seconds: float = 5.0) -> dict[str, float]:
        until = self.time.now() + seconds
        return {metric.value: count for metric, count in self.outcomes.write(self.ledger, self.time.clock, until=until)}


def test_an_outcome_that_is_written_needs_no_memory() -> None:
    memory = Memory()
    claim = memory.claim("a")
    with memory.outcomes.remembered(claim, sent(), now=0):
        pass
    assert claim.owner not in memory.outcomes
    assert memory.write() == {}


def test_one_that_fails_again_does_not_keep_the_others() -> None:
    memory = Memory()
    claims = [memory.claim(key) for key in ("a", "b", "c")]
    for number, claim in enumerate(claims):
        memory.remember(claim, sent(f"gw-{number}"))
    failures = iter((True, False, False))

    def fail_first(step: str, moment: Moment) -> None:
        if (step, moment) == ("ledger.accepted", "before") and next(failures):
            raise FaultError

    memory.ledger.hook = fail_first
    assert memory.write() == {"MessagesAccepted": 1.0}
    assert [memory.ledger.records[key].state for key in ("a", "b", "c")] == [
        State.SENDING, State.ACCEPTED, State.ACCEPTED,
    ]  # fmt: skip
    memory.ledger.hook = lambda *_: None
    memory.write()
    assert memory.ledger.records["a"].state is State.ACCEPTED


def test_an_item_that_was_edited_by_hand_is_not_tried_for_ever() -> None:
    memory = Memory()
    edited, other = memory.claim("a"), memory.claim("b")
    memory.remember(edited, sent(), EditedItemError)
    assert edited.owner not in memory.outcomes
    memory.remember(edited, sent("gw-a"))
    memory.remember(other, sent("gw-b"))

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
    memory.remember(claim, sent())
    assert memory.write(0.0) == {}
    assert claim.owner in memory.outcomes


def test_a_lost_claim_is_given_back_whenever_it_comes_and_then_forgotten() -> None:
    memory = Memory()
    lost = wanted("a", owner="me")
    memory.remember(lost, LOST)
    memory.write()
    assert "me" in memory.outcomes, "it can still be stored"
    memory.ledger.claim(lost, now=memory.time.now())
    memory.write()
    assert (memory.ledger.records["a"].state, "me" in memory.outcomes) == (State.RETRY, False)
    memory.remember(wanted("b", owner="never stored"), LOST)
    memory.time.advance(LATE_SECONDS + 1)
    memory.write()
    assert "never stored" not in memory.outcomes


def test_of_too_many_the_lost_claims_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unwritten, "MOST", 2)
    memory = Memory()
    proof, *lost = (wanted(key, owner=key) for key in ("proof", "lost", "newer"))
    memory.remember(proof, sent())
    for claim in lost:
        memory.remember(claim, LOST)
    assert [owner in memory.outcomes for owner in ("proof", "lost", "newer")] == [True, False, True]
