"""The life of a message in plain words."""

from __future__ import annotations

from typing import Any

import pytest

from cli.stage import Facts, Stage, next_step, stage_of
from cli.timeline import timeline, why
from optus_sms.gateway.api import CLASSIFICATION
from optus_sms.model.statuses import FAILURE_STATUSES, STATUS_RANK
from optus_sms.records.items import LedgerRecord, MessageRecord, ReplyRecord, State


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02d}.000Z"


def facts(ledger: LedgerRecord | None = None, message: MessageRecord | None = None, **more: Any) -> Facts:
    return Facts("k", ledger, message, **more)


def record(state: State = State.SENDING, *lines: str, **values: Any) -> LedgerRecord:
    """Return a ledger record with these history lines after the first claim; each begins with its second."""
    history = (line.split(" ", 1) for line in ("1 claimed 0 ", *lines))
    return LedgerRecord(
        "k", state, history=frozenset(f"{at(int(second))} {rest}" for second, rest in history), **values
    )


def accepted(*lines: str, **values: Any) -> LedgerRecord:
    return record(State.ACCEPTED, *lines, **({"accepted_at": at(2), "gateway_id": "gw-1"} | values))


def message(status: str | None = None, **values: Any) -> MessageRecord:
    """Return the gateway's record; ``sent=4``: a status, and the second when it was first seen."""
    times = {name: at(values.pop(name)) for name in STATUS_RANK if name in values}
    return MessageRecord(id="gw-1", status=status, times=times, **values)


def reply(**values: Any) -> ReplyRecord:
    return ReplyRecord(id="r", in_reply_to="gw-1", content="Yes", **values)


def texts(of: Facts) -> list[str]:
    return [str(line) for line in timeline(of)]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.SENDING, Stage.SENDING),
        (State.RETRY, Stage.RETRY),
        (State.ACCEPTED, Stage.ACCEPTED),
        (State.REJECTED, Stage.REJECTED),
        (State.EXPIRED, Stage.EXPIRED),
        (State.RECALLED, Stage.RECALLED),
        (State.UNKNOWN, Stage.UNKNOWN),
    ],
)
def test_without_a_word_of_the_gateway_the_ledger_says_where_it_stands(state: State, expected: Stage) -> None:
    assert stage_of(facts(LedgerRecord("k", state))) is expected


@pytest.mark.parametrize("status", STATUS_RANK)
def test_a_final_status_goes_before_our_own_state(status: str) -> None:
    expected = Stage.RECEIVED if status == "received" else Stage.UNDELIVERED if status in FAILURE_STATUSES else None
    assert stage_of(facts(record(State.UNKNOWN), message(status))) is (expected or Stage.UNKNOWN)
    assert stage_of(facts(accepted(), message(status))) is (expected or Stage.ACCEPTED)


def test_nothing_known_is_not_seen_and_a_reply_is_a_reply() -> None:
    assert stage_of(facts()) is Stage.NOT_SEEN
    assert stage_of(facts(reply=reply())) is Stage.REPLY


@pytest.mark.parametrize("state", State)
def test_every_stage_says_what_happens_next(state: State) -> None:
    assert next_step(facts(LedgerRecord("k", state)))


def test_the_ledger_tells_when_a_message_was_queued() -> None:
    assert texts(facts(accepted(queued_at=at(0))))[0] == "put on the queue"
    assert timeline(facts(accepted(queued_at=at(1)), queued_at=at(0)))[0].at == at(0)


def test_a_message_that_arrived_is_told_in_order() -> None:
    seen = message("received", detail="on the phone", accepted=2, sent=4, queued=3, received=6)
    answer = reply(reply_match="inferred", received_at=at(7))
    told = texts(facts(accepted(), seen, replies=(answer,), queued_at=at(0)))
    starts = [
        "put on the queue", "received from the queue", "the gateway accepted it, under the ID gw-1",
        "callback: queued", "callback: sent", "callback: received", "the handset replied to gw-1, the latest",
    ]  # fmt: skip
    assert [line.startswith(start) for line, start in zip(told, starts, strict=True)] == [True] * 7
    assert told[5].endswith("(on the phone)")
    assert told[6].endswith(": Yes")


def test_a_callback_that_came_too_late_says_why_it_was_ignored() -> None:
    told = texts(facts(accepted(), message("received", received=3, sent=4, failed=5)))
    assert told[-2].endswith("ignored, because received was known already and ranks higher")
    assert told[-1].startswith("callback: failed")
    assert "ignored" in told[-1]


def test_undocumented_statuses_and_other_ids_come_last_without_a_time() -> None:
    ledger = accepted(other_gateway_ids=frozenset({"gw-2"}))
    lines = timeline(facts(ledger, message(unknown_statuses=frozenset({"teleported"}))))
    assert [line.at for line in lines[-2:]] == ["", ""]
    assert "gw-2" in str(lines[-2])
    assert "teleported" in str(lines[-1])


def test_evidence_after_a_takeover_says_that_it_came_too_late() -> None:
    late = record(State.UNKNOWN, "5 unknown 1 owner_lost", "6 not_sent_late 1 connection_refused")
    assert texts(facts(late))[-1] == (
        "recorded too late to matter: attempt 1 was certainly not sent: the gateway refused the connection"
    )


def test_a_status_that_came_again_is_listed_with_the_reason_it_was_ignored() -> None:
    seen = message("received", received=3, accepted=2, repeats=frozenset({f"{at(6)} received", f"{at(5)} received"}))
    lines = timeline(facts(accepted(), seen, replies=(reply(received_at=at(4)),)))
    expected = "callback: received again; ignored, because it was known already"
    assert [(line.at, str(line)) for line in lines[-2:]] == [(at(5), expected), (at(6), expected)]


def test_a_reply_that_came_again_is_listed_with_the_reason_it_was_ignored() -> None:
    repeated = reply(received_at=at(4), repeats=frozenset({f"{at(6)} reply", f"{at(5)} reply"}))
    expected = "callback: reply again; ignored, because it was known already"
    for of in (facts(accepted(), message("received", received=3), replies=(repeated,)), facts(reply=repeated)):
        lines = timeline(of)
        assert [(line.at, str(line)) for line in lines[-2:]] == [(at(5), expected), (at(6), expected)]
    assert len(lines) == 3


def test_an_attempt_that_was_not_sent_says_the_response_and_the_proof() -> None:
    assert texts(facts(record(State.RETRY, "2 not_sent 1 throttled (status 429)")))[-1] == (
        "attempt 1 was certainly not sent: the gateway reported too high a rate (status 429). "
        "Reason: refused for its rate"
    )


def test_the_evidence_of_an_attempt_follows_it() -> None:
    told = texts(facts(record(State.UNKNOWN, "2 unknown 1 server_error (status 502)\tx-request-id: r-1; body: Bad")))
    assert told[-2].startswith("the outcome of attempt 1 is unknown")
    assert told[-1].endswith("x-request-id: r-1; body: Bad")


def test_an_id_that_the_gateway_gave_to_another_message_too_is_told_and_its_row_is_not_read() -> None:
    others = message("received", message_id="other", destination="+61491570157")
    seen = Facts.of("k", accepted(), others)
    assert (seen.message, seen.status, seen.destination, seen.gateway_id) == (None, None, None, "gw-1")
    assert "other" in texts(seen)[-1]
    assert "gw-1" in texts(seen)[-1]
    assert stage_of(seen) is Stage.ACCEPTED
    assert Facts.of("k", accepted(), message("sent")).status == "sent"


@pytest.mark.parametrize("word", ["connection_refused", "name_not_resolved", "something_new"])
def test_what_went_wrong_on_the_wire_has_the_proof_of_its_outcome(word: str) -> None:
    not_sent = texts(facts(record(State.RETRY, f"2 not_sent 1 {word}")))[-1]
    unknown = texts(facts(record(State.UNKNOWN, f"2 unknown 1 {word}")))[-1]
    proof = {rule.reason: rule.why for rule in CLASSIFICATION}
    assert not_sent.endswith(proof["unreachable"])
    assert unknown.endswith(proof["no_response"])


@pytest.mark.parametrize("row", CLASSIFICATION, ids=lambda row: row.reason)
def test_every_reason_of_the_classification_has_words(row: Any) -> None:
    words = why(f"{row.reason} (status 500)")
    assert words.endswith("(status 500)")
    assert row.reason not in words.split() or row.reason in ("accepted", "rejected")


def test_a_lost_sender_and_giving_up_and_expiry() -> None:
    lost = texts(facts(record(State.UNKNOWN, "9 unknown 1 owner_lost")))[-1]
    assert "ended before it could record" in lost
    gone = record(State.REJECTED, "9 rejected 10 attempts_exhausted send_failed (status 500)")
    assert (
        "given up with attempt 10, certainly not sent; last: the gateway could not queue it" in texts(facts(gone))[-1]
    )
    assert texts(facts(LedgerRecord("k", State.EXPIRED, expired_at=at(9)))) == ["not sent: its expires_at had passed"]


def test_of_many_attempts_each_has_its_response_and_its_reason() -> None:
    ledger = accepted(
        "2 not_sent 1 throttled (status 429)",
        "3 claimed 0 ",
        "4 not_sent 2 unreachable",
        "5 claimed 0 ",
        "6 unknown 3 timed_out",
        accepted_at=at(8),
        resolved_by="callback",
        attempts=3,
    )
    told = texts(facts(ledger))
    starts = [
        "received from the queue", "attempt 1 was certainly not sent: the gateway reported too high a rate",
        "claimed again: attempt 2", "attempt 2 was certainly not sent: the gateway could not be reached",
        "claimed again: attempt 3", "the outcome of attempt 3 is unknown: the gateway did not respond in time",
        "a callback with its reference proved",
    ]  # fmt: skip
    assert [line.startswith(start) for line, start in zip(told, starts, strict=True)] == [True] * 7


def test_a_refusal_says_how_the_gateway_responded() -> None:
    told = texts(facts(record(State.REJECTED, "2 rejected 1 rejected rejected (status 400)")))[-1]
    assert told.startswith(
        "attempt 1 was certainly not sent, and is not retried: the gateway refused it (status 400). Reason: "
    )


def test_what_operators_did_is_told_with_who_and_when() -> None:
    ledger = record(
        State.ACCEPTED,
        "5 resolved_not_sent 0 alex",
        "6 reopened 0 kim lee",
        "7 reopened 0 alex",
        "8 resolved_sent 0 kim",
    )
    assert texts(facts(ledger))[-4:] == [
        "alex resolved that it was not sent, so it may be sent again",
        "kim lee let it be sent again",
        "alex let it be sent again",
        "kim resolved that it was sent",
    ]


@pytest.mark.parametrize(
    ("resolved_by", "gateway_id", "first_callback", "expected"),
    [
        (None, None, None, "the gateway accepted it, under an ID that a callback will report"),
        (
            "operator",
            None,
            None,
            "an operator resolved it as sent: accepted by the gateway, under an ID that a callback will report",
        ),
        ("operator", "gw-1", None, "an operator resolved it as sent: accepted by the gateway, under the ID gw-1"),
        (
            "callback",
            "gw-1",
            2,
            "a callback with its reference proved that the gateway accepted it, under the ID gw-1",
        ),
        ("callback", "gw-1", 4, "the gateway accepted it, under the ID gw-1, which a callback reported later"),
    ],
)
def test_an_acceptance_says_who_said_so_and_who_told_the_id(
    resolved_by: str | None, gateway_id: str | None, first_callback: int | None, expected: str
) -> None:
    seen = message(accepted=first_callback, queued=first_callback) if first_callback else None
    assert expected in texts(facts(accepted(resolved_by=resolved_by, gateway_id=gateway_id), seen))


def test_next_of_a_rejected_message_names_the_command() -> None:
    for reason in ("rejected", "attempts_exhausted"):
        assert "`redrive k`" in next_step(facts(record(State.REJECTED, reason=reason)))


def test_next_of_an_unknown_outcome_names_the_commands() -> None:
    assert "`resolve k --sent` or `--not-sent`" in next_step(facts(record(State.UNKNOWN)))
    assert "sent once more" in next_step(facts(record(State.UNKNOWN, on_unknown="resend", unknown_outcomes=1)))
    assert "earlier attempt is unknown" in next_step(facts(record(State.REJECTED, unknown_outcomes=1)))
