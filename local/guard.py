"""Rules for a listener on this machine: programs may use it, and its own web page, but no other page. Pure functions.

A request from another site's page has that site's ``Origin``, or the browser reports it in ``Sec-Fetch-Site``. A
foreign name that resolves to this machine shows in ``Host``. An IP address in ``Host`` is safe, because no name is
resolved.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Final

Header = Callable[[str], str | None]
"""Returns a header's value, or None; if a request repeats the header, its values joined by commas."""
Guard = Callable[[Header, str], str | None]
"""Returns why a listener on this address refuses a request, or None."""

CONTAINER_HOST: Final = "host.docker.internal"
"""The name of this machine in a container: set by Docker Desktop; on Linux by `add_host` in samconfig.toml."""
_NAMES: Final = ("localhost", CONTAINER_HOST)
_HOST: Final = re.compile(r"(\[[0-9a-f:]+\]|[0-9a-z.-]+)(:[0-9]{1,5})?")


def refusal_of_request(header: Header, address: str) -> str | None:
    """Return why a listener on ``address`` without a page of its own refuses a request, or None."""
    return refusal_of_host(header, address) or refusal_of_page(header)


def refusal_of_host(header: Header, address: str) -> str | None:
    """Return why the name under which a listener was reached isn't one of this machine, or None."""
    found = _HOST.fullmatch((header("Host") or "").lower())
    if found and (found[1] in _NAMES or _is_own(found[1].strip("[]"), address)):
        return None
    own = "this machine's address" if ipaddress.ip_address(address).is_unspecified else address
    return f"Host: must name this machine. Use localhost or {own} in the URL."


def refusal_of_page(header: Header, *, own: bool = False, link: bool = False) -> str | None:
    """Return why the page that sent a request may not, or None. ``own``: the listener's own page may.

    ``link``: another site's page may link to it, if only a browser window shows the response.
    """
    origins = (None, f"http://{header('Host')}".lower()) if own else (None,)
    sites = (None, "none", "same-origin") if own else (None, "none")
    if header("Origin") in origins and (link or header("Sec-Fetch-Site") in sites):
        return None
    return "Origin: must not be another site's page. Use a program on this machine instead."


def _is_own(host: str, address: str) -> bool:
    try:
        named, bound = ipaddress.ip_address(host), ipaddress.ip_address(address)
    except ValueError:
        return False
    return named.is_loopback or (not named.is_unspecified and (named == bound or bound.is_unspecified))
