"""Whether the ten-thousandth message or callback costs what the first ones did, and the memory stays.

AWS is answered in process: moto's own cost grows with what it holds. Beside each event a fixed piece of work is timed,
so that a machine that gets slower meanwhile is not taken for a handler that does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.handlers import FixedContext, aws_in_process, batch, load, silent, status_callback
from benchmarks.servers import Servers
from benchmarks.side_by_side import Figure, Progress

_BATCH: Final = 10
_STATM: Final = Path("/proc/self/statm")  # Linux; its second field: pages of memory in use
_WORK: Final = [{"number": number} for number in range(200)]


def scale(servers: Servers, *, most: int, progress: Progress) -> Iterator[Figure]:
    """Both handlers, each in an execution environment of its own."""
    sender = load(servers, "SendMessageFunction", GATEWAY_BASE_URL=f"{servers.gateway}/0")
    yield from _through_one(sender.lambda_handler, lambda: batch(_BATCH), _BATCH, "messages", most, progress)
    receiver = load(servers, "ReceiveCallbackFunction")
    yield from _through_one(receiver.lambda_handler, status_callback, 1, "callbacks", most, progress)


def _through_one(
    handler: Callable[[Any, Any], object],
    event: Callable[[], object],
    units: int,
    what: str,
    most: int,
    progress: Progress,
) -> Iterator[Figure]:
    spent, memory = list[float](), list[int]()
    with silent(), aws_in_process():
        handler(event(), FixedContext())
        for done in range(0, most, units):
            if done % 500 == 0:
                progress(f"{done:,} of {most:,} {what} through one execution environment")
            following = event()
            fixed = _cpu(lambda: json.loads(json.dumps(_WORK)))
            spent.append(_cpu(partial(handler, following, FixedContext())) / fixed)
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
    """The quicker half: whatever else the machine does disturbs only some."""
    return sum(sorted(ratios)[: len(ratios) // 2])
