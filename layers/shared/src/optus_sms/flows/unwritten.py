"""Outcomes whose write to the ledger failed: the execution environment remembers them, and writes them with its next
batch.

Otherwise the outcome would become unknown when the lease ends, although it is known here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

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


class _Unwritten(NamedTuple):
    """A write to repeat; the other two fields are the arguments of `UnwrittenOutcomes.remembered`."""

    write: LedgerWrite
    measurements: tuple[Measurement, ...]
    repeat_until: float


@dataclass
class UnwrittenOutcomes:
    """One per execution environment, shared by its threads; a dict by the owner of the claim."""

    _outcomes: dict[str, _Unwritten] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __contains__(self, owner: str) -> bool:
        return owner in self._outcomes

    @contextmanager
    def remembered(
        self, owner: str, write: LedgerWrite, *measurements: Measurement, repeat_until: float = 0.0
    ) -> Iterator[None]:
        """Remember the write of an outcome if the block raises.

        ``measurements``: to count when the outcome is written late. ``repeat_until`` (epoch seconds): for a claim whose
        response was lost. Until then a refused write is repeated, because the claim can still be stored.
        """
        try:
            yield
        except EditedItemError:
            raise  # no retry can write this outcome; the message becomes a dead letter
        except Exception:
            with self._lock:
                if len(self._outcomes) >= MOST:
                    # Forget the oldest lost claim first, else the oldest outcome.
                    del self._outcomes[min(self._outcomes, key=lambda owner: not self._outcomes[owner].repeat_until)]
                self._outcomes[owner] = _Unwritten(write, measurements, repeat_until)
            raise

    def write(self, clock: Clock, *, until: float) -> tuple[Measurement, ...]:
        """Write the remembered outcomes before ``until`` (epoch seconds), and return the metrics. Never raises.

        It writes only the ledger. The message is delivered again, and its record in the ledger shows what is left to
        do.
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
