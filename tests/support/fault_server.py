"""A server on loopback that runs a script for each connection, plain or TLS, and records the received bytes.

    def reset_after_request(peer: Peer) -> None:
        peer.read_request()
        peer.reset()

    with FaultServer(reset_after_request) as server:
        ...  # POST to server.url
    assert server.connections[0].complete_requests == 1

A script that returns without ending the connection leaves it to the client: the server then reads until the client is
gone, so a client that forgets to close is seen as an open connection.
"""

from __future__ import annotations

import os
import re
import select
import socket
import ssl
import struct
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final, Self

import trustme

from optus_sms.gateway.transport import new_tls_context

# Long enough for a slow machine; only a failing test waits this long.
PATIENCE_SECONDS: Final = 20.0
_HEAD_END: Final = b"\r\n\r\n"
_CONTENT_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass
class Connection:
    """The data of a client's connection; ``received``: application bytes (after TLS)."""

    received: bytearray = field(default_factory=bytearray)
    handshake_failed: bool = False
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def begun_requests(self) -> int:
        """Requests of which at least the first bytes arrived."""
        return len(re.findall(rb"(?:POST|GET) /", self.received))

    @property
    def complete_requests(self) -> int:
        """Requests that arrived to their last body byte."""
        rest, count = bytes(self.received), 0
        while (length := _request_length(rest)) is not None and len(rest) >= length:
            rest, count = rest[length:], count + 1
        return count


def _request_length(data: bytes) -> int | None:
    """Bytes of the first request in ``data``, or None while its head is not complete."""
    head, end, _ = data.partition(_HEAD_END)
    if not end:
        return None
    length = _CONTENT_LENGTH.search(head)
    return len(head) + len(end) + (int(length[1]) if length else 0)


class Peer:
    """The server's side of one connection, for scripts. A client that goes away ends the script without an error."""

    def __init__(self, sock: socket.socket, connection: Connection, stopping: threading.Event) -> None:
        self.connection = connection
        self._sock = sock
        self._stopping = stopping
        self._consumed = 0

    def read_head(self) -> None:
        """Read up to the end of the next request's head (and whatever came with it)."""
        self._read_until(lambda data: _request_length(data) is not None)

    def read_request(self) -> bytes:
        """Read the next request to its last byte and return it."""
        self._read_until(lambda data: (length := _request_length(data)) is not None and len(data) >= length)
        pending = bytes(self.connection.received[self._consumed :])
        request = pending[: _request_length(pending)]
        self._consumed += len(request)
        return request

    def wait_for_request(self) -> None:
        """Until the first bytes of a request have come; they stay unread."""
        select.select([self._sock], [], [], PATIENCE_SECONDS)

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def send_below_tls(self, data: bytes) -> None:
        """Send bytes that are no TLS record, on the TCP connection below the TLS session."""
        os.write(self._sock.fileno(), data)

    def drip(self, data: bytes, *, pause: float = 0.02) -> None:
        """Send one byte at a time, so that no wait for a single byte is long."""
        for byte in data:
            self._sock.sendall(bytes([byte]))
            self._stopping.wait(pause)

    def repeat(self, data: bytes, *, pause: float = 0.0) -> None:
        """Send the same bytes until the client closes the connection."""
        while not self._stopping.wait(pause):
            self._sock.sendall(data)

    def read_slowly(self, size: int, *, pause: float) -> None:
        """Read a little of the request at a time while the client writes."""
        while not self._stopping.wait(pause) and self._receive(size):
            pass

    def fin(self) -> None:
        """End the server's direction (a plain FIN, also under TLS); the client's stays open."""
        self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send a RST, which drops all unread and unsent bytes."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def wait_until_closed(self) -> None:
        """Read until the client has closed."""
        while self._sock.fileno() >= 0 and self._receive():
            pass

    def _read_until(self, enough: Callable[[bytes], bool]) -> None:
        while not enough(bytes(self.connection.received[self._consumed :])):
            if not self._receive():
                raise ConnectionAbortedError("the client closed inside its request")

    def _receive(self, size: int = 65536) -> bytes:
        data = self._sock.recv(size)
        self.connection.received += data
        return data


Script = Callable[[Peer], None]


class FaultServer:
    """Listens on a free loopback port. The n-th connection gets the n-th script, all later ones the last.

    ``tls_delay``: seconds before the server takes part in the TLS handshake.
    """

    def __init__(
        self, *scripts: Script, tls: ssl.SSLContext | None = None, tls_delay: float = 0.0, scheme: str | None = None
    ) -> None:
        self.connections: list[Connection] = []
        self._scripts = scripts
        self._tls = tls
        self._tls_delay = tls_delay
        self._scheme = scheme or ("https" if tls else "http")
        self._stopping = threading.Event()
        self._connected = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._acceptor = threading.Thread(target=self._accept, name="fault-server", daemon=True)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/messages"

    @property
    def begun_requests(self) -> int:
        return sum(connection.begun_requests for connection in self.connections)

    @property
    def complete_requests(self) -> int:
        return sum(connection.complete_requests for connection in self.connections)

    def wait_until_closed(self, expected: int = 1) -> bool:
        """True once ``expected`` connections have come and the client (or the script) has closed each; False if not."""
        with self._connected:
            came = self._connected.wait_for(lambda: len(self.connections) >= expected, PATIENCE_SECONDS)
        return came and all(connection.closed.wait(PATIENCE_SECONDS) for connection in list(self.connections))

    @property
    def open_connections(self) -> int:
        return sum(not connection.closed.is_set() for connection in list(self.connections))

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._acceptor.join(PATIENCE_SECONDS)
        self._listener.close()
        for sock in self._sockets:
            with suppress(OSError):  # most are closed by now
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(len(self.connections), len(self._scripts) - 1)]
            connection = Connection()
            with self._connected:
                self.connections.append(connection)
                self._connected.notify_all()
            thread = threading.Thread(target=self._serve, args=(sock, connection, script), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, connection: Connection, script: Script) -> None:
        sock.settimeout(PATIENCE_SECONDS)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._handshake(self._tls, sock, connection)
            self._sockets.append(sock)
            peer = Peer(sock, connection, self._stopping)
            try:
                script(peer)
            finally:
                peer.wait_until_closed()
        except OSError:
            pass  # the client went away, which is what many scripts provoke
        finally:
            sock.close()
            connection.closed.set()

    def _handshake(self, tls: ssl.SSLContext, sock: socket.socket, connection: Connection) -> socket.socket:
        self._stopping.wait(self._tls_delay)
        wrapped = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        try:
            wrapped.do_handshake()
        except OSError:
            connection.handshake_failed = True
            with (
                wrapped,
                socket.socket(fileno=os.dup(wrapped.fileno())) as raw,
            ):  # unread bytes would make the end a reset
                raw.settimeout(PATIENCE_SECONDS)
                while raw.recv(4096):
                    pass
            raise
        return wrapped


# Certificates: of an authority that the tests' clients trust, and of others.


@cache
def _trusted_authority() -> trustme.CA:
    return trustme.CA()


@cache
def server_tls(
    *, trusted: bool = True, name: str = "127.0.0.1", days: tuple[int, int] = (-1, 1), wants_certificate: bool = False
) -> ssl.SSLContext:
    """A server's context with a certificate for ``name``, signed by the trusted authority or by a stranger.

    ``days``: from now, when it is valid.
    """
    authority = _trusted_authority() if trusted else trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    first, last = (datetime.now(UTC) + timedelta(days=day) for day in days)
    authority.issue_cert(name, not_before=first, not_after=last).configure_cert(context)
    if wants_certificate:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@cache
def old_server_tls() -> ssl.SSLContext:
    """A server that speaks nothing newer than TLS 1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _trusted_authority().issue_cert("127.0.0.1").configure_cert(context)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the deprecation is the purpose
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


@cache
def client_tls() -> ssl.SSLContext:
    """The transport's own context, trusting the test authority besides the public ones; loaded once, as it is slow."""
    context = new_tls_context()
    _trusted_authority().configure_trust(context)
    return context


def trusted_pem() -> bytes:
    """The root certificate of the authority that clients trust."""
    return bytes(_trusted_authority().cert_pem.bytes())


def stranger_pem() -> bytes:
    """The root certificate of an authority that no client should trust."""
    return bytes(trustme.CA().cert_pem.bytes())
