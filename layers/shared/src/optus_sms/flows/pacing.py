"""At most `MaxMessagesPerSecond` at the gateway, without any state that sandboxes share.

Each sandbox spaces its POSTs at `SenderConcurrency / MaxMessagesPerSecond` seconds, and holds its invocation to the end
of its last slot, so that a new invocation, here or in a fresh sandbox that takes its place, can't start early.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Pacer:
    """One per sandbox, shared by its threads. ``interval`` in seconds; 0 is not paced."""

    interval: float
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _next_slot: float = field(default=0.0, init=False)

    def wait_for_slot(self, *, at_most: float) -> bool:
        """Take the next slot and wait for it; False, taking none, if it is more than ``at_most`` seconds away."""
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
        """Wait until the last slot that was taken is over."""
        with self._lock:
            remaining = self._next_slot - self.monotonic()
        if remaining > 0:
            self.sleep(remaining)
