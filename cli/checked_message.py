"""A message that breaks no rule of the sender, under its message_id, and what becomes of its text."""

from __future__ import annotations

import json
import time
import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optus_sms.model.queue_message import OutboundMessage, parse_message


@dataclass(frozen=True, slots=True)
class Ready:
    """A message that breaks no rule, with the body as it goes on the queue."""

    key: str
    body: str = field(repr=False)
    message: OutboundMessage = field(repr=False)


def new_key() -> str:
    """For a message that has no message_id of its own."""
    return f"cli-{uuid.uuid4().hex}"


def check(fields: Mapping[str, Any], key: str) -> Ready:
    """A message by its fields, None left out; ``key`` if it has none. `InvalidMessageError` names fields and rules."""
    given = {name: value for name, value in fields.items() if value is not None}
    body = json.dumps({"message_id": key, **given})
    message = parse_message(body, now=time.time())
    return Ready(message.message_id or key, body, message)


def describe(message: OutboundMessage) -> dict[str, Any]:
    """What becomes of the text: parts, encoding, and which character made it UCS-2."""
    segments = message.segments
    described: dict[str, Any] = {
        "characters": len(message.content),
        "parts": segments.count,
        "encoding": segments.encoding,
    }
    if segments.ucs2_at is not None:
        character = message.content[segments.ucs2_at]
        described["ucs2_because"] = {
            "character": character,
            "code_point": f"U+{ord(character):04X}",
            "name": unicodedata.name(character, "a character without a name"),
            "position": segments.ucs2_at + 1,
        }
    return described
