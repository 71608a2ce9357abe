"""A handset's received messages, for tests of other systems: `GET /api/handsets/+61…/messages?wait=10&reference=…`."""

import re
from collections.abc import Mapping
from typing import Any, Final

from local.http_server import HttpResponse, json_response
from local.simulator.engine import Engine
from optus_sms.model.numbers import E164

LONGEST_WAIT_SECONDS: Final = 60
_PATH: Final = re.compile(r"/api/handsets/(?P<handset>[^/]+)/messages")
_QUERY: Final = frozenset({"wait", "reference"})


def handset_in(path: str) -> str | None:
    """Return the handset in a path of this API, unchecked; None for any other path."""
    found = _PATH.fullmatch(path)
    return found["handset"] if found else None


def received_messages(simulator: Engine | None, handset: str, query: Mapping[str, list[str]]) -> HttpResponse:
    """Return the handset's received messages, oldest first, as soon as there is one or the wait is over."""
    if simulator is None:
        return _refused(409, "A real gateway is used: only its handsets know what they received.")
    if not re.fullmatch(E164, handset):
        return _refused(
            400, "The handset must be an E.164 number with its +, as in /api/handsets/+61491570006/messages."
        )
    if unknown := query.keys() - _QUERY:
        return _refused(400, f"{min(unknown)[:100]!a} is not known here; give wait (seconds) or reference.")
    asked = {name: values[-1] for name, values in query.items()}
    wait = asked.pop("wait", "0")
    if not re.fullmatch(r"\d{1,3}", wait) or int(wait) > LONGEST_WAIT_SECONDS:
        return _refused(400, f"wait must be whole seconds, at most {LONGEST_WAIT_SECONDS}.")
    wanted = {"direction": "MT", "status": "received", "destination": handset, **asked}
    return json_response({"messages": [_view(each) for each in simulator.records.wait_for(wanted, int(wait))]})


def _view(message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "gateway_id": message["id"],
        "reference": message["fields"].get("reference"),
        "content": message["fields"].get("content"),
        "mask": message["fields"].get("mask"),
        "received_at": next(step["at"] for step in reversed(message["history"]) if step["status"] == "received"),
    }


def _refused(status: int, words: str) -> HttpResponse:
    return json_response({"error": words}, status)
