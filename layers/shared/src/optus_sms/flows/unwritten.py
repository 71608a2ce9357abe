"""Outcomes that the ledger did not take: the execution environment remembers them, and writes them with its next batch.

Otherwise the outcome would become unknown when the lease ends, although it is known here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from optus_sms.records.table import EditedItemError
from optus_sms.runtime.observability import Measurement, error_fields, logger

if TYPE_CHECKING:
    from optus_sms.model.times import Clock
    from optus_sms.records.items import LedgerRecord

MOST: Final = 1000


class LedgerWrite(Protocol):
    """The write of an outcome; returns None if it was done, else the record that refused it."""

    def __call__(self, *, now: float) -> LedgerRecord | None:
        """Write the outcome; ``now``: epoch seconds."""


@dataclass(frozen=True, slots=True)
class _Unwritten:
    """``measurements``: what to count once it is written. ``repeat_until``: as in `UnwrittenOutcomes.remembered`."""

    write: LedgerWrite
    measurements: tuple[Measurement, ...]
    repeat_until: float


@dataclass
class UnwrittenOutcomes:
    """One per execution environment, shared by its threads. In it: the owners of the claims."""

    _outcomes: dict[str, _Unwritten] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __contains__(self, owner: str) -> bool:
        return owner in self._outcomes

    @contextmanager
    def remembered(
        self, owner: str, write: LedgerWrite, *measurements: Measurement, repeat_until: float = 0.0
    ) -> Iterator[None]:
        """Remember the write of an outcome if the block raises.

        ``measurements``: what to count when it is written late. ``repeat_until``: epoch seconds, for a claim whose
        response was lost: until then a refused write is repeated, because the claim can still be stored.
        """
        try:
            yield
        except EditedItemError:
            raise  # never to be written; the message becomes a dead letter
        except Exception:
            with self._lock:
                if len(self._outcomes) >= MOST:
                    # The oldest lost claim, else the oldest outcome.
                    del self._outcomes[min(self._outcomes, key=lambda owner: not self._outcomes[owner].repeat_until)]
                self._outcomes[owner] = _Unwritten(write, measurements, repeat_until)
            raise

    def write(self, clock: Clock, *, until: float) -> tuple[Measurement, ...]:
        """Write what is remembered, before ``until`` (epoch seconds); return the metrics. Never raises.

        Only the ledger: the message is delivered again, and finds there what is left to do.
        """
        measurements: list[Measurement] = []
        for owner, outcome in list(self._outcomes.items()):
            if clock.now() >= until:
                break
            del self._outcomes[owner]
            try:
                is_written = outcome.write(now=clock.now()) is None
            except EditedItemError:
                continue
            except Exception as error:  # noqa: BLE001 - the next batch tries again, the others first
                logger().warning("outcome still not written", extra=error_fields(error))
                self._outcomes[owner] = outcome
                continue
            if is_written:
                measurements += outcome.measurements
            elif clock.now() < outcome.repeat_until:
                self._outcomes[owner] = outcome
        return tuple(measurements)
