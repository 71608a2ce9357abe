"""The form's view of a message while it is typed: its segments and broken rules. Pure."""

import unicodedata
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, Final

from cli.checked_message import check
from optus_sms.model.errors import InvalidMessageError
from optus_sms.model.segments import GSM_BASIC, GSM_EXTENSION, Segments, count_segments

_LARGEST_SEGMENT: Final = 160
_ANY_ID: Final = "not-queued"


def look(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the segments of a message as typed, and the broken rules by field."""
    try:
        check(fields, _ANY_ID)
        problems = {}
    except InvalidMessageError as error:
        problems = by_field(error)
    text = fields.get("content")
    return {"fields": problems, **counted(text if isinstance(text, str) else "")}


def by_field(error: InvalidMessageError) -> dict[str, str]:
    """Return each broken rule under its field."""
    return dict(problem.split(": ", 1) for problem in error.problems)


def counted(text: str) -> dict[str, Any]:
    """Return segments, encoding, units, the units left in the last segment, and the characters that make it UCS-2."""
    if not text:
        return {"segments": 0}
    segments = count_segments(text)
    return {
        "segments": segments.count,
        "encoding": segments.encoding,
        "units": _units(text, segments),
        "left_in_segment": _left(text, segments),
        "culprits": _culprits(text),
    }


def _units(text: str, segments: Segments) -> int:
    if segments.encoding == "GSM-7":
        return len(text) + sum(character in GSM_EXTENSION for character in text)
    return len(text) + sum(character > "\uffff" for character in text)


def _left(text: str, segments: Segments) -> int:
    """Return how many plain letters fit before another segment is needed, by trying `count_segments`."""
    letters = range(_LARGEST_SEGMENT + 1)
    return bisect_right(letters, segments.count, key=lambda more: count_segments(text + "a" * more).count) - 1


def _culprits(text: str) -> list[dict[str, Any]]:
    """Return each character that GSM 03.38 lacks, with the index of its first use."""
    first: dict[str, int] = {}
    for at, character in enumerate(text):
        if character not in GSM_BASIC and character not in GSM_EXTENSION:
            first.setdefault(character, at)
    return [
        {"char": character, "at": at, "name": unicodedata.name(character, f"U+{ord(character):04X}")}
        for character, at in first.items()
    ]
