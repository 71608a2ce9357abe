"""Resolve unknown outcomes by an operator's decision."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cli.dead_letter_queue import DeadLetterQueue, ReceivedDeadLetter, put_back
from cli.long_reads import shown
from cli.redrive_plan import DeadLetterKind, judge
from cli.target import QUEUES, Target
from optus_sms.flows.resolving import complete
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import LedgerRecord, ReplyRecord, State


@dataclass(frozen=True, slots=True)
class Resolved:
    """Whether one message was resolved, and the result in words."""

    message_id: str
    resolved: bool
    result: str


def unknown_between(target: Target, since: float, until: float) -> list[LedgerRecord]:
    """Return the records whose outcome became unknown from ``since`` until before ``until`` (epoch seconds)."""
    start, end = format_rfc3339(since), format_rfc3339(until)
    undecided = shown(target.ledger.undecided(State.UNKNOWN), "undecided messages")
    found = [record for record in undecided if start <= (record.unknown_since or "") < end]
    return sorted(found, key=lambda record: (record.unknown_since or "", record.message_id))


def resolve_sent(target: Target, record: LedgerRecord, gateway_id: str | None, *, by: str) -> Resolved:
    """Resolve as sent: ACCEPTED, and with a gateway ID also in `MessagesTable`.

    ``record``: the record that the operator decided about. The decision is refused if the record has changed since.
    """
    message_id = record.message_id
    if gateway_id is not None and (other := _other_owner(target, message_id, gateway_id)):
        return Resolved(message_id, False, other)
    now = time.time()
    refused_by = target.ledger.resolve_sent(record, gateway_id, by=by, now=now)
    if refused_by is not None and not _is_repeated(refused_by, gateway_id):
        return _refused(record, refused_by)
    if gateway_id is not None:
        complete(target.ledger, target.messages, record, gateway_id, now=now)
    return Resolved(message_id, True, f"resolved as sent, by {by}")


def resolve_not_sent(target: Target, records: Sequence[LedgerRecord], *, by: str) -> list[Resolved]:
    """Resolve as not sent: RETRY, and queue the messages again from their dead letters, because only those have the
    texts.

    ``records``: the records that the operator decided about. The decision is refused for a record that has changed
    since.
    """
    dead_letters: dict[str, list[ReceivedDeadLetter]] = {record.message_id: [] for record in records}
    with target.dead_letter_queue() as queue:
        for dead_letter in queue.dead_letters():
            dead_letters.get(dead_letter.message_id, []).append(dead_letter)
        return [_resolve_not_sent(target, queue, record, dead_letters[record.message_id], by) for record in records]


def _resolve_not_sent(
    target: Target, queue: DeadLetterQueue, record: LedgerRecord, dead_letters: list[ReceivedDeadLetter], by: str
) -> Resolved:
    message_id = record.message_id
    copies = [
        dead_letter
        for dead_letter in dead_letters
        if dead_letter.message and dead_letter.message.payload_sha256 == record.payload_sha256
    ]
    refused_by = target.ledger.resolve_not_sent(record, by=by, now=time.time())
    # A message in RETRY without an open outcome was certainly not sent. If it has a dead letter, an earlier run was
    # interrupted before it queued the copy.
    is_unsent = refused_by is not None and refused_by.state is State.RETRY and not refused_by.has_open_outcome
    if refused_by is not None and not (is_unsent and copies):
        return _refused(record, refused_by)
    if not copies:
        return Resolved(
            message_id,
            True,
            f"resolved as not sent, by {by}; no dead letter has its text: queue it again under the same message_id",
        )
    put_back(target.sqs, target.outputs[QUEUES[copies[0].lane]], copies[0])
    for dead_letter in copies:
        queue.delete(dead_letter)
    return Resolved(message_id, True, f"resolved as not sent, by {by}, and queued again")


def moot_dead_letters(target: Target, queue: DeadLetterQueue, message_ids: Collection[str]) -> list[ReceivedDeadLetter]:
    """Return these messages' dead letters if they were certainly sent; all others in the queue are released."""
    return queue.hold(lambda each: each.message_id in message_ids and _is_moot(target, each))


def _is_moot(target: Target, dead_letter: ReceivedDeadLetter) -> bool:
    return judge(dead_letter, target.ledger.read(dead_letter.message_id), now=time.time())[0] is DeadLetterKind.SENT


def _other_owner(target: Target, message_id: str, gateway_id: str) -> str:
    """Return why this gateway ID can't belong to the message; empty if it can."""
    found = target.messages.read(gateway_id)
    if isinstance(found, ReplyRecord):
        return f"not resolved: {gateway_id} is a reply"
    owner = found.message_id if found else None
    return f"not resolved: {gateway_id} belongs to {owner}" if owner not in (None, message_id) else ""


def _is_repeated(record: LedgerRecord, gateway_id: str | None) -> bool:
    """Return whether the same decision was recorded before, perhaps by a run interrupted before its second write."""
    return record.state is State.ACCEPTED and record.gateway_id == gateway_id


def _refused(seen: LedgerRecord, refused_by: LedgerRecord) -> Resolved:
    """Return why the operator's decision about the record that was ``seen`` does not apply to the current record."""
    if refused_by.state is State.RECALLED:
        result = "not resolved: it was recalled, so it is not sent in any case; only --sent can end its outcome"
    elif refused_by.has_open_outcome and refused_by.gateway_id is None:
        result = f"not resolved: it was {seen.state}, and is {refused_by.state} by now; look it up again"
    else:
        result = f"not resolved: it is {refused_by.state}, and has no unknown outcome"
    return Resolved(refused_by.message_id, False, result)
