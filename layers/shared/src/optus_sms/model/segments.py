"""The segments that carry a text (AWS: message parts): their number and their encoding.

GSM 03.38 with its extension table (3GPP TS 23.038, 6.2.1) if every character is in it, else UCS-2. In a message of
several segments each loses 6 bytes to its header (3GPP TS 23.040, 9.2.3.24.1), and none ends inside an escape pair or a
surrogate pair. The gateway documents none of this for REST v2 and can shorten links, so its bill can differ.
"""

from dataclasses import dataclass
from typing import Literal

GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_EXTENSION = frozenset("\f^{}\\[~]|€")
_GSM = GSM_BASIC | GSM_EXTENSION

MAX_SEGMENTS = 10

CONTROLS = r"\u0000-\u0009\u000b\u000e-\u001f\u007f-\u009f"
"""The controls that GSM 03.38 lacks, and ESC, which it reserves; for the brackets of a regular expression."""
INVISIBLE = (
    r"\u0000-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    r"\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
"""White space, controls and Unicode's default ignorable characters (UCD, DerivedCoreProperties) up to U+FFFF."""
INVISIBLE_BEYOND = "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
"""The same above U+FFFF, which regular expressions over UTF-16 can't have as a range."""


@dataclass(frozen=True, slots=True)
class Segments:
    """The segments of one text. ``ucs2_at``: the index of the first character that GSM 03.38 lacks."""

    encoding: Literal["GSM-7", "UCS-2"]
    count: int
    ucs2_at: int | None = None


def count_segments(text: str) -> Segments:
    """Count the segments of ``text`` as a handset receives them; an empty text has one."""
    if _GSM.issuperset(text):
        units = len(text) if GSM_EXTENSION.isdisjoint(text) else [2 if c in GSM_EXTENSION else 1 for c in text]
        return Segments("GSM-7", _parts(units, alone=160, each=153))
    ucs2_at = next(index for index, character in enumerate(text) if character not in _GSM)
    units = len(text) if max(text) <= "\uffff" else [2 if c > "\uffff" else 1 for c in text]
    return Segments("UCS-2", _parts(units, alone=70, each=67), ucs2_at)


def _parts(units: int | list[int], *, alone: int, each: int) -> int:
    """Return the number of segments: ``units`` is a count, or the size of each character, which can't be split."""
    if isinstance(units, int):
        return 1 if units <= alone else -(-units // each)
    if sum(units) <= alone:
        return 1
    count, used = 1, 0
    for size in units:
        if used + size > each:
            count, used = count + 1, 0
        used += size
    return count
