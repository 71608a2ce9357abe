"""Runs things later: one heap, a few worker threads that sleep until something is due."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

Action = Callable[[], None]


class Scheduler:
    """Thousands of waiting actions cost a heap entry each, never a thread."""

    def __init__(self, workers: int) -> None:
        self._heap: list[tuple[float, int, Action]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"gateway-callbacks-{n}", daemon=True) for n in range(workers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """What is running may finish, what waits is dropped."""
        with self._changed:
            self._stopping = True
            self._heap.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout_seconds)

    def after(self, seconds: float, action: Action) -> None:
        with self._changed:
            heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._order), action))
            self._changed.notify()

    def clear(self) -> None:
        with self._changed:
            self._heap.clear()

    def _work(self) -> None:
        while (action := self._next_due()) is not None:
            action()

    def _next_due(self) -> Action | None:
        with self._changed:
            while not self._stopping:
                wait_seconds = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait_seconds is not None and wait_seconds <= 0:
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(wait_seconds)
            return None
