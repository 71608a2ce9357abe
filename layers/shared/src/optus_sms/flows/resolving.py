"""Match a callback to its message by reference: what resolves an unknown outcome."""

from __future__ import annotations

from dataclasses import dataclass

from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages


@dataclass(frozen=True, slots=True)
class Resolution:
    """A callback found its message. ``resolved``: the state that this proof ended, if it ended one."""

    message_id: str
    resolved: State | None


def resolve_by_reference(
    ledger: Ledger, messages: Messages, gateway_id: str, reference: str, *, now: float
) -> Resolution | None:
    """Match an item of `MessagesTable` to its message by reference; None if no message can be told.

    It proves a send only if exactly one record answers to the reference and that has no other id yet.
    """
    record = ledger.answering_to(reference)
    if record is None:
        return None
    before = ledger.resolve_by_callback(record.message_id, gateway_id, now=now)
    if before is None and not _has_id(ledger, record, gateway_id):
        return None
    # Also when the ledger has this very id already: whoever wrote it there may have failed to write it here.
    messages.record_sent(gateway_id, before or LedgerRecord(record.message_id, reference=reference), now=now)
    return Resolution(record.message_id, before.state if before else None)


def _has_id(ledger: Ledger, record: LedgerRecord, gateway_id: str) -> bool:
    """Whether a refused resolution had been done: when the record was read, or since (another callback of the same
    message, or the SDK's repeat of this write because its answer was lost).
    """
    if record.gateway_id is None:
        record = ledger.read(record.message_id) or record
    return record.gateway_id == gateway_id
