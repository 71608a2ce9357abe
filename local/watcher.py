"""Watches what happens to messages: reads the changes of both tables and new dead letters whenever a function has run.

Nothing is polled. The stack says when a function was invoked (`LocalStack.on_activity`), and only then are the tables'
streams read, so an idle stack stays idle and no change is missed. A table whose template has no stream gets one here.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import BotoCoreError, ClientError

from local.resources import local_client
from local.stack import LocalStack

Item = Mapping[str, Any]


@dataclass(frozen=True)
class DeadLetter:
    """A message in the dead-letter queue."""

    body: str
    reason: str
    detail: str
    message_id: str


@dataclass
class Seen:
    """Everything seen so far: ledger records by message key, gateway records by gateway id, the rest in order."""

    ledger: dict[str, Item] = field(default_factory=dict)
    messages: dict[str, Item] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    events: list[Item] = field(default_factory=list)
    """As a rule's target gets them."""

    def message_for(self, key: str) -> Item:
        """The gateway's record of a message; empty as long as there is none."""
        return self.messages.get(str(self.ledger.get(key, {}).get("gateway_id")), {})

    def replies_to(self, gateway_id: str) -> list[Item]:
        """The replies tied to a message."""
        return [item for item in self.messages.values() if item.get("in_reply_to") == gateway_id]


Change = tuple[str, str, Item, Item]
"""What changed ("ledger", "message", "health"), its key there, the item before (empty if new) and after."""


class Watcher:
    """Follows a running stack in a thread of its own.

    `on_change`, `on_dead_letter` and `on_event` are called in that thread. `changed` is notified after every look.
    """

    def __init__(
        self,
        stack: LocalStack,
        on_change: Callable[[Change], None] = lambda _: None,
        on_dead_letter: Callable[[DeadLetter], None] = lambda _: None,
        on_event: Callable[[Item], None] = lambda _: None,
        pause_seconds: float = 0.05,
    ) -> None:
        self.seen = Seen()
        self.changed = threading.Condition()
        self.pause_seconds = pause_seconds
        """Between two looks: how far the display may lag, against how much of moto's time it takes."""
        self._on_change, self._on_dead_letter, self._on_event = on_change, on_dead_letter, on_event
        self._activity = threading.Event()
        self._stopping = threading.Event()
        self._streams = [
            _Stream(stack.endpoint_url, stack.outputs["SendLedgerTableName"], self._ledger_changed),
            _Stream(stack.endpoint_url, stack.outputs["MessagesTableName"], self._message_changed),
        ]
        self._dead_letters = _DeadLetterQueue(stack.endpoint_url, stack.outputs["DeadLetterQueueUrl"])
        self._events = _EventFeed(stack.endpoint_url, stack.outputs["EventBusName"])
        self._thread = threading.Thread(target=self._watch, name="watcher")
        stack.on_activity = self._activity.set

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._activity.set()
        self._thread.join()

    def wait_until(self, reached: Callable[[Seen], bool], timeout_seconds: float, quiet_seconds: float) -> bool:
        """Whether the condition became true before the time was over, or before nothing had changed for so long."""
        end = time.monotonic() + timeout_seconds
        with self.changed:
            while not reached(self.seen):
                if not self.changed.wait(min(quiet_seconds, end - time.monotonic())) or time.monotonic() >= end:
                    return reached(self.seen)
        return True

    def _watch(self) -> None:
        while not self._stopping.is_set():
            self._activity.wait()
            self._stopping.wait(self.pause_seconds)
            self._activity.clear()
            try:
                self._look()
            except (BotoCoreError, ClientError):
                if not self._stopping.is_set():  # moto's server ends before this thread does
                    continue

    def _look(self) -> None:
        with self.changed:
            changes = sum(stream.read() for stream in self._streams)
            letters = self._dead_letters.new()
            self.seen.dead_letters.extend(letters)
            for letter in letters:
                self._on_dead_letter(letter)
            events = self._events.new()
            self.seen.events.extend(events)
            for event in events:
                self._on_event(event)
            if changes or letters or events:
                self.changed.notify_all()

    def _ledger_changed(self, before: Item, after: Item) -> None:
        kind, _, key = after["pk"].partition("#")
        if kind == "msg":
            self.seen.ledger[key] = after
            self._on_change(("ledger", key, before, after))
        elif kind == "health":
            self._on_change(("health", key, before, after))

    def _message_changed(self, before: Item, after: Item) -> None:
        self.seen.messages[after["id"]] = after
        self._on_change(("message", after["id"], before, after))


class _Stream:
    """The changes of one table, oldest first."""

    def __init__(self, endpoint_url: str, table_name: str, changed: Callable[[Item, Item], None]) -> None:
        self._client = local_client("dynamodbstreams", endpoint_url)
        self._changed = changed
        self._deserialize = TypeDeserializer().deserialize
        arn = _stream_arn(endpoint_url, table_name)
        (shard,) = self._client.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        self._iterator = self._client.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]

    def read(self) -> int:
        """Report what is new; how many changes that was."""
        count = 0
        while True:
            answer = self._client.get_records(ShardIterator=self._iterator, Limit=1000)
            self._iterator = answer["NextShardIterator"]
            for record in answer["Records"]:
                images = record["dynamodb"]
                if "NewImage" in images:
                    self._changed(self._item(images.get("OldImage", {})), self._item(images["NewImage"]))
            count += len(answer["Records"])
            if not answer["Records"]:
                return count

    def _item(self, image: Mapping[str, Any]) -> Item:
        return {name: self._deserialize(value) for name, value in image.items()}


def _stream_arn(endpoint_url: str, table_name: str) -> str:
    dynamodb = local_client("dynamodb", endpoint_url)
    table = dynamodb.describe_table(TableName=table_name)["Table"]
    if "LatestStreamArn" not in table:
        specification = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        table = dynamodb.update_table(TableName=table_name, StreamSpecification=specification)["TableDescription"]
    return str(table["LatestStreamArn"])


class _DeadLetterQueue:
    """What is new in the dead-letter queue. Looking hides its messages for a moment and counts as a receive."""

    def __init__(self, endpoint_url: str, queue_url: str) -> None:
        self._sqs = local_client("sqs", endpoint_url)
        self._queue_url = queue_url
        self._known: set[str] = set()

    def new(self) -> list[DeadLetter]:
        """The messages that were not there at the last look."""
        name = "ApproximateNumberOfMessages"
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=[name])["Attributes"]
        if int(attributes[name]) <= len(self._known):
            return []
        messages = self._peek()
        letters = [_dead_letter(message) for message in messages if message["MessageId"] not in self._known]
        self._known = {message["MessageId"] for message in messages}
        return letters

    def _peek(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        while batch := self._receive():
            messages += batch
        for message in messages:
            self._sqs.change_message_visibility(
                QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
            )
        return messages

    def _receive(self) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=30,
            WaitTimeSeconds=0,
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages


class _EventFeed:
    """What comes over the bus: a rule for all of our events with a queue as its target, as anybody could add one."""

    def __init__(self, endpoint_url: str, bus_name: str) -> None:
        self._sqs = local_client("sqs", endpoint_url)
        self._queue_url: str = self._sqs.create_queue(QueueName=f"{bus_name}-seen")["QueueUrl"]
        name = "QueueArn"
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=[name])["Attributes"][name]
        events, pattern = local_client("events", endpoint_url), json.dumps({"source": ["optus.sms"]})
        events.put_rule(Name="seen", EventBusName=bus_name, EventPattern=pattern)
        events.put_targets(Rule="seen", EventBusName=bus_name, Targets=[{"Id": "queue", "Arn": arn}])

    def new(self) -> list[Item]:
        """The events that have come since the last look."""
        found: list[Item] = []
        while messages := self._sqs.receive_message(
            QueueUrl=self._queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=0
        ).get("Messages", []):
            found += [json.loads(message["Body"]) for message in messages]
            entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
            self._sqs.delete_message_batch(QueueUrl=self._queue_url, Entries=entries)
        return found


def _dead_letter(message: Mapping[str, Any]) -> DeadLetter:
    attributes = {name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()}
    return DeadLetter(
        body=message["Body"],
        reason=attributes.get("reason", "redriven by SQS"),
        detail=attributes.get("detail", ""),
        message_id=attributes.get("message_id", message["MessageId"]),
    )
