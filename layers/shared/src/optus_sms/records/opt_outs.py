"""`OptOutTable`: which handsets have opted out or back in. Each has one item, by its number in E.164.

The decision with the latest time wins. A reply's time is when its first callback came, an operator's is when the
command ran. So the order and number of callbacks does not matter. An item stays after its handset has opted back in, so
that a late callback of an earlier reply changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from optus_sms.records.items import OptOutRecord
from optus_sms.records.table import Refused, Table
from optus_sms.records.updates import NOTHING, Condition, absent, less

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

IS_NEW: Final = absent("handset")


def is_older(record: OptOutRecord) -> Condition:
    """Require that the item has no decision, or an older one than ``record``."""
    return absent("decision") | less(decision=record.decision)


class OptOuts:
    """The records of opt-outs."""

    def __init__(self, table: Table) -> None:
        self._table = table

    @classmethod
    def connect(cls, client: DynamoDBClient, table_name: str) -> OptOuts:
        """Return the opt-outs in the table of that name."""
        return cls(Table(client, table_name, key="handset"))

    def read(self, handset: str) -> OptOutRecord | None:
        """Return the record of a handset, read consistently; None if it never opted out."""
        item = self._table.get(handset)
        return OptOutRecord.from_item(item) if item else None

    def decide(self, record: OptOutRecord, *, only_if_new: bool = False) -> OptOutRecord | None:
        """Store a decision. Return None if done, else the later one that refused it (any one with ``only_if_new``)."""
        update = NOTHING.set(
            opted_out=record.opted_out,
            since=record.since,
            by=record.by,
            reply_id=record.reply_id,
            operator=record.operator,
            decision=record.decision,
        )
        others = {"reply_id": record.reply_id, "operator": record.operator}
        update = update.remove(*(name for name, value in others.items() if value is None))
        written = self._table.update(record.handset, update.only_if(IS_NEW if only_if_new else is_older(record)))
        if not isinstance(written, Refused):
            return None
        found = OptOutRecord.from_item(written.item)
        return None if found == record else found  # the SDK repeated a write whose response was lost

    def scan(self) -> Iterator[OptOutRecord]:
        """Return every record, by reading the whole table."""
        return map(OptOutRecord.from_item, self._table.scan())
