"""Polls values that no stream reports: the queues, whether sending is on, the faults. Only while a page is open."""

import contextlib
import threading
from collections.abc import Iterator

from botocore.exceptions import BotoCoreError, ClientError

from cli.health import queue_counts
from cli.target import QUEUES, Target
from local.aws.background_thread import BackgroundThread
from local.aws.stack import LocalStack
from local.page import switches
from local.page.board import Board
from optus_sms.model.lanes import Lane

COUNT_EVERY_SECONDS = 1.0
MOST_PAGES = 32
"""Each page costs a thread, and for a moment a copy of the whole view."""
SENDER = "SendMessageFunction"


class TooManyPagesError(Exception):
    """`MOST_PAGES` pages are open."""


class QueueCounter(BackgroundThread):
    """Polls only while a page is open. The queues are counted only while they can hold messages."""

    def __init__(self, stack: LocalStack, target: Target, board: Board) -> None:
        super().__init__("queue counter")
        self._stack, self._target, self._board = stack, target, board
        self._lock = threading.Lock()
        self.pages = 0
        """How many are open."""
        self._now = threading.Event()
        self._counted_at = -1

    def stop(self) -> None:
        """Stop polling."""
        super().stop()
        self._now.set()

    @contextlib.contextmanager
    def page_open(self) -> Iterator[None]:
        """Count a page as open during the block. Raises TooManyPagesError."""
        with self._lock:
            if self.pages >= MOST_PAGES:
                raise TooManyPagesError
            self.pages += 1
        self._now.set()
        try:
            yield
        finally:
            with self._lock:
                self.pages -= 1

    def look_now(self) -> None:
        """Poll now, because a polled value has just been changed."""
        self._now.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._now.wait(COUNT_EVERY_SECONDS if self.pages else None)
            self._now.clear()
            if self.pages and not self._stopping.is_set():
                self._look()

    def _look(self) -> None:
        if self._stack.simulator is not None:
            self._board.set("faults", switches.view(self._stack.simulator.faults()))
        with contextlib.suppress(BotoCoreError, ClientError):  # the emulator ends before this thread
            is_paused = not any(source.enabled for source in self._stack.event_sources.values())
            self._board.measured(self._depths(), is_paused=is_paused)

    def _depths(self) -> dict[Lane, int] | None:
        """Return the number of messages in each lane's queue; None while nothing can have changed."""
        revision = self._board.revision
        if revision == self._counted_at and not self._board.is_busy:
            return None
        depths = {lane: sum(queue_counts(self._target, output).values()) for lane, output in QUEUES.items()}
        self._counted_at = revision
        return depths
