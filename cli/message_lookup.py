"""Find the messages that an ID names, show one as JSON, and choose its exit code."""

from dataclasses import replace
from typing import Any, Final, TypeVar

from cli.errors import CliError, Exit
from cli.stage import Facts, Stage, stage_of
from cli.target import Target
from optus_sms.model.gateway_ids import canonical_id
from optus_sms.model.redaction import partly_hidden, without_numbers
from optus_sms.records.items import LedgerRecord, MessageRecord, ReplyRecord, attributes

R = TypeVar("R", LedgerRecord, MessageRecord)

_NUMBERS: Final = ("destination", "handset")
_QUOTES: Final = ("reason", "detail")
_LISTS_OF_QUOTES: Final = ("history", "unknown_statuses", "repeats")


def find_messages(target: Target, id_: str) -> list[Facts]:
    """Return the messages with this message_id, gateway ID or reference; raise `CliError` if there is none."""
    facts = messages_with_id(target, id_)
    if not facts:
        raise CliError(
            f"No message has the message_id, gateway ID or reference {id_!r}.",
            "It may wait in the queue, or be a dead letter because it broke a rule: `find … --queue` looks there."
            + whose(target),
            Exit.NOT_FOUND,
        )
    return facts


def whose(target: Target) -> str:
    """Return a sentence for an error about other senders' message_ids; empty if all senders share one namespace."""
    if not target.separate_senders:
        return ""
    return "\nThe message_id of another sender begins with its ID and a slash (SeparateSenders)."


def facts_of(target: Target, message_id: str) -> Facts:
    """Return all records of a message_id in the ledger and `MessagesTable`."""
    ledger = target.ledger.read(message_id)
    found = target.messages.read(ledger.gateway_id) if ledger and ledger.gateway_id else None
    return _facts(target, message_id, ledger, found)


def messages_with_id(target: Target, id_: str) -> list[Facts]:
    """Return the messages with this message_id, gateway ID or reference; none if there is none."""
    if (facts := facts_of(target, id_)).ledger:
        return [facts]
    if target.separate_senders and (facts := facts_of(target, target.id_of(id_))).ledger:
        return [facts]
    match target.messages.read(canonical_id(id_)):
        case ReplyRecord() as reply:
            return [Facts(reply.id, reply=reply)]
        case MessageRecord(message_id=None) as message:
            return [_facts(target, message.id, None, message)]
        case MessageRecord(message_id=str(message_id)) as message:
            return [_facts(target, message_id, target.ledger.read(message_id), message)]
    under_reference = (facts_of(target, message_id) for message_id in target.ledger.messages_under(id_))
    return [facts for facts in under_reference if facts.ledger]


def _facts(
    target: Target, message_id: str, ledger: LedgerRecord | None, found: MessageRecord | ReplyRecord | None
) -> Facts:
    facts = Facts.of(message_id, ledger, found)
    return replace(facts, replies=_replies_to(target, facts.message)) if facts.message else facts


def _replies_to(target: Target, message: MessageRecord) -> tuple[ReplyRecord, ...]:
    """Return the replies to a message, in time order."""
    replies = target.messages.replies_from(message.handset) if message.handset else ()
    return tuple(reply for reply in replies if reply.in_reply_to == message.id)


def message_json(facts: Facts) -> dict[str, Any]:
    """Return one message for --json."""
    return {
        "message_id": facts.message_id,
        "stage": stage_of(facts).value,
        "ledger": attributes(facts.ledger),
        "gateway": attributes(facts.message or facts.reply),
    }


def without_phone_numbers(facts: Facts) -> Facts:
    """Hide the numbers in a message's JSON, also those that the gateway or an operator quotes. IDs and times stay."""
    ledger, message = facts.ledger, facts.message
    return replace(facts, ledger=ledger and _hidden(ledger), message=message and _hidden(message))


def _hidden(record: R) -> R:
    values = record._asdict()
    hidden: dict[str, Any] = {name: partly_hidden(values[name]) for name in _NUMBERS if values.get(name)}
    hidden |= {name: without_numbers(values[name]) for name in _QUOTES if values.get(name)}
    hidden |= {name: frozenset(map(without_numbers, values[name])) for name in _LISTS_OF_QUOTES if values.get(name)}
    return record._replace(**hidden)


def exit_code(facts: Facts) -> Exit:
    """Return the exit code for a message's stage: 0 if it was received, or is a reply."""
    match stage_of(facts):
        case Stage.RECEIVED | Stage.REPLY:
            return Exit.OK
        case Stage.UNDELIVERED | Stage.REJECTED | Stage.EXPIRED | Stage.RECALLED:
            return Exit.NOT_DELIVERED
        case Stage.UNKNOWN:
            return Exit.UNKNOWN
        case Stage.SENDING | Stage.RETRY | Stage.ACCEPTED | Stage.NOT_SEEN | Stage.ERASED:
            return Exit.ON_ITS_WAY
