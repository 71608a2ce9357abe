"""HTTP to the gateway, with a record of what has left this machine and what has come back.

The exceptions of `urllib3` don't distinguish "not sent" from "sent, response lost". So the connection class below notes
the instant before the first request byte is handed to the socket, and the status line as soon as it is read.
`Transport.exchange` reports both and never raises.

- Nothing sends a request again: no retries, redirects, proxies, netrc or cookies.
- No server can hold up the function: no decompression, no bodies over 64 KB, one hard deadline for the whole exchange,
  and no connection that may have been closed unnoticed.
"""

import http.client
import io
import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

CONNECTIONS: Final = 64
"""Kept open to the gateway, one for each thread of a batch."""
MAX_BODY_BYTES: Final = 64 * 1024
MAX_RESPONSE_BYTES: Final = 1024 * 1024  # with headers and chunk sizes; http.client alone reads 6 MB of headers
CONNECT_SECONDS: Final = 3.0
# Shorter than any common server's keep-alive. If the peer or a NAT has dropped the connection, as after a freeze of the
# execution environment, a request ends in a reset or a timeout after it was written: a needless unknown outcome.
REUSE_SECONDS: Final = 3.0
USER_AGENT: Final = "optus-sms/1"
# Headers by which the gateway's support, AWS and the usual proxies find a request. The gateway documents none for REST
# v2; other APIs of its platform return X-Modica-Request-Id.
KEPT_HEADERS: Final = re.compile(
    "retry-after|date|server|via|cf-ray|apigw-requestid|x-amzn?-.*|x-modica-.*|x-request-id|x-correlation-id",
    re.IGNORECASE,
)
_MOST_HEADERS: Final = 12


class Exchange(NamedTuple):
    """The facts of one exchange.

    ``handed_over``: at least one request byte may have left. ``status``: None if no status line was read.
    ``body``: None if it could not be read whole. ``headers``: those of KEPT_HEADERS, by their lower-case names.
    ``failure``: a code such as ``connection_refused``, None if the response was complete.
    """

    handed_over: bool
    status: int | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = MappingProxyType({})
    failure: str | None = None
    seconds: float = 0.0


class _NotAllowedError(Exception):
    """The caller does not allow the first byte."""


class _TooLateError(Exception):
    """The deadline for handing over the first byte has passed."""


@dataclass(slots=True)
class _InFlight:
    """The exchange of a thread; written by the connection, read at the end. Times are monotonic seconds."""

    deadline: float
    start_by: float
    may_start: Callable[[], bool]
    handed_over: bool = False
    status: int | None = None

    def remaining(self) -> float:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the exchange's deadline has passed")
        return seconds

    def hand_over(self) -> None:
        if not self.handed_over and not self.may_start():
            raise _NotAllowedError
        if not self.handed_over and time.monotonic() >= self.start_by:
            raise _TooLateError
        self.handed_over = True


class _Thread(threading.local):
    exchange: _InFlight


_thread = _Thread()


class _ResponseTooLargeError(http.client.HTTPException):
    """More bytes than any response of the API has."""


class _DeadlineFile(io.RawIOBase):
    """The response's bytes, up to a limit; each read can wait only for the rest of the exchange's time."""

    def __init__(self, sock: socket.socket, exchange: _InFlight) -> None:
        self._sock = sock
        self._exchange = exchange
        self._bytes_left = MAX_RESPONSE_BYTES
        # Keeps the socket open until closed, as http.client expects.
        self._file: io.RawIOBase = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._sock.settimeout(self._exchange.remaining())
        count = self._file.readinto(buffer)
        self._bytes_left -= count or 0
        if self._bytes_left < 0:
            raise _ResponseTooLargeError
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _DeadlineSocket:
    """The part of a socket that http.client needs to read a response."""

    def __init__(self, sock: socket.socket, exchange: _InFlight) -> None:
        self._sock = sock
        self._exchange = exchange

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineFile(self._sock, self._exchange))


# Stricter than http.client, which also accepts `2_02`, `+202` and `HTTP/9 202`.
_STATUS_LINE_START: Final = re.compile(rb"HTTP/1\.(?P<minor>\d) (?P<status>[1-9]\d\d)[ \r\n]?")
_STATUS_LINE_START_BYTES: Final = len(b"HTTP/1.1 202 ")
_MAX_LINE_BYTES: Final = 64 * 1024


class _Response(http.client.HTTPResponse):
    """A response that notes the status as soon as its three digits are read, even if nothing follows."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        self._exchange = _thread.exchange
        super().__init__(_DeadlineSocket(sock, self._exchange), *args, **kwargs)  # type: ignore[arg-type] # only makefile is used

    def begin(self) -> None:
        super().begin()
        # urllib3 would log headers that it can't parse, and they can quote the request.
        self.msg.defects.clear()
        self.msg.set_payload("")

    def _read_status(self) -> tuple[str, int, str]:
        """Return version, status and an empty reason phrase: a hook of http.client."""
        start = self.fp.read(_STATUS_LINE_START_BYTES)
        if not start:
            raise http.client.RemoteDisconnected("closed without a response")
        match = _STATUS_LINE_START.fullmatch(start)
        if match is None or int(match["status"]) == http.HTTPStatus.SWITCHING_PROTOCOLS:
            raise http.client.BadStatusLine("no status line of HTTP/1")
        status = int(match["status"])
        if status >= 200:
            self._exchange.status = status
        if not start.endswith(b"\n") and len(self.fp.readline(_MAX_LINE_BYTES + 1)) > _MAX_LINE_BYTES:
            raise http.client.LineTooLong("status line")
        # http.client skips only 100 and reads 103 as the response; the next request would then get the real one.
        return f"HTTP/1.{match['minor'].decode()}", status if status >= 200 else http.HTTPStatus.CONTINUE, ""


class _TrackingMixin:
    """A connection that notes the first byte, never connects twice for one request, and keeps the deadline."""

    sock: socket.socket | None
    response_class: Any = _Response
    used_at: tuple[float, float] | None = None  # wall clock and monotonic: a freeze can stop either

    def _new_conn(self) -> socket.socket:
        """Connect as urllib3 does, but divide the time to connect among all addresses of a name."""
        connection: Any = self
        deadline = time.monotonic() + min(CONNECT_SECONDS, _thread.exchange.remaining())
        try:
            addresses = socket.getaddrinfo(connection.host, connection.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise NameResolutionError(connection.host, connection, reason) from reason
        failure: OSError = OSError("no address")
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:  # no IPv6 on this machine
                failure = error.with_traceback(None)
                continue
            try:
                # An equal share of the rest: a silent first address must not use up the time of the others.
                sock.settimeout(max(0.001, (deadline - time.monotonic()) / (len(addresses) - tried)))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.connect(address)
                sock.settimeout(max(0.001, deadline - time.monotonic()))  # the TLS handshake counts too
            except OSError as error:
                sock.close()
                failure = error.with_traceback(None)  # its traceback would keep the connection alive
            else:
                return sock
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(connection, "timed out") from failure
        raise NewConnectionError(connection, str(failure)) from failure

    def send(self, data: Any) -> None:
        exchange = _thread.exchange
        connection: Any = super()
        if self.sock is None:
            if exchange.handed_over:
                raise ConnectionAbortedError("the connection was closed inside a request")
            self.connect()  # type: ignore[attr-defined]
        exchange.hand_over()
        if self.sock is not None:
            self.sock.settimeout(exchange.remaining())
        connection.send(data)

    def mark_used(self) -> None:
        self.used_at = (time.time(), time.monotonic())

    def close_if_idle_too_long(self) -> None:
        if self.sock is None or self.used_at is None:
            return
        wall, monotonic = self.used_at
        idle = max(abs(time.time() - wall), time.monotonic() - monotonic)
        if idle > REUSE_SECONDS:
            self.close()  # type: ignore[attr-defined]


class _Connection(_TrackingMixin, HTTPConnection):
    pass


class _TlsConnection(_TrackingMixin, HTTPSConnection):
    pass


class _PoolMixin:
    def _get_conn(self, timeout: float | None = None) -> Any:
        pool: Any = super()
        connection = pool._get_conn(timeout)  # noqa: SLF001 - urllib3's own hook for subclasses
        connection.close_if_idle_too_long()
        return connection

    def _put_conn(self, connection: Any) -> None:
        if connection is not None:
            connection.mark_used()
        pool: Any = super()
        pool._put_conn(connection)  # noqa: SLF001


class _Pool(_PoolMixin, urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(_PoolMixin, urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Authority(Protocol):
    """A private certificate authority to trust besides the public ones; it can be replaced at any time."""

    def ca_certificate(self) -> str | None:
        """Return its certificates in PEM, empty for none; None changes nothing in what is trusted."""

    def certificate_refused(self) -> None:
        """Note that a server's certificate was not trusted."""


def new_tls_context(ca_certificate: str = "") -> ssl.SSLContext:
    """Return a context for TLS 1.2 or newer that checks certificate and name against certifi's roots.

    ``ca_certificate``: of one more authority. The public ones stay trusted, so that the gateway can be reached with and
    without the authority's proxy.
    """
    folder = Path(certifi.where()).with_name("roots")
    # In the layer (trim.py) OpenSSL reads only the root that it needs. It does not look into the folder if it knows a
    # root of the same name, and an authority of the secret can have the name of a public one.
    if folder.is_dir() and not ca_certificate:
        context = ssl.create_default_context(capath=folder)
    else:
        context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_certificate:
        context.load_verify_locations(cadata=ca_certificate)
        # Python 3.13 refuses authorities that lack a few extensions, as those of TLS-inspecting proxies do.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


@dataclass
class Transport:
    """One per execution environment; safe for many threads at a time."""

    tls: ssl.SSLContext = field(default_factory=new_tls_context)
    connections: int = CONNECTIONS
    authority: Authority | None = None

    def __post_init__(self) -> None:
        self._trusted = ""
        self._trusting = threading.Lock()
        self._pools = self._new_pools()

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        seconds: float,
        start_within: float = math.inf,
        may_start: Callable[[], bool] = lambda: True,
    ) -> Exchange:
        """Make one request and read its response within ``seconds``; never raises, never sends twice.

        No byte is handed over later than ``start_within`` seconds from now, nor before ``may_start`` returns true.
        ``may_start`` is called once the connection is open, and may wait.
        """
        self._trust()
        started = time.monotonic()
        exchange = _InFlight(
            deadline=started + seconds, start_by=started + min(seconds, start_within), may_start=may_start
        )
        _thread.exchange = exchange
        try:
            response = self._pools.urlopen(
                method, url, headers=_headers(headers, body), body=body, redirect=False, preload_content=False
            )
        except Exception as error:  # noqa: BLE001 - any error; only what was handed over and read counts
            failure = failure_code(error)
            if self.authority and failure.startswith("certificate_"):
                self.authority.certificate_refused()
            return _exchange(exchange, started, failure=failure)
        with _closing(response):
            try:
                content = _read_body(response)
            except Exception as error:  # noqa: BLE001
                return _exchange(exchange, started, response=response, failure=failure_code(error))
        if len(content) > MAX_BODY_BYTES:
            return _exchange(exchange, started, response=response, failure="body_too_large")
        return _exchange(exchange, started, response=response, content=content)

    def close(self) -> None:
        """Close all connections."""
        _close(self._pools)

    def _new_pools(self) -> urllib3.PoolManager:
        """Return pools with one TLS context, because loading the roots costs tens of milliseconds."""
        pools = urllib3.PoolManager(
            num_pools=1, maxsize=self.connections, retries=False, timeout=CONNECT_SECONDS, ssl_context=self.tls
        )
        pools.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return pools

    def _trust(self) -> None:
        """Make a new TLS context if the authority to trust has changed since the last exchange."""
        pem = self.authority.ca_certificate() if self.authority else None
        with self._trusting:
            if pem is None or pem == self._trusted:
                return
            self.tls, self._trusted = new_tls_context(pem), pem
            before, self._pools = self._pools, self._new_pools()
        _close(before)


def _close(pools: urllib3.PoolManager) -> None:
    """Close the connections at once; urllib3 leaves them to the garbage collector."""
    for key in pools.pools.keys():  # noqa: SIM118 - this container refuses to be iterated
        pools.pools[key].close()
    pools.clear()


def _headers(headers: Mapping[str, str] | None, body: bytes | None) -> dict[str, str]:
    common = {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"}
    if body is not None:
        common["Content-Type"] = "application/json"
    return common | dict(headers or {})


def _read_body(response: urllib3.BaseHTTPResponse) -> bytes:
    """Read the body, or one byte more than is allowed. Raises if the body ended early, which the last read detects."""
    body = b""
    while len(body) <= MAX_BODY_BYTES:
        part: bytes = response.read(MAX_BODY_BYTES + 1 - len(body), decode_content=False)
        if not part:
            break
        body += part
    return body


def _exchange(
    exchange: _InFlight,
    started: float,
    *,
    response: urllib3.BaseHTTPResponse | None = None,
    content: bytes | None = None,
    failure: str | None = None,
) -> Exchange:
    return Exchange(
        handed_over=exchange.handed_over,
        status=exchange.status,
        body=content,
        headers={} if response is None else _kept_headers(response.headers),
        failure=failure,
        seconds=time.monotonic() - started,
    )


def _kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    # By name: urllib3 joins the values of one name only then.
    kept = ((name.lower(), headers[name]) for name in headers if KEPT_HEADERS.fullmatch(name))
    return dict(islice(kept, _MOST_HEADERS))


@contextmanager
def _closing(response: urllib3.BaseHTTPResponse) -> Iterator[None]:
    """Close the connection, unless the body was read to its end, which returned the connection to the pool."""
    try:
        yield
    finally:
        response.close()
        response.release_conn()


# Innermost cause first: urllib3 wraps the same errors in several ways.
_CODES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (_NotAllowedError, "not_allowed"),
    (_TooLateError, "too_late"),
    (socket.gaierror, "name_not_resolved"),
    (ssl.SSLCertVerificationError, "certificate_refused"),  # or one of _CERTIFICATE_CODES
    (ssl.SSLError, "tls_failed"),
    (TimeoutError, "timed_out"),
    (ConnectionRefusedError, "connection_refused"),
    (http.client.RemoteDisconnected, "closed_without_response"),
    (ConnectionError, "connection_lost"),
    (http.client.IncompleteRead, "cut_short"),
    (_ResponseTooLargeError, "response_too_large"),
    (http.client.HTTPException, "not_http"),
    (OSError, "network_error"),
)


# The codes of X509_verify_cert (OpenSSL, openssl-verification-options).
_CERTIFICATE_CODES: Final = {
    9: "certificate_not_yet_valid",
    10: "certificate_expired",
    18: "certificate_issuer_unknown",  # self-signed
    19: "certificate_issuer_unknown",  # a root that is not trusted
    20: "certificate_issuer_unknown",
    21: "certificate_issuer_unknown",
    62: "certificate_wrong_name",
    64: "certificate_wrong_name",  # IP address
    66: "certificate_weak",  # key
    67: "certificate_weak",  # key of an authority
    68: "certificate_weak",  # digest
}
# Alert 116 (RFC 8446, 6.2): the server asked for a client certificate in the handshake, and got none. In TLS 1.3 the
# request is on the wire by then, but a server processes none before the client's certificate (4.4.2), and may not ask
# for one later, because this client does not offer post-handshake authentication (4.6.2).
_CLIENT_CERTIFICATE_ALERT: Final = "TLSV13_ALERT_CERTIFICATE_REQUIRED"


def failure_code(error: BaseException) -> str:
    """Return a short name for the failure of an exchange, for logs and operators; it decides no outcome."""
    causes = list(_causes(error))
    for kind, code in _CODES:
        for cause in causes:
            if isinstance(cause, kind):
                return _tls_code(cause) or code
    return type(causes[-1]).__name__


def _tls_code(cause: BaseException) -> str | None:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _CERTIFICATE_CODES.get(cause.verify_code)
    is_refused = isinstance(cause, ssl.SSLError) and cause.reason == _CLIENT_CERTIFICATE_ALERT
    return "client_certificate_required" if is_refused else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Return the error and all its causes; urllib3 also keeps causes in `reason` and in the arguments."""
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        cause = pending.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            pending += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
