"""What the form shows of a message while it is typed: its segments, and what is wrong with it. Pure."""

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
    """The segments of a message as typed, and by field the rules it breaks."""
    try:
        check(fields, _ANY_ID)
        problems = {}
    except InvalidMessageError as error:
        problems = by_field(error)
    text = fields.get("content")
    return {"fields": problems, **counted(text if isinstance(text, str) else "")}


def by_field(error: InvalidMessageError) -> dict[str, str]:
    """Each rule by the field that breaks it."""
    return dict(problem.split(": ", 1) for problem in error.problems)


def counted(text: str) -> dict[str, Any]:
    """Segments, encoding, units and how many are left in the last segment, and which characters make it UCS-2."""
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
    """How many plain letters may follow until there is one segment more: asked of the one function that counts them."""
    letters = range(_LARGEST_SEGMENT + 1)
    return bisect_right(letters, segments.count, key=lambda more: count_segments(text + "a" * more).count) - 1


def _culprits(text: str) -> list[dict[str, Any]]:
    """Each character that GSM 03.38 lacks, with the index at which it first stands."""
    first: dict[str, int] = {}
    for at, character in enumerate(text):
        if character not in GSM_BASIC and character not in GSM_EXTENSION:
            first.setdefault(character, at)
    return [
        {"char": character, "at": at, "name": unicodedata.name(character, f"U+{ord(character):04X}")}
        for character, at in first.items()
    ]
