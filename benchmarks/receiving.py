"""ReceiveCallbackFunction: CPU of a status callback, and what it costs in calls."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from benchmarks.charts import chart
from benchmarks.handlers import aws_in_process, aws_requests, invoke, load, status_callback
from benchmarks.servers import Servers
from benchmarks.side_by_side import Arm, Figure, measure, progress, ratio
from optus_sms.aws import clients
from tools.charts import Bars

_AT_ONCE: Final = 50
_RECEIVER, _WRITE = "ReceiveCallbackFunction", "the bare table write"


def callbacks(servers: Servers, *, passes: int) -> Iterator[Figure | Bars]:
    """Measure the CPU of a status callback, its log line and metrics included, against the bare table write.

    Then count its AWS calls.
    """
    progress("CPU of a status callback")
    app, event = load(servers, "ReceiveCallbackFunction"), status_callback()
    (write,) = [arguments for operation, arguments in aws_requests(app, event) if operation == "UpdateItem"]
    client = clients.dynamodb()

    def receive() -> None:
        for _ in range(_AT_ONCE):
            invoke(app, event)

    def write_only() -> None:
        for _ in range(_AT_ONCE):
            client.update_item(**write)

    arms = [Arm(_RECEIVER, receive, units=_AT_ONCE), Arm(_WRITE, write_only, units=_AT_ONCE)]
    over_http = measure(arms, passes=passes, timer=time.process_time)
    with aws_in_process():
        in_process = measure(arms, passes=passes, timer=time.process_time)
    yield Figure("CPU of a status callback", ratio(over_http, _RECEIVER, _WRITE), 1.4, "of the bare table write")
    yield chart("CPU of a status callback", "µs", over_http, _WRITE)
    name = "CPU of a status callback, no network"
    yield Figure(name, ratio(in_process, _RECEIVER, _WRITE), note="the same, the write answered in process")
    calls = Counter(operation for operation, _ in aws_requests(app, event))
    yield Figure("table writes of a status callback", calls.pop("UpdateItem"), 1)
    yield Figure("other AWS calls of a status callback", calls.total(), 0)
