"""The program of the processes that test_kill.py ends: the real handler of SendMessageFunction, stopped at one step.

The production code is unchanged: the harness finds the steps by wrapping objects. Time is the machine's plus a shift by
the test, so that no test waits for a lease to end.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Protocol

from local.aws.app_loader import load_app
from optus_sms.gateway import transport
from optus_sms.model.times import Clock
from optus_sms.records import health
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from tests.support.fakes import FakeLambdaContext

HANDLER: Final = Path(__file__).parents[3] / "functions" / "send_message" / "app.py"
INVOCATION_SECONDS: Final = 60.0
DELIVERIES: Final = 8
BETWEEN_DELIVERIES_SECONDS: Final = 130.0  # longer than any wait of the sender function in these tests

# The eight points, in the order in which a message that is sent passes them.
BEFORE_CLAIM: Final = "before claim"
AFTER_CLAIM: Final = "after claim"
CONNECTED: Final = "connected"
REQUEST_SENT: Final = "request sent"
STATUS_LINE_READ: Final = "status line read"
BEFORE_WRITE: Final = "202 before the write"
WRITTEN: Final = "written before returning"
RETURNED: Final = "returned before the delete"
POINTS: Final = (
    BEFORE_CLAIM, AFTER_CLAIM, CONNECTED, REQUEST_SENT, STATUS_LINE_READ, BEFORE_WRITE, WRITTEN, RETURNED,
)  # fmt: skip


class Shift(Protocol):
    """A `multiprocessing.Value("d")`: the seconds by which the test has shifted time."""

    value: float


@dataclass(frozen=True)
class Invocation:
    """An invocation in a separate process."""

    event: dict[str, Any]
    environment: Mapping[str, str]


def stop_at(invocation: Invocation, point: str, shift: Shift, test: Connection) -> None:
    """Handle the event up to ``point``, report that, wait for the test, continue, and report the handler's result."""

    def stop() -> None:
        test.send("stopped")
        if test.recv() == "die":
            os.kill(os.getpid(), signal.SIGKILL)

    _prepare(invocation, shift)
    _WRAP[point](stop)
    answer = _handle(invocation.event)
    if point == RETURNED:
        stop()
    test.send(answer)


def deliver(invocation: Invocation, shift: Shift, test: Connection) -> None:
    """Handle the event in a healthy process, once for each "deliver" of the test."""
    _prepare(invocation, shift)
    while test.recv() == "deliver":
        test.send(_handle(invocation.event))


def _handle(event: dict[str, Any]) -> bool:
    """Return whether the message was acknowledged."""
    answer = app.lambda_handler(event, FakeLambdaContext(remaining_seconds=INVOCATION_SECONDS))
    return not answer["batchItemFailures"]


app = load_app(HANDLER)  # once, in the process from which the others are forked


def _prepare(invocation: Invocation, shift: Shift) -> None:
    os.environ.update(invocation.environment)
    shifted = SimpleNamespace(time=lambda: time.time() + shift.value, monotonic=lambda: time.monotonic() + shift.value)
    setattr(transport, "time", shifted)  # noqa: B010 - the module as the transport sees it, not an attribute of ours
    # After an unknown outcome few messages may be sent, so each case has its own doubt.
    setattr(health, "HEALTH_KEY", f"health#{invocation.environment['OUTBOUND_QUEUE_URL']}")  # noqa: B010
    app.Clock = lambda: Clock(now=shifted.time, monotonic=shifted.monotonic)  # type: ignore[attr-defined]


def _around(owner: type, name: str, *, before: Callable[[], None] | None, after: Callable[[], None] | None) -> None:
    method = getattr(owner, name)

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if before:
            before()
        result = method(self, *args, **kwargs)
        if after:
            after()
        return result

    setattr(owner, name, wrapped)


def _before(owner: type, name: str) -> Callable[[Callable[[], None]], None]:
    return lambda stop: _around(owner, name, before=stop, after=None)


def _after(owner: type, name: str) -> Callable[[Callable[[], None]], None]:
    return lambda stop: _around(owner, name, before=None, after=stop)


_WRAP: Final[dict[str, Callable[[Callable[[], None]], None]]] = {
    BEFORE_CLAIM: _before(Ledger, "claim"),
    AFTER_CLAIM: _after(Ledger, "claim"),
    CONNECTED: _after(transport._Connection, "connect"),
    REQUEST_SENT: _before(transport._Response, "begin"),
    STATUS_LINE_READ: _after(transport._Response, "_read_status"),
    BEFORE_WRITE: _before(Ledger, "accepted"),
    WRITTEN: _after(Messages, "record_sent"),
    RETURNED: lambda _: None,
}
