"""Rules for requests to the page's server, beyond those of every listener (`local.guard`). Pure functions."""

import hmac
from typing import Final

from local.guard import refusal_of_host, refusal_of_page
from local.http_server import HttpRequest
from local.simulator.config import LOOPBACK

MAX_BODY_BYTES: Final = 64 * 1024
TOKEN_HEADER: Final = "X-Page-Token"
_READING: Final = ("GET", "HEAD")


def refusal(request: HttpRequest, *, token: str) -> tuple[int, str] | None:
    """Return the HTTP status and the reason of a refusal; None if the request is allowed.

    Another site's page can neither read the token nor send its header. A link from another site is allowed, because it
    only opens the page.
    """
    is_reading = request.method in _READING
    is_link = is_reading and request.path == "/"
    if why := refusal_of_host(request.header, LOOPBACK) or refusal_of_page(request.header, own=True, link=is_link):
        return 403, why
    return None if is_reading else _refusal_of_change(request, token)


def _refusal_of_change(request: HttpRequest, token: str) -> tuple[int, str] | None:
    if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), token.encode()):
        return 403, f"The header {TOKEN_HEADER} is not that of this start of make run: load the page again."
    if len(request.body) > MAX_BODY_BYTES:
        return 413, f"The body has more than {MAX_BODY_BYTES} bytes."
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if request.body and media_type != "application/json":
        return 415, "Content-Type must be application/json."
    return None
