"""Waiting for a condition instead of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 30.0
_LOOK_EVERY_SECONDS = 0.02


def eventually(look: Callable[[], T], what: str, deadline_seconds: float = DEADLINE_SECONDS) -> T:
    """What `look` gives as soon as it is true; fails with `what` and what was last seen when it never is."""
    end = time.monotonic() + deadline_seconds
    while not (seen := look()):
        assert time.monotonic() < end, f"{what}: not within {deadline_seconds:.0f} s; last seen: {seen!r}"
        time.sleep(_LOOK_EVERY_SECONDS)
    return seen
