"""HTTP/1.1 over threads: reads `HttpRequest`s from a connection and writes `HttpResponse`s, also badly behaved ones."""

import contextlib
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from local.simulator.scenarios import Ending

MAX_BODY_BYTES = 1024 * 1024
IDLE_CONNECTION_SECONDS = 75.0
# How soon `close` is noticed; ten looks a second cost no CPU worth naming.
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class HttpRequest:
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Message
    body: bytes


@dataclass(frozen=True)
class HttpResponse:
    """`delay_seconds` pass before the first byte; `drip_seconds` between two bytes of a dripped answer.

    `stream`, instead of a body: its pieces are sent as they come, and the connection ends with it. It is closed when
    the client goes away, or has not read for `IDLE_CONNECTION_SECONDS`.
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


class HttpListener:
    """One port that can be opened, closed, and made to refuse connections while it stays reserved."""

    def __init__(self, application: Application, bind: str, port: int) -> None:
        self._application = application
        self._bind = bind
        self._server = self._bound(port)
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
        """Stops listening and ends every connection."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.end_connections()
        self._server.server_close()

    def refuse(self) -> None:
        """Connections are refused until `open`. A bound socket that does not listen keeps the port."""
        if self._thread is not None:
            port = self.port
            self.close()
            self._server = self._bound(port)

    def _bound(self, port: int) -> "_Server":
        server = _Server((self._bind, port), self._application)
        try:
            server.server_bind()
        except OSError:
            server.server_close()
            raise
        return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    # Two simulators on one port would share its requests silently.
    allow_reuse_port = False

    def __init__(self, address: tuple[str, int], application: Application) -> None:
        super().__init__(address, _Handler, bind_and_activate=False)
        self.application = application
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def server_bind(self) -> None:
        # HTTPServer would look the host's name up, which can take seconds.
        socketserver.TCPServer.server_bind(self)

    def connected(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)

    def disconnected(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)

    def end_connections(self) -> None:
        self.stopping.set()
        with self._lock:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the other side was quicker

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours; anything else is printed as usual."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE_CONNECTION_SECONDS

    @property
    def _owner(self) -> _Server:
        return cast(_Server, self.server)

    def setup(self) -> None:
        super().setup()
        self._owner.connected(self.connection)

    def finish(self) -> None:
        self._owner.disconnected(self.connection)
        super().finish()

    def log_message(self, *args: Any, **kwargs: Any) -> None:
        """Silent: a request line can hold a message id, and nobody reads this log."""

    def _serve(self) -> None:
        body = self._read_body()
        if body is None:
            return
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        request = HttpRequest(self.command, url.path, query, self.headers, body)
        self._write(self._owner.application(request))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve  # noqa: N815 - the names that the base class calls

    def _read_body(self) -> bytes | None:
        """None: the request was refused, or ended early, and so does the connection."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
        elif not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.BAD_REQUEST)
        elif int(length) > MAX_BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                return body
            self.close_connection = True
        return None

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self._write(HttpResponse(status, f'{{"message":"{status.phrase}"}}'.encode()))

    def _write(self, response: HttpResponse) -> None:
        if response.delay_seconds > 0:
            self._owner.stopping.wait(response.delay_seconds)
        if response.ending is not Ending.WHOLE or response.stream is not None:
            self.close_connection = True
        if response.ending is Ending.NONE or self._owner.stopping.is_set():
            self.close_connection = True
            return
        head, body = self._head(response), b"" if self.command == "HEAD" else response.body
        match response.ending:
            case Ending.CUT:
                self.wfile.write(head + body[: len(body) // 2])
            case Ending.DRIP:
                self._drip(head + body, response.drip_seconds)
            case _:
                # One write: head and body in two packets wait for each other's acknowledgement.
                self.wfile.write(head + body)
                if response.stream is not None and self.command != "HEAD":
                    self._send_as_it_comes(response.stream)

    def _send_as_it_comes(self, stream: Generator[bytes]) -> None:
        with contextlib.closing(stream):
            for piece in stream:
                self.wfile.write(piece)

    def _drip(self, data: bytes, interval_seconds: float) -> None:
        for position in range(len(data)):
            self.wfile.write(data[position : position + 1])
            if self._owner.stopping.wait(interval_seconds):
                return

    def _head(self, response: HttpResponse) -> bytes:
        phrase = HTTPStatus(response.status).phrase
        headers = [("Date", formatdate(usegmt=True))]
        if response.stream is None:
            headers.append(("Content-Length", str(len(response.body))))
        if response.body or response.stream is not None:
            headers.append(("Content-Type", response.content_type))
        if self.close_connection and response.ending is Ending.WHOLE:
            headers.append(("Connection", "close"))
        headers += response.headers
        lines = [f"HTTP/1.1 {response.status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")
