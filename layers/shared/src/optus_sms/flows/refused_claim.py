"""The next step for a message whose claim the ledger refused: a pure decision."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from optus_sms.records.items import OPTED_OUT, LedgerRecord, State

if TYPE_CHECKING:
    from optus_sms.runtime.settings import OnUnknown

RESEND_AFTER_SECONDS: Final = 120  # time for a status callback to prove the first attempt
RESENDS: Final = 1
# How long after the lease the owner of a claim can still correct what a callback resolved: the clocks of two execution
# environments can differ by minutes, and a write can be stored a minute late.
CORRECTION_SECONDS: Final = 360


class NextStep(Enum):
    """The next step, by the record that refused the claim."""

    CONFLICT = auto()
    EXPIRED_BEFORE = auto()
    REPLACE = auto()
    REPAIR_MESSAGE = auto()
    DEAD_LETTER = auto()
    DONE = auto()
    WAIT_FOR_LEASE = auto()
    TAKE_OVER = auto()
    WAIT_TO_RESEND = auto()
    SEND_AGAIN = auto()
    TRY_AGAIN = auto()


def next_step(  # noqa: PLR0911
    record: LedgerRecord, wanted: LedgerRecord, *, now: float, is_expired: bool, is_too_late: bool
) -> NextStep:
    """Decide by the record's state. ``is_too_late``: no other attempt, because it ``is_expired`` or too old."""
    if record.payload_sha256 not in (None, wanted.payload_sha256):
        return NextStep.REPLACE if may_replace(record, wanted) else NextStep.CONFLICT
    match record.state:
        case State.ACCEPTED if now < waits_until(record) and record.owner != wanted.owner:
            return NextStep.WAIT_FOR_LEASE  # a callback resolved it, but its owner can still prove that it was not sent
        case State.ACCEPTED:
            return NextStep.REPAIR_MESSAGE
        case State.REJECTED if record.reason == OPTED_OUT:
            return NextStep.DONE
        case State.REJECTED:
            return NextStep.DEAD_LETTER
        case State.EXPIRED:  # if this delivery has not expired, its `expires_at` differs, so it is another message
            return NextStep.DONE if is_expired else NextStep.EXPIRED_BEFORE
        case State.RECALLED:
            return NextStep.DONE
        case State.SENDING:
            return NextStep.WAIT_FOR_LEASE if now < record.lease_until else NextStep.TAKE_OVER
        case State.UNKNOWN:
            if is_too_late or not may_resend(record.on_unknown, record.unknown_outcomes):
                return NextStep.DEAD_LETTER
            return NextStep.SEND_AGAIN if now >= record.unknown_at + RESEND_AFTER_SECONDS else NextStep.WAIT_TO_RESEND
        case State.RETRY:
            return NextStep.TRY_AGAIN  # it became RETRY between the write and now


def waits_until(record: LedgerRecord) -> int:
    """Return until when another delivery can write the outcome of its claim (epoch seconds); a past time if it has."""
    return record.lease_until + (CORRECTION_SECONDS if record.state is State.ACCEPTED else 0)


def may_replace(record: LedgerRecord, wanted: LedgerRecord) -> bool:
    """Return whether a message with other fields may replace this one: every attempt so far was certainly refused.

    A message that was replaced never returns, so that its dead letter is not sent in place of the corrected message.
    """
    was_never_sent = record.state is State.REJECTED and not record.unknown_outcomes and record.gateway_id is None
    return was_never_sent and wanted.payload_sha256 not in record.refused_payloads


def may_resend(on_unknown: OnUnknown, unknown_outcomes: int) -> bool:
    """Return whether a message may be sent again after so many unknown outcomes, including the latest."""
    return on_unknown == "resend" and unknown_outcomes <= RESENDS
