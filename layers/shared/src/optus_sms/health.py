"""Is the gateway there? Asked every minute, kept in the ledger table, told as a metric and a log line on change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from optus_sms.dynamodb import unmarshal
from optus_sms.observability import Measurement, Metric, logger
from optus_sms.times import Clock, format_rfc3339

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from optus_sms.transport import Answer

HEALTH_KEY: Final = "health#gateway"


class Health(StrEnum):
    """What one check says. A gateway that doesn't offer the operation is not down."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class GatewayPort(Protocol):
    """`optus_sms.gateway.Gateway`, as far as it is used here."""

    def get_health(self) -> Answer:
        """`GET /healthz`; never raises."""


class HealthStore(Protocol):
    """Where the last state is kept."""

    def record(self, health: Health, reason: str, *, now: float) -> Health | None:
        """Keep this check's result; the state before it, None at the first check."""


class DynamoHealthStore:
    """One item of `SendLedgerTable`; ``since`` is when the state last changed."""

    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def record(self, health: Health, reason: str, *, now: float) -> Health | None:
        """See `HealthStore.record`."""
        at = {"S": format_rfc3339(now)}
        answer = self._client.update_item(
            TableName=self._table_name,
            Key={"pk": {"S": HEALTH_KEY}},
            UpdateExpression="SET #state = :state, reason = :reason, checked_at = :at",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues={":state": {"S": health.value}, ":reason": {"S": reason}, ":at": at},
            ReturnValues="ALL_OLD",
        )
        before = unmarshal(answer.get("Attributes", {})).get("state")
        if before != health.value:
            self._client.update_item(
                TableName=self._table_name,
                Key={"pk": {"S": HEALTH_KEY}},
                UpdateExpression="SET since = :at",
                ExpressionAttributeValues={":at": at},
            )
        return Health(str(before)) if before is not None else None


@dataclass(frozen=True)
class HealthChecker:
    """One per sandbox."""

    gateway: GatewayPort
    store: HealthStore
    clock: Clock = field(default_factory=Clock)

    def check(self) -> tuple[Mapping[str, Any], tuple[Measurement, ...]]:
        """Ask once, remember, and report: the result for the caller, and what to publish."""
        answer = self.gateway.get_health()
        health, reason = judge(answer)
        before = self.store.record(health, reason, now=self.clock.now())
        result = {"state": health.value, "reason": reason, "milliseconds": round(answer.seconds * 1000)}
        if before is not health:
            logger().warning("gateway health changed", extra={**result, "before": before.value if before else None})
        measurements: list[Measurement] = []
        if health is not Health.UNKNOWN:
            measurements.append((Metric.GATEWAY_HEALTHY, 1.0 if health is Health.HEALTHY else 0.0))
        if answer.status is not None:
            measurements.append((Metric.GATEWAY_LATENCY, answer.seconds * 1000))
        return result, tuple(measurements)


def judge(answer: Answer) -> tuple[Health, str]:
    """200 is healthy. 404 says that this gateway offers no health check: that says nothing of its messages."""
    if answer.status == 200:
        return Health.HEALTHY, "ok"
    if answer.status == 404:
        return Health.UNKNOWN, "no health check offered (status 404)"
    if answer.status is not None:
        return Health.UNHEALTHY, f"status {answer.status}"
    return Health.UNHEALTHY, answer.failure or "no answer"
