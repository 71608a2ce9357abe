"""Keeps the threads of a batch on one CPU, so that they don't pass Python's lock (GIL) between CPUs.

Only one thread at a time runs Python. Each wait for a socket hands the lock to another thread, and waking a thread on
another CPU costs more than running it next on the same one (docs/decisions/one-cpu.md).
"""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """Keep this thread, and the threads it starts meanwhile, on one CPU; afterwards allow all CPUs again.

    If the system does not support this (macOS) or refuses it, the batch is only slower.
    """
    if sys.platform == "linux":
        allowed: set[int] = set()
        with suppress(OSError):
            allowed = os.sched_getaffinity(0)
            # A random CPU, because the local stack has several execution environments on one machine.
            os.sched_setaffinity(0, {random.choice(sorted(allowed))})  # noqa: S311 - no secret
        try:
            yield
        finally:
            with suppress(OSError):
                os.sched_setaffinity(0, allowed)
    else:
        yield
