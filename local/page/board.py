"""Everything that the page shows, each thing with the revision at which it last changed.

A browser is told what changed after the revision that it has. So a slow one gets the latest state instead of a backlog,
one that comes later gets all of it, and nobody has to be remembered.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from cli.stage import Facts
from local.demo.watcher import Change, SeenDeadLetter
from local.page.bubble import GROUPS, QueuedMessage, groups, letter_view, life_of, message_view, reply_view
from optus_sms.records.table import Item

MESSAGES_AT_FIRST: Final = 5000
"""Of more than these a page that is opened gets the newest; the numbers count all."""
EVENTS_KEPT: Final = 500
LETTERS_SHOWN: Final = 100


class _Latest:
    """Keys in the order in which they last changed."""

    def __init__(self) -> None:
        self._revisions: OrderedDict[str, int] = OrderedDict()

    def changed(self, key: str, revision: int) -> None:
        self._revisions[key] = revision
        self._revisions.move_to_end(key)

    def since(self, revision: int) -> list[str]:
        """Those changed after it, the latest last."""
        found = []
        for key, at in reversed(self._revisions.items()):
            if at <= revision:
                break
            found.append(key)
        return found[::-1]


class Board:
    """Hears of everything as a `local.demo.watcher.Listener`; thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._revision = 0
        self._ledger: dict[str, Item] = {}
        self._rows: dict[str, Item] = {}
        self._replies: dict[str, Item] = {}
        self._letters: dict[str, SeenDeadLetter] = {}
        self._submissions: defaultdict[str, dict[str, QueuedMessage]] = defaultdict(dict)
        """By key, then by hash of the payload: under a key that was used twice only one of them is sent."""
        self._key_of: dict[str, str] = {}
        self._row_of: dict[str, str] = {}
        self._answers: defaultdict[str, list[str]] = defaultdict(list)
        """The replies to a message, both by the gateway's id."""
        self._groups: dict[str, tuple[str, ...]] = {}
        """By key, in the order in which the messages appeared."""
        self._counts: Counter[str] = Counter()
        self._elsewhere = 0
        """On the queue, without us knowing what it is."""
        self._latest_messages, self._latest_replies = _Latest(), _Latest()
        self._drawn: dict[str, str] = {}
        """JSON by key, until the message changes."""
        self._events: deque[tuple[int, str]] = deque(maxlen=EVENTS_KEPT)
        self._events_seen = 0
        self._letters_changed = 0
        self._health: Item = {}
        self._is_paused = False
        self._parts: dict[str, tuple[int, Any]] = {}

    # What happens

    def change(self, change: Change) -> None:
        """See `local.demo.watcher.Listener`."""
        table, key, _, after = change
        with self._changed:
            if table == "ledger":
                self._ledger_changed(key, dict(after))
            elif table == "health":
                self._health = dict(after)
                self._advance()
            elif after.get("direction") == "MO":
                self._reply_changed(key, dict(after))
            else:
                self._row_changed(key, dict(after))

    def dead_letter(self, letter: SeenDeadLetter) -> None:
        """See `local.demo.watcher.Listener`."""
        with self._changed:
            self._letters[letter.sqs_id] = letter
            self._letters_changed = self._advance()

    def dead_letters_gone(self, sqs_ids: Sequence[str]) -> None:
        """See `local.demo.watcher.Listener`."""
        with self._changed:
            for sqs_id in sqs_ids:
                self._letters.pop(sqs_id, None)
            self._letters_changed = self._advance()

    def event(self, event: Mapping[str, Any]) -> None:
        """See `local.demo.watcher.Listener`."""
        with self._changed:
            self._events_seen += 1
            told = {"n": self._events_seen, "at": event.get("time"), "detail_type": event.get("detail-type")}
            self._events.append((self._advance(), json.dumps({**told, "event": event}, default=str)))

    def put(self, key: str, sent: QueuedMessage) -> None:
        """The page put a message on the queue."""
        with self._changed:
            self._submitted(key, sent)

    def taken(self, key: str, sent: QueuedMessage) -> None:
        """A function got a message from the queue; whoever put it there."""
        with self._changed:
            if key not in self._groups:
                self._elsewhere = max(0, self._elsewhere - 1)
            self._submitted(key, sent)

    def measured(self, queue_total: int | None, *, is_paused: bool) -> None:
        """What only a look tells: how many messages the queue has (None: as before), and whether it is shut."""
        with self._changed:
            elsewhere = self._elsewhere
            if queue_total is not None:
                elsewhere = max(0, queue_total - self._counts["queued"] - self._counts["in_flight"])
            if (elsewhere, is_paused) != (self._elsewhere, self._is_paused):
                self._elsewhere, self._is_paused = elsewhere, is_paused
                self._advance()

    def set(self, part: str, value: Any) -> None:
        """Replace a part that is told as a whole: meta, faults, load."""
        with self._changed:
            if self._parts.get(part, (0, None))[1] != value:
                self._parts[part] = (self._advance(), value)

    def close(self) -> None:
        """Nobody waits any more."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()

    # What is shown

    @property
    def revision(self) -> int:
        """Of the last change."""
        return self._revision

    @property
    def is_busy(self) -> bool:
        """Whether anything is on the queue or may come to wait there."""
        with self._changed:
            return bool(self._is_paused or self._elsewhere or self._counts["queued"] or self._counts["in_flight"])

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will come."""
        return self._closed.is_set()

    def wait_for_change(self, revision: int, timeout_seconds: float) -> bool:
        """Whether something has changed after the revision, or the board was closed, before the time was over."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_closed or self._revision > revision, timeout_seconds)

    def pause(self, seconds: float) -> None:
        """Return after that time, or as soon as the board is closed."""
        self._closed.wait(seconds)

    def changes(self, since: int) -> tuple[int, str]:
        """The revision now, and JSON of what changed after ``since``; of everything for 0."""
        with self._changed:
            told = {name: json.dumps(value) for name, (at, value) in self._parts.items() if at > since}
            told["strip"] = json.dumps(self._strip())
            messages, replies = self._changed_keys(since)
            _tell(told, "messages", map(self._drawing, messages))
            _tell(told, "replies", (json.dumps(self._reply(reply)) for reply in replies))
            _tell(told, "events", (event for at, event in self._events if at > since))
            if self._letters_changed > since:
                letters = list(self._letters.values())[-LETTERS_SHOWN:]
                told["dead_letters"] = json.dumps(
                    [letter_view(letter, known=letter.message_id in self._groups) for letter in letters]
                )
            return self._revision, "{" + ", ".join(f'"{name}": {text}' for name, text in told.items()) + "}"

    def life(self, key: str) -> dict[str, Any] | None:
        """One message's timeline; None if there is no such message."""
        with self._changed:
            if key not in self._groups:
                return None
            return life_of(self._facts(key), self._submission(key))

    def _strip(self) -> dict[str, Any]:
        numbers = {name: self._counts[name] for name in GROUPS}
        return {
            **numbers,
            "queued": numbers["queued"] + self._elsewhere,
            "dead_letters": len(self._letters),
            "health": self._health.get("state", "unknown"),
            "health_reason": self._health.get("reason"),
            "checked_at": self._health.get("checked_at"),
            "paused": self._is_paused,
            "pause_reason": self._health.get("pause_reason") if "paused_by" in self._health else None,
        }

    def _changed_keys(self, since: int) -> tuple[list[str], list[str]]:
        if since:
            return self._latest_messages.since(since), self._latest_replies.since(since)
        newest = islice(reversed(self._groups), MESSAGES_AT_FIRST)
        return list(newest)[::-1], list(self._replies)[-MESSAGES_AT_FIRST:]

    def _drawing(self, key: str) -> str:
        if key not in self._drawn:
            self._drawn[key] = json.dumps(message_view(self._facts(key), self._submission(key)))
        return self._drawn[key]

    def _reply(self, gateway_id: str) -> dict[str, Any]:
        row = self._replies[gateway_id]
        return reply_view(row, self._key_of.get(str(row.get("in_reply_to"))))

    # What is known of a message

    def _facts(self, key: str) -> Facts:
        ledger, sent = self._ledger.get(key, {}), self._submission(key)
        gateway_id = self._row_of.get(key, "")
        return Facts(
            key,
            ledger,
            self._rows.get(gateway_id, {}),
            tuple(self._replies[reply] for reply in self._answers.get(gateway_id, ())),
            queued_at=sent.queued_at if sent and "queued_at" not in ledger else None,
        )

    def _submission(self, key: str) -> QueuedMessage | None:
        """What was put on the queue under a key; of several what is being sent, as far as the ledger says."""
        submissions = self._submissions.get(key, {})
        if "payload_sha256" in self._ledger.get(key, {}):
            return submissions.get(str(self._ledger[key]["payload_sha256"]))
        return next(iter(submissions.values()), None)

    def _submitted(self, key: str, sent: QueuedMessage) -> None:
        """A message that comes again is no news."""
        if sent.message.payload_sha256 not in self._submissions[key]:
            self._submissions[key][sent.message.payload_sha256] = sent
            self._message_changed(key)

    def _ledger_changed(self, key: str, item: Item) -> None:
        self._ledger[key] = item
        if "gateway_id" in item:
            self._tie(key, str(item["gateway_id"]))
        self._message_changed(key)

    def _row_changed(self, gateway_id: str, row: Item) -> None:
        """A row that no message is known for waits for it, unseen."""
        self._rows[gateway_id] = row
        if "message_id" in row:
            self._tie(str(row["message_id"]), gateway_id)
        if gateway_id in self._key_of:
            self._message_changed(self._key_of[gateway_id])

    def _tie(self, key: str, gateway_id: str) -> None:
        if self._key_of.get(gateway_id) == key:
            return
        self._key_of[gateway_id], self._row_of[key] = key, gateway_id
        for reply in self._answers.get(gateway_id, ()):
            self._latest_replies.changed(reply, self._advance())

    def _reply_changed(self, gateway_id: str, row: Item) -> None:
        answered = str(row.get("in_reply_to"))
        if gateway_id not in self._replies:
            self._answers[answered].append(gateway_id)
        self._replies[gateway_id] = row
        self._latest_replies.changed(gateway_id, self._advance())
        if answered in self._key_of:
            self._message_changed(self._key_of[answered])

    def _message_changed(self, key: str) -> None:
        before, after = self._groups.get(key, ()), groups(self._facts(key))
        self._counts.subtract(before)
        self._counts.update(after)
        self._groups[key] = after
        self._drawn.pop(key, None)
        self._latest_messages.changed(key, self._advance())

    def _advance(self) -> int:
        self._revision += 1
        self._changed.notify_all()
        return self._revision


def _tell(told: dict[str, str], name: str, items: Iterable[str]) -> None:
    """Add a list to what is told, unless it is empty."""
    if found := list(items):
        told[name] = f"[{', '.join(found)}]"
