"""Everything that the page shows, each thing with the revision at which it last changed.

A browser gets all changes after its own revision. So a slow browser gets the latest state instead of a backlog, a new
one gets everything, and the board keeps no record of browsers.
"""

import json
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any, Final

from cli.dead_letter_queue import ReceivedDeadLetter
from cli.stage import Facts
from local.demo.watcher import Event
from local.page.bubble import (
    GROUPS,
    QueuedMessage,
    dead_letter_view,
    groups,
    life_of,
    message_view,
    opt_out_view,
    reply_view,
)
from optus_sms.model.lanes import Lane
from optus_sms.records.changes import Change
from optus_sms.records.items import HealthRecord, LedgerRecord, MessageRecord, OptOutRecord, ReplyRecord

MESSAGES_AT_FIRST: Final = 5000
"""A page that is opened gets at most so many, the newest; the numbers count all."""
EVENTS_KEPT: Final = 500
DEAD_LETTERS_SHOWN: Final = 100


class Board:
    """Collects all changes as a `local.demo.watcher.WatchListener`; thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._revision = 0
        self._ledger: dict[str, LedgerRecord] = {}
        self._messages: dict[str, MessageRecord] = {}
        self._replies: dict[str, ReplyRecord] = {}
        self._opt_outs: dict[str, OptOutRecord] = {}
        self._dead_letters: dict[str, ReceivedDeadLetter] = {}
        self._submissions: defaultdict[str, dict[str, QueuedMessage]] = defaultdict(dict)
        """By message_id, then by hash of the payload: of two under one message_id only one is sent."""
        self._message_id_of: dict[str, str] = {}
        self._gateway_id_of: dict[str, str] = {}
        self._replies_to: defaultdict[str, list[str]] = defaultdict(list)
        """The replies to a message, both by the gateway's id."""
        self._groups: dict[str, tuple[str, ...]] = {}
        """By message_id, in the order in which the messages appeared."""
        self._counts: Counter[str] = Counter()
        self._elsewhere = 0
        """On the queue, without us knowing what it is."""
        self._latest_messages: dict[str, int] = {}
        self._latest_replies: dict[str, int] = {}
        self._latest_opt_outs: dict[str, int] = {}
        """The revisions of each, in the order of the changes."""
        self._drawn: dict[str, str] = {}
        """JSON by message_id, until the message changes."""
        self._events: deque[tuple[int, str]] = deque(maxlen=EVENTS_KEPT)
        self._events_seen = 0
        self._health = HealthRecord()
        self._is_paused = False
        self._depths = dict.fromkeys(Lane, 0)
        self._parts: dict[str, tuple[int, Any]] = {}
        self._examples: frozenset[str] = frozenset()
        """The message_ids of the examples, and the bodies of those that may have none."""

    # Changes

    def change(self, change: Change) -> None:
        with self._changed:
            match change.after:
                case LedgerRecord() as record:
                    self._ledger_changed(record)
                case HealthRecord() as record:
                    self._health = record
                    self._advance()
                case ReplyRecord() as record:
                    self._reply_changed(record)
                case MessageRecord() as record:
                    self._gateway_changed(record)
                case OptOutRecord() as record:
                    self._opt_outs[record.handset] = record
                    self._note(self._latest_opt_outs, record.handset)

    def dead_letters(self, new: Sequence[ReceivedDeadLetter], gone: Sequence[str]) -> None:
        with self._changed:
            self._dead_letters |= {dead_letter.sqs_id: dead_letter for dead_letter in new}
            for sqs_id in gone:
                self._dead_letters.pop(sqs_id, None)
            self._dead_letters_changed()

    def event(self, event: Event) -> None:
        with self._changed:
            self._events_seen += 1
            told = {"n": self._events_seen, "at": event.get("time"), "detail_type": event.get("detail-type")}
            self._events.append((self._advance(), json.dumps({**told, "event": event}, default=str)))

    def put(self, message_id: str, sent: QueuedMessage) -> None:
        """Note that the page put a message on the queue."""
        with self._changed:
            self._submitted(message_id, sent)

    def taken(self, message_id: str, sent: QueuedMessage) -> None:
        """Note that a function received a message, of the page or of any other sender."""
        with self._changed:
            if message_id not in self._groups:
                self._elsewhere = max(0, self._elsewhere - 1)
            self._submitted(message_id, sent)

    def measured(self, depths: Mapping[Lane, int] | None, *, is_paused: bool) -> None:
        """Note polled values: how many messages each queue has (None: unchanged), and whether both lanes are paused."""
        with self._changed:
            elsewhere, seen = self._elsewhere, self._depths if depths is None else dict(depths)
            if depths is not None:
                elsewhere = max(0, sum(depths.values()) - self._counts["queued"] - self._counts["in_flight"])
            if (elsewhere, seen, is_paused) != (self._elsewhere, self._depths, self._is_paused):
                self._elsewhere, self._depths, self._is_paused = elsewhere, seen, is_paused
                self._advance()

    def examples(self, ids_and_bodies: Iterable[str]) -> None:
        """Mark these messages as examples, before they are queued."""
        with self._changed:
            self._examples = frozenset(ids_and_bodies)

    def set(self, part: str, value: Any) -> None:
        """Replace a part that is sent as a whole: meta, faults or load (dead letters also are such a part)."""
        with self._changed:
            if self._parts.get(part, (0, None))[1] != value:
                self._parts[part] = (self._advance(), value)

    def close(self) -> None:
        """End all waits."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()

    # The view

    @property
    def revision(self) -> int:
        """Return the revision of the last change."""
        return self._revision

    @property
    def is_busy(self) -> bool:
        """Return whether messages are on the queue or can come there."""
        with self._changed:
            return bool(self._is_paused or self._elsewhere or self._counts["queued"] or self._counts["in_flight"])

    @property
    def is_closed(self) -> bool:
        """Return whether the board was closed."""
        return self._closed.is_set()

    def wait_for_change(self, revision: int, timeout_seconds: float) -> bool:
        """Wait for a change after the revision or for `close`; return False if the time ended first."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_closed or self._revision > revision, timeout_seconds)

    def pause(self, seconds: float) -> None:
        """Return after that time, or as soon as the board is closed."""
        self._closed.wait(seconds)

    def changes(self, since: int) -> tuple[int, str]:
        """Return the current revision, and the JSON of all changes after ``since`` (0: everything)."""
        with self._changed:
            told = {name: json.dumps(value) for name, (at, value) in self._parts.items() if at > since}
            told["strip"] = json.dumps(self._strip())
            messages, replies = self._changed_ids(since)
            _tell(told, "messages", map(self._drawing, messages))
            _tell(told, "replies", (json.dumps(self._reply(reply)) for reply in replies))
            opt_outs = (self._opt_outs[handset] for handset in _changed_after(since, self._latest_opt_outs))
            _tell(told, "opt_outs", (json.dumps(opt_out_view(record)) for record in opt_outs))
            _tell(told, "events", (event for at, event in self._events if at > since))
            return self._revision, "{" + ", ".join(f'"{name}": {text}' for name, text in told.items()) + "}"

    def life(self, message_id: str) -> dict[str, Any] | None:
        """Return a message's timeline; None if there is no such message."""
        with self._changed:
            if message_id not in self._groups:
                return None
            return life_of(self._facts(message_id), self._submission(message_id))

    def _strip(self) -> dict[str, Any]:
        numbers, health = {name: self._counts[name] for name in GROUPS}, self._health
        return {
            **numbers,
            "queued": numbers["queued"] + self._elsewhere,
            "dead_letters": len(self._dead_letters),
            "dead_letters_of_examples": sum(map(self._is_of_example, self._dead_letters.values())),
            "health": health.state,
            "health_reason": health.reason,
            "checked_at": health.checked_at,
            "depths": {lane.value: depth for lane, depth in self._depths.items()},
            "paused": self._is_paused,
            "paused_lanes": [lane.value for lane in Lane if lane not in health.free],
            "pause_reason": health.pause and health.pause.reason,
        }

    def _changed_ids(self, since: int) -> tuple[list[str], list[str]]:
        if since:
            return _changed_after(since, self._latest_messages), _changed_after(since, self._latest_replies)
        newest = islice(reversed(self._groups), MESSAGES_AT_FIRST)
        return list(newest)[::-1], list(self._replies)[-MESSAGES_AT_FIRST:]

    def _drawing(self, message_id: str) -> str:
        if message_id not in self._drawn:
            is_example = message_id in self._examples
            view = message_view(self._facts(message_id), self._submission(message_id)) | {"example": is_example}
            self._drawn[message_id] = json.dumps(view)
        return self._drawn[message_id]

    def _reply(self, gateway_id: str) -> dict[str, Any]:
        reply = self._replies[gateway_id]
        return reply_view(reply, self._message_id_of.get(reply.in_reply_to or ""))

    # Facts of a message

    def _facts(self, message_id: str) -> Facts:
        ledger, sent = self._ledger.get(message_id), self._submission(message_id)
        gateway_id = self._gateway_id_of.get(message_id, "")
        return Facts.of(
            message_id,
            ledger,
            self._messages.get(gateway_id),
            replies=tuple(self._replies[reply] for reply in self._replies_to.get(gateway_id, ())),
            queued_at=sent.queued_at if sent and not (ledger and ledger.queued_at) else None,
        )

    def _submission(self, message_id: str) -> QueuedMessage | None:
        """Return the message queued under a message_id; of several, the one with the ledger's payload hash."""
        submissions, ledger = self._submissions.get(message_id, {}), self._ledger.get(message_id)
        if ledger and ledger.payload_sha256:
            return submissions.get(ledger.payload_sha256)
        return next(iter(submissions.values()), None)

    def _submitted(self, message_id: str, sent: QueuedMessage) -> None:
        """Note a queued message. A message that comes again changes nothing."""
        if sent.message.payload_sha256 not in self._submissions[message_id]:
            self._submissions[message_id][sent.message.payload_sha256] = sent
            self._message_changed(message_id)

    def _ledger_changed(self, record: LedgerRecord) -> None:
        self._ledger[record.message_id] = record
        if record.gateway_id:
            self._tie(record.message_id, record.gateway_id)
        self._message_changed(record.message_id)
        if any(each.message_id == record.message_id for each in self._newest_dead_letters()):
            self._dead_letters_changed()  # its allowed acts have changed, too

    def _gateway_changed(self, record: MessageRecord) -> None:
        """Note a record of the gateway. It is shown as soon as its message is known."""
        self._messages[record.id] = record
        if record.message_id:
            self._tie(record.message_id, record.id)
        if record.id in self._message_id_of:
            self._message_changed(self._message_id_of[record.id])

    def _tie(self, message_id: str, gateway_id: str) -> None:
        if self._message_id_of.get(gateway_id) == message_id:
            return
        self._message_id_of[gateway_id], self._gateway_id_of[message_id] = message_id, gateway_id
        for reply in self._replies_to.get(gateway_id, ()):
            self._note(self._latest_replies, reply)

    def _reply_changed(self, reply: ReplyRecord) -> None:
        gateway_id = reply.in_reply_to
        if gateway_id and reply.id not in self._replies:
            self._replies_to[gateway_id].append(reply.id)
        self._replies[reply.id] = reply
        self._note(self._latest_replies, reply.id)
        if gateway_id in self._message_id_of:
            self._message_changed(self._message_id_of[gateway_id])

    def _message_changed(self, message_id: str) -> None:
        before, after = self._groups.get(message_id, ()), groups(self._facts(message_id))
        self._counts.subtract(before)
        self._counts.update(after)
        self._groups[message_id] = after
        self._drawn.pop(message_id, None)
        self._note(self._latest_messages, message_id)

    def _dead_letters_changed(self) -> None:
        views = [
            dead_letter_view(
                each, self._ledger.get(each.message_id), known=each.message_id in self._groups, now=time.time()
            )
            | {"example": self._is_of_example(each)}
            for each in self._newest_dead_letters()
        ]
        self._parts["dead_letters"] = (self._advance(), views)

    def _newest_dead_letters(self) -> list[ReceivedDeadLetter]:
        """Return the dead letters that are shown, the newest last."""
        return list(islice(reversed(self._dead_letters.values()), DEAD_LETTERS_SHOWN))[::-1]

    def _is_of_example(self, dead_letter: ReceivedDeadLetter) -> bool:
        return dead_letter.message_id in self._examples or dead_letter.body in self._examples

    def _note(self, latest: dict[str, int], key: str) -> None:
        latest.pop(key, None)
        latest[key] = self._advance()

    def _advance(self) -> int:
        self._revision += 1
        self._changed.notify_all()
        return self._revision


def _changed_after(revision: int, latest: dict[str, int]) -> list[str]:
    """Return the keys that changed after a revision, the latest last."""
    return list(takewhile(lambda key: latest[key] > revision, reversed(latest)))[::-1]


def _tell(told: dict[str, str], name: str, items: Iterable[str]) -> None:
    """Add a list to the update, unless it is empty."""
    if found := list(items):
        told[name] = f"[{', '.join(found)}]"
