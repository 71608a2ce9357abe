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
from optus_sms.records.table import EditedItemError
from optus_sms.runtime.observability import Measurement, Metric, error_fields, logger

if TYPE_CHECKING:
    from optus_sms.model.times import Clock
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

    def write(self, ledger: Ledger, *, now: float) -> bool:
        """Write it, and return whether nothing is left to write."""
        claim, result = self.claim, self.result
        if self.is_lost_claim:
            return ledger.release(claim, result.reason, now=now) is None or now - self.at > LATE_SECONDS
        match result.outcome:
            case Outcome.ACCEPTED:
                ledger.accepted(claim, result.gateway_id, evidence=result.evidence, now=now)
            case Outcome.UNKNOWN:
                ledger.unknown(claim, result.words, evidence=result.evidence, now=now)
            case Outcome.REJECTED:
                reason = DeadLetterReason.REJECTED.value
                ledger.rejected(claim, reason, result.words, evidence=result.evidence, now=now)
            case Outcome.NOT_SENT:
                ledger.not_sent(claim, result.words, counts=False, evidence=result.evidence, now=now)
        return True


@dataclass
class UnwrittenOutcomes:
    """One per execution environment, shared by its threads. In it: the owners of the claims."""

    _outcomes: dict[str, _Unwritten] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __contains__(self, owner: str) -> bool:
        return owner in self._outcomes

    @contextmanager
    def remembered(self, claim: LedgerRecord, result: PostResult, *, now: float) -> Iterator[None]:
        """Remember an outcome if the block that writes it raises."""
        try:
            yield
        except EditedItemError:
            raise  # never to be written; the message becomes a dead letter
        except Exception:
            with self._lock:
                if len(self._outcomes) >= MOST:
                    # The oldest lost claim, else the oldest outcome.
                    del self._outcomes[min(self._outcomes, key=lambda owner: not self._outcomes[owner].is_lost_claim)]
                self._outcomes[claim.owner] = _Unwritten(claim, result, now)
            raise

    def write(self, ledger: Ledger, clock: Clock, *, until: float) -> tuple[Measurement, ...]:
        """Write what is remembered, before ``until`` (epoch seconds); return the metrics. Never raises.

        Only the ledger: the message is delivered again, and finds there what is left to do.
        """
        measurements: list[Measurement] = []
        for owner, outcome in list(self._outcomes.items()):
            if clock.now() >= until:
                break
            del self._outcomes[owner]
            try:
                is_done = outcome.write(ledger, now=clock.now())
            except EditedItemError:
                is_done = True
            except Exception as error:  # noqa: BLE001 - the next batch tries again, the others first
                logger().warning("outcome still not written", extra=error_fields(error))
                is_done = False
            if not is_done:
                self._outcomes[owner] = outcome
            elif outcome.result.outcome is Outcome.ACCEPTED:
                measurements.append((Metric.MESSAGES_ACCEPTED, 1.0))
        return tuple(measurements)
