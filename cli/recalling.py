"""Recall messages: those that were not sent are never sent under their message_id.

A recall is one conditional write of the ledger, so it doesn't matter who queued the message or how often it is
delivered. A message that waits in the paused queue is deleted only after its recall is written. Everything can be
interrupted and repeated.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import chain
from typing import Final, TypeVar

from cli.dead_letter_queue import ReceivedDeadLetter
from cli.queueing import in_batches
from cli.target import QUEUES, Target
from optus_sms.flows.refused_claim import may_resend
from optus_sms.model.queue_message import OutboundMessage
from optus_sms.model.sender_namespaces import reference_of
from optus_sms.model.times import time_or_none
from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.ledger import KEEP_SECONDS, Ledger

T = TypeVar("T")
R = TypeVar("R")


class Result(StrEnum):
    """The result for one message."""

    RECALLED = "recalled"
    BEFORE = "recalled before"
    NOT_SENT = "not sent"
    SENT = "sent already"
    MAYBE_SENT = "may have been sent"
    ANOTHER = "another message"


IS_RECALLED: Final = (Result.RECALLED, Result.BEFORE)
_UNDECIDED: Final = (State.RETRY, State.SENDING, State.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Recalled:
    """The result for one message, and why."""

    message_id: str
    result: Result
    why: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Messages to recall: those that match each field that is not None. Times of first queueing: epoch seconds."""

    reference: str | None = None
    since: float | None = None
    until: float = 0.0
    destination: str | None = None

    def has(self, queued_at: str | None, reference: str, destination: str | None) -> bool:
        """Return whether a message matches. ``queued_at``: RFC 3339; empty if unknown, and then no time matches."""
        if self.reference not in (None, reference) or self.destination not in (None, destination):
            return False
        at = time_or_none(queued_at)
        return self.since is None or (at is not None and self.since <= at < self.until)

    def has_record(self, record: LedgerRecord) -> bool:
        """Return whether a ledger record's message matches."""
        return self.has(record.queued_at, record.effective_reference, record.destination)


def of_message(message_id: str, message: OutboundMessage) -> LedgerRecord:
    """Return a record with the message's payload hash, so that no other message is recalled in its place."""
    reference = message.reference or reference_of(message_id)
    return LedgerRecord(message_id, payload_sha256=message.payload_sha256, reference=reference)


def recall_all(target: Target, records: Sequence[LedgerRecord], *, dry_run: bool) -> Iterator[list[Recalled]]:
    """Recall the messages with these keys. If a record has a hash, recall only the message with that payload."""
    recall_one = _way(target, dry_run=dry_run)
    for batch in in_batches(records):
        yield _each(recall_one, batch)


def recall_waiting(target: Target, wanted: Wanted, *, dry_run: bool) -> Iterator[list[Recalled]]:
    """Recall messages that wait in the paused queues or that the ledger lists as undecided, each once."""
    done: set[str] = set()
    for results in chain(
        recall_queued(target, wanted, dry_run=dry_run), recall_undecided(target, wanted, dry_run=dry_run)
    ):
        first: dict[str, Recalled] = {}
        for each in results:
            first.setdefault(each.message_id, each)
        yield [each for message_id, each in first.items() if message_id not in done]
        done |= first.keys()


def recall_queued(target: Target, wanted: Wanted, *, dry_run: bool) -> Iterator[list[Recalled]]:
    """Recall messages that wait in the paused queues, and delete them there; a copy has a result of its own."""
    recall_one = _way(target, dry_run=dry_run)
    for output in QUEUES.values():
        yield from _recall_of(target, output, wanted, recall_one, dry_run=dry_run)


def _recall_of(
    target: Target, output: str, wanted: Wanted, recall_one: Callable[[LedgerRecord], Recalled], *, dry_run: bool
) -> Iterator[list[Recalled]]:
    with target.dead_letter_queue(output, what="") as queue:

        def recall_and_delete(copies: Sequence[tuple[ReceivedDeadLetter, LedgerRecord]]) -> list[Recalled]:
            recalled = []
            for waiting, record in copies:
                recalled.append(recall_one(record))
                if recalled[-1].result in IS_RECALLED and not dry_run:
                    queue.delete(waiting)
            return recalled

        for batch in in_batches(queue.dead_letters()):
            yield list(chain(*_each(recall_and_delete, _wanted_of(wanted, batch))))


def recall_undecided(target: Target, wanted: Wanted, *, dry_run: bool) -> Iterator[list[Recalled]]:
    """Recall messages that the ledger has in RETRY. In the queue they can be invisible for half an hour."""
    recall_one = _way(target, dry_run=dry_run)
    undecided = (record for state in _UNDECIDED for record in target.ledger.undecided(state))
    for records in in_batches(record for record in undecided if wanted.has_record(record)):
        yield _each(recall_one, records)


def sent_already(target: Target, wanted: Wanted) -> Iterator[list[Recalled]]:
    """Return those wanted messages that were sent already, by reading the whole ledger."""
    for record in target.ledger.scan():
        is_sent = record.state is State.ACCEPTED and wanted.has_record(record)
        yield [Recalled(record.message_id, Result.SENT)] if is_sent else []


def recall(ledger: Ledger, wanted: LedgerRecord, *, by: str) -> Recalled:
    """Recall one message, as this operator."""
    now = time.time()
    record = ledger.read(wanted.message_id)
    result, why = judge(wanted, record)
    if result is Result.RECALLED:
        ttl = max(record.ttl if record else 0, int(now) + KEEP_SECONDS)
        refused_by = ledger.recall(wanted._replace(ttl=ttl), by=by, now=now)
        if refused_by is not None:
            result, why = judge(wanted, refused_by)
            if result is Result.RECALLED:
                result, why = Result.MAYBE_SENT, "it changed meanwhile; repeat the command"
    return Recalled(wanted.message_id, result, why)


def preview(ledger: Ledger, wanted: LedgerRecord) -> Recalled:
    """Return the result that `recall` would have, and change nothing."""
    return Recalled(wanted.message_id, *judge(wanted, ledger.read(wanted.message_id)))


def judge(wanted: LedgerRecord, record: LedgerRecord | None) -> tuple[Result, str]:  # noqa: PLR0911 - one line each
    """Return the result of a recall, and why. ``record``: the ledger's current record of the message_id."""
    if record is None:
        why = "" if wanted.payload_sha256 else "the ledger has no such message; if one comes, it is refused"
        return Result.RECALLED, why
    if wanted.payload_sha256 and record.payload_sha256 not in (None, wanted.payload_sha256):
        return Result.ANOTHER, "its message_id was used for a message with other fields"
    match record.state:
        case State.RETRY if record.has_open_outcome:
            return Result.RECALLED, "no attempt follows, but an earlier one may have been sent"
        case State.RETRY:
            return Result.RECALLED, ""
        case State.RECALLED:
            return Result.BEFORE, ""
        case State.ACCEPTED:
            return Result.SENT, ""
        case State.SENDING:
            return Result.MAYBE_SENT, "an attempt is under way; repeat the command in a few minutes"
        case State.UNKNOWN:
            again = may_resend(record.on_unknown, record.unknown_outcomes)
            once_more = "; it is sent once more (`resend`), unless you resolve it" if again else ""
            return Result.MAYBE_SENT, f"the outcome of its attempt is unknown{once_more}"
        case State.REJECTED:
            return Result.NOT_SENT, "it was rejected; a redrive of its dead letter would send it"
        case State.EXPIRED:
            return Result.NOT_SENT, "it has expired"


def _way(target: Target, *, dry_run: bool) -> Callable[[LedgerRecord], Recalled]:
    """Return the function for one message. Made before the threads, in which a session can't make clients."""
    return partial(preview, target.ledger) if dry_run else partial(recall, target.ledger, by=target.operator)


def _wanted_of(
    wanted: Wanted, waiting: Iterable[ReceivedDeadLetter]
) -> list[list[tuple[ReceivedDeadLetter, LedgerRecord]]]:
    """Return the waiting messages to recall, by message_id; without invalid ones, which are never sent."""
    found: defaultdict[str, list[tuple[ReceivedDeadLetter, LedgerRecord]]] = defaultdict(list)
    for each in waiting:
        if each.message is None:
            continue
        record = of_message(each.message_id, each.message)
        if wanted.has(each.queued_at, record.effective_reference, each.destination):
            found[each.message_id].append((each, record))
    return list(found.values())


def _each(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Call a function for each item, in parallel, because each call to DynamoDB takes milliseconds."""
    if len(items) < 2:
        return list(map(function, items))
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(function, items))
