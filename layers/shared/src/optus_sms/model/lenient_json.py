"""JSON from the gateway: a value that Python or the tables can't hold does not lose the other fields."""

import json
import re
from typing import Any, Final

REPLACEMENT: Final = "\ufffd"
_MAX_DEPTH: Final = 32
_MAX_DIGITS: Final = 255
_HALF_CHARACTER: Final = re.compile("[\ud800-\udfff]")  # half of a surrogate pair, which UTF-8 can't encode
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


def parse_json(text: str) -> Any:
    """Parse a JSON text; ValueError if it is not JSON. Strings can hold half characters: see `storable`."""
    return json.loads(_flattened(text), parse_int=_whole_number)


def storable(text: str) -> str:
    """Return the text with U+FFFD for each half character."""
    return _HALF_CHARACTER.sub(REPLACEMENT, text)


def _flattened(text: str) -> str:
    """Return JSON with null for values that are nested too deep, for which the parser would refuse the whole text."""
    if text.count("[") + text.count("{") <= _MAX_DEPTH:
        return text
    kept, end, depth = "", 0, 0
    for found in _STRING_OR_BRACKET.finditer(text):
        if found[0] in "[{":
            depth += 1
            if depth == _MAX_DEPTH + 1:
                kept += text[end : found.start()] + "null"
        elif found[0] in "]}":
            depth -= 1
            if depth == _MAX_DEPTH:
                end = found.end()
    return kept + text[end:] if depth <= _MAX_DEPTH else text[:end]


def _whole_number(digits: str) -> int | str:
    """Return a number, or its digits if they are too many for an ID: Python refuses to convert thousands of them."""
    return int(digits) if len(digits) <= _MAX_DIGITS else digits
