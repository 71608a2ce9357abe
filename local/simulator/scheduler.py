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
        self._lock = threading.Lock()
        self._planned = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._running = 0
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"gateway-callbacks-{n}", daemon=True) for n in range(workers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """What is running may finish, what waits is dropped."""
        with self._lock:
            self._stopping = True
            self._heap.clear()
            self._planned.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout_seconds)

    def after(self, seconds: float, action: Action) -> None:
        with self._lock:
            heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._order), action))
            self._planned.notify()

    def clear(self, timeout_seconds: float) -> None:
        """Drops what waits, now and again when what was running has finished."""
        with self._lock:
            self._heap.clear()
            self._idle.wait_for(lambda: self._running == 0, timeout_seconds)
            self._heap.clear()

    def _work(self) -> None:
        while (action := self._next_due()) is not None:
            try:
                action()
            finally:
                self._finished()

    def _finished(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0:
                self._idle.notify_all()

    def _next_due(self) -> Action | None:
        with self._lock:
            while not self._stopping:
                wait_seconds = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait_seconds is not None and wait_seconds <= 0:
                    self._running += 1
                    action = heapq.heappop(self._heap)[2]
                    self._planned.notify()  # somebody else looks after the next one
                    return action
                self._planned.wait(wait_seconds)
            return None
