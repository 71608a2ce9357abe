"""The page's view of a message: its bubble, its groups, its replies and dead letters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cli.dead_letter_queue import ReceivedDeadLetter
from cli.stage import Facts, next_step
from cli.timeline import timeline
from local.page.bubble import GROUPS, QueuedMessage, dead_letter_view, groups, life_of, message_view, reply_view
from optus_sms.model.lanes import Lane
from optus_sms.model.queue_message import parse_message
from optus_sms.model.statuses import FAILURE_STATUSES, STATUS_RANK
from optus_sms.records.items import LedgerRecord, MessageRecord, ReplyRecord, State
from tests.support.builders import HANDSET, NOW, message_body


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02d}.000Z"


def submission(**fields: Any) -> QueuedMessage:
    return QueuedMessage(parse_message(message_body(**fields), now=NOW), at(0))


def facts(ledger: LedgerRecord | None = None, message: MessageRecord | None = None) -> Facts:
    return Facts("k", ledger, message)


def record(state: State, *history: str, **values: Any) -> LedgerRecord:
    return LedgerRecord("k", state, history=frozenset(history), **values)


def accepted(*history: str, **values: Any) -> LedgerRecord:
    return record(State.ACCEPTED, *history, gateway_id="g", accepted_at=at(2), queued_at=at(0), **values)


def gateway(status: str | None = None, **values: Any) -> MessageRecord:
    return MessageRecord(id="g", status=status, **values)


def steps_of(of: Facts) -> list[tuple[str, str]]:
    return [(step["name"], step["tone"]) for step in message_view(of, None)["steps"]]


def test_text_sender_and_segments_are_those_that_were_put_on_the_queue() -> None:
    view = message_view(facts(accepted()), submission(content="Grüße 🎄", source="61480000000"))
    assert (view["text"], view["to"], view["from"]) == ("Grüße 🎄", HANDSET, "61480000000")
    assert (view["segments"], view["encoding"], view["has_sender_id"]) == (1, "UCS-2", False)


def test_a_sender_id_is_who_it_comes_from_and_takes_no_reply() -> None:
    view = message_view(facts(accepted()), submission(mask="City Clinic", source="61480000000"))
    assert (view["from"], view["has_sender_id"]) == ("City Clinic", True)


def test_a_text_that_nobody_saw_is_not_made_up() -> None:
    view = message_view(facts(accepted(), gateway(destination=HANDSET, segments=3, has_sender_id=True)), None)
    assert (view["text"], view["encoding"], view["from"]) == (None, None, None)
    assert (view["to"], view["segments"], view["has_sender_id"]) == (HANDSET, 3, True)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("status", [None, *STATUS_RANK])
def test_every_message_counts_somewhere_that_the_page_shows(state: State, status: str | None) -> None:
    found = groups(facts(record(state), gateway(status) if status else None))
    assert found
    assert set(found) <= set(GROUPS)
    assert ("delivered" in found) is (status == "received")
    assert ("undelivered" in found) is (status in FAILURE_STATUSES)


def test_an_unknown_outcome_that_is_sent_again_is_on_the_queue_as_well() -> None:
    unknown = record(State.UNKNOWN, on_unknown="resend", unknown_outcomes=1)
    assert groups(facts(unknown)) == ("unknown", "in_flight")
    assert groups(facts(unknown._replace(unknown_outcomes=2))) == ("unknown",)
    assert groups(facts(unknown._replace(on_unknown="hold"))) == ("unknown",)


@pytest.mark.parametrize(
    ("ledger", "message", "tone", "label", "problem"),
    [
        (None, None, "plain", "waits in the queue", None),
        (record(State.SENDING, attempts=1), None, "plain", "being sent", None),
        (record(State.SENDING, attempts=3), None, "plain", "being sent, attempt 3", None),
        (
            record(State.RETRY, reason="throttled (status 429)"), None, "unsure", "waits for another attempt",
            "the gateway reported too high a rate (status 429)",
        ),
        (
            record(State.UNKNOWN, reason="closed_without_response"), None, "unsure", "unknown whether it was sent",
            "the gateway closed the connection without a response",
        ),
        (record(State.UNKNOWN), None, "unsure", "unknown whether it was sent", None),
        (
            record(State.REJECTED, reason="rejected", detail="rejected (status 400)"), None, "bad", "not sent",
            "the gateway refused it (status 400)",
        ),
        (
            record(State.REJECTED, reason="opted_out", detail="opted_out_by_reply"), None, "bad", "not sent",
            "the handset has opted out, by its own reply",
        ),
        (record(State.EXPIRED), None, "bad", "expired before it was sent", None),
        (record(State.RECALLED), None, "unsure", "recalled before it was sent", None),
        (accepted(), gateway("accepted"), "plain", "on its way", None),
        (accepted(), gateway("submitted"), "plain", "on its way: submitted", None),
        (accepted(), gateway("failed"), "unsure", "on its way: failed", None),
        (accepted(), gateway("received"), "good", "received", None),
        (
            accepted(), gateway("rejected", detail="no such number"), "bad", "not delivered",
            "rejected (no such number)",
        ),
        (accepted(), gateway("dead"), "bad", "not delivered", "dead"),
        (accepted(), gateway("blocked"), "bad", "not delivered", "blocked"),
    ],
)  # fmt: skip
def test_a_bubble_says_where_it_stands_and_why(
    ledger: LedgerRecord | None, message: MessageRecord | None, tone: str, label: str, problem: str | None
) -> None:
    view = message_view(facts(ledger, message), None)
    assert (view["tone"], view["label"], view["problem"]) == (tone, label, problem)


def test_the_steps_come_in_the_order_of_their_times_however_the_callbacks_came() -> None:
    message = gateway("received", times={"received": at(3), "sent": at(5), "accepted": at(2)})
    assert steps_of(facts(accepted(f"{at(1)} claimed 1 ", f"{at(1)} not_sent 1 timed_out"), message)) == [
        ("put on the queue", "plain"),
        ("attempt 1 not sent", "unsure"),
        ("accepted", "plain"),
        ("received", "good"),
        ("sent", "plain"),
    ]


def test_steps_of_the_same_time_keep_the_order_in_which_one_leads_to_the_other() -> None:
    message = gateway("received", times=dict.fromkeys(reversed(STATUS_RANK), at(2)))
    assert [name for name, _ in steps_of(facts(accepted(), message))] == ["put on the queue", *STATUS_RANK]


def test_a_resolution_by_a_callback_is_a_step() -> None:
    assert steps_of(facts(accepted(f"{at(1)} unknown 1 no_response", resolved_by="callback")))[1:] == [
        ("outcome unknown", "unsure"),
        ("accepted, as a callback proved", "plain"),
    ]


def test_a_message_to_an_opted_out_handset_says_so_and_offers_no_redrive() -> None:
    of = facts(record(State.REJECTED, f"{at(1)} claimed 0 ", f"{at(2)} rejected 1 opted_out opted_out_by_reply",
                      reason="opted_out", detail="opted_out_by_reply"))  # fmt: skip
    life = life_of(of, submission())
    assert ("not sent: opted out", "bad") in steps_of(of)
    assert life["acts"] == []
    assert any("the handset has opted out, by its own reply" in line["text"] for line in life["timeline"])
    assert "opted out" in life["next_step"]


def test_after_an_unknown_outcome_an_opted_out_message_can_only_be_resolved_as_sent() -> None:
    of = facts(record(State.REJECTED, reason="opted_out", detail="opted_out_by_reply", unknown_outcomes=1))
    life = life_of(of, None)
    assert [each["name"] for each in life["acts"]] == ["resolve_sent"]
    assert "opted out" in life["next_step"]
    assert "--sent" in life["next_step"]
    assert "--not-sent" not in life["next_step"]


def test_a_message_despite_an_opt_out_says_so_in_its_bubble_and_its_timeline() -> None:
    queued = submission(despite_opt_out=True)
    assert message_view(facts(), queued)["despite_opt_out"]
    assert not message_view(facts(), submission(despite_opt_out=False))["despite_opt_out"]
    sent = facts(accepted(f"{at(1)} claimed 0 despite_opt_out"))
    assert message_view(sent, None)["despite_opt_out"]
    assert any("even if the handset has opted out" in line["text"] for line in life_of(sent, None)["timeline"])


def test_an_urgent_message_says_so() -> None:
    assert not message_view(facts(), submission())["urgent"]
    assert message_view(facts(), replace(submission(), lane=Lane.URGENT))["urgent"]


def test_what_blocked_means_is_not_claimed() -> None:
    life = life_of(facts(accepted(), gateway("blocked", times={"blocked": at(3)})), None)
    assert "records no opt-out" in life["next_step"]


def test_the_timeline_is_that_of_explain() -> None:
    message = gateway("received", times={"received": at(3)}, detail="on the phone")
    of = facts(accepted(f"{at(1)} claimed 1 "), message)
    life = life_of(of, None)
    assert [(line["at"], line["text"]) for line in life["timeline"]] == [(ln.at, str(ln)) for ln in timeline(of)]
    assert (life["message"]["stage"], life["next_step"]) == ("received", next_step(of))
    assert life["ledger"]["history"] == [f"{at(1)} claimed 1 "]
    assert life["gateway"]["received_at"] == at(3)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {"match": "none", "binary": False, "message_id": None}),
        ({"in_reply_to": "g", "reply_match": "inferred"}, {"match": "inferred", "in_reply_to": "g"}),
        ({"encoding": "base64", "decoded": False}, {"binary": True}),
        ({"encoding": "base64", "decoded": True}, {"binary": False}),
    ],
)
def test_a_reply_is_told_as_it_is_stored(more: dict[str, Any], expected: dict[str, Any]) -> None:
    reply = ReplyRecord(id="r", handset=HANDSET, content="STOP", received_at=at(1), **more)
    view = reply_view(reply, None)
    assert (view["from"], view["text"], view["at"]) == (HANDSET, "STOP", at(1))
    assert expected.items() <= view.items()


def test_a_dead_letter_leads_only_to_a_message_that_is_known() -> None:
    dead_letter = ReceivedDeadLetter("sqs-1", "not JSON", "invalid", "must be JSON", at(1), "k", None, "is no JSON")
    view = dead_letter_view(dead_letter, None, known=False, now=0)
    assert [act["command"] for act in view.pop("acts")] == ["optus-sms dead-letters --delete sqs-1"]
    assert view == {
        "sqs_id": "sqs-1", "since": at(1), "to": None, "reason": "invalid", "detail": "must be JSON",
        "message_id": None, "body": "not JSON", "kind": "malformed", "why": "is no JSON",
    }  # fmt: skip
    assert dead_letter_view(dead_letter, None, known=True, now=0)["message_id"] == "k"


def test_a_dead_letter_that_was_certainly_not_sent_can_be_redriven() -> None:
    message = submission().message
    rejected = record(State.REJECTED, payload_sha256=message.payload_sha256)
    dead_letter = ReceivedDeadLetter("sqs-1", "{}", "rejected", "", at(1), "k", message)
    view = dead_letter_view(dead_letter, rejected, known=True, now=0)
    assert (view["kind"], [act["command"] for act in view["acts"]]) == (
        "rejected", ["optus-sms redrive k", "optus-sms dead-letters --delete sqs-1"],
    )  # fmt: skip
    unknown = dead_letter_view(dead_letter, rejected._replace(state=State.UNKNOWN), known=True, now=0)
    assert [act["name"] for act in unknown["acts"]] == ["delete"]


@pytest.mark.parametrize(
    ("state", "names"),
    [
        (State.UNKNOWN, ["resolve_sent", "resolve_not_sent"]),
        (State.REJECTED, ["redrive"]),
        (State.RETRY, ["recall"]),
        (State.ACCEPTED, []),
        (State.EXPIRED, []),
        (None, ["recall"]),
    ],
)
def test_a_message_offers_what_its_stage_allows_with_the_command(state: State | None, names: list[str]) -> None:
    offered = life_of(Facts("-k", LedgerRecord("-k", state) if state else None), None)["acts"]
    assert [act["name"] for act in offered] == names
    assert all(act["command"].endswith(" -- -k") for act in offered), "an ID is never read as an option"
