"""Looking into the two tables: one message by any of its names, a conversation, lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from cli.stage import Facts
from optus_sms.records.ledger import UNDECIDED_INDEX, State
from optus_sms.records.messages import HANDSET_INDEX
from optus_sms.records.table import SHARDS, Item, marshal, unmarshal

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from cli.target import Target

_MESSAGE: Final = "msg#"


@dataclass(frozen=True)
class Tables:
    """The tables of one stack, read only."""

    client: DynamoDBClient
    ledger_name: str
    messages_name: str

    @classmethod
    def of(cls, target: Target) -> Tables:
        """Those of a target."""
        return cls(target.dynamodb, target.outputs["SendLedgerTableName"], target.outputs["MessagesTableName"])

    def ledger_item(self, key: str) -> Item:
        """What we did with a message; empty if nothing."""
        return self._get(self.ledger_name, "pk", _MESSAGE + key)

    def row(self, gateway_id: str) -> Item:
        """What the gateway says of an id; empty if nothing."""
        return self._get(self.messages_name, "id", gateway_id)

    def find(self, name: str) -> list[Facts]:
        """The messages that go by this message id, gateway id or reference; a reference may name several."""
        if item := self.ledger_item(name):
            return [self._facts(name, item)]
        if row := self.row(name):
            return [self._facts_of_row(row)]
        keys = cast("frozenset[str]", self._get(self.ledger_name, "pk", f"ref#{name}").get("message_keys", frozenset()))
        return [self._facts(key, item) for key in sorted(keys) if (item := self.ledger_item(key))]

    def facts(self, key: str) -> Facts:
        """Everything the tables say of a message id."""
        return self._facts(key, self.ledger_item(key))

    def replies_to(self, row: Item) -> tuple[Item, ...]:
        """The replies that are tied to a message, in time order."""
        handset = str(row.get("handset", ""))
        if not handset:
            return ()
        return tuple(reply for reply in self.conversation(handset) if reply.get("in_reply_to") == row["id"])

    def conversation(self, handset: str, *, since: str = "") -> Iterator[Item]:
        """Messages to and replies from a handset, in time order; ``since``: RFC 3339, UTC."""
        pages = self.client.get_paginator("query").paginate(
            TableName=self.messages_name,
            IndexName=HANDSET_INDEX,
            KeyConditionExpression="handset = :handset AND created_at >= :since",
            ExpressionAttributeValues=marshal({":handset": handset, ":since": since or "0"}),
        )
        for page in pages:
            yield from (unmarshal(item) for item in page["Items"])

    def undecided(self, state: State) -> Iterator[Facts]:
        """Messages in a state that are listed in the ledger's sparse index: no scan."""
        for number in range(SHARDS):
            pages = self.client.get_paginator("query").paginate(
                TableName=self.ledger_name,
                IndexName=UNDECIDED_INDEX,
                KeyConditionExpression="undecided = :kind",
                ExpressionAttributeValues=marshal({":kind": f"{state}.{number}"}),
            )
            for page in pages:
                for listed in page["Items"]:
                    key = str(unmarshal(listed)["pk"]).removeprefix(_MESSAGE)
                    item = self.ledger_item(key)
                    if item.get("state") == state:
                        yield Facts(key, item, {})

    def scan_ledger(self, state: State) -> Iterator[Facts]:
        """Every message in a state, by reading the whole table."""
        for item in self._scan(self.ledger_name):
            pk = str(item["pk"])
            if pk.startswith(_MESSAGE) and item.get("state") == state:
                yield Facts(pk.removeprefix(_MESSAGE), item, {})

    def scan_messages(self) -> Iterator[Item]:
        """Every message sent, by reading the whole table."""
        return (row for row in self._scan(self.messages_name) if row.get("direction") == "MT")

    def _facts(self, key: str, item: Item) -> Facts:
        gateway_id = item.get("gateway_id")
        row = self.row(str(gateway_id)) if gateway_id else {}
        return Facts(key, item, row, self.replies_to(row) if row else ())

    def _facts_of_row(self, row: Item) -> Facts:
        if row.get("direction") == "MO":
            return Facts(str(row["id"]), {}, row)
        key = str(row.get("message_id", ""))
        item = self.ledger_item(key) if key else {}
        return Facts(key or str(row["id"]), item, row, self.replies_to(row))

    def _get(self, table: str, name: str, value: str) -> Item:
        answer = self.client.get_item(TableName=table, Key={name: {"S": value}}, ConsistentRead=True)
        return unmarshal(answer.get("Item", {}))

    def _scan(self, table: str) -> Iterator[Item]:
        for page in self.client.get_paginator("scan").paginate(TableName=table):
            yield from (unmarshal(item) for item in page["Items"])
