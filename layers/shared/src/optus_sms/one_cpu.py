"""Threads that share one CPU instead of passing Python's lock back and forth between two.

Only one thread at a time runs Python anyway. Each wait for a socket hands the lock to another thread, and if that one
lies on another CPU, waking it there costs more than most of what is done in between (docs/decisions/one-cpu.md).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """This thread, and those it starts meanwhile, on one of the CPUs it may use; afterwards it may use all again.

    Where the system knows no such thing (macOS) or refuses it, nothing changes but the speed.
    """
    if sys.platform != "linux":
        yield
        return
    allowed: set[int] = set()
    with suppress(OSError):
        allowed = os.sched_getaffinity(0)
        # By process number: several sandboxes on one machine, as in the local stack, don't all take the same one.
        os.sched_setaffinity(0, {sorted(allowed)[os.getpid() % len(allowed)]})
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, allowed)
