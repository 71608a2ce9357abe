"""What is remembered of the gateway's health from check to check: one item of `SendLedgerTable`, `health#gateway`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, cast

from botocore.exceptions import ClientError

from optus_sms.records.table import Item, Value, marshal, refused_item, unmarshal

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

HEALTH_KEY: Final = "health#gateway"
PAUSED_BY: Final = "health"


class Health(StrEnum):
    """The gateway's health. Unknown is a state of its own, never "down"."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class PauseReason(StrEnum):
    """Why sending was paused."""

    OUTAGE = "outage"
    CREDENTIALS_REFUSED = "credentials_refused"


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of our own. ``at``: RFC 3339. ``confirmed``: the queue has been seen shut since.

    ``credentials_version``: the secret's version then, so that a new one is noticed.
    """

    at: str
    reason: PauseReason
    confirmed: bool = False
    credentials_version: str = ""


@dataclass(frozen=True, slots=True)
class HealthRecord:
    """Where the gateway stands. ``since`` and ``checked_at``: RFC 3339; ``…_since``: epoch seconds, 0 for not.

    ``…_checks``: so many in a row; ``checks``: all there were, the version of the record.
    """

    state: Health = Health.UNKNOWN
    reason: str = "never checked"
    since: str = ""
    checked_at: str = ""
    checks: int = 0
    good_checks: int = 0
    bad_checks: int = 0
    unknown_checks: int = 0
    failing_since: int = 0
    credentials: str = "unknown"
    refused_checks: int = 0
    refused_since: int = 0
    pause: Pause | None = None
    resumed_by_operator: bool = False


class HealthStore(Protocol):
    """What the health check needs."""

    def read(self) -> HealthRecord:
        """The record; a fresh one if there is none."""

    def write(self, record: HealthRecord, *, seen: HealthRecord) -> bool:
        """Replace the record that was read; False if somebody else has done so, or has changed its pause, meanwhile."""


class DynamoHealthStore:
    """The item in DynamoDB: one read and one write for a check.

    An operator who wants to keep a queue shut that we have paused removes ``paused_by``: then it is their pause.
    """

    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def read(self) -> HealthRecord:
        """See `HealthStore.read`."""
        answer = self._client.get_item(TableName=self._table_name, Key={"pk": {"S": HEALTH_KEY}}, ConsistentRead=True)
        return _record(unmarshal(answer.get("Item", {})))

    def write(self, record: HealthRecord, *, seen: HealthRecord) -> bool:
        """See `HealthStore.write`."""
        same_checks = "checks = :checks" if seen.checks else "attribute_not_exists(checks)"
        is_ours = "paused_by = :health"
        same_pause = is_ours if seen.pause else f"(attribute_not_exists(paused_by) OR NOT {is_ours})"
        values: dict[str, Value | None] = {":checks": seen.checks or None, ":health": PAUSED_BY}
        item = _item(record)
        try:
            self._client.put_item(
                TableName=self._table_name,
                Item=marshal(item),
                ConditionExpression=f"{same_checks} AND {same_pause}",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                ExpressionAttributeValues=marshal(values),
            )
        except ClientError as error:
            refused_by = refused_item(error)
            if refused_by is None:
                raise
            # The SDK may have repeated a write whose answer was lost: then our own item is the one that refuses.
            return refused_by == {name: value for name, value in item.items() if value is not None}
        return True


def _item(record: HealthRecord) -> dict[str, Value | None]:
    pause = record.pause
    return {
        "pk": HEALTH_KEY,
        "state": record.state.value,
        "reason": record.reason,
        "since": record.since,
        "checked_at": record.checked_at,
        "checks": record.checks,
        "good_checks": record.good_checks,
        "bad_checks": record.bad_checks,
        "unknown_checks": record.unknown_checks,
        "failing_since": record.failing_since or None,
        "credentials": record.credentials,
        "refused_checks": record.refused_checks,
        "refused_since": record.refused_since or None,
        "paused_by": PAUSED_BY if pause else None,
        "paused_at": pause.at if pause else None,
        "pause_reason": pause.reason.value if pause else None,
        "pause_confirmed": pause.confirmed if pause else None,
        "credentials_version": (pause.credentials_version or None) if pause else None,
        "resumed_by_operator": True if record.resumed_by_operator else None,
    }


def _record(item: Item) -> HealthRecord:
    def text(name: str, default: str = "") -> str:
        return str(item.get(name, default))

    def number(name: str) -> int:
        return cast("int", item.get(name, 0))

    pause = None
    if item.get("paused_by") == PAUSED_BY:
        pause = Pause(
            at=text("paused_at"),
            reason=PauseReason(text("pause_reason", PauseReason.OUTAGE)),
            confirmed=item.get("pause_confirmed") is True,
            credentials_version=text("credentials_version"),
        )
    return HealthRecord(
        state=Health(text("state", Health.UNKNOWN)),
        reason=text("reason", "never checked"),
        since=text("since"),
        checked_at=text("checked_at"),
        checks=number("checks"),
        good_checks=number("good_checks"),
        bad_checks=number("bad_checks"),
        unknown_checks=number("unknown_checks"),
        failing_since=number("failing_since"),
        credentials=text("credentials", "unknown"),
        refused_checks=number("refused_checks"),
        refused_since=number("refused_since"),
        pause=pause,
        resumed_by_operator=item.get("resumed_by_operator") is True,
    )
