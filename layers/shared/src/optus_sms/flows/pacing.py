"""Limits POSTs to `MaxMessagesPerSecond`, without state shared by execution environments.

Each execution environment starts POSTs at least `SenderConcurrency / MaxMessagesPerSecond` seconds apart, those of the
urgent lane `UrgentConcurrency / MaxUrgentPerSecond` seconds. It holds its invocation until the last slot ends, so that
the next one, in the same or in a new execution environment, can't start early.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Pacer:
    """One for each lane of an execution environment, shared by its threads. ``interval``: seconds; 0: not paced."""

    interval: float
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _next_slot: float = field(default=0.0, init=False)

    def wait_for_slot(self, *, at_most: float) -> bool:
        """Reserve the next slot and wait for it; if it is more than ``at_most`` seconds away, only return False."""
        if self.interval <= 0:
            return True
        with self._lock:
            now = self.monotonic()
            slot = max(now, self._next_slot)
            if slot - now > at_most:
                return False
            self._next_slot = slot + self.interval
        if slot > now:
            self.sleep(slot - now)
        return True

    def hold(self) -> None:
        """Wait until the last reserved slot is over."""
        with self._lock:
            remaining = self._next_slot - self.monotonic()
        if remaining > 0:
            self.sleep(remaining)
