"""An item that was edited by hand stops no other: every attribute of every record with hostile values, everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from cli.message_lookup import message_json, without_phone_numbers
from cli.redrive_plan import judge
from cli.stage import Facts, next_step, stage_of
from cli.timeline import timeline
from local.page.board import Board
from optus_sms.aws.event_bus import EventBus
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.flows.publish_events import Publisher
from optus_sms.flows.reconcile_messages import Reconciler
from optus_sms.model.callbacks import ReplyCallback, StatusCallback
from optus_sms.model.queue_message import parse_message
from optus_sms.records.changes import Change, read_change
from optus_sms.records.items import HealthRecord, LedgerRecord, MessageRecord, ReplyRecord, State, read_message
from optus_sms.records.ledger import UNRESOLVED_SECONDS
from optus_sms.records.table import Item, marshal, unmarshal
from tests.support.bench import Bench, totals
from tests.support.builders import HANDSET, NOW, message_body, queue_record, sent_message, status_event, wanted
from tests.support.health import FakeSecret
from tests.unit.cli.test_dead_letter_queue import letter
from tests.unit.flows.test_receive_callback import receive, reply
from tests.unit.flows.test_reconcile_messages import AnsweringGateway, message

DAY = 86_400
HOSTILE: tuple[Any, ...] = (
    1.5, 0, 10**37, True, "", "FOO", "26.11.2026 09:00", frozenset({"x"}), frozenset({"not a line", "a b c d e"}),
)  # fmt: skip
INDEXED: dict[str, Any] = {
    "undecided": str,
    "awaiting": str,
    "handset": str,
    "created_at": str,
    "look_at": (int, float),
}


def edits(kind: Any, *more: str) -> Iterator[tuple[str, Any]]:
    """Yield each attribute with each value that DynamoDB accepts there."""
    for name in (*kind._fields, *more):
        for value in HOSTILE:
            index = INDEXED.get(name)
            if name not in ("message_id", "id", "pk") and (index is None or isinstance(value, index)):
                yield name, value


def wrong(what: list[str], name: str, value: object, check: Callable[..., object], *arguments: object) -> None:
    """Record an edit with which a check fails."""
    try:
        check(*arguments)
    except Exception as error:  # noqa: BLE001 - all of them are told
        what.append(f"{name}={value!r}: {error!r:.200}")


def shown(ledger: LedgerRecord | None, message: MessageRecord | ReplyRecord | None) -> None:
    """Return all output of the command line and the page."""
    mt = message if isinstance(message, MessageRecord) else None
    mo = message if isinstance(message, ReplyRecord) else None
    facts = Facts("message-1", ledger, mt, mo, replies=(mo,) if mo else ())
    for one in (facts, without_phone_numbers(facts), Facts("message-1", ledger, mt, replies=(mo,) if mo else ())):
        json.dumps([message_json(one), [str(line) for line in timeline(one)], next_step(one), stage_of(one)])
    judge(letter("rejected"), ledger, now=NOW)
    board = Board()
    for record in (ledger, message):
        if record is not None:
            board.change(Change(None, record, "2026-01-01T00:00:00.000Z"))
    json.loads(board.changes(0)[1])
    json.dumps(board.life("message-1"))


def shown_ledger(item: Item) -> None:
    shown(LedgerRecord.from_item(item), None)


def shown_message(item: Item) -> None:
    shown(None, read_message(item))


def health(item: Item) -> Item:
    return HealthRecord.from_item(item).to_item()


def repeated(run: Bench) -> None:
    """Deliver a reply again."""
    assert reply(run).status == 200


def published(before: Item, after: Item) -> None:
    """Publish the change before another one in a stream."""
    run, put = Bench(), list[Any]()

    class Client:
        def put_events(self, *, Entries: list[Any]) -> Any:  # noqa: N803
            put.extend(Entries)
            return {"Entries": [{} for _ in Entries]}

    other = {"pk": "msg#other", "state": "EXPIRED"}
    records = [
        {
            "eventName": "MODIFY",
            "dynamodb": {
                "SequenceNumber": "1",
                "ApproximateCreationDateTime": NOW,
                "Keys": {},
                "NewImage": marshal(new),
                **({"OldImage": marshal(old)} if old else {}),
            },
        }
        for old, new in ((before, after), ({}, after), (after, before), ({}, other))
    ]
    result = Publisher(EventBus(cast("Any", Client()), "bus"), run.queues).publish_batch(records)
    assert result.failed_from is None
    assert put[-1]["DetailType"] == "SMS Expired"
    for entry in put:
        assert all(isinstance(value, int | str | bool) for value in json.loads(entry["Detail"]).values())


def reconciled(run: Bench) -> None:
    """Reconcile for days; another message must get its turn."""
    unknown = run.ledger.claim(wanted("other"), now=run.time.now())
    run.ledger.unknown(unknown, "timed_out", now=run.time.now())
    run.messages.record_sent(*sent_message("gw-other", message_id="other"), now=run.time.now())
    gateway = AnsweringGateway(run.time, otherwise=message("received"))
    reconciler = Reconciler(run.ledger, run.messages, gateway, FakeSecret(), run.time.clock)
    for days in (2, 8):
        run.time.advance(days * DAY)
        reconciler.run(deadline=run.time.now() + 120)
    assert run.time.now() > NOW + UNRESOLVED_SECONDS
    assert run.record("other").unresolved_at
    assert run.messages.items["gw-other"]["status"] == "received"


def ledger_bench(state: State) -> Bench:
    """Return a bench whose message-1 is in that state, with a value in every attribute."""
    run, body = Bench(), message_body()
    of = wanted(payload_sha256=parse_message(body, now=NOW).payload_sha256, reference="message-1")
    claim = run.ledger.claim(of, now=NOW)
    match state:
        case State.RETRY:
            run.ledger.not_sent(claim, "throttled", now=NOW)
        case State.UNKNOWN:
            run.ledger.unknown(claim, "timed_out", now=NOW)
        case State.ACCEPTED:
            run.ledger.accepted(claim, "gw-0", now=NOW)
    return run


@pytest.mark.parametrize("state", [State.SENDING, State.RETRY, State.UNKNOWN, State.ACCEPTED])
def test_of_the_ledger(state: State) -> None:
    what: list[str] = []
    for name, value in edits(LedgerRecord):
        run = ledger_bench(state)
        before = dict(run.ledger.items["message-1"])
        run.ledger.items["message-1"][name] = value
        edited = dict(run.ledger.items["message-1"])
        wrong(what, name, value, shown_ledger, edited)
        wrong(what, name, value, published, before, edited)

        def sent(run: Bench = run) -> None:
            for again in (1, 2):
                result = run.send(queue_record(message_body(), receive_count=again), queue_record(name=f"n{again}"))
                assert len(result.failures) <= 1
                assert run.state(f"message-n{again}") is State.ACCEPTED
                run.time.advance(200)
            assert run.gateway.accepted["message-1"] <= (state is State.RETRY)

        wrong(what, name, value, sent)

        def called_back(run: Bench = run) -> None:
            callback = {"id": "gw-1", "status": "received", "reference": "message-1"}
            assert receive(run, status_event(callback)).status == 200

        run = ledger_bench(state)
        run.ledger.items["message-1"][name] = value
        wrong(what, name, value, called_back, run)
        run = ledger_bench(state)
        run.ledger.items["message-1"][name] = value
        wrong(what, name, value, reconciled, run)
    assert what == []


def test_of_messages() -> None:
    what: list[str] = []
    for name, value in edits(MessageRecord, "received_at", "accepted_at", "sent_at"):
        if name == "times":
            continue
        runs = [Bench() for _ in range(3)]
        for run in runs:
            run.messages.record_sent(*sent_message(), now=NOW)
            run.messages.record_status(StatusCallback("gw-1", "failed", "no route"), now=NOW)
        before = dict(runs[0].messages.items["gw-1"])
        for run in runs:
            run.messages.items["gw-1"][name] = value
        edited = dict(runs[0].messages.items["gw-1"])
        wrong(what, name, value, shown_message, edited)
        wrong(what, name, value, published, before, edited)

        def called_back(run: Bench = runs[0]) -> None:
            for status in ("sent", "failed", "failed", "flying", "received", "received"):
                callback = {"id": "gw-1", "status": status, "reference": "message-1", "detail": "new"}
                assert receive(run, status_event(callback)).status == 200
                run.time.advance(1)
            assert reply(run, source=HANDSET[1:]).status == 200

        wrong(what, name, value, called_back)

        def sent_again(run: Bench = runs[1]) -> None:
            run.messages.record_sent(*sent_message(), now=NOW)

        wrong(what, name, value, sent_again)
        wrong(what, name, value, reconciled, runs[2])
    assert what == []


def test_of_replies() -> None:
    what: list[str] = []
    for name, value in edits(ReplyRecord):
        run = Bench()
        run.messages.record_reply(ReplyCallback("mo-1", content="Yes"), in_reply_to="gw-1", exact=True, now=NOW)
        before = dict(run.messages.items["mo-1"])
        run.messages.items["mo-1"][name] = value
        edited = dict(run.messages.items["mo-1"])
        wrong(what, name, value, shown_message, edited)
        wrong(what, name, value, published, before, edited)
        wrong(what, name, value, repeated, run)
    assert what == []


def test_of_the_gateways_health() -> None:
    what: list[str] = []
    more = ("paused_by", "paused_at", "pause_reason", "pause_confirmed", "credentials_version")
    for name, value in edits(HealthRecord, *more):
        if name == "pause":
            continue
        before: Item = {"pk": "health#gateway", "state": "healthy", "paused_by": "health", "checks": 3}
        edited = before | {name: value}
        wrong(what, name, value, health, edited)
        wrong(what, name, value, published, before, edited)
    assert what == []


def test_a_message_whose_record_cannot_be_written_is_kept_for_a_person() -> None:
    run = ledger_bench(State.RETRY)
    run.ledger.items["message-1"]["history"] = "edited"
    result = run.send(queue_record(message_body()))
    assert (result.failures, totals(result.measurements)) == ((), {"OutcomesUnknown": 1})
    (dead_letter,) = run.queues.dead_letters
    assert (dead_letter.reason, run.gateway.posts) == (DeadLetterReason.UNKNOWN_OUTCOME, [])


def test_a_callback_whose_item_cannot_be_written_is_kept_for_a_person() -> None:
    run = Bench()
    run.messages.record_sent(*sent_message(), now=NOW)
    run.messages.items["gw-1"]["unknown_statuses"] = ""
    assert receive(run, status_event({"id": "gw-1", "status": "flying"})).status == 200
    (dead_letter,) = run.queues.dead_letters
    assert dead_letter.reason is DeadLetterReason.UNREADABLE_CALLBACK


def test_what_cannot_be_reconciled_is_set_aside_for_a_day() -> None:
    run = ledger_bench(State.SENDING)
    run.ledger.items["message-1"]["history"] = "edited"
    reconciler = Reconciler(run.ledger, run.messages, AnsweringGateway(run.time), FakeSecret(), run.time.clock)
    counts = []
    for hours in (1, 1, 24):
        run.time.advance(hours * 3600)
        counts.append(reconciler.run(deadline=run.time.now() + 120).counts.get("ItemsSetAside", 0))
    assert counts == [1, 0, 1]


def test_a_message_that_was_made_a_reply_by_hand_is_set_aside_too() -> None:
    run = Bench()
    run.messages.record_sent(*sent_message(), now=NOW)
    run.messages.items["gw-1"]["direction"] = "MO"
    gateway = AnsweringGateway(run.time, message("sent"))
    reconciler = Reconciler(run.ledger, run.messages, gateway, FakeSecret(), run.time.clock)
    for hours in (24, 1, 1, 22):
        run.time.advance(hours * 3600)
        reconciler.run(deadline=run.time.now() + 120)
    assert [at - NOW for at, _ in gateway.asked] == [24 * 3600, 48 * 3600]
    assert "looks" not in run.messages.items["gw-1"], "it would be given up too early once it is mended"


def test_a_state_that_is_none_is_no_event_but_is_noted() -> None:
    for item in ({"pk": "msg#k", "state": "FOO"}, {"pk": "health#gateway", "state": "FOO"}):
        images = {"NewImage": marshal(item), "ApproximateCreationDateTime": NOW}
        with pytest.raises(ValueError, match="state"):
            read_change({"eventName": "MODIFY", "dynamodb": images})


@pytest.mark.parametrize(
    "number", ["1.5", "-3", "0", "1798284587.89", "1E+3", "99999999999999999999999999999999999999"]
)
def test_numbers_are_read_as_dynamodb_has_them(number: str) -> None:
    (value,) = unmarshal({"n": {"N": number}}).values()
    assert float(marshal({"n": value})["n"]["N"]) == float(number)
