"""The sender function's metrics, read from CloudWatch. Counting in a table would cost a write for each message."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from optus_sms.runtime.observability import NAMESPACE, Metric

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.type_defs import DimensionTypeDef, MetricDataQueryTypeDef

SENDER: Final = "send_message"  # POWERTOOLS_SERVICE_NAME of SendMessageFunction


class Traffic(NamedTuple):
    """How many messages the gateway accepted, how often it refused the credentials, how many outcomes were unknown, and
    how many requests failed in any way.
    """

    accepted: int
    refused: int
    unknown: int = 0
    failed: int = 0


class TrafficUnknownError(Exception):
    """CloudWatch's response was incomplete."""


class SenderMetrics:
    """The sender function's metrics in CloudWatch, which appear a minute or two late.

    It raises botocore's errors. An incomplete response is an error too: a missing count must not look like zero.
    """

    def __init__(self, client: CloudWatchClient, stack_name: str) -> None:
        self._client = client
        dimensions = {"service": SENDER, "stack": stack_name}
        self._dimensions: list[DimensionTypeDef] = [{"Name": name, "Value": dimensions[name]} for name in dimensions]

    def between(self, start: float, end: float) -> Traffic:
        """Return the traffic between two times (epoch seconds); CloudWatch rounds the first down to a whole minute."""
        response = self._client.get_metric_data(
            StartTime=datetime.fromtimestamp(start, UTC),
            EndTime=datetime.fromtimestamp(end + 1, UTC),
            MetricDataQueries=[
                self._sum("accepted", Metric.MESSAGES_ACCEPTED),
                self._sum("refused", Metric.CREDENTIALS_REFUSED),
                self._sum("unknown", Metric.OUTCOMES_UNKNOWN),
                self._sum("failed", Metric.GATEWAY_ERRORS),
            ],
        )
        results = response["MetricDataResults"]
        if any(result["StatusCode"] != "Complete" for result in results):
            raise TrafficUnknownError
        sums = {result["Id"]: round(sum(result["Values"])) for result in results}
        return Traffic(**sums)

    def _sum(self, name: str, metric: Metric) -> MetricDataQueryTypeDef:
        return {
            "Id": name,
            "MetricStat": {
                "Metric": {"Namespace": NAMESPACE, "MetricName": metric.value, "Dimensions": self._dimensions},
                "Period": 60,
                "Stat": "Sum",
            },
        }
