"""Does Lambda's work between an SQS queue and a function: polls, makes batches, invokes, deletes successful messages.

The rules are Lambda's ("Using Lambda with Amazon SQS", "Handling errors for an SQS event source"): a batch that fails
as a whole stays in the queue and comes back after the visibility timeout; with `ReportBatchItemFailures` the response
names the records that stay.
"""

import base64
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.aws.background_thread import BackgroundThread
from local.aws.function import Invocation

LONG_POLL_SECONDS = 2
"""How long a disabled or stopped source can still receive messages; Lambda polls for up to 20 seconds."""
DEFAULT_CONCURRENCY = 5
"""Batches in parallel if the mapping has no MaximumConcurrency; Lambda starts with five pollers."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EventSourceConfig:
    """An AWS::Lambda::EventSourceMapping of an SQS queue."""

    queue_url: str
    queue_arn: str
    batch_size: int = 10
    concurrency: int = DEFAULT_CONCURRENCY
    report_batch_item_failures: bool = False
    enabled: bool = True
    mapping_id: str = ""

    @classmethod
    def from_properties(
        cls, properties: Mapping[str, Any], queue_url: str, mapping_id: str = ""
    ) -> "EventSourceConfig":
        """Read the resolved properties of a mapping. Raise ValueError for a property that would be ignored."""
        known = {
            *("BatchSize", "Enabled", "EventSourceArn", "FunctionName", "FunctionResponseTypes"),
            "ScalingConfig",
        }
        refuse_unknown(properties, known, "event source")
        scaling = properties.get("ScalingConfig", {})
        return cls(
            queue_url=queue_url,
            queue_arn=properties["EventSourceArn"],
            batch_size=int(properties.get("BatchSize", 10)),
            concurrency=int(scaling.get("MaximumConcurrency", DEFAULT_CONCURRENCY)),
            report_batch_item_failures="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
            enabled=str(properties.get("Enabled", True)).lower() == "true",
            mapping_id=mapping_id,
        )


def refuse_unknown(properties: Mapping[str, Any], known: set[str], what: str) -> None:
    """Raise ValueError for a property of a mapping that would be ignored."""
    if unknown := sorted(set(properties) - known):
        raise ValueError(f"the local {what} does not know {', '.join(unknown)}")


class EventSource(BackgroundThread):
    """Feeds a queue to a function while it is enabled.

    `invoke` runs the function with an event and waits for the result. `sqs`: a client without retries.
    """

    def __init__(self, config: EventSourceConfig, invoke: Callable[[Any], Invocation], sqs: Any) -> None:
        super().__init__("event source poller")
        self.config = config
        self._invoke = invoke
        self._sqs = sqs
        self._workers = ThreadPoolExecutor(config.concurrency, thread_name_prefix="event source worker")
        self._free = threading.Semaphore(config.concurrency)
        self._may_poll = threading.Event()
        self._waits = threading.Event()
        self.enabled = config.enabled

    @property
    def enabled(self) -> bool:
        """Whether messages are received. Batches under way are finished either way."""
        return self._may_poll.is_set()

    @enabled.setter
    def enabled(self, value: bool) -> None:
        if value:
            self._may_poll.set()
        else:
            self._may_poll.clear()

    @property
    def is_idle(self) -> bool:
        """Whether it is disabled and the last poll has ended, so that no more messages are received."""
        return self._waits.is_set() and not self.enabled

    def stop(self) -> None:
        """Receive no more messages. A long poll under way ends early only if the server is gone; `join` waits."""
        super().stop()
        self._may_poll.set()
        self._free.release()

    def join(self) -> None:
        """Wait for the poller and for every batch under way."""
        super().join()
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._waits.set()
            self._may_poll.wait()
            self._waits.clear()
            self._free.acquire()
            try:
                messages = [] if self._stopping.is_set() or not self.enabled else self._next_batch()
            except (BotoCoreError, ClientError) as error:
                messages = []
                if not self._stopping.is_set():
                    log.warning("the queue cannot be polled: %s", error)
                    self._stopping.wait(1)
            if messages and not self._stopping.is_set():
                self._workers.submit(self._work, messages).add_done_callback(lambda _: self._free.release())
            else:
                self._free.release()

    def _next_batch(self) -> list[dict[str, Any]]:
        response = self._sqs.receive_message(
            QueueUrl=self.config.queue_url,
            MaxNumberOfMessages=self.config.batch_size,
            WaitTimeSeconds=LONG_POLL_SECONDS,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = response.get("Messages", [])
        return messages

    def _work(self, messages: list[dict[str, Any]]) -> None:
        records = [record(message, self.config.queue_arn) for message in messages]
        invocation = self._invoke({"Records": records})
        message_ids = [message["MessageId"] for message in messages]
        stay = items_to_keep(message_ids, invocation, self.config.report_batch_item_failures)
        done = [message for message in messages if message["MessageId"] not in stay]
        try:
            if done:
                self._delete(done)
        except (BotoCoreError, ClientError) as error:
            if not self._stopping.is_set():
                log.warning("messages cannot be deleted, they will come again: %s", error)

    def _delete(self, messages: list[dict[str, Any]]) -> None:
        entries = [
            {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]} for index, message in enumerate(messages)
        ]
        self._sqs.delete_message_batch(QueueUrl=self.config.queue_url, Entries=entries)


def items_to_keep(message_ids: list[str], invocation: Invocation, report_batch_item_failures: bool) -> frozenset[str]:
    """Return the messages of a batch that stay in the queue, by Lambda's rules for partial batch responses.

    Null, an empty object or an empty list means success. The whole batch failed if a failure names no message of the
    batch or has no usable `itemIdentifier`, or if the response has another shape.
    """
    everything = frozenset(message_ids)
    if invocation.error is not None:
        return everything
    if not report_batch_item_failures or not invocation.result:
        return frozenset()
    failures = invocation.result.get("batchItemFailures") if isinstance(invocation.result, dict) else "another shape"
    if not failures:
        return frozenset()
    if not isinstance(failures, list):
        return everything
    failed = {failure.get("itemIdentifier") if isinstance(failure, dict) else None for failure in failures}
    return everything & failed if failed <= everything else everything


def record(message: Mapping[str, Any], queue_arn: str) -> dict[str, Any]:
    """Return a received message as a record of Lambda's event."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message.get("Attributes", {})),
        "messageAttributes": {
            name: _attribute(attribute) for name, attribute in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }


def _attribute(attribute: Mapping[str, Any]) -> dict[str, Any]:
    lists: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": attribute["DataType"]}
    if "BinaryValue" in attribute:
        return {"binaryValue": base64.b64encode(attribute["BinaryValue"]).decode("ascii"), **lists}
    return {"stringValue": attribute["StringValue"], **lists}
