"""The writes that DynamoDB bills for a message and its callbacks, counted by its rules and the template's indexes.

A write costs a unit for each kilobyte of the larger of the item before and after. An index costs a unit if what it has
of the item changes, and two if its key does (DynamoDB's guide, "Global secondary indexes": write capacity).
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from optus_sms.model.callbacks import ReplyCallback, StatusCallback
from optus_sms.records.items import LedgerRecord
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from optus_sms.records.table import Item, Refused
from optus_sms.records.updates import Update, Value
from tests.contract.test_docs_commands import DOCS
from tests.support.aws import default_template
from tests.support.builders import HANDSET, NOW
from tests.support.memory_table import MemoryTable

# As long as they get: the gateway's IDs are UUIDs, the reason of a failed attempt is a few words.
MESSAGE_ID, GATEWAY_ID = "order-2026-11-27/0123456789-reminder", "0f8fad5b-d9cb-469f-a165-70867728950e"
STATUSES = ("queued", "sent", "submitted", "received")


class BilledTable(MemoryTable):
    """A table that counts the units of its writes in ``units``, by the name of the table or index."""

    def __init__(self, logical_id: str, units: Counter[str]) -> None:
        self._properties: Mapping[str, Any] = default_template().resources[logical_id].properties
        super().__init__(key=_keys(self._properties)[0])
        self._name, self._units = logical_id, units

    def update(
        self, key: str, update: Update, *, returning: Literal["NONE", "ALL_OLD", "ALL_NEW"] = "NONE"
    ) -> Item | Refused:
        before = self.get(key)
        written = super().update(key, update, returning=returning)
        after = self.get(key)
        self._units[self._name] += max(_units(before), _units(after))
        for index in self._properties["GlobalSecondaryIndexes"]:
            self._units[index["IndexName"]] += _units_of_index(self._listed(before, index), self._listed(after, index))
        return written

    def _listed(self, item: Item, index: Mapping[str, Any]) -> tuple[Item, Item]:
        """What the index has of an item: its key and all; empty if the item lacks a part of the key."""
        keys = _keys(index)
        if not item.keys() >= set(keys):
            return {}, {}
        projection = index["Projection"]
        names = {*keys, self.key, *projection.get("NonKeyAttributes", ())}
        entry = {name: value for name, value in item.items() if projection["ProjectionType"] == "ALL" or name in names}
        return {name: item[name] for name in keys}, entry


def _keys(of: Mapping[str, Any]) -> list[str]:
    return [key["AttributeName"] for key in of["KeySchema"]]


def _units_of_index(before: tuple[Item, Item], after: tuple[Item, Item]) -> int:
    if before == after:
        return 0
    if before[0] == after[0]:
        return max(_units(before[1]), _units(after[1]))
    return _units(before[1]) + _units(after[1])


def _units(item: Item) -> int:
    return math.ceil(sum(len(name.encode()) + _size(value) for name, value in item.items()) / 1024)


def _size(value: Value) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, frozenset):
        return 3 + sum(1 + len(each.encode()) for each in value)
    return 1 if isinstance(value, bool) else 21  # the longest number


def written() -> tuple[Counter[str], Counter[str], Counter[str]]:
    """The units of the sender function for a message without `reference`, of its four callbacks, and of a reply."""
    sender, statuses, reply = Counter[str](), Counter[str](), Counter[str]()
    ledger_table, messages_table = BilledTable("SendLedgerTable", sender), BilledTable("MessagesTable", sender)
    ledger, messages = Ledger(ledger_table), Messages(messages_table, retention_days=90)
    wanted = LedgerRecord(
        MESSAGE_ID, owner="0" * 32, lease_until=int(NOW) + 60, payload_sha256="0" * 64, destination=HANDSET,
        segments=2, queued_at="2026-01-01T00:00:00.000Z", ttl=int(NOW) + 1,
    )  # fmt: skip
    claim = ledger.claim(wanted, now=NOW)
    assert ledger.accepted(claim, GATEWAY_ID, now=NOW) is None
    assert messages.record_sent(GATEWAY_ID, wanted, now=NOW) is None
    messages_table._units = statuses
    for status in STATUSES:
        messages.record_status(StatusCallback(GATEWAY_ID, status, None, MESSAGE_ID), now=NOW + 60)
    messages_table._units = reply
    messages.record_reply(
        ReplyCallback("r-1", HANDSET, "+61400000000", "Yes"), in_reply_to=GATEWAY_ID, exact=False, now=NOW
    )
    return +sender, +statuses, +reply


def test_a_message_and_its_callbacks_cost_the_writes_of_the_page() -> None:
    sender, statuses, reply = written()
    assert sender == {
        "SendLedgerTable": 2, "undecided-index": 2, "MessagesTable": 1, "conversation-index": 1, "awaiting-index": 1,
    }  # fmt: skip
    assert statuses == {"MessagesTable": len(STATUSES), "awaiting-index": 1}
    assert reply == {"MessagesTable": 1, "conversation-index": 1}
    page = (DOCS / "deploy.md").read_text()
    assert f"{sender.total()} M × 0.625" in page
    of_callbacks = statuses.total() + reply.total() / 10
    assert f"{of_callbacks:.1f} M × 0.625 | {of_callbacks * 0.625:.2f} |" in page


def test_a_reference_costs_a_write_more_as_the_page_says_also_when_many_messages_share_it() -> None:
    units = Counter[str]()
    ledger = Ledger(BilledTable("SendLedgerTable", units))
    for number in range(10):
        ledger.register_reference("cost-centre-4711", f"message-{number}", ttl=int(NOW) + number)
    assert +units == {"SendLedgerTable": 10}
    page = (DOCS / "deploy.md").read_text()
    assert re.search(r"^A message with a `reference` costs .*: 0\.63 for a million", page, re.MULTILINE)
