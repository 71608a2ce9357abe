"""HTTP/1.1 with threads: reads `HttpRequest`s and writes `HttpResponse`s, also deliberately faulty ones.

Serves the gateway simulator, its control endpoint, the phone page and the callback API.
"""

import contextlib
import json
import re
import select
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from local.guard import Guard, refusal_of_request

IDLE_CONNECTION_SECONDS = 75.0
# The delay until `close` is noticed. Ten looks a second cost almost no CPU.
POLL_SECONDS = 0.1
BACKLOG = 128
_LINGER_SECONDS = 0.5
_LINGER_READS = 1000
_LENGTH_DIGITS = 18
_MAX_TRAILERS = 100
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?\r?\n", re.DOTALL)


class Ending(Enum):
    """How a response ends."""

    WHOLE = "whole"
    NONE = "the connection is closed instead"
    CUT = "the connection is closed in the middle of the body"
    DRIP = "a byte at a time"


@dataclass(frozen=True)
class HttpRequest:
    """A request. `client`: the address that it came from."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Message
    body: bytes
    client: str = ""

    def header(self, name: str) -> str | None:
        """Return a header's value, as `local.guard.Header`."""
        values = self.headers.get_all(name)
        return None if values is None else ",".join(values)

    def json_object(self) -> dict[str, Any]:
        """Return the body. Raise ValueError if it is not a JSON object."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return value
        raise ValueError("the body must be a JSON object")


@dataclass(frozen=True)
class HttpResponse:
    """A response. `delay_seconds`: before the first byte; `drip_seconds`: between two bytes of a dripped response.

    `stream`, instead of a body: its pieces are sent as they come, and the connection ends after the last one. The
    stream is closed if the client is gone at the next piece (which can be empty), or has not read for
    `IDLE_CONNECTION_SECONDS`. Without `content_type`, `headers` have it.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    ending: Ending = Ending.WHOLE
    delay_seconds: float = 0.0
    drip_seconds: float = 0.0
    stream: Generator[bytes] | None = None


Application = Callable[[HttpRequest], HttpResponse]


def json_response(value: object, status: int = 200) -> HttpResponse:
    """Return a response whose body is this value as JSON."""
    return HttpResponse(status, json.dumps(value).encode())


def refusal(status: HTTPStatus, why: str = "") -> HttpResponse:
    """Return the response to a request that is refused before any application gets it."""
    return json_response({"message": why or status.phrase}, status)


@dataclass(frozen=True)
class HttpRules:
    """How a port treats request bodies, and responses under way when it closes."""

    max_body_bytes: int = 1024 * 1024
    finishes_responses: bool = False
    """Whether `close` waits for responses under way instead of ending their connections."""
    refusal: Callable[[HTTPStatus], HttpResponse] = refusal
    tls: ssl.SSLContext | None = None
    guard: Guard | None = refusal_of_request
    """None: the application has a guard of its own."""


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that reserves a port (0: any) and refuses connections. Raises OSError."""
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


class HttpListener:
    """A port that can be opened and closed, and can refuse connections while it stays reserved.

    `bound`: the port's socket, listening or not.
    """

    def __init__(self, application: Application, bound: socket.socket, rules: HttpRules | None = None) -> None:
        self._application = application
        self._rules = rules or HttpRules()
        self._server = _Server(bound, application, self._rules)
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def open(self) -> None:
        if self._thread is None:
            self._server.server_activate()
            self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,), daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop listening, and end every connection."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.end_connections()
        self._server.server_close()

    def refuse(self) -> None:
        """Refuse connections until `open`. A bound socket that does not listen keeps the port."""
        if self._thread is not None:
            host, port = self._server.server_address[:2]
            self.close()
            self._server = _Server(bound_socket(str(host), int(port)), self._application, self._rules)


class _Server(ThreadingHTTPServer):
    request_queue_size = BACKLOG

    def __init__(self, bound: socket.socket, application: Application, rules: HttpRules) -> None:
        super().__init__(bound.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.application = application
        self.rules = rules
        self.daemon_threads = not rules.finishes_responses  # server_close waits for threads that are no daemons
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Return a connection. Its TLS handshake happens at the first read, in the connection's thread."""
        connection, address = super().get_request()
        if self.rules.tls is not None:
            connection = self.rules.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        if isinstance(request, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                request.settimeout(0)
                request.unwrap()  # sends TLS's close message, and waits for no response
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """Read no more requests from open connections, and abort responses under way, unless the rules finish them."""
        if not self.rules.finishes_responses:
            self.stopping.set()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):  # the other side has closed it already
                connection.shutdown(socket.SHUT_RD if self.rules.finishes_responses else socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that closed the connection; print any other error as usual."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE_CONNECTION_SECONDS

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Pass every method to the application, known or not; the base class calls `do_GET` and the like."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, *args: Any, **kwargs: Any) -> None:
        """Log nothing, because a request line can hold a message ID."""

    # The base class responds to `Expect: 100-continue` before it calls this, even if the body will be refused, because
    # Java 17's client waits forever for the 100 whatever else it gets.
    def _serve(self) -> None:
        try:
            url = self._url()
            body = self._read_chunks() if "Transfer-Encoding" in self.headers else self._read_body()
        except _RefusedError as refused:
            self.close_connection = True
            self._write(self.server.rules.refusal(refused.status))
            if refused.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                self._linger()
            return
        query = parse_qs(url.query, keep_blank_values=True)
        request = HttpRequest(self.command, url.path, query, self.headers, body, self.client_address[0])
        refuses, address = self.server.rules.guard, str(self.server.server_address[0])
        why = refuses and refuses(request.header, address)
        response = refusal(HTTPStatus.FORBIDDEN, why) if why else self.server.application(request)
        with contextlib.closing(response.stream) if response.stream else contextlib.nullcontext():
            self._write(response)

    def _url(self) -> SplitResult:
        try:
            return urlsplit(self.path)
        except ValueError:
            raise _RefusedError(HTTPStatus.BAD_REQUEST) from None

    def _read_body(self) -> bytes:
        lengths = {length.strip() for length in self.headers.get_all("Content-Length", ["0"])}
        length = lengths.pop()
        if lengths or not (length.isascii() and length.isdigit()):
            raise _RefusedError(HTTPStatus.BAD_REQUEST)
        size = int(length[:_LENGTH_DIGITS])  # more digits are too large a number in any case
        self._check_room(size, self.server.rules.max_body_bytes)
        return self._read(size)

    def _read_chunks(self) -> bytes:
        if self.headers["Transfer-Encoding"].strip().lower() != "chunked":
            raise _RefusedError(HTTPStatus.NOT_IMPLEMENTED)
        if "Content-Length" in self.headers:  # with both, it is ambiguous where the next request begins
            raise _RefusedError(HTTPStatus.BAD_REQUEST)
        body = b""
        while size := self._chunk_size():
            self._check_room(size, self.server.rules.max_body_bytes - len(body))
            body += self._read(size)
            if self.rfile.readline(3) not in (b"\r\n", b"\n"):
                raise _RefusedError(HTTPStatus.BAD_REQUEST)
        for _ in range(_MAX_TRAILERS):
            if not self.rfile.readline(65537).strip():
                return body
        raise _RefusedError(HTTPStatus.BAD_REQUEST)

    def _chunk_size(self) -> int:
        size = _CHUNK_SIZE.fullmatch(self.rfile.readline(1024))
        if size is None:
            raise _RefusedError(HTTPStatus.BAD_REQUEST)
        return int(size[1], 16)

    def _check_room(self, length: int, room: int) -> None:
        if length > room:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def _read(self, length: int) -> bytes:
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionAbortedError("the request ended early")
        return body

    def _linger(self) -> None:
        """Read the rest of the request, because closing now would reset the connection and lose the response."""
        with contextlib.suppress(OSError):
            self.connection.settimeout(_LINGER_SECONDS)
            for _ in range(_LINGER_READS):
                if not self.rfile.read(65536):
                    return

    def _write(self, response: HttpResponse) -> None:
        if response.delay_seconds > 0:
            self.server.stopping.wait(response.delay_seconds)
        if response.ending is not Ending.WHOLE or response.stream is not None:
            self.close_connection = True
        if response.ending is Ending.NONE or self.server.stopping.is_set():
            self.close_connection = True
            return
        head, body = self._head(response), b"" if self.command == "HEAD" else response.body
        match response.ending:
            case Ending.CUT:
                self.wfile.write(head + body[: len(body) // 2])
            case Ending.DRIP:
                self._drip(head + body, response.drip_seconds)
            case _:
                # One write, because a body in a second packet waits for the first one's acknowledgment.
                self.wfile.write(head + body)
                if response.stream is not None and self.command != "HEAD":
                    for piece in response.stream:
                        if self._client_has_gone():
                            return
                        self.wfile.write(piece)

    def _client_has_gone(self) -> bool:
        """Return whether the client has closed. A write can't show it: the first one after that still succeeds."""
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        return bool(poll.poll(0)) and self.connection.recv(1, socket.MSG_PEEK) == b""

    def _drip(self, data: bytes, interval_seconds: float) -> None:
        for position in range(len(data)):
            self.wfile.write(data[position : position + 1])
            if self.server.stopping.wait(interval_seconds):
                return

    def _head(self, response: HttpResponse) -> bytes:
        phrase, _ = self.responses.get(response.status, ("", ""))
        headers = [("Date", formatdate(usegmt=True))]
        if response.stream is None:
            headers.append(("Content-Length", str(len(response.body))))
        if response.content_type and (response.body or response.stream is not None):
            headers.append(("Content-Type", response.content_type))
        if self.close_connection and response.ending is Ending.WHOLE:
            headers.append(("Connection", "close"))
        headers += response.headers
        lines = [f"HTTP/1.1 {response.status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class _RefusedError(Exception):
    """A request that can't be read. The connection ends after the response, because it can still hold the rest."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status
