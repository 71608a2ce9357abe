"""A body that SQS can't hold is encoded, and an attribute names the encoding."""

from __future__ import annotations

import base64
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optus_sms.aws.queues import _FORBIDDEN, DeadLetter, DeadLetterReason, Queues, _storable
from optus_sms.model.lanes import Lane
from tests.support.builders import NOW


class RecordingClient:
    """Records the two calls of SQS."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def send_message(self, **arguments: Any) -> None:
        self.calls.append(("send_message", arguments))

    def change_message_visibility(self, **arguments: Any) -> None:
        self.calls.append(("change_message_visibility", arguments))


@pytest.fixture
def client() -> RecordingClient:
    return RecordingClient()


@pytest.fixture
def queues(client: RecordingClient) -> Queues:
    return Queues(
        cast("Any", client),
        dead_letter_queue_url="dead",
        outbound_queue_url="https://sqs/1/outbound",
        urgent_queue_url="https://sqs/1/urgent",
    )


def holds(text: str) -> bool:
    """Return whether SQS accepts a text: only characters that SendMessage documents, and at least one."""
    allowed = ({0x9, 0xA, 0xD}, range(0x20, 0xD800), range(0xE000, 0xFFFE), range(0x10000, 0x110000))
    return bool(text) and all(any(ord(character) in part for part in allowed) for character in text)


@pytest.mark.parametrize("body", ["{}", "Grüße 😀\t\r\n", "\ue000\ufffd", "-"])
def test_what_sqs_holds_is_unchanged(body: str) -> None:
    assert _storable(body) == (body, None)
    assert _storable(body.encode()) == (body, None)


@pytest.mark.parametrize("body", ["\x00", "a\x0bb", "\ufffe", "\uffff", "\ud800", "\x1f"])
def test_other_text_is_kept_as_base64(body: str) -> None:
    stored, encoding = _storable(body)
    assert encoding == "base64"
    assert base64.b64decode(stored) == body.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("body", ["", b""])
def test_nothing_is_kept_as_a_dash(body: str | bytes) -> None:
    assert _storable(body) == ("-", "empty")


@given(st.binary() | st.text(st.characters(exclude_categories=[])))
def test_every_body_can_be_stored_and_read_back(body: str | bytes) -> None:
    stored, encoding = _storable(body)
    raw = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    assert holds(stored)
    assert {None: stored.encode(), "base64": base64.b64decode(stored) if encoding == "base64" else b"", "empty": b""}[
        encoding
    ] == raw


def test_a_dead_letter_has_its_reason_in_attributes(queues: Queues, client: RecordingClient) -> None:
    queues.dead_letter(DeadLetter("the body", DeadLetterReason.CONFLICT, "message_id: used", "message-1"), now=NOW)
    assert client.calls == [
        (
            "send_message",
            {
                "QueueUrl": "dead",
                "MessageBody": "the body",
                "MessageAttributes": {
                    "reason": {"DataType": "String", "StringValue": "conflict"},
                    "detail": {"DataType": "String", "StringValue": "message_id: used"},
                    "message_id": {"DataType": "String", "StringValue": "message-1"},
                    "time": {"DataType": "String", "StringValue": "2026-01-01T00:00:00.000Z"},
                },
            },
        )
    ]


@given(
    body=st.binary() | st.text(st.characters(exclude_categories=[])),
    detail=st.text(st.characters(exclude_categories=[])),
    key=st.text(st.characters(exclude_categories=[])),
)
def test_every_dead_letter_can_be_sent(body: str | bytes, detail: str, key: str) -> None:
    client = RecordingClient()
    queues = Queues(cast("Any", client), dead_letter_queue_url="dead")
    letter = DeadLetter(
        body, DeadLetterReason.INVALID, detail, key, evidence=detail, queued_at=NOW, route=key, charset=detail
    )
    queues.dead_letter(letter, now=NOW)
    ((_, call),) = client.calls
    assert holds(call["MessageBody"])
    assert all(holds(attribute["StringValue"]) for attribute in call["MessageAttributes"].values())
    assert len(call["MessageAttributes"]) <= 10


def test_a_long_detail_is_cut(queues: Queues, client: RecordingClient) -> None:
    queues.dead_letter(DeadLetter("body", DeadLetterReason.INVALID, "x" * 5000, "message-1"), now=NOW)
    assert len(client.calls[0][1]["MessageAttributes"]["detail"]["StringValue"]) == 1000


@pytest.mark.parametrize(("seconds", "visible_in"), [(5, 5), (0, 0), (-1, 0), (43_200, 42_840), (90_000, 42_840)])
def test_give_back_stays_within_what_sqs_allows(
    queues: Queues, client: RecordingClient, seconds: int, visible_in: int
) -> None:
    queues.give_back("receipt-1", seconds=seconds, lane=Lane.ORDINARY)
    assert client.calls == [
        (
            "change_message_visibility",
            {"QueueUrl": "https://sqs/1/outbound", "ReceiptHandle": "receipt-1", "VisibilityTimeout": visible_in},
        )
    ]


@pytest.mark.parametrize(
    ("arn", "lane"),
    [
        ("arn:aws:sqs:ap-southeast-2:123456789012:urgent", Lane.URGENT),
        ("arn:aws:sqs:ap-southeast-2:123456789012:outbound", Lane.ORDINARY),
        ("arn:aws:sqs:ap-southeast-2:123456789012:not-urgent", Lane.ORDINARY),
        (None, Lane.ORDINARY),
    ],
)
def test_the_lane_of_a_record_is_its_queue(queues: Queues, arn: str | None, lane: Lane) -> None:
    assert queues.lane_of(arn) is lane


def test_a_message_goes_back_to_the_queue_that_it_came_by(queues: Queues, client: RecordingClient) -> None:
    queues.give_back("receipt-1", seconds=5, lane=Lane.URGENT)
    assert client.calls[0][1]["QueueUrl"] == "https://sqs/1/urgent"


def test_every_character_is_judged_as_sqs_does() -> None:
    wrong = [hex(code) for code in range(0x110000) if bool(_FORBIDDEN.search(chr(code))) is holds(chr(code))]
    assert wrong == []
