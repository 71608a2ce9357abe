"""The health check's calls to AWS: the sender function's metrics, and the event source mappings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

import boto3
import pytest
from moto import mock_aws

from optus_sms.aws import clients
from optus_sms.aws.queue_switch import QueueSwitch
from optus_sms.aws.traffic import SenderMetrics, Traffic, TrafficUnknownError
from optus_sms.model.lanes import Lane
from optus_sms.runtime.observability import NAMESPACE
from tests.support.aws import REGION

MAPPINGS = {Lane.ORDINARY: "mapping-1", Lane.URGENT: "mapping-2"}
NOW = datetime.now(UTC).timestamp() - 600  # moto drops old data


@pytest.fixture
def cloudwatch() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("cloudwatch", region_name=REGION, config=clients._CONFIG)


def put(client: Any, name: str, value: float, *, at: float = NOW, stack: str = "ours", service: str = "") -> None:
    dimensions = {"service": service or "send_message", "stack": stack}
    client.put_metric_data(
        Namespace=NAMESPACE,
        MetricData=[
            {
                "MetricName": name,
                "Dimensions": [{"Name": key, "Value": text} for key, text in dimensions.items()],
                "Value": value,
                "Unit": "Count",
                "Timestamp": datetime.fromtimestamp(at, UTC),
            }
        ],
    )


def test_traffic_is_the_sum_of_what_our_senders_measured_in_that_time(cloudwatch: Any) -> None:
    put(cloudwatch, "MessagesAccepted", 3)
    put(cloudwatch, "MessagesAccepted", 4, at=NOW + 200)
    put(cloudwatch, "CredentialsRefused", 2, at=NOW + 100)
    put(cloudwatch, "OutcomesUnknown", 5)
    put(cloudwatch, "GatewayErrors", 6, at=NOW + 100)
    put(cloudwatch, "MessagesAccepted", 50, at=NOW - 600)
    put(cloudwatch, "MessagesAccepted", 50, at=NOW + 500)
    put(cloudwatch, "MessagesAccepted", 50, stack="another")
    put(cloudwatch, "CredentialsRefused", 50, service="check_health")
    assert SenderMetrics(cloudwatch, "ours").between(NOW - 60, NOW + 240) == Traffic(
        accepted=7, refused=2, unknown=5, failed=6
    )


def test_no_traffic_is_nothing_accepted(cloudwatch: Any) -> None:
    assert SenderMetrics(cloudwatch, "ours").between(NOW - 60, NOW) == Traffic(0, 0)


@pytest.mark.parametrize("status", ["PartialData", "InternalError", "Forbidden"])
def test_half_an_answer_is_none(status: str) -> None:
    class Client:
        def get_metric_data(self, **_: object) -> dict[str, Any]:
            results = [{"Id": "accepted", "Values": [], "StatusCode": status}]
            return {"MetricDataResults": [*results, {"Id": "refused", "Values": [3.0], "StatusCode": "Complete"}]}

    with pytest.raises(TrafficUnknownError):
        SenderMetrics(cast(Any, Client()), "ours").between(NOW - 60, NOW)


class Lambda:
    """Lambda with a mapping."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.updates: list[dict[str, Any]] = []

    def get_event_source_mapping(self, **arguments: Any) -> dict[str, Any]:
        assert arguments["UUID"] in MAPPINGS.values()
        return {**arguments, "State": self.state}

    def update_event_source_mapping(self, **arguments: Any) -> None:
        self.updates.append(arguments)


@pytest.mark.parametrize(
    ("state", "is_on"),
    [
        ("Enabled", True),
        ("Enabling", True),
        ("Disabled", False),
        ("Disabling", False),
        ("Updating", None),
        ("Creating", None),
        ("Deleting", None),
    ],
)
def test_a_change_under_way_counts_as_done_and_any_other_state_is_not_known(state: str, is_on: bool | None) -> None:
    switch = QueueSwitch(cast(Any, Lambda(state)), MAPPINGS)
    assert switch.lanes() == {Lane.ORDINARY: is_on, Lane.URGENT: is_on}
    assert switch.is_on() is is_on


def test_pause_and_resume_name_the_mapping_and_nothing_else() -> None:
    client = Lambda("Enabled")
    switch = QueueSwitch(cast(Any, client), MAPPINGS)
    switch.pause()
    switch.resume([Lane.URGENT])
    assert client.updates == [
        {"UUID": "mapping-1", "Enabled": False},
        {"UUID": "mapping-2", "Enabled": False},
        {"UUID": "mapping-2", "Enabled": True},
    ]
