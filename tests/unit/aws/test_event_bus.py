"""As few calls of PutEvents as its limits allow, and the meaning of its responses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from optus_sms.aws.event_bus import MAX_BYTES, MAX_ENTRIES, EventBus, Put
from optus_sms.model.events import SmsExpired, SmsReplyReceived

AT = "2026-01-01T00:00:05.000Z"


class Client:
    """Boto3's client. It accepts all events except those whose detail contains one of these words."""

    def __init__(self, errors: dict[str, str] | None = None) -> None:
        self.errors = errors or {}
        self.calls: list[Sequence[dict[str, Any]]] = []

    def put_events(self, *, Entries: Sequence[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self.calls.append(Entries)
        answers = []
        for entry in Entries:
            code = next((code for word, code in self.errors.items() if f'"{word}"' in entry["Detail"]), None)
            answers.append({"ErrorCode": code, "ErrorMessage": "…"} if code else {"EventId": "e"})
        return {"FailedEntryCount": len(self.errors), "Entries": answers}


def bus(client: Client) -> EventBus:
    return EventBus(cast("Any", client), "the-bus")


def expired(key: str) -> SmsExpired:
    return SmsExpired(event_id=f"id-{key}", occurred_at=AT, message_id=key, attempts=0)


def reply(length: int) -> SmsReplyReceived:
    return SmsReplyReceived(event_id="id", occurred_at=AT, gateway_id="gw-1", content="x" * length)


def size(entry: dict[str, Any]) -> int:
    """Return the size by EventBridge's formula."""
    return 14 + len(entry["Source"]) + len(entry["DetailType"]) + len(entry["Detail"].encode())


def test_an_entry_is_complete() -> None:
    client = Client()

    assert bus(client).put([expired("m1")]) == [Put.TAKEN]

    ((entry,),) = client.calls
    assert entry == {
        "EventBusName": "the-bus",
        "Source": "optus.sms",
        "DetailType": "SMS Expired",
        "Time": datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC),
        "Detail": '{"version":"1","event_id":"id-m1","occurred_at":"2026-01-01T00:00:05.000Z",'
        '"message_id":"m1","attempts":0}',
    }


def test_nothing_to_put_is_no_call() -> None:
    client = Client()

    assert bus(client).put([]) == []
    assert client.calls == []


@given(st.lists(st.sampled_from([10, 30_000, 100_000, 200_000]), max_size=40))
def test_calls_keep_the_limits_and_the_order(lengths: list[int]) -> None:
    client = Client()

    results = bus(client).put([reply(length) for length in lengths])

    assert results == [Put.TAKEN] * len(lengths)
    assert all(len(call) <= MAX_ENTRIES and sum(map(size, call)) < MAX_BYTES for call in client.calls)
    put = [entry["Detail"].count("x") - reply(0).detail_type.count("x") for call in client.calls for entry in call]
    assert put == lengths
    for call, following in zip(client.calls, client.calls[1:], strict=False):
        assert len(call) == MAX_ENTRIES or sum(map(size, call)) + size(following[0]) >= MAX_BYTES


def test_an_event_too_large_for_any_call_is_refused_and_the_others_go() -> None:
    client = Client()

    assert bus(client).put([reply(10), reply(MAX_BYTES), reply(20)]) == [Put.TAKEN, Put.REFUSED, Put.TAKEN]


def test_what_the_bus_will_never_take_is_refused() -> None:
    client = Client({"m1": "MalformedDetail"})

    assert bus(client).put([expired("m0"), expired("m1"), expired("m2")]) == [Put.TAKEN, Put.REFUSED, Put.TAKEN]


def test_after_a_failure_no_other_call_is_made() -> None:
    client = Client({"m1": "ThrottlingException"})

    results = bus(client).put([expired(f"m{n}") for n in range(25)])

    assert len(client.calls) == 1
    assert results == [Put.TAKEN, Put.FAILED, *[Put.TAKEN] * 8, *[Put.FAILED] * 15]
