"""Join what the gateway says with the message it is about, when only the reference tells which one that is."""

from __future__ import annotations

from dataclasses import dataclass

from optus_sms.records.ledger import Ledger, LedgerRecord, State
from optus_sms.records.messages import MessageStore, SentMessage


@dataclass(frozen=True, slots=True)
class Resolution:
    """A row and its message found each other. ``resolved``: the state that this proof ended, if it ended one."""

    key: str
    resolved: State | None


def resolve_by_reference(
    ledger: Ledger, messages: MessageStore, gateway_id: str, reference: str, *, now: float
) -> Resolution | None:
    """Join a row of `MessagesTable` with its message by reference; None if no message can be told.

    It proves a send only if exactly one record answers to the reference and that has no other id yet.
    """
    sender = ledger.sender_of(reference)
    if sender is None:
        return None
    before = ledger.resolve_by_callback(sender.key, gateway_id, now=now)
    if before is None and not _has_id(ledger, sender, gateway_id):
        return None
    # Also when the ledger has this very id already: whoever wrote it there may have failed to write it here.
    messages.record_sent(
        SentMessage(
            gateway_id=gateway_id,
            message_id=sender.key,
            reference=reference,
            destination=before.destination if before else None,
            segments=before.segments if before else None,
            masked=before.masked if before else None,
        ),
        now=now,
    )
    return Resolution(sender.key, before.state if before else None)


def _has_id(ledger: Ledger, sender: LedgerRecord, gateway_id: str) -> bool:
    """Whether a refused adoption had been done: when it was read, or since (another callback of the same message, or
    the SDK repeated our own write because its answer was lost).
    """
    if sender.gateway_id is None:
        sender = ledger.read(sender.key) or sender
    return sender.gateway_id == gateway_id
