"""Reads a `POST /messages` body as the gateway would: strict where the documentation is, lenient everywhere else.

Rules: gateway-rest-v2.txt, SingleMessage, and the errors of the REST v2 page. Unknown fields are ignored, numbers may
have any length, the longest of the published limits counts.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from local.simulator.errors import RefusedError

SCHEDULE_LIMIT = timedelta(days=60)
_MAX_LENGTHS = {"destination": 255, "content": 5000, "source": 255, "reference": 255, "mask": 20}
_TEXTS = ("destination", "content", "source", "reference", "class", "mask", "scheduled", "integration_id")
_DESTINATION = re.compile(r"\+[0-9]+")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True)
class Submission:
    """A message as the client gave it. `fields` are the known fields that were present."""

    fields: Mapping[str, Any]
    scheduled: datetime | None

    @property
    def destination(self) -> str:
        return str(self.fields["destination"])

    @property
    def reference(self) -> str | None:
        return self.fields.get("reference")


def read_submission(body: bytes, now: datetime) -> Submission:
    """Raises `RefusedError` with the documented error."""
    fields = _known_fields(_json_object(body))
    for name in ("destination", "content"):
        if name not in fields:
            raise RefusedError(400, "missing_attrib", f"Missing a required attribute {name}")
    for name, value in fields.items():
        if not _valid(name, value):
            raise RefusedError(400, "invalid_attrib", f"Invalid attribute value {name}")
    return Submission(fields, _scheduled(fields.get("scheduled"), now))


def _json_object(body: bytes) -> dict[str, Any]:
    refused = RefusedError(400, "invalid_json", "Invalid JSON data in the request body")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise refused from None
    if not isinstance(value, dict):
        raise refused
    return value


def _known_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name in (*_TEXTS, "sms_class") if body.get(name) is not None}


def _valid(name: str, value: object) -> bool:
    if name == "sms_class":
        return isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, str) or len(value) > _MAX_LENGTHS.get(name, len(value)):
        return False
    match name:
        case "destination":
            return _DESTINATION.fullmatch(value) is not None
        case "content":
            return value != ""
        case "integration_id":
            return _is_uuid(value)
        case _:
            return True


def _is_uuid(value: str) -> bool:
    try:
        UUID(value)
    except ValueError:
        return False
    return True


def _scheduled(value: str | None, now: datetime) -> datetime | None:
    if value is None:
        return None
    when = _rfc3339(value)
    if when is None:
        raise RefusedError(400, "Invalid scheduled timestamp must be RFC3339")
    if when < now:
        raise RefusedError(422, "Invalid scheduled timestamp must not be in the past")
    if when > now + SCHEDULE_LIMIT:
        raise RefusedError(400, "invalid_attrib", "Invalid attribute value scheduled must be less than 60 days")
    return when


def _rfc3339(value: str) -> datetime | None:
    if not _RFC3339.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
