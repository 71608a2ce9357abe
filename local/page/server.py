"""The server of the phone page, a view of a local stack for browsers on this machine.

`local/page/static` is the page. It reads the stream of changes and single messages' timelines, and posts the user's
actions to `_routes`. `make run` and tests use the same `PhonePage`.
"""

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import unquote

from botocore.exceptions import BotoCoreError, ClientError

from cli.target import local_target
from local import endpoints
from local.aws.stack import LocalStack, listen
from local.demo.watcher import Watcher
from local.http_server import HttpListener, HttpRequest, HttpResponse, HttpRules, json_response
from local.page.actions import ActionRefusedError, Actions, Json
from local.page.board import Board
from local.page.bubble import QueuedMessage
from local.page.counts import MOST_PAGES, QueueCounter, TooManyPagesError
from local.page.guard import refusal
from local.page.handsets import handset_in, received_messages
from local.simulator.config import LOOPBACK
from local.simulator.scenarios import SCENARIOS
from optus_sms.flows.send_message import QueueRecord
from optus_sms.model.errors import InvalidMessageError
from optus_sms.model.lanes import Lane
from optus_sms.model.times import format_rfc3339

PORT: Final = "phone page"
UPDATE_EVERY_SECONDS: Final = 0.1
"""Seconds between two updates, so that changes in between are sent together."""
NOTICE_SECONDS: Final = 1.0
"""The delay until a quiet stream notices that its browser is gone, and ends."""

_STATIC: Final = Path(__file__).with_name("static")
_TYPES: Final = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
_HEADERS: Final = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
_MESSAGES: Final = "/api/messages"
_STREAM: Final = "/api/stream"
_READY: Final = "/api/ready"


class PhonePage:
    """The page of a stack, as a context manager. Enter it before the watcher that it listens to.

    Port: as `local.aws.stack.StackConfig.port`. Address: always loopback, wherever the stack itself listens.
    """

    def __init__(
        self,
        stack: LocalStack,
        watcher: Watcher,
        quietly: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """Raise `local.aws.stack.StackError` if the port is taken. ``quietly``: see `Actions`."""
        self._stack = stack
        self.board = Board()
        self.board.set("meta", _meta(stack))
        watcher.listeners.append(self.board)
        target = local_target(endpoints.variables(stack))
        self._counter = QueueCounter(stack, target, self.board)
        self._actions = Actions(stack, watcher, target, self.board, quietly)
        self._token = secrets.token_urlsafe(32)
        self._routes = _routes(self._actions)
        self._listener = HttpListener(self._respond, listen(LOOPBACK, stack.port(PORT), PORT), HttpRules(guard=None))

    @property
    def url(self) -> str:
        """Return the address for a browser on this machine."""
        return f"http://{LOOPBACK}:{self._listener.port}/"

    @property
    def pages_open(self) -> int:
        """Return the number of open pages."""
        return self._counter.pages

    def __enter__(self) -> Self:
        self._stack.on_taken = self._taken
        self._stack.on_turned = lambda _enabled: self._counter.look_now()
        self._counter.start()
        self._listener.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.board.close()
        self._actions.stop()
        self._counter.stop()
        self._counter.join()
        self._listener.close()

    def _taken(self, records: list[dict[str, Any]]) -> None:
        """Note the records that the sender function receives: only here the page sees the texts of all senders."""
        for record in records:
            if submission := submission_of(record, self._stack.outputs["UrgentQueueArn"]):
                self.board.taken(*submission)

    def _respond(self, request: HttpRequest) -> HttpResponse:
        response = self._respond_or_refuse(request)
        return replace(response, headers=(*response.headers, *_HEADERS))

    def _respond_or_refuse(self, request: HttpRequest) -> HttpResponse:
        if refused := refusal(request, token=self._token):
            return _error(*refused)
        methods = self._routes.get(request.path) or self._reading(request.path)
        if methods is None:
            return _error(404, f"There is nothing at {request.path[:100]!a}.")
        action = methods.get("GET" if request.method == "HEAD" else request.method)
        if action is None:
            return replace(_error(405, f"Only {' and '.join(methods)} here."), headers=(("Allow", ", ".join(methods)),))
        return action(request)

    def _reading(self, path: str) -> Mapping[str, Callable[[HttpRequest], HttpResponse]] | None:
        """Respond to a GET."""
        if path == _STREAM:
            return {"GET": lambda _: self._open_stream()}
        if path == _READY:
            return {"GET": lambda _: json_response({"ready": True})}
        if (handset := handset_in(path)) is not None:
            return {"GET": lambda request: received_messages(self._stack.simulator, unquote(handset), request.query)}
        if path == _MESSAGES:  # the ID is not in the path, where browsers resolve `..`
            return {"GET": lambda request: self._life(request.query.get("id", [""])[-1])}
        files = {f"/static/{file.name}": file for file in _STATIC.iterdir()} | {"/": _STATIC / "index.html"}
        return {"GET": lambda _: self._file(files[path])} if path in files else None

    def _file(self, file: Path) -> HttpResponse:
        body = file.read_text(encoding="utf-8")
        if file.suffix == ".html":
            body = body.replace('name="page-token" content=""', f'name="page-token" content="{self._token}"')
        return HttpResponse(200, body.encode(), _TYPES[file.suffix])

    def _life(self, message_id: str) -> HttpResponse:
        life = self.board.life(message_id)
        if life is None:
            return _error(404, "No message has this ID. make run may have been restarted.")
        return json_response(life)

    def _open_stream(self) -> HttpResponse:
        stream = self._stream()
        try:
            next(stream)
        except TooManyPagesError:
            return _error(503, f"{MOST_PAGES} browsers have this page open, the limit. Close it in one of them.")
        return HttpResponse(200, content_type="text/event-stream", stream=stream)

    def _stream(self) -> Generator[bytes]:
        """Yield an empty piece once the page counts as open, then a snapshot, then changes until the browser leaves."""
        with self._counter.page_open():
            yield b""
            revision, told = self.board.changes(0)
            yield b"retry: 1000\n" + _event("snapshot", told, revision)
            while True:
                changed = self.board.wait_for_change(revision, NOTICE_SECONDS)
                if self.board.is_closed:
                    return
                if not changed:
                    yield b""
                    continue
                revision, told = self.board.changes(revision)
                yield _event("update", told, revision)
                self.board.pause(UPDATE_EVERY_SECONDS)


def submission_of(record: Mapping[str, Any], urgent_queue: str = "") -> tuple[str, QueuedMessage] | None:
    """Return a record's message_id and message; None if it breaks a rule and becomes a dead letter.

    ``urgent_queue``: its ARN.
    """
    lane = Lane.URGENT if record.get("eventSourceARN") == urgent_queue else Lane.ORDINARY
    queued, now = QueueRecord.from_event(record, lane), time.time()
    try:
        message, message_id = queued.read(now=now)
    except InvalidMessageError:
        return None
    return message_id, QueuedMessage(message, format_rfc3339(queued.sent_at or now), queued.lane)


def _meta(stack: LocalStack) -> dict[str, Any]:
    simulator, gateway = stack.simulator, stack.config.gateway
    return {
        "run_id": secrets.token_hex(8),
        "simulator": simulator is not None,
        "seed": simulator.seed if simulator else None,
        "far": gateway is not None and gateway.is_far,
        "gateway": stack.gateway_url,
        "numbers": [
            {"number": row.number, "name": row.name, "meaning": row.meaning} for row in SCENARIOS.values() if simulator
        ],
    }


def _routes(actions: Actions) -> Mapping[str, Mapping[str, Callable[[HttpRequest], HttpResponse]]]:
    """Return the handlers, by path and method, of requests that change something or send a whole message."""
    posts = {
        "/api/validate": actions.validate,
        "/api/send": actions.send,
        "/api/load": actions.start_load,
        "/api/load/stop": actions.stop_load,
        "/api/reply": actions.reply,
        "/api/acts": actions.act,
        "/api/faults": actions.turn_fault,
        "/api/pause": actions.pause,
        "/api/resume": actions.resume,
    }
    routes: dict[str, dict[str, Callable[[HttpRequest], HttpResponse]]] = {
        path: {"POST": _acting(action)} for path, action in posts.items()
    }
    routes["/api/faults"]["DELETE"] = _acting(actions.clear_faults)
    return routes


def _acting(action: Callable[[Json], Json]) -> Callable[[HttpRequest], HttpResponse]:
    def act(request: HttpRequest) -> HttpResponse:
        try:
            return json_response(action(_json_object(request.body)))
        except ActionRefusedError as error:
            return _error(error.status, str(error), error.fields)
        except (BotoCoreError, ClientError) as error:
            return _error(503, f"The local AWS does not respond ({type(error).__name__}); make run may be ending.")

    return act


def _json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; an empty one for an empty body."""
    try:
        value = json.loads(body or b"{}", parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair parses, but can't be sent or stored
    except (ValueError, RecursionError):
        raise ActionRefusedError(400, "The body must be JSON in UTF-8, not nested too deeply.") from None
    if not isinstance(value, dict):
        raise ActionRefusedError(400, "The body must be a JSON object.")
    return value


def _refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python reads although JSON does not have them."""
    raise ValueError(name)


def _event(kind: str, data: str, revision: int) -> bytes:
    return f"event: {kind}\nid: {revision}\ndata: {data}\n\n".encode()


def _error(status: int, words: str, fields: Mapping[str, str] | None = None) -> HttpResponse:
    return json_response({"error": words, "fields": dict(fields or {})}, status)
