"""Read a `POST /messages` body as the gateway would: strict where its documentation is, otherwise lenient.

Rules: gateway-rest-v2.txt, SingleMessage, and the errors of the REST v2 page. Unknown fields are ignored, any text is a
destination, and of several published limits the longest applies.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from local.http_server import HttpRequest
from local.simulator.errors import RefusedError

SCHEDULE_LIMIT = timedelta(days=60)
_TEXTS = {
    "destination": r".{1,255}",
    "content": r".{1,5000}",
    "source": r".{0,255}",
    "reference": r".{0,255}",
    "class": r".*",
    "mask": r".{0,20}",
    "scheduled": r".*",
    "integration_id": r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:[0-5]\d)", re.ASCII)


@dataclass(frozen=True)
class Submission:
    """A message as the client sent it. `fields`: the known fields that it has."""

    fields: Mapping[str, Any]
    scheduled: datetime | None

    @property
    def destination(self) -> str:
        return str(self.fields["destination"])

    @property
    def reference(self) -> str | None:
        return self.fields.get("reference")


def read_submission(request: HttpRequest, now: datetime) -> Submission:
    """Read a body. Raise `RefusedError` with the documented error."""
    try:
        given = request.json_object()
    except ValueError:
        raise RefusedError(400, "invalid_json", "Invalid JSON data in the request body") from None
    fields = {name: given[name] for name in (*_TEXTS, "sms_class") if given.get(name) is not None}
    for name in ("destination", "content"):
        if name not in fields:
            raise RefusedError(400, "missing_attrib", f"Missing a required attribute {name}")
    for name, value in fields.items():
        if not _valid(name, value):
            raise RefusedError(400, "invalid_attrib", f"Invalid attribute value {name}")
    return Submission(fields, _scheduled(fields.get("scheduled"), now))


def _valid(name: str, value: object) -> bool:
    if name == "sms_class":
        return isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0  # 1.0 is an integer
    return isinstance(value, str) and re.fullmatch(_TEXTS[name], value, re.DOTALL) is not None


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
