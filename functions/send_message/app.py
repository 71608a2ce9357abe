"""SendMessageFunction: a batch of a lane's queue → one POST each → the SQS message IDs that are not done."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from optus_sms.aws import clients
from optus_sms.aws.queues import Queues
from optus_sms.flows.breaker import Breaker
from optus_sms.flows.pacing import Pacer
from optus_sms.flows.probing import Probing
from optus_sms.flows.send_message import QueueRecord, Sender
from optus_sms.gateway.api import Gateway
from optus_sms.gateway.credentials import GatewaySecret
from optus_sms.model.lanes import Lane
from optus_sms.model.times import Clock
from optus_sms.records.health import HealthRecords
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from optus_sms.records.opt_outs import OptOuts
from optus_sms.runtime.observability import Metric, logger, publish
from optus_sms.runtime.one_cpu import on_one_cpu
from optus_sms.runtime.settings import SendSettings, read_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@cache
def sender() -> Sender:
    """Return the objects of this execution environment, made at its first invocation."""
    settings, clock, dynamodb = read_settings(SendSettings), Clock(), clients.dynamodb()
    health = HealthRecords.connect(dynamodb, settings.send_ledger_table_name)
    secret = GatewaySecret(clients.secrets_manager(), settings.gateway_secret_id)
    return Sender(
        ledger=Ledger.connect(dynamodb, settings.send_ledger_table_name),
        messages=Messages.connect(dynamodb, settings.messages_table_name, retention_days=settings.retention_days),
        opt_outs=OptOuts.connect(dynamodb, settings.opt_out_table_name),
        queues=Queues(
            clients.sqs(),
            dead_letter_queue_url=settings.dead_letter_queue_url,
            outbound_queue_url=settings.outbound_queue_url,
            urgent_queue_url=settings.urgent_queue_url,
        ),
        gateway=Gateway.connect(settings, secret=secret, now=clock.now),
        secret=secret,
        pacers={lane: Pacer(settings.seconds_between_posts(lane), clock.monotonic, clock.sleep) for lane in Lane},
        probing=Probing(Breaker(clock.monotonic), health, clock),
        clock=clock,
        on_unknown=settings.on_unknown_outcome,
        require_message_id=settings.require_message_id,
        allowed_destinations=settings.allowed_destinations,
        allow_despite_opt_out=settings.allow_despite_opt_out,
        separate_senders=settings.separate_senders,
        max_attempts=settings.max_attempts,
    )


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Send a batch, and return the partial batch response: Lambda deletes all messages but those that it lists."""
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        logger().error("not an SQS event, nothing done")
        return {"batchItemFailures": []}
    service = sender()
    deadline = service.clock.now() + context.get_remaining_time_in_millis() / 1000
    with on_one_cpu():
        lane_of = service.queues.lane_of
        batch = [QueueRecord.from_event(record, lane_of(record.get("eventSourceARN"))) for record in records]
        result = service.send_batch(batch, deadline=deadline)
    publish(result.measurements)
    for lane in {record.lane for record in batch}:  # one, because a batch comes from one queue
        publish((each for each in result.measurements if each[0] is Metric.QUEUE_DELAY), lane)
    return {"batchItemFailures": [{"itemIdentifier": failure} for failure in result.failures]}
