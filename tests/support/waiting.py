"""Waiting for a condition instead of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 30.0
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.1


def eventually(look: Callable[[], T], what: str, deadline_seconds: float = DEADLINE_SECONDS) -> T:
    """Return the first true result of `look`; fail with `what` and the last result if there is none.

    A look often costs a call to the local stack, so the pauses grow with the time that it takes: a tenth of it.
    """
    start = time.monotonic()
    while not (seen := look()):
        passed = time.monotonic() - start
        assert passed < deadline_seconds, f"{what}: not within {deadline_seconds:.0f} s; last seen: {seen!r}"
        time.sleep(min(max(passed / 10, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS))
    return seen
