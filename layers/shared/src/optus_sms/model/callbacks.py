"""Status callbacks and reply callbacks, in every shape that the gateway's documents show.

Only the fields of the named tuples below are read. A value that no table can hold, in these fields or in others, does
not lose the callback: the value is replaced, and the rest is stored. A body that may have lost a character of a stored
field is unreadable.

Parsed without pydantic, whose import would slow down the receiving function's cold start
(docs/decisions/callbacks-without-pydantic.md). Facts: gateway-rest-v2.txt, StatusCallback and ReplyCallback; the prose
page of the same API names the ID `message_id` and adds `reference`, `reply_to` and `encoding`.
"""

import base64
import binascii
import codecs
import contextlib
import json
from typing import Any, Final, NamedTuple

from optus_sms.model.errors import UnreadableCallbackError
from optus_sms.model.gateway_ids import usable_id
from optus_sms.model.lenient_json import REPLACEMENT, parse_json, storable
from optus_sms.model.numbers import e164
from optus_sms.model.statuses import normalized

_MAX_TEXT: Final = 255
_MAX_DETAIL: Final = 1000
_NO_CHARSETS: Final = ("idna", "punycode", "raw-unicode-escape", "unicode-escape")
"""Python's codecs that decode bytes but are no character encodings: those of domain names and of Python's literals."""


class StatusCallback(NamedTuple):
    """A new status of a message. ``status``: lower case; can be undocumented, or absent.

    ``gateway_id``: empty if there is only a ``reference``.
    """

    gateway_id: str
    status: str | None = None
    detail: str | None = None
    reference: str | None = None


class ReplyCallback(NamedTuple):
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
        return e164(self.source or "") or None


Callback = StatusCallback | ReplyCallback


def parse_callbacks(
    body: bytes, *, charset: str = "", expect_reply: bool
) -> tuple[Callback | UnreadableCallbackError, ...]:
    """Parse a request body: a callback, or an array of callbacks, each of which is read separately.

    ``charset``: of the Content-Type. Raise `UnreadableCallbackError` if the body is not JSON.
    """
    document, is_exact = _document(body, charset)
    elements = document if isinstance(document, list) and document else [document]
    return tuple(_parsed(element, expect_reply=expect_reply, is_exact=is_exact) for element in elements)


def in_pieces(body: bytes, *, charset: str, size: int) -> list[bytes]:
    """Return a body that can be parsed as several bodies, each with a limited number of callbacks (then in ASCII)."""
    document, _ = _document(body, charset)
    if not isinstance(document, list) or len(document) <= size:
        return [body]
    return [json.dumps(document[start : start + size]).encode() for start in range(0, len(document), size)]


def _parsed(element: object, *, expect_reply: bool, is_exact: bool) -> Callback | UnreadableCallbackError:
    try:
        callback = _callback(element, expect_reply=expect_reply)
    except UnreadableCallbackError as error:
        return error
    if not is_exact and any(REPLACEMENT in text for text in callback if isinstance(text, str)):
        return UnreadableCallbackError("bytes that are not UTF-8 in a field that is stored")
    return callback


def _callback(element: object, *, expect_reply: bool) -> Callback:
    """Return either callback.

    Each kind has its own URL, but an operator may enter one URL for both. So the fields decide before the URL does:
    `content` without `status` is a reply, `status` without `content` is a status.
    """
    if not isinstance(element, dict):
        raise UnreadableCallbackError("not a JSON object")
    has_status, has_content = (element.get(name) is not None for name in ("status", "content"))
    is_reply = expect_reply if has_status == has_content else has_content
    return _reply(element) if is_reply else _status(element)


def _status(fields: dict[str, Any]) -> StatusCallback:
    gateway_id = usable_id(fields.get("message_id")) or usable_id(fields.get("id"))
    status, reference = _text(fields, "status"), _text(fields, "reference")
    if not gateway_id and not reference:
        raise UnreadableCallbackError("no usable message_id, id or reference")
    return StatusCallback(
        gateway_id=gateway_id or "",
        status=normalized(status) or None if status else None,
        detail=_text(fields, "detail", _MAX_DETAIL),
        reference=reference,
    )


def _reply(fields: dict[str, Any]) -> ReplyCallback:
    gateway_id = usable_id(fields.get("id")) or usable_id(fields.get("message_id"))
    if not gateway_id:
        raise UnreadableCallbackError("no usable id or message_id")
    content, encoding = _text(fields, "content", None), _text(fields, "encoding")
    text = _decoded(content) if content and encoding and encoding.lower() == "base64" else None
    return ReplyCallback(
        gateway_id=gateway_id,
        source=_text(fields, "source"),
        destination=_text(fields, "destination"),
        content=content if text is None else text,
        operator=_text(fields, "operator"),
        reply_to=usable_id(fields.get("reply_to")),
        reference=_text(fields, "reference"),
        encoding=encoding,
        decoded=text is not None,
    )


def _document(body: bytes, charset: str) -> tuple[Any, bool]:
    """Return what the JSON holds, and whether every byte could be decoded."""
    for encoding, errors in ((charset, "strict"), (json.detect_encoding(body), "strict"), ("utf-8", "surrogateescape")):
        with contextlib.suppress(LookupError, ValueError):
            if codecs.lookup(encoding).name in _NO_CHARSETS:
                continue
            text = body.decode(encoding, errors).removeprefix("\ufeff")
            return parse_json(text), errors == "strict"
    raise UnreadableCallbackError("not JSON in UTF-8 or in the charset of its Content-Type")


def _text(fields: dict[str, Any], name: str, limit: int | None = _MAX_TEXT) -> str | None:
    """Return the field as text; a value of another type becomes its JSON, and is not refused."""
    value = fields.get(name)
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return storable(text[:limit])


def _decoded(content: str) -> str | None:
    try:
        return base64.b64decode(content, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
