"""`MessagesTable`: what the gateway says of each message, merged from callbacks and our own write in any order.

Key ``id`` is the gateway's id. MT rows come from two sides, the sender's acceptance and the status callbacks; both only
add, so that whoever comes second completes the row. A status wins by its rank (`optus_sms.delivery`), in the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from botocore.exceptions import ClientError

from optus_sms.delivery import STATUS_RANK, contradicts
from optus_sms.dynamodb import Item, Value, marshal, refused_item, unmarshal
from optus_sms.times import format_rfc3339

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from optus_sms.callbacks import ReplyCallback, StatusCallback

HANDSET_INDEX: Final = "handset-index"
_MAX_UNKNOWN_STATUSES: Final = 20
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
    """What the use cases need; every implementation passes tests/contract/test_message_store.py."""

    def record_sent(self, message: SentMessage, *, now: float) -> None:
        """The sender's half of an MT row; repeatable."""

    def record_status(self, callback: StatusCallback, *, now: float) -> StatusResult:
        """One status callback: one write; two when it is stale and its status, or a greater detail of it, is new.

        `IdTakenError` if the id is a reply's.
        """

    def record_reply(self, reply: ReplyCallback, *, in_reply_to: str | None, exact: bool, now: float) -> bool:
        """An MO row, once per id; False if it was there. `IdTakenError` if the id is a message we sent."""

    def latest_sent_to(self, handset: str, *, since: float) -> str | None:
        """The gateway id of the latest MT to a handset that can be replied to (not masked), if any."""


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
        }
        # `accepted` is what the 202 says; a callback that overtook it already holds something better.
        first: dict[str, Value | None] = {
            "status": "accepted",
            "status_rank": STATUS_RANK["accepted"],
            "accepted_at": format_rfc3339(now),
            "created_at": format_rfc3339(now) if message.destination else None,
        }
        self._update(message.gateway_id, known, first)

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
                remove=() if callback.detail else ("detail",),
            )
        except _RefusedError as refused:
            if refused.row.get("status") == status and (callback.detail or "") > str(refused.row.get("detail", "")):
                return StatusResult(Applied.DUPLICATE, self._keep_greater_detail(callback, refused.row), False)
            if seen in refused.row:
                return StatusResult(Applied.DUPLICATE, refused.row, False)
            row = self._update(callback.gateway_id, common, reference | {seen: at})
            return StatusResult(Applied.STALE, row, _contradictory(row))
        return StatusResult(Applied.APPLIED, row, _contradictory(row))

    def _keep_greater_detail(self, callback: StatusCallback, row: Item) -> Item:
        """The row has this very status, with a smaller detail or none: the greater text stays, in whatever order."""
        try:
            return self._update(
                callback.gateway_id,
                {"detail": callback.detail},
                {},
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
            return False
        return True

    def latest_sent_to(self, handset: str, *, since: float) -> str | None:
        """See `MessageStore.latest_sent_to`. Reads pages until one is found: replies and masked rows don't count."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table_name,
            IndexName=HANDSET_INDEX,
            KeyConditionExpression="handset = :handset AND created_at >= :since",
            FilterExpression="direction = :mt AND masked = :no",
            ExpressionAttributeValues=marshal(
                {":handset": handset, ":since": format_rfc3339(since), ":mt": "MT", ":no": False}
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


def _contradictory(row: Item) -> bool:
    return contradicts(status for status in STATUS_RANK if f"{status}_at" in row)
