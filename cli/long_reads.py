"""Reads that can take minutes: their progress on stderr, and more retries of AWS's calls meanwhile."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

import click
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.exceptions import EndpointConnectionError, HTTPClientError, SSLError

T = TypeVar("T")

_EVERY_SECONDS: Final = 0.2
_EVERY_SECONDS_IN_A_FILE: Final = 10.0
_WAITS: Final = (1, 2, 4, 8, 10, 10, 10, 10)
"""Seconds before each additional attempt, after the SDK's own."""
_THROTTLED: Final = ("Throttl", "ProvisionedThroughputExceeded", "RequestLimitExceeded", "TooManyRequests", "SlowDown")


def shown(items: Iterable[T], what: str) -> Iterator[T]:
    """Yield the items and show their number on stderr: as a changing line on a terminal, else from time to time."""
    is_terminal = sys.stderr.isatty()
    every = _EVERY_SECONDS if is_terminal else _EVERY_SECONDS_IN_A_FILE
    last, width = time.monotonic(), 0
    for number, item in enumerate(items, start=1):
        if time.monotonic() - last >= every:
            text = f"{what}: {number} read …"
            click.echo(text + ("\r" if is_terminal else "\n"), err=True, nl=False)
            last, width = time.monotonic(), len(text)
        yield item
    if is_terminal and width:
        click.echo(" " * width + "\r", err=True, nl=False)


class Patience:
    """Lets a client retry more often than the SDK does if AWS throttles or fails, with a note each time.

    Not for the first call of a command, which shows whether AWS can be reached, and not if a local stack has ended.
    """

    def __init__(self, client: Any, *, attempts: int, local: bool) -> None:
        self._attempts = attempts  # the SDK's number
        self._local = local
        client.meta.events.register_last("needs-retry", self._wait)

    def _wait(
        self,
        *,
        response: tuple[Any, Mapping[str, Any]] | None,
        caught_exception: Exception | None,
        attempts: int,
        operation: Any,
        **_: object,
    ) -> int | None:
        """Return the seconds to wait before another attempt; None for no other attempt (botocore's convention)."""
        problem = self._problem(response[1] if response else {}, caught_exception)
        number = attempts - self._attempts
        if not problem or not 0 <= number < len(_WAITS):
            return None
        click.secho(f"AWS: {operation.name}: {problem}; retrying in {_WAITS[number]} s", err=True, fg="yellow")
        return _WAITS[number]

    def _problem(self, response: Mapping[str, Any], failure: Exception | None) -> str:
        """Return a temporary problem in words; empty for any other."""
        if failure is not None:
            is_gone = isinstance(failure, SSLError) or (self._local and isinstance(failure, EndpointConnectionError))
            may_pass = isinstance(failure, HTTPClientError | NoConnectionError) and not is_gone
            return type(failure).__name__ if may_pass else ""
        code = str(response.get("Error", {}).get("Code", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 200)
        return code or f"HTTP {status}" if status >= 500 or any(word in code for word in _THROTTLED) else ""
