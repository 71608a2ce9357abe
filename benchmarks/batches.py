"""Wall time of a batch of messages compared with the gateway's own time, and the same for a tutorial's handler."""

import json
import time
from collections.abc import Iterator
from functools import partial
from types import ModuleType
from typing import Any, Final

import requests

from benchmarks.charts import chart
from benchmarks.handlers import aws_in_process, batch, invoke, load
from benchmarks.servers import GATEWAY_SECRET, Servers
from benchmarks.side_by_side import Arm, Figure, measure, progress, ratio
from tools.charts import Bars

_AUTH: Final = (GATEWAY_SECRET["application"], GATEWAY_SECRET["password"])
_GATEWAY, _TUTORIAL = "the gateway alone", "the usual tutorial"
_BATCH_LIMITS: Final = {
    ("warm connections", 10, 100): 1.25,
    ("fresh TLS", 10, 100): 1.5,
    ("warm connections", 100, 100): 4.0,
}
"""To compute the gateway's own time: connections, messages, milliseconds."""


_BATCHES: Final = ((10, 100), (1, 100), (100, 100), (10, 20), (10, 500))
_SECONDS: Final = 30.0
"""Of each; at a gateway of 500 ms the tutorial's way takes five of them for a batch."""


def batches(servers: Servers, *, passes: int, quick: bool) -> Iterator[Figure | Bars]:
    """Measure one invocation of the sender function, with AWS's responses made in process; ``quick``: less."""
    for size, delay in _BATCHES[: 2 if quick else None]:
        progress(f"batch of {size} at a gateway that takes {delay} ms")
        yield from _batch(servers, size, delay, passes)


def _batch(servers: Servers, size: int, delay: int, passes: int) -> Iterator[Figure | Bars]:
    warm = _sender(servers, f"{servers.plain}/{delay}")
    fresh = _sender(servers, f"{servers.tls}/{delay}")
    arms = [
        Arm(_GATEWAY, lambda: time.sleep(delay / 1000)),
        Arm("warm connections", lambda: invoke(warm, batch(size))),
        Arm("fresh TLS", lambda: invoke(fresh, batch(size)), fresh.sender().gateway._transport.close),
    ]
    if size <= 10:  # the tutorial sends one after the other: a hundred take ten seconds
        arms.append(Arm(_TUTORIAL, partial(_tutorial, batch(size), f"{servers.plain}/{delay}/messages")))
    with aws_in_process():
        seconds = measure(arms, passes=passes, timer=time.perf_counter, at_most=_SECONDS)
    for arm in arms[1:]:
        limit = _BATCH_LIMITS.get((arm.name, size, delay))
        name = f"batch of {size:3}, gateway {delay:3} ms, {arm.name}"
        yield Figure(name, ratio(seconds, arm.name, _GATEWAY), limit, "of the gateway's own time")
    if (size, delay) == (10, 100):
        yield chart("A batch of ten at a gateway that takes 100 ms", "ms", seconds, _GATEWAY, _TUTORIAL)


def _sender(servers: Servers, base_url: str) -> ModuleType:
    """Return a new execution environment, which also trusts the servers' certificate."""
    app = load(servers, "SendMessageFunction", GATEWAY_BASE_URL=base_url)
    app.sender().gateway._transport.tls.load_verify_locations(cadata=servers.authority.decode())
    return app


def _tutorial(event: dict[str, Any], url: str) -> None:
    """Send as the first tutorial in a search does: one record after the other, each with a new connection."""
    for record in event["Records"]:
        fields = json.loads(record["body"])
        payload = {"destination": fields["destination"], "content": fields["content"]}
        requests.post(url, json=payload, auth=_AUTH, timeout=10).raise_for_status()
