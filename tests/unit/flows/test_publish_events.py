"""The event of each change, and the result of a batch after a failure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optus_sms.aws.event_bus import EventBus, Put
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.flows.publish_events import Publisher, event_of
from optus_sms.model.events import (
    EVENT_TYPES,
    Event,
    SmsOptOutChanged,
    SmsOutcomeUnknown,
    SmsRejected,
    SmsReplyReceived,
    SmsStatusChanged,
)
from optus_sms.model.statuses import STATUS_RANK
from optus_sms.records.changes import Change, read_change, read_item
from optus_sms.records.items import HEALTH_KEY, Health, State
from optus_sms.records.table import Item, marshal
from optus_sms.runtime.observability import Metric
from tests.support.fakes import FakeClock, RecordingQueues

EVENTS = Path(__file__).parents[3] / "events" / "stream"
AT = "2026-01-01T00:00:05.000Z"
LATER = "2026-01-01T00:00:09.000Z"


def records(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((EVENTS / f"{name}.json").read_text())["Records"]
    return found


def events_of(name: str, **options: bool) -> list[Event]:
    changes = [read_change(record) for record in records(name)]
    return [event for change in changes if change and (event := event_of(change, **options))]


def event_between(before: Item, after: Item, at: str = AT, **options: bool) -> Event | None:
    """Return the event of a write to an item, if there is one."""
    change = change_between(before, after, at)
    return event_of(change, **options) if change else None


def change_between(before: Item, after: Item, at: str = AT) -> Change | None:
    record = read_item(after)
    return Change(read_item(before), record, at) if record else None


def message(state: str | None, **more: Any) -> Item:
    return {"pk": "msg#message-1", **({"state": state} if state else {}), **more}


# The event of each change


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "accepted",
            {
                "name": "SMS Accepted",
                "message_id": "appointment-4711",
                "reference": "appointment-4711",
                "gateway_id": "497f6eca-6276-4993-bfeb-53cbbbba6f08",
                "segments": 1,
                "attempts": 1,
                "occurred_at": "2026-01-01T00:00:01.000Z",
            },
        ),
        (
            "rejected",
            {
                "name": "SMS Rejected",
                "message_id": "appointment-4712",
                "reference": "appointment-4712",
                "reason": "rejected",
                "detail": "rejected (status 400)",
                "attempts": 1,
                "occurred_at": "2026-01-01T00:00:01.000Z",
            },
        ),
        (
            "refused",
            {
                "name": "SMS Refused",
                "message_id": "appointment-4715",
                "reason": "invalid",
                "detail": "destination: is missing; must be an E.164 number with a leading +, like …",
                "occurred_at": "2026-01-01T00:00:01.000Z",
            },
        ),
        (
            "expired",
            {
                "name": "SMS Expired",
                "message_id": "one-time-code-1",
                "attempts": 0,
                "occurred_at": "2026-01-01T00:00:01.000Z",
            },
        ),
        (
            "recalled",
            {
                "name": "SMS Recalled",
                "message_id": "reminder-1",
                "attempts": 0,
                "occurred_at": "2026-01-01T00:00:01.000Z",
            },
        ),
        (
            "opted_out",
            {
                "name": "SMS Opt-Out Changed",
                "handset": "+61491570006",
                "opted_out": True,
                "by": "reply",
                "gateway_id": "7d3a1c62-0f0e-4a25-9a8c-1f8b7a6f5e21",
                "occurred_at": "2026-01-01T00:00:01.000Z",
            },
        ),
        (
            "outcome_unknown",
            {
                "name": "SMS Outcome Unknown",
                "message_id": "appointment-4713",
                "reference": "appointment-4713",
                "reason": "closed_without_response",
                "on_unknown": "hold",
                "unknown_outcomes": 1,
                "attempts": 1,
                "occurred_at": "2026-01-01T00:00:01.000Z",
            },
        ),
        (
            "outcome_resolved_later",
            {
                "name": "SMS Accepted",
                "message_id": "appointment-4713",
                "reference": "appointment-4713",
                "gateway_id": "497f6eca-6276-4993-bfeb-53cbbbba6f09",
                "segments": 1,
                "attempts": 1,
                "resolved_by": "callback",
                "occurred_at": "2026-01-01T00:00:09.000Z",
            },
        ),
        (
            "health_changed",
            {
                "name": "Gateway Health Changed",
                "state": "unhealthy",
                "previous_state": "healthy",
                "reason": "status 503",
            },
        ),
        (
            "status_received",
            {
                "name": "SMS Status Changed",
                "gateway_id": "497f6eca-6276-4993-bfeb-53cbbbba6f08",
                "message_id": "appointment-4711",
                "reference": "appointment-4711",
                "status": "received",
                "previous_status": "submitted",
                "final": True,
                "occurred_at": "2026-01-01T00:00:07.000Z",
            },
        ),
        (
            "status_undelivered",
            {
                "name": "SMS Status Changed",
                "gateway_id": "497f6eca-6276-4993-bfeb-53cbbbba6f08",
                "message_id": "appointment-4711",
                "reference": "appointment-4711",
                "status": "rejected",
                "previous_status": "submitted",
                "final": True,
                "detail": "Unknown subscriber",
                "occurred_at": "2026-01-01T00:00:07.000Z",
            },
        ),
        (
            "reply",
            {
                "name": "SMS Reply Received",
                "gateway_id": "7d3a1c62-0f0e-4a25-9a8c-1f8b7a6f5e21",
                "source": "+61491570006",
                "destination": "+61480000000",
                "content": "Yes please",
                "in_reply_to": "497f6eca-6276-4993-bfeb-53cbbbba6f08",
                "reply_match": "exact",
                "occurred_at": "2026-01-01T00:00:30.000Z",
            },
        ),
    ],
)
def test_each_fact_is_one_event(file: str, expected: dict[str, Any]) -> None:
    (event,) = events_of(file)

    detail = event.to_detail()
    assert detail.pop("version") == "1"
    assert len(detail.pop("event_id")) == 32
    if file == "health_changed":
        detail.pop("occurred_at")
    assert {"name": event.detail_type, **detail} == expected


def test_a_deletion_is_no_event() -> None:
    assert events_of("deleted_by_ttl") == []


def test_without_reply_text_everything_else_is_told() -> None:
    (whole,), (without,) = events_of("reply"), events_of("reply", reply_text=False)

    assert "content" not in without.to_detail()
    assert without.to_detail() == {name: value for name, value in whole.to_detail().items() if name != "content"}


def test_a_status_that_came_before_our_own_write_comes_again_with_the_key() -> None:
    early, known = events_of("status_before_our_own_write")

    assert isinstance(early, SmsStatusChanged)
    assert isinstance(known, SmsStatusChanged)
    assert (early.message_id, known.message_id) == (None, "appointment-4711")
    assert (early.status, known.status) == ("sent", "sent")
    assert known.previous_status is None
    assert early.event_id != known.event_id


def test_the_first_accepted_of_a_row_is_told_by_sms_accepted_alone() -> None:
    row: Item = {"id": "gw-1", "direction": "MT", "message_id": "message-1", "status": "accepted"}

    assert event_between({}, row) is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("+642712345678", "…"),  # the detail in the gateway's own example of a status callback
        ("to +61 491 570 006: absent", "to …: absent"),
        ("0491-570.006", "…"),
        ("error 1024, tried 50 times", "error 1024, tried 50 times"),
    ],
)
def test_a_detail_tells_nobodys_number(given: str, told: str) -> None:
    row: Item = {"id": "gw-1", "direction": "MT", "message_id": "message-1", "status": "received", "detail": given}

    event = event_between({}, row)

    assert isinstance(event, SmsStatusChanged)
    assert event.detail == told


@pytest.mark.parametrize("state", ["SENDING", "RETRY"])
def test_the_way_there_is_no_event(state: str) -> None:
    assert event_between({}, message(state)) is None


@pytest.mark.parametrize("item", [{"pk": "ref#order-1", "message_keys": frozenset({"a"})}, {"other": "x"}, {}])
def test_other_items_make_no_event(item: Item) -> None:
    assert event_between({}, item) is None


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, "healthy", False),
        (None, "unknown", False),
        (None, "unhealthy", True),
        ("healthy", "healthy", False),
        ("healthy", "unhealthy", True),
        ("unhealthy", "unknown", True),
        ("unknown", "healthy", True),
    ],
)
def test_health_is_told_when_it_changes(before: str | None, after: str, told: bool) -> None:
    old: Item = {"pk": HEALTH_KEY, "state": before} if before else {}
    event = event_between(old, {"pk": HEALTH_KEY, "state": after, "reason": "ok"})

    assert (event is not None) is told


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, True, True),
        (None, False, False),  # it never was opted out
        (True, True, False),  # a second STOP
        (True, False, True),
        (False, True, True),
        (False, False, False),
    ],
)
def test_an_opt_out_is_told_when_it_changes(before: bool | None, after: bool, told: bool) -> None:
    key: Item = {"handset": "+61491570006"}
    event = event_between(
        {} if before is None else key | {"opted_out": before}, key | {"opted_out": after, "since": AT}
    )

    assert (event is not None) is told
    assert event is None or (event.to_detail()["opted_out"], event.occurred_at) == (after, AT)


def test_an_opt_out_that_can_not_be_published_leaves_no_number_in_its_note() -> None:
    bus, queues = ScriptedBus({"SMS Opt-Out Changed": Put.REFUSED}), RecordingQueues()
    publisher(bus, queues).publish_batch(records("opted_out"))
    (letter,) = queues.dead_letters
    assert "61491570006" not in f"{letter.body!r} {letter.message_id}"


def test_a_second_unknown_outcome_of_a_message_is_another_event() -> None:
    first = event_between(message("SENDING"), message("UNKNOWN", attempts=1, unknown_since=AT))
    second = event_between(message("SENDING"), message("UNKNOWN", attempts=2, unknown_since=LATER), LATER)

    assert first is not None
    assert second is not None
    assert first.event_id != second.event_id


@pytest.mark.parametrize("time", [{}, {"rejected_at": "26.11.2026 09:00"}])
def test_an_item_edited_by_hand_is_told_with_the_time_of_the_change(time: Item) -> None:
    event = event_between(message("SENDING"), message("REJECTED", **time))

    assert event is not None
    assert event.occurred_at == AT


@pytest.mark.parametrize(
    ("stored", "told"), [({"reason": "attempts_exhausted"}, "attempts_exhausted"), ({}, "rejected")]
)
def test_a_rejection_is_told_with_its_reason(stored: Item, told: str) -> None:
    event = event_between(message("SENDING"), message("REJECTED", **stored))

    assert isinstance(event, SmsRejected)
    assert event.reason == told


@pytest.mark.parametrize(("stored", "told"), [({"unknown_outcomes": 2}, 2), ({}, 1)])
def test_an_unknown_outcome_is_told_with_its_number(stored: Item, told: int) -> None:
    event = event_between(message("SENDING"), message("UNKNOWN", **stored))

    assert isinstance(event, SmsOutcomeUnknown)
    assert event.unknown_outcomes == told


def test_a_repeated_callback_is_no_event() -> None:
    row: Item = {"id": "gw-1", "direction": "MT", "message_id": "message-1", "status": "sent", "sent_at": AT}

    assert event_between(row, row | {"repeats": frozenset({f"{LATER} sent"})}) is None


# Properties

_values = st.one_of(
    st.sampled_from([*State, *STATUS_RANK, "MT", "MO", "healthy", "unhealthy", "resend", "exact"]),
    st.text(max_size=8),
    st.integers(0, 9),
    st.booleans(),
)
_names = st.sampled_from(
    [
        *("status", "direction", "message_id", "reference", "gateway_id", "attempts", "segments", "reason"),
        *("detail", "content", "source", "destination", "handset", "received_at", "accepted_at", "in_reply_to"),
        *("reply_match", "resolved_by", "on_unknown", "unknown_outcomes", "ttl", "sent_at"),
    ]
)
_attributes = st.dictionaries(_names, _values, max_size=8)
_keys = st.sampled_from(
    [
        {"pk": "msg#message-1"},
        {"pk": "health#gateway"},
        {"pk": "ref#order-1"},
        {"pk": "refused#1"},
        {"id": "gw-1"},
        {"handset": "+61491570006"},
    ]
)


@st.composite
def items(draw: st.DrawFn) -> tuple[Item, Item]:
    """Return an item before and after a write; empty if there was none. Only its state is a valid one."""
    key: Item = dict(draw(_keys))
    states = st.sampled_from([str(state) for state in (Health if key.get("pk") == HEALTH_KEY else State)])

    def image() -> Item:
        state: Item = {"state": draw(states)} if draw(st.booleans()) else {}
        return {**draw(_attributes), **state, **key}

    return image() if draw(st.booleans()) else {}, image()


@given(items())
def test_any_change_makes_at_most_one_event_and_repeats_agree(images: tuple[Item, Item]) -> None:
    event, again = event_between(*images), event_between(*images)

    assert event == again
    assert event is None or type(event) in EVENT_TYPES


@given(items())
def test_what_stays_as_it_was_makes_no_event(images: tuple[Item, Item]) -> None:
    assert event_between(images[1], images[1]) is None


@given(items(), st.booleans())
def test_numbers_and_text_leave_in_replies_only(images: tuple[Item, Item], reply_text: bool) -> None:
    number, text = "+61491570006", "canary text"
    private: Item = {"destination": number, "handset": number, "source": number, "content": text}
    event = event_between(images[0], {**images[1], **private}, reply_text=reply_text)
    told = json.dumps(event.to_detail()) if event else ""

    assert isinstance(event, SmsReplyReceived | SmsOptOutChanged) or (number not in told)
    assert (text in told) is (isinstance(event, SmsReplyReceived) and reply_text)


@given(items())
def test_marshalled_images_are_read_back(images: tuple[Item, Item]) -> None:
    assert read_change(stream_record(*images)) == change_between(*images)


def _key_of(item: Item) -> str:
    return next(name for name in ("pk", "id", "handset") if name in item)


def stream_record(before: Item, after: Item, number: int = 1) -> dict[str, Any]:
    images: dict[str, Any] = {
        "ApproximateCreationDateTime": 1767225605.0,
        "Keys": marshal({name: value for name, value in after.items() if name == _key_of(after)}),
        "NewImage": marshal(after),
        "SequenceNumber": str(number),
    }
    if before:
        images["OldImage"] = marshal(before)
    return {"eventName": "MODIFY", "eventSource": "aws:dynamodb", "dynamodb": images, "eventID": f"event-{number}"}


# Batches


class ScriptedBus(EventBus):
    """Accepts all events except those of these messages, or of these names for events without a message."""

    def __init__(self, others: Mapping[str, Put | Exception] | None = None) -> None:
        self.others = dict(others or {})
        self.taken: list[str] = []

    def put(self, events: Sequence[Event]) -> list[Put]:
        results = []
        for event in events:
            subject = str(event.to_detail().get("message_id", event.detail_type))
            result = self.others.get(subject, Put.TAKEN)
            if isinstance(result, Exception):
                raise result
            if result is Put.TAKEN:
                self.taken.append(subject)
            results.append(result)
        return results


def accepted_record(number: int) -> dict[str, Any]:
    key: Item = {"pk": f"msg#m{number}"}
    return stream_record({**key, "state": "SENDING"}, {**key, "state": "ACCEPTED"}, number)


def unreadable_record(number: int) -> dict[str, Any]:
    record = accepted_record(number)
    record["dynamodb"]["NewImage"]["attempts"] = {"N": "many"}
    return record


def publisher(bus: ScriptedBus, queues: RecordingQueues) -> Publisher:
    return Publisher(bus=bus, queues=queues, clock=FakeClock().clock)


def test_a_batch_is_published_in_its_order() -> None:
    bus, queues = ScriptedBus(), RecordingQueues()
    result = publisher(bus, queues).publish_batch([accepted_record(n) for n in range(25)])

    assert result.failed_from is None
    assert bus.taken == [f"m{n}" for n in range(25)]
    assert result.measurements == ((Metric.EVENTS_PUBLISHED, 25.0),)


def test_recalls_are_counted_here_because_the_command_line_publishes_no_metric() -> None:
    result = publisher(ScriptedBus(), RecordingQueues()).publish_batch([*records("recalled"), *records("accepted")])
    assert result.measurements == ((Metric.EVENTS_PUBLISHED, 2.0), (Metric.MESSAGES_RECALLED, 1.0))


def test_what_makes_no_event_is_done() -> None:
    bus, queues = ScriptedBus(), RecordingQueues()
    result = publisher(bus, queues).publish_batch(records("deleted_by_ttl"))

    assert (result.failed_from, result.measurements, bus.taken) == (None, (), [])


def test_all_come_again_from_the_first_one_that_failed() -> None:
    bus, queues = ScriptedBus({"m3": Put.FAILED}), RecordingQueues()
    result = publisher(bus, queues).publish_batch([accepted_record(n) for n in range(6)])

    assert result.failed_from == "3"
    assert queues.dead_letters == []
    assert result.measurements == ((Metric.EVENTS_PUBLISHED, 3.0),)


def test_a_call_that_fails_brings_all_again() -> None:
    bus, queues = ScriptedBus({"m0": TimeoutError()}), RecordingQueues()
    result = publisher(bus, queues).publish_batch([accepted_record(n) for n in range(3)])

    assert result.failed_from == "0"


def test_an_unreadable_record_is_kept_and_stops_nobody() -> None:
    bus, queues = ScriptedBus(), RecordingQueues()
    batch = [accepted_record(0), unreadable_record(1), accepted_record(2)]
    result = publisher(bus, queues).publish_batch(batch)

    assert result.failed_from is None
    assert bus.taken == ["m0", "m2"]
    (letter,) = queues.dead_letters
    assert (letter.reason, letter.message_id) == (DeadLetterReason.UNPUBLISHED_EVENT, "m1")
    assert json.loads(letter.body)["Keys"] == {"pk": {"S": "msg#m1"}}
    assert result.measurements == ((Metric.EVENTS_PUBLISHED, 2.0), (Metric.EVENTS_NOT_PUBLISHED, 1.0))


def test_an_event_that_the_bus_refuses_for_good_is_kept() -> None:
    bus, queues = ScriptedBus({"m1": Put.REFUSED}), RecordingQueues()
    result = publisher(bus, queues).publish_batch([accepted_record(n) for n in range(3)])

    assert result.failed_from is None
    assert [letter.message_id for letter in queues.dead_letters] == ["m1"]


def test_a_record_that_cannot_even_be_kept_comes_again() -> None:
    def broken(_step: str, _moment: object) -> None:
        raise TimeoutError

    bus, queues = ScriptedBus(), RecordingQueues(hook=broken)
    result = publisher(bus, queues).publish_batch([accepted_record(0), unreadable_record(1), accepted_record(2)])

    assert result.failed_from == "1"


@pytest.mark.parametrize(
    "dynamodb",
    [
        {"SequenceNumber": "1"},
        {"SequenceNumber": "1", "Keys": {}, "NewImage": {"id": {"S": "x"}}},
        {"SequenceNumber": "1", "Keys": None, "ApproximateCreationDateTime": "soon", "NewImage": None},
        {"SequenceNumber": "1", "Keys": {"id": "plain"}, "ApproximateCreationDateTime": 1.0, "NewImage": []},
    ],
)
def test_a_malformed_record_never_stops_the_batch(dynamodb: dict[str, Any]) -> None:
    bus, queues = ScriptedBus(), RecordingQueues()
    malformed = {"eventName": "MODIFY", "dynamodb": dynamodb}
    result = publisher(bus, queues).publish_batch([malformed, accepted_record(2)])

    assert result.failed_from is None
    assert bus.taken == ["m2"]
    assert len(queues.dead_letters) == 1


def test_an_id_is_logged_as_it_may_be(caplog: pytest.LogCaptureFixture) -> None:
    """The gateway's ID can be a number; the ledger's is the sender's choice."""
    for keys in ({"id": {"S": "+61491570006"}}, {"pk": {"S": "msg#order 4711"}}):
        unreadable = {"eventName": "MODIFY", "dynamodb": {"SequenceNumber": "1", "Keys": keys}}
        publisher(ScriptedBus(), RecordingQueues()).publish_batch([unreadable])

    of_gateway, of_ledger = (vars(record) for record in caplog.records)
    assert "491570006" not in of_gateway["gateway_id"]
    assert of_ledger["message_id"] == "order 4711"


def test_a_published_event_is_logged_by_its_ids_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        publisher(ScriptedBus(), RecordingQueues()).publish_batch([*records("reply"), *records("status_received")])

    of_reply, of_status = (vars(record) for record in caplog.records)
    assert "Yes please" not in str(of_reply)
    assert {"message_id", "status", "event_id"} <= set(of_status)
    assert "destination" not in of_status


def test_no_number_or_text_is_left_in_a_note_or_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    (record,) = records("reply")
    record["dynamodb"]["NewImage"]["ttl"] = {"N": "many"}
    queues = RecordingQueues()
    publisher(ScriptedBus(), queues).publish_batch([record])

    told = capsys.readouterr().out + str(queues.dead_letters[0].body) + queues.dead_letters[0].detail
    assert "61491570006" not in told
    assert "Yes please" not in told
