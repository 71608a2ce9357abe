"""Check a message as the sender function does, and describe its segments."""

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
class CheckedMessage:
    """A message that breaks no rule, with the body as it goes on the queue."""

    message_id: str
    body: str = field(repr=False)
    message: OutboundMessage = field(repr=False)


def new_message_id() -> str:
    """Return a new message_id for a message without one."""
    return f"cli-{uuid.uuid4().hex}"


def check(fields: Mapping[str, Any], message_id: str) -> CheckedMessage:
    """Return the message with these fields, and this ``message_id`` if it has none; or raise `InvalidMessageError`."""
    given = {name: value for name, value in fields.items() if value is not None}
    body = json.dumps({"message_id": message_id, **given})
    message = parse_message(body, now=time.time())
    return CheckedMessage(message.message_id or message_id, body, message)


def describe(message: OutboundMessage) -> dict[str, Any]:
    """Return the number of segments, the encoding, and the character that makes it UCS-2."""
    segments = message.segments
    described: dict[str, Any] = {
        "characters": len(message.content),
        "segments": segments.count,
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
