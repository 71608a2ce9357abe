"""Connections to AWS: sends what botocore has signed, in place of botocore's own HTTP client.

botocore keeps credentials, signatures, retries and errors. It reports each signed request by its event `before-send`,
and takes the response that a handler returns. Its own client looks for proxies and pools at each request, and reads the
root certificates for each connection (docs/decisions/lean-calls.md).
"""

from __future__ import annotations

import http.client
import io
import ssl
import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import create_urllib3_context, get_cert_path
from urllib3.util import wait_for_read


class _Body(io.BytesIO):
    """A body that is read already, as `AWSResponse` wants it."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


@dataclass(eq=False)
class Connections:
    """One per execution environment, for all services; safe for many threads at a time, each with its own connection.

    ``ca_bundle``: a file of the root certificates to trust, None for certifi's.
    """

    connect_seconds: float
    read_seconds: float
    ca_bundle: str | None = None
    _idle: defaultdict[tuple[str, str], deque[http.client.HTTPConnection]] = field(
        default_factory=lambda: defaultdict(deque), init=False
    )
    _tls: ssl.SSLContext | None = field(default=None, init=False)
    _making_tls: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        weakref.finalize(self, _close_all, self._idle)

    def send(self, request: Any, **_: Any) -> AWSResponse:
        """Send an `AWSPreparedRequest`, as a handler of `before-send`; raises botocore's errors, which it retries."""
        url = urlsplit(request.url)
        idle = self._idle[url.scheme, url.netloc]
        connection = self._open(request, idle)
        try:
            target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
            connection.request(request.method, target, body=request.body, headers=request.headers)
            response, content = _read(connection)
        except Exception as error:
            connection.close()
            _close(idle)  # a freeze can have ended them all, and botocore has few attempts
            raise _as_botocores(error, request) from error
        if response.will_close:
            connection.close()
        else:
            idle.append(connection)
        headers: Any = response.headers
        return AWSResponse(request.url, response.status, headers, _Body(content))

    def _open(self, request: Any, idle: deque[http.client.HTTPConnection]) -> http.client.HTTPConnection:
        """Return an idle connection that the server has not closed, else a new one."""
        while idle:
            try:
                connection = idle.pop()
            except IndexError:  # another thread took it
                break
            if connection.sock and not wait_for_read(connection.sock, timeout=0):
                return connection
            connection.close()
        url = urlsplit(request.url)
        if url.scheme == "https":
            connection = http.client.HTTPSConnection(
                url.netloc, timeout=self.connect_seconds, context=self._shared_tls(request)
            )
        else:
            connection = http.client.HTTPConnection(url.netloc, timeout=self.connect_seconds)
        try:
            connection.connect()
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=request.url, error=error) from error
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=request.url, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=request.url, error=error) from error
        connection.sock.settimeout(self.read_seconds)
        return connection

    def _shared_tls(self, request: Any) -> ssl.SSLContext:
        """Return the context of all connections, with botocore's own settings; the threads of a batch make one."""
        with self._making_tls:
            if self._tls is None:
                context: ssl.SSLContext = create_urllib3_context()
                context.check_hostname = True
                try:
                    context.load_verify_locations(self.ca_bundle or get_cert_path(True))
                except OSError as error:  # no such file, or no certificate in it
                    raise SSLError(endpoint_url=request.url, error=error) from error
                self._tls = context
            return self._tls


def _read(connection: http.client.HTTPConnection) -> tuple[http.client.HTTPResponse, bytes]:
    """Return a response and its whole body."""
    with connection.getresponse() as response:
        if response.status < 200 or (response.length is None and not response.chunked):
            raise http.client.IncompleteRead(b"")  # an interim response, or one that can end early unnoticed
        return response, response.read()


def refuse_cut_short(response_dict: Mapping[str, Any], **_: Any) -> None:
    """Raise for a response of botocore's own client that ended early, as a handler of `before-parse`.

    botocore would read it as an empty response: a table without the item.
    """
    headers, body = response_dict["headers"], response_dict["body"]
    whole = "chunked" in headers.get("transfer-encoding", "") or headers.get("content-length") == str(len(body))
    if response_dict["status_code"] < 300 and not whole:
        raise ConnectionClosedError(endpoint_url="AWS")


def _close_all(idle: dict[tuple[str, str], deque[http.client.HTTPConnection]]) -> None:
    for connections in idle.values():
        _close(connections)


def _close(connections: deque[http.client.HTTPConnection]) -> None:
    while connections:
        with suppress(IndexError):  # another thread took it
            connections.pop().close()


def _as_botocores(error: Exception, request: Any) -> BotoCoreError:
    """Return the error that botocore's own client would raise."""
    match error:
        case TimeoutError():
            return ReadTimeoutError(endpoint_url=request.url, error=error)
        case ssl.SSLError():
            return SSLError(endpoint_url=request.url, error=error)
        case OSError() | http.client.HTTPException():
            return ConnectionClosedError(endpoint_url=request.url, request=request, error=error)
    return HTTPClientError(error=error)
