"""The control endpoint: observe and control a running simulator by JSON (docs/gateway-simulator.md).

It listens only on loopback and on its own port, so that it responds even while the gateway refuses connections.
"""

from collections.abc import Callable, Mapping
from typing import Any

from local.http_server import HttpRequest, HttpResponse, json_response
from local.simulator.engine import Engine
from local.simulator.scenarios import SCENARIOS

CONTROL_PATH = "/control"
DEFAULT_LIMIT = 1000
_REPLY_FIELDS = ("source", "content", "destination", "operator", "reply_to", "reference", "encoding")
_STATUS_FIELDS = ("id", "status", "detail", "reference")


class ControlError(Exception):
    """A refused request: HTTP status and reason. A ValueError is HTTP 400."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Control:
    """Serves the control port of one gateway."""

    def __init__(self, gateway: Engine) -> None:
        self._gateway = gateway
        self._routes: Mapping[tuple[str, str], Callable[[HttpRequest], object]] = {
            ("GET", ""): lambda _: gateway.state(),
            ("GET", "/scenarios"): lambda _: _scenarios(),
            ("GET", "/messages"): self._messages,
            ("GET", "/requests"): self._requests,
            ("GET", "/faults"): lambda _: gateway.faults(),
            ("POST", "/faults"): lambda request: gateway.set_faults(**request.json_object()),
            ("DELETE", "/faults"): lambda _: gateway.clear_faults(),
            ("POST", "/replies"): self._reply,
            ("POST", "/statuses"): self._status,
            ("POST", "/callback-urls"): self._callback_urls,
            ("POST", "/reset"): self._reset,
        }

    def handle(self, request: HttpRequest) -> HttpResponse:
        try:
            return json_response(self._route(request)(request))
        except ControlError as error:
            return json_response({"error": str(error)}, error.status)
        except ValueError as error:
            return json_response({"error": str(error)}, 400)

    def _route(self, request: HttpRequest) -> Callable[[HttpRequest], object]:
        route = self._routes.get((request.method, request.path.removeprefix(CONTROL_PATH).rstrip("/")))
        if route is None or not request.path.startswith(CONTROL_PATH):
            raise ControlError(404, "no such control; see docs/gateway-simulator.md")
        return route

    def _messages(self, request: HttpRequest) -> object:
        query = {name: values[-1] for name, values in request.query.items()}
        since, limit = _count(query.pop("since", "0")), _count(query.pop("limit", str(DEFAULT_LIMIT)))
        revision, messages = self._gateway.records.find(query, since, limit)
        return {"revision": revision, "messages": messages}

    def _requests(self, request: HttpRequest) -> object:
        arrivals = {"arrivals": self._gateway.arrivals()} if "arrivals" in request.query else {}
        return self._gateway.requests() | arrivals

    def _reply(self, request: HttpRequest) -> object:
        fields = _known(request.json_object(), _REPLY_FIELDS, required=("source", "content"))
        return {"id": self._gateway.send_reply(**fields)}

    def _status(self, request: HttpRequest) -> object:
        fields = _known(request.json_object(), _STATUS_FIELDS, required=("id", "status"))
        message_id, status = fields.pop("id"), fields.pop("status")
        try:
            self._gateway.send_status(message_id, status, **fields)
        except KeyError:
            raise ControlError(404, "no message has this id") from None
        return {"id": message_id}

    def _callback_urls(self, request: HttpRequest) -> object:
        urls = _known(request.json_object(), ("status", "reply"), required=("status", "reply"), nullable=True)
        self._gateway.set_callback_urls(**urls)
        return self._gateway.state()

    def _reset(self, _: HttpRequest) -> object:
        self._gateway.reset()
        return self._gateway.state()


def _known(
    body: Mapping[str, Any], names: tuple[str, ...], required: tuple[str, ...], nullable: bool = False
) -> dict[str, Any]:
    """Return the body. Raise if it has other fields, or values that are not texts."""
    for name, value in body.items():
        if name not in names:
            raise ValueError(f"{name!r} is not known; there are {', '.join(names)}")
        if not (isinstance(value, str) or (nullable and value is None)):
            raise ValueError(f"{name} must be a text{' or null' if nullable else ''}")
    for name in required:
        if name not in body:
            raise ValueError(f"{name} is missing")
    return dict(body)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("since and limit must be whole numbers")
    return int(text)


def _scenarios() -> object:
    rows = SCENARIOS.values()
    return {"scenarios": [{"name": row.name, "number": row.number, "meaning": row.meaning} for row in rows]}
