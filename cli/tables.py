"""The two tables as the commands need them: one message by any of its IDs, a conversation, lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from botocore.exceptions import ClientError

from cli.stage import Facts
from optus_sms.records.health import HEALTH_KEY
from optus_sms.records.ledger import UNDECIDED_INDEX, State
from optus_sms.records.messages import HANDSET_INDEX
from optus_sms.records.table import SHARDS, Item, marshal, unmarshal

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from cli.target import Target

_MESSAGE: Final = "msg#"


@dataclass(frozen=True)
class Tables:
    """The tables of one stack."""

    client: DynamoDBClient
    ledger_name: str
    messages_name: str

    @classmethod
    def of(cls, target: Target) -> Tables:
        """Those of a target."""
        return cls(target.dynamodb, target.outputs["SendLedgerTableName"], target.outputs["MessagesTableName"])

    def ledger_item(self, message_id: str) -> Item:
        """Return the ledger's item of a message; empty if there is none."""
        return self._get(self.ledger_name, "pk", _MESSAGE + message_id)

    def row(self, gateway_id: str) -> Item:
        """Return the row of a gateway ID; empty if there is none."""
        return self._get(self.messages_name, "id", gateway_id)

    def find(self, id_: str) -> list[Facts]:
        """Return the messages with this message_id, gateway ID or reference; a reference may name several."""
        if item := self.ledger_item(id_):
            return [self._facts(id_, item)]
        if row := self.row(id_):
            return [self._facts_of_row(row)]
        message_ids = cast(
            "frozenset[str]", self._get(self.ledger_name, "pk", f"ref#{id_}").get("message_keys", frozenset())
        )
        return [
            self._facts(message_id, item)
            for message_id in sorted(message_ids)
            if (item := self.ledger_item(message_id))
        ]

    def facts(self, message_id: str) -> Facts:
        """Return everything that the tables hold of a message_id."""
        return self._facts(message_id, self.ledger_item(message_id))

    def replies_to(self, row: Item) -> tuple[Item, ...]:
        """Return the replies to a message, in time order."""
        handset = str(row.get("handset", ""))
        if not handset:
            return ()
        return tuple(reply for reply in self.conversation(handset) if reply.get("in_reply_to") == row["id"])

    def conversation(self, handset: str, *, since: str = "") -> Iterator[Item]:
        """Yield the messages to and replies from a handset, in time order; ``since``: RFC 3339, UTC."""
        pages = self.client.get_paginator("query").paginate(
            TableName=self.messages_name,
            IndexName=HANDSET_INDEX,
            KeyConditionExpression="handset = :handset AND created_at >= :since",
            ExpressionAttributeValues=marshal({":handset": handset, ":since": since or "0"}),
        )
        for page in pages:
            yield from (unmarshal(item) for item in page["Items"])

    def undecided(self, state: State) -> Iterator[Facts]:
        """Yield the messages in a state by the ledger's sparse index, without a scan."""
        for number in range(SHARDS):
            pages = self.client.get_paginator("query").paginate(
                TableName=self.ledger_name,
                IndexName=UNDECIDED_INDEX,
                KeyConditionExpression="undecided = :kind",
                ExpressionAttributeValues=marshal({":kind": f"{state}.{number}"}),
            )
            for page in pages:
                for listed in page["Items"]:
                    message_id = str(unmarshal(listed)["pk"]).removeprefix(_MESSAGE)
                    item = self.ledger_item(message_id)
                    if item.get("state") == state:
                        yield Facts(message_id, item, {})

    def scan_ledger(self, state: State) -> Iterator[Facts]:
        """Yield every message in a state, by a scan."""
        for item in self._scan(self.ledger_name):
            pk = str(item["pk"])
            if pk.startswith(_MESSAGE) and item.get("state") == state:
                yield Facts(pk.removeprefix(_MESSAGE), item, {})

    def scan_messages(self) -> Iterator[Item]:
        """Yield every message sent, by a scan."""
        return (row for row in self._scan(self.messages_name) if row.get("direction") == "MT")

    def forget_own_pause(self) -> None:
        """Remove the health check's mark from its pause, which makes the pause an operator's."""
        try:
            self.client.update_item(
                TableName=self.ledger_name,
                Key={"pk": {"S": HEALTH_KEY}},
                UpdateExpression="REMOVE paused_by",
                ConditionExpression="attribute_exists(paused_by)",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise

    def _facts(self, message_id: str, item: Item) -> Facts:
        gateway_id = item.get("gateway_id")
        row = self.row(str(gateway_id)) if gateway_id else {}
        return Facts(message_id, item, row, self.replies_to(row) if row else ())

    def _facts_of_row(self, row: Item) -> Facts:
        if row.get("direction") == "MO":
            return Facts(str(row["id"]), {}, row)
        message_id = str(row.get("message_id", ""))
        item = self.ledger_item(message_id) if message_id else {}
        return Facts(message_id or str(row["id"]), item, row, self.replies_to(row))

    def _get(self, table: str, name: str, value: str) -> Item:
        response = self.client.get_item(TableName=table, Key={name: {"S": value}}, ConsistentRead=True)
        return unmarshal(response.get("Item", {}))

    def _scan(self, table: str) -> Iterator[Item]:
        for page in self.client.get_paginator("scan").paginate(TableName=table):
            yield from (unmarshal(item) for item in page["Items"])
