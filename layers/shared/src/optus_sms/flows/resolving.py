"""Match a callback to its message by reference, which can resolve an unknown outcome."""

from typing import NamedTuple

from optus_sms.model.redaction import loggable_id
from optus_sms.records.items import LedgerRecord, MessageRecord, State
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from optus_sms.runtime.observability import logger


class Resolution(NamedTuple):
    """The message of a callback. ``resolved``: the message's state before, if the callback resolved it.

    ``is_contradiction``: the message was certainly not sent, so the callback is about another one.
    ``id_is_taken``: another message has the callback's ID by now.
    """

    message_id: str
    resolved: State | None = None
    is_contradiction: bool = False
    id_is_taken: bool = False


def resolve_by_reference(
    ledger: Ledger, messages: Messages, gateway_id: str, reference: str, *, now: float
) -> Resolution | None:
    """Match an item of `MessagesTable` to its message by reference; None if there is no certain match.

    The match proves a send only if exactly one record has the reference, may have been sent, and has no other gateway
    ID.
    """
    record = ledger.with_reference(reference)
    if record is None:
        return None
    if not record.may_have_been_sent:
        logger().warning(
            "callback for a message that was certainly not sent",
            extra={"message_id": record.message_id, "gateway_id": loggable_id(gateway_id), "state": record.state.value},
        )
        return Resolution(record.message_id, is_contradiction=True)
    before = ledger.resolve_by_callback(record.message_id, gateway_id, now=now)
    if before is None and not _has_id(ledger, record, gateway_id):
        return None
    # Done even if the ledger has this ID already, because the write to `MessagesTable` that follows can have failed.
    # Reconciliation would find the missing item too, but minutes later.
    taken_by = complete(ledger, messages, before or record, gateway_id, now=now)
    return Resolution(record.message_id, before.state if before else None, id_is_taken=taken_by is not None)


def complete(
    ledger: Ledger, messages: Messages, record: LedgerRecord, gateway_id: str, *, now: float
) -> MessageRecord | None:
    """Write the item of an accepted message, and only then remove its source fields from the ledger.

    Return the record that has this gateway ID already, if it is another message's or a reply's.
    """
    if taken_by := messages.record_sent(gateway_id, record, now=now):
        log_taken(gateway_id, record.message_id, taken_by)
    ledger.completed(record.message_id, gateway_id)
    return taken_by


def log_taken(gateway_id: str, message_id: str, taken_by: MessageRecord) -> None:
    """Log that the gateway gave a message the ID of another one."""
    fields = {"message_id": message_id, "gateway_id": loggable_id(gateway_id)}
    logger().error("gateway ID taken", extra=fields | {"taken_by": taken_by.message_id})


def _has_id(ledger: Ledger, record: LedgerRecord, gateway_id: str) -> bool:
    """Return whether the record has this gateway ID, as read or by now.

    Another callback of the message may have written it since. So may this very write, if the SDK repeated it after a
    lost response.
    """
    if record.gateway_id is None:
        record = ledger.read(record.message_id) or record
    return record.gateway_id == gateway_id
