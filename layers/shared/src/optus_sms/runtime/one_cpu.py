"""Threads that share one CPU instead of passing Python's lock back and forth between two.

Only one thread at a time runs Python anyway. Each wait for a socket hands the lock to another thread, and to wake that
one on another CPU costs more than to let it run next on this one (docs/decisions/one-cpu.md).
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """This thread, and those it starts meanwhile, on one of the CPUs it may use; afterwards on any of them again.

    Where the system knows no such thing (macOS) or refuses it, nothing changes but the speed.
    """
    if sys.platform == "linux":
        allowed: set[int] = set()
        with suppress(OSError):
            allowed = os.sched_getaffinity(0)
            # Any: several sandboxes on one machine, as in the local stack, must not all take the same one for ever.
            os.sched_setaffinity(0, {random.choice(sorted(allowed))})  # noqa: S311 - no secret
        try:
            yield
        finally:
            with suppress(OSError):
                os.sched_setaffinity(0, allowed)
    else:
        yield
