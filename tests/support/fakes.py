"""In-memory doubles of everything outside the use cases: simple data, the same decisions as the real ones.

`MemoryLedger` and `MemoryMessageStore` pass the same tests as their DynamoDB counterparts (tests/contract), so a test
that uses them says something about the real ones. All are safe for many threads.

A hook sees each operation twice: ``hook("ledger.claim", "before")`` and, if it was done, ``hook("ledger.claim",
"after")``. It is called outside the lock, so it may block (a scheduler that chooses who goes on) or raise (a fault). An
error raised before an operation is a write that never happened; one raised after it is a write whose answer was lost.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from aws_lambda_powertools.utilities.typing import LambdaContext

from optus_sms.aws.queues import DeadLetter, Queues
from optus_sms.gateway.api import Gateway, Outcome, PostResult
from optus_sms.gateway.credentials import CallbackSecret, GatewayCredentials, GatewaySecret
from optus_sms.model.callbacks import ReplyCallback, StatusCallback
from optus_sms.model.statuses import FINAL_STATUSES, STATUS_RANK, contradicts
from optus_sms.model.times import Clock, format_rfc3339
from optus_sms.records.ledger import (
    ABANDONED_SECONDS,
    KEEP_SECONDS,
    LAPSE_SECONDS,
    UNRESOLVED_SECONDS,
    Claim,
    Entry,
    LedgerRecord,
    State,
)
from optus_sms.records.messages import (
    FIRST_LOOK_SECONDS,
    MATCH_SECONDS,
    Applied,
    Awaiting,
    IdTakenError,
    SentMessage,
    StatusResult,
)
from optus_sms.records.table import Item, Value, shard

Moment = Literal["before", "after"]
Hook = Callable[[str, Moment], None]

MAX_UNKNOWN_STATUSES = 20
MAX_REPEATS = 20


def no_hook(_step: str, _moment: Moment) -> None:
    """Nobody looks."""


class _Steps:
    """One lock for each double, and the hook around each operation."""

    def __init__(self, name: str, hook: Hook) -> None:
        self.hook = hook
        self._name = name
        self._one_at_a_time = threading.RLock()

    @contextmanager
    def _step(self, operation: str) -> Iterator[None]:
        self.hook(f"{self._name}.{operation}", "before")
        with self._one_at_a_time:
            yield
        self.hook(f"{self._name}.{operation}", "after")


class MemoryLedger(_Steps):
    """`records.ledger.Ledger` in dictionaries. Tests may read and change all of them, when nobody else does."""

    def __init__(self, hook: Hook = no_hook) -> None:
        super().__init__("ledger", hook)
        self.records: dict[str, LedgerRecord] = {}
        self.ttls: dict[str, int] = {}
        self.other_gateway_ids: dict[str, frozenset[str]] = {}
        self.history: dict[str, frozenset[str]] = {}
        self.queued_at: dict[str, str] = {}
        self.message_keys: dict[str, frozenset[str]] = {}  # by reference
        self.look_at: dict[str, int] = {}  # of what is undecided
        self.unresolved_at: dict[str, float] = {}

    def claim(
        self, entry: Entry, *, owner: str, lease_until: int, now: float, after: LedgerRecord | None = None
    ) -> Claim | LedgerRecord:
        with self._step("claim"):
            old = self.records.get(entry.key)
            if not _may_claim(old, entry, after):
                refused_by = old or _vanished(entry.key)
                if refused_by.state is State.SENDING and refused_by.owner == owner:
                    return _claim_of(refused_by)
                return refused_by
            new = replace(
                old or LedgerRecord(entry.key, State.SENDING, on_unknown=entry.on_unknown),
                state=State.SENDING,
                owner=owner,
                lease_until=lease_until,
                attempts=(old.attempts if old else 0) + 1,
                payload_sha256=entry.payload_sha256,
                destination=entry.destination,
                segments=entry.segments,
                masked=entry.masked,
                reference=entry.reference or (old.reference if old else None),
            )
            self.records[entry.key] = new
            self.ttls[entry.key] = entry.ttl
            self.look_at[entry.key] = lease_until + LAPSE_SECONDS
            self._note(entry.key, now, "claimed")
            if entry.queued_at is not None:
                self.queued_at.setdefault(entry.key, entry.queued_at)
            return _claim_of(new)

    def register_reference(self, reference: str, key: str, *, ttl: int) -> None:
        with self._step("register_reference"):
            keys = self.message_keys.get(reference, frozenset())
            if len(keys) < 2:
                self.message_keys[reference] = keys | {key}

    def expired(self, entry: Entry, *, now: float) -> LedgerRecord | None:
        with self._step("expired"):
            old = self.records.get(entry.key)
            if not _may_claim(old, entry, None):
                return old
            base = old or LedgerRecord(entry.key, State.EXPIRED, payload_sha256=entry.payload_sha256)
            self.records[entry.key] = replace(base, state=State.EXPIRED, destination=None, segments=None, masked=False)
            self.look_at.pop(entry.key, None)
            self.ttls[entry.key] = entry.ttl
            return None

    def accepted(self, claim: Claim, entry: Entry, gateway_id: str | None, *, now: float) -> LedgerRecord | None:
        with self._step("accepted"):
            old = self.records.get(claim.key)
            if old is not None and gateway_id is None and old.gateway_id is not None:
                return None
            if old is not None and gateway_id is not None and old.gateway_id not in (None, gateway_id):
                others = self.other_gateway_ids.get(claim.key, frozenset())
                self.other_gateway_ids[claim.key] = others | {gateway_id}
                return old
            base = old or LedgerRecord(claim.key, State.ACCEPTED)
            new = replace(
                base,
                state=State.ACCEPTED,
                lease_until=0,
                payload_sha256=base.payload_sha256 or entry.payload_sha256,
                accepted_at=base.accepted_at or format_rfc3339(now),
            )
            self.look_at[claim.key] = entry.ttl - KEEP_SECONDS + UNRESOLVED_SECONDS
            if gateway_id is not None:
                del self.look_at[claim.key]
                new = replace(new, gateway_id=gateway_id, destination=None, segments=None, masked=False)
            self.records[claim.key] = new
            self.ttls.setdefault(claim.key, entry.ttl)
            return None

    def not_sent(self, claim: Claim, reason: str, *, now: float) -> LedgerRecord | None:
        with self._step("not_sent"):
            line = (now, "not_sent", claim.attempt, reason)
            look_at = int(now) + ABANDONED_SECONDS
            refused_by = self._leave_sending(claim, State.RETRY, line, look_at=look_at, reason=reason)
            if refused_by is not None and claim.key in self.records:
                self._note(claim.key, now, "not_sent_late", claim.attempt, reason)
            return refused_by

    def rejected(self, claim: Claim, reason: str, detail: str, *, now: float) -> LedgerRecord | None:
        with self._step("rejected"):
            gone = {"destination": None, "segments": None, "masked": False}
            line = (now, "rejected", claim.attempt, f"{reason} {detail}")
            return self._leave_sending(claim, State.REJECTED, line, look_at=None, reason=reason, detail=detail, **gone)

    def unknown(self, claim: Claim, reason: str, *, now: float) -> LedgerRecord | None:
        with self._step("unknown"):
            return self._unknown(claim, reason, now)

    def lapsed(self, record: LedgerRecord, *, now: float) -> LedgerRecord | None:
        with self._step("lapsed"):
            return self._unknown(_claim_of(record), "owner_lost", now)

    def extend(self, key: str, *, ttl: int) -> None:
        with self._step("extend"):
            if key in self.ttls:
                self.ttls[key] = max(self.ttls[key], ttl)

    def read(self, key: str) -> LedgerRecord | None:
        with self._step("read"):
            return self.records.get(key)

    def sender_of(self, reference: str) -> LedgerRecord | None:
        with self._step("sender_of"):
            registered = self.message_keys.get(reference, frozenset())
            if len(registered) > 1:
                return None
            candidates = [self.records[key] for key in {reference} | registered if key in self.records]
            answering = [record for record in candidates if (record.reference or record.key) == reference]
            return answering[0] if len(answering) == 1 else None

    def due(self, state: State, *, now: float, limit: int) -> Iterator[LedgerRecord]:
        with self._step("due"):
            listed = [key for key, at in self.look_at.items() if at <= now and self.records[key].state is state]
            return (self.records[key] for key in listed[:limit])

    def count_undecided(self, state: State) -> int:
        with self._step("count_undecided"):
            return sum(self.records[key].state is state for key in self.look_at)

    def give_up(self, record: LedgerRecord, *, now: float) -> bool:
        with self._step("give_up"):
            current = self.records.get(record.key, _vanished(record.key))
            same = (current.state, current.owner, current.attempts) == (record.state, record.owner, record.attempts)
            if not same or self.look_at.pop(record.key, None) is None:
                return False
            self.unresolved_at[record.key] = now
            return True

    def resolve_by_callback(self, key: str, gateway_id: str, *, now: float) -> LedgerRecord | None:
        with self._step("resolve_by_callback"):
            old = self.records.get(key)
            if old is None or old.gateway_id is not None:
                return None
            if old.state in (State.REJECTED, State.EXPIRED) and old.unknown_outcomes == 0:
                return None
            self.records[key] = replace(
                old,
                state=State.ACCEPTED,
                gateway_id=gateway_id,
                accepted_at=old.accepted_at or format_rfc3339(now),
                lease_until=0,
                destination=None,
                segments=None,
                masked=False,
            )
            self.look_at.pop(key, None)
            return old

    def resolve_sent(self, key: str, gateway_id: str | None, *, by: str, now: float) -> LedgerRecord | None:
        with self._step("resolve_sent"):
            old = self.records.get(key, _vanished(key))
            if not self._may_resolve(key):
                return old
            new = replace(old, state=State.ACCEPTED, lease_until=0, accepted_at=old.accepted_at or format_rfc3339(now))
            self.look_at[key] = int(now) + UNRESOLVED_SECONDS
            if gateway_id is not None:
                del self.look_at[key]
                new = replace(new, gateway_id=gateway_id, destination=None, segments=None, masked=False)
            self.records[key] = new
            self._note(key, now, "resolved_sent", words=by)
            return None

    def resolve_not_sent(self, key: str, *, by: str, now: float) -> LedgerRecord | None:
        with self._step("resolve_not_sent"):
            old = self.records.get(key, _vanished(key))
            if not self._may_resolve(key):
                return old
            self._retry_again(old, "resolved_not_sent", by, now)
            return None

    def reopen(self, record: LedgerRecord, *, by: str, now: float) -> LedgerRecord | None:
        with self._step("reopen"):
            old = self.records.get(record.key, _vanished(record.key))
            same = (old.owner, old.attempts) == (record.owner, record.attempts)
            if not same or old.state is not State.REJECTED or old.unknown_outcomes:
                return old
            self._retry_again(old, "reopened", by, now)
            return None

    def _may_resolve(self, key: str) -> bool:
        old = self.records.get(key)
        if old is None or old.gateway_id is not None:
            return False
        after_unknown = old.state in (State.REJECTED, State.EXPIRED) and old.unknown_outcomes > 0
        return old.state is State.UNKNOWN or after_unknown

    def _retry_again(self, old: LedgerRecord, what: str, by: str, now: float) -> None:
        self.records[old.key] = replace(old, state=State.RETRY, lease_until=0, earlier_attempts=old.attempts)
        self.look_at[old.key] = int(now) + ABANDONED_SECONDS
        self._note(old.key, now, what, words=by)

    def _note(self, key: str, now: float, what: str, attempt: int = 0, words: str = "") -> None:
        line = f"{format_rfc3339(now)} {what} {attempt} {words}"
        self.history[key] = self.history.get(key, frozenset()) | {line}

    def _unknown(self, claim: Claim, reason: str, now: float) -> LedgerRecord | None:
        outcomes = self.records.get(claim.key, _vanished(claim.key)).unknown_outcomes + 1
        look_at = self.ttls.get(claim.key, int(now) + KEEP_SECONDS) - KEEP_SECONDS + UNRESOLVED_SECONDS
        changes = {"reason": reason, "unknown_at": int(now), "unknown_outcomes": outcomes}
        line = (now, "unknown", claim.attempt, reason)
        return self._leave_sending(claim, State.UNKNOWN, line, look_at=look_at, **changes)

    def _leave_sending(
        self, claim: Claim, to: State, line: tuple[float, str, int, str], *, look_at: int | None, **changes: Any
    ) -> LedgerRecord | None:
        old = self.records.get(claim.key, _vanished(claim.key))
        mine = (old.owner, old.attempts) == (claim.owner, claim.attempt)
        if mine and old.state is State.SENDING:
            self.records[claim.key] = replace(old, state=to, lease_until=0, **changes)
            self._note(claim.key, *line)
            if look_at is None:
                self.look_at.pop(claim.key, None)
            else:
                self.look_at[claim.key] = look_at
            return None
        return None if mine and old.state is to else old


def _may_claim(old: LedgerRecord | None, entry: Entry, after: LedgerRecord | None) -> bool:
    if after is not None:
        return (
            old is not None
            and (old.state, old.payload_sha256) == (State.UNKNOWN, entry.payload_sha256)
            and (old.owner, old.attempts) == (after.owner, after.attempts)
        )
    return old is None or (old.state, old.payload_sha256) == (State.RETRY, entry.payload_sha256)


def _claim_of(record: LedgerRecord) -> Claim:
    return Claim(
        record.key,
        record.owner,
        record.attempts,
        record.on_unknown,
        record.unknown_outcomes,
        record.earlier_attempts,
    )


def _vanished(key: str) -> LedgerRecord:
    return LedgerRecord(key, State.UNKNOWN)


class MemoryMessageStore(_Steps):
    """`optus_sms.records.messages.MessageStore` in a dictionary of rows, with the attribute names of the table."""

    def __init__(self, *, retention_days: int = 90, hook: Hook = no_hook) -> None:
        super().__init__("messages", hook)
        self.rows: dict[str, Item] = {}
        self._keep_seconds = retention_days * 86_400

    def record_sent(self, message: SentMessage, *, now: float) -> None:
        at = format_rfc3339(now)
        known: dict[str, Value | None] = {
            "direction": "MT",
            "message_id": message.message_id,
            "reference": message.reference,
            "destination": message.destination,
            "handset": message.destination,
            "segments": message.segments,
            "masked": message.masked,
            "awaiting": shard(Awaiting.STATUS, message.gateway_id),
            "look_at": int(max(now, message.scheduled_at or 0)) + FIRST_LOOK_SECONDS,
        }
        first: dict[str, Value | None] = {
            "status": "accepted",
            "status_rank": STATUS_RANK["accepted"],
            "accepted_at": at,
            "created_at": format_rfc3339(max(now, message.scheduled_at or 0)) if message.destination else None,
        }
        with self._step("record_sent"):
            row = self._update(message.gateway_id, now, known, first)
            if row["status"] in FINAL_STATUSES:
                self._wait_no_more(message.gateway_id)

    def await_message(self, gateway_id: str, *, now: float) -> None:
        with self._step("await_message"):
            if "message_id" not in self.rows.get(gateway_id, {"message_id": "-"}):
                self.rows[gateway_id] |= {
                    "awaiting": shard(Awaiting.MESSAGE, gateway_id),
                    "look_at": int(now) + MATCH_SECONDS,
                }

    def due(self, awaiting: Awaiting, *, now: float, limit: int) -> Iterator[Item]:
        with self._step("due"):
            waiting = [row for row in self.rows.values() if _awaits(row, awaiting)]
            return iter([dict(row) for row in waiting if cast("int", row["look_at"]) <= now][:limit])

    def count_awaiting(self, awaiting: Awaiting) -> int:
        with self._step("count_awaiting"):
            return sum(_awaits(row, awaiting) for row in self.rows.values())

    def look_again(self, gateway_id: str, awaiting: Awaiting, *, at: float) -> None:
        with self._step("look_again"):
            row = self.rows[gateway_id]
            if _awaits(row, awaiting):
                row |= {"look_at": int(at), "looks": cast("int", row.get("looks", 0)) + 1}

    def stop_waiting(self, gateway_id: str, awaiting: Awaiting) -> None:
        with self._step("stop_waiting"):
            if _awaits(self.rows[gateway_id], awaiting):
                self._wait_no_more(gateway_id)

    def give_up(self, gateway_id: str, awaiting: Awaiting, *, now: float) -> None:
        with self._step("give_up"):
            if _awaits(self.rows[gateway_id], awaiting):
                self.rows[gateway_id]["unresolved_at"] = format_rfc3339(now)
                self._wait_no_more(gateway_id)

    def _wait_no_more(self, gateway_id: str) -> None:
        for name in ("awaiting", "look_at"):
            self.rows[gateway_id].pop(name, None)

    def record_status(self, callback: StatusCallback, *, now: float) -> StatusResult:
        key, status = callback.gateway_id, callback.status
        with self._step("record_status"):
            old = self.rows.get(key, {})
            if old.get("direction") == "MO":
                raise IdTakenError(key)
            if status is None:
                row = self._update(key, now, {"direction": "MT"}, {"reference": callback.reference})
                return StatusResult(Applied.NO_STATUS, row, False)
            if status not in STATUS_RANK:
                return self._record_unknown_status(callback, status, old, now)
            return self._record_known_status(callback, status, old, now)

    def _record_unknown_status(self, callback: StatusCallback, status: str, old: Item, now: float) -> StatusResult:
        unknown = cast("frozenset[str]", old.get("unknown_statuses", frozenset()))
        if len(unknown) >= MAX_UNKNOWN_STATUSES:
            return StatusResult(Applied.DUPLICATE, dict(old), False)
        known: Item = {"direction": "MT", "unknown_statuses": unknown | {status}}
        row = self._update(callback.gateway_id, now, known, {"reference": callback.reference})
        return StatusResult(Applied.UNKNOWN_STATUS, row, False)

    def _record_known_status(self, callback: StatusCallback, status: str, old: Item, now: float) -> StatusResult:
        key, rank = callback.gateway_id, STATUS_RANK[status]
        known: Item = {"direction": "MT"}
        first = {"reference": callback.reference, f"{status}_at": format_rfc3339(now)}
        if cast("int", old.get("status_rank", -1)) < rank:
            row = self._update(key, now, known | {"status": status, "status_rank": rank}, first)
            self.rows[key] = row = _with_detail(row, callback.detail)
            if status in FINAL_STATUSES:
                self._wait_no_more(key)
            return StatusResult(Applied.APPLIED, dict(row), _contradictory(row))
        if f"{status}_at" not in old:
            row = self._update(key, now, known, first)
            return StatusResult(Applied.STALE, row, _contradictory(row))
        repeat = _repeat(old, status, cast("str", old[f"{status}_at"]), format_rfc3339(now))
        if old["status"] == status and (callback.detail or "") > str(old.get("detail", "")):
            self.rows[key] = _with_detail(old, callback.detail)
        if repeat or (callback.reference and "reference" not in old):
            row = self._update(key, now, known | repeat, {"reference": callback.reference})
        return StatusResult(Applied.DUPLICATE, dict(self.rows[key]), False)

    def record_reply(self, reply: ReplyCallback, *, in_reply_to: str | None, exact: bool, now: float) -> bool:
        at = format_rfc3339(now)
        values: dict[str, Value | None] = {
            "direction": "MO",
            "source": reply.source,
            "handset": reply.handset,
            "destination": reply.destination,
            "content": reply.content,
            "operator": reply.operator,
            "encoding": reply.encoding,
            "decoded": reply.decoded if reply.encoding else None,
            "reference": reply.reference,
            "in_reply_to": in_reply_to,
            "reply_match": ("exact" if exact else "inferred") if in_reply_to else None,
            "received_at": at,
            "created_at": at,
        }
        with self._step("record_reply"):
            old = self.rows.get(reply.gateway_id)
            if old is not None and old.get("direction") != "MO":
                raise IdTakenError(reply.gateway_id)
            if old is None:
                self._update(reply.gateway_id, now, values, {})
            elif repeat := _repeat(old, "reply", cast("str", old["received_at"]), at):
                self._update(reply.gateway_id, now, repeat, {})
            return old is None

    def latest_sent_to(self, handset: str, *, since: float, until: float) -> str | None:
        with self._step("latest_sent_to"):
            sent = [
                row
                for row in self.rows.values()
                if (row.get("handset"), row.get("direction"), row.get("masked")) == (handset, "MT", False)
                and format_rfc3339(since) <= cast("str", row.get("created_at", "")) <= format_rfc3339(until)
            ]
            return cast("str", max(sent, key=lambda row: cast("str", row["created_at"]))["id"]) if sent else None

    def _update(
        self, key: str, now: float, known: Mapping[str, Value | None], first: Mapping[str, Value | None]
    ) -> Item:
        old = self.rows.get(key, {"id": key})
        row = {**_present(first), **old, **_present(known), "ttl": int(now) + self._keep_seconds}
        self.rows[key] = row
        return dict(row)


def _awaits(row: Item, awaiting: Awaiting) -> bool:
    return row.get("awaiting") == shard(awaiting, cast("str", row["id"]))


def _present(values: Mapping[str, Value | None]) -> Item:
    return {name: value for name, value in values.items() if value is not None}


def _repeat(row: Item, what: str, first_at: str, at: str) -> Item:
    kept = cast("frozenset[str]", row.get("repeats", frozenset()))
    return {"repeats": kept | {f"{at} {what}"}} if at != first_at and len(kept) < MAX_REPEATS else {}


def _with_detail(row: Item, detail: str | None) -> Item:
    kept = {name: value for name, value in row.items() if name != "detail"}
    return {**kept, "detail": detail} if detail else kept


def _contradictory(row: Item) -> bool:
    return contradicts(status for status in STATUS_RANK if f"{status}_at" in row)


@dataclass(frozen=True, slots=True)
class GivenBack:
    """One change of visibility."""

    receipt_handle: str
    seconds: int


class RecordingQueues(_Steps, Queues):
    """Remembers what was asked of it, in order."""

    def __init__(self, hook: Hook = no_hook) -> None:
        super().__init__("queues", hook)
        self.given_back: list[GivenBack] = []
        self.dead_letters: list[DeadLetter] = []

    def give_back(self, receipt_handle: str, *, seconds: int) -> None:
        with self._step("give_back"):
            self.given_back.append(GivenBack(receipt_handle, seconds))

    def dead_letter(self, letter: DeadLetter, *, now: float) -> None:
        with self._step("dead_letter"):
            self.dead_letters.append(letter)


@dataclass(frozen=True, slots=True)
class Step:
    """What the gateway does with one POST: what we learn, and whether a handset gets an SMS."""

    outcome: PostResult
    accepted: bool


@dataclass(frozen=True, slots=True)
class Post:
    """One POST as the gateway saw it."""

    fields: Mapping[str, Any]
    credentials: GatewayCredentials
    start_within: float


Script = Sequence[PostResult | Step] | Callable[[Post], PostResult | Step]


class ScriptedGateway(_Steps, Gateway):
    """A gateway whose answers are written down beforehand.

    ``script``: outcomes in order, or a function of the POST; when they are used up, everything is accepted. In a batch,
    whose order nobody knows, ``by_reference`` has a script of its own for a reference. ``posts`` and ``accepted`` (how
    many SMS each reference became) are what the tests count.
    """

    def __init__(
        self,
        script: Script = (),
        *,
        by_reference: Mapping[str, Script] | None = None,
        timeout_seconds: float = 10.0,
        hook: Hook = no_hook,
    ) -> None:
        super().__init__("gateway", hook)
        self.timeout_seconds = timeout_seconds
        self.posts: list[Post] = []
        self.accepted: Counter[str] = Counter()
        self._next = _reader(script)
        self._next_of = {reference: _reader(own) for reference, own in (by_reference or {}).items()}

    def post_message(
        self, fields: Mapping[str, Any], credentials: GatewayCredentials, *, start_within: float
    ) -> PostResult:
        with self._step("post_message"):
            post = Post(dict(fields), credentials, start_within)
            self.posts.append(post)
            reference = str(fields.get("reference", ""))
            step = self._next_of.get(reference, self._next)(post)
            if step is None:
                step = PostResult(Outcome.ACCEPTED, "accepted", 202, f"gw-{len(self.posts)}", seconds=0.25)
            if not isinstance(step, Step):
                step = Step(step, accepted=step.outcome is Outcome.ACCEPTED)
            if step.accepted:
                self.accepted[reference] += 1
            return step.outcome

    def posts_of(self, reference: str) -> int:
        """How often a message was posted."""
        return sum(post.fields.get("reference") == reference for post in self.posts)


def _reader(script: Script) -> Callable[[Post], PostResult | Step | None]:
    if callable(script):
        return script
    steps = iter(script)
    return lambda _post: next(steps, None)


class FixedSecret(_Steps, GatewaySecret):
    """The versions of a secret, in the order in which a rotation brings them.

    The first is current; `newer_than` moves on to the next, if there is one. ``batches`` counts `forget_refused`.
    """

    def __init__(self, *versions: GatewayCredentials, hook: Hook = no_hook) -> None:
        super().__init__("secret", hook)
        self.versions = list(versions or [GatewayCredentials("example-app", "example-password")])
        self.batches = 0

    def current(self) -> GatewayCredentials:
        with self._step("current"):
            return self.versions[0]

    def newer_than(self, refused: GatewayCredentials) -> GatewayCredentials | None:
        with self._step("newer_than"):
            if self.versions[0] == refused and len(self.versions) > 1:
                del self.versions[0]
            return None if self.versions[0] == refused else self.versions[0]

    def forget_refused(self) -> None:
        with self._step("forget_refused"):
            self.batches += 1


class FixedCallbackSecret(_Steps, CallbackSecret):
    """Admits exactly these Authorization headers."""

    def __init__(self, *authorizations: str, hook: Hook = no_hook) -> None:
        super().__init__("secret", hook)
        self._authorizations = frozenset(authorizations)

    def admits(self, authorization: str) -> bool:
        with self._step("admits"):
            return authorization in self._authorizations


@dataclass
class FakeClock:
    """Time that passes only when somebody sleeps or a test says so; `clock` is it as `optus_sms.model.times.Clock`."""

    epoch: float = 1_767_225_600.0  # 2026-01-01T00:00:00Z
    started: float = 1_000.0
    sleeps: list[float] = field(default_factory=list)
    _elapsed: float = field(default=0.0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def clock(self) -> Clock:
        return Clock(now=self.now, monotonic=self.monotonic, sleep=self.sleep)

    def now(self) -> float:
        with self._lock:
            return self.epoch + self._elapsed

    def monotonic(self) -> float:
        with self._lock:
            return self.started + self._elapsed

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.sleeps.append(seconds)
            self._elapsed += seconds

    def advance(self, seconds: float) -> None:
        """Let time pass without anybody sleeping."""
        with self._lock:
            self._elapsed += seconds


class FakeLambdaContext(LambdaContext):
    """What Lambda gives a handler; ``remaining_seconds`` stays as it is."""

    def __init__(self, function_name: str = "optus-sms-function", *, remaining_seconds: float = 60.0) -> None:
        self._function_name = function_name
        self._function_version = "$LATEST"
        self._invoked_function_arn = f"arn:aws:lambda:ap-southeast-2:123456789012:function:{function_name}"
        self._memory_limit_in_mb = 512
        self._aws_request_id = "8f5c1b9e-6f0a-4f0e-9a53-2f3f2f0d7c11"
        self._log_group_name = f"/aws/lambda/{function_name}"
        self._log_stream_name = "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef"
        self._remaining_seconds = remaining_seconds

    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override] # a static method in the typing stub only
        return int(self._remaining_seconds * 1000)
