"""Looks at what no stream tells: the queue, whether it is shut, the faults. Only while somebody has the page open."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from cli.health import queue_counts
from local.page import switches
from local.page.board import Board

if TYPE_CHECKING:
    from cli.target import Target
    from local.aws.stack import LocalStack

LOOK_EVERY_SECONDS = 1.0
SENDER = "SendMessageFunction"


class QueueCounter:
    """A thread that sleeps until a page is open. The queue is counted only while something may be in it."""

    def __init__(self, stack: LocalStack, target: Target, board: Board) -> None:
        self._stack, self._target, self._board = stack, target, board
        self._lock = threading.Lock()
        self.pages = 0
        """How many are open."""
        self._somebody_looks = threading.Event()
        self._now = threading.Event()
        self._stopping = False
        self._counted_at = -1
        self._thread = threading.Thread(target=self._run, name="queue counter")

    def start(self) -> None:
        """Start to wait for a page."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; waits for the look under way."""
        with self._lock:
            self._stopping = True
            self._somebody_looks.set()
        self._now.set()
        if self._thread.ident is not None:
            self._thread.join()

    @contextlib.contextmanager
    def page_open(self) -> Iterator[None]:
        """While a page is open."""
        self._count_pages(+1)
        try:
            yield
        finally:
            self._count_pages(-1)

    def look_now(self) -> None:
        """Something that it looks at has just been changed."""
        self._now.set()

    def _count_pages(self, more: int) -> None:
        with self._lock:
            self.pages += more
            if self.pages:
                self._somebody_looks.set()
                self._now.set()
            elif not self._stopping:
                self._somebody_looks.clear()

    def _run(self) -> None:
        while not self._stopping:
            self._somebody_looks.wait()
            self._now.clear()
            if not self._stopping:
                self._look()
                self._now.wait(LOOK_EVERY_SECONDS)

    def _look(self) -> None:
        if self._stack.simulator is not None:
            self._board.set("faults", switches.view(self._stack.simulator.faults()))
        with contextlib.suppress(BotoCoreError, ClientError):  # AWS's part of the stack ends before this thread does
            self._board.measured(self._queue_total(), is_paused=not self._stack.event_sources[SENDER].enabled)

    def _queue_total(self) -> int | None:
        """None while nothing can have changed."""
        revision = self._board.revision
        if revision == self._counted_at and not self._board.is_busy:
            return None
        total = sum(queue_counts(self._target, "OutboundQueueUrl").values())
        self._counted_at = revision
        return total
