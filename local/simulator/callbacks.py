"""Send one callback, with the credentials in its URL, and return the result.

The REST v2 page (docs/gateway-simulator.md, "Sources"): POST, application/json; the only authentication is
`user:password@` in the configured URL, sent as a Basic header. It is not documented whether the header is sent at once
or only after a 401, so both can be configured.
"""

import base64
import contextlib
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

USER_AGENT = "sms-gateway-simulator/1"


@dataclass(frozen=True)
class CallbackUrl:
    """A configured URL. `public` is the URL without the credentials."""

    public: str
    authorization: str | None = field(repr=False)


def parse_callback_url(url: str) -> CallbackUrl:
    """Parse a URL. Raise ValueError if it is not http or https; its text has no URL, which can hold credentials."""
    wrong = ValueError("a callback URL looks like https://user:password@host:port/path, user and password URL-encoded")
    try:
        parts = urlsplit(url)
        has_address = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise wrong from None
    if parts.scheme not in {"http", "https"} or not has_address:
        raise wrong
    public = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path or "/", fragment="").geturl()
    if parts.username is None:
        return CallbackUrl(public, None)
    return CallbackUrl(public, basic_authorization(unquote(parts.username), unquote(parts.password or "")))


def basic_authorization(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def post_callback(url: CallbackUrl, body: Mapping[str, Any], challenged: bool, timeout_seconds: float) -> int | str:
    """Return the receiver's HTTP status or the error's name. `challenged`: send credentials only after a 401."""
    try:
        status, challenge = _post(url.public, body, None if challenged else url.authorization, timeout_seconds)
        asked = status == http.client.UNAUTHORIZED and challenge.lower().startswith("basic")
        if challenged and asked and url.authorization is not None:
            status, _ = _post(url.public, body, url.authorization, timeout_seconds)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    return status


def _post(url: str, body: Mapping[str, Any], authorization: str | None, timeout_seconds: float) -> tuple[int, str]:
    """Return the response's status and challenge."""
    parts = urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT, "Connection": "close"}
    if authorization is not None:
        headers["Authorization"] = authorization
    # Half a surrogate pair, which JSON can have and UTF-8 can't encode, becomes a question mark.
    data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    with contextlib.closing(connect(parts.netloc, timeout=timeout_seconds)) as connection:
        connection.request("POST", urlunsplit(("", "", parts.path, parts.query, "")), data, headers)
        response = connection.getresponse()
        response.read()
        return response.status, response.getheader("WWW-Authenticate", "")
