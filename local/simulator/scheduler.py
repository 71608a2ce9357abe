"""Runs actions later: one timer thread, and a few worker threads for the due actions."""

import sched
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

Action = Callable[[], None]


class Scheduler:
    """The scheduler. Each waiting action costs an entry, not a thread."""

    def __init__(self, workers: int) -> None:
        self._waiting = sched.scheduler()
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="gateway-callbacks")
        self._begun: set[Future[None]] = set()
        self._changed = threading.Event()
        self._stopping = False
        self._timer = threading.Thread(target=self._run, name="gateway-timer", daemon=True)

    def start(self) -> None:
        self._timer.start()

    def stop(self) -> None:
        """Finish running actions, and drop waiting ones."""
        self._stopping = True
        self._changed.set()
        if self._timer.is_alive():
            self._timer.join()
        self._workers.shutdown(cancel_futures=True)

    def after(self, seconds: float, action: Action) -> None:
        self._waiting.enter(seconds, 0, self._begin, (action,))
        self._changed.set()

    def clear(self, timeout_seconds: float) -> None:
        """Drop waiting actions now, and again when the running ones have finished."""
        self._drop()
        wait(list(self._begun), timeout_seconds)
        self._drop()

    def _drop(self) -> None:
        self._waiting = sched.scheduler()
        for begun in list(self._begun):
            begun.cancel()

    def _run(self) -> None:
        while True:
            self._changed.clear()
            if self._stopping:
                return
            self._changed.wait(self._waiting.run(blocking=False))

    def _begin(self, action: Action) -> None:
        begun = self._workers.submit(action)
        self._begun.add(begun)
        begun.add_done_callback(self._finished)

    def _finished(self, done: Future[None]) -> None:
        self._begun.discard(done)
        if not done.cancelled():
            done.result()  # raises an error of the action, to log it
