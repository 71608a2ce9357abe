"""SendMessageFunction: wall time of a batch, CPU of a message, and what a message costs in calls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

import requests

from benchmarks.charts import Chart, chart
from benchmarks.handlers import (
    FixedContext,
    aws_calls,
    aws_in_process,
    batch,
    load,
    silent,
    table_writes,
)
from benchmarks.servers import GATEWAY_SECRET, Servers
from benchmarks.side_by_side import Arm, Figure, Progress, measure, ratio

_AUTH: Final = (GATEWAY_SECRET["application"], GATEWAY_SECRET["password"])
_GATEWAY, _TUTORIAL = "the gateway alone", "the usual tutorial"
_SENDER, _FLOOR = "SendMessageFunction", "a POST and 3 writes"
BATCH_LIMITS: Final = {("warm connections", 10, 100): 1.3, ("fresh TLS", 10, 100): 1.6}
"""Of the gateway's own time: connections, messages, milliseconds."""


def batches(servers: Servers, *, passes: int, progress: Progress) -> Iterator[Figure | Chart]:
    """Wall time of one invocation against the gateway's own time, table writes answered in process."""
    for size, delay in ((10, 100), (1, 100), (100, 100), (10, 20), (10, 500)):
        progress(f"batch of {size} at a gateway that takes {delay} ms")
        yield from _batch(servers, size, delay, passes if size < 100 else max(3, passes // 3))


def _batch(servers: Servers, size: int, delay: int, passes: int) -> Iterator[Figure | Chart]:
    warm = _sender(servers, f"{servers.gateway}/{delay}")
    fresh = _sender(servers, f"{servers.gateway_tls}/{delay}")
    event = batch(size)
    arms = [
        Arm(_GATEWAY, lambda: time.sleep(delay / 1000)),
        Arm("warm connections", lambda: warm.lambda_handler(batch(size), FixedContext())),
        Arm("fresh TLS", lambda: fresh.lambda_handler(batch(size), FixedContext()), _hang_up(fresh)),
    ]
    if size <= 10:  # one after the other: a hundred take ten seconds
        arms.append(Arm(_TUTORIAL, lambda: _tutorial(event, f"{servers.gateway}/{delay}/messages")))
    with silent(), aws_in_process():
        seconds = measure(arms, passes=passes, timer=time.perf_counter)
    for arm in arms[1:]:
        limit = BATCH_LIMITS.get((arm.name, size, delay))
        name = f"batch of {size:3}, gateway {delay:3} ms, {arm.name}"
        yield Figure(name, ratio(seconds, arm.name, _GATEWAY), limit, "of the gateway's own time")
    if (size, delay) == (10, 100):
        yield chart("A batch of ten at a gateway that takes 100 ms", "ms", seconds, _GATEWAY, _TUTORIAL)


def cpu(servers: Servers, *, passes: int, progress: Progress) -> Iterator[Figure | Chart]:
    """CPU of a message in a batch of ten against the same POST and table writes with nothing around them."""
    progress("CPU of a message")
    app = _sender(servers, f"{servers.gateway}/0")
    writes = table_writes(app, batch(1))
    client, session = app.sender().ledger._client, requests.Session()
    url, payload = f"{servers.gateway}/0/messages", {"destination": "+61491570006", "content": "Hello"}

    def floor() -> None:
        for _ in range(10):
            session.post(url, json=payload, auth=_AUTH, timeout=10)
            for arguments in writes:
                client.update_item(**arguments)

    arms = [Arm(_FLOOR, floor, units=10), Arm(_SENDER, lambda: app.lambda_handler(batch(10), FixedContext()), units=10)]
    with silent():
        seconds = measure(arms, passes=passes, timer=time.process_time)
    yield Figure("CPU of a message", ratio(seconds, _SENDER, _FLOOR), 1.5, "of one POST and three table writes")
    yield chart("CPU of a message", "µs", seconds, _FLOOR)


def calls(servers: Servers, *, progress: Progress) -> Iterator[Figure]:
    """AWS calls of a warm execution environment, for each message of a batch of ten."""
    progress("calls of a message")
    app = _sender(servers, f"{servers.gateway}/0")
    aws_calls(app, batch(10))
    seen = aws_calls(app, batch(10))
    yield Figure("table writes of a message", seen.pop("UpdateItem") / 10, 3)
    yield Figure("secret reads of a warm batch", seen.pop("GetSecretValue", 0), 0)
    yield Figure("other AWS calls of a message", seen.total() / 10, 0)


def _sender(servers: Servers, base_url: str) -> ModuleType:
    """An execution environment of its own, which trusts the servers' certificates too."""
    app = load(servers, "SendMessageFunction", GATEWAY_BASE_URL=base_url)
    app.sender().gateway._transport.tls.load_verify_locations(cadata=servers.authority.decode())
    return app


def _hang_up(app: ModuleType) -> Callable[[], None]:
    """Close its connections to the gateway."""
    return app.sender().gateway._transport.close  # type: ignore[no-any-return]


def _tutorial(event: dict[str, Any], url: str) -> None:
    """As a first search finds it: one record after the other, a new connection for each."""
    for record in event["Records"]:
        fields = json.loads(record["body"])
        payload = {"destination": fields["destination"], "content": fields["content"]}
        requests.post(url, json=payload, auth=_AUTH, timeout=10).raise_for_status()
