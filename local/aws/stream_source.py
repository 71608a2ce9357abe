"""Does Lambda's work between a DynamoDB stream and a function: reads, filters, makes batches, invokes, retries.

The rules are Lambda's ("Process DynamoDB records with Lambda", "Configuring partial batch response", "Control which
events Lambda sends to your function"): the records of a shard come in order, one batch at a time. Failed records come
again before later ones. After the last attempt, a note about the batch goes to the on-failure destination.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.aws.background_thread import BackgroundThread
from local.aws.event_source import items_to_keep, refuse_unknown
from local.aws.function import Invocation
from local.aws.table_stream import Record, TableStream

LOOK_EVERY_SECONDS = 1.0
"""Seconds between two reads if no function has run; Lambda reads four times a second."""
PAUSE_BEFORE_RETRY_SECONDS = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamSourceConfig:
    """An AWS::Lambda::EventSourceMapping of a DynamoDB stream."""

    stream_arn: str
    batch_size: int
    filters: tuple[Mapping[str, Any], ...]
    report_batch_item_failures: bool
    bisect: bool
    max_retries: int
    on_failure_queue_url: str | None
    concurrency: int = 1
    """One, because a shard's batches come one after the other, and there is one shard."""

    @classmethod
    def from_properties(cls, properties: Mapping[str, Any], queue_urls: Mapping[str, str]) -> "StreamSourceConfig":
        """Read the resolved properties of a mapping, with the URLs of queues by ARN.

        Raise ValueError for a property that would be ignored.
        """
        known = {
            *("BatchSize", "BisectBatchOnFunctionError", "DestinationConfig", "EventSourceArn", "FilterCriteria"),
            *("FunctionName", "FunctionResponseTypes", "MaximumRecordAgeInSeconds", "MaximumRetryAttempts"),
            "StartingPosition",
        }
        refuse_unknown(properties, known, "stream source")
        destination = properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
        patterns = properties.get("FilterCriteria", {}).get("Filters", [])
        return cls(
            stream_arn=properties["EventSourceArn"],
            batch_size=int(properties.get("BatchSize", 100)),
            filters=tuple(json.loads(pattern["Pattern"]) for pattern in patterns),
            report_batch_item_failures="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
            bisect=bool(properties.get("BisectBatchOnFunctionError", False)),
            max_retries=int(properties.get("MaximumRetryAttempts", -1)),
            on_failure_queue_url=queue_urls[destination] if destination else None,
        )


class StreamSource(BackgroundThread):
    """Feeds a table's stream to a function, from its beginning.

    `invoke` runs the function with an event and waits for the result. `streams` and `sqs`: clients without retries.
    """

    def __init__(
        self, config: StreamSourceConfig, invoke: Callable[[Any], Invocation], streams: Any, sqs: Any = None
    ) -> None:
        super().__init__(f"stream {config.stream_arn}")
        self.config = config
        self._invoke = invoke
        self._stream = TableStream(streams, config.stream_arn)
        self._sqs = sqs
        self._changed = threading.Event()

    def wake(self) -> None:
        """Read the stream now, because it may have changed."""
        self._changed.set()

    def stop(self) -> None:
        """Read no more."""
        super().stop()
        self._changed.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            try:
                records = self._stream.read()
            except (BotoCoreError, ClientError) as error:
                records = []
                if not self._stopping.is_set():
                    log.warning("a stream cannot be read: %s", error)
            wanted = [record for record in records if wants(self.config.filters, record)]
            for start in range(0, len(wanted), self.config.batch_size):
                self._deliver(wanted[start : start + self.config.batch_size])
            if not records:
                self._changed.wait(LOOK_EVERY_SECONDS)

    def _deliver(self, records: list[Record], attempts: int = 0) -> None:
        """Deliver a batch until all records are done or given up, or the stack stops."""
        while records and not self._stopping.is_set():
            again = records_to_repeat(records, self._invoke({"Records": records}), self.config)
            if not again or self._stopping.is_set():
                return
            attempts += 1
            if 0 <= self.config.max_retries < attempts:
                self._give_up(again, attempts)
                return
            self._stopping.wait(PAUSE_BEFORE_RETRY_SECONDS)
            if self.config.bisect and len(again) == len(records) > 1:
                half = len(again) // 2
                self._deliver(again[:half], attempts)
                records = again[half:]
            else:
                records = again

    def _give_up(self, records: Sequence[Record], attempts: int) -> None:
        if self.config.on_failure_queue_url is None:
            return
        sequence_numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
        note = {
            "requestContext": {"condition": "RetryAttemptsExhausted", "approximateInvokeCount": attempts},
            "version": "1.0",
            "timestamp": datetime.now(UTC).isoformat(),
            "DDBStreamBatchInfo": {
                "streamArn": self.config.stream_arn,
                "startSequenceNumber": sequence_numbers[0],
                "endSequenceNumber": sequence_numbers[-1],
                "batchSize": len(records),
            },
        }
        self._sqs.send_message(QueueUrl=self.config.on_failure_queue_url, MessageBody=json.dumps(note))


def records_to_repeat(records: list[Record], invocation: Invocation, config: StreamSourceConfig) -> list[Record]:
    """Return the records of a batch that come again, by Lambda's rules: from the lowest failed sequence number on."""
    names = [record["dynamodb"]["SequenceNumber"] for record in records]
    failed = items_to_keep(names, invocation, config.report_batch_item_failures)
    return records[min(map(names.index, failed)) :] if failed else []


def wants(filters: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> bool:
    """Return whether a record matches a pattern (or there is none). Raise ValueError for an unknown rule."""
    return not filters or any(_matches(pattern, record) for pattern in filters)


def _matches(rules: Mapping[str, Any] | list[Any], value: Any) -> bool:
    if isinstance(rules, Mapping):
        return isinstance(value, Mapping) and all(_matches(rules[name], value.get(name)) for name in rules)
    return any(_rule_matches(rule, value) for rule in rules)


def _rule_matches(rule: Any, value: Any) -> bool:
    match rule:
        case str():
            return bool(value == rule)
        case {"anything-but": list(others), **rest} if not rest:
            return value is not None and value not in others
        case {"prefix": str(prefix), **rest} if not rest:
            return isinstance(value, str) and value.startswith(prefix)
    raise ValueError(f"the local stream source does not know the filter rule {rule}")
