"""Outcomes that the ledger did not take: the execution environment remembers them, and writes them with its next batch.

Otherwise the outcome would become unknown when the lease ends, although it is known here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from optus_sms.aws.queues import DeadLetterReason
from optus_sms.gateway.api import Outcome, PostResult
from optus_sms.model.times import Clock
from optus_sms.runtime.observability import Measurement, Metric, error_fields, logger

if TYPE_CHECKING:
    from optus_sms.records.items import LedgerRecord
    from optus_sms.records.ledger import Ledger

CLAIM_RESPONSE_LOST: Final = "claim_response_lost"
MOST: Final = 1000
LATE_SECONDS: Final = 900.0  # until then a claim whose response was lost can still be stored


@dataclass(frozen=True, slots=True)
class _Unwritten:
    """The outcome of a claim. ``at``: epoch seconds."""

    claim: LedgerRecord
    result: PostResult
    at: float

    @property
    def is_lost_claim(self) -> bool:
        return self.result.reason == CLAIM_RESPONSE_LOST


@dataclass
class UnwrittenOutcomes:
    """One per execution environment, shared by its threads. In it: the owners of the claims."""

    ledger: Ledger
    clock: Clock = field(default_factory=Clock)
    _outcomes: dict[str, _Unwritten] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __contains__(self, owner: str) -> bool:
        return owner in self._outcomes

    @contextmanager
    def remembered(self, claim: LedgerRecord, result: PostResult) -> Iterator[None]:
        """Remember an outcome if the block that writes it raises."""
        try:
            yield
        except Exception:
            with self._lock:
                if len(self._outcomes) >= MOST:
                    self._forget_one()
                self._outcomes[claim.owner] = _Unwritten(claim, result, self.clock.now())
            raise

    def write(self, *, until: float) -> tuple[Measurement, ...]:
        """Write what is remembered, before ``until`` (epoch seconds); return the metrics. Never raises.

        Only the ledger: the message is delivered again, and finds there what is left to do.
        """
        measurements: list[Measurement] = []
        for owner, outcome in list(self._outcomes.items()):
            if self.clock.now() >= until:
                break
            try:
                is_done = self._write(outcome)
            except Exception as error:  # noqa: BLE001 - the next batch tries again
                logger().warning("outcome still not written", extra=error_fields(error))
                break
            if is_done:
                del self._outcomes[owner]
                if outcome.result.outcome is Outcome.ACCEPTED:
                    measurements.append((Metric.MESSAGES_ACCEPTED, 1.0))
        return tuple(measurements)

    def _write(self, outcome: _Unwritten) -> bool:
        """Return whether nothing is left to write."""
        claim, result, now = outcome.claim, outcome.result, self.clock.now()
        if outcome.is_lost_claim:
            return self.ledger.release(claim, result.reason, now=now) is None or now - outcome.at > LATE_SECONDS
        match result.outcome:
            case Outcome.ACCEPTED:
                self.ledger.accepted(claim, result.gateway_id, evidence=result.evidence, now=now)
            case Outcome.UNKNOWN:
                self.ledger.unknown(claim, result.words, evidence=result.evidence, now=now)
            case Outcome.REJECTED:
                reason = DeadLetterReason.REJECTED.value
                self.ledger.rejected(claim, reason, result.words, evidence=result.evidence, now=now)
            case Outcome.NOT_SENT:
                self.ledger.not_sent(claim, result.words, counts=False, evidence=result.evidence, now=now)
        return True

    def _forget_one(self) -> None:
        """The oldest lost claim, else the oldest outcome."""
        owners = sorted(self._outcomes, key=lambda owner: not self._outcomes[owner].is_lost_claim)
        del self._outcomes[owners[0]]
