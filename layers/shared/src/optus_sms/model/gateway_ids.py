"""IDs that the gateway gives to messages and replies: opaque texts. In version 2 UUIDs, in version 1 whole numbers."""

import re
from typing import Final

MAX_ID: Final = 255
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
# Texts that serializers write for "none". As an ID, such a text would merge all messages that have it.
_NONE: Final = frozenset({"0", "false", "null", "none", "nil", "undefined", "00000000-0000-0000-0000-000000000000"})


def canonical_id(gateway_id: str) -> str:
    """Return a UUID in lower case, because its case has no meaning (RFC 9562, section 4); any other ID unchanged."""
    return gateway_id.lower() if _UUID.fullmatch(gateway_id) else gateway_id


def usable_id(value: object) -> str | None:
    """Return the ID in a JSON value, or None if it has none."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    text = text.strip() if isinstance(text, str) else ""
    is_usable = text.isprintable() and any(map(str.isalnum, text)) and text.lower() not in _NONE and len(text) <= MAX_ID
    return canonical_id(text) if is_usable else None
