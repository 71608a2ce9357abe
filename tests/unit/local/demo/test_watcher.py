"""The watcher's handling of the dead-letter queue, of events, and of items that were edited by hand."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import EndpointConnectionError

from local.aws.stack import LocalStack
from local.aws.table_stream import lambda_record
from local.demo import watcher
from local.demo.watcher import (
    LOOK_AGAIN_SECONDS,
    PAUSE_FOR_DEAD_LETTERS,
    Watcher,
    _DeadLetterQueue,
    _EventFeed,
    _readable_change,
)
from optus_sms.records.changes import Change
from optus_sms.records.items import LedgerRecord, OptOutRecord, State
from tests.support.waiting import eventually


@dataclass
class FakeQueue:
    """The used part of SQS. `held`: dead letters that another reader hides. A receive takes `slow` seconds."""

    letters: list[str] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    slow: float = 0.0
    now: float = 100.0
    receives: int = 0
    _ours: set[str] = field(default_factory=set)

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        visible, hidden = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
        return {"Attributes": {visible: str(len(self.letters) - len(self.held)), hidden: str(len(self.held))}}

    def receive_message(self, **options: Any) -> dict[str, Any]:
        self.now += self.slow
        self.receives += 1
        seen = [name for name in self.letters if name not in self.held | self._ours]
        batch = seen[: options["MaxNumberOfMessages"]]
        self._ours |= set(batch)
        attributes = {"reason": {"StringValue": "invalid"}}
        return {
            "Messages": [
                {"MessageId": name, "Body": name, "ReceiptHandle": name, "MessageAttributes": attributes}
                for name in batch
            ]
        }

    def change_message_visibility_batch(self, **options: Any) -> None:
        assert len(options["Entries"]) <= 10
        self._ours -= {entry["ReceiptHandle"] for entry in options["Entries"] if entry["VisibilityTimeout"] == 0}

    @property
    def all_back(self) -> bool:
        return not self._ours


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> FakeQueue:
    fake = FakeQueue()
    monkeypatch.setattr(watcher, "local_client", lambda *_: fake)
    monkeypatch.setattr(watcher, "time", SimpleNamespace(monotonic=lambda: fake.now, time=lambda: fake.now))
    return fake


def look(queue: _DeadLetterQueue) -> tuple[list[str], list[str]]:
    letters, gone = queue.look()
    return [letter.sqs_id for letter in letters], gone


def test_each_letter_is_told_once_comes_back_and_is_told_when_it_is_gone(sqs: FakeQueue) -> None:
    queue = _DeadLetterQueue("", "")
    sqs.letters = [f"l{n}" for n in range(25)]
    assert look(queue) == (sqs.letters, [])
    assert sqs.all_back
    receives = sqs.receives
    assert look(queue) == ([], [])
    assert sqs.receives == receives, "nothing new, nothing read"
    sqs.letters = [*sqs.letters[2:], "new"]
    assert look(queue) == (["new"], ["l0", "l1"])
    sqs.letters = []
    assert len(look(queue)[1]) == 24


def test_what_somebody_else_looks_at_is_not_gone_and_looked_for_again(sqs: FakeQueue) -> None:
    queue = _DeadLetterQueue("", "")
    sqs.letters = ["a", "b"]
    look(queue)
    sqs.held, sqs.letters = {"a", "c"}, ["a", "b", "c"]
    assert look(queue) == ([], [])
    assert queue.look_again_in == LOOK_AGAIN_SECONDS
    sqs.held = set()
    assert look(queue) == (["c"], [])
    assert queue.look_again_in is None


def test_of_very_many_letters_reading_takes_a_tenth_of_the_time_and_none_is_lost(sqs: FakeQueue) -> None:
    queue = _DeadLetterQueue("", "")
    sqs.slow, sqs.letters = 1.0, [f"l{n}" for n in range(30)]
    look(queue)
    took = float(sqs.receives)
    sqs.letters.append("late")
    assert look(queue) == ([], [])
    assert queue.look_again_in == PAUSE_FOR_DEAD_LETTERS * took
    sqs.now += queue.look_again_in
    assert look(queue) == (["late"], [])


def test_one_that_came_for_one_that_went_is_told_after_another_has_read(sqs: FakeQueue) -> None:
    queue = _DeadLetterQueue("", "")
    sqs.letters = ["a", "b"]
    look(queue)
    with queue.read_by_another():
        sqs.letters = ["a", "rejected again"]
        assert look(queue) == ([], [])
    assert look(queue) == (["rejected again"], ["b"])
    receives = sqs.receives
    assert look(queue) == ([], [])
    assert sqs.receives == receives, "nothing new, nothing read"


def test_at_the_end_of_the_stack_very_many_letters_are_not_read_to_their_end(sqs: FakeQueue) -> None:
    queue = _DeadLetterQueue("", "", is_ending=lambda: sqs.receives > 1)
    sqs.letters = [f"l{n}" for n in range(1000)]
    assert look(queue) == ([], [])
    assert sqs.receives == 2


def test_an_opt_out_that_was_erased_is_one_no_longer() -> None:
    deletion = lambda_record(stream_record(None, "REMOVE"), "arn")
    deletion["dynamodb"]["Keys"] = {"handset": {"S": "+61491570006"}}
    change = _readable_change(deletion)
    assert change is not None
    assert change.after == OptOutRecord("+61491570006", opted_out=False)


CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def stream_record(new: Any, kind: str = "MODIFY", old: Any = None) -> dict[str, Any]:
    """Return a record of the streams API."""
    images = {name: image for name, image in (("NewImage", new), ("OldImage", old)) if image is not None}
    dynamodb = {"ApproximateCreationDateTime": CREATED, "SequenceNumber": "1", **images}
    return {"eventID": "1", "eventName": kind, "eventVersion": "1.1", "awsRegion": "here", "dynamodb": dynamodb}


def test_an_item_with_something_in_it_that_is_never_stored_is_left_out() -> None:
    def read(**record: Any) -> Change | None:
        return _readable_change(lambda_record(stream_record(**record), "arn"))

    item = {"pk": {"S": "msg#k"}, "state": {"S": "SENDING"}, "attempts": {"N": "1"}}
    assert read(new=item | {"attempts": {"N": "many"}}) is None
    assert read(new=item | {"state": {"S": "LOST"}}) is None
    assert read(new=[item]) is None
    assert read(new=None, old=item, kind="REMOVE") is None
    assert read(new=item) == Change(None, LedgerRecord("k", State.SENDING, attempts=1), "2026-01-01T00:00:00.000Z")


@dataclass
class FakeFeed:
    """The parts of SQS and EventBridge that the feed of events uses. The next receives can fail."""

    events: list[int] = field(default_factory=list)
    failures: int = 0

    def create_queue(self, **_: Any) -> dict[str, Any]:
        return {"QueueUrl": "http://queue"}

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        return {"Attributes": {"QueueArn": "arn"}}

    def put_rule(self, **_: Any) -> None: ...

    put_targets = put_rule

    def receive_message(self, **options: Any) -> dict[str, Any]:
        if self.failures:
            self.failures -= 1
            raise EndpointConnectionError(endpoint_url="http://queue")
        batch = self.events[: options["MaxNumberOfMessages"]]
        return {"Messages": [{"Body": json.dumps({"n": n}), "ReceiptHandle": str(n)} for n in batch]} if batch else {}

    def delete_message_batch(self, **options: Any) -> None:
        gone = {int(entry["ReceiptHandle"]) for entry in options["Entries"]}
        self.events = [n for n in self.events if n not in gone]


@dataclass
class Following:
    """A running feed, and whether it has reported events to take."""

    sqs: FakeFeed
    heard: threading.Event
    feed: _EventFeed


@pytest.fixture
def following(monkeypatch: pytest.MonkeyPatch) -> Iterator[Following]:
    sqs, heard = FakeFeed(), threading.Event()
    monkeypatch.setattr(watcher, "local_client", lambda *_: sqs)
    feed = _EventFeed("http://localhost", "bus", heard.set)
    feed.start()
    yield Following(sqs, heard, feed)
    feed.stop()
    feed.join()
    assert not feed._thread.is_alive()


def test_the_queue_of_events_is_emptied_while_nobody_takes_them(following: Following) -> None:
    following.sqs.events = list(range(25))
    following.feed.activity.set()
    eventually(lambda: not following.sqs.events, "emptied")
    assert following.heard.wait(10)
    taken: list[Any] = []
    eventually(lambda: taken.extend(following.feed.take()) or len(taken) == 25, "all taken")  # type: ignore[func-returns-value]
    assert taken == [{"n": n} for n in range(25)]
    assert following.feed.take() == []


def test_events_are_followed_on_after_a_failed_receive(following: Following) -> None:
    following.sqs.failures = 1
    following.feed.activity.set()
    eventually(lambda: not following.sqs.failures, "failed")
    following.sqs.events = [1]
    following.feed.activity.set()
    eventually(lambda: following.feed.take() == [{"n": 1}], "taken")


MANY_LOOKS = 10_000


@dataclass
class BusyTable:
    """DynamoDB and a stream: something new at every look, as while many messages are on their way."""

    looks: int = 0

    def describe_table(self, **_: Any) -> dict[str, Any]:
        return {"Table": {"LatestStreamArn": "arn"}}

    def describe_stream(self, **_: Any) -> dict[str, Any]:
        return {"StreamDescription": {"Shards": [{"ShardId": "shard"}]}}

    def get_shard_iterator(self, **_: Any) -> dict[str, Any]:
        return {"ShardIterator": "iterator"}

    def get_records(self, **_: Any) -> dict[str, Any]:
        self.looks += 1
        items = [{"pk": {"S": "msg#key"}, "state": {"S": "SENDING"}}, {"id": {"S": "id"}}]
        if self.looks < 5:  # of each kind that tells nothing
            raise EndpointConnectionError(endpoint_url="http://table")
        if self.looks < 10:
            return {"message": "cut"}
        if self.looks < 15:
            records = [stream_record(None, "REMOVE", item) for item in items]
        elif self.looks < 20:
            records = [stream_record(items[0] | {"state": {"S": "LOST"}})]
        else:
            records = [stream_record(item) for item in items] if self.looks < MANY_LOOKS else []
        return {"NextShardIterator": "iterator", "Records": records}


class EmptyQueue(FakeFeed):
    """No letters and no events."""

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return {"Attributes": {"QueueArn": "arn", **dict.fromkeys(counts, "0")}}


def test_failures_deletions_and_writes_without_end_hold_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, queue = BusyTable(), EmptyQueue()
    clients: dict[str, Any] = {"sqs": queue, "events": queue}
    monkeypatch.setattr(watcher, "local_client", lambda service, *_: clients.get(service, table))
    names = ("SendLedgerTableName", "MessagesTableName", "OptOutTableName", "DeadLetterQueueUrl", "EventBusName")
    stack = SimpleNamespace(endpoint_url="http://localhost", outputs=dict.fromkeys(names, "name"))
    with Watcher(cast(LocalStack, stack)) as busy:
        stack.on_activity()
        assert busy.wait_until(lambda seen: "key" in seen.ledger and "id" in seen.messages, 60, 60)
        assert table.looks < MANY_LOOKS
