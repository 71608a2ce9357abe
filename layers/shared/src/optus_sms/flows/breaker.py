"""Circuit breaker per execution environment: opens when the gateway is down, refuses, throttles or leaves an unknown
outcome.

An outage must delay messages, not lose them. After a failure that concerns every message, messages return to the queue
unclaimed with a growing delay. Then one message is sent alone as a probe, and the others follow if its outcome is
certain. After an unknown outcome a probe also needs the stack's permission (`flows.probing`).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from optus_sms.gateway.api import Outcome, PostResult, Stop

# If a proxy in front of the API refuses so many messages with none accepted in between, the cause is not one text.
REFUSED_IN_FRONT: Final = 3
NOT_BEGUN: Final = (
    "too_late",
    "circuit_breaker_open",
    "not_allowed",
)  # the POST was not begun, so the reason shows nothing about the gateway
_FIRST_SECONDS: Final = 2.0
_LONGEST_SECONDS: Final = 60.0
_LONGEST_ASKED_SECONDS: Final = 900.0  # a Retry-After for one message must not stop the others for hours


@dataclass
class Breaker:
    """One per execution environment, shared by its threads. ``unknown_outcomes``: the number noted."""

    monotonic: Callable[[], float]
    unknown_outcomes: int = field(default=0, init=False)
    _in_doubt: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _open_until: float = field(default=0.0, init=False)
    _openings: int = field(default=0, init=False)
    _refused_in_front: set[str] = field(default_factory=set, init=False)
    _responded_at: float | None = field(default=None, init=False)

    def blocked_seconds(self) -> float:
        """Return for how long no message may be sent; 0 if one may."""
        with self._lock:
            return max(0.0, self._open_until - self.monotonic())

    def wants_probe(self) -> bool:
        """Return whether the next message must be sent alone, because no outcome was certain since the last failure."""
        with self._lock:
            return self._openings > 0 or self._in_doubt

    def in_doubt(self) -> bool:
        """Return whether an outcome was unknown, here or elsewhere in the stack, with no certain outcome since."""
        with self._lock:
            return self._in_doubt

    def note(self, result: PostResult, message_id: str) -> None:
        """Open or close by the outcome of a message."""
        with self._lock:
            if result.stop is Stop.REFUSED_IN_FRONT:
                self._refused_in_front.add(message_id)
                if len(self._refused_in_front) >= REFUSED_IN_FRONT:
                    self._open(result.retry_after_seconds)
            elif result.stop is not None:
                self._open(result.retry_after_seconds)
            elif result.outcome is Outcome.UNKNOWN:
                self.unknown_outcomes += 1
                self._in_doubt = True
                self._open(None)
            elif result.reason not in NOT_BEGUN:
                # The API itself responded, with success or with an error.
                self._close()
                self._responded_at = self.monotonic()

    def responds_to_others(self, *, within_seconds: float) -> bool:
        """Return whether the API itself has responded to a message lately."""
        with self._lock:
            return self._responded_at is not None and self.monotonic() - self._responded_at <= within_seconds

    def trip(self) -> None:
        """Open for a reason other than a response of the gateway, such as an unusable secret."""
        with self._lock:
            self._open(None)

    def doubt(self) -> None:
        """Allow messages only as probes: another execution environment has had an unknown outcome."""
        with self._lock:
            self._in_doubt = True

    def hold(self, seconds: float) -> None:
        """Stay open until another execution environment's probe can have ended."""
        with self._lock:
            self._open_until = self.monotonic() + min(max(seconds, 1.0), _LONGEST_SECONDS)

    def close(self) -> None:
        """Allow every message: the outcome of another execution environment's probe was certain."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._openings = 0
        self._open_until = 0.0
        self._in_doubt = False
        self._refused_in_front.clear()

    def _open(self, seconds: float | None) -> None:
        now = self.monotonic()
        if now >= self._open_until:  # threads that fail together open it once
            self._openings += 1
        wait = min(_FIRST_SECONDS * 2 ** (self._openings - 1), _LONGEST_SECONDS)
        self._open_until = max(self._open_until, now + max(wait, min(seconds or 0.0, _LONGEST_ASKED_SECONDS)))
