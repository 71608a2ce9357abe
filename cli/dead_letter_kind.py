"""Decide what may be done with a dead letter, by the queue and the ledger together."""

from __future__ import annotations

from enum import StrEnum

from cli.dead_letter_queue import ReceivedDeadLetter
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.records.items import LedgerRecord, State


class DeadLetterKind(StrEnum):
    """What a dead letter is, by the queue and the ledger together."""

    SAFE = "safe"
    SENT = "already_sent"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    MALFORMED = "malformed"
    REJECTED = "rejected"
    CONFLICT = "conflict"
    BUSY = "busy"
    CALLBACK = "callback"


def judge(dead_letter: ReceivedDeadLetter, record: LedgerRecord | None, *, now: float) -> tuple[DeadLetterKind, str]:  # noqa: PLR0911 - one line each
    """Return what may be done with a dead letter, and why. ``record``: the ledger's record of its message_id now."""
    if dead_letter.reason == DeadLetterReason.UNREADABLE_CALLBACK:
        return DeadLetterKind.CALLBACK, "an unreadable callback, not a message"
    if dead_letter.message is None:
        return DeadLetterKind.MALFORMED, dead_letter.problem
    if record is None:
        return _judge_without_record(dead_letter, now)
    if record.payload_sha256 is not None and record.payload_sha256 != dead_letter.message.payload_sha256:
        return DeadLetterKind.CONFLICT, "its message_id was used for a message with other fields"
    match record.state:
        case State.ACCEPTED:
            return DeadLetterKind.SENT, "the gateway accepted it"
        case State.UNKNOWN:
            return DeadLetterKind.UNKNOWN, "it may have been sent; resolve it with `resolve` first"
        case State.SENDING if now < record.lease_until:
            return DeadLetterKind.BUSY, "it is being sent"
        case State.SENDING:
            return (
                DeadLetterKind.UNKNOWN,
                "its sender function died during the attempt; its outcome counts as unknown within half an hour",
            )
        case State.REJECTED | State.EXPIRED if record.unknown_outcomes:
            return (
                DeadLetterKind.UNKNOWN,
                "the outcome of an earlier attempt is unknown; resolve it with `resolve` first",
            )
        case State.EXPIRED:
            return DeadLetterKind.EXPIRED, "it was not sent in time"
    if _is_expired(dead_letter, now):
        return DeadLetterKind.EXPIRED, "its expires_at has passed"
    if record.state is State.REJECTED and record.reason != DeadLetterReason.ATTEMPTS_EXHAUSTED:
        return DeadLetterKind.REJECTED, "the gateway refused it, and will again unless the cause is corrected"
    return DeadLetterKind.SAFE, "certainly not sent"


def _judge_without_record(dead_letter: ReceivedDeadLetter, now: float) -> tuple[DeadLetterKind, str]:
    if dead_letter.reason == DeadLetterReason.CONFLICT:
        return DeadLetterKind.CONFLICT, "its message_id was used for a message with other fields"
    if dead_letter.reason == DeadLetterReason.INVALID:
        return DeadLetterKind.REJECTED, "it was refused as invalid, and its sender may have queued it again"
    if dead_letter.reason:
        return DeadLetterKind.UNKNOWN, "the ledger has no record of it, so nothing proves that it was not sent"
    if _is_expired(dead_letter, now):
        return DeadLetterKind.EXPIRED, "its expires_at has passed"
    return DeadLetterKind.SAFE, "no attempt was ever made to send it"


def _is_expired(dead_letter: ReceivedDeadLetter, now: float) -> bool:
    expires = dead_letter.message.expires_epoch if dead_letter.message else None
    return expires is not None and now >= expires
