"""Find a message wherever it is, by number, key or reference, and report which places could not be searched."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Self

from cli.dead_letter_queue import ReceivedDeadLetter, last_digits, readings
from cli.health import waiting_counts
from cli.long_reads import shown
from cli.message_lookup import messages_with_id
from cli.stage import Facts, stage_of
from cli.target import QUEUE_NAMES, QUEUES, Target
from optus_sms.model.numbers import did_you_mean
from optus_sms.model.sender_namespaces import key_of
from optus_sms.records.items import LedgerRecord, MessageRecord, State

_OPEN: Final = (State.SENDING, State.RETRY, State.UNKNOWN, State.ACCEPTED)
_BETWEEN_DIGITS: Final = r"[^0-9A-Za-z]{0,3}"
_IN_A_KEY: Final = "[A-Za-z0-9._:-]"


@dataclass(frozen=True, slots=True)
class Sought:
    """A text to search: an ID, and as E.164 if it can be a number."""

    id_: str
    number: str | None

    @classmethod
    def of(cls, text: str) -> Self:
        """Read the operator's input."""
        return cls(text.strip(), did_you_mean(text))

    def is_of(self, message_id: str, reference: str | None, destination: str | None) -> bool:
        """Return whether a message matches, also by its key in any sender's namespace."""
        is_named = self.id_ in (message_id, key_of(message_id), reference)
        return is_named or (self.number is not None and destination == self.number)

    def is_in(self, text: str) -> bool:
        """Return whether a text that is not a message contains it."""
        if re.search(f"(?<!{_IN_A_KEY}){re.escape(self.id_)}(?!{_IN_A_KEY})", text):
            return True
        plain = unicodedata.normalize("NFKC", text)
        return self.number is not None and bool(re.search(_BETWEEN_DIGITS.join(last_digits(self.number)), plain))

    def is_letter(self, letter: ReceivedDeadLetter) -> bool:
        """Return whether a dead letter or a message of the queue matches."""
        message = letter.message
        if message is None:
            return letter.is_named(self.id_) or any(map(self.is_in, readings(letter.body)))
        return letter.sqs_id == self.id_ or self.is_of(letter.message_id, message.reference, message.destination)


@dataclass(frozen=True, slots=True)
class Found:
    """One place of one message. ``where``: ledger, messages, dead letters or queue; ``state``: its stage or reason."""

    where: str
    since: str
    message_id: str
    destination: str | None = field(repr=False)
    state: str


@dataclass(frozen=True, slots=True)
class Search:
    """The places found, and in words which places were searched, were not, and can't be."""

    found: list[Found]
    looked: list[str]
    not_looked: list[str]


def find(target: Target, sought: Sought, *, queue: bool) -> Search:
    """Search all but the queue, which is read only on request, because that hides its messages for a moment."""
    search = Search([], [], [])
    _search_tables(target, sought, search)
    found, read, hidden = _read(target, "DeadLetterQueueUrl", "dead letters", sought)
    search.found.extend(
        Found("dead letters", each.since, each.message_id, each.destination, each.reason) for each in found
    )
    search.looked.append(f"dead letters: {read}")
    if hidden:
        search.not_looked.append(f"about {hidden} dead letters that another reader held a moment ago")
    _search_queue(target, sought, search, queue=queue)
    if sought.number:
        search.not_looked.append(
            "ledger records that are closed (rejected, expired, given up): the ledger keeps no number of them. "
            "Their message_id finds them; the dead letter of a rejected one has the number for 14 days"
        )
    return search


def _search_tables(target: Target, sought: Sought, search: Search) -> None:
    facts = {each.message_id: each for each in messages_with_id(target, sought.id_)}
    search.looked.append("records with that message_id, gateway ID or reference")
    if sought.number:
        conversation = target.messages.conversation(sought.number)
        sent = [each for each in conversation if isinstance(each, MessageRecord)]
        facts = {key: Facts(key, message=each) for each in sent if (key := each.message_id or each.id)} | facts
        search.looked.append(f"messages that the gateway accepted for that handset: {len(sent)}")
    if sought.id_ not in facts:
        records = list(shown(_open_records(target), "open ledger records"))
        meant = (each for each in records if sought.is_of(each.message_id, each.reference, each.destination))
        facts |= {each.message_id: Facts(each.message_id, each) for each in meant}
        search.looked.append(f"open ledger records: {len(records)}")
        without = sum(each.destination is None for each in records)
        if sought.number and without:
            search.not_looked.append(f"open ledger records without a number, because they were redriven: {without}")
    for each in facts.values():
        where = "ledger" if each.ledger else "messages"
        search.found.append(Found(where, each.since, each.message_id, each.destination, stage_of(each).value))


def _open_records(target: Target) -> Iterator[LedgerRecord]:
    for state in _OPEN:
        yield from target.ledger.undecided(state)


def _search_queue(target: Target, sought: Sought, search: Search, *, queue: bool) -> None:
    counts = waiting_counts(target)
    if queue:
        for lane, place in QUEUE_NAMES.items():
            found, read, _ = _read(target, QUEUES[lane], "waiting messages", sought)
            waits = (Found(place, each.queued_at, each.message_id, each.destination, "waits") for each in found)
            search.found.extend(waits)
            search.looked.append(f"waiting messages of the {place}: {read}")
    else:
        search.not_looked.append(f"waiting messages of the queues, about {counts['waiting']}: --queue reads them")
    if unseen := counts["in_flight"] + counts["delayed"]:
        search.not_looked.append(
            f"about {unseen} messages of the queues that are being sent or were returned to it, for half an hour at "
            "most: SQS shows them to no reader. Those that had an attempt are among the open ledger records"
        )


def _read(target: Target, output: str, what: str, sought: Sought) -> tuple[list[ReceivedDeadLetter], int, int]:
    """Return the matching messages of a queue, how many were read, and about how many were hidden."""
    with target.dead_letter_queue(output, what) as queue:
        hidden = queue.hidden()
        read = list(queue.dead_letters())
        return [each for each in read if sought.is_letter(each)], len(read), hidden + queue.lost
