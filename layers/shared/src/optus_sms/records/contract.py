"""The gateway's description of its API as it was last seen: one item of `SendLedgerTable`, `contract#gateway`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optus_sms.model.times import format_rfc3339
from optus_sms.records.table import marshal, unmarshal

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CONTRACT_KEY: Final = "contract#gateway"


class ContractRecords:
    """The item in DynamoDB. It has no `ttl`, and makes no event."""

    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def get(self) -> str | None:
        """Return the document; None if none was seen yet."""
        response = self._client.get_item(
            TableName=self._table_name, Key={"pk": {"S": CONTRACT_KEY}}, ConsistentRead=True
        )
        document = unmarshal(response.get("Item", {})).get("document")
        return document if isinstance(document, str) else None

    def put(self, document: str, *, now: float) -> None:
        """Replace the document."""
        item = marshal({"pk": CONTRACT_KEY, "document": document, "seen_at": format_rfc3339(now)})
        self._client.put_item(TableName=self._table_name, Item=item)
