"""Sends one callback: where to, with which credentials, and what came back.

The REST v2 page (docs/gateway-simulator.md, "Sources"): POST, application/json; the only authentication is `user:password@` in the
configured URL, sent as a Basic header. Whether it is sent at once or after a 401 is not documented, so both can be
chosen.
"""

import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

USER_AGENT = "sms-gateway-simulator/1"


@dataclass(frozen=True)
class CallbackUrl:
    """A configured URL, taken apart. `public` is the URL without the credentials."""

    scheme: str
    host: str
    port: int | None
    target: str
    authorization: str | None = field(repr=False)

    @property
    def public(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{'' if self.port is None else f':{self.port}'}{self.target}"


def parse_callback_url(url: str) -> CallbackUrl:
    """ValueError (without the URL in it: it may hold credentials) if it is no http or https URL."""
    wrong = ValueError("a callback URL looks like https://user:password@host:port/path, user and password URL-encoded")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise wrong
    authorization = None
    if parts.username is not None:
        authorization = basic_authorization(unquote(parts.username), unquote(parts.password or ""))
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return CallbackUrl(parts.scheme, parts.hostname, port, target, authorization)


def basic_authorization(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def post_callback(url: CallbackUrl, body: Mapping[str, Any], challenged: bool, timeout_seconds: float) -> int | str:
    """The receiver's HTTP status, or the name of what went wrong. `challenged`: credentials only after a 401 asks."""
    try:
        if not challenged or url.authorization is None:
            return _post(url, body, url.authorization, timeout_seconds)[0]
        status, challenge = _post(url, body, None, timeout_seconds)
        if status == http.client.UNAUTHORIZED and challenge.lower().startswith("basic"):
            return _post(url, body, url.authorization, timeout_seconds)[0]
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    return status


def _text_of(body: Mapping[str, Any]) -> bytes:
    """JSON in UTF-8. Half a surrogate pair, which JSON can spell, becomes a question mark."""
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _post(
    url: CallbackUrl, body: Mapping[str, Any], authorization: str | None, timeout_seconds: float
) -> tuple[int, str]:
    connect = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = connect(url.host, url.port, timeout=timeout_seconds)
    headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT, "Connection": "close"}
    if authorization is not None:
        headers["Authorization"] = authorization
    try:
        connection.request("POST", url.target, _text_of(body), headers)
        response = connection.getresponse()
        response.read()
        return response.status, response.getheader("WWW-Authenticate", "")
    finally:
        connection.close()
