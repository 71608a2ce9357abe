"""`SendLedgerTable`: what the stack did with each message, so that no message is sent twice.

::

    absent ─┬─ claim ──► SENDING ─┬─ accepted ──► ACCEPTED      every write out of SENDING is conditional on owner and
            │              ▲  ▲   ├─ not sent ──► RETRY ──┐     attempt; proof of acceptance wins over all
            │              │  └───┼────── claim ──────────┘
            │              │      ├─ rejected ──► REJECTED
            │              │      └─ unknown, or lease over ──► UNKNOWN ─┬─ a callback's proof ──► ACCEPTED
            │              └──────────────── claim again (`resend`, once) ┘
            ├─ past expires_at ──► EXPIRED   (from RETRY too)
            └─ an operator recalls it ──► RECALLED   (from RETRY too)

An operator (command line) can resolve UNKNOWN, and RETRY, REJECTED or EXPIRED after it, as sent (ACCEPTED) or not sent
(RETRY), and reopen a REJECTED message (RETRY). A RECALLED message can only be resolved as sent: no attempt follows it.
The record keeps the operator's name and the time. A message with other fields may replace a REJECTED one that never had
an unknown outcome (→ RETRY), because its sender has corrected it. The refused message can never return.

The ledger stores no message text. It keeps the destination until the message is certainly not sent or its item in
`MessagesTable` exists, so that a late callback can complete the conversation. ``history`` has a line for each claim,
each outcome but acceptance, and each action of an operator; it is written with the state. A reference that two messages
share is ambiguous from then on; its item keeps at most two of its messages. A message that is refused before it is
claimed has a separate item, which only serves its event.

While a message is undecided (SENDING, RETRY, UNKNOWN, or ACCEPTED without an ID or item), its record has ``undecided``
and ``look_at``. The sparse index `undecided-index` lists it by both for `flows.reconcile_messages`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import (
    DESPITE_OPT_OUT,
    EVIDENCE_MARK,
    MAYBE_SENT,
    MESSAGE_PREFIX,
    REFERENCE_PREFIX,
    REFUSED_PREFIX,
    LedgerRecord,
    State,
)
from optus_sms.records.table import DueIndex, Item, Refused, Table, shard
from optus_sms.records.updates import (
    NOTHING,
    Condition,
    Update,
    absent,
    contains,
    equals,
    exists,
    greater,
    less,
    one_of,
    smaller_set,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# How long the ledger keeps a `message_id` after its last claim or `scheduled`. A message can spend less time than that
# in the queues: 10 days in the queue, 14 in the dead-letter queue, and both again after a redrive.
KEEP_SECONDS: Final = 60 * 86_400
# When an undecided record is looked at again (docs/outages.md).
LAPSE_SECONDS: Final = 15 * 60  # after its lease: long after the queue has delivered the message again
# After claim or `scheduled`: carriers try for 7 days (Optus, "SMS delivery retry process").
UNRESOLVED_SECONDS: Final = 8 * 86_400
ABANDONED_SECONDS: Final = 11 * 86_400  # after the last attempt: the queue keeps a message for 10 days
COMPLETE_SECONDS: Final = 600  # after proof by a callback or operator: by then the message's item should exist
_REFRESH_SECONDS: Final = 86_400  # a reference that many messages share is written at most once a day to keep it
KEEP_REFUSED_SECONDS: Final = 14 * 86_400  # as long as its dead letter
UNDECIDED_INDEX: Final = "undecided-index"
_ATTEMPTS_WITH_EVIDENCE: Final = 20
_MOST_KEYS: Final = 2  # messages kept for a reference

# Attributes kept until the message's item in `MessagesTable` is written, and those that list a message as undecided
# (docs/decisions/ledger-keeps-destination-while-undecided.md).
_FOR_MESSAGE_ITEM: Final = ("destination", "segments", "has_sender_id", "scheduled_at")
_UNTIL_DECIDED: Final = ("undecided", "look_at")
_BY_CALLBACK: Final = ("gateway_id", "resolved_by", "accepted_at")

# The conditions of the writes below.
IS_NEW: Final = absent("pk")
IS_THERE: Final = exists("pk")
HAS_NO_GATEWAY_ID: Final = absent("gateway_id")
HAD_AN_UNKNOWN_OUTCOME: Final = greater(unknown_outcomes=0)
NEVER_HAD_AN_UNKNOWN_OUTCOME: Final = absent("unknown_outcomes")
MAY_HAVE_BEEN_SENT: Final = HAS_NO_GATEWAY_ID & (one_of(state=MAYBE_SENT) | HAD_AN_UNKNOWN_OUTCOME)
IS_LISTED_AS_UNDECIDED: Final = exists("undecided")
IS_RECALLED: Final = equals(state=State.RECALLED)


def is_free_for(record: LedgerRecord) -> Condition:
    """Require that the message has no record yet, or is in RETRY with the same payload."""
    return IS_NEW | equals(state=State.RETRY, payload_sha256=record.payload_sha256 or "")


def can_be_recalled(record: LedgerRecord) -> Condition:
    """Require that the message has no record yet, or is in RETRY (with the same payload, if ``record`` has a hash)."""
    return is_free_for(record) if record.payload_sha256 else IS_NEW | equals(state=State.RETRY)


def is_still(record: LedgerRecord) -> Condition:
    """Require that the record still has the state, owner and attempt number that were read."""
    if not record.owner:
        return equals(state=record.state) & absent("owner")
    return equals(state=record.state, owner=record.owner, attempts=record.attempts)


def _is_refused(record: LedgerRecord) -> Condition:
    """Require that the record still is that of the REJECTED message that was read."""
    condition = is_still(record._replace(state=State.REJECTED))
    return condition & equals(payload_sha256=record.payload_sha256) if record.payload_sha256 else condition


def has_no_id_but(gateway_id: str) -> Condition:
    """Require that no other POST of the message was accepted."""
    return HAS_NO_GATEWAY_ID | equals(gateway_id=gateway_id)


def was_resolved_by_callback(claim: LedgerRecord, now: float) -> Condition:
    """Require that a callback resolved this claim as sent while its lease lasts, and can mean no other attempt.

    If its owner proves that it was not sent, the callback was about another system's message with the same reference.
    An owner has one claim, so its attempt number need not be known.
    """
    resolved = equals(state=State.ACCEPTED, resolved_by="callback", owner=claim.owner)
    return resolved & greater(lease_until=int(now)) & NEVER_HAD_AN_UNKNOWN_OUTCOME


def awaits_an_operator(record: LedgerRecord) -> Condition:
    """Require that the record is as it was read, with an unknown outcome that neither a callback nor an operator ended.

    Any state but SENDING and ACCEPTED can follow an unknown outcome, because such a state proves only what the last
    attempt did.
    """
    ended = (State.RETRY, State.REJECTED, State.EXPIRED, State.RECALLED)
    after_one = one_of(state=ended) & HAD_AN_UNKNOWN_OUTCOME
    return is_still(record) & HAS_NO_GATEWAY_ID & (equals(state=State.UNKNOWN) | (after_one & ~all_resolved(record)))


def all_resolved(record: LedgerRecord) -> Condition:
    """Require that an operator has resolved every unknown outcome of the record as not sent."""
    return equals(resolved_outcomes=record.unknown_outcomes)


class Ledger:
    """The ledger records of messages. A method that writes makes one conditional write, as a rule.

    Unless its docstring differs, it returns None if the write was done, else the record that refused it.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._undecided = DueIndex(table, UNDECIDED_INDEX, "undecided")

    @classmethod
    def connect(cls, client: DynamoDBClient, table_name: str) -> Ledger:
        """Return the ledger in the table of that name."""
        return cls(Table(client, table_name, key="pk"))

    def claim(
        self, wanted: LedgerRecord, *, now: float, after: LedgerRecord | None = None, despite_opt_out: bool = False
    ) -> LedgerRecord:
        """Claim a message: absent or RETRY with the same payload → SENDING; with ``after``, that UNKNOWN → SENDING.

        ``wanted``: the record to write, with its owner, lease and ttl. ``despite_opt_out``: noted in the history.
        Return the record after the write: the claim succeeded if it ``is_held_by`` the owner of ``wanted``, otherwise
        this record refused the claim.
        """
        update = NOTHING.set(
            state=State.SENDING,
            owner=wanted.owner,
            lease_until=wanted.lease_until,
            ttl=wanted.ttl,
            payload_sha256=wanted.payload_sha256,
            destination=wanted.destination,
            segments=wanted.segments,
            has_sender_id=wanted.has_sender_id,
            scheduled_at=wanted.scheduled_at,
            reference=wanted.reference,
            **self._look_at(wanted.message_id, State.SENDING, wanted.lease_until + LAPSE_SECONDS),
        )
        # RETRY of the same owner: its claim has ended, and this is the SDK's repeat of that claim, which arrives late.
        condition = is_free_for(wanted) & ~equals(owner=wanted.owner)
        if after is not None:
            same_payload = equals(payload_sha256=wanted.payload_sha256 or "")
            condition = is_still(after._replace(state=State.UNKNOWN)) & same_payload
        claimed = self._table.update(
            MESSAGE_PREFIX + wanted.message_id,
            update.set_first(on_unknown=wanted.on_unknown, queued_at=wanted.queued_at)
            .add(attempts=1, history=_line(now, "claimed", words=DESPITE_OPT_OUT if despite_opt_out else ""))
            .remove("erased_at")
            .only_if(condition),
            returning="ALL_NEW",
        )
        # The owner's own claim can refuse this write: the SDK repeated a write whose response was lost.
        return LedgerRecord.from_item(claimed.item if isinstance(claimed, Refused) else claimed, wanted.message_id)

    def register_reference(self, reference: str, message_id: str, *, ttl: int) -> None:
        """Record that a message is sent under a reference; done before the POST."""
        update = NOTHING.add(message_keys=frozenset({message_id})).set(ttl=ttl)
        has_room = absent("message_keys") | smaller_set(message_keys=_MOST_KEYS) | contains(message_keys=message_id)
        refused = self._table.update(REFERENCE_PREFIX + reference, update.only_if(has_room))
        # An ambiguous reference must not expire while it is in use, or it would look unique to the next message.
        kept_until = refused.item.get("ttl") if isinstance(refused, Refused) else ttl
        if not isinstance(kept_until, int | float) or kept_until < ttl - _REFRESH_SECONDS:
            is_longer = ~greater(ttl=ttl)
            self._table.update(REFERENCE_PREFIX + reference, NOTHING.set(ttl=ttl).only_if(is_longer))

    def expired(self, record: LedgerRecord, *, now: float) -> LedgerRecord | None:
        """Mark a message as expired: absent or RETRY with the same payload → EXPIRED."""
        return self._end(record, State.EXPIRED, NOTHING.set(expired_at=format_rfc3339(now)), is_free_for(record))

    def recall(self, record: LedgerRecord, *, by: str, now: float) -> LedgerRecord | None:
        """Recall a message: absent or RETRY → RECALLED. It is never sent after that, and a repeat is refused.

        Without ``payload_sha256`` in ``record``, an absent message is recalled whatever its fields will be.
        """
        update = NOTHING.set(recalled_at=format_rfc3339(now)).add(history=_line(now, "recalled", words=by))
        return self._end(record, State.RECALLED, update, can_be_recalled(record))

    def too_old(self, record: LedgerRecord, reason: str, *, now: float) -> LedgerRecord | None:
        """Mark a message as too old for its queue: absent or RETRY with the same payload → REJECTED."""
        update = NOTHING.set(reason=reason, detail="retention_over", rejected_at=format_rfc3339(now))
        update = update.add(history=_line(now, "rejected", words=f"{reason} retention_over"))
        return self._end(record, State.REJECTED, update, is_free_for(record))

    def accepted(
        self, claim: LedgerRecord, gateway_id: str | None, *, evidence: str = "", now: float
    ) -> LedgerRecord | None:
        """Mark a message as accepted: any state → ACCEPTED. ``evidence``: for one without an ID.

        Refused only if the record has another ID already: that of another POST of the message or, if this POST got no
        ID, that of a callback. The record keeps both. The item of the other ID may not exist yet, because the delivery
        that had to write it can have crashed.
        """
        update = NOTHING.set(state=State.ACCEPTED, gateway_id=gateway_id).set_first(
            accepted_at=format_rfc3339(now), payload_sha256=claim.payload_sha256, ttl=claim.ttl
        )
        if gateway_id is None:
            look_at = self._look_at(claim.message_id, State.ACCEPTED, claim.ttl - KEEP_SECONDS + UNRESOLVED_SECONDS)
            update = update.set(**look_at).remove("lease_until")
            line = _line(now, "accepted_without_id", claim.attempts, evidence=evidence)
            return self._write(claim, update.add(history=line).only_if(HAS_NO_GATEWAY_ID))
        certain = update.remove(*_FOR_MESSAGE_ITEM, *_UNTIL_DECIDED, "lease_until")
        refused_by = self._write(claim, certain.only_if(is_still(claim._replace(state=State.SENDING))))
        return None if refused_by is None else self._accepted_late(claim, gateway_id, update, refused_by, now)

    def _accepted_late(
        self, claim: LedgerRecord, gateway_id: str, update: Update, found: LedgerRecord, now: float
    ) -> LedgerRecord | None:
        """Mark a message as accepted after its claim has ended, by a callback with this ID or by another delivery.

        The other delivery may acknowledge the message before this one writes its item. So the record keeps the values
        for the item, and reconciliation completes it.
        """
        if (found.state, found.gateway_id) != (State.ACCEPTED, gateway_id):
            kept = {name: getattr(claim, name) for name in _FOR_MESSAGE_ITEM}
            update = update.set(**kept, **self._look_at(claim.message_id, State.ACCEPTED, int(now) + COMPLETE_SECONDS))
        elif not found.lease_until:
            return None  # the SDK repeated the write of `accepted`, whose response was lost
        refused_by = self._write(claim, update.remove("lease_until").only_if(has_no_id_but(gateway_id)))
        if refused_by is not None:
            self._write(claim, NOTHING.add(other_gateway_ids=frozenset({gateway_id})))
        return refused_by

    def not_sent(
        self, claim: LedgerRecord, reason: str, *, counts: bool = True, evidence: str = "", now: float
    ) -> LedgerRecord | None:
        """Mark an attempt as not sent: SENDING → RETRY. After a takeover this only adds a line to the history.

        ``counts``: whether the attempt counts towards ``MAX_ATTEMPTS``. ``evidence``: kept for the first attempts only,
        so that a long outage does not fill the record. It also replaces an acceptance that a callback recorded
        meanwhile.
        """
        update = NOTHING.set(
            reason=reason, **self._look_at(claim.message_id, State.RETRY, int(now) + ABANDONED_SECONDS)
        ).remove("lease_until")
        kept = evidence if claim.attempts <= _ATTEMPTS_WITH_EVIDENCE else ""
        line = _line(now, "not_sent", claim.attempts, reason, kept)
        uncounted = None if counts else 1
        refused_by = self._certainly_not_sent(
            claim, State.RETRY, update.add(history=line, uncounted_attempts=uncounted), now
        )
        if refused_by is not None:
            late = NOTHING.add(history=_line(now, "not_sent_late", claim.attempts, reason, kept))
            self._write(claim, late.only_if(IS_THERE))
        return refused_by

    def release(self, wanted: LedgerRecord, reason: str, *, now: float) -> LedgerRecord | None:
        """Release a claim whose response was lost, before any byte left: SENDING of this owner → RETRY.

        Also if a callback has resolved it meanwhile, because that callback was about another system's message.
        """
        look_at = self._look_at(wanted.message_id, State.RETRY, int(now) + ABANDONED_SECONDS)
        update = NOTHING.set(state=State.RETRY, reason=reason, **look_at).remove("lease_until")
        update = update.add(history=_line(now, "not_sent", words=reason), uncounted_attempts=1)
        update = update.remove(*_BY_CALLBACK)
        is_claimed = equals(state=State.SENDING, owner=wanted.owner)
        return self._write(wanted, update.only_if(is_claimed | was_resolved_by_callback(wanted, now)))

    def rejected(
        self, claim: LedgerRecord, reason: str, detail: str, *, evidence: str = "", now: float
    ) -> LedgerRecord | None:
        """Mark a message as rejected: SENDING → REJECTED; ``reason`` is the dead letter's."""
        update = NOTHING.set(reason=reason, detail=detail, rejected_at=format_rfc3339(now))
        line = _line(now, "rejected", claim.attempts, f"{reason} {detail}", evidence)
        update = update.remove(*_UNTIL_DECIDED, "lease_until").add(history=line)
        if not claim.unknown_outcomes:
            update = update.remove(*_FOR_MESSAGE_ITEM)
        return self._certainly_not_sent(claim, State.REJECTED, update, now)

    def unknown(self, claim: LedgerRecord, reason: str, *, evidence: str = "", now: float) -> LedgerRecord | None:
        """Mark the outcome as unknown: SENDING → UNKNOWN. It is given up a set time after the claim or `scheduled`."""
        look_at = (claim.ttl or int(now) + KEEP_SECONDS) - KEEP_SECONDS + UNRESOLVED_SECONDS
        update = NOTHING.set(
            reason=reason,
            unknown_at=int(now),
            unknown_since=format_rfc3339(now),
            **self._look_at(claim.message_id, State.UNKNOWN, look_at),
        )
        line = _line(now, "unknown", claim.attempts, reason, evidence)
        return self._leave_sending(
            claim, State.UNKNOWN, update.remove("lease_until").add(unknown_outcomes=1, history=line)
        )

    def refused(self, sqs_message_id: str, message_id: str, reason: str, detail: str, *, now: float) -> None:
        """Record a message that was refused before it was claimed, for its event; once for each SQS message."""
        update = NOTHING.set(
            message_id=message_id,
            reason=reason,
            detail=detail,
            refused_at=format_rfc3339(now),
            ttl=int(now) + KEEP_REFUSED_SECONDS,
        )
        self._table.update(REFUSED_PREFIX + sqs_message_id, update.only_if(IS_NEW))

    def extend(self, message_id: str, *, ttl: int) -> None:
        """Keep a record longer, because its message was delivered again."""
        self._table.update(MESSAGE_PREFIX + message_id, NOTHING.set(ttl=ttl).only_if(IS_THERE & less(ttl=ttl)))

    def read(self, message_id: str) -> LedgerRecord | None:
        """Return the record of a message, read consistently; None if there is none."""
        item = self._table.get(MESSAGE_PREFIX + message_id)
        return LedgerRecord.from_item(item) if item else None

    def messages_under(self, reference: str) -> list[str]:
        """Return the `message_id`s sent under a reference that a sender gave, at most two."""
        keys = self._table.get(REFERENCE_PREFIX + reference).get("message_keys", frozenset())
        return sorted(keys) if isinstance(keys, frozenset) else []

    def with_reference(self, reference: str) -> LedgerRecord | None:
        """Return the only record that a callback's reference can mean; None if there is none or more than one.

        A record of a message that was certainly not sent counts only if no other one may have been sent.
        """
        registered = self.messages_under(reference)
        if len(registered) > 1:
            return None
        records = [record for message_id in {reference, *registered} if (record := self.read(message_id))]
        # A `message_id` is the reference only if the sender gave none.
        with_it = [record for record in records if record.effective_reference == reference]
        found = [record for record in with_it if record.may_have_been_sent] or with_it
        return found[0] if len(found) == 1 else None

    def due(self, state: State, *, now: float, limit: int) -> Iterator[LedgerRecord]:
        """Return the undecided records of a state that are due, read consistently; at most ``limit``."""
        return map(LedgerRecord.from_item, self._undecided.due(state, now=now, limit=limit))

    def undecided(self, state: State) -> Iterator[LedgerRecord]:
        """Return every undecided record of a state, read consistently."""
        return map(LedgerRecord.from_item, self._undecided.listed(state))

    def count_undecided(self, state: State) -> int:
        """Count the undecided records of a state."""
        return self._undecided.count(state)

    def scan(self) -> Iterator[LedgerRecord]:
        """Return every record, by reading the whole table."""
        messages = (item for item in self._table.scan() if str(item["pk"]).startswith(MESSAGE_PREFIX))
        return map(LedgerRecord.from_item, messages)

    def look_again(self, record: LedgerRecord, *, at: float) -> None:
        """Set the next ``look_at`` (epoch seconds) of a record that is still listed as undecided."""
        self._write(record, NOTHING.set(look_at=int(at)).only_if(IS_LISTED_AS_UNDECIDED))

    def give_up(self, record: LedgerRecord, *, now: float) -> bool:
        """Stop reconciling a record if it is unchanged since it was read, and note when. A callback still counts."""
        update = NOTHING.set(unresolved_at=format_rfc3339(now)).remove(*_UNTIL_DECIDED)
        return self._write(record, update.only_if(is_still(record) & IS_LISTED_AS_UNDECIDED)) is None

    def resolve_by_callback(self, message_id: str, gateway_id: str, *, now: float) -> LedgerRecord | None:
        """Resolve a message as sent by a callback: SENDING, UNKNOWN, or ACCEPTED without an ID → ACCEPTED.

        Also from any state that follows an unknown outcome, because such a state proves only what the last attempt did.
        Return the record as it was before the write, or None if the write was refused. `completed` must follow.
        """
        update = NOTHING.set(
            state=State.ACCEPTED,
            gateway_id=gateway_id,
            resolved_by="callback",
            **self._look_at(message_id, State.ACCEPTED, int(now) + COMPLETE_SECONDS),
        )
        update = update.set_first(accepted_at=format_rfc3339(now)).only_if(MAY_HAVE_BEEN_SENT)
        before = self._table.update(MESSAGE_PREFIX + message_id, update, returning="ALL_OLD")
        return None if isinstance(before, Refused) else LedgerRecord.from_item(before, message_id)

    def resolve_sent(self, record: LedgerRecord, gateway_id: str | None, *, by: str, now: float) -> LedgerRecord | None:
        """Resolve an unknown outcome as sent, on an operator's word. With an ID `completed` must follow.

        ``record``: as just read.
        """
        look_at = int(now) + COMPLETE_SECONDS
        if gateway_id is None:  # a late callback can still bring the ID
            look_at = int(max(now, record.scheduled_at or 0)) + UNRESOLVED_SECONDS
        update = NOTHING.set(
            state=State.ACCEPTED,
            gateway_id=gateway_id,
            resolved_by="operator",
            **self._look_at(record.message_id, State.ACCEPTED, look_at),
        )
        update = update.set_first(accepted_at=format_rfc3339(now)).add(history=_line(now, "resolved_sent", words=by))
        return self._write(record, update.only_if(awaits_an_operator(record)))

    def completed(self, message_id: str, gateway_id: str) -> None:
        """Remove what an ACCEPTED message no longer needs, because its item in `MessagesTable` is written."""
        update = NOTHING.remove(*_FOR_MESSAGE_ITEM, *_UNTIL_DECIDED)
        update = update.only_if(equals(state=State.ACCEPTED, gateway_id=gateway_id))
        self._table.update(MESSAGE_PREFIX + message_id, update)

    def resolve_not_sent(self, record: LedgerRecord, *, by: str, now: float) -> LedgerRecord | None:
        """Resolve as not sent, on an operator's word: UNKNOWN, or RETRY, REJECTED or EXPIRED after one → RETRY."""
        line = _line(now, "resolved_not_sent", words=by)
        return self._try_anew(record, awaits_an_operator(record) & ~IS_RECALLED, line, now)

    def erase(self, message_id: str, *, by: str, now: float) -> LedgerRecord | None:
        """Remove personal data; the key stays. Refused during an attempt, which needs the data."""
        update = NOTHING.set_first(erased_at=format_rfc3339(now)).add(history=_line(now, "erased", words=by))
        is_idle = IS_THERE & ~equals(state=State.SENDING)
        return self._write(LedgerRecord(message_id), update.remove(*_FOR_MESSAGE_ITEM).only_if(is_idle))

    def replace_refused(self, refused: LedgerRecord, wanted: LedgerRecord, *, now: float) -> LedgerRecord | None:
        """Give the key of the REJECTED message just read to the corrected message in ``wanted``: REJECTED → RETRY.

        Of the refused message only three things stay: its attempts, which don't count, its history and its payload
        hash.
        """
        new = {"reference": wanted.reference, "queued_at": wanted.queued_at}
        update = NOTHING.set(
            state=State.RETRY,
            payload_sha256=wanted.payload_sha256,
            on_unknown=wanted.on_unknown,
            ttl=wanted.ttl,
            uncounted_attempts=refused.attempts,
            **new,
            **self._look_at(wanted.message_id, State.RETRY, int(now) + ABANDONED_SECONDS),
        ).remove("owner", "lease_until", "reason", "detail", "rejected_at")
        update = update.remove(*(name for name, value in new.items() if value is None))
        of_refused = None if refused.payload_sha256 is None else frozenset({refused.payload_sha256})
        return self._write(
            wanted,
            update.add(history=_line(now, "replaced"), refused_payloads=of_refused).only_if(
                _is_refused(refused) & HAS_NO_GATEWAY_ID & NEVER_HAD_AN_UNKNOWN_OUTCOME
            ),
        )

    def reopen(self, record: LedgerRecord, *, by: str, now: float) -> LedgerRecord | None:
        """Allow the REJECTED message just read to be sent again → RETRY. Refused if an earlier outcome is unknown."""
        is_the_same = _is_refused(record) & (NEVER_HAD_AN_UNKNOWN_OUTCOME | all_resolved(record))
        return self._try_anew(record, is_the_same, _line(now, "reopened", words=by), now)

    def _try_anew(
        self, record: LedgerRecord, condition: Condition, line: frozenset[str], now: float
    ) -> LedgerRecord | None:
        update = NOTHING.set(
            state=State.RETRY,
            uncounted_attempts=record.attempts,
            resolved_outcomes=record.unknown_outcomes or None,
            **self._look_at(record.message_id, State.RETRY, int(now) + ABANDONED_SECONDS),
        )
        return self._write(record, update.remove("lease_until").add(history=line).only_if(condition))

    def _end(self, record: LedgerRecord, to: State, update: Update, condition: Condition) -> LedgerRecord | None:
        """End a message without another attempt. After an unknown outcome the destination stays, for a callback."""
        update = update.set(
            state=to, payload_sha256=record.payload_sha256, reference=record.reference, ttl=record.ttl
        ).remove(*_UNTIL_DECIDED)
        certain = update.remove(*_FOR_MESSAGE_ITEM).only_if(condition & NEVER_HAD_AN_UNKNOWN_OUTCOME)
        refused_by = self._write(record, certain)
        if refused_by is not None and refused_by.state is State.RETRY and refused_by.unknown_outcomes:
            refused_by = self._write(record, update.only_if(condition))
        return refused_by

    def _certainly_not_sent(self, claim: LedgerRecord, to: State, update: Update, now: float) -> LedgerRecord | None:
        update = update.remove(*_BY_CALLBACK)
        return self._leave_sending(claim, to, update, was_resolved_by_callback(claim, now))

    def _leave_sending(
        self, claim: LedgerRecord, to: State, update: Update, otherwise: Condition | None = None
    ) -> LedgerRecord | None:
        condition = is_still(claim._replace(state=State.SENDING))
        refused_by = self._write(claim, update.set(state=to).only_if(condition | otherwise if otherwise else condition))
        if refused_by is None:
            return None
        already = (refused_by.state, refused_by.owner, refused_by.attempts) == (to, claim.owner, claim.attempts)
        return None if already else refused_by  # `already`: the SDK repeated a write whose response was lost

    def _write(self, record: LedgerRecord, update: Update) -> LedgerRecord | None:
        """Write, and return None if that was done, otherwise the record that refused it."""
        written = self._table.update(MESSAGE_PREFIX + record.message_id, update)
        return LedgerRecord.from_item(written.item, record.message_id) if isinstance(written, Refused) else None

    @staticmethod
    def _look_at(message_id: str, state: State, at: int) -> Item:
        """Return the attributes that list a record as undecided under this state, due at that time."""
        return {"undecided": shard(state, message_id), "look_at": at}


def _line(now: float, what: str, attempt: int = 0, words: str = "", evidence: str = "") -> frozenset[str]:
    """Return a line of the history as a set for ADD, so that a write that the SDK repeats adds no second line."""
    line = f"{format_rfc3339(now)} {what} {attempt} {words}"
    return frozenset({f"{line}{EVIDENCE_MARK}{evidence}" if evidence else line})
