"""ReconcileMessagesFunction: an EventBridge schedule → undecided messages are resolved, looked up or given up."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from optus_sms.aws import clients
from optus_sms.flows.reconcile_messages import Reconciler
from optus_sms.gateway.api import Gateway
from optus_sms.gateway.credentials import GatewaySecret
from optus_sms.model.errors import ReconcilingError
from optus_sms.model.times import Clock
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from optus_sms.runtime.observability import logger, publish
from optus_sms.runtime.settings import ReconcileSettings, read_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@cache
def reconciler() -> Reconciler:
    """Return the objects of this execution environment, made at its first invocation."""
    settings, clock, dynamodb = read_settings(ReconcileSettings), Clock(), clients.dynamodb()
    secret = GatewaySecret(clients.secrets_manager(), settings.gateway_secret_id)
    return Reconciler(
        ledger=Ledger.connect(dynamodb, settings.send_ledger_table_name),
        messages=Messages.connect(dynamodb, settings.messages_table_name, retention_days=settings.retention_days),
        gateway=Gateway.connect(settings, secret=secret, now=clock.now),
        secret=secret,
        clock=clock,
    )


def lambda_handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Reconcile, and return the counts. A failed step fails the invocation after all other steps are done."""
    service = reconciler()
    report = service.run(deadline=service.clock.now() + context.get_remaining_time_in_millis() / 1000)
    publish(report.measurements)
    logger().info("reconciled", extra={"counts": dict(report.counts)})
    if report.failed:
        raise ReconcilingError(report.failed)
    return dict(report.counts)
