"""What the page tells of one message: its bubble, where it counts, its replies and dead letters."""

from __future__ import annotations

from typing import Any

import pytest

from cli.stage import Facts, next_step
from cli.timeline import timeline
from local.demo.watcher import SeenDeadLetter
from local.page.bubble import GROUPS, QueuedMessage, groups, letter_view, life_of, message_view, reply_view
from optus_sms.model.queue_message import parse_message
from optus_sms.model.statuses import FAILURE_STATUSES, STATUS_RANK
from optus_sms.records.items import State
from optus_sms.records.table import Item
from tests.support.builders import HANDSET, NOW, message_body


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02d}.000Z"


def submission(**fields: Any) -> QueuedMessage:
    return QueuedMessage(parse_message(message_body(**fields), now=NOW), at(0))


def facts(ledger: Item | None = None, row: Item | None = None, **more: Any) -> Facts:
    return Facts("k", ledger or {}, row or {}, **more)


ACCEPTED: Item = {"state": "ACCEPTED", "gateway_id": "g", "accepted_at": at(2), "queued_at": at(0)}


def steps_of(of: Facts) -> list[tuple[str, str]]:
    return [(step["name"], step["tone"]) for step in message_view(of, None)["steps"]]


def test_text_sender_and_parts_are_those_that_were_put_on_the_queue() -> None:
    view = message_view(facts(ACCEPTED), submission(content="Grüße 🎄", source="61480000000"))
    assert (view["text"], view["to"], view["from"]) == ("Grüße 🎄", HANDSET, "61480000000")
    assert (view["parts"], view["encoding"], view["masked"]) == (1, "UCS-2", False)


def test_a_sender_name_is_who_it_comes_from_and_takes_no_answer() -> None:
    view = message_view(facts(ACCEPTED), submission(mask="City Clinic", source="61480000000"))
    assert (view["from"], view["masked"]) == ("City Clinic", True)


def test_a_text_that_nobody_saw_is_not_made_up() -> None:
    view = message_view(facts(ACCEPTED, {"id": "g", "destination": HANDSET, "segments": 3, "masked": True}), None)
    assert (view["text"], view["encoding"], view["from"]) == (None, None, None)
    assert (view["to"], view["parts"], view["masked"]) == (HANDSET, 3, True)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("status", [None, *STATUS_RANK])
def test_every_message_counts_somewhere_that_the_page_shows(state: State, status: str | None) -> None:
    found = groups(facts({"state": state.value}, {"id": "g", "status": status} if status else {}))
    assert found
    assert set(found) <= set(GROUPS)
    assert ("delivered" in found) is (status == "received")
    assert ("undelivered" in found) is (status in FAILURE_STATUSES)


def test_an_unknown_outcome_that_is_sent_again_is_on_the_queue_as_well() -> None:
    unknown: Item = {"state": "UNKNOWN", "on_unknown": "resend", "unknown_outcomes": 1}
    assert groups(facts(unknown)) == ("unknown", "in_flight")
    assert groups(facts(unknown | {"unknown_outcomes": 2})) == ("unknown",)
    assert groups(facts(unknown | {"on_unknown": "hold"})) == ("unknown",)


@pytest.mark.parametrize(
    ("ledger", "row", "tone", "label", "problem"),
    [
        ({}, {}, "plain", "waits in the queue", None),
        ({"state": "SENDING", "attempts": 1}, {}, "plain", "being sent", None),
        ({"state": "SENDING", "attempts": 3}, {}, "plain", "being sent, try 3", None),
        (
            {"state": "RETRY", "reason": "throttled (status 429)"}, {}, "unsure", "waits for another attempt",
            "the gateway reported too high a rate (status 429)",
        ),
        (
            {"state": "UNKNOWN", "reason": "closed_without_answer"}, {}, "unsure", "unknown whether it was sent",
            "the gateway closed the connection without a response",
        ),
        (
            {"state": "REJECTED", "reason": "rejected", "detail": "rejected (status 400)"}, {}, "bad", "not sent",
            "the gateway refused it (status 400)",
        ),
        ({"state": "EXPIRED"}, {}, "bad", "expired before it was sent", None),
        (ACCEPTED, {"id": "g", "status": "accepted"}, "plain", "on its way", None),
        (ACCEPTED, {"id": "g", "status": "submitted"}, "plain", "on its way: submitted", None),
        (ACCEPTED, {"id": "g", "status": "failed"}, "unsure", "on its way: failed", None),
        (ACCEPTED, {"id": "g", "status": "received"}, "good", "received", None),
        (
            ACCEPTED, {"id": "g", "status": "rejected", "detail": "no such number"}, "bad", "not delivered",
            "rejected (no such number)",
        ),
        (ACCEPTED, {"id": "g", "status": "dead"}, "bad", "not delivered", "dead"),
    ],
)  # fmt: skip
def test_a_bubble_says_where_it_stands_and_why(
    ledger: Item, row: Item, tone: str, label: str, problem: str | None
) -> None:
    view = message_view(facts(ledger, row), None)
    assert (view["tone"], view["label"], view["problem"]) == (tone, label, problem)


def test_the_steps_come_in_the_order_of_their_times_however_the_callbacks_came() -> None:
    row: Item = {"id": "g", "status": "received", "received_at": at(3), "sent_at": at(5), "accepted_at": at(2)}
    history = frozenset({f"{at(1)} claimed 1 ", f"{at(1)} not_sent 1 timed_out"})
    assert steps_of(facts(ACCEPTED | {"history": history}, row)) == [
        ("put on the queue", "plain"),
        ("try 1 not sent", "unsure"),
        ("accepted", "plain"),
        ("received", "good"),
        ("sent", "plain"),
    ]


def test_steps_of_the_same_time_keep_the_order_in_which_one_leads_to_the_other() -> None:
    row: Item = {"id": "g", "status": "received", **{f"{name}_at": at(2) for name in STATUS_RANK}}
    assert [name for name, _ in steps_of(facts(ACCEPTED, row))] == ["put on the queue", *STATUS_RANK]


def test_a_settlement_by_a_callback_is_a_step() -> None:
    history = frozenset({f"{at(1)} unknown 1 no_answer"})
    resolved: Item = ACCEPTED | {"resolved_by": "callback", "history": history}
    assert steps_of(facts(resolved))[1:] == [
        ("outcome unknown", "unsure"),
        ("accepted, as a callback proved", "plain"),
    ]


def test_the_timeline_is_that_of_explain() -> None:
    of = facts(
        ACCEPTED | {"history": frozenset({f"{at(1)} claimed 1 "})},
        {"id": "g", "status": "received", "received_at": at(3), "detail": "on the phone"},
    )
    life = life_of(of, None)
    assert [(line["at"], line["text"]) for line in life["timeline"]] == [(ln.at, str(ln)) for ln in timeline(of)]
    assert (life["standing"], life["next_step"]) == ("received", next_step(of))
    assert life["ledger"]["history"] == [f"{at(1)} claimed 1 "]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {"match": "none", "binary": False, "key": None}),
        ({"in_reply_to": "g", "reply_match": "inferred"}, {"match": "inferred", "in_reply_to": "g"}),
        ({"encoding": "base64", "decoded": False}, {"binary": True}),
        ({"encoding": "base64", "decoded": True}, {"binary": False}),
    ],
)
def test_a_reply_is_told_as_it_is_stored(more: Item, expected: dict[str, Any]) -> None:
    row: Item = {"id": "r", "direction": "MO", "handset": HANDSET, "content": "STOP", "received_at": at(1)} | more
    view = reply_view(row, None)
    assert (view["from"], view["text"], view["at"]) == (HANDSET, "STOP", at(1))
    assert expected.items() <= view.items()


def test_a_dead_letter_leads_only_to_a_message_that_is_known() -> None:
    letter = SeenDeadLetter("sqs-1", "not JSON", "invalid", "body: must be JSON", "k")
    assert letter_view(letter, known=False) == {
        "reason": "invalid", "detail": "body: must be JSON", "key": None, "body": "not JSON",
    }  # fmt: skip
    assert letter_view(letter, known=True)["key"] == "k"
