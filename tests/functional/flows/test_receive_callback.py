"""ReceiveCallbackFunction, its real handler on moto: stored items, responses, and the number of AWS calls."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

from optus_sms.flows.receive_callback import MAX_BODY_BYTES
from optus_sms.model.statuses import STATUS_RANK
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import LedgerRecord, OptOutRecord, State
from tests.support.builders import HANDSET, api_event, reply_event, sent_message, status_event, wanted
from tests.support.callback_stack import Answer, CallbackStack

DAY = 86_400
OWN_KEY = "order-1"
MT = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
MO = "7d3a1c62-0f0e-4a25-9a8c-1f8b7a6f5e21"

WRITE, QUERY = "dynamodb.UpdateItem", "dynamodb.Query"
READ, DEAD_LETTER, SECRET = "dynamodb.GetItem", "sqs.SendMessage", "secretsmanager.GetSecretValue"


@pytest.fixture(scope="module")
def shared_stack() -> Iterator[CallbackStack]:
    with CallbackStack() as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: CallbackStack) -> CallbackStack:
    """A stack with empty tables and a warm execution environment."""
    return shared_stack.clean()


def status(value: str | None = "received", *, gateway_id: str = MT, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"message_id": gateway_id, "status": value, **more}
    return status_event({name: field for name, field in fields.items() if field is not None})


def reply(gateway_id: str = MO, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": gateway_id,
        "source": HANDSET,
        "destination": "+61491570156",
        "content": "Yes please",
    }
    return reply_event({name: field for name, field in (fields | more).items() if field is not None})


def ok(answer: Answer) -> Answer:
    assert (answer.status, answer.body) == (200, '{"message": "Stored"}')
    return answer


def without(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def now(stack: CallbackStack) -> str:
    """Return the time in its stored form."""
    return format_rfc3339(stack.clock.now())


# ------------------------------------------------------------------------------------------------------------ opt-outs


def test_stop_costs_one_write_more_and_its_log_has_no_number(stack: CallbackStack) -> None:
    answer, calls = stack.counted(reply(content="Opt out!", reply_to=MT))

    assert ok(answer)
    assert calls == [WRITE, WRITE]
    assert stack.opt_outs.read(HANDSET) == OptOutRecord(HANDSET, True, now(stack), "reply", reply_id=MO)
    assert HANDSET[1:] not in answer.output
    assert [line["opted_out"] for line in answer.log if line["message"] == "reply"] == [True]


def test_a_reply_that_is_no_word_costs_no_write_more(stack: CallbackStack) -> None:
    answer, calls = stack.counted(reply(content="please stop by at nine", reply_to=MT))
    assert (ok(answer).status, calls) == (200, [WRITE])
    assert stack.opt_outs.read(HANDSET) is None


# ------------------------------------------------------------------------------------------------------------ statuses


@pytest.mark.parametrize("id_field", ["id", "message_id"])
def test_a_status_is_one_row_of_what_the_gateway_says(stack: CallbackStack, id_field: str) -> None:
    body = {id_field: MT, "status": "received", "detail": "DELIVRD", "reference": "nobody's", "attempt": 3}

    answer = ok(stack.handle(status_event(body)))

    assert without(stack.row(MT), "ttl") == {
        "id": MT,
        "direction": "MT",
        "status": "received",
        "status_rank": STATUS_RANK["received"],
        "detail": "DELIVRD",
        "reference": "nobody's",
        "received_at": now(stack),
    }
    assert stack.row(MT)["ttl"] == int(stack.clock.now()) + 90 * DAY
    assert answer.metrics["StatusesApplied"] == 1


def test_a_whole_number_is_an_id_too(stack: CallbackStack) -> None:
    ok(stack.handle(status_event('{"id": 9007199254740993, "status": "sent"}')))
    assert stack.row("9007199254740993")["status"] == "sent"


def test_upper_case_is_the_same_status(stack: CallbackStack) -> None:
    ok(stack.handle(status("RECEIVED ")))
    assert stack.row(MT)["status"] == "received"


def test_a_body_in_base64_is_the_same_body(stack: CallbackStack) -> None:
    ok(stack.handle(status_event(b'{"id": "' + MT.encode() + b'", "status": "sent"}')))
    assert stack.row(MT)["status"] == "sent"


def test_a_status_without_a_status_still_leaves_a_trace(stack: CallbackStack) -> None:
    ok(stack.handle(status(None, reference="r-1")))
    assert without(stack.row(MT), "ttl") == {"id": MT, "direction": "MT", "reference": "r-1"}


def test_the_time_from_acceptance_to_the_handset_is_measured(stack: CallbackStack) -> None:
    stack.messages.record_sent(*sent_message(MT), now=stack.clock.now())
    stack.clock.advance(4.5)
    assert stack.handle(status("received")).metrics["DeliveryLatency"] == 4500


def test_unknown_statuses_are_kept_and_decide_nothing(stack: CallbackStack) -> None:
    ok(stack.handle(status("sent")))
    for odd in ("teleported", "teleported", "parked", "5"):
        ok(stack.handle(status(odd)))
    ok(stack.handle(status("received")))

    row = stack.row(MT)
    assert row["unknown_statuses"] == frozenset({"teleported", "parked", "5"})
    assert (row["status"], "teleported_at" in row) == ("received", False)


def test_unknown_statuses_do_not_fill_the_item(stack: CallbackStack) -> None:
    for number in range(25):
        ok(stack.handle(status(f"odd-{number}")))
    row = stack.row(MT)
    assert len(row["unknown_statuses"]) == 20  # type: ignore[arg-type]
    assert "status" not in row


def test_detail_belongs_to_the_status_that_won(stack: CallbackStack) -> None:
    ok(stack.handle(status("sent", detail="of sent")))
    ok(stack.handle(status("expired", detail="of expired")))
    ok(stack.handle(status("submitted", detail="of submitted")))
    assert stack.row(MT)["detail"] == "of expired"
    ok(stack.handle(status("received")))
    assert "detail" not in stack.row(MT)


@pytest.mark.parametrize(
    ("first", "second"), [("received", "expired"), ("expired", "received"), ("received", "dead")], ids="-".join
)
def test_a_contradiction_is_visible_and_counted_once(stack: CallbackStack, first: str, second: str) -> None:
    assert "StatusesContradictory" not in ok(stack.handle(status(first))).metrics

    answer = ok(stack.handle(status(second)))
    assert answer.metrics["StatusesContradictory"] == 1
    assert [record["contradictory"] for record in answer.log] == [True]

    row = stack.row(MT)
    assert row["status"] == "received"
    assert {f"{first}_at", f"{second}_at"} <= set(row)
    for late in (first, second, "sent", "failed"):
        assert "StatusesContradictory" not in ok(stack.handle(status(late))).metrics


def test_a_failure_that_the_gateway_tries_again_contradicts_nothing(stack: CallbackStack) -> None:
    for value in ("failed", "received"):
        assert "StatusesContradictory" not in ok(stack.handle(status(value))).metrics


# --------------------------------------------------------------------------------------------------------------- calls


def test_a_warm_status_costs_one_write_and_nothing_else(stack: CallbackStack) -> None:
    stack.messages.record_sent(*sent_message(MT), now=stack.clock.now())
    for value in ("queued", "sent", "failed", "submitted", "expired", "received"):
        answer, calls = stack.counted(status(value, reference="message-1"))
        assert (answer.status, calls) == (200, [WRITE]), value


def test_without_a_reference_the_first_status_costs_one_write_too(stack: CallbackStack) -> None:
    assert stack.counted(status("sent"))[1] == [WRITE]


def test_a_stale_status_costs_two_writes_and_a_repeated_one_one(stack: CallbackStack) -> None:
    stack.handle(status("received"))
    answer, calls = stack.counted(status("sent"))
    assert (calls, answer.metrics) == ([WRITE, WRITE], {"StatusesStale": 1})
    for value in ("sent", "received"):
        answer, calls = stack.counted(status(value))
        assert (calls, answer.metrics) == ([WRITE], {"StatusesStale": 1})


def test_a_cold_start_reads_both_versions_of_the_secret_once(stack: CallbackStack) -> None:
    stack.new_execution_environment()
    assert stack.counted(status("sent"))[1] == [SECRET, SECRET, WRITE]
    assert stack.counted(status("sent"))[1] == [WRITE]


# --------------------------------------------------------------------------------------------------- order and repeats

EVENTS = ("own write", "sent", "failed", "expired", "received")


def play(stack: CallbackStack, order: list[str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Play a message whose outcome, statuses and unknown status arrive in this order, a second apart."""
    stack.clean()
    claim = claimed(stack)
    first_seen: dict[str, str] = {}
    for event in order:
        stack.clock.advance(1)
        first_seen.setdefault(event, now(stack))
        if event == "own write":
            accepted(stack, claim)
        else:
            ok(stack.handle(status(event, reference=OWN_KEY, detail=f"of {event}")))
    return dict(stack.row(MT)), dict(stack.ledger_item(OWN_KEY)), first_seen


def claimed(stack: CallbackStack, key: str = OWN_KEY, **changes: Any) -> LedgerRecord:
    at = stack.clock.now()
    claim = stack.ledger.claim(wanted(key, **changes, owner="me", lease_until=int(at) + 90), now=at)
    assert claim.state is State.SENDING
    if changes.get("reference"):
        stack.ledger.register_reference(changes["reference"], key, ttl=int(at) + 60 * DAY)
    return claim


def accepted(stack: CallbackStack, claim: LedgerRecord, gateway_id: str | None = MT) -> None:
    """Make the sender function's two writes after HTTP 202."""
    at = stack.clock.now()
    stack.ledger.accepted(claim, gateway_id, now=at)
    if gateway_id is not None:
        stack.messages.record_sent(gateway_id, claim, now=at)


TIMES = ("created_at", "ttl", *(f"{name}_at" for name in STATUS_RANK))


def check_end(stack: CallbackStack, order: list[str]) -> None:
    row, record, first_seen = play(stack, order)
    expected = {
        "id": MT,
        "direction": "MT",
        "message_id": OWN_KEY,
        "reference": OWN_KEY,
        "destination": HANDSET,
        "handset": HANDSET,
        "segments": 1,
        "has_sender_id": False,
        "status": "received",
        "status_rank": STATUS_RANK["received"],
        "detail": "of received",
    }
    assert without(row, *TIMES, "repeats") == expected, order
    callbacks = Counter(event for event in order if event != "own write")
    kept = Counter(line.split(" ")[1] for line in row.get("repeats", ()))
    assert kept == callbacks - Counter(callbacks.keys()), order
    for event in EVENTS[1:]:
        assert row[f"{event}_at"] == first_seen[event], (order, event)
    assert row["accepted_at"] <= first_seen["own write"]
    assert (record["state"], record["gateway_id"]) == ("ACCEPTED", MT)
    assert "lease_until" not in record


@given(order=st.permutations(EVENTS), repeats=st.lists(st.sampled_from(EVENTS[1:]), max_size=3), data=st.data())
@settings(max_examples=8)
def test_any_order_with_repeats_ends_the_same(
    shared_stack: CallbackStack, order: list[str], repeats: list[str], data: st.DataObject
) -> None:
    for event in repeats:
        order.insert(data.draw(st.integers(0, len(order))), event)
    check_end(shared_stack, order)


@pytest.mark.deep
@pytest.mark.timeout(600)
def test_every_order_ends_the_same(shared_stack: CallbackStack) -> None:
    for order in itertools.permutations(EVENTS):
        check_end(shared_stack, [*order, order[0], order[1]] if order[0] != "own write" else list(order))


# ----------------------------------------------------------------------------------- early callbacks and lost responses


def sending(stack: CallbackStack, **changes: Any) -> None:
    claimed(stack, **changes)


def retry(stack: CallbackStack, **changes: Any) -> None:
    stack.ledger.not_sent(claimed(stack, **changes), "connection_refused", now=stack.clock.now())


def unknown(stack: CallbackStack, **changes: Any) -> None:
    stack.ledger.unknown(claimed(stack, **changes), "timed_out", now=stack.clock.now())


def accepted_without_id(stack: CallbackStack, **changes: Any) -> None:
    accepted(stack, claimed(stack, **changes), None)


def rejected(stack: CallbackStack, **changes: Any) -> None:
    stack.ledger.rejected(claimed(stack, **changes), "rejected", "400", now=stack.clock.now())


def expired(stack: CallbackStack, **changes: Any) -> None:
    stack.ledger.expired(wanted(OWN_KEY, **changes), now=stack.clock.now())


OPEN: list[Callable[..., None]] = [sending, unknown, accepted_without_id]


@pytest.mark.parametrize("reference", [None, "senders-own"], ids=["our key", "sender's own reference"])
@pytest.mark.parametrize("before", OPEN, ids=lambda state: state.__name__)
def test_a_callback_with_our_reference_resolves_what_was_open(
    stack: CallbackStack, before: Callable[..., None], reference: str | None
) -> None:
    before(stack, reference=reference)

    answer = ok(stack.handle(status("sent", reference=reference or OWN_KEY)))

    record = stack.ledger_item(OWN_KEY)
    assert (record["state"], record["gateway_id"], record["resolved_by"]) == ("ACCEPTED", MT, "callback")
    row = stack.row(MT)
    assert (row["message_id"], row["destination"], row["handset"], row["status"]) == (OWN_KEY, HANDSET, HANDSET, "sent")
    assert answer.metrics == {"StatusesApplied": 1, "OutcomesResolved": 1}
    assert [listed["id"] for listed in stack.conversation(HANDSET)] == [MT]
    # The callback is matched now, so the next one costs one write.
    assert stack.counted(status("received", reference=reference or OWN_KEY))[1] == [WRITE]


@pytest.mark.parametrize("value", ["nobody-ever-heard-of-this", None], ids=["unknown status", "no status"])
def test_any_callback_is_a_proof_whatever_its_status(stack: CallbackStack, value: str | None) -> None:
    unknown(stack)
    ok(stack.handle(status(value, reference=OWN_KEY)))
    assert stack.ledger_item(OWN_KEY)["state"] == "ACCEPTED"


@pytest.mark.parametrize("before", [rejected, expired, retry], ids=lambda state: state.__name__)
def test_what_was_never_sent_is_not_resolved(stack: CallbackStack, before: Callable[..., None]) -> None:
    before(stack)
    state = stack.ledger_item(OWN_KEY)
    ok(stack.handle(status("sent", reference=OWN_KEY)))
    assert stack.ledger_item(OWN_KEY) == state
    assert "message_id" not in stack.row(MT)


def test_a_reused_reference_proves_nothing(stack: CallbackStack) -> None:
    for key in ("order-1", "order-2"):
        stack.ledger.unknown(claimed(stack, key, reference="marketing"), "timed_out", now=stack.clock.now())

    ok(stack.handle(status("received", reference="marketing")))

    assert [stack.ledger_item(key)["state"] for key in ("order-1", "order-2")] == ["UNKNOWN", "UNKNOWN"]
    assert without(stack.row(MT), "ttl", "received_at", "status_rank") == {
        "id": MT,
        "direction": "MT",
        "reference": "marketing",
        "status": "received",
    }


def test_a_reference_once_reused_proves_nothing_for_good(stack: CallbackStack) -> None:
    unknown(stack, reference="marketing")
    stack.ledger.register_reference("marketing", "a-message-long-forgotten", ttl=int(stack.clock.now()) + DAY)
    ok(stack.handle(status("sent", reference="marketing")))
    assert stack.ledger_item(OWN_KEY)["state"] == "UNKNOWN"


def test_a_reference_that_is_another_messages_key_proves_nothing(stack: CallbackStack) -> None:
    unknown(stack)
    stack.ledger.unknown(claimed(stack, "order-2", reference=OWN_KEY), "timed_out", now=stack.clock.now())
    ok(stack.handle(status("sent", reference=OWN_KEY)))
    assert [stack.ledger_item(key)["state"] for key in (OWN_KEY, "order-2")] == ["UNKNOWN", "UNKNOWN"]


def test_a_message_with_another_id_is_left_alone(stack: CallbackStack) -> None:
    accepted(stack, claimed(stack), "another-id")
    ok(stack.handle(status("sent", reference=OWN_KEY)))
    assert stack.ledger_item(OWN_KEY)["gateway_id"] == "another-id"
    assert "message_id" not in stack.row(MT)


def test_a_reference_nobody_used_is_only_kept(stack: CallbackStack) -> None:
    answer, calls = stack.counted(status("sent", reference="another system's"))
    ok(answer)
    assert WRITE in calls
    assert calls.count(WRITE) == 1
    assert stack.row(MT)["reference"] == "another system's"


def test_a_join_that_broke_off_is_finished_by_the_next_delivery(stack: CallbackStack) -> None:
    unknown(stack)
    stack.fail(WRITE, error=throttled(), after=2)  # status and ledger are written, the match is not
    assert stack.handle(status("sent", reference=OWN_KEY)).status == 503
    assert stack.ledger_item(OWN_KEY)["state"] == "ACCEPTED"
    assert "message_id" not in stack.row(MT)

    stack.mend()
    answer = ok(stack.handle(status("sent", reference=OWN_KEY)))

    assert stack.row(MT)["message_id"] == OWN_KEY
    assert "OutcomesResolved" not in answer.metrics


def test_finishing_a_join_takes_nothing_away_from_the_senders_own_write(stack: CallbackStack) -> None:
    claim = claimed(stack, has_sender_id=True)
    at = stack.clock.now()
    stack.ledger.accepted(claim, MT, now=at)
    ok(stack.handle(status("sent", reference=OWN_KEY)))
    stack.messages.record_sent(*sent_message(MT, message_id=OWN_KEY, reference=OWN_KEY, has_sender_id=True), now=at)
    row = stack.row(MT)
    assert (row["message_id"], row["destination"], row["has_sender_id"], row["status"]) == (
        OWN_KEY,
        HANDSET,
        True,
        "sent",
    )


# ------------------------------------------------------------------------------------------------------------- replies


def test_a_reply_is_stored_once_per_id(stack: CallbackStack) -> None:
    first = ok(stack.handle(reply(operator="Optus")))
    row = stack.row(MO)
    stack.clock.advance(60)
    second = ok(stack.handle(reply(content="something else")))

    assert without(stack.row(MO), "ttl", "repeats") == without(row, "ttl")
    assert len(cast("frozenset[str]", stack.row(MO)["repeats"])) == 1
    assert without(row, "ttl") == {
        "id": MO,
        "direction": "MO",
        "source": HANDSET,
        "handset": HANDSET,
        "destination": "+61491570156",
        "content": "Yes please",
        "operator": "Optus",
        "received_at": row["created_at"],
        "created_at": row["created_at"],
    }
    assert (first.metrics, second.metrics) == ({"RepliesReceived": 1}, {})


def test_reply_to_is_an_exact_match(stack: CallbackStack) -> None:
    stack.messages.record_sent(*sent_message("a-later-one"), now=stack.clock.now())
    answer, calls = stack.counted(reply(reply_to=MT, reference="order-1"))
    ok(answer)
    row = stack.row(MO)
    assert (row["in_reply_to"], row["reply_match"], row["reference"]) == (MT, "exact", "order-1")
    assert calls == [WRITE]


def test_without_it_the_latest_message_to_that_handset_is_inferred(stack: CallbackStack) -> None:
    for gateway_id in ("first", "second", "third"):
        stack.messages.record_sent(*sent_message(gateway_id), now=stack.clock.now())
        stack.clock.advance(60)
    stack.messages.record_sent(*sent_message("has_sender_id", has_sender_id=True), now=stack.clock.now())
    stack.messages.record_sent(*sent_message("elsewhere", destination="+61491570157"), now=stack.clock.now())
    ok(stack.handle(reply("an-earlier-reply")))

    answer, calls = stack.counted(reply())

    ok(answer)
    assert (stack.row(MO)["in_reply_to"], stack.row(MO)["reply_match"]) == ("third", "inferred")
    assert calls == [QUERY, WRITE]


@pytest.mark.parametrize("source", ["61491570006", "+61491570006", " +61491570006 "])
def test_a_handset_without_its_plus_is_the_same_handset(stack: CallbackStack, source: str) -> None:
    stack.messages.record_sent(*sent_message(MT), now=stack.clock.now())
    ok(stack.handle(reply(source=source)))
    assert stack.row(MO)["in_reply_to"] == MT


@pytest.mark.parametrize(("age_days", "matched"), [(2.99, MT), (3.01, None)])
def test_an_old_message_is_no_longer_what_is_answered(
    stack: CallbackStack, age_days: float, matched: str | None
) -> None:
    stack.messages.record_sent(*sent_message(MT), now=stack.clock.now())
    stack.clock.advance(age_days * DAY)
    ok(stack.handle(reply()))
    row = stack.row(MO)
    assert (row.get("in_reply_to"), "reply_match" in row) == (matched, matched is not None)


@pytest.mark.parametrize("source", ["Optus", "202", "", None])
def test_a_reply_from_anything_is_kept(stack: CallbackStack, source: str | None) -> None:
    ok(stack.handle(reply(source=source)))
    row = stack.row(MO)
    assert (row["content"], row.get("source"), "in_reply_to" in row) == ("Yes please", source or None, False)


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("content", "encoding", "stored", "decoded"),
    [
        (base64_of("Grüße 👋".encode()), "base64", "Grüße 👋", True),
        (base64_of(b"yes"), "BASE64", "yes", True),
        (base64_of(b"\xff\xfe\x00"), "base64", base64_of(b"\xff\xfe\x00"), False),
        ("not base64!", "base64", "not base64!", False),
        ("plain", "gsm", "plain", False),
        (base64_of(b"yes"), None, base64_of(b"yes"), None),
    ],
    ids=["utf-8", "upper case", "bytes", "broken", "another encoding", "none given"],
)
def test_base64_is_decoded_or_kept(
    stack: CallbackStack, content: str, encoding: str | None, stored: str, decoded: bool | None
) -> None:
    ok(stack.handle(reply(content=content, encoding=encoding)))
    row = stack.row(MO)
    assert (row["content"], row.get("encoding"), row.get("decoded")) == (stored, encoding, decoded)


def test_a_conversation_is_listed_in_time_order(stack: CallbackStack) -> None:
    expected = []
    for number in range(3):
        stack.messages.record_sent(*sent_message(f"zz-{number}"), now=stack.clock.now())
        stack.clock.advance(1)
        ok(stack.handle(reply(f"aa-{number}")))
        stack.clock.advance(1)
        ok(stack.handle(status("received", gateway_id=f"zz-{number}")))  # later, and changes nothing
        expected += [(f"zz-{number}", "MT"), (f"aa-{number}", "MO")]
    assert [(row["id"], row["direction"]) for row in stack.conversation(HANDSET)] == expected


def test_one_url_for_both_loses_nothing(stack: CallbackStack) -> None:
    ok(stack.handle(status_event({"id": MO, "source": HANDSET, "content": "Yes please", "status": None})))
    ok(stack.handle(reply_event({"id": MT, "status": "received", "content": None})))
    assert stack.row(MO)["content"] == "Yes please"
    assert stack.row(MT)["status"] == "received"


def test_an_empty_reply_is_a_reply(stack: CallbackStack) -> None:
    ok(stack.handle(reply(content="")))
    row = stack.row(MO)
    assert (row["direction"], "content" in row) == ("MO", False)


# ----------------------------------------------------------------------------------------------------- kept for people

UNREADABLE = {
    "nothing": (None, "JSON"),
    "not JSON": ("status=received&id=1", "JSON"),
    "cut": ('{"id": "497f6eca", "status"', "JSON"),
    "an empty array": ("[]", "object"),
    "a text": ('"received"', "object"),
    "no id": ('{"status": "received"}', "message_id"),
    "empty id": ('{"id": " ", "status": "received"}', "message_id"),
    "id of another type": ('{"id": {"a": 1}, "status": "received"}', "message_id"),
    "true as id": ('{"id": true, "status": "received"}', "message_id"),
    "id beyond any key": (json.dumps({"id": "x" * 256, "status": "sent"}), "message_id"),
}


@pytest.mark.parametrize(("body", "fact"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_authenticated_and_unreadable_is_kept_raw(stack: CallbackStack, body: str | None, fact: str) -> None:
    answer, calls = stack.counted(status_event(body))

    assert answer.status == 200
    assert answer.metrics == {"CallbacksUnreadable": 1}
    assert calls == [DEAD_LETTER]
    [letter] = stack.dead_letters()
    assert letter["body"] == (body or "-")
    assert letter["reason"] == "unreadable_callback"
    assert fact in letter["detail"]
    assert letter["time"] == now(stack)
    assert stack.everything() == ([], [])


HOSTILE = (r'"\ud83d"', "1" * 4400, "[" * 5000 + "]" * 5000)


@pytest.mark.parametrize("value", HOSTILE, ids=range(3))
@pytest.mark.parametrize("name", ["ignored", "detail", "content"])
def test_what_no_table_can_hold_costs_no_callback(stack: CallbackStack, name: str, value: str) -> None:
    answer = stack.handle(reply_event(f'{{"id": "{MO}", "source": "{HANDSET}", "{name}": {value}}}'))
    assert (answer.status, answer.body) == (200, '{"message": "Stored"}')
    assert stack.row(MO)["source"] == HANDSET


LATIN_1 = '{"id": "1", "content": "Café ä£"}'.encode("latin-1")


@pytest.mark.parametrize(
    "body", [b"\xff\xfe{", LATIN_1, gzip.compress(b"{}", mtime=0), b"\x00\x01", b'{"id": "1"\x0b}']
)
def test_bytes_that_a_queue_cannot_hold_are_kept_as_base64(stack: CallbackStack, body: bytes) -> None:
    assert stack.handle(reply_event(body)).status == 200
    [letter] = stack.dead_letters()
    assert base64.b64decode(letter["body"]) == body
    assert letter["body_encoding"] == "base64"


def test_a_body_that_is_not_the_base64_it_should_be_is_kept_as_it_came(stack: CallbackStack) -> None:
    event = status_event("not base64 at all!") | {"isBase64Encoded": True}
    assert stack.handle(event).status == 200
    assert stack.dead_letters()[0]["body"] == "not base64 at all!"


def test_an_unreadable_reply_is_kept_too(stack: CallbackStack) -> None:
    stack.handle(reply_event({"source": HANDSET, "content": "Yes please"}))
    [letter] = stack.dead_letters()
    assert "message_id" in letter["detail"]
    assert json.loads(letter["body"]) == {"source": HANDSET, "content": "Yes please"}


@pytest.mark.parametrize("value", ["received", "teleported", None])
def test_a_status_with_the_id_of_a_reply_changes_nothing(stack: CallbackStack, value: str | None) -> None:
    ok(stack.handle(reply()))
    row = stack.row(MO)
    assert stack.handle(status(value, gateway_id=MO)).status == 200
    assert stack.row(MO) == row
    assert len(stack.dead_letters()) == 1


def test_a_reply_with_the_id_of_a_message_changes_nothing(stack: CallbackStack) -> None:
    ok(stack.handle(status("sent")))
    row = stack.row(MT)
    assert stack.handle(reply(MT)).status == 200
    assert stack.row(MT) == row
    assert "Yes please" in stack.dead_letters()[0]["body"]


# ------------------------------------------------------------------------------------------------- size, path, method


def sized(size: int) -> str:
    frame = '{"id": "%s", "content": "%s"}'
    return frame % (MO, "x" * (size - len(frame % (MO, ""))))


def test_a_body_of_64_kilobytes_is_taken_and_a_larger_one_is_not(stack: CallbackStack) -> None:
    assert MAX_BODY_BYTES == 65_536
    ok(stack.handle(reply_event(sized(MAX_BODY_BYTES))))
    answer, calls = stack.counted(reply_event(sized(MAX_BODY_BYTES + 1)))
    assert (answer.status, answer.body, calls) == (413, '{"message": "Too large"}', [])
    assert answer.metrics == {"CallbacksRefused": 1}


def test_bytes_count_not_characters(stack: CallbackStack) -> None:
    assert stack.handle(reply_event({"id": MO, "content": "ä"})).status == 200
    assert stack.handle(reply_event('{"content": "' + "ä" * (MAX_BODY_BYTES // 2) + '"}')).status == 413


def test_the_largest_unreadable_body_fits_into_the_queue(stack: CallbackStack) -> None:
    assert stack.handle(status_event(b"\xff" * MAX_BODY_BYTES)).status == 200
    assert base64.b64decode(stack.dead_letters()[0]["body"]) == b"\xff" * MAX_BODY_BYTES


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/", "POST"),
        ("/callbacks", "POST"),
        ("/callbacks/statuses", "POST"),
        ("/callbacks/status/x", "POST"),
        ("/callbacks/status", "GET"),
        ("/callbacks/reply", "DELETE"),
    ],
)
def test_another_path_or_method_does_not_exist(stack: CallbackStack, path: str, method: str) -> None:
    answer, calls = stack.counted(api_event(path, {"id": MT, "status": "sent"}, method=method))
    assert (answer.status, answer.body, calls) == (404, '{"message": "Not found"}', [])


@pytest.mark.parametrize("event", [{}, [], None, "x", {"Records": []}, {"httpMethod": "POST", "path": None}], ids=repr)
def test_an_event_of_another_kind_does_not_exist_either(stack: CallbackStack, event: Any) -> None:
    assert stack.handle(event).status == 404


def test_a_trailing_slash_and_a_base_path_are_the_same_path(stack: CallbackStack) -> None:
    for path in ("/callbacks/status/", "/sms/callbacks/status"):
        assert stack.handle(api_event(path, {"id": MT, "status": "sent"})).status == 200


# --------------------------------------------------------------------------------------------------- storage that fails


def throttled() -> ClientError:
    return ClientError(
        {"Error": {"Code": "ProvisionedThroughputExceededException", "Message": "slow down"}}, "UpdateItem"
    )


ERRORS: dict[str, Exception] = {
    "throttled": throttled(),
    "internal error": ClientError({"Error": {"Code": "InternalServerError", "Message": "oops"}}, "UpdateItem"),
    "gone": ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "no table"}}, "UpdateItem"),
    "forbidden": ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "UpdateItem"),
    "unreachable": EndpointConnectionError(endpoint_url="https://dynamodb"),
    "connect timeout": ConnectTimeoutError(endpoint_url="https://dynamodb"),
    "read timeout": ReadTimeoutError(endpoint_url="https://dynamodb"),
    "a bug": KeyError("x"),
}
FAILING: dict[str, tuple[str, dict[str, Any]]] = {
    "table, status": (WRITE, status("sent")),
    "table, reply": (WRITE, reply()),
    "table, match of a reply": (QUERY, reply()),
    "ledger": (READ, status("sent", reference=OWN_KEY)),
    "queue": (DEAD_LETTER, status_event("{")),
}


def assert_not_stored(answer: Answer) -> None:
    assert (answer.status, answer.body) == (503, '{"message": "Not stored, deliver again"}')
    assert answer.headers["Retry-After"] == "60"
    assert answer.metrics == {"CallbacksNotStored": 1}


@pytest.mark.parametrize(
    ("call", "event", "error"),
    [
        *(pytest.param(*FAILING["table, status"], error, id=f"table, {name}") for name, error in ERRORS.items()),
        *(pytest.param(*failing, throttled(), id=name) for name, failing in FAILING.items()),
    ],
)
def test_a_storage_failure_asks_for_another_delivery(
    stack: CallbackStack, call: str, event: dict[str, Any], error: Exception
) -> None:
    unknown(stack)
    stack.fail(call, error=error)
    assert_not_stored(stack.handle(event))
    assert stack.dead_letters() == []

    stack.mend()
    assert stack.handle(event).status == 200
    assert stack.rows() or stack.dead_letters()


def test_a_status_whose_second_write_fails_is_delivered_again(stack: CallbackStack) -> None:
    ok(stack.handle(status("received")))
    stack.fail(WRITE, error=throttled(), after=1)
    assert_not_stored(stack.handle(status("sent")))
    stack.mend()
    ok(stack.handle(status("sent")))
    assert "sent_at" in stack.row(MT)
