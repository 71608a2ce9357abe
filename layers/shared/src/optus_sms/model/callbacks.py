"""Status callbacks and reply callbacks, in every shape that the gateway's documents show.

Parsed without pydantic, whose import would slow down the receiving function's cold start
(docs/decisions/callbacks-without-pydantic.md). Facts: gateway-rest-v2.txt, StatusCallback and ReplyCallback; the prose
page of the same API names the ID `message_id` and adds `reference`, `reply_to` and `encoding`.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from optus_sms.model.errors import UnreadableCallbackError
from optus_sms.model.statuses import normalised

_MAX_ID: Final = 255
_MAX_DETAIL: Final = 1000
_INTERNATIONAL = re.compile(r"\+?[1-9][0-9]{9,14}")


@dataclass(frozen=True, slots=True)
class StatusCallback:
    """A new status of a message. ``status``: lower case; can be undocumented, or absent."""

    gateway_id: str
    status: str | None = None
    detail: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class ReplyCallback:
    """A reply from a handset. ``content``: decoded if ``encoding`` is base64 and the bytes are UTF-8, else unchanged.

    ``reply_to``: the gateway ID of the message replied to, which only accounts with a number sequence receive.
    """

    gateway_id: str
    source: str | None = None
    destination: str | None = None
    content: str | None = None
    operator: str | None = None
    reply_to: str | None = None
    reference: str | None = None
    encoding: str | None = None
    decoded: bool = False

    @property
    def handset(self) -> str | None:
        """Return `source` in the form of a destination, so that both sides of a conversation have one handset."""
        number = (self.source or "").strip()
        if _INTERNATIONAL.fullmatch(number):
            return "+" + number.removeprefix("+")
        return number or None


def parse_callback(body: bytes, *, expect_reply: bool) -> StatusCallback | ReplyCallback:
    """Parse either callback from a request body; raise `UnreadableCallbackError` if it can't be parsed.

    Each kind has its own URL, but an operator may enter one URL for both. So the fields decide before the URL does:
    `content` without `status` is a reply, `status` without `content` is a status.
    """
    fields = _json_object(body)
    has_status, has_content = (fields.get(name) is not None for name in ("status", "content"))
    is_reply = expect_reply if has_status == has_content else has_content
    return _reply(fields) if is_reply else _status(fields)


def _status(fields: dict[str, Any]) -> StatusCallback:
    status = _text(fields, "status", _MAX_ID)
    return StatusCallback(
        gateway_id=_gateway_id(fields, "message_id", "id"),
        status=normalised(status) or None if status else None,
        detail=_text(fields, "detail", _MAX_DETAIL),
        reference=_text(fields, "reference", _MAX_ID),
    )


def _reply(fields: dict[str, Any]) -> ReplyCallback:
    content, encoding = _text(fields, "content"), _text(fields, "encoding", _MAX_ID)
    text = _decoded(content) if content and encoding and encoding.lower() == "base64" else None
    return ReplyCallback(
        gateway_id=_gateway_id(fields, "id", "message_id"),
        source=_text(fields, "source", _MAX_ID),
        destination=_text(fields, "destination", _MAX_ID),
        content=content if text is None else text,
        operator=_text(fields, "operator", _MAX_ID),
        reply_to=_text(fields, "reply_to", _MAX_ID),
        reference=_text(fields, "reference", _MAX_ID),
        encoding=encoding,
        decoded=text is not None,
    )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
        json.dumps(fields, ensure_ascii=False).encode()  # a lone surrogate parses, but no table can store it
    except (ValueError, RecursionError) as error:
        raise UnreadableCallbackError(f"not JSON in UTF-8 ({type(error).__name__})") from None
    if not isinstance(fields, dict):
        raise UnreadableCallbackError("not a JSON object")
    return fields


def _gateway_id(fields: dict[str, Any], *names: str) -> str:
    for name in names:
        value = fields.get(name)
        # Version 1 of the API has whole numbers as IDs; an ID is opaque text here.
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if isinstance(text, str) and text.strip() and len(text) <= _MAX_ID:
            return text.strip()
    raise UnreadableCallbackError(f"no usable {' or '.join(names)}")


def _text(fields: dict[str, Any], name: str, limit: int | None = None) -> str | None:
    """Return the field as text; a value of another type becomes its JSON, and is not refused."""
    value = fields.get(name)
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:limit]


def _decoded(content: str) -> str | None:
    try:
        return base64.b64decode(content, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
