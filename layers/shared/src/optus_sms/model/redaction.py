"""Redact phone numbers, message texts and IDs that may hold them, before they are logged, listed or published.

Every text that leaves the tables and the queues for a log, a metric, a list, a plan, a page or an event passes through
here. Credentials need no rule: no code formats one into a text.
"""

import re
import sys
import unicodedata
from itertools import groupby
from typing import Final
from urllib.parse import unquote

REDACTED: Final = "…"
"""Replaces a redacted text."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
_PLAIN_ID: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9._:-]{1,64}")
_WORD: Final = re.compile(r"[^\W_]{3,}")
_QUOTED_CHARACTERS: Final = 12
"""A text that has so many characters in a row in common with a message counts as a quotation."""

# The units of a text: a time, which is not a phone number; a character escaped as in code, JSON, a URL or HTML, even
# more than once; any other character.
_HEX: Final = "[0-9A-Fa-f]"
_ESCAPE: Final = re.compile(
    rf"\\+(?P<pair>u[dD][89abAB]{_HEX}{{2}}\\+u[dD][c-fC-F]{_HEX}{{2}})"
    rf"|\\+(?P<hex>u{_HEX}{{4}}|U{_HEX}{{8}}|x{_HEX}{{2}})"
    r"|\\+(?P<short>[nrt/])"
    rf"|(?P<url>%(?:25)*(?:[0-7]{_HEX}|[c-fC-F]{_HEX}(?:%(?:25)*[89abAB]{_HEX}){{1,3}}))"
    rf"|&(?:amp;)*(?:#(?P<decimal>\d{{1,9}})|#(?P<html_hex>[xX]{_HEX}{{1,8}})|(?P<name>[A-Za-z]{{2,8}}));",
    re.ASCII,
)
_UNIT: Final = re.compile(
    rf"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d(?::\d\d(?:\.\d{{1,6}})?)?(?!\d)|{_ESCAPE.pattern}|.", re.ASCII | re.DOTALL
)
_NAMED: Final = {"n": "\n", "r": "\r", "t": "\t", "/": "/", "amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_PLUS: Final = frozenset("+\uff0b")
_SEPARATORS: Final = _PLUS | frozenset(".,/_'*~|\u00b7\u2022\u2027\u2044\u2212\u2215\u30fb\t\n\r")
_SEPARATOR_CATEGORIES: Final = frozenset({"Zs", "Zl", "Zp", "Pd", "Ps", "Pe"})  # spaces, dashes, brackets
_INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Mn", "Me"})  # controls, zero-width characters, accents


def partly_hidden(number: str) -> str:
    """Return a phone number's last three characters: enough to compare, not to call. Short codes are hidden."""
    return f"{REDACTED}{number[-3:]}" if len(number) > 6 else REDACTED


def without_numbers(text: str, *, least_digits: int = 5) -> str:
    """Remove what may be a phone number: several digits of any script, however they are spaced or escaped."""
    units = _units(text)
    kinds = "".join(map(_kind, units))
    for found in reversed(list(re.finditer(rf"d(?:i*(?:si*){{0,4}}d){{{least_digits - 1},}}", kinds))):
        start = found.start()
        has_plus = start > 0 and _character(units[start - 1]) in _PLUS
        units[start - has_plus : found.end()] = [REDACTED]
    return "".join(units)


def without_text(text: str, content: str) -> str:
    """Remove quotations of a message's ``content`` from ``text``: the whole, or at least 12 characters in a row."""
    whole = re.sub(rf"(?<!\w){re.escape(content)}(?!\w)", REDACTED, text) if content else text
    size = _QUOTED_CHARACTERS
    runs = {content[start : start + size] for start in range(len(content) - size + 1)}
    starts = (start for start in range(len(whole) - size + 1) if whole[start : start + size] in runs)
    quoted = {position for start in starts for position in range(start, start + size)}
    pieces = groupby(range(len(whole)), key=quoted.__contains__)
    return "".join(REDACTED if is_quoted else "".join(whole[at] for at in piece) for is_quoted, piece in pieces)


def without_words(text: str, content: str) -> str:
    """Remove from a text every word (three letters or digits, or more) that a message's ``content`` has too.

    Parts of words count too, and words as JSON, a URL or HTML escape them. The remaining text can't quote the message.
    """
    words = [word.casefold() for word in _WORD.findall(content)]
    joined = "".join(words)

    def replace(found: re.Match[str]) -> str:
        word = found[0].casefold()
        return REDACTED if word in joined or any(own in word for own in words) else found[0]

    return _WORD.sub(replace, "".join(map(_character, _units(text)))) if words else text


def loggable_id(gateway_id: str) -> str:
    """Return an ID as it may be logged: partly hidden if it may be a phone number or a text given as an ID."""
    if _UUID.fullmatch(gateway_id):
        return gateway_id
    is_plain = _PLAIN_ID.fullmatch(gateway_id) and without_numbers(gateway_id) == gateway_id
    return gateway_id if is_plain else partly_hidden(gateway_id)


def printable(text: str, length: int) -> str:
    """Return the first ``length`` printable characters of a text from outside."""
    return "".join(character for character in text if character.isprintable())[:length]


def _units(text: str) -> list[str]:
    return [found[0] for found in _UNIT.finditer(text)]


def _kind(unit: str) -> str:
    """Return d for a digit, s for a separator of digits, i for an invisible character, x for anything else."""
    character = _character(unit)
    if len(character) > 1:
        return "x"
    if character.isdigit():
        return "d"
    category = unicodedata.category(character)
    if character in _SEPARATORS or category in _SEPARATOR_CATEGORIES:
        return "s"
    return "i" if category in _INVISIBLE_CATEGORIES else "x"


def _character(unit: str) -> str:
    """Return the character of a unit; the unit itself if there is none. Other named entities of HTML are spaces."""
    found = _ESCAPE.fullmatch(unit) if len(unit) > 1 else None
    if not found:
        return unit
    if found["url"]:
        return unquote(re.sub(rf"%(?:25)*({_HEX}{{2}})", r"%\1", unit))
    if found["pair"]:
        high, low = (int(code, 16) for code in re.findall(f"{_HEX}{{4}}", found["pair"]))
        return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
    if name := found["short"] or found["name"]:
        return _NAMED.get(name, " ")
    hexadecimal = found["hex"] or found["html_hex"]
    code = int(hexadecimal[1:], 16) if hexadecimal else int(found["decimal"])
    return chr(code) if 0 < code <= sys.maxunicode else unit
