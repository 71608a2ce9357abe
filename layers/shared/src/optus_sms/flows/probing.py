"""Limits probes after an unknown outcome: one at a time in the whole stack, and few an hour.

Each unknown outcome is work for an operator, and an execution environment can't see the outcomes of the others. So they
share their doubt in the item `health#gateway`. The item is written only after an unknown outcome and for a probe. It is
read only by an execution environment that has seen no certain outcome for a minute
(docs/decisions/breaker-with-a-probe.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from optus_sms.model.times import Clock
from optus_sms.runtime.observability import error_fields, logger

if TYPE_CHECKING:
    from optus_sms.flows.breaker import Breaker
    from optus_sms.records.health import HealthRecords
    from optus_sms.records.items import Doubt

CERTAIN_SECONDS: Final = 60.0  # for so long a certain outcome proves that messages get through

_T = TypeVar("_T")


@dataclass
class Probing:
    """One per execution environment, beside its circuit breaker. One thread uses it, between messages."""

    breaker: Breaker
    records: HealthRecords
    clock: Clock = field(default_factory=Clock)
    _doubt: Doubt | None = field(default=None, init=False)
    _read_at: float = field(default=-math.inf, init=False)

    def before_batch(self) -> None:
        """Read the doubt that another execution environment has recorded after an unknown outcome."""
        if self.breaker.in_doubt() or self.breaker.blocked_seconds() > 0:
            return
        is_fresh = self.clock.monotonic() - self._read_at < CERTAIN_SECONDS
        if is_fresh or self.breaker.responds_to_others(within_seconds=CERTAIN_SECONDS):
            return
        try:
            self._doubt = self.records.read_doubt()
        except Exception as error:  # noqa: BLE001 - without the item messages go on, because unknown never means down
            logger().warning("doubt not read", extra=error_fields(error))
            return
        self._read_at = self.clock.monotonic()
        if self._doubt is not None:
            self.breaker.doubt()

    def after_batch(self) -> None:
        """Record the doubt after an unknown outcome of this execution environment, for the others."""
        if not self.breaker.in_doubt():
            self._doubt = None
        elif self._doubt is None:
            try:
                self._doubt = self.records.begin_doubt(now=self.clock.now())
            except Exception as error:  # noqa: BLE001 - the next batch records it
                logger().warning("doubt not recorded", extra=error_fields(error))

    def send_alone(self, send: Callable[[], _T]) -> _T:
        """Send one message alone. In doubt send it only as the stack's probe; else the breaker opens and holds it."""
        if not self.breaker.in_doubt() or self.breaker.blocked_seconds() > 0:
            return send()
        claimed = self._claim()
        if claimed is None:
            return send()
        unknown_outcomes = self.breaker.unknown_outcomes
        sent = send()
        try:
            if not self.breaker.in_doubt():
                self.records.end_doubt(claimed)
            elif self.breaker.unknown_outcomes == unknown_outcomes:
                # No byte left, so another probe may go as soon as the breaker allows one.
                self._doubt = self.records.return_probe(claimed, now=self.clock.now())
        except Exception as error:  # noqa: BLE001 - the claim expires
            logger().warning("probe not recorded", extra=error_fields(error))
        return sent

    def _claim(self) -> Doubt | None:
        """Claim the stack's next probe; None if there is none for this execution environment now."""
        try:
            before = self._doubt or self.records.begin_doubt(now=self.clock.now())
            is_claimed, self._doubt = self.records.claim_probe(before, now=self.clock.now())
        except Exception as error:  # noqa: BLE001 - without the claim no message goes
            logger().warning("probe not claimed", extra=error_fields(error))
            self.breaker.trip()
            return None
        if is_claimed:
            return self._doubt
        if self._doubt is None:
            self.breaker.close()
        else:
            self.breaker.hold(self._doubt.probe_after - self.clock.now())
        return None
