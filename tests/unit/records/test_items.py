"""A record as JSON shows it."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from optus_sms.records.items import (
    HealthRecord,
    HistoryLine,
    LedgerRecord,
    MessageRecord,
    Pause,
    ReplyRecord,
    State,
    attributes,
)


def test_attributes_are_those_that_say_something() -> None:
    record = LedgerRecord("k", State.UNKNOWN, attempts=1, reason="timed_out", history=frozenset({"b", "a"}))
    assert attributes(record) == {
        "message_id": "k", "state": "UNKNOWN", "on_unknown": "hold", "attempts": 1, "reason": "timed_out",
        "history": ["a", "b"],
    }  # fmt: skip
    assert attributes(None) == {}


def test_what_is_not_known_is_told_apart_from_no_and_from_zero() -> None:
    known = attributes(MessageRecord(id="g", has_sender_id=False, status="accepted", status_rank=0))
    assert (known["has_sender_id"], known["status_rank"]) == (False, 0)
    assert attributes(MessageRecord(id="g")) == {"id": "g", "direction": "MT"}


def test_each_status_has_the_time_at_which_it_was_first_seen() -> None:
    shown = attributes(MessageRecord(id="g", times={"sent": "2", "received": "3"}))
    assert (shown["sent_at"], shown["received_at"], "times" in shown) == ("2", "3", False)


@pytest.mark.parametrize(
    "record",
    [
        LedgerRecord.from_item({}), MessageRecord.from_item({"id": "g"}), ReplyRecord.from_item({"id": "r"}),
        HealthRecord(), Pause("2026-01-01T00:00:00.000Z", None),
    ],
    ids=lambda record: type(record).__name__,
)  # fmt: skip
def test_what_an_item_does_not_have_is_zero_or_no(record: Any) -> None:
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    assert {name: value for name, value in values.items() if isinstance(value, int) and value} == {}


def test_attributes_of_every_record_are_json() -> None:
    for record in (LedgerRecord("k"), MessageRecord(id="g", times={"sent": "2"}), ReplyRecord(id="r")):
        assert json.loads(json.dumps(attributes(record))) == attributes(record)


@pytest.mark.parametrize("state", State)
def test_a_message_may_have_been_sent_by_its_last_attempt_or_by_an_earlier_one(state: State) -> None:
    is_open = state in (State.SENDING, State.UNKNOWN, State.ACCEPTED)
    assert LedgerRecord("k", state).may_have_been_sent is is_open
    assert LedgerRecord("k", state, unknown_outcomes=1).may_have_been_sent


def test_the_lines_of_a_history_have_the_numbers_of_their_attempts() -> None:
    """A claim and its release are written before the number is known; a hand-written line hides no other."""
    second = (f"2026-01-01T00:00:0{number}.000Z" for number in range(9))
    lines = [
        ("claimed", 0, ""),
        ("claimed", 0, ""),
        ("not_sent", 0, "claim_response_lost"),
        ("claimed", 0, ""),
        ("not_sent", 3, "throttled\tHTTP 429"),
        ("reopened", 0, "alex"),
    ]
    history = frozenset(f"{next(second)} {what} {attempt} {words}" for what, attempt, words in lines)
    steps = LedgerRecord("k", history=history | {"! by hand"}).steps()
    assert steps[0] == HistoryLine("", "edited", 0, "! by hand")
    assert [(step.what, step.attempt, step.words, step.evidence) for step in steps[1:]] == [
        ("claimed", 1, "", ""),
        ("claimed", 2, "", ""),
        ("not_sent", 2, "claim_response_lost", ""),
        ("claimed", 3, "", ""),
        ("not_sent", 3, "throttled", "HTTP 429"),
        ("reopened", 0, "alex", ""),
    ]
