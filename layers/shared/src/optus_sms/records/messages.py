"""`MessagesTable`: what the gateway says of each message, merged from callbacks and our own write in any order.

Key ``id`` is the gateway's id. MT rows come from two sides, the sender's acceptance and the status callbacks; both only
add, so that whoever comes second completes the row. A status wins by its rank (`model.statuses`), in the database.

While an MT row waits for something, it has ``awaiting`` and ``look_at``, and is listed in the sparse index
``awaiting-index`` for `optus_sms.flows.reconcile_messages`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from botocore.exceptions import ClientError

from optus_sms.model.statuses import FINAL_STATUSES, STATUS_RANK, contradicts
from optus_sms.model.times import format_rfc3339
from optus_sms.records.table import DueIndex, Item, Value, marshal, refused_item, shard, unmarshal

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from optus_sms.model.callbacks import ReplyCallback, StatusCallback

HANDSET_INDEX: Final = "handset-index"
AWAITING_INDEX: Final = "awaiting-index"
FIRST_LOOK_SECONDS: Final = 86_400  # after it was sent: most final statuses come within minutes
MATCH_SECONDS: Final = 600  # until a callback whose message was not found is looked at again
_MAX_UNKNOWN_STATUSES: Final = 20
_MAX_REPEATS: Final = 20  # kept of a gateway that doesn't stop
_NO_REPLY: Final = "(attribute_not_exists(#direction) OR #direction = :direction)"


@dataclass(frozen=True, slots=True)
class SentMessage:
    """The sender's half of an MT row; what is None is not known and changes nothing.

    Without ``destination`` no handset lists the message.
    """

    gateway_id: str
    message_id: str
    reference: str
    destination: str | None
    segments: int | None
    masked: bool | None
    scheduled_at: float | None = None  # epoch seconds, if the gateway is to send it later


class Awaiting(StrEnum):
    """What an MT row waits for."""

    STATUS = "status"  # we sent it, and no final status has come
    MESSAGE = "message"  # a callback with a reference came, and no message was found for it


class Applied(StrEnum):
    """What a status callback changed."""

    APPLIED = "applied"  # the message has this status now
    STALE = "stale"  # a higher one was there; the time it was first seen is kept
    DUPLICATE = "duplicate"
    UNKNOWN_STATUS = "unknown_status"  # kept in a set of its own
    NO_STATUS = "no_status"


@dataclass(frozen=True, slots=True)
class StatusResult:
    """``row`` is the MT row as stored now; ``contradictory``: it holds both `received` and a final failure."""

    applied: Applied
    row: Item
    contradictory: bool


class MessageStore(Protocol):
    """What the use cases need; every implementation passes tests/contract/records/test_messages.py."""

    def record_sent(self, message: SentMessage, *, now: float) -> None:
        """The sender's half of an MT row; repeatable."""

    def record_status(self, callback: StatusCallback, *, now: float) -> StatusResult:
        """One status callback: one write; two when it does not win: it is stale, or was there and goes to ``repeats``.

        `IdTakenError` if the id is a reply's.
        """

    def await_message(self, gateway_id: str, *, now: float) -> None:
        """Let a row that no message was found for be looked at again, if it still has none."""

    def due(self, awaiting: Awaiting, *, now: float, limit: int) -> Iterator[Item]:
        """Rows that wait and whose time to be looked at has come, as they are now; at most ``limit``."""

    def count_awaiting(self, awaiting: Awaiting) -> int:
        """How many rows wait for this."""

    def look_again(self, gateway_id: str, awaiting: Awaiting, *, at: float) -> None:
        """Look again at that time (epoch seconds), if the row still waits for this; ``looks`` counts."""

    def stop_waiting(self, gateway_id: str, awaiting: Awaiting) -> None:
        """Look no more at a row that has what it waited for."""

    def give_up(self, gateway_id: str, awaiting: Awaiting, *, now: float) -> None:
        """Look no more at a row that still waits for this, and note since when. A late callback still counts."""

    def record_reply(self, reply: ReplyCallback, *, in_reply_to: str | None, exact: bool, now: float) -> bool:
        """An MO row, once per id; False if it was there: ``repeats`` keeps when. `IdTakenError` if we sent that id."""

    def latest_sent_to(self, handset: str, *, since: float, until: float) -> str | None:
        """The gateway id of the latest MT to a handset in that time that can be replied to (not masked), if any."""


class IdTakenError(Exception):
    """A reply carries the id of a message that was sent, or a status the id of a reply."""


class _RefusedError(Exception):
    """A conditional update was refused by this row."""

    def __init__(self, row: Item) -> None:
        self.row = row
        super().__init__()


class DynamoMessageStore:
    """The store in DynamoDB; rows live for ``retention_days`` after their last write."""

    def __init__(self, client: DynamoDBClient, table_name: str, *, retention_days: int) -> None:
        self._client = client
        self._table_name = table_name
        self._keep_seconds = retention_days * 86_400
        self._awaiting = DueIndex(client, table_name, AWAITING_INDEX, attribute="awaiting", key="id")

    def record_sent(self, message: SentMessage, *, now: float) -> None:
        """See `MessageStore.record_sent`."""
        known: dict[str, Value | None] = {
            "direction": "MT",
            "message_id": message.message_id,
            "reference": message.reference,
            "destination": message.destination,
            "handset": message.destination,
            "segments": message.segments,
            "masked": message.masked,
            "ttl": self._ttl(now),
            "awaiting": shard(Awaiting.STATUS, message.gateway_id),
            "look_at": int(max(now, message.scheduled_at or 0)) + FIRST_LOOK_SECONDS,
        }
        # `accepted` is what the 202 says; a callback that overtook it already holds something better.
        first: dict[str, Value | None] = {
            "status": "accepted",
            "status_rank": STATUS_RANK["accepted"],
            "accepted_at": format_rfc3339(now),
            # Its place in the conversation: a scheduled message can't be answered before it leaves the gateway.
            "created_at": format_rfc3339(max(now, message.scheduled_at or 0)) if message.destination else None,
        }
        row = self._update(message.gateway_id, known, first)
        if row["status"] in FINAL_STATUSES:  # its callback came first, so it waits for nothing
            self.stop_waiting(message.gateway_id, Awaiting.STATUS)

    def record_status(self, callback: StatusCallback, *, now: float) -> StatusResult:
        """See `MessageStore.record_status`."""
        status, at = callback.status, format_rfc3339(now)
        common: dict[str, Value | None] = {"direction": "MT", "ttl": self._ttl(now)}
        reference: dict[str, Value | None] = {"reference": callback.reference}
        if status is None:
            row = self._update(callback.gateway_id, common, reference, condition=_NO_REPLY)
            return StatusResult(Applied.NO_STATUS, row, False)
        if status not in STATUS_RANK:
            return self._record_unknown_status(callback.gateway_id, status, common, reference)
        seen = f"{status}_at"
        try:
            row = self._update(
                callback.gateway_id,
                common | {"status": status, "status_rank": STATUS_RANK[status], "detail": callback.detail},
                reference | {seen: at},
                condition=f"{_NO_REPLY} AND (attribute_not_exists(status_rank) OR status_rank < :status_rank)",
                # `detail` belongs to the status that won, so one without detail removes the loser's.
                remove=(
                    *(() if callback.detail else ("detail",)),
                    *(("awaiting", "look_at") if status in FINAL_STATUSES else ()),
                ),
            )
        except _RefusedError as refused:
            return self._record_loser(callback, status, refused.row, now)
        return StatusResult(Applied.APPLIED, row, _contradictory(row))

    def _record_loser(self, callback: StatusCallback, status: str, row: Item, now: float) -> StatusResult:
        """A status that the row has already, or that is less than what it has."""
        at, seen = format_rfc3339(now), f"{status}_at"
        common: dict[str, Value | None] = {"direction": "MT", "ttl": self._ttl(now)}
        reference: dict[str, Value | None] = {"reference": callback.reference}
        if seen not in row:
            row = self._update(callback.gateway_id, common, reference | {seen: at})
            return StatusResult(Applied.STALE, row, _contradictory(row))
        repeat = _repeat(row, status, first_at=str(row[seen]), at=at)
        if row["status"] == status and (callback.detail or "") > str(row.get("detail", "")):
            row = self._keep_greater_detail(callback, row, common, repeat)
        elif repeat or (callback.reference and "reference" not in row):  # a repeat may be the first one to have it
            row = self._update(callback.gateway_id, common, reference, add=repeat)
        return StatusResult(Applied.DUPLICATE, row, False)

    def _keep_greater_detail(
        self, callback: StatusCallback, row: Item, common: dict[str, Value | None], repeat: dict[str, Value | None]
    ) -> Item:
        """The row has this very status, with a smaller detail or none: the greater text stays, in whatever order."""
        try:
            return self._update(
                callback.gateway_id,
                common | {"detail": callback.detail},
                {"reference": callback.reference},
                add=repeat,
                condition="status_rank = :same AND (attribute_not_exists(#detail) OR #detail < :detail)",
                values={":same": row["status_rank"]},
            )
        except _RefusedError as refused:
            return refused.row

    def _record_unknown_status(
        self, gateway_id: str, status: str, common: dict[str, Value | None], first: dict[str, Value | None]
    ) -> StatusResult:
        """Bounded, so that a gateway gone mad can't fill the item."""
        try:
            row = self._update(
                gateway_id,
                common,
                first,
                add={"unknown_statuses": frozenset({status})},
                condition=f"{_NO_REPLY} AND (attribute_not_exists(unknown_statuses) OR size(unknown_statuses) < :max)",
                values={":max": _MAX_UNKNOWN_STATUSES},
            )
        except _RefusedError as refused:
            return StatusResult(Applied.DUPLICATE, refused.row, False)
        return StatusResult(Applied.UNKNOWN_STATUS, row, False)

    def await_message(self, gateway_id: str, *, now: float) -> None:
        """See `MessageStore.await_message`."""
        with contextlib.suppress(_RefusedError):
            self._update(
                gateway_id,
                {"awaiting": shard(Awaiting.MESSAGE, gateway_id), "look_at": int(now) + MATCH_SECONDS},
                {},
                condition="attribute_exists(id) AND attribute_not_exists(message_id)",
            )

    def due(self, awaiting: Awaiting, *, now: float, limit: int) -> Iterator[Item]:
        """See `MessageStore.due`."""
        return self._awaiting.due(awaiting, now=now, limit=limit)

    def count_awaiting(self, awaiting: Awaiting) -> int:
        """See `MessageStore.count_awaiting`."""
        return self._awaiting.count(awaiting)

    def look_again(self, gateway_id: str, awaiting: Awaiting, *, at: float) -> None:
        """See `MessageStore.look_again`."""
        self._while_awaiting(gateway_id, awaiting, "SET look_at = :at ADD looks :one", {":at": int(at), ":one": 1})

    def stop_waiting(self, gateway_id: str, awaiting: Awaiting) -> None:
        """See `MessageStore.stop_waiting`."""
        self._while_awaiting(gateway_id, awaiting, "REMOVE awaiting, look_at", {})

    def give_up(self, gateway_id: str, awaiting: Awaiting, *, now: float) -> None:
        """See `MessageStore.give_up`."""
        update = "SET unresolved_at = :now REMOVE awaiting, look_at"
        self._while_awaiting(gateway_id, awaiting, update, {":now": format_rfc3339(now)})

    def _while_awaiting(
        self, gateway_id: str, awaiting: Awaiting, update: str, values: dict[str, Value | None]
    ) -> None:
        """Change a row if it still waits for this: a callback may have come meanwhile."""
        try:
            self._client.update_item(
                TableName=self._table_name,
                Key={"id": {"S": gateway_id}},
                UpdateExpression=update,
                ConditionExpression="awaiting = :awaiting",
                ExpressionAttributeValues=marshal(values | {":awaiting": shard(awaiting, gateway_id)}),
            )
        except ClientError as error:
            if refused_item(error) is None:
                raise

    def record_reply(self, reply: ReplyCallback, *, in_reply_to: str | None, exact: bool, now: float) -> bool:
        """See `MessageStore.record_reply`."""
        item: dict[str, Value | None] = {
            "id": reply.gateway_id,
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
            "received_at": format_rfc3339(now),
            "created_at": format_rfc3339(now),
            "ttl": self._ttl(now),
        }
        try:
            self._client.put_item(
                TableName=self._table_name,
                Item=marshal(item),
                ConditionExpression="attribute_not_exists(id)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            refused_by = refused_item(error)
            if refused_by is None:
                raise
            if refused_by.get("direction") != "MO":
                raise IdTakenError(reply.gateway_id) from None
            first_at, at = str(refused_by.get("received_at", "")), format_rfc3339(now)
            if repeat := _repeat(refused_by, "reply", first_at=first_at, at=at):
                self._update(reply.gateway_id, {"ttl": self._ttl(now)}, {}, add=repeat)
            return False
        return True

    def latest_sent_to(self, handset: str, *, since: float, until: float) -> str | None:
        """See `MessageStore.latest_sent_to`. Reads pages until one is found: replies and masked rows don't count."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table_name,
            IndexName=HANDSET_INDEX,
            KeyConditionExpression="handset = :handset AND created_at BETWEEN :since AND :until",
            FilterExpression="direction = :mt AND masked = :no",
            ExpressionAttributeValues=marshal(
                {
                    ":handset": handset,
                    ":since": format_rfc3339(since),
                    ":until": format_rfc3339(until),
                    ":mt": "MT",
                    ":no": False,
                }
            ),
            ScanIndexForward=False,
        )
        for page in pages:
            for item in page["Items"]:
                return cast("str", unmarshal(item)["id"])
        return None

    def _update(
        self,
        gateway_id: str,
        known: dict[str, Value | None],
        first: dict[str, Value | None],
        *,
        add: dict[str, Value | None] | None = None,
        remove: tuple[str, ...] = (),
        condition: str | None = None,
        values: dict[str, Value | None] | None = None,
    ) -> Item:
        """Set what is ``known``, and what is only true the ``first`` time; the whole row. None is left out.

        A refused ``condition`` raises `IdTakenError` if the row is a reply's, else `_RefusedError`.
        """
        known = {name: value for name, value in known.items() if value is not None}
        first = {name: value for name, value in first.items() if value is not None}
        sets = [f"#{name} = :{name}" for name in known] + [
            f"#{name} = if_not_exists(#{name}, :{name})" for name in first
        ]
        update = "SET " + ", ".join(sets)
        if remove:
            update += " REMOVE " + ", ".join(f"#{name}" for name in remove)
        if add:
            update += " ADD " + ", ".join(f"#{name} :{name}" for name in add)
        every: dict[str, Value | None] = {**known, **first, **(add or {})}
        used = {f":{name}": value for name, value in every.items()} | (values or {})
        arguments: dict[str, Any] = {"ConditionExpression": condition} if condition else {}
        try:
            answer = self._client.update_item(
                TableName=self._table_name,
                Key={"id": {"S": gateway_id}},
                UpdateExpression=update,
                ExpressionAttributeNames={f"#{name}": name for name in (*every, *remove)},
                ExpressionAttributeValues=marshal(used),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **arguments,
            )
        except ClientError as error:
            refused_by = refused_item(error)
            if refused_by is None:
                raise
            if refused_by.get("direction") == "MO":
                raise IdTakenError(gateway_id) from None
            raise _RefusedError(refused_by) from None
        return unmarshal(answer.get("Attributes", {}))

    def _ttl(self, now: float) -> int:
        return int(now) + self._keep_seconds


def _repeat(row: Item, what: str, *, first_at: str, at: str) -> dict[str, Value | None]:
    """What keeps that a callback came again: a line ``<time> <what>``.

    Empty if it is the first one, whose write the SDK repeated because the answer was lost, or if there are enough.
    """
    kept = cast("frozenset[str]", row.get("repeats", frozenset()))
    return {"repeats": frozenset({f"{at} {what}"})} if at != first_at and len(kept) < _MAX_REPEATS else {}


def _contradictory(row: Item) -> bool:
    return contradicts(status for status in STATUS_RANK if f"{status}_at" in row)
