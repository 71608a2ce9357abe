"""Every rule of `optus_sms.records.ledger.Ledger`, in memory and in DynamoDB.

A test checks the method's result and the stored record (`Subject.record`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ConnectionClosedError
from moto import mock_aws

from optus_sms.aws import clients
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import HistoryLine, LedgerRecord, State
from optus_sms.records.ledger import ABANDONED_SECONDS, COMPLETE_SECONDS, LAPSE_SECONDS, UNRESOLVED_SECONDS, Ledger
from optus_sms.records.table import EditedItemError, shard, unmarshal
from tests.support.aws import REGION, create_table
from tests.support.builders import NOW, wanted
from tests.support.fakes import MemoryLedger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from optus_sms.runtime.settings import OnUnknown

LEASE = int(NOW) + 90
OTHER_PAYLOAD = "b" * 64


@dataclass(frozen=True)
class Subject:
    """A ledger, with access to its stored items."""

    ledger: Ledger
    record: Callable[[str], LedgerRecord | None]
    delete: Callable[[str], None]


def _in_memory() -> Subject:
    ledger = MemoryLedger()
    return Subject(
        ledger,
        ledger.read,
        lambda key: ledger.table.items.__delitem__(f"msg#{key}"),
    )


def _in_dynamodb(client: DynamoDBClient) -> Subject:
    table = create_table(client, "SendLedgerTable")

    def delete(key: str) -> None:
        client.delete_item(TableName=table, Key={"pk": {"S": f"msg#{key}"}})

    ledger = Ledger.connect(client, table)
    return Subject(ledger, ledger.read, delete)


@pytest.fixture
def subject(client: DynamoDBClient | None) -> Subject:
    return _in_dynamodb(client) if client else _in_memory()


@pytest.fixture
def ledger(subject: Subject) -> Ledger:
    return subject.ledger


def kept(subject: Subject, message_id: str = "message-1") -> LedgerRecord:
    """Return the record, which must exist."""
    record = subject.record(message_id)
    assert record is not None
    return record


def told(record: LedgerRecord | None) -> LedgerRecord | None:
    """Return the record without its history, which also has lines of writes that changed nothing else."""
    return record and record._replace(history=frozenset())


def right(claim: LedgerRecord) -> tuple[object, ...]:
    """Return the parts of a record that identify its claim: the owner, and the values fixed by the first claim."""
    return claim.message_id, claim.owner, claim.attempts, claim.on_unknown, claim.unknown_outcomes


def history(subject: Subject) -> list[HistoryLine]:
    record = subject.record("message-1")
    return record.steps() if record else []


def claim(
    ledger: Ledger, of: LedgerRecord | None = None, *, owner: str = "me", after: LedgerRecord | None = None
) -> LedgerRecord:
    """Make a claim that must succeed."""
    got = ledger.claim((of or wanted())._replace(owner=owner, lease_until=LEASE), now=NOW, after=after)
    assert got.is_held_by(owner)
    return got


def refused(
    ledger: Ledger, of: LedgerRecord | None = None, *, owner: str = "other", after: LedgerRecord | None = None
) -> LedgerRecord:
    """Make a claim that must be refused."""
    got = ledger.claim((of or wanted())._replace(owner=owner, lease_until=LEASE), now=NOW, after=after)
    assert not got.is_held_by(owner)
    return got


def bring_to(ledger: Ledger, state: State, of: LedgerRecord | None = None, *, owner: str = "me") -> LedgerRecord:
    """Bring a record to a state as the sender function does, and return its claim."""
    of = of or wanted()
    if state is State.EXPIRED:
        assert ledger.expired(of, now=NOW) is None
        return of._replace(owner=owner)
    if state is State.RECALLED:
        assert ledger.recall(of, by="alex", now=NOW) is None
        return of._replace(owner=owner)
    mine = claim(ledger, of, owner=owner)
    writes: dict[State, Callable[[], LedgerRecord | None]] = {
        State.SENDING: lambda: None,
        State.RETRY: lambda: ledger.not_sent(mine, "throttled", now=NOW),
        State.ACCEPTED: lambda: ledger.accepted(mine, "gw-1", now=NOW),
        State.REJECTED: lambda: ledger.rejected(mine, "rejected", "gateway: refused", now=NOW),
        State.UNKNOWN: lambda: ledger.unknown(mine, "timed_out", now=NOW),
    }
    assert writes[state]() is None
    return mine


def state_of(subject: Subject, key: str = "message-1") -> State:
    record = subject.record(key)
    assert record is not None
    return record.state


class TestClaim:
    def test_of_a_new_message_keeps_what_the_rest_of_the_protocol_needs(self, subject: Subject) -> None:
        got = claim(subject.ledger, wanted(reference="costs-42", segments=3, has_sender_id=True))
        assert right(got) == ("message-1", "me", 1, "hold", 0)
        assert kept(subject) == got
        assert got == LedgerRecord(
            "message-1",
            State.SENDING,
            owner="me",
            attempts=1,
            lease_until=LEASE,
            payload_sha256="a" * 64,
            reference="costs-42",
            destination=wanted().destination,
            segments=3,
            has_sender_id=True,
            history=got.history,
            undecided=shard(State.SENDING, "message-1"),
            look_at=LEASE + LAPSE_SECONDS,
            ttl=wanted().ttl,
        )

    def test_again_keeps_the_record_longer(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.RETRY)
        claim(subject.ledger, wanted(ttl=wanted().ttl + 60), owner="next")
        assert kept(subject).ttl == wanted().ttl + 60

    def test_keeps_when_the_message_was_first_queued(self, subject: Subject) -> None:
        first, again = (wanted()._replace(queued_at=format_rfc3339(at)) for at in (NOW - 9, NOW))
        bring_to(subject.ledger, State.RETRY, first)
        claim(subject.ledger, again, owner="next")
        assert kept(subject).queued_at == format_rfc3339(NOW - 9)

    def test_after_retry_counts_the_attempt_and_changes_the_owner(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.RETRY)
        assert right(claim(subject.ledger, owner="next")) == ("message-1", "next", 2, "hold", 0)
        record = subject.record("message-1")
        assert record is not None
        assert (record.state, record.owner, record.attempts, record.lease_until) == (State.SENDING, "next", 2, LEASE)

    @pytest.mark.parametrize("state", sorted(set(State) - {State.RETRY}))
    def test_is_refused_with_the_record_and_changes_nothing(self, subject: Subject, state: State) -> None:
        bring_to(subject.ledger, state)
        before = subject.record("message-1")
        assert refused(subject.ledger) == before
        assert subject.record("message-1") == before
        assert state_of(subject) is state

    @pytest.mark.parametrize("state", State)
    def test_of_another_payload_is_refused_whatever_the_state(self, subject: Subject, state: State) -> None:
        bring_to(subject.ledger, state)
        before = subject.record("message-1")
        assert refused(subject.ledger, wanted(payload_sha256=OTHER_PAYLOAD)) == before
        assert subject.record("message-1") == before
        assert before is not None
        assert before.payload_sha256 == "a" * 64

    def test_of_another_key_is_independent(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.ACCEPTED)
        assert claim(subject.ledger, wanted("message-2")).attempts == 1

    def test_repeated_by_its_owner_is_the_same_claim(self, subject: Subject) -> None:
        assert claim(subject.ledger) == claim(subject.ledger)
        record = subject.record("message-1")
        assert record is not None
        assert record.attempts == 1

    def test_repeated_by_its_owner_after_retry_is_the_same_claim(self, ledger: Ledger) -> None:
        bring_to(ledger, State.RETRY)
        first = claim(ledger, owner="next")
        assert claim(ledger, owner="next") == first
        assert right(first) == ("message-1", "next", 2, "hold", 0)

    @pytest.mark.parametrize("state", [State.ACCEPTED, State.REJECTED, State.UNKNOWN])
    def test_by_an_owner_who_is_done_is_refused(self, ledger: Ledger, state: State) -> None:
        bring_to(ledger, state, owner="me")
        assert refused(ledger, owner="me").state is state

    @pytest.mark.parametrize(("first", "later"), [("hold", "resend"), ("resend", "hold")])
    def test_fixes_on_unknown_for_good(self, subject: Subject, first: OnUnknown, later: OnUnknown) -> None:
        mine = claim(subject.ledger, wanted(on_unknown=first))
        assert subject.ledger.not_sent(mine, "throttled", now=NOW) is None
        assert claim(subject.ledger, wanted(on_unknown=later), owner="next").on_unknown == first
        record = subject.record("message-1")
        assert record is not None
        assert record.on_unknown == first


class TestClaimAfterUnknown:
    def test_takes_the_record_that_was_read(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.UNKNOWN, wanted(on_unknown="resend"))
        read = refused(subject.ledger)
        got = claim(subject.ledger, wanted(on_unknown="resend"), owner="next", after=read)
        assert right(got) == ("message-1", "next", 2, "resend", 1)
        assert state_of(subject) is State.SENDING

    @pytest.mark.parametrize(
        "change", [{"owner": "somebody"}, {"attempts": 7}], ids=["another owner", "another attempt"]
    )
    def test_is_refused_if_it_is_another_one(self, subject: Subject, change: dict[str, Any]) -> None:
        bring_to(subject.ledger, State.UNKNOWN)
        read = refused(subject.ledger)
        assert refused(subject.ledger, after=read._replace(**change)) == read
        assert state_of(subject) is State.UNKNOWN

    @pytest.mark.parametrize("state", sorted(set(State) - {State.UNKNOWN}))
    def test_is_refused_if_the_state_has_changed(self, subject: Subject, state: State) -> None:
        bring_to(subject.ledger, state)
        record = subject.record("message-1")
        assert record is not None
        assert refused(subject.ledger, after=record._replace(state=State.UNKNOWN)) == record

    def test_is_refused_for_another_payload(self, ledger: Ledger) -> None:
        bring_to(ledger, State.UNKNOWN)
        read = refused(ledger)
        assert refused(ledger, wanted(payload_sha256=OTHER_PAYLOAD), after=read) == read

    def test_is_refused_if_the_record_vanished(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.UNKNOWN)
        read = refused(subject.ledger)
        subject.delete("message-1")
        assert refused(subject.ledger, after=read) == LedgerRecord("message-1", State.UNKNOWN)
        assert subject.record("message-1") is None

    def test_succeeds_for_one_of_two_readers(self, ledger: Ledger) -> None:
        bring_to(ledger, State.UNKNOWN)
        read = refused(ledger)
        claim(ledger, owner="first", after=read)
        assert refused(ledger, owner="second", after=read).owner == "first"

    def test_repeated_by_its_owner_is_the_same_claim(self, ledger: Ledger) -> None:
        bring_to(ledger, State.UNKNOWN)
        read = refused(ledger)
        assert claim(ledger, owner="next", after=read) == claim(ledger, owner="next", after=read)


Outcome = Callable[[Ledger, LedgerRecord], LedgerRecord | None]
OUTCOMES: dict[str, tuple[State, Outcome]] = {
    "not_sent": (State.RETRY, lambda ledger, claim: ledger.not_sent(claim, "throttled", now=NOW)),
    "rejected": (State.REJECTED, lambda ledger, claim: ledger.rejected(claim, "rejected", "no", now=NOW)),
    "unknown": (State.UNKNOWN, lambda ledger, claim: ledger.unknown(claim, "timed_out", now=NOW)),
}


@pytest.mark.parametrize(("to", "write"), OUTCOMES.values(), ids=OUTCOMES)
class TestOutcomesOtherThanAccepted:
    def test_leave_sending(self, subject: Subject, to: State, write: Outcome) -> None:
        assert write(subject.ledger, claim(subject.ledger)) is None
        record = subject.record("message-1")
        assert record is not None
        assert (record.state, record.owner, record.attempts, record.lease_until) == (to, "me", 1, 0)

    def test_are_done_once_however_often_they_are_written(self, subject: Subject, to: State, write: Outcome) -> None:
        mine = claim(subject.ledger)
        assert write(subject.ledger, mine) is None
        before = subject.record("message-1")
        assert write(subject.ledger, mine) is None
        assert subject.record("message-1") == before

    def test_are_refused_to_another_owner(self, subject: Subject, to: State, write: Outcome) -> None:
        mine = claim(subject.ledger)
        refused_by = write(subject.ledger, mine._replace(owner="stranger"))
        assert told(refused_by) == told(kept(subject))
        assert state_of(subject) is State.SENDING

    def test_are_refused_to_another_attempt_of_the_same_owner(
        self, subject: Subject, to: State, write: Outcome
    ) -> None:
        mine = claim(subject.ledger)
        refused_by = write(subject.ledger, mine._replace(attempts=2))
        assert told(refused_by) == told(kept(subject))
        assert state_of(subject) is State.SENDING

    def test_are_refused_after_a_takeover(self, subject: Subject, to: State, write: Outcome) -> None:
        mine = claim(subject.ledger)
        assert subject.ledger.unknown(refused(subject.ledger), "owner_lost", now=NOW) is None
        next_one = claim(subject.ledger, owner="next", after=refused(subject.ledger))
        refused_by = write(subject.ledger, mine)
        assert refused_by is not None
        assert (refused_by.state, refused_by.owner, refused_by.attempts) == (State.SENDING, "next", next_one.attempts)
        assert state_of(subject) is State.SENDING

    @pytest.mark.parametrize("state", [State.ACCEPTED, State.RETRY, State.REJECTED, State.UNKNOWN])
    def test_are_refused_by_another_outcome(self, subject: Subject, to: State, write: Outcome, state: State) -> None:
        mine = bring_to(subject.ledger, state)
        before = kept(subject)
        assert write(subject.ledger, mine) == (None if state is to else before)
        assert told(kept(subject)) == told(before)

    def test_are_refused_if_the_record_vanished(self, subject: Subject, to: State, write: Outcome) -> None:
        mine = claim(subject.ledger)
        subject.delete("message-1")
        refused_by = write(subject.ledger, mine)
        assert subject.record("message-1") is None
        assert refused_by is not None
        # An absent record proves nothing, so an operator must look at the message.
        assert (refused_by.state, refused_by.on_unknown, refused_by.payload_sha256) == (State.UNKNOWN, "hold", None)


class TestNotSent:
    def test_keeps_why_and_what_the_next_claim_needs(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.RETRY)
        record = subject.record("message-1")
        assert record is not None
        assert (record.reason, record.payload_sha256) == ("throttled", "a" * 64)

    def test_after_a_takeover_is_evidence_and_changes_nothing_else(self, subject: Subject) -> None:
        mine = claim(subject.ledger)
        assert subject.ledger.unknown(refused(subject.ledger), "owner_lost", now=NOW) is None
        before = kept(subject)
        assert subject.ledger.not_sent(mine, "connection_refused", now=NOW) == before
        assert told(kept(subject)) == told(before)
        assert [step.what for step in history(subject)] == ["claimed", "not_sent_late", "unknown"]


class TestRelease:
    def test_of_a_claim_whose_response_was_lost_uses_up_no_attempt(self, subject: Subject) -> None:
        mine = claim(subject.ledger)
        assert subject.ledger.release(mine, "claim_response_lost", now=NOW) is None
        record = kept(subject)
        assert (record.state, record.reason, record.lease_until) == (State.RETRY, "claim_response_lost", 0)
        assert (record.attempts, record.uncounted_attempts) == (1, 1)
        assert due(subject.ledger, State.RETRY, now=NOW + ABANDONED_SECONDS) == ["message-1"]


class TestHistory:
    def test_has_each_claim_each_outcome_and_each_act_of_a_person(self, subject: Subject) -> None:
        ledger, clock = subject.ledger, itertools.count(NOW)

        def claimed(owner: str, after: LedgerRecord | None = None) -> LedgerRecord:
            taken = ledger.claim(wanted(owner=owner, lease_until=LEASE), now=next(clock), after=after)
            assert taken.state is State.SENDING
            return taken

        ledger.not_sent(claimed("first"), "throttled (status 429)", now=next(clock))
        ledger.rejected(claimed("second"), "rejected", "rejected (status 400)", now=next(clock))
        rejected = subject.record("message-1")
        assert rejected is not None
        ledger.reopen(rejected, by="kim lee", now=next(clock))
        ledger.unknown(claimed("third"), "timed_out", now=next(clock))
        ledger.resolve_not_sent(kept(subject), by="alex", now=next(clock))
        stale = claimed("fourth")
        fourth = subject.record("message-1")
        assert fourth is not None
        ledger.unknown(fourth, "owner_lost", now=next(clock))
        ledger.not_sent(stale, "unreachable", now=next(clock))
        ledger.resolve_sent(kept(subject), "gw-1", by="alex", now=next(clock))
        assert [(step.at, step.what, step.attempt, step.words) for step in history(subject)] == [
            (format_rfc3339(NOW + second), *line)
            for second, line in enumerate([
                ("claimed", 1, ""),
                ("not_sent", 1, "throttled (status 429)"),
                ("claimed", 2, ""),
                ("rejected", 2, "rejected rejected (status 400)"),
                ("reopened", 0, "kim lee"),
                ("claimed", 3, ""),
                ("unknown", 3, "timed_out"),
                ("resolved_not_sent", 0, "alex"),
                ("claimed", 4, ""),
                ("unknown", 4, "owner_lost"),
                ("not_sent_late", 4, "unreachable"),
                ("resolved_sent", 0, "alex"),
            ])
        ]  # fmt: skip

    def test_has_no_line_for_a_write_that_was_refused(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.ACCEPTED)
        before = history(subject)
        refused(subject.ledger)
        mine = LedgerRecord("message-1", State.SENDING, owner="me", attempts=1)
        writes: tuple[Callable[[], LedgerRecord | None], ...] = (
            lambda: subject.ledger.rejected(mine, "rejected", "rejected", now=NOW + 1),
            lambda: subject.ledger.unknown(mine, "timed_out", now=NOW + 1),
            lambda: subject.ledger.resolve_sent(kept(subject), None, by="alex", now=NOW + 1),
            lambda: subject.ledger.resolve_not_sent(kept(subject), by="alex", now=NOW + 1),
        )
        for write in writes:
            assert write() is not None
        assert history(subject) == before

    def test_of_a_write_that_the_sdk_repeats_has_one_line(self, subject: Subject) -> None:
        for _ in range(2):
            mine = claim(subject.ledger, owner="me")
        for _ in range(2):
            assert subject.ledger.not_sent(mine, "throttled", now=NOW) is None
        assert [step.what for step in history(subject)] == ["claimed", "not_sent"]


class TestRejected:
    def test_keeps_why_and_forgets_the_destination(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.REJECTED)
        record = subject.record("message-1")
        assert record is not None
        assert (record.reason, record.detail) == ("rejected", "gateway: refused")
        assert (record.destination, record.segments, record.has_sender_id) == (None, None, False)


class TestUnknown:
    def test_keeps_when_and_counts(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.UNKNOWN)
        record = subject.record("message-1")
        assert record is not None
        assert (record.reason, record.unknown_at, record.unknown_outcomes) == ("timed_out", int(NOW), 1)
        assert record.destination == wanted().destination  # a late callback can still complete the conversation

    def test_counts_each_of_them_once(self, subject: Subject) -> None:
        first = bring_to(subject.ledger, State.UNKNOWN)
        second = claim(subject.ledger, owner="next", after=refused(subject.ledger))
        assert second.unknown_outcomes == 1
        assert subject.ledger.unknown(first, "timed_out", now=NOW) is not None
        assert subject.ledger.unknown(second, "server_error", now=NOW + 200) is None
        assert subject.ledger.unknown(second, "server_error", now=NOW + 300) is None
        record = subject.record("message-1")
        assert record is not None
        assert (record.unknown_outcomes, record.unknown_at, record.reason) == (2, int(NOW) + 200, "server_error")


class TestLapsed:
    def test_makes_the_record_that_was_read_unknown(self, subject: Subject) -> None:
        claim(subject.ledger)
        assert subject.ledger.unknown(refused(subject.ledger), "owner_lost", now=NOW) is None
        record = subject.record("message-1")
        assert record is not None
        assert (record.state, record.reason, record.unknown_outcomes) == (State.UNKNOWN, "owner_lost", 1)

    def test_is_refused_if_the_owner_wrote_its_outcome_meanwhile(self, subject: Subject) -> None:
        mine = claim(subject.ledger)
        read = refused(subject.ledger)
        assert subject.ledger.accepted(mine, "gw-1", now=NOW) is None
        refused_by = subject.ledger.unknown(read, "owner_lost", now=NOW)
        assert refused_by is not None
        assert (refused_by.state, refused_by.gateway_id) == (State.ACCEPTED, "gw-1")
        assert state_of(subject) is State.ACCEPTED

    def test_is_refused_if_somebody_else_claimed_meanwhile(self, subject: Subject) -> None:
        mine = claim(subject.ledger)
        read = refused(subject.ledger)
        assert subject.ledger.not_sent(mine, "throttled", now=NOW) is None
        claim(subject.ledger, owner="next")
        refused_by = subject.ledger.unknown(read, "owner_lost", now=NOW)
        assert refused_by is not None
        assert refused_by.owner == "next"
        assert state_of(subject) is State.SENDING


class TestAccepted:
    @pytest.mark.parametrize("state", State)
    def test_wins_whatever_the_state(self, subject: Subject, state: State) -> None:
        mine = bring_to(subject.ledger, state)
        assert subject.ledger.accepted(mine, "gw-1", now=NOW) is None
        record = subject.record("message-1")
        assert record is not None
        assert (record.state, record.gateway_id, record.lease_until) == (State.ACCEPTED, "gw-1", 0)
        assert record.accepted_at == "2026-01-01T00:00:00.000Z"

    def test_removes_what_the_queue_message_has(self, subject: Subject) -> None:
        subject.ledger.accepted(claim(subject.ledger), "gw-1", now=NOW)
        record = subject.record("message-1")
        assert record is not None
        assert (record.destination, record.segments, record.undecided) == (None, None, None)

    @pytest.mark.parametrize("state", sorted(set(State) - {State.SENDING, State.ACCEPTED}))
    def test_after_a_takeover_leaves_the_rest_to_reconciliation(self, subject: Subject, state: State) -> None:
        """The queue message can be gone."""
        mine = bring_to(subject.ledger, state)
        subject.ledger.accepted(mine, "gw-1", now=NOW)
        record = subject.record("message-1")
        assert record is not None
        assert (record.destination, record.segments) == (mine.destination, mine.segments)
        assert due(subject.ledger, State.ACCEPTED, now=NOW + COMPLETE_SECONDS) == ["message-1"]
        assert {other for other in State if subject.ledger.count_undecided(other)} == {State.ACCEPTED}

    def test_of_an_id_that_a_callback_brought_leaves_it_to_the_callback(self, subject: Subject) -> None:
        mine = claim(subject.ledger)
        subject.ledger.resolve_by_callback("message-1", "gw-1", now=NOW)
        before = refused(subject.ledger)
        assert subject.ledger.accepted(mine, "gw-1", now=NOW + 9) is None
        assert subject.record("message-1") == before._replace(lease_until=0)

    def test_wins_over_a_later_owner(self, subject: Subject) -> None:
        late = claim(subject.ledger)
        assert subject.ledger.unknown(refused(subject.ledger), "owner_lost", now=NOW) is None
        next_one = claim(subject.ledger, owner="next", after=refused(subject.ledger))
        assert subject.ledger.accepted(late, "gw-1", now=NOW) is None
        refused_by = subject.ledger.unknown(next_one, "timed_out", now=NOW)
        assert refused_by is not None
        assert refused_by.state is State.ACCEPTED
        assert state_of(subject) is State.ACCEPTED

    def test_can_be_written_again(self, subject: Subject) -> None:
        mine = bring_to(subject.ledger, State.ACCEPTED)
        before = subject.record("message-1")
        assert subject.ledger.accepted(mine, "gw-1", now=NOW + 9) is None
        assert subject.record("message-1") == before
        assert kept(subject).other_gateway_ids == frozenset()

    def test_twice_keeps_both_ids_and_says_so(self, subject: Subject) -> None:
        mine = bring_to(subject.ledger, State.ACCEPTED)
        refused_by = subject.ledger.accepted(mine, "gw-2", now=NOW)
        assert refused_by is not None
        assert refused_by.gateway_id == "gw-1"
        subject.ledger.accepted(mine, "gw-3", now=NOW)
        record = subject.record("message-1")
        assert record is not None
        assert record.gateway_id == "gw-1"
        assert kept(subject).other_gateway_ids == {"gw-2", "gw-3"}

    def test_without_an_id_keeps_what_a_callback_will_complete(self, subject: Subject) -> None:
        mine = claim(subject.ledger)
        assert subject.ledger.accepted(mine, None, now=NOW) is None
        record = subject.record("message-1")
        assert record is not None
        assert (record.state, record.gateway_id, record.destination) == (State.ACCEPTED, None, wanted().destination)

    def test_without_an_id_does_not_forget_a_known_one(self, subject: Subject) -> None:
        mine = bring_to(subject.ledger, State.ACCEPTED)
        refused_by = subject.ledger.accepted(mine, None, now=NOW)
        assert refused_by is not None
        assert refused_by.gateway_id == "gw-1"
        assert subject.record("message-1") == refused_by

    def test_brings_back_a_record_that_vanished_so_that_a_redelivery_is_not_sent(self, subject: Subject) -> None:
        mine = claim(subject.ledger)
        subject.delete("message-1")
        assert subject.ledger.accepted(mine, "gw-1", now=NOW) is None
        record = refused(subject.ledger)
        assert (record.state, record.payload_sha256, record.gateway_id) == (State.ACCEPTED, "a" * 64, "gw-1")
        assert kept(subject).ttl == wanted().ttl


class TestRecall:
    def test_from_absent(self, subject: Subject) -> None:
        assert subject.ledger.recall(wanted(reference="costs-42"), by="alex", now=NOW) is None
        record = kept(subject)
        assert (record.state, record.payload_sha256, record.destination) == (State.RECALLED, "a" * 64, None)
        assert (record.reference, record.recalled_at, record.ttl) == ("costs-42", format_rfc3339(NOW), wanted().ttl)
        assert [(step.what, step.words) for step in history(subject)] == [("recalled", "alex")]

    @pytest.mark.parametrize("payload", ["a" * 64, None])
    def test_from_retry_keeps_its_fields_known_and_its_number_not(self, subject: Subject, payload: str | None) -> None:
        bring_to(subject.ledger, State.RETRY)
        assert subject.ledger.recall(wanted()._replace(payload_sha256=payload), by="alex", now=NOW) is None
        record = kept(subject)
        assert (record.state, record.payload_sha256, record.destination) == (State.RECALLED, "a" * 64, None)
        assert [other for other in State if subject.ledger.count_undecided(other)] == []

    @pytest.mark.parametrize("payload", ["a" * 64, None])
    @pytest.mark.parametrize("state", sorted(set(State) - {State.RETRY}))
    def test_is_refused_from_any_other_state(self, subject: Subject, state: State, payload: str | None) -> None:
        bring_to(subject.ledger, state)
        before = subject.record("message-1")
        assert subject.ledger.recall(wanted()._replace(payload_sha256=payload), by="alex", now=NOW + 1) == before
        assert subject.record("message-1") == before

    def test_is_refused_for_another_payload(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.RETRY)
        refused_by = subject.ledger.recall(wanted(payload_sha256=OTHER_PAYLOAD), by="alex", now=NOW)
        assert (refused_by and refused_by.state, state_of(subject)) == (State.RETRY, State.RETRY)

    @pytest.mark.parametrize("payload", ["a" * 64, None])
    def test_no_attempt_follows(self, subject: Subject, payload: str | None) -> None:
        subject.ledger.recall(wanted()._replace(payload_sha256=payload), by="alex", now=NOW)
        before = kept(subject)
        assert refused(subject.ledger) == before
        for end in (
            subject.ledger.expired(wanted(), now=NOW),
            subject.ledger.too_old(wanted(), "attempts_exhausted", now=NOW),
            subject.ledger.reopen(before, by="alex", now=NOW),
            subject.ledger.resolve_not_sent(before, by="alex", now=NOW),
            subject.ledger.replace_refused(before, wanted(payload_sha256=OTHER_PAYLOAD), now=NOW),
        ):
            assert end == before
        assert kept(subject) == before

    def test_after_an_unknown_outcome_it_can_be_proved_or_resolved_as_sent_only(self, subject: Subject) -> None:
        after_an_unknown_outcome(subject.ledger, State.RECALLED)
        before = kept(subject)
        assert (before.state, before.destination) == (State.RECALLED, wanted().destination)
        assert subject.ledger.resolve_not_sent(before, by="alex", now=NOW) == before
        assert subject.ledger.resolve_sent(before, "gw-7", by="alex", now=NOW) is None
        assert state_of(subject) is State.ACCEPTED

    def test_of_a_claim_that_comes_late_changes_nothing(self, subject: Subject) -> None:
        subject.ledger.recall(wanted(), by="alex", now=NOW)
        late = wanted()._replace(owner="late", lease_until=LEASE)
        assert subject.ledger.claim(late, now=NOW + 60).state is State.RECALLED
        subject.ledger.release(late, "claim_response_lost", now=NOW + 60)
        assert state_of(subject) is State.RECALLED


class TestErase:
    @pytest.mark.parametrize("state", sorted(set(State) - {State.SENDING}))
    def test_the_key_stays_and_the_number_goes(self, subject: Subject, state: State) -> None:
        bring_to(subject.ledger, state)
        before = kept(subject)
        assert subject.ledger.erase("message-1", by="alex", now=NOW) is None
        record = kept(subject)
        assert (record.destination, record.segments, record.erased_at) == (None, None, format_rfc3339(NOW))
        gone: dict[str, Any] = {"destination": None, "segments": None, "has_sender_id": False, "scheduled_at": None}
        assert told(record) == told(before._replace(**gone, erased_at=format_rfc3339(NOW)))
        assert ("erased", "alex") in {(step.what, step.words) for step in history(subject)}
        assert refused(subject.ledger, wanted(payload_sha256=OTHER_PAYLOAD)) == record

    def test_again_keeps_its_time(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.UNKNOWN)
        for later in (0, 60):
            assert subject.ledger.erase("message-1", by="alex", now=NOW + later) is None
        assert kept(subject).erased_at == format_rfc3339(NOW)

    def test_of_a_message_that_is_being_sent_or_is_none_changes_nothing(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.SENDING)
        before = kept(subject)
        assert subject.ledger.erase("message-1", by="alex", now=NOW) == before
        assert subject.ledger.erase("absent", by="alex", now=NOW) is not None
        assert (kept(subject), subject.record("absent")) == (before, None)

    def test_a_new_attempt_has_the_number_again(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.RETRY)
        subject.ledger.erase("message-1", by="alex", now=NOW)
        claim(subject.ledger, owner="next")
        assert (kept(subject).erased_at, kept(subject).destination) == (None, wanted().destination)


class TestExpired:
    def test_from_absent(self, subject: Subject) -> None:
        assert subject.ledger.expired(wanted(), now=NOW) is None
        record = subject.record("message-1")
        assert record is not None
        assert (record.state, record.payload_sha256, record.destination) == (State.EXPIRED, "a" * 64, None)
        assert kept(subject).ttl == wanted().ttl

    def test_from_retry(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.RETRY)
        assert subject.ledger.expired(wanted(), now=NOW) is None
        assert state_of(subject) is State.EXPIRED

    @pytest.mark.parametrize("state", sorted(set(State) - {State.RETRY}))
    def test_is_refused_from_any_other_state(self, subject: Subject, state: State) -> None:
        bring_to(subject.ledger, state)
        before = subject.record("message-1")
        assert subject.ledger.expired(wanted(), now=NOW) == before
        assert subject.record("message-1") == before

    def test_is_refused_for_another_payload(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.RETRY)
        refused_by = subject.ledger.expired(wanted(payload_sha256=OTHER_PAYLOAD), now=NOW)
        assert refused_by is not None
        assert state_of(subject) is State.RETRY


class TestExtend:
    def test_keeps_a_record_longer_but_never_shorter(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.UNKNOWN)
        before = kept(subject)
        subject.ledger.extend("message-1", ttl=wanted().ttl + 5)
        subject.ledger.extend("message-1", ttl=wanted().ttl + 3)
        assert kept(subject) == before._replace(ttl=wanted().ttl + 5)

    def test_makes_no_record(self, subject: Subject) -> None:
        subject.ledger.extend("message-1", ttl=wanted().ttl)
        assert subject.record("message-1") is None


class TestReferences:
    def test_of_one_key_lead_to_its_record(self, ledger: Ledger) -> None:
        ledger.register_reference("costs-42", "message-1", ttl=wanted().ttl)
        claim(ledger, wanted(reference="costs-42"))
        found = ledger.with_reference("costs-42")
        assert found is not None
        assert (found.message_id, found.state) == ("message-1", State.SENDING)

    def test_registered_again_by_the_same_key_stay_clear(self, ledger: Ledger) -> None:
        claim(ledger, wanted(reference="costs-42"))
        for _ in range(3):
            ledger.register_reference("costs-42", "message-1", ttl=wanted().ttl)
        found = ledger.with_reference("costs-42")
        assert found is not None
        assert found.message_id == "message-1"

    def test_of_two_keys_are_ambiguous_for_good(self, subject: Subject) -> None:
        for key in ("message-1", "message-2", "message-3", "message-1"):
            subject.ledger.register_reference("costs-42", key, ttl=wanted().ttl)
            claim(subject.ledger, wanted(key, reference="costs-42"))
        assert subject.ledger.with_reference("costs-42") is None
        subject.delete("message-2")
        subject.delete("message-3")
        assert subject.ledger.with_reference("costs-42") is None

    def test_of_two_keys_are_not_forgotten_while_they_are_used(self, dynamodb: DynamoDBClient) -> None:
        """Otherwise the reference would look unique to its next message."""
        table = create_table(dynamodb, "SendLedgerTable")
        ledger, day = Ledger.connect(dynamodb, table), 86_400

        def kept_until() -> object:
            key = {"pk": {"S": "ref#costs-42"}}
            return unmarshal(dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"])["ttl"]

        start = wanted().ttl
        for key in ("message-1", "message-2"):
            ledger.register_reference("costs-42", key, ttl=start)
        ledger.register_reference("costs-42", "message-3", ttl=start + day)
        assert kept_until() == start  # one write a day is enough
        ledger.register_reference("costs-42", "message-4", ttl=start + 30 * day)
        assert kept_until() == start + 30 * day
        ledger.register_reference("costs-42", "message-5", ttl=start)
        assert kept_until() == start + 30 * day

    def test_of_two_keys_are_not_kept_shorter_by_whoever_writes_last(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        table, start, day = ledger._table, wanted().ttl, 86_400
        for key in ("message-1", "message-2"):
            ledger.register_reference("costs-42", key, ttl=start)
        update = table.update

        def meanwhile(*arguments: Any, **more: Any) -> Any:
            written = update(*arguments, **more)
            monkeypatch.setattr(table, "update", update)
            ledger.register_reference("costs-42", "message-4", ttl=start + 60 * day)
            return written

        monkeypatch.setattr(table, "update", meanwhile)
        ledger.register_reference("costs-42", "message-3", ttl=start + 30 * day)
        assert table.get("ref#costs-42")["ttl"] == start + 60 * day

    def test_that_nobody_gave_are_the_keys_themselves(self, ledger: Ledger) -> None:
        claim(ledger, wanted())
        found = ledger.with_reference("message-1")
        assert found is not None
        assert found.message_id == "message-1"

    def test_do_not_lead_to_the_key_of_a_message_with_another_reference(self, ledger: Ledger) -> None:
        ledger.register_reference("costs-42", "message-1", ttl=wanted().ttl)
        claim(ledger, wanted(reference="costs-42"))
        assert ledger.with_reference("message-1") is None

    def test_equal_to_the_key_of_another_message_are_ambiguous(self, ledger: Ledger) -> None:
        claim(ledger, wanted("message-1"))
        ledger.register_reference("message-1", "message-2", ttl=wanted().ttl)
        claim(ledger, wanted("message-2", reference="message-1"))
        assert ledger.with_reference("message-1") is None

    def test_equal_to_the_key_of_a_message_that_does_not_answer_to_it_are_clear(self, ledger: Ledger) -> None:
        ledger.register_reference("costs-42", "message-1", ttl=wanted().ttl)
        claim(ledger, wanted("message-1", reference="costs-42"))
        ledger.register_reference("message-1", "message-2", ttl=wanted().ttl)
        claim(ledger, wanted("message-2", reference="message-1"))
        found = ledger.with_reference("message-1")
        assert found is not None
        assert found.message_id == "message-2"

    @pytest.mark.parametrize("state", [State.RETRY, State.REJECTED, State.EXPIRED])
    def test_equal_to_the_key_of_a_message_that_was_certainly_not_sent_are_clear(
        self, ledger: Ledger, state: State
    ) -> None:
        bring_to(ledger, state, wanted("message-1"))
        found = ledger.with_reference("message-1")
        assert found is not None
        assert (found.message_id, found.may_have_been_sent) == ("message-1", False)
        ledger.register_reference("message-1", "message-2", ttl=wanted().ttl)
        claim(ledger, wanted("message-2", reference="message-1"))
        found = ledger.with_reference("message-1")
        assert found is not None
        assert found.message_id == "message-2"

    @pytest.mark.parametrize("end", ["expired", "too_old"])
    def test_belong_to_a_message_that_was_never_claimed_too(self, subject: Subject, end: str) -> None:
        of = wanted(reference="costs-42")
        if end == "expired":
            assert subject.ledger.expired(of, now=NOW) is None
        else:
            assert subject.ledger.too_old(of, "attempts_exhausted", now=NOW) is None
        assert kept(subject).effective_reference == "costs-42"
        assert subject.ledger.with_reference("message-1") is None

    def test_equal_to_the_own_key_are_clear(self, ledger: Ledger) -> None:
        ledger.register_reference("message-1", "message-1", ttl=wanted().ttl)
        claim(ledger, wanted("message-1", reference="message-1"))
        found = ledger.with_reference("message-1")
        assert found is not None
        assert found.message_id == "message-1"

    @pytest.mark.parametrize("reference", ["nobody", "costs-42"])
    def test_lead_nowhere_without_a_record(self, ledger: Ledger, reference: str) -> None:
        ledger.register_reference("costs-42", "message-1", ttl=wanted().ttl)
        assert ledger.with_reference(reference) is None


class TestAdopt:
    @pytest.mark.parametrize("state", [State.SENDING, State.UNKNOWN])
    def test_resolves_what_was_open_and_tells_what_it_was(self, subject: Subject, state: State) -> None:
        bring_to(subject.ledger, state, wanted(segments=2))
        before = subject.record("message-1")
        assert subject.ledger.resolve_by_callback("message-1", "gw-9", now=NOW) == before
        assert before is not None
        assert (before.destination, before.segments) == (wanted().destination, 2)
        after = subject.record("message-1")
        assert after is not None
        assert (after.state, after.gateway_id, after.destination) == (State.ACCEPTED, "gw-9", wanted().destination)
        assert after.accepted_at == "2026-01-01T00:00:00.000Z"

    def test_completes_an_acceptance_without_an_id(self, subject: Subject) -> None:
        mine = claim(subject.ledger)
        subject.ledger.accepted(mine, None, now=NOW)
        before = subject.ledger.resolve_by_callback("message-1", "gw-9", now=NOW + 60)
        assert before is not None
        assert before.destination == wanted().destination
        after = subject.record("message-1")
        assert after is not None
        assert (after.gateway_id, after.accepted_at) == ("gw-9", "2026-01-01T00:00:00.000Z")

    @pytest.mark.parametrize("state", [State.RETRY, State.REJECTED, State.EXPIRED, State.RECALLED, State.ACCEPTED])
    def test_changes_nothing_of_what_was_certainly_not_sent_or_has_an_id(self, subject: Subject, state: State) -> None:
        bring_to(subject.ledger, state)
        before = subject.record("message-1")
        assert subject.ledger.resolve_by_callback("message-1", "gw-9", now=NOW) is None
        assert subject.record("message-1") == before

    @pytest.mark.parametrize("state", [State.RETRY, State.REJECTED, State.EXPIRED, State.RECALLED])
    def test_corrects_what_was_resolved_after_an_unknown_outcome(self, subject: Subject, state: State) -> None:
        """An earlier attempt had an unknown outcome; only the last one was certainly not sent."""
        ledger, first = subject.ledger, wanted(on_unknown="resend")
        ledger.unknown(claim(ledger, first), "timed_out", now=NOW)
        unknown = subject.record("message-1")
        again = ledger.claim(first._replace(owner="later", lease_until=int(NOW) + 400), now=NOW + 121, after=unknown)
        assert again.state is State.SENDING
        if state is State.REJECTED:
            ledger.rejected(again, "rejected", "rejected (status 400)", now=NOW + 122)
        else:
            ledger.not_sent(again, "unreachable", now=NOW + 122)
        if state is State.EXPIRED:
            ledger.expired(first, now=NOW + 200)
        if state is State.RECALLED:
            ledger.recall(first, by="alex", now=NOW + 200)
        before = subject.record("message-1")
        assert before is not None
        assert (before.state, before.destination) == (state, wanted().destination)
        assert ledger.resolve_by_callback("message-1", "gw-1", now=NOW + 300) == before
        after = subject.record("message-1")
        assert after is not None
        assert (after.state, after.gateway_id) == (State.ACCEPTED, "gw-1")

    @pytest.mark.parametrize("to", [State.RETRY, State.REJECTED])
    def test_gives_way_to_the_proof_that_the_claim_was_not_sent(self, subject: Subject, to: State) -> None:
        """The callback was about another system's message with the same reference."""
        ledger, write = subject.ledger, OUTCOMES["not_sent" if to is State.RETRY else "rejected"][1]
        mine = claim(ledger)
        assert ledger.resolve_by_callback("message-1", "gw-9", now=NOW) is not None
        for _ in range(2):
            assert write(ledger, mine) is None
        record = kept(subject)
        assert (record.state, record.gateway_id, record.resolved_by, record.accepted_at) == (to, None, None, None)
        assert ledger.count_undecided(State.RETRY) == (to is State.RETRY)

    def test_stays_if_the_lease_of_the_claim_that_was_not_sent_is_over(self, subject: Subject) -> None:
        """A duplicate can be acknowledged by then."""
        mine = claim(subject.ledger)
        assert subject.ledger.resolve_by_callback("message-1", "gw-9", now=NOW) is not None
        assert subject.ledger.not_sent(mine, "throttled", now=LEASE) is not None
        assert (state_of(subject), kept(subject).gateway_id) == (State.ACCEPTED, "gw-9")

    def test_stays_if_an_earlier_outcome_of_the_claim_that_was_not_sent_is_unknown(self, subject: Subject) -> None:
        ledger = subject.ledger
        bring_to(ledger, State.UNKNOWN)
        again = claim(ledger, owner="next", after=refused(ledger))
        assert ledger.resolve_by_callback("message-1", "gw-9", now=NOW) is not None
        refused_by = ledger.not_sent(again, "throttled", now=NOW)
        assert refused_by is not None
        assert (state_of(subject), refused_by.gateway_id) == (State.ACCEPTED, "gw-9")

    def test_makes_no_record(self, subject: Subject) -> None:
        assert subject.ledger.resolve_by_callback("message-1", "gw-9", now=NOW) is None
        assert subject.record("message-1") is None

    def test_succeeds_once(self, subject: Subject) -> None:
        claim(subject.ledger)
        assert subject.ledger.resolve_by_callback("message-1", "gw-9", now=NOW) is not None
        assert subject.ledger.resolve_by_callback("message-1", "gw-8", now=NOW) is None
        record = subject.record("message-1")
        assert record is not None
        assert record.gateway_id == "gw-9"

    def test_keeps_the_owner_from_saying_something_weaker(self, ledger: Ledger) -> None:
        mine = claim(ledger)
        ledger.resolve_by_callback("message-1", "gw-9", now=NOW)
        refused_by = ledger.unknown(mine, "timed_out", now=NOW)
        assert refused_by is not None
        assert (refused_by.state, refused_by.gateway_id) == (State.ACCEPTED, "gw-9")
        assert ledger.accepted(mine, "gw-9", now=NOW) is None


def test_an_attribute_of_a_wrong_type_is_told_from_a_failure(client: DynamoDBClient | None) -> None:
    ledger: Ledger
    if client:
        name = create_table(client, "SendLedgerTable")
        client.put_item(TableName=name, Item={"pk": {"S": "msg#message-1"}, "history": {"S": "edited"}})
        client.update_item(
            TableName=name,
            Key={"pk": {"S": "msg#message-1"}},
            UpdateExpression="SET #s = :s, payload_sha256 = :p",
            ExpressionAttributeNames={"#s": "state"},
            ExpressionAttributeValues={":s": {"S": "RETRY"}, ":p": {"S": "a" * 64}},
        )
        ledger = Ledger.connect(client, name)
    else:
        ledger = memory = MemoryLedger()
        bring_to(ledger, State.RETRY)
        memory.items["message-1"]["history"] = "edited"
    with pytest.raises(EditedItemError):
        ledger.claim(wanted(owner="another"), now=NOW)


class TestCompleted:
    def test_removes_what_the_item_was_written_from(self, subject: Subject) -> None:
        ledger = subject.ledger
        claim(ledger, wanted(segments=2, has_sender_id=True, scheduled_at=int(NOW) + 60))
        assert ledger.resolve_by_callback("message-1", "gw-1", now=NOW) is not None
        assert due(ledger, State.ACCEPTED, now=NOW + COMPLETE_SECONDS) == ["message-1"]
        ledger.completed("message-1", "gw-1")
        record = kept(subject)
        assert (record.destination, record.segments, record.has_sender_id, record.scheduled_at) == (
            None, None, False, None,
        )  # fmt: skip
        assert ledger.count_undecided(State.ACCEPTED) == 0

    @pytest.mark.parametrize("state", sorted(set(State) - {State.ACCEPTED}))
    def test_changes_nothing_else(self, subject: Subject, state: State) -> None:
        bring_to(subject.ledger, state)
        before = kept(subject)
        subject.ledger.completed("message-1", "gw-1")
        subject.ledger.completed("message-9", "gw-1")
        assert kept(subject) == before
        assert subject.record("message-9") is None

    def test_of_another_id_changes_nothing(self, subject: Subject) -> None:
        claim(subject.ledger)
        subject.ledger.resolve_by_callback("message-1", "gw-1", now=NOW)
        before = kept(subject)
        subject.ledger.completed("message-1", "gw-2")
        assert kept(subject) == before


class LosesFirstAnswer:
    """Loses the response of the first write, which is done, so that the SDK writes again once."""

    def __init__(self, client: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes = 0
        client.meta.events.register_last("before-send", self._lose)  # after moto has done the write
        monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)

    def _lose(self, request: Any, **_: Any) -> None:
        if not request.headers["X-Amz-Target"].endswith(b".UpdateItem"):
            return
        self.writes += 1
        if self.writes == 1:
            raise ConnectionClosedError(endpoint_url=request.url)


class TestTheSdkRepeatsAWrite:
    """Otherwise, after a lost response, a message is blocked until its lease ends, or its own outcome is refused."""

    @pytest.fixture
    def dynamo(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Subject, Callable[[], LosesFirstAnswer]]]:
        with mock_aws():
            client = boto3.client("dynamodb", region_name=REGION, config=clients._CONFIG)
            yield _in_dynamodb(client), lambda: LosesFirstAnswer(client, monkeypatch)

    def test_claim(self, dynamo: tuple[Subject, Callable[[], LosesFirstAnswer]]) -> None:
        subject, lose_next_answer = dynamo
        network = lose_next_answer()
        assert right(claim(subject.ledger)) == ("message-1", "me", 1, "hold", 0)
        assert network.writes == 2
        record = subject.record("message-1")
        assert record is not None
        assert record.attempts == 1

    @pytest.mark.parametrize(("to", "write"), OUTCOMES.values(), ids=OUTCOMES)
    def test_outcome(self, dynamo: tuple[Subject, Callable[[], LosesFirstAnswer]], to: State, write: Outcome) -> None:
        subject, lose_next_answer = dynamo
        mine = claim(subject.ledger)
        network = lose_next_answer()
        assert write(subject.ledger, mine) is None
        assert network.writes == 2
        assert state_of(subject) is to

    def test_accepted(self, dynamo: tuple[Subject, Callable[[], LosesFirstAnswer]]) -> None:
        subject, lose_next_answer = dynamo
        mine = claim(subject.ledger)
        network = lose_next_answer()
        assert subject.ledger.accepted(mine, "gw-1", now=NOW) is None
        assert network.writes == 2
        assert kept(subject).other_gateway_ids == frozenset()

    def test_adopt(self, dynamo: tuple[Subject, Callable[[], LosesFirstAnswer]]) -> None:
        """For the caller this looks like a proof that came too late, but the record is resolved."""
        subject, lose_next_answer = dynamo
        claim(subject.ledger)
        lose_next_answer()
        subject.ledger.resolve_by_callback("message-1", "gw-9", now=NOW)
        record = subject.record("message-1")
        assert record is not None
        assert (record.state, record.gateway_id) == (State.ACCEPTED, "gw-9")


def due(ledger: Ledger, state: State, *, now: float) -> list[str]:
    return [record.message_id for record in ledger.due(state, now=now, limit=100)]


# As in docs/outages.md.
DUE_AT = {
    State.SENDING: LEASE + 15 * 60,
    State.RETRY: int(NOW) + 11 * 86_400,
    State.UNKNOWN: int(NOW) + 8 * 86_400,
}
TEN_MINUTES = 600 / 86_400
MENDED = wanted(payload_sha256=OTHER_PAYLOAD)


def after(state: State, write: Callable[[Ledger, LedgerRecord], object]) -> Callable[[Ledger], object]:
    """Return a record that was brought to a state and then written by a function of its claim."""
    return lambda ledger: write(ledger, bring_to(ledger, state))


def read(ledger: Ledger) -> LedgerRecord:
    record = ledger.read("message-1")
    assert record is not None
    return record


LISTED: dict[str, tuple[State, float, Callable[[Ledger], object]]] = {
    "released": (State.RETRY, 11, after(State.SENDING, lambda ledger, mine: ledger.release(mine, "lost", now=NOW))),
    "replaced": (
        State.RETRY, 11, after(State.REJECTED, lambda ledger, _: ledger.replace_refused(read(ledger), MENDED, now=NOW)),
    ),
    "reopened": (
        State.RETRY, 11, after(State.REJECTED, lambda ledger, _: ledger.reopen(read(ledger), by="alex", now=NOW)),
    ),
    "resolved as not sent": (
        State.RETRY, 11, after(State.UNKNOWN, lambda ledger, _: ledger.resolve_not_sent(read(ledger), by="a", now=NOW)),
    ),
    "unknown, its ttl removed by hand": (
        State.UNKNOWN, 8, after(State.SENDING, lambda ledger, mine: ledger.unknown(mine._replace(ttl=0), "x", now=NOW)),
    ),
    "accepted without an ID": (
        State.ACCEPTED, 8, after(State.SENDING, lambda ledger, mine: ledger.accepted(mine, None, now=NOW)),
    ),
    "resolved as sent without an ID": (
        State.ACCEPTED, 8,
        after(State.UNKNOWN, lambda ledger, _: ledger.resolve_sent(read(ledger), None, by="a", now=NOW)),
    ),
    "resolved as sent": (
        State.ACCEPTED, TEN_MINUTES,
        after(State.UNKNOWN, lambda ledger, _: ledger.resolve_sent(read(ledger), "gw-1", by="a", now=NOW)),
    ),
    "resolved by a callback": (
        State.ACCEPTED, TEN_MINUTES,
        after(State.UNKNOWN, lambda ledger, _: ledger.resolve_by_callback("message-1", "gw-1", now=NOW)),
    ),
    "accepted after a takeover": (
        State.ACCEPTED, TEN_MINUTES, after(State.UNKNOWN, lambda ledger, mine: ledger.accepted(mine, "gw-1", now=NOW)),
    ),
}  # fmt: skip


class TestUndecided:
    @pytest.mark.parametrize("state", sorted(DUE_AT))
    def test_is_listed_and_due_when_its_time_has_come(self, ledger: Ledger, state: State) -> None:
        bring_to(ledger, state)
        assert ledger.count_undecided(state) == 1
        assert due(ledger, state, now=DUE_AT[state] - 1) == []
        assert due(ledger, state, now=DUE_AT[state]) == ["message-1"]
        assert [other for other in State if other is not state and ledger.count_undecided(other)] == []

    @pytest.mark.parametrize("state", [State.ACCEPTED, State.REJECTED, State.EXPIRED, State.RECALLED])
    def test_a_decision_ends_it(self, subject: Subject, state: State) -> None:
        bring_to(subject.ledger, state)
        assert [other for other in State if subject.ledger.count_undecided(other)] == []
        assert kept(subject).look_at is None

    @pytest.mark.parametrize(("state", "days", "write"), LISTED.values(), ids=LISTED)
    def test_no_write_lists_it_for_an_earlier_or_a_later_time(
        self, ledger: Ledger, state: State, days: float, write: Callable[[Ledger], object]
    ) -> None:
        write(ledger)
        at = NOW + int(days * 86_400)
        assert due(ledger, state, now=at - 1) == []
        assert due(ledger, state, now=at) == ["message-1"]

    def test_expiry_after_a_retry_ends_it(self, ledger: Ledger) -> None:
        bring_to(ledger, State.RETRY)
        assert ledger.expired(wanted(), now=NOW) is None
        assert ledger.count_undecided(State.RETRY) == 0

    @pytest.mark.parametrize("state", sorted(set(DUE_AT) - {State.RETRY}))
    def test_a_callbacks_proof_ends_it(self, ledger: Ledger, state: State) -> None:
        bring_to(ledger, state)
        assert ledger.resolve_by_callback("message-1", "gw-1", now=NOW) is not None
        assert ledger.count_undecided(state) == 0

    def test_accepted_without_an_id_waits_for_one(self, ledger: Ledger) -> None:
        mine = claim(ledger)
        assert ledger.accepted(mine, None, now=NOW) is None
        assert due(ledger, State.ACCEPTED, now=NOW + UNRESOLVED_SECONDS) == ["message-1"]
        assert ledger.resolve_by_callback("message-1", "gw-1", now=NOW) is not None
        ledger.completed("message-1", "gw-1")
        assert ledger.count_undecided(State.ACCEPTED) == 0

    def test_accepted_without_an_id_after_a_callback_told_it_waits_for_nothing(self, ledger: Ledger) -> None:
        mine = claim(ledger)
        assert ledger.resolve_by_callback("message-1", "gw-1", now=NOW) is not None
        ledger.completed("message-1", "gw-1")
        assert ledger.accepted(mine, None, now=NOW) is not None
        assert ledger.count_undecided(State.ACCEPTED) == 0

    def test_unknown_of_a_scheduled_message_is_due_later(self, ledger: Ledger) -> None:
        scheduled = wanted(ttl=wanted().ttl + 60 * 86_400)
        bring_to(ledger, State.UNKNOWN, scheduled)
        at = DUE_AT[State.UNKNOWN] + 60 * 86_400
        assert due(ledger, State.UNKNOWN, now=at - 1) == []
        assert due(ledger, State.UNKNOWN, now=at) == ["message-1"]

    def test_a_new_claim_is_due_by_its_own_lease(self, ledger: Ledger) -> None:
        bring_to(ledger, State.RETRY)
        claim(ledger, owner="next")
        assert due(ledger, State.RETRY, now=NOW + 2 * ABANDONED_SECONDS) == []
        assert due(ledger, State.SENDING, now=LEASE + LAPSE_SECONDS) == ["message-1"]

    def test_lapsing_moves_it_on(self, ledger: Ledger) -> None:
        bring_to(ledger, State.SENDING)
        (record,) = ledger.due(State.SENDING, now=LEASE + LAPSE_SECONDS, limit=1)
        assert ledger.unknown(record, "owner_lost", now=LEASE + LAPSE_SECONDS) is None
        assert due(ledger, State.UNKNOWN, now=NOW + UNRESOLVED_SECONDS) == ["message-1"]


class TestGiveUp:
    def test_looks_no_more_and_keeps_the_state(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.UNKNOWN)
        record = subject.record("message-1")
        assert record is not None
        assert subject.ledger.give_up(record, now=NOW)
        assert state_of(subject) is State.UNKNOWN
        assert subject.ledger.count_undecided(State.UNKNOWN) == 0
        assert not subject.ledger.give_up(record, now=NOW), "the second time changes nothing"

    def test_a_late_proof_still_counts(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.UNKNOWN)
        record = subject.record("message-1")
        assert record is not None
        assert subject.ledger.give_up(record, now=NOW)
        assert subject.ledger.resolve_by_callback("message-1", "gw-1", now=NOW) is not None
        assert state_of(subject) is State.ACCEPTED

    def test_a_retry_that_was_given_up_can_still_be_claimed(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.RETRY)
        record = subject.record("message-1")
        assert record is not None
        assert subject.ledger.give_up(record, now=NOW)
        claim(subject.ledger, owner="another")
        assert subject.ledger.count_undecided(State.SENDING) == 1

    def test_of_an_acceptance_whose_claim_vanished(self, subject: Subject) -> None:
        mine = claim(subject.ledger)
        subject.delete("message-1")
        assert subject.ledger.accepted(mine, None, now=NOW) is None
        record = subject.record("message-1")
        assert record is not None
        assert subject.ledger.give_up(record, now=NOW)
        assert subject.ledger.count_undecided(State.ACCEPTED) == 0

    def test_is_refused_when_somebody_claimed_it_meanwhile(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.RETRY)
        record = subject.record("message-1")
        assert record is not None
        claim(subject.ledger, owner="next")
        assert not subject.ledger.give_up(record, now=NOW)
        assert subject.ledger.count_undecided(State.SENDING) == 1

    def test_is_refused_when_a_callback_resolved_it_meanwhile(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.UNKNOWN)
        record = subject.record("message-1")
        assert record is not None
        subject.ledger.resolve_by_callback("message-1", "gw-1", now=NOW)
        assert not subject.ledger.give_up(record, now=NOW)


@pytest.mark.parametrize("state", State)
def test_read_gives_the_record_as_it_is(subject: Subject, state: State) -> None:
    assert subject.ledger.read("message-1") is None
    bring_to(subject.ledger, state)
    assert subject.ledger.read("message-1") == subject.record("message-1")


def after_an_unknown_outcome(ledger: Ledger, state: State = State.REJECTED) -> None:
    """Bring a record to RETRY, REJECTED, EXPIRED or RECALLED after a first attempt with an unknown outcome."""
    resend = wanted(on_unknown="resend")
    bring_to(ledger, State.UNKNOWN, resend)
    again = claim(ledger, resend, owner="next", after=refused(ledger, resend))
    if state is State.REJECTED:
        assert ledger.rejected(again, "rejected", "gateway: refused", now=NOW) is None
        return
    assert ledger.not_sent(again, "throttled", now=NOW) is None
    if state is State.EXPIRED:
        assert ledger.expired(resend, now=NOW) is None
    if state is State.RECALLED:
        assert ledger.recall(resend, by="alex", now=NOW) is None


class TestResolveByAPerson:
    def test_as_sent_with_the_gateways_id(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.UNKNOWN)
        assert subject.ledger.resolve_sent(kept(subject), "gw-7", by="alex", now=NOW) is None
        record = subject.record("message-1")
        assert record is not None
        assert (record.state, record.gateway_id, record.destination) == (State.ACCEPTED, "gw-7", wanted().destination)
        assert "alex" in {step.words for step in history(subject)}
        assert due(subject.ledger, State.ACCEPTED, now=NOW + COMPLETE_SECONDS) == ["message-1"]

    def test_as_sent_without_an_id_still_waits_for_a_callback(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.UNKNOWN)
        assert subject.ledger.resolve_sent(kept(subject), None, by="alex", now=NOW) is None
        assert subject.ledger.count_undecided(State.ACCEPTED) == 1
        assert subject.ledger.resolve_by_callback("message-1", "gw-7", now=NOW) is not None
        record = subject.record("message-1")
        assert record is not None
        assert (record.state, record.gateway_id) == (State.ACCEPTED, "gw-7")

    def test_as_sent_without_an_id_waits_from_the_schedule_on(self, subject: Subject) -> None:
        scheduled = wanted(scheduled_at=int(NOW) + 45 * 86_400)
        bring_to(subject.ledger, State.UNKNOWN, scheduled)
        assert subject.ledger.resolve_sent(kept(subject), None, by="alex", now=NOW) is None
        assert kept(subject).look_at == int(NOW) + 45 * 86_400 + UNRESOLVED_SECONDS

    def test_as_not_sent_can_be_claimed_with_all_its_tries(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.UNKNOWN)
        assert subject.ledger.resolve_not_sent(kept(subject), by="alex", now=NOW) is None
        assert "alex" in {step.words for step in history(subject)}
        assert subject.ledger.count_undecided(State.RETRY) == 1
        got = claim(subject.ledger, owner="next")
        assert (got.attempts, got.uncounted_attempts) == (2, 1)
        assert claim(subject.ledger, owner="next") == got

    @pytest.mark.parametrize("state", [State.RETRY, State.REJECTED, State.EXPIRED])
    @pytest.mark.parametrize("as_sent", [True, False])
    def test_what_came_after_an_unknown_outcome_once(self, subject: Subject, state: State, as_sent: bool) -> None:
        after_an_unknown_outcome(subject.ledger, state)
        read = kept(subject)
        assert (read.state, read.has_open_outcome) == (state, True)

        def resolve(record: LedgerRecord) -> LedgerRecord | None:
            if as_sent:
                return subject.ledger.resolve_sent(record, None, by="alex", now=NOW)
            return subject.ledger.resolve_not_sent(record, by="alex", now=NOW)

        assert resolve(read._replace(owner="somebody")) == read
        assert resolve(read) is None
        assert (state_of(subject) is State.RETRY, kept(subject).has_open_outcome) == (not as_sent, as_sent)
        before = kept(subject)
        assert resolve(before) == before

    def test_again_after_another_unknown_outcome(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.UNKNOWN)
        for owner in ("next", "last"):
            assert subject.ledger.resolve_not_sent(kept(subject), by="alex", now=NOW) is None
            assert not kept(subject).has_open_outcome
            assert subject.ledger.unknown(claim(subject.ledger, owner=owner), "timed_out", now=NOW) is None
            assert kept(subject).has_open_outcome

    def test_as_not_sent_can_still_be_disproved_by_a_callback(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.UNKNOWN)
        assert subject.ledger.resolve_not_sent(kept(subject), by="alex", now=NOW) is None
        assert subject.ledger.resolve_by_callback("message-1", "gw-1", now=NOW) is not None
        assert state_of(subject) is State.ACCEPTED

    @pytest.mark.parametrize("state", sorted(set(State) - {State.UNKNOWN}))
    def test_is_refused_of_any_other_state(self, subject: Subject, state: State) -> None:
        bring_to(subject.ledger, state)
        before = subject.record("message-1")
        assert subject.ledger.resolve_sent(kept(subject), "gw-7", by="alex", now=NOW) == before
        assert subject.ledger.resolve_not_sent(kept(subject), by="alex", now=NOW) == before
        assert subject.record("message-1") == before
        assert {step.what for step in history(subject) if not step.attempt} <= {"recalled"}  # 0: an operator's action

    def test_is_refused_of_a_message_that_never_was(self, subject: Subject) -> None:
        assert subject.ledger.resolve_not_sent(LedgerRecord("message-9"), by="alex", now=NOW) is not None
        assert subject.ledger.resolve_sent(LedgerRecord("message-9"), None, by="alex", now=NOW) is not None
        assert subject.record("message-9") is None

    def test_a_late_acceptance_still_wins(self, subject: Subject) -> None:
        mine = bring_to(subject.ledger, State.UNKNOWN)
        assert subject.ledger.resolve_not_sent(kept(subject), by="alex", now=NOW) is None
        assert subject.ledger.accepted(mine, "gw-1", now=NOW) is None
        assert state_of(subject) is State.ACCEPTED


class TestReplaceRefused:
    MENDED = wanted(payload_sha256="b" * 64, on_unknown="hold", reference="new")

    def test_the_mended_message_is_claimed_anew_with_all_its_attempts(self, subject: Subject) -> None:
        """Nothing of the refused message applies to it, such as its looser `on_unknown`."""
        refused_one = wanted(on_unknown="resend", reference="old", queued_at="2026-01-01T00:00:00.000Z")
        bring_to(subject.ledger, State.REJECTED, refused_one)
        read = refused(subject.ledger, self.MENDED)
        assert subject.ledger.replace_refused(read, self.MENDED, now=NOW) is None
        assert subject.ledger.count_undecided(State.RETRY) == 1
        got = claim(subject.ledger, self.MENDED, owner="next")
        assert (got.payload_sha256, got.on_unknown, got.reference, got.queued_at) == ("b" * 64, "hold", "new", None)
        assert (got.attempts, got.uncounted_attempts, got.refused_payloads) == (2, 1, frozenset({"a" * 64}))
        assert (got.reason, got.detail, got.rejected_at) == ("", "", None)
        assert {step.what for step in history(subject)} == {"claimed", "rejected", "replaced"}

    def test_the_refused_one_is_refused_from_then_on(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.REJECTED)
        read = refused(subject.ledger, self.MENDED)
        subject.ledger.replace_refused(read, self.MENDED, now=NOW)
        assert refused(subject.ledger).payload_sha256 == "b" * 64
        assert subject.ledger.reopen(read, by="alex", now=NOW) is not None
        assert subject.ledger.replace_refused(read, self.MENDED, now=NOW) is not None
        subject.ledger.rejected(claim(subject.ledger, self.MENDED, owner="next"), "rejected", "refused", now=NOW)
        assert subject.ledger.reopen(read, by="alex", now=NOW) is not None
        assert kept(subject).state is State.REJECTED

    def test_one_that_was_never_claimed_is_not_reopened_in_place_of_the_mended_one(self, subject: Subject) -> None:
        """Neither record has an owner, so only the payload distinguishes them."""
        assert subject.ledger.too_old(wanted(), "attempts_exhausted", now=NOW) is None
        read = kept(subject)
        assert subject.ledger.replace_refused(read, self.MENDED, now=NOW) is None
        assert subject.ledger.too_old(self.MENDED, "attempts_exhausted", now=NOW) is None
        assert subject.ledger.reopen(read, by="alex", now=NOW) is not None
        assert subject.ledger.reopen(kept(subject), by="alex", now=NOW) is None

    @pytest.mark.parametrize("state", sorted(set(State) - {State.REJECTED}))
    def test_no_other_state_can_be_replaced(self, subject: Subject, state: State) -> None:
        bring_to(subject.ledger, state)
        before = kept(subject)
        assert subject.ledger.replace_refused(before._replace(state=State.REJECTED), self.MENDED, now=NOW) == before
        assert subject.record("message-1") == before

    def test_no_message_with_an_unknown_outcome_can_be_replaced(self, subject: Subject) -> None:
        after_an_unknown_outcome(subject.ledger)
        read = refused(subject.ledger)
        assert subject.ledger.replace_refused(read, self.MENDED, now=NOW) == read


class TestReopen:
    def test_a_rejected_message_can_be_claimed_again_with_all_its_tries(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.REJECTED)
        assert subject.ledger.reopen(refused(subject.ledger), by="alex", now=NOW) is None
        assert state_of(subject) is State.RETRY
        assert "alex" in {step.words for step in history(subject)}
        assert subject.ledger.count_undecided(State.RETRY) == 1
        got = claim(subject.ledger, owner="next")
        assert (got.attempts, got.uncounted_attempts) == (2, 1)

    @pytest.mark.parametrize("state", sorted(set(State) - {State.REJECTED}))
    def test_is_refused_of_any_other_state(self, subject: Subject, state: State) -> None:
        bring_to(subject.ledger, state)
        before = subject.record("message-1")
        assert before is not None
        assert subject.ledger.reopen(before._replace(state=State.REJECTED), by="alex", now=NOW) == before
        assert subject.record("message-1") == before

    def test_is_refused_after_an_unknown_outcome(self, subject: Subject) -> None:
        after_an_unknown_outcome(subject.ledger)
        read = refused(subject.ledger)
        assert subject.ledger.reopen(read, by="alex", now=NOW) == read
        assert state_of(subject) is State.REJECTED

    def test_once_an_operator_resolved_every_unknown_outcome_as_not_sent(self, subject: Subject) -> None:
        after_an_unknown_outcome(subject.ledger)
        assert subject.ledger.resolve_not_sent(kept(subject), by="alex", now=NOW) is None
        again = claim(subject.ledger, owner="last")
        assert subject.ledger.rejected(again, "rejected", "gateway: refused", now=NOW) is None
        assert subject.ledger.reopen(kept(subject), by="alex", now=NOW) is None
        assert state_of(subject) is State.RETRY

    def test_is_refused_if_it_was_rejected_anew(self, subject: Subject) -> None:
        bring_to(subject.ledger, State.REJECTED)
        read = refused(subject.ledger)
        assert subject.ledger.reopen(read, by="alex", now=NOW) is None
        again = claim(subject.ledger, owner="next")
        assert subject.ledger.rejected(again, "rejected", "gateway: refused", now=NOW) is None
        assert subject.ledger.reopen(read, by="alex", now=NOW) is not None
        assert state_of(subject) is State.REJECTED
