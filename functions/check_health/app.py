"""CheckHealthFunction: EventBridge schedules → the gateway's health (every minute) or its contract (daily)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from optus_sms.aws import clients
from optus_sms.aws.queue_switch import QueueSwitch
from optus_sms.aws.traffic import SenderMetrics
from optus_sms.flows.check_contract import ContractChecker
from optus_sms.flows.check_health import HealthChecker
from optus_sms.flows.pausing import Thresholds
from optus_sms.gateway.api import Gateway
from optus_sms.gateway.credentials import GatewaySecret
from optus_sms.model.lanes import Lane
from optus_sms.model.times import Clock
from optus_sms.records.contract import ContractRecords
from optus_sms.records.health import HealthRecords
from optus_sms.runtime.observability import Metric, publish
from optus_sms.runtime.settings import HealthSettings, read_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@cache
def checkers() -> tuple[HealthChecker, ContractChecker]:
    """Return the objects of this execution environment, made at its first invocation."""
    settings, clock, dynamodb = read_settings(HealthSettings), Clock(), clients.dynamodb()
    secret = GatewaySecret(clients.secrets_manager(), settings.gateway_secret_id)
    gateway = Gateway.connect(settings, secret=secret, now=clock.now, service_status_url=settings.service_status_url)
    health = HealthChecker(
        gateway=gateway,
        secret=secret,
        store=HealthRecords.connect(dynamodb, settings.send_ledger_table_name),
        switch=QueueSwitch(
            clients.lambda_(),
            {Lane.ORDINARY: settings.sender_mapping_id, Lane.URGENT: settings.urgent_mapping_id},
        ),
        sender_metrics=SenderMetrics(clients.cloudwatch(), settings.stack_name),
        clock=clock,
        thresholds=Thresholds(
            unhealthy_after=settings.unhealthy_after_checks,
            healthy_after=settings.healthy_after_checks,
            unknown_after=settings.unknown_after_checks,
        ),
        pause_on_outage=settings.pause_on_outage,
        seconds_between_checks=settings.least_seconds_between_checks,
    )
    return health, ContractChecker(
        gateway, secret, ContractRecords.connect(dynamodb, settings.send_ledger_table_name), clock
    )


def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Run the health check, or the contract check for ``{"check": "contract"}``, and return its result."""
    health, contract = checkers()
    if isinstance(event, dict) and event.get("check") == "contract":
        return dict(contract.check())
    result, measurements = health.check()
    publish(measurements)
    if result.get("paused_lanes") is not None:
        for lane in Lane:
            publish([(Metric.SENDING_PAUSED, float(lane in result["paused_lanes"]))], lane)
    return dict(result)
