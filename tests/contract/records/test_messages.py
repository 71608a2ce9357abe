"""Every rule of `records.messages.Messages`, in memory and in DynamoDB."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any, cast

import pytest

from optus_sms.model.callbacks import ReplyCallback, StatusCallback
from optus_sms.model.statuses import FAILURE_STATUSES, FINAL_STATUSES, STATUS_RANK
from optus_sms.records.items import MessageRecord
from optus_sms.records.messages import (
    CONVERSATION_INDEX,
    MAX_REPEATS,
    Applied,
    Awaiting,
    IdTakenError,
    Messages,
)
from optus_sms.records.table import Item, Refused, Table, shard
from optus_sms.records.updates import Update
from tests.support.aws import create_table
from tests.support.builders import HANDSET, NOW, sent_message
from tests.support.fakes import MemoryMessages

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

RETENTION_DAYS = 90
DAY = 86_400
AT = "2026-01-01T00:00:00.000Z"
LATER = "2026-01-01T00:01:00.000Z"
MORE_THAN_KEPT = 25


@dataclass(frozen=True)
class Subject:
    """The records, with access to a stored item by ID; empty if there is none."""

    store: Messages
    row: Callable[[str], Item]
    forget: Callable[[str], object]


def _in_memory() -> Subject:
    store = MemoryMessages(retention_days=RETENTION_DAYS)
    return Subject(store, store.table.get, lambda key: store.items.pop(key, None))


def _in_dynamodb(client: DynamoDBClient) -> Subject:
    table = create_table(client, "MessagesTable")

    return Subject(
        Messages.connect(client, table, retention_days=RETENTION_DAYS),
        Table(client, table, key="id").get,
        lambda key: client.delete_item(TableName=table, Key={"id": {"S": key}}),
    )


def without(row: Item, name: str) -> Item:
    return {key: value for key, value in row.items() if key != name}


@pytest.fixture
def subject(client: DynamoDBClient | None) -> Subject:
    return _in_dynamodb(client) if client else _in_memory()


@pytest.fixture
def store(subject: Subject) -> Messages:
    return subject.store


def status(name: str | None, *, detail: str | None = None, reference: str | None = None) -> StatusCallback:
    return StatusCallback("gw-1", name, detail, reference)


def reply(gateway_id: str = "mo-1", **changes: Any) -> ReplyCallback:
    values: dict[str, Any] = {"source": HANDSET, "destination": "+61400000000", "content": "Yes please"}
    return ReplyCallback(gateway_id, **(values | changes))


class TestRecordSent:
    def test_writes_the_senders_half(self, subject: Subject) -> None:
        subject.store.record_sent(*sent_message(segments=3, reference="costs-42"), now=NOW)
        assert subject.row("gw-1") == {
            "id": "gw-1",
            "direction": "MT",
            "message_id": "message-1",
            "reference": "costs-42",
            "destination": HANDSET,
            "handset": HANDSET,
            "segments": 3,
            "has_sender_id": False,
            "status": "accepted",
            "status_rank": 0,
            "accepted_at": AT,
            "created_at": AT,
            "ttl": int(NOW) + RETENTION_DAYS * DAY,
            "awaiting": shard(Awaiting.STATUS, "gw-1"),
            "look_at": int(NOW) + DAY,
        }

    def test_again_keeps_the_times_and_moves_the_ttl(self, subject: Subject) -> None:
        subject.store.record_sent(*sent_message(), now=NOW)
        before = subject.row("gw-1")
        subject.store.record_sent(*sent_message(), now=NOW + 60)
        later = {"ttl": int(NOW) + 60 + RETENTION_DAYS * DAY, "look_at": int(NOW) + 60 + DAY}
        assert subject.row("gw-1") == before | later

    @pytest.mark.parametrize("days", [1, 7, 30, 90])
    def test_of_a_scheduled_message_is_kept_from_its_schedule_and_outlasts_the_last_request(
        self, subject: Subject, monkeypatch: pytest.MonkeyPatch, days: int
    ) -> None:
        store, at = subject.store, NOW + 45 * DAY
        monkeypatch.setattr(store, "_keep_seconds", days * DAY)
        least = int(at) + max(days * DAY, 12 * DAY)  # it is given up eleven days after `scheduled` (docs/outages.md)
        store.record_status(status("queued", reference="message-1"), now=NOW)
        store.record_sent(*sent_message(scheduled_at=int(at)), now=NOW)
        assert subject.row("gw-1")["ttl"] == least
        for name in ("queued", "queued", "sent", "flying", None, "accepted"):
            store.record_status(status(name, detail=name), now=NOW + 60)
            store.record_sent(*sent_message(destination=None, segments=None), now=NOW + 60)
            store.await_message("gw-1", now=NOW + 60)
            store.look_again("gw-1", Awaiting.STATUS, at=at)
        assert (subject.row("gw-1")["ttl"], subject.row("gw-1")["look_at"]) == (least, at)
        store.record_sent(*sent_message(scheduled_at=int(at)), now=NOW + 50 * DAY)
        assert subject.row("gw-1")["ttl"] == least + 5 * DAY

    def test_does_not_set_a_status_back(self, subject: Subject) -> None:
        subject.store.record_status(status("received", detail="on the handset"), now=NOW)
        subject.store.record_sent(*sent_message(), now=NOW + 60)
        row = subject.row("gw-1")
        assert (row["status"], row["detail"], row["received_at"]) == ("received", "on the handset", AT)
        assert (row["message_id"], row["destination"], row["accepted_at"]) == ("message-1", HANDSET, LATER)

    def test_without_a_destination_is_in_nobodys_conversation(self, subject: Subject) -> None:
        """A callback proved the send after the ledger had removed the destination."""
        subject.store.record_sent(*sent_message(destination=None, segments=None), now=NOW)
        row = subject.row("gw-1")
        assert row["message_id"] == "message-1"
        assert not {"destination", "handset", "created_at", "segments", "has_sender_id"} & row.keys()
        assert subject.store.latest_sent_to(HANDSET, since=NOW - DAY, until=NOW + DAY) is None

    def test_without_what_is_not_known_changes_nothing_that_is(self, subject: Subject) -> None:
        subject.store.record_sent(*sent_message(segments=2, has_sender_id=True), now=NOW)
        before = subject.row("gw-1")
        subject.store.record_sent(*sent_message(destination=None, segments=None), now=NOW)
        assert subject.row("gw-1") == before

    def test_with_the_destination_later_completes_the_conversation(self, subject: Subject) -> None:
        subject.store.record_sent(*sent_message(destination=None, segments=None), now=NOW)
        subject.store.record_sent(*sent_message(), now=NOW + 60)
        assert subject.row("gw-1")["created_at"] == LATER
        assert subject.store.latest_sent_to(HANDSET, since=NOW - DAY, until=NOW + DAY) == "gw-1"


class TestRecordStatus:
    @pytest.mark.parametrize("name", STATUS_RANK)
    def test_first_of_a_message_nobody_knows(self, subject: Subject, name: str) -> None:
        result = subject.store.record_status(status(name, detail="why", reference="message-1"), now=NOW)
        expected: Item = {
            "id": "gw-1",
            "direction": "MT",
            "status": name,
            "status_rank": STATUS_RANK[name],
            "detail": "why",
            "reference": "message-1",
            f"{name}_at": AT,
            "ttl": int(NOW) + RETENTION_DAYS * DAY,
        }
        assert subject.row("gw-1") == expected
        assert result.message == MessageRecord.from_item(expected)
        assert (result.applied, result.message.is_contradictory) == (Applied.APPLIED, False)

    def test_higher_one_wins_with_its_own_detail(self, subject: Subject) -> None:
        subject.store.record_status(status("failed", detail="no route"), now=NOW)
        result = subject.store.record_status(status("submitted"), now=NOW + 60)
        row = subject.row("gw-1")
        assert result.applied is Applied.APPLIED
        assert result.message == MessageRecord.from_item(row)
        assert (row["status"], row["failed_at"], row["submitted_at"]) == ("submitted", AT, LATER)
        assert "detail" not in row  # it belonged to `failed`

    def test_lower_one_is_stale_but_its_time_is_kept(self, subject: Subject) -> None:
        subject.store.record_status(status("received", detail="on the handset"), now=NOW)
        result = subject.store.record_status(status("sent", detail="to the carrier"), now=NOW + 60)
        row = subject.row("gw-1")
        assert result.applied is Applied.STALE
        assert result.message == MessageRecord.from_item(row)
        assert (row["status"], row["detail"], row["sent_at"]) == ("received", "on the handset", LATER)

    @pytest.mark.parametrize("detail", [None, "delivered"])
    @pytest.mark.parametrize("references", [(None, "costs-42"), ("costs-42", None)])
    def test_a_reference_that_only_one_of_two_repeats_has_is_kept(
        self, subject: Subject, references: tuple[str | None, str | None], detail: str | None
    ) -> None:
        first, second = references
        subject.store.record_status(status("sent", reference=first), now=NOW)
        result = subject.store.record_status(status("sent", reference=second, detail=detail), now=NOW)
        assert (result.applied, result.message.reference) == (Applied.DUPLICATE, "costs-42")

    def test_of_two_details_of_one_status_the_greater_is_kept(self, subject: Subject) -> None:
        """Without a fixed choice the item would depend on the order of the callbacks."""
        for detail in (None, "b", "a", "c", None):
            result = subject.store.record_status(status("failed", detail=detail), now=NOW)
        assert result.applied is Applied.DUPLICATE
        assert subject.row("gw-1")["detail"] == "c"
        assert subject.store.record_status(status("failed", detail="d"), now=NOW).message.detail == "d"

    def test_a_greater_detail_of_a_status_that_another_replaced_meanwhile_is_dropped(
        self, subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = subject.store
        store.record_status(status("failed", detail="a"), now=NOW)
        update = store._update

        def meanwhile(gateway_id: str, change: Update, now: float) -> MessageRecord | Refused:
            if change.values.get("detail") == "z" and "status" not in change.values:
                monkeypatch.setattr(store, "_update", update)
                store.record_status(status("received", detail="on the handset"), now=NOW)
            return update(gateway_id, change, now)

        monkeypatch.setattr(store, "_update", meanwhile)
        result = store.record_status(status("failed", detail="z"), now=NOW)
        assert (result.message.status, result.message.detail) == ("received", "on the handset")
        assert subject.row("gw-1")["detail"] == "on the handset"

    @pytest.mark.parametrize("first", ["sent", "received"])
    def test_again_changes_nothing_but_keeps_that_it_came(self, subject: Subject, first: str) -> None:
        subject.store.record_status(status("sent", detail="x"), now=NOW)
        subject.store.record_status(status("received", detail="x"), now=NOW)
        before = subject.row("gw-1")
        result = subject.store.record_status(status(first, detail="x"), now=NOW + 60)
        assert result.applied is Applied.DUPLICATE
        assert result.message == MessageRecord.from_item(subject.row("gw-1"))
        assert without(subject.row("gw-1"), "ttl") == without(before, "ttl") | {
            "repeats": frozenset({f"{LATER} {first}"})
        }

    def test_again_with_a_greater_detail_keeps_that_it_came(self, subject: Subject) -> None:
        subject.store.record_status(status("received", detail="x"), now=NOW)
        subject.store.record_status(status("received", detail="y"), now=NOW + 60)
        row = subject.row("gw-1")
        assert (row["detail"], row["repeats"]) == ("y", frozenset({f"{LATER} received"}))

    def test_a_write_that_the_sdk_repeats_is_no_repeat(self, subject: Subject) -> None:
        for _ in range(2):
            subject.store.record_status(status("received"), now=NOW)
        assert "repeats" not in subject.row("gw-1")

    def test_only_so_many_repeats_are_kept(self, subject: Subject) -> None:
        for second in range(MAX_REPEATS + 5):
            result = subject.store.record_status(status("received"), now=NOW + second)
        assert result.message == MessageRecord.from_item(subject.row("gw-1"))
        assert len(result.message.repeats) == MAX_REPEATS

    def test_accepted_after_our_own_write_is_a_duplicate(self, store: Messages) -> None:
        store.record_sent(*sent_message(), now=NOW)
        assert store.record_status(status("accepted"), now=NOW).applied is Applied.DUPLICATE

    def test_reference_of_the_first_one_is_kept_until_the_sender_says_better(self, subject: Subject) -> None:
        subject.store.record_status(status("sent", reference="first"), now=NOW)
        subject.store.record_status(status("received", reference="second"), now=NOW)
        assert subject.row("gw-1")["reference"] == "first"
        subject.store.record_sent(*sent_message(reference="mine"), now=NOW)
        assert subject.row("gw-1")["reference"] == "mine"

    def test_without_a_status_only_says_that_there_is_a_message(self, subject: Subject) -> None:
        subject.store.record_status(status("sent"), now=NOW)
        result = subject.store.record_status(status(None, reference="message-1"), now=NOW)
        row = subject.row("gw-1")
        assert (result.applied, result.message) == (Applied.NO_STATUS, MessageRecord.from_item(row))
        assert (row["status"], row["reference"]) == ("sent", "message-1")

    @pytest.mark.parametrize("failure", sorted(FAILURE_STATUSES))
    @pytest.mark.parametrize("received_first", [True, False])
    def test_failure_and_received_contradict_each_other(
        self, store: Messages, failure: str, received_first: bool
    ) -> None:
        order = ["received", failure] if received_first else [failure, "received"]
        first, second = (store.record_status(status(name), now=NOW) for name in order)
        assert (first.message.is_contradictory, second.message.is_contradictory) == (False, True)
        assert second.message.status == "received"

    def test_failed_and_received_do_not(self, store: Messages) -> None:
        """The gateway tries again after `failed`."""
        store.record_status(status("failed"), now=NOW)
        assert not store.record_status(status("received"), now=NOW).message.is_contradictory


class TestUnknownStatuses:
    def test_are_kept_apart_and_never_become_the_status(self, subject: Subject) -> None:
        subject.store.record_status(status("sent"), now=NOW)
        for name in ("paused", "flying", "paused"):
            result = subject.store.record_status(status(name), now=NOW)
            assert result.applied is Applied.UNKNOWN_STATUS
        row = subject.row("gw-1")
        assert row["status"] == "sent"
        assert row["unknown_statuses"] == frozenset({"paused", "flying"})

    def test_are_bounded(self, subject: Subject) -> None:
        for number in range(MORE_THAN_KEPT):
            subject.store.record_status(status(f"new-{number}"), now=NOW)
        kept = subject.row("gw-1")["unknown_statuses"]
        assert kept == frozenset(f"new-{number}" for number in range(20))
        full = subject.row("gw-1")
        result = subject.store.record_status(status("one more"), now=NOW + 60)
        assert (result.applied, result.message) == (Applied.DUPLICATE, MessageRecord.from_item(full))
        assert subject.row("gw-1") == full

    def test_do_not_keep_a_status_out(self, subject: Subject) -> None:
        subject.store.record_status(status("flying"), now=NOW)
        subject.store.record_status(status("received"), now=NOW)
        assert subject.row("gw-1")["status"] == "received"


# The events by the names that a failing test shows; all have the same time.
Event = Callable[[Messages], object]
EVENTS: dict[str, Event] = {
    "our write": lambda store: store.record_sent(*sent_message(), now=NOW),
    "accepted": lambda store: store.record_status(status("accepted", detail="queued for sending"), now=NOW),
    "accepted bare": lambda store: store.record_status(status("accepted"), now=NOW),
    "sent": lambda store: store.record_status(status("sent", reference="message-1"), now=NOW),
    "failed bare": lambda store: store.record_status(status("failed"), now=NOW),
    "failed": lambda store: store.record_status(status("failed", detail="no route"), now=NOW),
    "failed again": lambda store: store.record_status(status("failed", detail="no credit"), now=NOW),
    "submitted": lambda store: store.record_status(status("submitted"), now=NOW),
    "expired": lambda store: store.record_status(status("expired", detail="48 hours"), now=NOW),
    "rejected": lambda store: store.record_status(status("rejected", detail="barred"), now=NOW),
    "dead": lambda store: store.record_status(status("dead"), now=NOW),
    "received": lambda store: store.record_status(status("received", detail="on the handset"), now=NOW),
    "unknown": lambda store: store.record_status(status("flying"), now=NOW),
    "no status": lambda store: store.record_status(status(None, reference="message-1"), now=NOW),
}
SETS: dict[str, Sequence[str]] = {
    "delivered": ["our write", "sent", "submitted", "failed", "received"],
    "every kind of final": ["our write", "expired", "rejected", "dead", "received"],
    "accepted said twice": ["our write", "accepted", "accepted bare", "unknown", "no status"],
    "details that differ": ["our write", "failed bare", "failed", "failed again", "no status"],
    "never delivered": ["our write", "failed", "failed again", "rejected", "dead"],
}


@pytest.mark.parametrize("names", SETS.values(), ids=SETS)
class TestEveryOrderWithRepeatsEndsInOneRow:
    def test_in_memory(self, names: Sequence[str]) -> None:
        assert_one_end(_in_memory(), list(permutations(names)))

    def test_in_dynamodb_for_some(self, dynamodb: DynamoDBClient, names: Sequence[str]) -> None:
        orders = random.Random("orders").sample(list(permutations(names)), k=12)
        assert_one_end(_in_dynamodb(dynamodb), orders)

    @pytest.mark.deep
    def test_in_dynamodb_for_all(self, dynamodb: DynamoDBClient, names: Sequence[str]) -> None:
        assert_one_end(_in_dynamodb(dynamodb), list(permutations(names)))


def test_every_order_of_seven_events_ends_in_one_row() -> None:
    names = ["our write", "accepted", "sent", "failed", "failed again", "rejected", "dead"]
    assert_one_end(_in_memory(), list(permutations(names)))


def assert_one_end(subject: Subject, orders: Sequence[Sequence[str]]) -> None:
    """Play the events in each order, with repeats, and compare the items."""
    chance = random.Random("repeats")
    ends: dict[str, str] = {}
    for order in orders:
        played = [*order, *chance.choices(order, k=3)]
        subject.forget("gw-1")
        for name in played:
            EVENTS[name](subject.store)
        ends.setdefault(str(sorted(subject.row("gw-1").items())), " → ".join(played))
    assert len(ends) == 1, "\n".join(f"{order}: {row}" for row, order in ends.items())


class TestRecordReply:
    def test_keeps_all_of_it(self, subject: Subject) -> None:
        assert subject.store.record_reply(
            reply(operator="Optus", reference="costs-42", encoding="base64", decoded=True),
            in_reply_to="gw-1",
            exact=True,
            now=NOW,
        ).is_new
        assert subject.row("mo-1") == {
            "id": "mo-1",
            "direction": "MO",
            "source": HANDSET,
            "handset": HANDSET,
            "destination": "+61400000000",
            "content": "Yes please",
            "operator": "Optus",
            "encoding": "base64",
            "decoded": True,
            "reference": "costs-42",
            "in_reply_to": "gw-1",
            "reply_match": "exact",
            "received_at": AT,
            "created_at": AT,
            "ttl": int(NOW) + RETENTION_DAYS * DAY,
        }

    def test_says_when_its_match_was_inferred(self, subject: Subject) -> None:
        subject.store.record_reply(reply(), in_reply_to="gw-1", exact=False, now=NOW)
        assert subject.row("mo-1")["reply_match"] == "inferred"

    def test_without_a_match_has_none(self, subject: Subject) -> None:
        subject.store.record_reply(reply(), in_reply_to=None, exact=False, now=NOW)
        assert not {"in_reply_to", "reply_match", "encoding", "decoded"} & subject.row("mo-1").keys()

    def test_with_nothing_but_an_id_is_kept(self, subject: Subject) -> None:
        assert subject.store.record_reply(ReplyCallback("mo-1"), in_reply_to=None, exact=False, now=NOW).is_new
        assert subject.row("mo-1")["direction"] == "MO"
        assert "handset" not in subject.row("mo-1")

    def test_is_stored_once(self, subject: Subject) -> None:
        assert subject.store.record_reply(reply(), in_reply_to=None, exact=False, now=NOW).is_new
        before = subject.row("mo-1")
        again = reply(content="Something else")
        for _ in range(2):
            assert not subject.store.record_reply(again, in_reply_to="gw-1", exact=True, now=NOW + 60).is_new
        kept = {"repeats": frozenset({f"{LATER} reply"})}
        assert without(subject.row("mo-1"), "ttl") == without(before, "ttl") | kept

    def test_a_write_that_the_sdk_repeats_is_no_repeat(self, subject: Subject) -> None:
        for is_new in (True, False):
            assert subject.store.record_reply(reply(), in_reply_to=None, exact=False, now=NOW).is_new is is_new
        assert "repeats" not in subject.row("mo-1")

    def test_only_so_many_repeats_are_kept(self, subject: Subject) -> None:
        for second in range(MAX_REPEATS + 5):
            subject.store.record_reply(reply(), in_reply_to=None, exact=False, now=NOW + second)
        assert len(cast("frozenset[str]", subject.row("mo-1")["repeats"])) == MAX_REPEATS

    @pytest.mark.parametrize("name", ["received", "flying", None])
    def test_is_not_changed_by_a_status_with_its_id(self, subject: Subject, name: str | None) -> None:
        subject.store.record_reply(reply("gw-1"), in_reply_to=None, exact=False, now=NOW)
        before = subject.row("gw-1")
        with pytest.raises(IdTakenError):
            subject.store.record_status(status(name), now=NOW + 60)
        assert subject.row("gw-1") == before

    @pytest.mark.parametrize("by_callback", [True, False])
    def test_with_the_id_of_a_sent_message_is_refused(self, subject: Subject, by_callback: bool) -> None:
        if by_callback:
            subject.store.record_status(status("received"), now=NOW)
        else:
            subject.store.record_sent(*sent_message(), now=NOW)
        before = subject.row("gw-1")
        with pytest.raises(IdTakenError):
            subject.store.record_reply(reply("gw-1"), in_reply_to=None, exact=False, now=NOW)
        assert subject.row("gw-1") == before


class TestErase:
    PERSONAL = ("handset", "destination", "source", "content", "operator", "segments", "detail")

    def test_a_message_keeps_its_ids_and_statuses_only(self, subject: Subject) -> None:
        subject.store.record_sent(*sent_message(segments=3), now=NOW)
        subject.store.record_status(status("failed", detail=f"no route to {HANDSET}"), now=NOW)
        before = subject.row("gw-1")
        subject.store.erase("gw-1", HANDSET, now=NOW + 60)
        expected = {name: value for name, value in before.items() if name not in self.PERSONAL}
        assert subject.row("gw-1") == expected | {"erased_at": LATER}
        assert list(subject.store.conversation(HANDSET)) == []

    def test_what_the_index_still_lists_after_it_is_in_no_conversation(
        self, store: Messages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.record_sent(*sent_message(), now=NOW)
        store.record_reply(reply(), in_reply_to=None, exact=False, now=NOW)
        listed = list(store._table.query(CONVERSATION_INDEX, ("handset", HANDSET)))
        for entry in listed:
            store.erase(str(entry["id"]), HANDSET, now=NOW)
        monkeypatch.setattr(store._table, "query", lambda *_, **__: iter(listed))
        assert [*store.conversation(HANDSET), *store.replies_from(HANDSET)] == []

    def test_another_handsets_message_stays(self, subject: Subject) -> None:
        subject.store.record_sent(*sent_message(), now=NOW)
        before = subject.row("gw-1")
        subject.store.erase("gw-1", "+61400000000", now=NOW + 60)
        subject.store.erase("gw-2", HANDSET, now=NOW + 60)
        assert (subject.row("gw-1"), subject.row("gw-2")) == (before, {})

    def test_nothing_that_comes_later_brings_the_number_back(self, subject: Subject) -> None:
        """A repeated write of the sender function, statuses whose text quotes the number, and a repeated reply."""
        store = subject.store
        store.record_sent(*sent_message(), now=NOW)
        store.record_reply(reply(), in_reply_to="gw-1", exact=True, now=NOW)
        for gateway_id in ("gw-1", "mo-1"):
            store.erase(gateway_id, HANDSET, now=NOW)
        assert store.record_sent(*sent_message(), status="sent", detail=HANDSET, now=NOW + 60) is None
        quoting = f"refused for {HANDSET}"
        steps = [(name, quoting) for name in ("sent", "rejected", "rejected", "expired", "received")]
        for name, detail in [*steps, ("received", f"z {quoting}")]:
            store.record_status(status(name, detail=detail), now=NOW + 60)
            assert HANDSET[-6:] not in str(subject.row("gw-1"))
        assert not store.record_reply(reply(), in_reply_to="gw-1", exact=True, now=NOW + 60).is_new
        assert HANDSET[-6:] not in str(subject.row("mo-1"))
        row = subject.row("gw-1")
        assert (row["status"], row["detail"], row["message_id"]) == ("received", "z refused for …", "message-1")
        assert "content" not in subject.row("mo-1")

    def test_a_new_reply_is_kept_as_any_other(self, subject: Subject) -> None:
        subject.store.record_sent(*sent_message(), now=NOW)
        subject.store.erase("gw-1", HANDSET, now=NOW)
        assert subject.store.record_reply(reply(), in_reply_to=None, exact=False, now=NOW + 60).is_new
        assert subject.row("mo-1")["handset"] == HANDSET


def test_read_gives_the_record_as_it_is(subject: Subject) -> None:
    assert subject.store.read("gw-1") is None
    subject.store.record_sent(*sent_message(), now=NOW)
    subject.store.record_reply(reply(), in_reply_to=None, exact=False, now=NOW)
    found = [subject.store.read(gateway_id) for gateway_id in ("gw-1", "mo-1")]
    assert [(record.direction, record.handset) for record in found if record] == [("MT", HANDSET), ("MO", HANDSET)]


class TestLatestSentTo:
    def test_is_the_latest_of_this_handset(self, store: Messages) -> None:
        store.record_sent(*sent_message("gw-1"), now=NOW)
        store.record_sent(*sent_message("gw-2"), now=NOW + 10)
        store.record_sent(*sent_message("gw-3", destination="+61491570156"), now=NOW + 20)
        assert store.latest_sent_to(HANDSET, since=NOW - DAY, until=NOW + DAY) == "gw-2"

    def test_skips_masked_ones_because_nobody_can_reply_to_them(self, store: Messages) -> None:
        store.record_sent(*sent_message("gw-1"), now=NOW)
        store.record_sent(*sent_message("gw-2", has_sender_id=True), now=NOW + 10)
        assert store.latest_sent_to(HANDSET, since=NOW - DAY, until=NOW + DAY) == "gw-1"

    def test_a_conversation_has_the_whole_items_though_its_index_has_not(self, store: Messages) -> None:
        store.record_sent(*sent_message("gw-1"), now=NOW)
        answer = store.record_reply(reply(), in_reply_to=None, exact=False, now=NOW + DAY).record
        first, *_ = conversation = list(store.conversation(HANDSET))
        assert isinstance(first, MessageRecord)
        assert first.status == "accepted"
        assert answer in conversation
        assert list(store.replies_from(HANDSET)) == [answer]

    def test_skips_the_other_side_of_the_conversation(self, store: Messages) -> None:
        store.record_sent(*sent_message("gw-1"), now=NOW)
        store.record_reply(reply(), in_reply_to="gw-1", exact=True, now=NOW + 10)
        assert store.latest_sent_to(HANDSET, since=NOW - DAY, until=NOW + DAY) == "gw-1"

    def test_counts_from_since_on(self, store: Messages) -> None:
        store.record_sent(*sent_message("gw-1"), now=NOW)
        assert store.latest_sent_to(HANDSET, since=NOW, until=NOW + DAY) == "gw-1"
        assert store.latest_sent_to(HANDSET, since=NOW + 0.001, until=NOW + DAY) is None

    def test_a_scheduled_one_counts_from_when_it_leaves_the_gateway(self, store: Messages) -> None:
        store.record_sent(*sent_message("gw-1"), now=NOW)
        store.record_sent(*sent_message("gw-2", scheduled_at=NOW + DAY), now=NOW + 10)
        assert store.latest_sent_to(HANDSET, since=NOW - DAY, until=NOW + DAY - 1) == "gw-1"
        assert store.latest_sent_to(HANDSET, since=NOW - DAY, until=NOW + DAY) == "gw-2"

    def test_of_nobody_is_none(self, store: Messages) -> None:
        assert store.latest_sent_to(HANDSET, since=0.0, until=NOW + DAY) is None


def due(store: Messages, awaiting: Awaiting, *, now: float, limit: int = 100) -> list[str]:
    return sorted(message.id for message in store.due(awaiting, now=now, limit=limit))


class TestAwaitingAFinalStatus:
    def test_a_sent_message_is_due_a_day_later(self, store: Messages) -> None:
        store.record_sent(*sent_message(), now=NOW)
        assert due(store, Awaiting.STATUS, now=NOW + DAY - 1) == []
        assert due(store, Awaiting.STATUS, now=NOW + DAY) == ["gw-1"]
        assert due(store, Awaiting.MESSAGE, now=NOW + DAY) == []

    def test_a_scheduled_message_is_due_a_day_after_its_schedule(self, store: Messages) -> None:
        store.record_sent(*sent_message(scheduled_at=NOW + 60 * DAY), now=NOW)
        assert due(store, Awaiting.STATUS, now=NOW + 61 * DAY - 1) == []
        assert due(store, Awaiting.STATUS, now=NOW + 61 * DAY) == ["gw-1"]

    @pytest.mark.parametrize("name", sorted(FINAL_STATUSES))
    @pytest.mark.parametrize("callback_first", [False, True])
    def test_a_final_status_ends_it(self, subject: Subject, name: str, callback_first: bool) -> None:
        if callback_first:
            subject.store.record_status(status(name), now=NOW)
        subject.store.record_sent(*sent_message(), now=NOW)
        subject.store.record_status(status(name), now=NOW)
        assert subject.store.count_awaiting(Awaiting.STATUS) == 0
        assert {"awaiting", "look_at"}.isdisjoint(subject.row("gw-1"))

    @pytest.mark.parametrize("name", sorted(set(STATUS_RANK) - FINAL_STATUSES))
    def test_another_status_does_not(self, store: Messages, name: str) -> None:
        store.record_sent(*sent_message(), now=NOW)
        store.record_status(status(name), now=NOW)
        assert store.count_awaiting(Awaiting.STATUS) == 1

    def test_looking_again_counts_and_moves_the_time(self, subject: Subject) -> None:
        subject.store.record_sent(*sent_message(), now=NOW)
        subject.store.look_again("gw-1", Awaiting.STATUS, at=NOW + 2 * DAY)
        subject.store.look_again("gw-1", Awaiting.STATUS, at=NOW + 4 * DAY)
        assert subject.row("gw-1")["looks"] == 2
        assert due(subject.store, Awaiting.STATUS, now=NOW + 4 * DAY - 1) == []
        assert due(subject.store, Awaiting.STATUS, now=NOW + 4 * DAY) == ["gw-1"]

    def test_looking_again_does_not_bring_back_what_a_callback_has_ended(self, subject: Subject) -> None:
        subject.store.record_sent(*sent_message(), now=NOW)
        subject.store.record_status(status("received"), now=NOW)
        ended = subject.row("gw-1")
        subject.store.look_again("gw-1", Awaiting.STATUS, at=NOW + DAY)
        subject.store.give_up("gw-1", Awaiting.STATUS, now=NOW + DAY)
        assert subject.row("gw-1") == ended

    def test_after_giving_up_a_late_callback_still_counts(self, subject: Subject) -> None:
        subject.store.record_sent(*sent_message(), now=NOW)
        subject.store.give_up("gw-1", Awaiting.STATUS, now=NOW)
        assert subject.row("gw-1")["unresolved_at"] == AT
        assert subject.store.count_awaiting(Awaiting.STATUS) == 0
        assert subject.store.record_status(status("received"), now=NOW + 60).applied is Applied.APPLIED
        assert subject.row("gw-1")["status"] == "received"

    def test_no_more_are_due_than_asked_for_and_none_is_forgotten(self, store: Messages) -> None:
        ids = [f"gw-{number}" for number in range(40)]
        for gateway_id in ids:
            store.record_sent(*sent_message(gateway_id), now=NOW)
        assert store.count_awaiting(Awaiting.STATUS) == 40
        seen: set[str] = set()
        for _ in range(40):
            some = due(store, Awaiting.STATUS, now=NOW + DAY, limit=8)
            assert len(some) <= 8
            seen |= set(some)
            for gateway_id in some:
                store.give_up(gateway_id, Awaiting.STATUS, now=NOW + DAY)
        assert seen == set(ids)


class TestAwaitingAMessage:
    def test_a_row_without_a_message_is_due_minutes_later(self, store: Messages) -> None:
        store.record_status(status("received", reference="message-1"), now=NOW)
        store.await_message("gw-1", now=NOW)
        assert due(store, Awaiting.MESSAGE, now=NOW + 599) == []
        assert due(store, Awaiting.MESSAGE, now=NOW + 600) == ["gw-1"]
        assert store.count_awaiting(Awaiting.MESSAGE) == 1

    def test_a_row_with_a_message_waits_for_none(self, store: Messages) -> None:
        store.record_sent(*sent_message(), now=NOW)
        store.await_message("gw-1", now=NOW)
        assert store.count_awaiting(Awaiting.MESSAGE) == 0
        assert store.count_awaiting(Awaiting.STATUS) == 1

    def test_no_row_is_made_for_it(self, subject: Subject) -> None:
        subject.store.await_message("gw-1", now=NOW)
        assert subject.row("gw-1") == {}

    def test_the_senders_half_ends_it(self, store: Messages) -> None:
        store.record_status(status("sent", reference="message-1"), now=NOW)
        store.await_message("gw-1", now=NOW)
        store.record_sent(*sent_message(), now=NOW)
        assert store.count_awaiting(Awaiting.MESSAGE) == 0
        assert due(store, Awaiting.STATUS, now=NOW + DAY) == ["gw-1"]
