"""`MessagesTable`: what the gateway reported of each message and reply.

A message's item is written by the sender function, when the gateway accepts the message, and by status callbacks. Both
only add, in any order. DynamoDB compares the ranks of statuses (`model.statuses`) in the condition of the write.

While an item waits for a final status or for its message, it has ``awaiting`` and ``look_at``. The sparse index
``awaiting-index`` lists it by both for `flows.reconcile_messages`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from optus_sms.model.callbacks import StatusCallback
from optus_sms.model.redaction import without_numbers
from optus_sms.model.statuses import FINAL_STATUSES, STATUS_RANK, normalized
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import LedgerRecord, MessageRecord, ReplyRecord, read_message
from optus_sms.records.table import Between, DueIndex, Refused, Table, shard
from optus_sms.records.updates import NOTHING, Condition, Update, absent, equals, exists, less, smaller_set

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from optus_sms.model.callbacks import ReplyCallback

CONVERSATION_INDEX: Final = "conversation-index"  # keys, `direction` and `has_sender_id`: no status changes it
AWAITING_INDEX: Final = "awaiting-index"
FIRST_LOOK_SECONDS: Final = 86_400  # after acceptance: most final statuses come within minutes
# After acceptance or `scheduled`: `flows.reconcile_messages` then gives up a message for which the gateway never
# responds.
UNANSWERED_SECONDS: Final = 11 * 86_400
MATCH_SECONDS: Final = 600  # until reconciliation tries again to find a callback's message
_LATEST_SECONDS: Final = 366 * 86_400  # a `scheduled_at` after more than that was edited by hand
_MAX_UNKNOWN_STATUSES: Final = 20
MAX_REPEATS: Final = 20  # so that a gateway that repeats callbacks forever can't fill the item
_UNTIL_FINAL: Final = ("awaiting", "look_at")
# The attributes that an erasure removes. IDs, statuses and times stay, so that a repeated callback restores nothing.
_PERSONAL: Final = ("handset", "destination", "source", "content", "operator", "encoding", "segments", "detail")

# The conditions of the writes below.
IS_NEW: Final = absent("id")
IS_NO_REPLY: Final = absent("direction") | equals(direction="MT")
HAS_NO_MESSAGE: Final = exists("id") & absent("message_id")
HAS_ROOM_FOR_UNKNOWN_STATUSES: Final = absent("unknown_statuses") | smaller_set(unknown_statuses=_MAX_UNKNOWN_STATUSES)
IS_NOT_ERASED: Final = absent("erased_at")
CAN_BE_REPLIED_TO: Final = equals(direction="MT", has_sender_id=False)


def belongs_to(message_id: str) -> Condition:
    """Require that the gateway's ID belongs neither to a reply nor to another message."""
    return IS_NO_REPLY & (absent("message_id") | equals(message_id=message_id))


@cache
def ranks_below(status: str) -> Condition:
    """Require that the message has no status yet, or one of a lower rank."""
    return absent("status_rank") | less(status_rank=STATUS_RANK[status])


def has_a_smaller_detail(record: MessageRecord, detail: str) -> Condition:
    """Require that the status is the one read, and its detail absent or less than this one."""
    return equals(status_rank=record.status_rank or 0) & (absent("detail") | less(detail=detail))


class Awaiting(StrEnum):
    """What an item of `MessagesTable` waits for."""

    STATUS = "status"  # a final status of an accepted message
    MESSAGE = "message"  # the message that belongs to a callback with a reference


class Applied(StrEnum):
    """The effect of a status callback."""

    APPLIED = "applied"  # the message has this status now
    STALE = "stale"  # the message has a status of higher rank; the time of this one is kept
    DUPLICATE = "duplicate"
    UNKNOWN_STATUS = "unknown_status"  # kept in `unknown_statuses`
    NO_STATUS = "no_status"


class StatusResult(NamedTuple):
    """The effect of a status callback, and the message after the write."""

    applied: Applied
    message: MessageRecord


class StoredReply(NamedTuple):
    """A reply as its first callback brought it. ``is_new``: this was the first."""

    record: ReplyRecord
    is_new: bool


class IdTakenError(Exception):
    """A reply with the ID of a message, or a status callback with the ID of a reply."""


class Messages:
    """The records of messages and replies. They are kept for ``retention_days``.

    For a message the days count from its acceptance or `scheduled`, and last at least until the last request for its
    status. No later write shortens them, because the one write of a callback doesn't know `scheduled`.
    """

    def __init__(self, table: Table, *, retention_days: int) -> None:
        self._table = table
        self._keep_seconds = retention_days * 86_400
        self._awaiting = DueIndex(table, AWAITING_INDEX, "awaiting")

    @classmethod
    def connect(cls, client: DynamoDBClient, table_name: str, *, retention_days: int) -> Messages:
        """Return the messages in the table of that name."""
        return cls(Table(client, table_name, key="id"), retention_days=retention_days)

    def record_sent(
        self,
        gateway_id: str,
        sent: LedgerRecord,
        *,
        status: str | None = None,
        detail: str | None = None,
        now: float,
    ) -> MessageRecord | None:
        """Write an accepted message's item from the ledger's values; idempotent. None values of ``sent`` change
        nothing.

        If the ledger has removed the destination, this only adds the `message_id` to an item that has none yet.

        ``status`` and ``detail``: of the gateway's response; they apply by rank, like a callback's. If the ID belongs
        to another message or to a reply, return that one, and write nothing.
        """
        update = self._sender_half(gateway_id, sent, now)
        may_write = belongs_to(sent.message_id) & IS_NOT_ERASED
        if sent.destination is None:
            may_write &= HAS_NO_MESSAGE | IS_NEW
        known = normalized(status or "")
        try:
            written: MessageRecord | Refused = Refused({})
            if known != "accepted" and known in STATUS_RANK:
                better = _with_status(update, known, detail, now)
                written = self._update(gateway_id, better.only_if(may_write & ranks_below(known)), now)
            if isinstance(written, Refused):
                written = self._update(gateway_id, _as_accepted(update).only_if(may_write), now)
        except IdTakenError:
            return MessageRecord(id=gateway_id)
        if isinstance(written, Refused):
            taken_by = MessageRecord.from_item(written.item)
            return None if taken_by.message_id == sent.message_id else taken_by
        if written.status in FINAL_STATUSES:
            self.stop_waiting(gateway_id, Awaiting.STATUS)  # the status is final
        return None

    def _sender_half(self, gateway_id: str, sent: LedgerRecord, now: float) -> Update:
        at: float = sent.scheduled_at or 0
        if not now < at < now + _LATEST_SECONDS:
            at = now
        return NOTHING.set(
            direction="MT",
            message_id=sent.message_id,
            reference=sent.effective_reference,
            destination=sent.destination,
            handset=sent.destination,
            segments=sent.segments,
            has_sender_id=sent.has_sender_id if sent.destination else None,
            awaiting=shard(Awaiting.STATUS, gateway_id),
            look_at=int(at) + FIRST_LOOK_SECONDS,
            ttl=int(at) + max(self._keep_seconds, UNANSWERED_SECONDS + 86_400),
        ).set_first(
            accepted_at=format_rfc3339(now),
            # The place in the conversation: no reply to a scheduled message comes before the gateway sends it.
            created_at=format_rfc3339(at) if sent.destination else None,
        )

    def record_status(self, callback: StatusCallback, *, now: float) -> StatusResult:
        """Apply one status callback: one write, or two if it is stale or a repeat.

        Raise `IdTakenError` if the ID is a reply's.
        """
        status = callback.status
        common = NOTHING.set(direction="MT").set_first(reference=callback.reference)
        if status is None:
            return self._record_beside(callback, common.only_if(IS_NO_REPLY), Applied.NO_STATUS, now)
        if status not in STATUS_RANK:  # bounded, so that a faulty gateway can't fill the item
            update = common.add(unknown_statuses=frozenset({status}))
            update = update.only_if(IS_NO_REPLY & HAS_ROOM_FOR_UNKNOWN_STATUSES)
            return self._record_beside(callback, update, Applied.UNKNOWN_STATUS, now)
        condition = IS_NO_REPLY & ranks_below(status)
        redacted = without_numbers(callback.detail or "")
        has_number = redacted != (callback.detail or "")
        if has_number:  # which an erased item must not get back
            condition &= IS_NOT_ERASED
        update = _with_status(common, status, callback.detail, now).only_if(condition)
        if status in FINAL_STATUSES:
            update = update.remove(*_UNTIL_FINAL)
        message = self._update(callback.gateway_id, update, now)
        if isinstance(message, Refused) and has_number and "erased_at" in message.item:
            return self.record_status(callback._replace(detail=redacted), now=now)
        if isinstance(message, Refused):
            return self._record_loser(callback, status, MessageRecord.from_item(message.item), now)
        return StatusResult(Applied.APPLIED, message)

    def _record_beside(self, callback: StatusCallback, update: Update, applied: Applied, now: float) -> StatusResult:
        """Record a callback that does not change the status."""
        message = self._update(callback.gateway_id, update, now)
        if isinstance(message, Refused):
            return StatusResult(Applied.DUPLICATE, MessageRecord.from_item(message.item))
        return StatusResult(applied, message)

    def _record_loser(self, callback: StatusCallback, status: str, seen: MessageRecord, now: float) -> StatusResult:
        """Record a status that the message already has or had, or one of lower rank."""
        at = format_rfc3339(now)
        update = NOTHING.set(direction="MT").set_first(reference=callback.reference)
        if status not in seen.times:
            message = self._update(callback.gateway_id, update.set_first(**{f"{status}_at": at}), now)
            return StatusResult(Applied.STALE, seen if isinstance(message, Refused) else message)
        repeat = _repeat(seen, status, first_at=seen.times[status], at=at)
        update = update.add(repeats=repeat)
        message = seen
        detail = callback.detail or ""
        if seen.status == status and detail > (seen.detail or ""):
            # If one status comes with two details, the greater text is kept, so that their order does not matter.
            condition = has_a_smaller_detail(seen, detail)
            if seen.erased_at is None:
                condition &= IS_NOT_ERASED
            greater = update.set(detail=detail).only_if(condition)
            written = self._update(callback.gateway_id, greater, now)
            message = MessageRecord.from_item(written.item) if isinstance(written, Refused) else written
        # A repeat can be the first callback that has a reference.
        elif repeat or (callback.reference and seen.reference is None):
            written = self._update(callback.gateway_id, update, now)
            message = seen if isinstance(written, Refused) else written
        return StatusResult(Applied.DUPLICATE, message)

    def await_message(self, gateway_id: str, *, now: float) -> None:
        """Let reconciliation look for this item's message later, if the item still has none."""
        update = NOTHING.set(awaiting=shard(Awaiting.MESSAGE, gateway_id), look_at=int(now) + MATCH_SECONDS)
        self._update(gateway_id, update.only_if(HAS_NO_MESSAGE), now)

    def due(self, awaiting: Awaiting, *, now: float, limit: int) -> Iterator[MessageRecord]:
        """Return the items that wait for this and are due, read consistently; at most ``limit``."""
        return map(MessageRecord.from_item, self._awaiting.due(awaiting, now=now, limit=limit))

    def count_awaiting(self, awaiting: Awaiting) -> int:
        """Count the items that wait for this."""
        return self._awaiting.count(awaiting)

    def look_again(self, gateway_id: str, awaiting: Awaiting, *, at: float, counts: bool = True) -> None:
        """Set the next ``look_at`` (epoch seconds) of an item that still waits for this; ``counts``: in ``looks``."""
        self._while_awaiting(gateway_id, awaiting, NOTHING.set(look_at=int(at)).add(looks=1 if counts else None))

    def stop_waiting(self, gateway_id: str, awaiting: Awaiting) -> None:
        """Remove an item from the index, because it has what it waited for."""
        self._while_awaiting(gateway_id, awaiting, NOTHING.remove(*_UNTIL_FINAL))

    def give_up(self, gateway_id: str, awaiting: Awaiting, *, now: float) -> None:
        """Stop reconciling an item that still waits for this, and note when. A late callback still counts."""
        update = NOTHING.set(unresolved_at=format_rfc3339(now)).remove(*_UNTIL_FINAL)
        self._while_awaiting(gateway_id, awaiting, update)

    def record_reply(self, reply: ReplyCallback, *, in_reply_to: str | None, exact: bool, now: float) -> StoredReply:
        """Store a reply once per ID; if it was there already, ``repeats`` has the time.

        Raise `IdTakenError` if the ID is a message's.
        """
        at = format_rfc3339(now)
        update = NOTHING.set(
            direction="MO",
            source=reply.source,
            handset=reply.handset,
            destination=reply.destination,
            content=reply.content,
            operator=reply.operator,
            encoding=reply.encoding,
            decoded=reply.decoded if reply.encoding else None,
            reference=reply.reference,
            in_reply_to=in_reply_to,
            reply_match=("exact" if exact else "inferred") if in_reply_to else None,
            received_at=at,
            created_at=at,
        )
        written = self._table.update(reply.gateway_id, self._kept(update, now).only_if(IS_NEW), returning="ALL_NEW")
        if not isinstance(written, Refused):
            return StoredReply(ReplyRecord.from_item(written), is_new=True)
        seen = read_message(written.item)
        if not isinstance(seen, ReplyRecord):
            raise IdTakenError(reply.gateway_id)
        if repeat := _repeat(seen, "reply", first_at=seen.received_at or "", at=at):
            self._table.update(reply.gateway_id, self._kept(NOTHING.add(repeats=repeat), now))
        return StoredReply(seen, is_new=False)

    def erase(self, gateway_id: str, handset: str, *, now: float) -> None:
        """Remove what identifies a person from a message to this handset, or a reply from it."""
        update = NOTHING.set_first(erased_at=format_rfc3339(now)).remove(*_PERSONAL)
        self._table.update(gateway_id, update.only_if(equals(handset=handset)))

    def latest_sent_to(self, handset: str, *, since: float, until: float) -> str | None:
        """Return the gateway ID of the latest message in that time to which the handset can reply, if any.

        Replies and messages with a sender ID don't count, so this can read several pages.
        """
        newest = self._table.query(
            CONVERSATION_INDEX,
            ("handset", handset),
            between=("created_at", format_rfc3339(since), format_rfc3339(until)),
            where=CAN_BE_REPLIED_TO,
            newest_first=True,
        )
        return next((str(item["id"]) for item in newest), None)

    def read(self, gateway_id: str) -> MessageRecord | ReplyRecord | None:
        """Return the record with this gateway ID, read consistently; None if there is none."""
        item = self._table.get(gateway_id)
        return read_message(item) if item else None

    def conversation(self, handset: str, *, since: str = "0") -> Iterator[MessageRecord | ReplyRecord]:
        """Return the messages to and the replies from a handset, in time order; ``since``: RFC 3339, UTC."""
        return self._listed(handset, between=("created_at", since, "9"))

    def replies_from(self, handset: str) -> Iterator[ReplyRecord]:
        """Return the replies from a handset, in time order."""
        listed = self._listed(handset, between=("created_at", "0", "9"), where=equals(direction="MO"))
        return (record for record in listed if isinstance(record, ReplyRecord))

    def _listed(
        self, handset: str, *, between: Between, where: Condition | None = None
    ) -> Iterator[MessageRecord | ReplyRecord]:
        """Return the records that the index lists, each read whole, because the index has only what never changes.

        The index can be late: it still lists an item that was erased a moment ago, and which is left out.
        """
        listed = self._table.query(CONVERSATION_INDEX, ("handset", handset), between=between, where=where)
        records = (self.read(str(entry["id"])) for entry in listed)
        return (record for record in records if record is not None and record.handset == handset)

    def scan(self) -> Iterator[MessageRecord]:
        """Return every message, by reading the whole table."""
        return (record for record in map(read_message, self._table.scan()) if isinstance(record, MessageRecord))

    def _while_awaiting(self, gateway_id: str, awaiting: Awaiting, update: Update) -> None:
        """Change an item only if it still waits for this, because a callback can come meanwhile."""
        self._table.update(gateway_id, update.only_if(equals(awaiting=shard(awaiting, gateway_id))))

    def _update(self, gateway_id: str, update: Update, now: float) -> MessageRecord | Refused:
        """Return the message after the write, or the item that refused it; `IdTakenError` if that is a reply."""
        written = self._table.update(gateway_id, self._kept(update, now), returning="ALL_NEW")
        if not isinstance(written, Refused):
            return MessageRecord.from_item(written)
        if written.item.get("direction") == "MO":
            raise IdTakenError(gateway_id)
        return written

    def _kept(self, update: Update, now: float) -> Update:
        return update if "ttl" in update.values else update.set_first(ttl=int(now) + self._keep_seconds)


def _with_status(update: Update, status: str, detail: str | None, now: float) -> Update:
    """Return the update for a status that wins. `detail` belongs to it, so one without detail removes the old one."""
    update = update.set(status=status, status_rank=STATUS_RANK[status], detail=detail or None)
    update = update.set_first(**{f"{status}_at": format_rfc3339(now)})
    return update if detail else update.remove("detail")


def _as_accepted(update: Update) -> Update:
    """Add the status that HTTP 202 means; a callback that came before it has already stored a higher one."""
    return update.set_first(status="accepted", status_rank=STATUS_RANK["accepted"])


def _repeat(seen: MessageRecord | ReplyRecord, what: str, *, first_at: str, at: str) -> frozenset[str] | None:
    """Return the line ``<time> <what>`` that records a repeated callback.

    None if it is the first callback, whose write the SDK repeated after a lost response, or at `MAX_REPEATS`.
    """
    return frozenset({f"{at} {what}"}) if at != first_at and len(seen.repeats) < MAX_REPEATS else None
