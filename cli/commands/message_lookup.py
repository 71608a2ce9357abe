"""Find the messages that an ID names, show one as JSON, and choose its exit code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cli.context import CommandContext
from cli.errors import CliError, Exit
from cli.stage import Facts, Stage, stage_of
from optus_sms.model.redaction import partly_hidden, without_numbers
from optus_sms.records.table import Item

_NUMBERS: Final = frozenset({"destination", "source", "handset"})
_TEXTS: Final = frozenset({"detail", "reason", "history", "unknown_statuses", "repeats"})
"""Attributes that may quote the gateway or an operator."""


def find_messages(context: CommandContext, id_: str) -> list[Facts]:
    """Return the messages that an ID names; raise `CliError` if there is none."""
    facts = context.tables.find(id_)
    if not facts:
        raise CliError(
            f"No message has the message_id, gateway ID or reference {id_!r}.",
            "If it was queued just now, it may still wait in the queue (`health` shows how many do).\n"
            "If it broke a rule, it is a dead letter (`dead-letters`).",
            Exit.NOT_FOUND,
        )
    return facts


def message_json(facts: Facts, *, show_numbers: bool = True) -> dict[str, Any]:
    """Return one message for --json; numbers partly hidden, unless ``show_numbers``."""

    def shown(item: Item) -> Mapping[str, object]:
        return item if show_numbers else {name: _redacted(name, value) for name, value in item.items()}

    return {
        "message_id": facts.key,
        "stage": stage_of(facts).value,
        "ledger": shown(facts.ledger),
        "gateway": shown(facts.row),
    }


def _redacted(name: str, value: object) -> object:
    """An attribute of an item without phone numbers; IDs and times stay."""
    if name in _NUMBERS:
        return partly_hidden(str(value))
    if name in _TEXTS and isinstance(value, frozenset):
        return frozenset(without_numbers(str(text)) for text in value)
    return without_numbers(str(value)) if name in _TEXTS else value


def exit_code(facts: Facts) -> Exit:
    """Return the exit code for where a message stands: 0 if it was received, or is a reply."""
    match stage_of(facts):
        case Stage.RECEIVED | Stage.REPLY:
            return Exit.OK
        case Stage.UNDELIVERED | Stage.REJECTED | Stage.EXPIRED:
            return Exit.NOT_DELIVERED
        case Stage.UNKNOWN:
            return Exit.UNKNOWN
        case Stage.SENDING | Stage.RETRY | Stage.ACCEPTED | Stage.NOT_SEEN:
            return Exit.ON_ITS_WAY
