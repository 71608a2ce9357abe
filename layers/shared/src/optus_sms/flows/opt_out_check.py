"""Reads whether a handset has opted out, in parallel to the other calls between a claim and the first byte of its POST.

The read begins after the claim, so that it sees every opt-out stored before the claim. Meanwhile the reference is
registered and a connection opened. The first byte waits for the read (docs/decisions/opt-out-read.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from optus_sms.records.items import OptOutRecord

Beside = Callable[[Callable[[], None]], Callable[[], None]]
"""Starts a function, and returns another function that waits for its end."""


def at_once(run: Callable[[], None]) -> Callable[[], None]:
    """Run before the caller continues: the records of a batch already run in parallel, and more threads cost CPU."""
    run()
    return lambda: None


def in_a_thread(run: Callable[[], None]) -> Callable[[], None]:
    """Run in parallel to the caller."""
    thread = threading.Thread(target=run)
    thread.start()
    return thread.join


@dataclass
class OptOutCheck:
    """The read for one attempt. ``opt_out``: the record, if the handset opted out. ``error``: if the read failed."""

    read: Callable[[], OptOutRecord | None]
    beside: Beside = in_a_thread
    opt_out: OptOutRecord | None = field(default=None, init=False)
    error: Exception | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        try:
            self._wait = self.beside(self._run)
        except RuntimeError as error:  # no thread can be started
            self.error, self._wait = error, lambda: None
        return self

    def __exit__(self, *_: object) -> None:
        self._wait()  # no thread outlives the attempt

    def allows(self) -> bool:
        """Wait for the read, and return whether the message may be sent; not if it failed."""
        self._wait()
        return self.opt_out is None and self.error is None

    def _run(self) -> None:
        try:
            found = self.read()
        except Exception as error:  # noqa: BLE001 - the message waits, because it is not sent on a guess
            self.error = error
        else:
            self.opt_out = found if found and found.opted_out else None
