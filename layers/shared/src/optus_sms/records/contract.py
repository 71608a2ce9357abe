"""The item `contract#gateway` of `SendLedgerTable`: the latest version of the gateway's `openapi.yaml`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import CONTRACT_KEY
from optus_sms.records.table import Table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class ContractRecords:
    """Reads and writes the item. It has no `ttl`, and causes no event."""

    def __init__(self, table: Table) -> None:
        self._table = table

    @classmethod
    def connect(cls, client: DynamoDBClient, table_name: str) -> ContractRecords:
        """Return the records in the table of that name."""
        return cls(Table(client, table_name, key="pk"))

    def get(self) -> str | None:
        """Return the document; None if none is stored yet."""
        document = self._table.get(CONTRACT_KEY).get("document")
        return document if isinstance(document, str) else None

    def put(self, document: str, *, now: float) -> None:
        """Replace the document."""
        self._table.put({"pk": CONTRACT_KEY, "document": document, "seen_at": format_rfc3339(now)})
