"""When the local stack fires a schedule rule, and with what."""

import re
from datetime import UTC, datetime

import pytest

from local.aws.schedules import scheduled_event, seconds_between


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [("rate(1 minute)", 60), ("rate(5 minutes)", 300), ("rate(2 hours)", 7200), ("rate(1 day)", 86_400)],
)
def test_how_often_a_schedule_fires(expression: str, seconds: float) -> None:
    assert seconds_between(expression) == seconds


@pytest.mark.parametrize("expression", ["every minute", "cron(0 3 * * ? *)"])
def test_what_is_no_rate_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expression)):
        seconds_between(expression)


def test_the_event_has_eventbridges_shape() -> None:
    arn = "arn:aws:events:ap-southeast-2:123456789012:rule/Every"
    event = scheduled_event(arn, datetime(2026, 1, 1, tzinfo=UTC))

    del event["id"]
    assert event == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": "2026-01-01T00:00:00Z",
        "region": "ap-southeast-2",
        "resources": [arn],
        "detail": {},
    }
