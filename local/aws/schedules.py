"""Fires the template's schedule rules: what EventBridge does with AWS::Events::Rule and a ScheduleExpression."""

import re
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

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


class ScheduleRunner:
    """Fires each schedule in a thread of its own: first soon after the start, then every `every_seconds / speed`.

    A firing that is still running when the next is due delays it; EventBridge would start a second one.
    """

    def __init__(self, schedules: list[Schedule], speed: float = 1.0) -> None:
        self._speed = speed
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._fire_until_stopped, args=(schedule,), name=f"schedule {schedule.rule_arn}")
            for schedule in schedules
        ]

    def start(self) -> None:
        """Start firing."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Fire no more."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for firings under way."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _fire_until_stopped(self, schedule: Schedule) -> None:
        wait = FIRST_TICK_SECONDS
        while not self._stopping.wait(wait):
            schedule.invoke(schedule.event or scheduled_event(schedule.rule_arn, datetime.now(UTC)))
            wait = schedule.every_seconds / self._speed
