"""Points in time: epoch seconds inside, RFC 3339 outside."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

RFC_3339 = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
"""RFC 3339, 5.6, without leap seconds: none is announced. `datetime` alone reads the offset +10:75 as +11:15."""
_RFC_3339 = re.compile(RFC_3339)


def parse_rfc3339(text: str) -> float:
    """Return the epoch seconds of an RFC 3339 time with offset; ``ValueError`` for any other text or date."""
    if not _RFC_3339.fullmatch(text):
        raise ValueError("not RFC 3339 with an offset")
    return datetime.fromisoformat(text.upper()).timestamp()


def format_whole_seconds(epoch_seconds: float) -> str:
    """Return a time as RFC 3339 in UTC, without the fraction of its second: the form of the gateway's example."""
    return datetime.fromtimestamp(int(epoch_seconds), UTC).isoformat().replace("+00:00", "Z")


def time_or_none(text: object) -> float | None:
    """Return the epoch seconds of an RFC 3339 time from outside; None for other texts, and if UTC has no such time."""
    try:
        seconds = parse_rfc3339(str(text))
        format_rfc3339(seconds)  # near either end of the calendar, an offset can lead to a year that UTC lacks
    except ValueError:
        return None
    return seconds


def format_rfc3339(epoch_seconds: float) -> str:
    """Return a time as RFC 3339 in UTC, with milliseconds and ``Z``; such texts sort in time order."""
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Clock(NamedTuple):
    """The time as the flows read it. ``now``: epoch seconds. ``monotonic`` and ``sleep``: seconds."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
