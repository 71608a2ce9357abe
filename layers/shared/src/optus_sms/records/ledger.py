"""`SendLedgerTable`: what we did with each message, so that nobody does it twice.

::

    absent ─┬─ claim ──► SENDING ─┬─ accepted ──► ACCEPTED      every write out of SENDING is conditional on owner and
            │              ▲  ▲   ├─ not sent ──► RETRY ──┐     attempt; proof of acceptance wins over all
            │              │  └───┼────── claim ──────────┘
            │              │      ├─ refused ───► REJECTED
            │              │      └─ unknown, or lease over ──► UNKNOWN ─┬─ a callback's proof ──► ACCEPTED
            │              └──────────────── claim again (`resend`, once) ┘
            └─ past expires_at ──► EXPIRED   (from RETRY too)

An operator (the command line) may resolve UNKNOWN as sent (ACCEPTED) or not sent (RETRY), and let a REJECTED be tried
again (RETRY); who and when is kept.

Items: ``msg#<key>``, one message; ``ref#<reference>``, the keys behind a sender's own reference (two keys make it
ambiguous for good, and then no more are kept); ``health#gateway`` belongs to `optus_sms.records.health`. No
message text; the destination only until the outcome is known, so that a late callback can complete the conversation.

``history`` holds a line for each claim, each outcome but acceptance, and each act of a person (`steps` reads them), in
writes that happen anyway: of many tries every one can be explained.

While nothing is decided (SENDING, RETRY, UNKNOWN, and ACCEPTED without an id), a record has ``undecided`` and
``look_at``, and is listed in the sparse index of these names for `optus_sms.flows.reconcile_messages`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, cast

from botocore.exceptions import ClientError

from optus_sms.model.times import format_rfc3339
from optus_sms.records.table import DueIndex, Item, Value, marshal, refused_item, shard, unmarshal

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from optus_sms.runtime.settings import OnUnknown

# Longer than queue (10 days), dead-letter queue (14), queue and dead-letter queue again after a redrive.
KEEP_SECONDS: Final = 60 * 86_400
# When an undecided record is looked at again (docs/outages.md).
LAPSE_SECONDS: Final = 15 * 60  # after its lease: long after the queue has delivered the message again
UNRESOLVED_SECONDS: Final = (
    8 * 86_400
)  # after claim or schedule: carriers try for 7 days (Optus, "SMS delivery retry process")
ABANDONED_SECONDS: Final = 11 * 86_400  # after the last try: the queue keeps a message for 10 days
_REFRESH_SECONDS: Final = 86_400  # at most one write a day keeps a reference that many messages share
UNDECIDED_INDEX: Final = "undecided-index"
_ALIAS: Final = re.compile(r"#[a-z_]+")  # names that DynamoDB reserves are written so in the expressions below


class State(StrEnum):
    """Where a message stands."""

    SENDING = "SENDING"
    RETRY = "RETRY"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a message before it is sent; ``ttl`` is when the ledger may forget it (epoch seconds)."""

    key: str
    payload_sha256: str
    on_unknown: OnUnknown
    reference: str | None
    destination: str
    segments: int
    masked: bool
    ttl: int
    queued_at: str | None = None  # RFC 3339, for whoever follows the message's life


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """A ledger record. Times are epoch seconds; ``attempts`` counts claims, which fences late writers."""

    key: str
    state: State
    owner: str = ""
    attempts: int = 0
    lease_until: int = 0
    payload_sha256: str | None = None
    on_unknown: OnUnknown = "hold"
    unknown_outcomes: int = 0
    unknown_at: int = 0
    gateway_id: str | None = None
    reason: str = ""
    detail: str = ""
    reference: str | None = None
    destination: str | None = None
    segments: int | None = None
    masked: bool = False
    accepted_at: str | None = None
    earlier_attempts: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to send once: held by ``owner`` in ``attempt`` until it writes an outcome or the lease ends."""

    key: str
    owner: str
    attempt: int
    on_unknown: OnUnknown
    unknown_outcomes: int
    earlier_attempts: int = 0  # before a person let it be tried again; they don't count towards the most there may be


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One line of a record's history. ``at``: RFC 3339, UTC. ``attempt``: 0 for what a person did.

    ``what`` and its ``words``: ``claimed`` (none); ``not_sent`` and ``unknown`` (why); ``not_sent_late`` (why; learned
    after a takeover, changed nothing); ``rejected`` (the dead letter's reason, then why); ``resolved_sent``,
    ``resolved_not_sent`` and ``reopened`` (who).
    """

    at: str
    what: str
    attempt: int
    words: str


def steps(item: Item) -> list[HistoryLine]:
    """What happened to the message of a ledger item, in time order."""
    found: list[HistoryLine] = []
    for line in sorted(cast("frozenset[str]", item.get("history", frozenset()))):
        at, what, attempt, words = line.split(" ", 3)
        # A claim is written before anybody knows which one it is.
        claims = sum(step.what == "claimed" for step in found) + 1
        found.append(HistoryLine(at, what, claims if what == "claimed" else int(attempt), words))
    return found


class Ledger(Protocol):
    """What the use cases need; every implementation passes tests/contract/records/test_ledger.py.

    Writes return None when they were done, and the record that refused them when not: a refusal is an answer.
    """

    def claim(
        self, entry: Entry, *, owner: str, lease_until: int, now: float, after: LedgerRecord | None = None
    ) -> Claim | LedgerRecord:
        """Absent or RETRY with the same payload → SENDING. With ``after``, that very UNKNOWN record → SENDING."""

    def register_reference(self, reference: str, key: str, *, ttl: int) -> None:
        """Note that ``key`` sends under ``reference``; done before the POST."""

    def expired(self, entry: Entry, *, now: float) -> LedgerRecord | None:
        """Absent or RETRY with the same payload → EXPIRED."""

    def accepted(self, claim: Claim, entry: Entry, gateway_id: str | None, *, now: float) -> LedgerRecord | None:
        """→ ACCEPTED from any state. Refused only if another POST of the message was accepted: both ids are kept."""

    def not_sent(self, claim: Claim, reason: str, *, now: float) -> LedgerRecord | None:
        """SENDING → RETRY. After a takeover it is kept as evidence and changes nothing."""

    def rejected(self, claim: Claim, reason: str, detail: str, *, now: float) -> LedgerRecord | None:
        """SENDING → REJECTED; ``reason`` is a dead letter's."""

    def unknown(self, claim: Claim, reason: str, *, now: float) -> LedgerRecord | None:
        """SENDING → UNKNOWN."""

    def lapsed(self, record: LedgerRecord, *, now: float) -> LedgerRecord | None:
        """The SENDING just read, whose lease is over → UNKNOWN."""

    def extend(self, key: str, *, ttl: int) -> None:
        """Keep a record longer, because a copy of its message goes round again."""

    def read(self, key: str) -> LedgerRecord | None:
        """The record of a message as it is now; None if there is none."""

    def sender_of(self, reference: str) -> LedgerRecord | None:
        """The only record that answers to a reference in a callback; None if there is none or more than one."""

    def due(self, state: State, *, now: float, limit: int) -> Iterator[LedgerRecord]:
        """Undecided records of a state whose time to be looked at has come, as they are now; at most ``limit``."""

    def count_undecided(self, state: State) -> int:
        """How many undecided records have this state."""

    def give_up(self, record: LedgerRecord, *, now: float) -> bool:
        """Look no more at a record that still is as it was read, and note since when. A late proof still counts."""

    def resolve_by_callback(self, key: str, gateway_id: str, *, now: float) -> LedgerRecord | None:
        """A callback proved that this message was sent: SENDING, RETRY, UNKNOWN, or ACCEPTED without an id → ACCEPTED.

        REJECTED and EXPIRED too, if an outcome was unknown before: they are certain of the last attempt only. Returns
        the record as it was before, or None if the proof came too late to matter.
        """

    def resolve_sent(self, key: str, gateway_id: str | None, *, by: str, now: float) -> LedgerRecord | None:
        """A person knows that an unknown outcome was a send → ACCEPTED. See `resolve_by_callback` too."""

    def resolve_not_sent(self, key: str, *, by: str, now: float) -> LedgerRecord | None:
        """A person knows that no try was a send: UNKNOWN, or REJECTED or EXPIRED after one → RETRY, tries anew."""

    def reopen(self, record: LedgerRecord, *, by: str, now: float) -> LedgerRecord | None:
        """A person lets the REJECTED just read be tried again → RETRY. Refused if an outcome was unknown before."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A conditional write was refused by this item; empty if there is none."""

    item: Item


class DynamoLedger:
    """The ledger in DynamoDB. Each method is one conditional write, but for `read` and `sender_of`, which read."""

    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table_name = table_name
        self._undecided = DueIndex(client, table_name, UNDECIDED_INDEX, attribute="undecided", key="pk")

    def claim(
        self, entry: Entry, *, owner: str, lease_until: int, now: float, after: LedgerRecord | None = None
    ) -> Claim | LedgerRecord:
        """See `Ledger.claim`."""
        may_claim = "attribute_not_exists(pk) OR (#state = :retry AND payload_sha256 = :payload)"
        seen: dict[str, Value] = {":retry": State.RETRY}
        if after is not None:
            may_claim = (
                "#state = :unknown AND payload_sha256 = :payload AND #owner = :seen_owner AND attempts = :seen_attempts"
            )
            seen = {":unknown": State.UNKNOWN, ":seen_owner": after.owner, ":seen_attempts": after.attempts}
        before = self._write(
            entry.key,
            "SET #state = :sending, #owner = :owner, lease_until = :lease_until, #ttl = :ttl,"
            " payload_sha256 = :payload, on_unknown = if_not_exists(on_unknown, :on_unknown),"
            " destination = :destination, #segments = :segments, masked = :masked,"
            " undecided = :undecided, look_at = :look_at"
            + (", #reference = :reference" if entry.reference else "")
            + (", queued_at = if_not_exists(queued_at, :queued_at)" if entry.queued_at else "")
            + " ADD attempts :one, history :history",
            may_claim,
            {
                ":sending": State.SENDING,
                ":owner": owner,
                ":lease_until": lease_until,
                ":history": _line(now, "claimed"),
                ":ttl": entry.ttl,
                ":payload": entry.payload_sha256,
                ":on_unknown": entry.on_unknown,
                ":destination": entry.destination,
                ":segments": entry.segments,
                ":masked": entry.masked,
                ":reference": entry.reference,
                ":queued_at": entry.queued_at,
                ":undecided": shard(State.SENDING, entry.key),
                ":look_at": lease_until + LAPSE_SECONDS,
                ":one": 1,
                **seen,
            },
        )
        if not isinstance(before, _Refusal):
            old = _record(entry.key, before)
            on_unknown = old.on_unknown if before else entry.on_unknown
            return Claim(entry.key, owner, old.attempts + 1, on_unknown, old.unknown_outcomes, old.earlier_attempts)
        record = _record(entry.key, before.item)
        if record.owner == owner and record.state is State.SENDING:
            # The SDK repeated a write whose answer was lost; the first one did it.
            return Claim(
                entry.key, owner, record.attempts, record.on_unknown, record.unknown_outcomes, record.earlier_attempts
            )
        return record

    def register_reference(self, reference: str, key: str, *, ttl: int) -> None:
        """See `Ledger.register_reference`."""
        before = self._write(
            reference,
            "ADD message_keys :keys SET #ttl = :ttl",
            "attribute_not_exists(message_keys) OR size(message_keys) < :two OR contains(message_keys, :key)",
            {":keys": frozenset({key}), ":key": key, ":two": 2, ":ttl": ttl},
            prefix="ref#",
        )
        # Ambiguous for good: forgotten while it is in use, it would seem to be the next sender's own.
        if isinstance(before, _Refusal) and cast("int", before.item.get("ttl", 0)) < ttl - _REFRESH_SECONDS:
            self._write(reference, "SET #ttl = :ttl", "#ttl < :ttl", {":ttl": ttl}, prefix="ref#")

    def expired(self, entry: Entry, *, now: float) -> LedgerRecord | None:
        """See `Ledger.expired`."""
        before = self._write(
            entry.key,
            "SET #state = :expired, payload_sha256 = :payload, expired_at = :now, #ttl = :ttl"
            " REMOVE destination, #segments, masked, undecided, look_at",
            "attribute_not_exists(pk) OR (#state = :retry AND payload_sha256 = :payload)",
            {
                ":expired": State.EXPIRED,
                ":retry": State.RETRY,
                ":payload": entry.payload_sha256,
                ":now": format_rfc3339(now),
                ":ttl": entry.ttl,
            },
        )
        return _record(entry.key, before.item) if isinstance(before, _Refusal) else None

    def accepted(self, claim: Claim, entry: Entry, gateway_id: str | None, *, now: float) -> LedgerRecord | None:
        """See `Ledger.accepted`."""
        always = (
            "SET #state = :accepted, accepted_at = if_not_exists(accepted_at, :now),"
            " payload_sha256 = if_not_exists(payload_sha256, :payload), #ttl = if_not_exists(#ttl, :ttl)"
        )
        values: dict[str, Value | None] = {
            ":accepted": State.ACCEPTED,
            ":now": format_rfc3339(now),
            ":payload": entry.payload_sha256,
            ":ttl": entry.ttl,
        }
        if gateway_id is None:
            without_id: dict[str, Value | None] = {
                ":undecided": shard(State.ACCEPTED, claim.key),
                ":look_at": entry.ttl - KEEP_SECONDS + UNRESOLVED_SECONDS,
            }
            update = always + ", undecided = :undecided, look_at = :look_at REMOVE lease_until"
            # Refused: a callback has told the id already, which is more than we know.
            self._write(claim.key, update, "attribute_not_exists(gateway_id)", values | without_id)
            return None
        before = self._write(
            claim.key,
            always + ", gateway_id = :gateway_id"
            " REMOVE lease_until, destination, #segments, masked, undecided, look_at",
            "attribute_not_exists(gateway_id) OR gateway_id = :gateway_id",
            values | {":gateway_id": gateway_id},
        )
        if not isinstance(before, _Refusal):
            return None
        self._write(claim.key, "ADD other_gateway_ids :ids", None, {":ids": frozenset({gateway_id})})
        return _record(claim.key, before.item)

    def not_sent(self, claim: Claim, reason: str, *, now: float) -> LedgerRecord | None:
        """See `Ledger.not_sent`."""
        refused_by = self._leave_sending(
            claim,
            State.RETRY,
            "SET #state = :to, reason = :reason, undecided = :undecided, look_at = :look_at"
            " REMOVE lease_until ADD history :history",
            reason,
            {
                ":history": _line(now, "not_sent", claim.attempt, reason),
                ":undecided": shard(State.RETRY, claim.key),
                ":look_at": int(now) + ABANDONED_SECONDS,
            },
        )
        if refused_by is not None:
            evidence = _line(now, "not_sent_late", claim.attempt, reason)
            self._write(claim.key, "ADD history :history", "attribute_exists(pk)", {":history": evidence})
        return refused_by

    def rejected(self, claim: Claim, reason: str, detail: str, *, now: float) -> LedgerRecord | None:
        """See `Ledger.rejected`."""
        return self._leave_sending(
            claim,
            State.REJECTED,
            "SET #state = :to, reason = :reason, detail = :detail, rejected_at = :now"
            " REMOVE lease_until, destination, #segments, masked, undecided, look_at ADD history :history",
            reason,
            {
                ":now": format_rfc3339(now),
                ":detail": detail,
                ":history": _line(now, "rejected", claim.attempt, f"{reason} {detail}"),
            },
        )

    def unknown(self, claim: Claim, reason: str, *, now: float) -> LedgerRecord | None:
        """See `Ledger.unknown`."""
        return self._leave_sending(
            claim,
            State.UNKNOWN,
            # The item's `ttl` counts from its claim or its schedule, and so does the time until it is unresolved.
            "SET #state = :to, reason = :reason, unknown_at = :at, unknown_since = :now, undecided = :undecided,"
            " look_at = if_not_exists(#ttl, :ttl) - :earlier"
            " REMOVE lease_until ADD unknown_outcomes :one, history :history",
            reason,
            {
                ":now": format_rfc3339(now),
                ":history": _line(now, "unknown", claim.attempt, reason),
                ":at": int(now),
                ":one": 1,
                ":undecided": shard(State.UNKNOWN, claim.key),
                ":ttl": int(now) + KEEP_SECONDS,
                ":earlier": KEEP_SECONDS - UNRESOLVED_SECONDS,
            },
        )

    def lapsed(self, record: LedgerRecord, *, now: float) -> LedgerRecord | None:
        """See `Ledger.lapsed`."""
        seen = Claim(record.key, record.owner, record.attempts, record.on_unknown, record.unknown_outcomes)
        return self.unknown(seen, "owner_lost", now=now)

    def extend(self, key: str, *, ttl: int) -> None:
        """See `Ledger.extend`."""
        self._write(key, "SET #ttl = :ttl", "attribute_exists(pk) AND #ttl < :ttl", {":ttl": ttl})

    def read(self, key: str) -> LedgerRecord | None:
        """See `Ledger.read`."""
        item = self._read(f"msg#{key}")
        return _record(key, item) if item else None

    def sender_of(self, reference: str) -> LedgerRecord | None:
        """See `Ledger.sender_of`."""
        registered = cast("frozenset[str]", self._read(f"ref#{reference}").get("message_keys", frozenset()))
        if len(registered) > 1:
            return None
        candidates = [_record(key, item) for key in {reference} | registered if (item := self._read(f"msg#{key}"))]
        # A key is itself a reference only if the sender gave none.
        answering = [record for record in candidates if (record.reference or record.key) == reference]
        return answering[0] if len(answering) == 1 else None

    def due(self, state: State, *, now: float, limit: int) -> Iterator[LedgerRecord]:
        """See `Ledger.due`."""
        for item in self._undecided.due(state, now=now, limit=limit):
            yield _record(cast("str", item["pk"]).removeprefix("msg#"), item)

    def count_undecided(self, state: State) -> int:
        """See `Ledger.count_undecided`."""
        return self._undecided.count(state)

    def give_up(self, record: LedgerRecord, *, now: float) -> bool:
        """See `Ledger.give_up`."""
        same = "#owner = :owner AND attempts = :attempts" if record.owner else "attribute_not_exists(#owner)"
        before = self._write(
            record.key,
            "SET unresolved_at = :now REMOVE undecided, look_at",
            f"#state = :state AND {same} AND attribute_exists(undecided)",
            {
                ":now": format_rfc3339(now),
                ":state": record.state,
                ":owner": record.owner or None,
                ":attempts": record.attempts or None,
            },
        )
        return not isinstance(before, _Refusal)

    def resolve_by_callback(self, key: str, gateway_id: str, *, now: float) -> LedgerRecord | None:
        """See `Ledger.resolve_by_callback`."""
        before = self._write(
            key,
            "SET #state = :accepted, gateway_id = :gateway_id, accepted_at = if_not_exists(accepted_at, :now),"
            " resolved_by = :callback REMOVE lease_until, destination, #segments, masked, undecided, look_at",
            "attribute_not_exists(gateway_id)"
            " AND (#state IN (:sending, :retry, :unknown, :accepted) OR unknown_outcomes > :none)",
            {
                ":accepted": State.ACCEPTED,
                ":sending": State.SENDING,
                ":retry": State.RETRY,
                ":unknown": State.UNKNOWN,
                ":gateway_id": gateway_id,
                ":now": format_rfc3339(now),
                ":callback": "callback",
                ":none": 0,
            },
        )
        return None if isinstance(before, _Refusal) else _record(key, before)

    def resolve_sent(self, key: str, gateway_id: str | None, *, by: str, now: float) -> LedgerRecord | None:
        """See `Ledger.resolve_sent`."""
        update = "SET #state = :accepted, accepted_at = if_not_exists(accepted_at, :now), resolved_by = :person"
        values: dict[str, Value | None] = {
            ":accepted": State.ACCEPTED,
            ":person": "person",
            ":now": format_rfc3339(now),
            ":history": _line(now, "resolved_sent", words=by),
        }
        if gateway_id is None:  # a late callback can still tell the id
            update += ", undecided = :undecided, look_at = :look_at REMOVE lease_until"
            values |= {
                ":undecided": shard(State.ACCEPTED, key),
                ":look_at": int(now) + UNRESOLVED_SECONDS,
            }
        else:
            update += (
                ", gateway_id = :gateway_id REMOVE lease_until, destination, #segments, masked, undecided, look_at"
            )
            values |= {":gateway_id": gateway_id}
        return self._resolve(key, update, values)

    def resolve_not_sent(self, key: str, *, by: str, now: float) -> LedgerRecord | None:
        """See `Ledger.resolve_not_sent`."""
        return self._resolve(
            key,
            "SET #state = :retry, earlier_attempts = attempts, undecided = :undecided, look_at = :look_at"
            " REMOVE lease_until",
            {
                ":retry": State.RETRY,
                ":undecided": shard(State.RETRY, key),
                ":look_at": int(now) + ABANDONED_SECONDS,
                ":history": _line(now, "resolved_not_sent", words=by),
            },
        )

    def _resolve(self, key: str, update: str, values: dict[str, Value | None]) -> LedgerRecord | None:
        before = self._write(
            key,
            update + " ADD history :history",
            "attribute_not_exists(gateway_id)"
            " AND (#state = :unknown OR (#state IN (:rejected, :expired) AND unknown_outcomes > :none))",
            {
                ":unknown": State.UNKNOWN,
                ":rejected": State.REJECTED,
                ":expired": State.EXPIRED,
                ":none": 0,
                **values,
            },
        )
        return _record(key, before.item) if isinstance(before, _Refusal) else None

    def reopen(self, record: LedgerRecord, *, by: str, now: float) -> LedgerRecord | None:
        """See `Ledger.reopen`."""
        before = self._write(
            record.key,
            "SET #state = :retry, earlier_attempts = attempts,"
            " undecided = :undecided, look_at = :look_at ADD history :history",
            "#state = :rejected AND #owner = :owner AND attempts = :attempts"
            " AND attribute_not_exists(unknown_outcomes)",
            {
                ":retry": State.RETRY,
                ":rejected": State.REJECTED,
                ":owner": record.owner,
                ":attempts": record.attempts,
                ":undecided": shard(State.RETRY, record.key),
                ":look_at": int(now) + ABANDONED_SECONDS,
                ":history": _line(now, "reopened", words=by),
            },
        )
        return _record(record.key, before.item) if isinstance(before, _Refusal) else None

    def _leave_sending(
        self, claim: Claim, to: State, update: str, reason: str, more: dict[str, Value]
    ) -> LedgerRecord | None:
        before = self._write(
            claim.key,
            update,
            "#state = :sending AND #owner = :owner AND attempts = :attempt",
            {
                ":to": to,
                ":reason": reason,
                ":sending": State.SENDING,
                ":owner": claim.owner,
                ":attempt": claim.attempt,
                **more,
            },
        )
        if not isinstance(before, _Refusal):
            return None
        record = _record(claim.key, before.item)
        already = (record.state, record.owner, record.attempts) == (to, claim.owner, claim.attempt)
        return None if already else record  # `already`: the SDK repeated a write whose answer was lost

    def _write(
        self, key: str, update: str, condition: str | None, values: dict[str, Value | None], *, prefix: str = "msg#"
    ) -> Item | _Refusal:
        """The item before the write, or the item that refused it."""
        names = {alias: alias[1:] for alias in _ALIAS.findall(f"{update} {condition}")}
        arguments = {"ConditionExpression": condition} if condition else {}
        if names:
            arguments |= {"ExpressionAttributeNames": names}  # type: ignore[dict-item]
        try:
            answer = self._client.update_item(
                TableName=self._table_name,
                Key={"pk": {"S": prefix + key}},
                UpdateExpression=update,
                ExpressionAttributeValues=marshal(values),
                ReturnValues="ALL_OLD",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **arguments,  # type: ignore[arg-type]
            )
        except ClientError as error:
            item = refused_item(error)
            if item is None:
                raise
            return _Refusal(item)
        return unmarshal(answer.get("Attributes", {}))

    def _read(self, pk: str) -> Item:
        answer = self._client.get_item(TableName=self._table_name, Key={"pk": {"S": pk}}, ConsistentRead=True)
        return unmarshal(answer.get("Item", {}))


def _line(now: float, what: str, attempt: int = 0, words: str = "") -> frozenset[str]:
    """A line of the history (`steps`), as the set of one that ADD takes; the SDK's repeat of a write adds no second."""
    return frozenset({f"{format_rfc3339(now)} {what} {attempt} {words}"})


def _record(key: str, item: Item) -> LedgerRecord:
    def text(name: str) -> str | None:
        return cast("str | None", item.get(name))

    def number(name: str) -> int:
        return cast("int", item.get(name, 0))

    return LedgerRecord(
        key=key,
        state=State(text("state") or State.UNKNOWN),  # a record that vanished (somebody deleted it) proves nothing
        owner=text("owner") or "",
        attempts=number("attempts"),
        lease_until=number("lease_until"),
        payload_sha256=text("payload_sha256"),
        on_unknown=cast("OnUnknown", item.get("on_unknown", "hold")),
        unknown_outcomes=number("unknown_outcomes"),
        unknown_at=number("unknown_at"),
        gateway_id=text("gateway_id"),
        reason=text("reason") or "",
        detail=text("detail") or "",
        reference=text("reference"),
        destination=text("destination"),
        segments=number("segments") or None,
        masked=bool(item.get("masked", False)),
        accepted_at=text("accepted_at"),
        earlier_attempts=number("earlier_attempts"),
    )
