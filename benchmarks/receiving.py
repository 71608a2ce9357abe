"""ReceiveCallbackFunction: CPU of a status callback, and what it costs in calls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from benchmarks.charts import Chart, chart
from benchmarks.handlers import (
    FixedContext,
    aws_calls,
    aws_in_process,
    load,
    silent,
    status_callback,
    table_writes,
)
from benchmarks.servers import Servers
from benchmarks.side_by_side import Arm, Figure, Progress, measure, ratio

_AT_ONCE: Final = 50
_RECEIVER, _WRITE = "ReceiveCallbackFunction", "the bare table write"


def cpu(servers: Servers, *, passes: int, progress: Progress) -> Iterator[Figure | Chart]:
    """CPU of a status callback, its log line and metrics included, against the bare table write."""
    progress("CPU of a status callback")
    app, event = load(servers, "ReceiveCallbackFunction"), status_callback()
    (write,), client = table_writes(app, event), app.receiver().messages._client

    def callbacks() -> None:
        for _ in range(_AT_ONCE):
            app.lambda_handler(event, FixedContext())

    def writes() -> None:
        for _ in range(_AT_ONCE):
            client.update_item(**write)

    arms = [Arm(_RECEIVER, callbacks, units=_AT_ONCE), Arm(_WRITE, writes, units=_AT_ONCE)]
    with silent():
        over_http = measure(arms, passes=passes, timer=time.process_time)
        with aws_in_process():
            in_process = measure(arms, passes=passes, timer=time.process_time)
    yield Figure("CPU of a status callback", ratio(over_http, _RECEIVER, _WRITE), 1.4, "of the bare table write")
    yield chart("CPU of a status callback", "µs", over_http, _WRITE)
    name = "CPU of a status callback, no network"
    yield Figure(name, ratio(in_process, _RECEIVER, _WRITE), note="the same, the write answered in process")


def calls(servers: Servers, *, progress: Progress) -> Iterator[Figure]:
    """AWS calls of a warm execution environment for a status callback."""
    progress("calls of a status callback")
    app, event = load(servers, "ReceiveCallbackFunction"), status_callback()
    aws_calls(app, event)
    seen = aws_calls(app, event)
    yield Figure("table writes of a status callback", seen.pop("UpdateItem"), 1)
    yield Figure("other AWS calls of a status callback", seen.total(), 0)
