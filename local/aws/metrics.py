"""Put the functions' metrics into CloudWatch, as AWS does with log lines in the embedded metric format.

Counts are put as sums, other units as single values.
"""

import json
import logging
import queue
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.aws.background_thread import BackgroundThread

log = logging.getLogger(__name__)


class MetricRecorder(BackgroundThread):
    """Receives log lines from many threads, and puts their metrics in its own thread.

    `cloudwatch`: a client without retries.
    """

    def __init__(self, cloudwatch: Any) -> None:
        super().__init__("metric recorder")
        self._cloudwatch = cloudwatch
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def take(self, line: str) -> None:
        """Add a line of a function's log; most lines have no metrics."""
        if '"_aws"' in line:
            self._lines.put(line)

    def stop(self) -> None:
        """Put the waiting metrics, and no later ones."""
        super().stop()
        self._lines.put(None)

    def _run(self) -> None:
        for line in iter(self._lines.get, None):
            for namespace, data in metric_data(line):
                try:
                    self._cloudwatch.put_metric_data(Namespace=namespace, MetricData=data)
                except (BotoCoreError, ClientError) as error:
                    if not self._stopping.is_set():  # the emulator ends before this thread
                        log.warning("metrics are lost: %s", error)


def metric_data(line: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield PutMetricData's namespace and data for a line in the embedded metric format; nothing for any other."""
    try:
        record = json.loads(line)
        directives = record["_aws"]["CloudWatchMetrics"]
        at = datetime.fromtimestamp(record["_aws"]["Timestamp"] / 1000, UTC)
    except (ValueError, KeyError, TypeError):
        return
    for directive in directives:
        data = [
            {
                "MetricName": metric["Name"],
                "Dimensions": [{"Name": name, "Value": str(record[name])} for name in names],
                "Unit": metric["Unit"],
                "Timestamp": at,
                "Values": _values(record, metric),
            }
            for names in directive["Dimensions"]
            for metric in directive["Metrics"]
        ]
        yield directive["Namespace"], data


def _values(record: Mapping[str, Any], metric: Mapping[str, str]) -> list[float]:
    values: list[float] = record[metric["Name"]]
    return [sum(values)] if metric["Unit"] == "Count" else values
