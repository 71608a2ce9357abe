"""Fires the template's schedule rules: what EventBridge does with AWS::Events::Rule and a ScheduleExpression."""

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local.aws.background_thread import BackgroundThread
from local.aws.function import Invocation

FIRST_TICK_SECONDS = 0.5
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_UNIT_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True)
class Schedule:
    """One target of an enabled schedule rule."""

    rule_arn: str
    every_seconds: float
    invoke: Callable[[Any], Invocation]
    event: Mapping[str, Any] | None = None
    """The target's constant Input; None for EventBridge's own scheduled event."""


def seconds_between(expression: str) -> float:
    """How often a ScheduleExpression fires; a cron expression counts as once a day. Raises ValueError for neither."""
    if match := _RATE.fullmatch(expression):
        return int(match[1]) * _UNIT_SECONDS[match[2]]
    if expression.startswith("cron("):
        return _UNIT_SECONDS["day"]
    raise ValueError(f"not a schedule expression: {expression}")


def scheduled_event(rule_arn: str, at: datetime) -> dict[str, Any]:
    """The event EventBridge sends for a schedule rule."""
    region, account = rule_arn.split(":")[3:5]
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": account,
        "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": [rule_arn],
        "detail": {},
    }


class ScheduleRunner(BackgroundThread):
    """Fires a schedule: first soon after the start, then every `every_seconds / speed`.

    A firing that is still running when the next is due delays it; EventBridge would start a second one.
    """

    def __init__(self, schedule: Schedule, speed: float = 1.0) -> None:
        super().__init__(f"schedule {schedule.rule_arn}")
        self._schedule = schedule
        self._speed = speed

    def _run(self) -> None:
        wait, schedule = FIRST_TICK_SECONDS, self._schedule
        while not self._stopping.wait(wait):
            schedule.invoke(schedule.event or scheduled_event(schedule.rule_arn, datetime.now(UTC)))
            wait = schedule.every_seconds / self._speed
