"""Follows messages: reads the changes of the tables and new dead letters whenever a function has run.

Nothing is polled. The stack reports each invocation of a function (`LocalStack.on_activity`), and only then are the
tables' streams read. So an idle stack stays idle, and no change is missed. A table without a stream in the template
gets one here.
"""

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from botocore.exceptions import BotoCoreError, ClientError

from cli.dead_letter_queue import DeadLetterQueue, ReceivedDeadLetter
from cli.queueing import BATCH
from cli.stage import Facts
from local.aws.background_thread import BackgroundThread
from local.aws.resources import local_client
from local.aws.stack import LocalStack
from local.aws.table_stream import TableStream
from optus_sms.records.changes import Change, read_change
from optus_sms.records.items import LedgerRecord, MessageRecord, OptOutRecord, ReplyRecord, State

SHORTEST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.5
PAUSE_FOR_LOOK = 3.0
"""The pause after a look, as a multiple of the look's time: watching uses at most a quarter of the emulator's time."""
PAUSE_FOR_DEAD_LETTERS = 9.0
"""The same for reading the dead letters, which takes longer the more there are."""
LOOK_AGAIN_SECONDS = 1.0
"""The delay for dead letters that another reader holds."""

Event = Mapping[str, Any]
"""An event as a rule's target receives it."""


@dataclass
class Seen:
    """All records seen: the ledger's by message_id, messages and replies by the gateway's ID, opt-outs by handset, the
    rest in order."""

    ledger: dict[str, LedgerRecord] = field(default_factory=dict)
    messages: dict[str, MessageRecord] = field(default_factory=dict)
    replies: dict[str, ReplyRecord] = field(default_factory=dict)
    opt_outs: dict[str, OptOutRecord] = field(default_factory=dict)
    dead_letters: list[ReceivedDeadLetter] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def facts(self, message_id: str) -> Facts:
        """Return the records of a message, without its replies."""
        ledger = self.ledger.get(message_id)
        return Facts.of(message_id, ledger, self.messages.get((ledger and ledger.gateway_id) or ""))

    def replies_to(self, gateway_id: str | None) -> list[ReplyRecord]:
        """Return the replies to a message."""
        return [reply for reply in self.replies.values() if reply.in_reply_to and reply.in_reply_to == gateway_id]


class WatchListener(Protocol):
    """Receives changes, in the watcher's thread. By default each method does nothing."""

    def change(self, change: Change) -> None:
        """Handle a change of a table."""

    def dead_letters(self, new: Sequence[ReceivedDeadLetter], gone: Sequence[str]) -> None:
        """Handle new dead letters, and the SQS IDs of those that are gone."""

    def event(self, event: Event) -> None:
        """Handle an event of the bus."""


class Watcher(BackgroundThread):
    """Follows a running stack in its own thread. `changed` is notified after every look that found a change."""

    def __init__(self, stack: LocalStack, *listeners: WatchListener) -> None:
        super().__init__("watcher")
        self.seen = Seen()
        self.changed = threading.Condition()
        self.listeners = list(listeners)
        """More may be added until the watcher is entered."""
        self._activity = threading.Event()
        tables = ("SendLedgerTableName", "MessagesTableName", "OptOutTableName")
        self._streams = [_stream(stack.endpoint_url, stack.outputs[table]) for table in tables]
        url = stack.outputs["DeadLetterQueueUrl"]
        self._dead_letters = _DeadLetterQueue(stack.endpoint_url, url, self._stopping.is_set)
        self._events = _EventFeed(stack.endpoint_url, stack.outputs["EventBusName"], self._activity.set)
        stack.on_activity = self._hear

    def __enter__(self) -> Self:
        self.start()
        self._events.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._events.stop()
        self._activity.set()
        self._events.join()
        self.join()

    @property
    def dead_letters_in_use(self) -> AbstractContextManager[None]:
        """Return a lock for another reader of the dead-letter queue in this process."""
        return self._dead_letters.read_by_another()

    def wait_until(self, reached: Callable[[Seen], bool], timeout_seconds: float, quiet_seconds: float) -> bool:
        """Wait for a condition until a timeout, or until nothing changes for so long; return whether it is true."""
        end = time.monotonic() + timeout_seconds
        with self.changed:
            while not reached(self.seen):
                if not self.changed.wait(min(quiet_seconds, end - time.monotonic())) or time.monotonic() >= end:
                    return reached(self.seen)
        return True

    def _hear(self) -> None:
        self._events.activity.set()
        self._activity.set()

    def _run(self) -> None:
        pause_seconds = SHORTEST_PAUSE_SECONDS
        while not self._stopping.is_set():
            self._activity.wait(self._dead_letters.look_again_in)
            self._stopping.wait(pause_seconds)
            self._activity.clear()
            started = time.monotonic()
            try:
                self._look()
            except (BotoCoreError, ClientError):  # the emulator ends before this thread does
                self._activity.set()  # if it has not ended, what was due is still there
            took_seconds = time.monotonic() - started
            pause_seconds = min(max(SHORTEST_PAUSE_SECONDS, PAUSE_FOR_LOOK * took_seconds), LONGEST_PAUSE_SECONDS)

    def _look(self) -> None:
        """Make one request to each stream and queue. Not under the lock: its waiters must not wait for AWS."""
        for stream in self._streams:
            records = stream.read()
            with self._telling(bool(records)):
                for change in filter(None, map(_readable_change, records)):
                    self._apply(change)
        dead_letters, gone = self._dead_letters.look()
        events = self._events.take()
        with self._telling(bool(dead_letters or events)):
            self.seen.dead_letters.extend(dead_letters)
            self.seen.events.extend(events)
            for listener in self.listeners:
                if dead_letters or gone:
                    listener.dead_letters(dead_letters, gone)
                for event in events:
                    listener.event(event)

    @contextlib.contextmanager
    def _telling(self, news: bool) -> Iterator[None]:
        """Hold the lock for the block. If the block found changes, notify the waiting threads and look again."""
        with self.changed:
            yield
            if news:
                self.changed.notify_all()
                self._activity.set()

    def _apply(self, change: Change) -> None:
        match change.after:
            case LedgerRecord() as record:
                self.seen.ledger[record.message_id] = record
                self._dead_letters.may_differ |= record.state in (State.REJECTED, State.UNKNOWN)
            case MessageRecord() as record:
                self.seen.messages[record.id] = record
            case ReplyRecord() as record:
                self.seen.replies[record.id] = record
            case OptOutRecord() as record:
                self.seen.opt_outs[record.handset] = record
        for listener in self.listeners:
            listener.change(change)


def _readable_change(record: Mapping[str, Any]) -> Change | None:
    """Return the change in a stream record; None if there is none, or it can't be read."""
    try:
        return read_change(record) or _erased_opt_out(record)
    except Exception:  # noqa: BLE001 - edited by hand; the publisher keeps a note of it
        return None


def _erased_opt_out(record: Mapping[str, Any]) -> Change | None:
    """Return the change of a deletion: messages go to that handset again."""
    handset = record["dynamodb"]["Keys"].get("handset")
    return Change(None, OptOutRecord(handset["S"], opted_out=False), "") if handset else None


def _stream(endpoint_url: str, table_name: str) -> TableStream:
    dynamodb = local_client("dynamodb", endpoint_url)
    table = dynamodb.describe_table(TableName=table_name)["Table"]
    if "LatestStreamArn" not in table:
        specification = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        table = dynamodb.update_table(TableName=table_name, StreamSpecification=specification)["TableDescription"]
    return TableStream(local_client("dynamodbstreams", endpoint_url), table["LatestStreamArn"])


class _DeadLetterQueue:
    """The content of the dead-letter queue. Each look hides the messages for a moment and counts as a receive."""

    def __init__(self, endpoint_url: str, queue_url: str, is_ending: Callable[[], bool] = lambda: False) -> None:
        self.may_differ = False
        """Whether one may have come for one that has gone, as after a redrive: their number does not show it."""
        self._in_use = threading.Lock()
        """Held by its reader in this process, because reading hides the dead letters from others."""
        self._sqs = local_client("sqs", endpoint_url)
        self._queue_url = queue_url
        self._is_ending = is_ending
        self._known: set[str] = set()
        self._not_before = 0.0
        self.look_again_in: float | None = None
        """Seconds until what the last look left unread may be read; None if it left nothing."""

    @contextlib.contextmanager
    def read_by_another(self) -> Iterator[None]:
        """Keep this reader from the queue during the block, and let it look again afterwards."""
        with self._in_use:
            yield
            self.may_differ = True

    def look(self) -> tuple[list[ReceivedDeadLetter], list[str]]:
        """Return the dead letters that are new since the last look, and the SQS IDs of those that are gone."""
        if not self._in_use.acquire(blocking=False):
            self.look_again_in = LOOK_AGAIN_SECONDS
            return [], []
        try:
            return self._look()
        finally:
            self._in_use.release()

    def _look(self) -> tuple[list[ReceivedDeadLetter], list[str]]:
        visible, hidden = self._counts()
        self.look_again_in = None
        if visible + hidden == len(self._known) and not self.may_differ:
            return [], []
        started = time.monotonic()
        if started < self._not_before:
            self.look_again_in = self._not_before - started
            return [], []
        with DeadLetterQueue(self._sqs, self._queue_url, wait_seconds=0, what="") as queue:
            dead_letters = {}
            for dead_letter in queue.dead_letters():
                if self._is_ending():  # reading a thousand takes half a minute, and the queue ends with the stack
                    queue.held.clear()
                    return [], []
                dead_letters[dead_letter.sqs_id] = dead_letter
        self._not_before = time.monotonic() + PAUSE_FOR_DEAD_LETTERS * (time.monotonic() - started)
        new = [dead_letter for sqs_id, dead_letter in dead_letters.items() if sqs_id not in self._known]
        # Dead letters that another reader holds are hidden, and not gone.
        self.may_differ = bool(hidden)
        self.look_again_in = LOOK_AGAIN_SECONDS if hidden else None
        gone = [] if hidden else sorted(self._known - dead_letters.keys())
        self._known = (self._known | dead_letters.keys()) - set(gone)
        return new, gone

    def _counts(self) -> tuple[int, int]:
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=list(names))["Attributes"]
        visible, hidden = (int(attributes[name]) for name in names)
        return visible, hidden


class _EventFeed(BackgroundThread):
    """The events of the bus, received as any listener can: by a rule for all events, with a queue as its target.

    Its own thread empties the queue without a pause. It is idle until ``activity`` is set, and calls ``heard`` when
    `take` has events.
    """

    def __init__(self, endpoint_url: str, bus_name: str, heard: Callable[[], None]) -> None:
        super().__init__("events")
        self.activity = threading.Event()
        self._heard = heard
        self._found: deque[Event] = deque()
        self._sqs = local_client("sqs", endpoint_url)
        self._queue_url: str = self._sqs.create_queue(QueueName=f"{bus_name}-seen")["QueueUrl"]
        name = "QueueArn"
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=[name])["Attributes"][name]
        events, pattern = local_client("events", endpoint_url), json.dumps({"source": ["optus.sms"]})
        events.put_rule(Name="seen", EventBusName=bus_name, EventPattern=pattern)
        events.put_targets(Rule="seen", EventBusName=bus_name, Targets=[{"Id": "queue", "Arn": arn}])

    def stop(self) -> None:
        """Stop; events in the queue stay there."""
        super().stop()
        self.activity.set()

    def take(self) -> list[Event]:
        """Return the events since the last call."""
        return [self._found.popleft() for _ in range(len(self._found))]

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.activity.wait()
            self.activity.clear()
            try:
                while not self._stopping.is_set() and self._empty():
                    self._heard()
            except (BotoCoreError, ClientError):  # the emulator ends before this thread does
                self._stopping.wait(SHORTEST_PAUSE_SECONDS)
                self.activity.set()  # if it has not ended, what was due is still there

    def _empty(self) -> bool:
        """Receive the next few events, and return whether there were any."""
        response = self._sqs.receive_message(QueueUrl=self._queue_url, MaxNumberOfMessages=BATCH, WaitTimeSeconds=0)
        messages = response.get("Messages", [])
        if messages:
            entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
            self._sqs.delete_message_batch(QueueUrl=self._queue_url, Entries=entries)
            self._found.extend(json.loads(message["Body"]) for message in messages)
        return bool(messages)
