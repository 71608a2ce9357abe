"""CheckHealthFunction: an EventBridge schedule → `GET /healthz` → state, metrics, and a log line on change."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from optus_sms import clients
from optus_sms.gateway import Gateway
from optus_sms.health import DynamoHealthStore, HealthChecker
from optus_sms.observability import publish
from optus_sms.settings import HealthSettings
from optus_sms.times import Clock
from optus_sms.transport import Transport

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@cache
def checker() -> HealthChecker:
    """Everything one sandbox needs, made at its first invocation."""
    settings, clock = HealthSettings.from_environment(), Clock()
    return HealthChecker(
        gateway=Gateway(
            Transport(), settings.gateway_base_url, timeout_seconds=settings.gateway_timeout_seconds, now=clock.now
        ),
        store=DynamoHealthStore(clients.dynamodb(), settings.send_ledger_table_name),
        clock=clock,
    )


def lambda_handler(_event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """The result of the check, for whoever invokes it by hand."""
    result, measurements = checker().check()
    publish(measurements)
    return dict(result)
