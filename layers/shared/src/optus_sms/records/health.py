"""The item `health#gateway` of `SendLedgerTable`: the gateway's health and the pause, kept from check to check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optus_sms.records.items import HEALTH_KEY, PAUSED_BY_HEALTH_CHECK, HealthRecord
from optus_sms.records.table import Table
from optus_sms.records.updates import NOTHING, absent, equals, exists, greater

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

IS_PAUSED_BY_HEALTH_CHECK: Final = equals(paused_by=PAUSED_BY_HEALTH_CHECK)
IS_NOT_PAUSED_BY_HEALTH_CHECK: Final = absent("paused_by") | ~IS_PAUSED_BY_HEALTH_CHECK


class HealthRecords:
    """Reads and writes the item: one read and one write for each health check."""

    def __init__(self, table: Table) -> None:
        self._table = table

    @classmethod
    def connect(cls, client: DynamoDBClient, table_name: str) -> HealthRecords:
        """Return the records in the table of that name."""
        return cls(Table(client, table_name, key="pk"))

    def read(self) -> HealthRecord:
        """Return the record; a new one if there is no item."""
        return HealthRecord.from_item(self._table.get(HEALTH_KEY))

    def write(self, record: HealthRecord, *, seen: HealthRecord) -> bool:
        """Replace the record that was read; False if another check has replaced it or the pause has changed since."""
        same_checks = equals(checks=seen.checks) if seen.checks else ~greater(checks=0)
        same_pause = IS_PAUSED_BY_HEALTH_CHECK if seen.pause else IS_NOT_PAUSED_BY_HEALTH_CHECK
        item = record.to_item()
        refused = self._table.put(item, only_if=same_checks & same_pause)
        # If the SDK repeated a write whose response was lost, the refusing item is the one just written.
        return refused is None or refused.item == item

    def hand_pause_to_operator(self) -> None:
        """Turn the health check's pause into an operator's, which no health check ends."""
        self._table.update(HEALTH_KEY, NOTHING.remove("paused_by").only_if(exists("paused_by")))
