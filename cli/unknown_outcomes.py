"""Resolve unknown outcomes by what a person knows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.dead_letter_queue import DeadLetterQueue, ReceivedDeadLetter, put_back
from cli.tables import Tables
from optus_sms.model.times import format_rfc3339
from optus_sms.records.ledger import LedgerRecord, State
from optus_sms.records.messages import SentMessage

if TYPE_CHECKING:
    from cli.target import Target


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of one wish."""

    message_id: str
    resolved: bool
    result: str


def unknown_between(tables: Tables, since: float, until: float) -> list[str]:
    """The keys whose outcome became unknown in a time (epoch seconds), the second not included."""
    start, end = format_rfc3339(since), format_rfc3339(until)
    found = [
        (str(facts.ledger.get("unknown_since", "")), facts.key)
        for facts in tables.undecided(State.UNKNOWN)
        if start <= str(facts.ledger.get("unknown_since", "")) < end
    ]
    return [key for _, key in sorted(found)]


def resolve_sent(target: Target, key: str, gateway_id: str | None, *, by: str) -> Resolved:
    """It was sent: ACCEPTED, and with its id known also in `MessagesTable`."""
    record = target.ledger.read(key)
    if record is None:
        return _not_known(key)
    if gateway_id is not None and (other := _other_owner(target, key, gateway_id)):
        return Resolved(key, False, other)
    now = time.time()
    refused_by = target.ledger.resolve_sent(key, gateway_id, by=by, now=now)
    if refused_by is not None and not _is_repeated(refused_by, gateway_id):
        return _refused(refused_by)
    if gateway_id is not None:
        sent = SentMessage(
            gateway_id=gateway_id,
            message_id=key,
            reference=record.reference or key,
            destination=record.destination,
            segments=record.segments,
            masked=record.masked if record.destination else None,
        )
        target.messages.record_sent(sent, now=now)
    return Resolved(key, True, f"resolved as sent, by {by}")


def resolve_not_sent(target: Target, keys: Sequence[str], *, by: str) -> list[Resolved]:
    """None of them was sent: RETRY, and queued again from the dead letter, which alone has the text."""
    wanted = set(keys)
    done: dict[str, Resolved] = {}
    with DeadLetterQueue(target.sqs, target.outputs["DeadLetterQueueUrl"]) as queue:
        letters = _letters_of(queue.letters(), wanted)
        for key in keys:
            done[key] = _resolve_not_sent(target, queue, key, letters.get(key, []), by)
    return list(done.values())


def _letters_of(letters: Iterable[ReceivedDeadLetter], wanted: set[str]) -> dict[str, list[ReceivedDeadLetter]]:
    found: dict[str, list[ReceivedDeadLetter]] = {}
    for letter in letters:
        if letter.key in wanted and letter.message is not None:
            found.setdefault(letter.key, []).append(letter)
    return found


def _resolve_not_sent(
    target: Target, queue: DeadLetterQueue, key: str, letters: list[ReceivedDeadLetter], by: str
) -> Resolved:
    record = target.ledger.read(key)
    if record is None:
        return _not_known(key)
    copies = [letter for letter in letters if letter.message and letter.message.payload_sha256 == record.payload_sha256]
    refused_by = target.ledger.resolve_not_sent(key, by=by, now=time.time())
    # RETRY is certainly not sent; with a letter it is of a run that was ended before it had queued it.
    if refused_by is not None and not (refused_by.state is State.RETRY and copies):
        return _refused(refused_by)
    if not copies:
        return Resolved(
            key,
            True,
            f"resolved as not sent, by {by}; its text is in no dead letter: queue it under the same message_id",
        )
    put_back(target.sqs, target.outputs["OutboundQueueUrl"], copies[0])
    for letter in copies:
        queue.delete(letter)
    return Resolved(key, True, f"resolved as not sent, by {by}, and queued again")


def _other_owner(target: Target, key: str, gateway_id: str) -> str:
    """Why this id can't be the message's, if it can't."""
    row = Tables.of(target).row(gateway_id)
    if row.get("direction") == "MO":
        return f"not resolved: {gateway_id} is a reply"
    owner = row.get("message_id")
    return f"not resolved: {gateway_id} belongs to {owner}" if owner not in (None, key) else ""


def _is_repeated(record: LedgerRecord, gateway_id: str | None) -> bool:
    """The same was said before, perhaps by a run that was interrupted before it wrote the row."""
    return record.state is State.ACCEPTED and record.gateway_id == gateway_id


def _refused(record: LedgerRecord) -> Resolved:
    return Resolved(record.key, False, f"not resolved: it is {record.state}, and no outcome of it is unknown")


def _not_known(key: str) -> Resolved:
    return Resolved(key, False, "the ledger does not know it")
