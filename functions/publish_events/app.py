"""PublishEventsFunction: a batch of a table's stream → events on `SmsEventBus` → the first failed record."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from optus_sms.aws import clients
from optus_sms.aws.event_bus import EventBus
from optus_sms.aws.queues import Queues
from optus_sms.flows.publish_events import Publisher
from optus_sms.model.times import Clock
from optus_sms.runtime.observability import logger, publish
from optus_sms.runtime.settings import PublishSettings, read_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@cache
def publisher() -> Publisher:
    """Return the objects of this execution environment, made at its first invocation."""
    settings = read_settings(PublishSettings)
    return Publisher(
        bus=EventBus(clients.eventbridge(), settings.event_bus_name),
        queues=Queues(clients.sqs(), dead_letter_queue_url=settings.unpublished_events_queue_url),
        clock=Clock(),
        reply_text=settings.reply_text_in_events,
    )


def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Publish a batch; return the partial batch response: Lambda delivers the named record and all later ones again."""
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list) or not all(_is_stream_record(record) for record in records):
        logger().error("not a DynamoDB stream event, nothing done")
        return {"batchItemFailures": []}
    result = publisher().publish_batch(records)
    publish(result.measurements)
    return {"batchItemFailures": [{"itemIdentifier": result.failed_from}] if result.failed_from else []}


def _is_stream_record(record: object) -> bool:
    return isinstance(record, dict) and record.get("eventSource") == "aws:dynamodb" and "dynamodb" in record
