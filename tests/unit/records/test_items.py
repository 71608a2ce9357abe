"""A record as JSON shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from optus_sms.records.items import (
    HealthRecord,
    HistoryLine,
    LedgerRecord,
    MessageRecord,
    OptOutRecord,
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


def test_what_an_item_does_not_have_is_zero_or_no() -> None:
    records: list[Any] = [
        LedgerRecord.from_item({}), MessageRecord.from_item({"id": "g"}), ReplyRecord.from_item({"id": "r"}),
        HealthRecord(), Pause("2026-01-01T00:00:00.000Z", None),
    ]  # fmt: skip
    values = {(type(record).__name__, name): value for record in records for name, value in record._asdict().items()}
    assert [name for name, value in values.items() if isinstance(value, int) and value] == []


def test_attributes_of_every_record_are_json() -> None:
    for record in (LedgerRecord("k"), MessageRecord(id="g", times={"sent": "2"}), ReplyRecord(id="r")):
        assert json.loads(json.dumps(attributes(record))) == attributes(record)


@pytest.mark.parametrize(
    ("what", "words", "ends", "is_despite"),
    [
        ("rejected", "opted_out opted_out_by_reply", True, False),
        ("rejected", "rejected HTTP 400", False, False),
        ("resolved_sent", "opted_out", False, False),
        ("claimed", "despite_opt_out", False, True),
        ("claimed", "", False, False),
        ("not_sent", "despite_opt_out", False, False),
    ],
)
def test_a_line_shows_what_became_of_an_opt_out(what: str, words: str, ends: bool, is_despite: bool) -> None:
    line = HistoryLine("2026-01-01T00:00:00.000Z", what, 1, words)
    assert (line.ends_opted_out, line.is_despite_opt_out) == (ends, is_despite)


def test_decisions_of_one_moment_sort_by_who_made_them() -> None:
    by_reply = [OptOutRecord("+61491570156", True, "t", "reply", reply_id=name) for name in ("r1", "r2")]
    by_person = [OptOutRecord("+61491570156", True, "t", "person", operator=name) for name in ("alex", "kim")]
    assert len({record.decision for record in by_reply + by_person}) == 4


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
