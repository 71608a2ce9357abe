"""Fires the template's schedule rules, as EventBridge does for an AWS::Events::Rule with a ScheduleExpression."""

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from local.aws.background_thread import BackgroundThread
from local.aws.function import Invocation

FIRST_TICK_SECONDS = 0.5
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_UNIT_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}


def seconds_between(expression: str) -> float:
    """Return the seconds between two firings of a ScheduleExpression. Raise ValueError if it is not a rate."""
    match = _RATE.fullmatch(expression)
    if match is None:
        raise ValueError(f"the local schedules know rates only, not {expression}")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def scheduled_event(rule_arn: str, at: datetime) -> dict[str, Any]:
    """Return the event that EventBridge sends for a schedule rule."""
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


class Schedule(BackgroundThread):
    """A target of a schedule rule: fires soon after the start, then every `every_seconds`.

    `event`: the target's constant Input; None for EventBridge's own scheduled event. A firing delays the next one if it
    is still running then; EventBridge would start both.
    """

    def __init__(
        self, rule_arn: str, every_seconds: float, invoke: Callable[[Any], Invocation], event: Mapping[str, Any] | None
    ) -> None:
        super().__init__(f"schedule {rule_arn}")
        self._rule_arn = rule_arn
        self._every_seconds = every_seconds
        self._invoke = invoke
        self._event = event

    def _run(self) -> None:
        wait = FIRST_TICK_SECONDS
        while not self._stopping.wait(wait):
            self._invoke(self._event or scheduled_event(self._rule_arn, datetime.now(UTC)))
            wait = self._every_seconds
