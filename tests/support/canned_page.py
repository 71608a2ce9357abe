"""The phone page's static files with a scripted server behind them, to test what only the browser side decides."""

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

STATIC: Final = Path(__file__).parents[2] / "local" / "page" / "static"
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES: Final = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
_NAMES: Final = ("queued", "in_flight", "accepted", "delivered", "undelivered", "unknown", "rejected", "expired")


def message(key: str, text: str | None, to: str = "+61491570006", **other: Any) -> dict[str, Any]:
    """Return a message as in the stream; on its way unless `other` changes that."""
    return {
        "message_id": key,
        "to": to,
        "from": "61480000000",
        "text": text,
        "segments": 1,
        "encoding": "GSM-7",
        "queued_at": "2026-01-01T00:00:00Z",
        "state": "ACCEPTED",
        "status": "sent",
        "stage": "on its way",
        "tone": "plain",
        "label": "on its way",
        "problem": None,
        "gateway_id": f"g-{key}",
        "reference": key,
        "steps": [{"name": "queued", "at": "2026-01-01T00:00:00Z", "tone": "plain"}],
        "group": ["accepted"],
        **other,
    }


def act(name: str, id_: str, label: str) -> dict[str, str]:
    """Return an act on a message or a dead letter."""
    return {"name": name, "id": id_, "label": label, "does": "Does `it`.", "command": f"optus-sms {name} {id_}"}


def dead_letter(sqs_id: str, **other: Any) -> dict[str, Any]:
    """Return a dead letter as in the stream; not a message unless `other` changes that."""
    return {
        "sqs_id": sqs_id,
        "since": "2026-01-01T00:00:00Z",
        "to": None,
        "kind": "malformed",
        "why": "is not JSON",
        "acts": [act("delete", sqs_id, "Delete")],
        "reason": "invalid",
        "detail": "content: is missing",
        "message_id": None,
        "body": "{}",
        "example": False,
        **other,
    }


def snapshot(*messages: dict[str, Any]) -> dict[str, Any]:
    """Return a stream's snapshot of a healthy stack without faults."""
    return {
        "meta": {"seed": 7, "simulator": True, "far": False, "gateway": "http://127.0.0.1:4602", "numbers": []},
        "messages": list(messages),
        "replies": [],
        "dead_letters": [],
        "events": [],
        "strip": {**dict.fromkeys(_NAMES, 0), "dead_letters": 0, "health": "healthy", "paused": False},
        "faults": {"active": [], "response_delay_seconds": None},
    }


def everything() -> dict[str, Any]:
    """Return a snapshot with each tone, an unknown text, a reply, an opt-out, a fault, a dead letter and a load."""
    number = "+61491570006"
    steps = [{"name": tone, "at": "2026-01-01T00:00:00Z", "tone": tone} for tone in ("plain", "good", "bad", "unsure")]
    return {
        **snapshot(
            message("a", "Arrived", tone="good", status="received", label="received", steps=steps),
            message("b", None, "+61491570156", tone="bad", label="not delivered", problem="rejected", steps=steps),
            message("c", "Lost", "+61491570157", tone="unsure", label="unknown whether it was sent", steps=steps),
            message("d", "On its way \u200b", "+61491570158", steps=steps, urgent=True, despite_opt_out=True),
        ),
        "replies": [
            {
                "id": "r", "from": number, "text": "Yes", "at": "2026-01-01T00:00:01Z", "message_id": "a",
                "match": "exact", "binary": False,
            }
        ],
        "opt_outs": [{"handset": "+61491570156", "opted_out": True, "since": "2026-01-01T00:00:01Z", "by": "reply"}],
        "dead_letters": [dead_letter("one", message_id="a", to=number)],
        "events": [
            {"n": 1, "at": "2026-01-01T00:00:00Z", "detail_type": "SMS Accepted", "event": {"detail": {"status": "x"}}}
        ],
        "load": {"total": 9, "queued": 9, "accepted": 5, "finished": 3, "seconds": 1, "done": False, "problem": None},
        "faults": {"active": ["gateway_down", "slow"], "response_delay_seconds": 2},
        "strip": {
            **dict.fromkeys(snapshot()["strip"], 1),
            "health": "unhealthy", "paused": True, "pause_reason": "outage",
        },
    }  # fmt: skip


class CannedPage:
    """On a free port; `answers`: (method, path) to (status, JSON); `calls`: (method, path, token, JSON)."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.first = first
        self.token = "first"
        self.is_full = False
        self.answers: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
        self.calls: list[tuple[str, str, str, Any]] = []
        self.revision = 1
        self._streams: list[queue.SimpleQueue[tuple[int, dict[str, Any]] | None]] = []
        page = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_args: object) -> None:
                pass

            def do_GET(self) -> None:
                page.get(self)

            def do_HEAD(self) -> None:
                _reply(self, 503 if page.is_full else 200, b"", "application/json")

            def do_POST(self) -> None:
                page.change(self)

            def do_DELETE(self) -> None:
                page.change(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def update(self, change: dict[str, Any]) -> None:
        """Sends it to every open stream."""
        self.revision += 1
        for stream in self._streams:
            stream.put((self.revision, change))

    def drop_streams(self) -> None:
        """Ends every open stream, as the end of `make run` does."""
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.put(None)

    def close(self) -> None:
        self.drop_streams()
        self._server.shutdown()
        self._server.server_close()

    def get(self, request: BaseHTTPRequestHandler) -> None:
        file = STATIC / Path(request.path).name
        if request.path == "/api/stream" and self.is_full:
            _reply(request, 503, b'{"error": "Too many."}', "application/json")
        elif request.path == "/api/stream":
            self._stream(request)
        elif request.path == "/":
            _reply(request, 200, self._index().encode(), _TYPES[".html"])
        elif request.path.startswith("/static/") and file.is_file():
            _reply(request, 200, file.read_bytes(), _TYPES[file.suffix])
        else:
            self._canned(request, "GET")

    def change(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        token = request.headers.get("X-Page-Token", "")
        self.calls.append((request.command, request.path, token, json.loads(body) if body else None))
        if token == self.token:
            self._canned(request, request.command)
        else:
            _reply(request, 403, b'{"error": "The token is of an earlier start."}', "application/json")

    def _index(self) -> str:
        html = (STATIC / "index.html").read_text()
        return html.replace('name="page-token" content=""', f'name="page-token" content="{self.token}"')

    def _canned(self, request: BaseHTTPRequestHandler, method: str) -> None:
        status, answer = self.answers.get((method, request.path), (404, {"error": "Not here."}))
        _reply(request, status, json.dumps(answer).encode(), "application/json")

    def _stream(self, request: BaseHTTPRequestHandler) -> None:
        changes: queue.SimpleQueue[tuple[int, dict[str, Any]] | None] = queue.SimpleQueue()
        self._streams.append(changes)
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.end_headers()
        kind, revision, change = "snapshot", self.revision, self.first
        while True:
            request.wfile.write(f"event: {kind}\nid: {revision}\ndata: {json.dumps(change)}\n\n".encode())
            request.wfile.flush()
            following = changes.get()
            if following is None:
                return
            kind, (revision, change) = "update", following


def everything_shown() -> CannedPage:
    """A page that shows all of `everything`, with a broken rule in the form and a timeline of message c."""
    server = CannedPage(everything())
    server.answers["POST", "/api/validate"] = (
        200,
        {
            "fields": {"destination": "must be an E.164 number"},
            "segments": 1,
            "encoding": "UCS-2",
            "units": 5,
            "left_in_segment": 65,
            "culprits": [{"char": "\u2019", "at": 0, "name": "RIGHT SINGLE QUOTATION MARK"}],
        },
    )
    server.answers["GET", "/api/messages?id=c"] = (
        200,
        {
            "message": message("c", "Lost", tone="unsure", stage="unknown whether it was sent"),
            "next_step": "It is not sent again without proof.",
            "acts": [act("resolve_sent", "c", "It was sent")],
            "timeline": [
                {"at": "2026-01-01T00:00:00Z", "text": tone, "tone": tone}
                for tone in ("plain", "good", "bad", "unsure", "dim")
            ],
            "ledger": {"state": "UNKNOWN"},
            "gateway": {},
        },
    )
    return server


def _reply(request: BaseHTTPRequestHandler, status: int, body: bytes, kind: str) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.send_header("Content-Security-Policy", CSP)
    request.end_headers()
    request.wfile.write(body)
