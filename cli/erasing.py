"""Erase one handset: remove personal data from tables and queues, and keep the message_ids.

Messages that were not sent are recalled first, because an attempt would write the number again. Everything can be
interrupted and repeated: an item by which a record is found is erased after that record.
"""

import time
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from cli.dead_letter_queue import ReceivedDeadLetter, last_digits, readings
from cli.recalling import IS_RECALLED, Result, Wanted, recall_queued, recall_undecided
from cli.target import Target
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.flows.refused_claim import may_resend
from optus_sms.records.items import LedgerRecord, MessageRecord, ReplyRecord, State

Place = Literal["queue", "ledger", "messages", "replies", "opt-outs", "dead letters", "kept callbacks"]


@dataclass(frozen=True, slots=True)
class Erased:
    """One item or message with the handset's data. ``left``: why it was not erased; empty if it was."""

    place: Place
    id: str
    left: str = ""


def erase(
    target: Target, handset: str, *, is_paused: bool, dry_run: bool, with_opt_out: bool = False
) -> Iterator[Erased | None]:
    """Erase all data of a handset, and yield each step; None for an item or message without such data.

    The queue is read only if ``is_paused``. With ``dry_run`` nothing is changed. An opt-out is kept unless
    ``with_opt_out``, because messages would be sent to the handset again.
    """
    message_ids = _accepted(target.messages.conversation(handset))
    for recalled in _recall(target, Wanted(destination=handset), is_paused=is_paused, dry_run=dry_run):
        message_ids.add(recalled.id)
        yield recalled
    by = "" if dry_run else target.operator
    for record in target.ledger.scan():
        if record.destination == handset or record.message_id in message_ids:
            yield _erase_record(target, record, by=by, dry_run=dry_run)
        else:
            yield None
    items = list(target.messages.conversation(handset))  # again: an attempt may have ended since, unseen by the scan
    for message_id in sorted(_accepted(items) - message_ids):
        if accepted := target.ledger.read(message_id):
            yield _erase_record(target, accepted, by=by, dry_run=dry_run)
    for item in items:
        if not dry_run:
            target.messages.erase(item.id, handset, now=time.time())
        yield Erased("replies" if isinstance(item, ReplyRecord) else "messages", item.id)
    opt_out = target.opt_outs.read(handset)  # after the replies: erased ones decide nothing any more
    if opt_out is not None and (with_opt_out or not opt_out.opted_out):
        if not dry_run:
            key: Any = {"handset": {"S": handset}}
            target.dynamodb.delete_item(TableName=target.outputs["OptOutTableName"], Key=key)
        yield Erased("opt-outs", "-")
    yield from _delete_dead_letters(target, handset, dry_run=dry_run)


def _accepted(items: Iterable[MessageRecord | ReplyRecord]) -> set[str]:
    return {item.message_id for item in items if isinstance(item, MessageRecord) and item.message_id}


def mentions(text: str, handset: str) -> bool:
    """Return whether a text that can't be parsed has this number, with any spacing and in any script's digits."""
    return any(last_digits(handset) in _digits_of(plain) for plain in readings(text))


def _digits_of(text: str) -> str:
    values = (unicodedata.decimal(character, None) for character in text)
    return "".join(str(value) for value in values if value is not None)


def _recall(target: Target, wanted: Wanted, *, is_paused: bool, dry_run: bool) -> Iterator[Erased]:
    """Recall the messages that were not sent. For a message that is only in the ledger, its record decides."""
    for batch in recall_queued(target, wanted, dry_run=dry_run) if is_paused else ():
        for each in batch:
            left = "" if each.result in IS_RECALLED else f"{each.result}; `resume`, then repeat the command"
            yield Erased("queue", each.message_id, left)
    for batch in recall_undecided(target, wanted, dry_run=dry_run):
        yield from (Erased("queue", each.message_id) for each in batch if each.result is Result.RECALLED)


def _erase_record(target: Target, record: LedgerRecord, *, by: str, dry_run: bool) -> Erased:
    left = _needed_for(record, is_recalled=dry_run)
    if not left and not dry_run:
        refused_by = target.ledger.erase(record.message_id, by=by, now=time.time())
        left = _needed_for(refused_by, is_recalled=False) if refused_by else ""
    return Erased("ledger", record.message_id, left)


def _needed_for(record: LedgerRecord, *, is_recalled: bool) -> str:
    """Return why a record still needs the number; empty if it doesn't. ``is_recalled``: RETRY will be recalled."""
    match record.state:
        case State.SENDING:
            return "an attempt is under way; repeat the command in a few minutes"
        case State.RETRY if not is_recalled:
            return "it waits for another attempt; repeat the command"
        case State.UNKNOWN if may_resend(record.on_unknown, record.unknown_outcomes):
            return "it is sent once more (`resend`); repeat the command after that"
    return ""


def _delete_dead_letters(target: Target, handset: str, *, dry_run: bool) -> Iterator[Erased | None]:
    with target.dead_letter_queue(what="") as queue:
        for dead_letter in queue.dead_letters():
            if not _names(dead_letter, handset):
                yield None
                continue
            if not dry_run:
                queue.delete(dead_letter)
            is_callback = dead_letter.reason == DeadLetterReason.UNREADABLE_CALLBACK
            place: Place = "kept callbacks" if is_callback else "dead letters"
            yield Erased(place, dead_letter.sqs_id if is_callback else dead_letter.message_id)


def _names(dead_letter: ReceivedDeadLetter, handset: str) -> bool:
    if dead_letter.message is not None:
        return dead_letter.destination == handset
    return mentions(dead_letter.body, handset)
