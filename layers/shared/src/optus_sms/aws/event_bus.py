"""`SmsEventBus`: puts events on it, as many in one call as EventBridge accepts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from optus_sms.model.events import SOURCE, Event

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

# EventBridge, PutEvents: "The total entry size must be less than 256KB … up to 10 entries".
MAX_ENTRIES: Final = 10
MAX_BYTES: Final = 256 * 1024
_TIME_BYTES: Final = 14
# Error codes of an entry that EventBridge will never accept; after any other a retry can succeed.
_REFUSED_FOR_GOOD: Final = frozenset({"MalformedDetail", "InvalidArgument"})


class Put(Enum):
    """The result for one event."""

    TAKEN = auto()
    REFUSED = auto()  # a retry would be refused too
    FAILED = auto()  # to be retried


class _Sized(NamedTuple):
    entry: PutEventsRequestEntryTypeDef
    size: int


class EventBus:
    """The bus in EventBridge. It raises boto3's error if a whole call fails."""

    def __init__(self, client: EventBridgeClient, bus_name: str) -> None:
        self._client = client
        self._bus_name = bus_name

    def put(self, events: Sequence[Event]) -> list[Put]:
        """Put events on the bus in order, and return a result for each. After a failed call it makes no other.

        An event too large for any call is refused.
        """
        results: list[Put] = []
        for batch in _batches([self._sized(event) for event in events]):
            if Put.FAILED in results:
                results += [Put.FAILED] * len(batch)
            elif batch[0].size >= MAX_BYTES:
                results.append(Put.REFUSED)
            else:
                response = self._client.put_events(Entries=[sized.entry for sized in batch])
                results += [_result(entry.get("ErrorCode")) for entry in response["Entries"]]
        return results

    def _sized(self, event: Event) -> _Sized:
        detail = json.dumps(event.to_detail(), ensure_ascii=False, separators=(",", ":"))
        entry: PutEventsRequestEntryTypeDef = {
            "EventBusName": self._bus_name,
            "Source": SOURCE,
            "DetailType": event.detail_type,
            "Time": datetime.fromisoformat(event.occurred_at),
            "Detail": detail,
        }
        # EventBridge's formula ("Calculating PutEvents event entry size").
        size = _TIME_BYTES + len(SOURCE) + len(event.detail_type) + len(detail.encode("utf-8", "surrogatepass"))
        return _Sized(entry, size)


def _batches(entries: Sequence[_Sized]) -> Iterator[list[_Sized]]:
    """Split entries into as few calls as the limits allow, in order; an entry too large for any call is alone."""
    batch: list[_Sized] = []
    for entry in entries:
        if batch and (len(batch) == MAX_ENTRIES or sum(sized.size for sized in batch) + entry.size >= MAX_BYTES):
            yield batch
            batch = []
        batch.append(entry)
    if batch:
        yield batch


def _result(error_code: str | None) -> Put:
    if error_code is None:
        return Put.TAKEN
    return Put.REFUSED if error_code in _REFUSED_FOR_GOOD else Put.FAILED
