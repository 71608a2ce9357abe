"""Circuit breaker per execution environment, for a gateway that is down, refuses, throttles or leaves outcomes unknown.

An outage must delay messages, not lose them. After a failure that would stop every message, messages return to the
queue unclaimed for a growing time. Then one goes alone as a probe, and the others follow if its outcome is certain.
After an unknown outcome a probe also needs the stack's permission (`flows.probing`).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from optus_sms.gateway.api import Outcome, PostResult, Stop

# So many messages that something in front of the API refused, with none accepted between: it is not about one text.
REFUSED_IN_FRONT: Final = 3
NOT_BEGUN: Final = (
    "too_late",
    "circuit_breaker_open",
    "not_allowed",
)  # reasons of a POST that was not begun, which show nothing
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
        """Return whether the next message must go alone, because no outcome was certain since the last failure."""
        with self._lock:
            return self._openings > 0 or self._in_doubt

    def in_doubt(self) -> bool:
        """Return whether an outcome was unknown, here or elsewhere in the stack, and none was certain since."""
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
                # A response of the API itself, good or bad, came through.
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
        """Let messages go only as probes: another execution environment has met an unknown outcome."""
        with self._lock:
            self._in_doubt = True

    def hold(self, seconds: float) -> None:
        """Stay open, until another execution environment's probe may have shown more."""
        with self._lock:
            self._open_until = self.monotonic() + min(max(seconds, 1.0), _LONGEST_SECONDS)

    def close(self) -> None:
        """Let every message through: the outcome of another execution environment's probe was certain."""
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
