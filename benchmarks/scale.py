"""Checks that the ten-thousandth message or callback costs the same as the first ones, and that memory doesn't grow.

AWS's responses are made in this process, because an emulator's cost grows with its data. A fixed piece of work is timed
beside each event, so that a machine that gets slower does not look like a handler that does.
"""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from benchmarks.handlers import aws_in_process, batch, invoke, load
from benchmarks.servers import Servers, example
from benchmarks.side_by_side import Figure, progress

_BATCH: Final = 10
_STATM: Final = Path("/proc/self/statm")  # Linux; its second field: pages of memory in use
_WORK: Final = [{"number": number} for number in range(200)]


def scale(servers: Servers, *, most: int) -> Iterator[Figure]:
    """Measure both handlers, each in a new execution environment."""
    sender = load(servers, "SendMessageFunction", GATEWAY_BASE_URL=f"{servers.plain}/0")
    yield from _through_one(sender, partial(batch, _BATCH), _BATCH, most, "messages")
    receiver = load(servers, "ReceiveCallbackFunction")
    yield from _through_one(receiver, partial(example, "api/status_sent.json"), 1, most, "callbacks")


def _through_one(
    app: ModuleType, event: Callable[[], dict[str, Any]], units: int, most: int, what: str
) -> Iterator[Figure]:
    spent, memory = list[float](), list[int]()
    with aws_in_process():
        invoke(app, event())
        for done in range(0, most, units):
            if done % (most // 4) == 0:
                progress(f"{done:,} of {most:,} {what} through one execution environment")
            following = event()
            fixed = _cpu(lambda: json.loads(json.dumps(_WORK)))
            spent.append(_cpu(partial(invoke, app, following)) / fixed)
            memory.append(int(_STATM.read_text().split()[1]) if _STATM.exists() else 1)
    tenth = len(spent) // 10
    level = _undisturbed(spent[-tenth:]) / _undisturbed(spent[:tenth])
    yield Figure(f"CPU of the last of {most:,} {what}", level, 1.1, "of the first ones'")
    yield Figure(f"memory after {most:,} {what}", memory[-1] / memory[tenth], 1.05, "of that after a tenth of them")


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _undisturbed(ratios: list[float]) -> float:
    """Return the sum of the lower half, because other work on the machine disturbs only some measurements."""
    return sum(sorted(ratios)[: len(ratios) // 2])
