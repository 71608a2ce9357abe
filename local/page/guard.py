"""Who may ask the page's server for what: this machine's browser on the page itself, and nobody's other page. Pure."""

import hmac
from typing import Final

from local.http_server import HttpRequest

MAX_BODY_BYTES: Final = 64 * 1024
TOKEN_HEADER: Final = "X-Page-Token"
_READING: Final = ("GET", "HEAD")


def refusal(request: HttpRequest, *, port: int, token: str) -> tuple[int, str] | None:
    """HTTP status and why; None if the request is allowed.

    A name that somebody points at loopback is another ``Host``; another site's page has another ``Origin`` or says so
    in ``Sec-Fetch-Site``, cannot read the token, and cannot send the header it belongs in. A link to the page from
    elsewhere is welcome: it only opens it.
    """
    hosts = [host.lower() for host in request.headers.get_all("Host", [])]
    own = (f"127.0.0.1:{port}", f"localhost:{port}")
    if len(hosts) != 1 or hosts[0] not in own:
        return 403, f"The page is only for this machine: open http://{own[0]}/."
    is_link = request.method in _READING and request.path == "/"
    if request.headers.get("Origin", f"http://{hosts[0]}") != f"http://{hosts[0]}":
        return 403, "Another site's page may not ask for this."
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not is_link:
        return 403, "Another site's page may not ask for this."
    return None if request.method in _READING else _refusal_of_change(request, token)


def _refusal_of_change(request: HttpRequest, token: str) -> tuple[int, str] | None:
    if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), token.encode()):
        return 403, f"The header {TOKEN_HEADER} is not that of this start of make run: load the page again."
    if len(request.body) > MAX_BODY_BYTES:
        return 413, f"The body has more than {MAX_BODY_BYTES} bytes."
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if request.body and media_type != "application/json":
        return 415, "Content-Type must be application/json."
    return None
