"""A record as JSON shows it."""

from __future__ import annotations

import json

from optus_sms.records.items import LedgerRecord, MessageRecord, ReplyRecord, State, attributes


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


def test_attributes_of_every_record_are_json() -> None:
    for record in (LedgerRecord("k"), MessageRecord(id="g", times={"sent": "2"}), ReplyRecord(id="r")):
        assert json.loads(json.dumps(attributes(record))) == attributes(record)
