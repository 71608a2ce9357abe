"""CheckHealthFunction: EventBridge schedules → the gateway's health (every minute) or its contract (daily)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from optus_sms.aws import clients
from optus_sms.aws.queue_switch import QueueSwitch
from optus_sms.aws.traffic import SenderMetrics
from optus_sms.flows.check_health import HealthChecker, Thresholds
from optus_sms.gateway.api import Gateway
from optus_sms.gateway.credentials import GatewaySecret
from optus_sms.model.times import Clock
from optus_sms.records.health import DynamoHealthStore
from optus_sms.runtime.observability import publish
from optus_sms.runtime.settings import HealthSettings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from optus_sms.gateway.contract import ContractWatch


# Everything one sandbox needs, each made once, when it is first asked for.


@cache
def settings() -> HealthSettings:
    return HealthSettings.from_environment()


@cache
def gateway() -> Gateway:
    return Gateway.connect(settings(), now=Clock().now, service_status_url=settings().service_status_url)


@cache
def secret() -> GatewaySecret:
    return GatewaySecret(clients.secrets_manager(), settings().gateway_secret_id)


@cache
def checker() -> HealthChecker:
    return HealthChecker(
        gateway=gateway(),
        secret=secret(),
        store=DynamoHealthStore(clients.dynamodb(), settings().send_ledger_table_name),
        switch=QueueSwitch(clients.lambda_(), settings().sender_mapping_id),
        sender_metrics=SenderMetrics(clients.cloudwatch(), settings().stack_name),
        clock=Clock(),
        thresholds=Thresholds(
            unhealthy_after=settings().unhealthy_after_checks,
            healthy_after=settings().healthy_after_checks,
            unknown_after=settings().unknown_after_checks,
        ),
        pause_on_outage=settings().pause_on_outage,
    )


def contract_watch() -> ContractWatch:
    from optus_sms.gateway.contract import ContractWatch  # noqa: PLC0415 - once a day; the minute's check needs no YAML parser

    return ContractWatch(gateway(), secret())


def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """The result of the check, for whoever invokes it by hand; ``{"check": "contract"}`` asks for the other one."""
    asked_for = event.get("check") if isinstance(event, dict) else None
    result, measurements = contract_watch().check() if asked_for == "contract" else checker().check()
    publish(measurements)
    return dict(result)
