"""Changes read from a table's stream: one item before and after a write, as typed records."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import (
    HEALTH_KEY,
    MESSAGE_PREFIX,
    REFUSED_PREFIX,
    HealthRecord,
    LedgerRecord,
    MessageRecord,
    OptOutRecord,
    RefusedRecord,
    ReplyRecord,
    read_message,
)
from optus_sms.records.table import Item, unmarshal

Record = LedgerRecord | RefusedRecord | HealthRecord | MessageRecord | ReplyRecord | OptOutRecord


class Change(NamedTuple):
    """One write to an item. ``before``: None for a new item. ``at``: RFC 3339, when the stream recorded the write."""

    before: Record | None
    after: Record
    at: str


def read_change(record: Mapping[str, Any]) -> Change | None:
    """Read a record of Lambda's DynamoDB event; None for a deletion, and for an item that is not a record.

    A malformed record raises any exception.
    """
    images = record["dynamodb"]
    if record["eventName"] == "REMOVE":
        return None
    new = unmarshal(images["NewImage"])
    after = read_item(new)
    if after is None:
        return None
    if isinstance(after, LedgerRecord | HealthRecord) and after.state != new["state"]:  # edited by hand
        raise ValueError("state: is not one of the record's states")
    at = format_rfc3339(float(images["ApproximateCreationDateTime"]))
    return Change(read_item(unmarshal(images.get("OldImage", {}))), after, at)


def read_item(item: Item) -> Record | None:
    """Read an item of any table; None for an item that is not a record: a reference, or one without a state."""
    key = str(item.get("pk", ""))
    if key.startswith(MESSAGE_PREFIX):
        return LedgerRecord.from_item(item) if "state" in item else None
    if key.startswith(REFUSED_PREFIX):
        return RefusedRecord.from_item(item)
    if key == HEALTH_KEY:
        return HealthRecord.from_item(item) if "state" in item else None
    if "id" in item:
        return read_message(item)
    return OptOutRecord.from_item(item) if "handset" in item and not key else None


def subject_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the changed item's ID as a log field, ``gateway_id`` or ``message_id``; empty if it has neither."""
    try:
        keys = unmarshal(record["dynamodb"]["Keys"])
    except (KeyError, TypeError, AttributeError):
        return {}
    if "id" in keys:
        return {"gateway_id": str(keys["id"])}
    return {"message_id": str(keys["pk"]).removeprefix(MESSAGE_PREFIX)} if "pk" in keys else {}
