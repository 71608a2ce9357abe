"""Callbacks with doubles: authentication, storage, responses, and proofs of a send."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from optus_sms.aws.queues import DeadLetterReason
from optus_sms.flows.receive_callback import MAX_BODY_BYTES, CallbackRequest, CallbackResponse
from optus_sms.flows.reconcile_messages import Reconciler
from optus_sms.model.queue_message import parse_message
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import LedgerRecord, OptOutRecord, State
from optus_sms.records.ledger import COMPLETE_SECONDS
from tests.support.bench import Bench, FailAt, totals
from tests.support.builders import (
    HANDSET,
    NOW,
    basic,
    message_body,
    queue_record,
    reply_event,
    sent_message,
    sqs_id,
    status_event,
    unreachable,
    wanted,
)
from tests.support.fakes import Moment, ScriptedGateway, no_hook

if TYPE_CHECKING:
    from optus_sms.gateway.api import Gateway

ALWAYS = -1


@pytest.fixture
def run() -> Bench:
    return Bench()


def receive(run: Bench, event: dict[str, Any]) -> CallbackResponse:
    return run.receiver.receive(CallbackRequest.from_event(event))


def status(run: Bench, **fields: Any) -> CallbackResponse:
    return receive(run, status_event({"message_id": "gw-1", "status": "sent"} | fields))


def reply(run: Bench, **fields: Any) -> CallbackResponse:
    return receive(run, reply_event({"id": "mo-1", "source": HANDSET[1:], "content": "Yes"} | fields))


def claim(run: Bench, **changes: Any) -> LedgerRecord:
    of = wanted(**changes)
    if of.reference:
        run.ledger.register_reference(of.reference, of.message_id, ttl=of.ttl)
    got = run.ledger.claim(of, now=NOW)
    assert got.state is State.SENDING
    return got


def nothing_happened(run: Bench) -> bool:
    return not run.messages.items and not run.ledger.records and not run.queues.dead_letters


class TestWhoIsLetIn:
    @pytest.mark.parametrize(
        "authorization", [None, "", "Basic", basic("gateway", "wrong"), basic("", ""), "Bearer x", "\x00"]
    )
    @pytest.mark.parametrize("event", [status_event, reply_event])
    def test_nobody_without_the_credentials(self, run: Bench, event: Any, authorization: str | None) -> None:
        response = receive(run, event({"id": "gw-1", "status": "sent", "content": "x"}, authorization=authorization))
        assert response.to_proxy() == {
            "statusCode": 401,
            "headers": {"Content-Type": "application/json", "WWW-Authenticate": 'Basic realm="callbacks"'},
            "body": '{"message": "Unauthorized"}',
        }
        assert totals(response.measurements) == {"CallbacksRefused": 1}
        assert nothing_happened(run)

    def test_nobody_while_the_secret_cannot_be_read_but_nobody_is_sent_away(self, run: Bench) -> None:
        secret: Any = run.receiver.secret
        secret.hook = FailAt("secret.admits", times=ALWAYS)
        response = status(run)
        assert (response.status, response.headers["Retry-After"]) == (503, "60")
        assert nothing_happened(run)

    @pytest.mark.parametrize("path", ["/", "/callbacks", "/callbacks/other", "/callbacks/statusx", "", "/status"])
    def test_nobody_elsewhere(self, run: Bench, path: str) -> None:
        event = status_event({"id": "gw-1"}) | {"path": path}
        assert receive(run, event).status == 404
        assert nothing_happened(run)

    @pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS", "post", ""])
    def test_only_post(self, run: Bench, method: str) -> None:
        assert receive(run, status_event({"id": "gw-1"}, method=method)).status == 404
        assert nothing_happened(run)

    @pytest.mark.parametrize("path", ["/callbacks/status", "/callbacks/status/", "/v1/callbacks/status"])
    def test_stage_and_slash_do_not_matter(self, run: Bench, path: str) -> None:
        assert receive(run, status_event({"id": "gw-1", "status": "sent"}) | {"path": path}).status == 200

    @pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
    def test_header_in_any_case(self, run: Bench, name: str) -> None:
        event = status_event({"id": "gw-1", "status": "sent"}, authorization=None)
        event["headers"][name] = basic()
        assert receive(run, event).status == 200

    @pytest.mark.parametrize(
        "event", [{}, {"headers": None}, {"headers": []}, {"path": None, "httpMethod": 1, "body": {}}, {"body": None}]
    )
    def test_odd_events_are_answered(self, run: Bench, event: dict[str, Any]) -> None:
        assert receive(run, event).status == 404
        path = {"path": "/callbacks/status", "httpMethod": "POST"}
        assert receive(run, path | event | path).status == 401


class TestBody:
    def test_too_large_is_refused(self, run: Bench) -> None:
        response = receive(run, status_event("x" * (MAX_BODY_BYTES + 1)))
        assert (response.status, totals(response.measurements)) == (413, {"CallbacksRefused": 1})
        assert nothing_happened(run)

    def test_just_small_enough_is_not(self, run: Bench) -> None:
        body = json.dumps({"id": "gw-1", "status": "sent", "more": ""})
        body = body[:-2] + "x" * (MAX_BODY_BYTES - len(body)) + body[-2:]
        assert len(body) == MAX_BODY_BYTES
        assert receive(run, status_event(body)).status == 200

    def test_in_base64_is_decoded(self, run: Bench) -> None:
        assert receive(run, status_event(b'{"id": "gw-1", "status": "sent"}')).status == 200
        assert run.messages.items["gw-1"]["status"] == "sent"

    @pytest.mark.parametrize("body", ["", None, "not json", "[]", "{}", '{"status": "sent"}', b"\xff\xfe", "\ud800"])
    @pytest.mark.parametrize("event", [status_event, reply_event])
    def test_unreadable_is_kept_raw(self, run: Bench, event: Any, body: str | bytes | None) -> None:
        response = receive(run, event(body))
        assert (response.status, totals(response.measurements)) == (200, {"CallbacksUnreadable": 1})
        (letter,) = run.queues.dead_letters
        raw = body if isinstance(body, bytes) else (body or "").encode("utf-8", "surrogatepass")
        assert (letter.body, letter.reason) == (raw, DeadLetterReason.UNREADABLE_CALLBACK)
        assert "item 1" not in letter.detail
        assert run.messages.items == {}

    def test_that_only_claims_to_be_base64_is_kept_raw(self, run: Bench) -> None:
        receive(run, status_event("YWJj!") | {"isBase64Encoded": True})
        assert [letter.body for letter in run.queues.dead_letters] == [b"YWJj!"]

    def test_unreadable_is_kept_with_what_it_takes_to_post_it_again(self, run: Bench) -> None:
        event = reply_event(b"\xe9")
        event["headers"]["Content-Type"] = "application/json; charset=latin-1"
        for each in (event, status_event("not json")):
            receive(run, each)
        kept = [(letter.route, letter.charset) for letter in run.queues.dead_letters]
        assert kept == [("/callbacks/reply", "latin-1"), ("/callbacks/status", "")]

    def test_unreadable_that_cannot_be_kept_is_asked_for_again(self, run: Bench) -> None:
        run.hook(FailAt("queues.dead_letter", times=ALWAYS))
        response = receive(run, status_event("not json"))
        assert (response.status, totals(response.measurements)) == (503, {"CallbacksNotStored": 1})

    def test_charset_of_the_content_type_is_honored(self, run: Bench) -> None:
        event = reply_event('{"id": "mo-1", "content": "Café ä£"}'.encode("latin-1"))
        event["headers"]["Content-Type"] = 'application/json; Charset="ISO-8859-1"'
        assert receive(run, event).message == "Stored"
        assert run.messages.items["mo-1"]["content"] == "Café ä£"


class TestArray:
    def test_each_has_its_own_fate(self, run: Bench) -> None:
        event = status_event(
            '[{"id": "gw-1", "status": "sent"}, {"status": "sent"}, {"id": "mo-1", "content": "Yes"}, 1]'
        )
        response = receive(run, event)
        assert (response.status, response.message) == (200, "Kept for an operator")
        assert set(run.messages.items) == {"gw-1", "mo-1"}
        (letter,) = run.queues.dead_letters
        assert letter.body == event["body"].encode()
        assert "item 2: " in letter.detail
        assert "item 4: " in letter.detail
        assert totals(response.measurements) == {"StatusesApplied": 1, "RepliesReceived": 1, "CallbacksUnreadable": 2}

    def test_all_are_kept(self, run: Bench) -> None:
        response = receive(run, status_event('[{"id": "gw-1", "status": "sent"}, {"id": "gw-2", "status": "sent"}]'))
        assert (response.status, response.message) == (200, "Stored")
        assert run.queues.dead_letters == []

    @pytest.mark.parametrize("skip", [0, 1, 2])
    def test_one_that_cannot_be_stored_asks_for_all_again_and_stops_no_other(self, run: Bench, skip: int) -> None:
        event = status_event(json.dumps([{"id": f"gw-{number}", "status": "sent"} for number in range(3)]))
        run.hook(FailAt("messages.record_status", skip=skip))
        assert receive(run, event).status == 503
        assert set(run.messages.items) == {"gw-0", "gw-1", "gw-2"} - {f"gw-{skip}"}
        assert receive(run, event).status == 200
        assert set(run.messages.items) == {"gw-0", "gw-1", "gw-2"}

    def test_of_too_many_for_the_time_the_rest_is_kept(self, run: Bench) -> None:
        event = status_event(json.dumps([{"id": f"gw-{number}", "status": "sent"} for number in range(1500)]))

        def a_second_each(step: str, moment: str) -> None:
            run.time.advance(1 if (step, moment) == ("messages.record_status", "after") else 0)

        run.hook(a_second_each)
        response = receive(run, event)
        assert (response.status, response.message) == (200, "Kept for an operator")
        assert len(run.messages.items) == 6
        (letter,) = run.queues.dead_letters
        assert (letter.body, letter.detail.partition(":")[0]) == (event["body"].encode(), "item 7")
        assert totals(response.measurements)["CallbacksUnreadable"] == 1494

    def test_of_too_many_for_the_time_nothing_is_kept_if_all_are_delivered_again(self, run: Bench) -> None:
        def ten_seconds(step: str, moment: str) -> None:
            if (step, moment) == ("messages.record_status", "before"):
                run.time.advance(10)
                raise TimeoutError

        run.hook(ten_seconds)
        response = receive(run, status_event('[{"id": "gw-1", "status": "sent"}, {"id": "gw-2", "status": "sent"}]'))
        assert (response.status, run.queues.dead_letters, run.messages.items) == (503, [], {})
        assert run.time.now() == NOW + 10

    def test_of_many_problems_the_log_has_a_few(self, run: Bench) -> None:
        receive(run, status_event("[" + "1," * 20_000 + "1]"))
        assert len(run.queues.dead_letters[0].detail) < 1000


class TestStatus:
    def test_is_stored_before_it_is_answered(self, run: Bench) -> None:
        response = status(run, status="RECEIVED", detail="On the handset")
        assert response.to_proxy()["statusCode"] == 200
        assert run.messages.items["gw-1"]["status"] == "received"
        assert totals(response.measurements)["StatusesApplied"] == 1

    def test_of_a_message_of_ours_costs_one_write(self, run: Bench) -> None:
        run.messages.record_sent(*sent_message(), now=NOW)
        steps: list[str] = []
        run.hook(lambda step, moment: steps.append(step) if moment == "before" else None)
        status(run, reference="message-1")
        assert steps == ["messages.record_status"]

    def test_received_tells_how_long_it_took(self, run: Bench) -> None:
        run.messages.record_sent(*sent_message(), now=NOW)
        run.time.advance(12.5)
        assert totals(status(run, status="received").measurements)["DeliveryLatency"] == 12_500

    def test_without_our_own_write_it_is_timed_from_the_acceptance(self, run: Bench) -> None:
        status(run, status="accepted")
        run.time.advance(12.5)
        assert totals(status(run, status="received").measurements)["DeliveryLatency"] == 12_500

    @pytest.mark.parametrize(("sent_at", "latency"), [(NOW - 0.5, 500), (NOW + 5, 0)])
    def test_received_at_once_or_by_a_clock_that_is_behind(self, run: Bench, sent_at: float, latency: float) -> None:
        run.messages.record_sent(*sent_message(), now=sent_at)
        assert totals(status(run, status="received").measurements)["DeliveryLatency"] == latency

    def test_the_end_of_a_message_is_counted_once_and_a_late_delivery_too(self, run: Bench) -> None:
        counted = []
        for name in ("sent", "expired", "expired", "rejected", "received", "dead"):
            counts = totals(status(run, status=name).measurements)
            counted.append((counts.get("MessagesUndelivered", 0), counts.get("MessagesDelivered", 0)))
        assert counted == [(0, 0), (1, 0), (0, 0), (0, 0), (0, 1), (0, 0)]

    def test_the_log_names_the_message_and_no_status_that_is_unknown(
        self, run: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An unknown one is the gateway's free text."""
        run.messages.record_sent(*sent_message(), now=NOW)
        with caplog.at_level("INFO"):
            status(run, status="sent")
            status(run, status="told Ann")
        lines = [vars(record) for record in caplog.records if record.message == "status"]
        assert [(line["message_id"], line["status"]) for line in lines] == [("message-1", "sent"), ("message-1", None)]

    @pytest.mark.parametrize("again", ["sent", "accepted"])
    def test_stale_and_duplicate_are_answered_200_too(self, run: Bench, again: str) -> None:
        status(run, status="received")
        status(run, status="sent")
        response = status(run, status=again)
        assert response.status == 200
        assert totals(response.measurements) == {"StatusesStale": 1}

    def test_contradiction_is_counted_once(self, run: Bench) -> None:
        counts = [
            totals(status(run, status=name).measurements).get("StatusesContradictory", 0)
            for name in ("received", "rejected", "rejected", "sent", "received")
        ]
        assert counts == [0, 1, 0, 0, 0]

    def test_that_cannot_be_stored_is_asked_for_again(self, run: Bench) -> None:
        run.hook(FailAt("messages.record_status", times=ALWAYS))
        response = status(run)
        assert (response.status, totals(response.measurements)) == (503, {"CallbacksNotStored": 1})

    def test_with_the_id_of_a_reply_is_kept_for_a_person(self, run: Bench) -> None:
        reply(run)
        assert status(run, message_id="mo-1").status == 200
        assert run.messages.items["mo-1"]["direction"] == "MO"
        assert run.queues.dead_letters[0].reason is DeadLetterReason.UNREADABLE_CALLBACK

    def test_posted_to_the_wrong_url_is_a_status_all_the_same(self, run: Bench) -> None:
        assert receive(run, reply_event({"message_id": "gw-1", "status": "sent"})).status == 200
        assert run.messages.items["gw-1"]["direction"] == "MT"

    def test_with_nothing_but_an_id_is_what_its_url_is_for(self, run: Bench) -> None:
        for event in (status_event({"id": "gw-1"}), reply_event({"id": "mo-1"})):
            assert receive(run, event).status == 200
        assert [run.messages.items[gateway_id]["direction"] for gateway_id in ("gw-1", "mo-1")] == ["MT", "MO"]


class TestProof:
    @pytest.mark.parametrize("reference", [None, "costs-42"])
    def test_by_reference_resolves_a_lost_response(self, run: Bench, reference: str | None) -> None:
        mine = claim(run, reference=reference)
        run.ledger.unknown(mine, "timed_out", now=NOW)
        response = status(run, reference=reference or "message-1")
        assert (run.state(), run.record().gateway_id) == (State.ACCEPTED, "gw-1")
        row = run.messages.items["gw-1"]
        assert (row["message_id"], row["destination"], row["status"]) == ("message-1", HANDSET, "sent")
        assert totals(response.measurements)["OutcomesResolved"] == 1

    def test_counts_though_the_sdk_repeats_a_write_whose_answer_was_lost(
        self, run: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run.ledger.unknown(claim(run), "timed_out", now=NOW)
        resolve = run.ledger.resolve_by_callback

        def resolve_twice(key: str, gateway_id: str, *, now: float) -> LedgerRecord | None:
            resolve(key, gateway_id, now=now)
            return resolve(key, gateway_id, now=now)

        monkeypatch.setattr(run.ledger, "resolve_by_callback", resolve_twice)
        assert status(run, reference="message-1").status == 200
        assert run.messages.items["gw-1"]["message_id"] == "message-1"

    def test_comes_before_our_own_write(self, run: Bench) -> None:
        mine = claim(run)
        status(run, reference="message-1")
        assert run.state() is State.ACCEPTED
        assert run.ledger.accepted(mine, "gw-1", now=NOW) is None

    def test_of_a_message_that_was_certainly_not_sent_is_a_contradiction(self, run: Bench) -> None:
        """Another system on the same account uses the reference."""
        run.ledger.not_sent(claim(run, reference="costs-42"), "connection_refused", now=NOW)
        response = status(run, reference="costs-42")
        assert (response.status, run.state()) == (200, State.RETRY)
        assert totals(response.measurements)["CallbacksContradictory"] == 1
        assert "message_id" not in run.messages.items["gw-1"]

    @pytest.mark.parametrize("during", ["claim", "retry"])
    def test_of_anothers_message_loses_no_message_that_the_gateway_never_got(self, during: str) -> None:
        run = Bench(ScriptedGateway([unreachable()]))

        def meanwhile(step: str, moment: Moment) -> None:
            if (step, moment) == ("gateway.post_message", "after"):
                run.hook()
                status(run, reference="message-1")

        run.hook(meanwhile if during == "claim" else no_hook)
        assert run.send(queue_record()).failures == (sqs_id(),)
        if during == "retry":
            status(run, reference="message-1")
        assert run.state() is State.RETRY
        run.time.advance(3600)
        assert run.send(queue_record(receive_count=2)).failures == ()
        assert (run.state(), run.gateway.accepted) == (State.ACCEPTED, {"message-1": 1})

    def test_is_none_without_a_reference(self, run: Bench) -> None:
        claim(run)
        status(run)
        assert run.state() is State.SENDING

    def test_is_none_if_two_messages_answer_to_the_reference(self, run: Bench) -> None:
        for key in ("message-1", "message-2"):
            run.ledger.unknown(claim(run, message_id=key, reference="costs-42"), "timed_out", now=NOW)
        response = status(run, reference="costs-42")
        assert (run.state("message-1"), run.state("message-2")) == (State.UNKNOWN, State.UNKNOWN)
        assert "OutcomesResolved" not in totals(response.measurements)
        assert "message_id" not in run.messages.items["gw-1"]

    def test_is_none_if_the_record_has_another_id(self, run: Bench) -> None:
        run.ledger.accepted(claim(run), "gw-0", now=NOW)
        status(run, reference="message-1")
        assert run.record().gateway_id == "gw-0"
        assert "message_id" not in run.messages.items["gw-1"]

    def test_is_none_if_the_id_belongs_to_another_message(self, run: Bench) -> None:
        run.messages.record_sent(*sent_message(message_id="other"), now=NOW)
        claim(run)
        status(run, reference="message-1")
        assert run.state() is State.SENDING

    FAILURES = (
        ("ledger.resolve_by_callback", "before"),
        ("ledger.resolve_by_callback", "after"),
        ("messages.record_sent", "before"),
        ("messages.record_sent", "after"),
        ("ledger.completed", "before"),
    )

    @pytest.mark.parametrize(("step", "moment"), FAILURES[:3])
    def test_that_failed_half_way_is_completed_when_it_is_delivered_again(
        self, run: Bench, step: str, moment: Moment
    ) -> None:
        run.ledger.unknown(claim(run), "timed_out", now=NOW)
        run.hook(FailAt(step, moment))
        assert status(run, reference="message-1").status == 503
        assert status(run, reference="message-1").status == 200
        self.is_complete(run)

    @pytest.mark.parametrize(("step", "moment"), [("ledger.with_reference", "before"), *FAILURES])
    def test_that_failed_half_way_is_completed_by_reconciliation(self, run: Bench, step: str, moment: Moment) -> None:
        """The gateway gives up too early."""
        run.ledger.unknown(claim(run), "timed_out", now=NOW)
        run.hook(FailAt(step, moment))
        assert status(run, reference="message-1").status == 503
        self.reconcile(run)
        self.is_complete(run)

    @pytest.mark.parametrize(("step", "moment"), FAILURES[1:])
    def test_that_failed_half_way_is_completed_by_the_next_delivery(
        self, run: Bench, step: str, moment: Moment
    ) -> None:
        body = message_body()
        run.ledger.unknown(claim(run, payload_sha256=parse_message(body, now=NOW).payload_sha256), "timed_out", now=NOW)
        run.hook(FailAt(step, moment))
        assert status(run, reference="message-1").status == 503
        assert run.send(queue_record(body)).failures == ()
        self.is_complete(run)

    def reconcile(self, run: Bench) -> None:
        run.time.advance(COMPLETE_SECONDS)
        gateway = cast("Gateway", None)  # nothing is requested so soon
        report = Reconciler(run.ledger, run.messages, gateway, run.secret, run.time.clock).run(deadline=NOW + 9999)
        assert report.failed == ()

    def is_complete(self, run: Bench) -> None:
        assert (run.state(), run.record().gateway_id, run.record().destination) == (State.ACCEPTED, "gw-1", None)
        assert run.ledger.count_undecided(State.ACCEPTED) == 0
        row = run.messages.items["gw-1"]
        assert (row["message_id"], row["handset"], row["segments"]) == ("message-1", HANDSET, 1)
        assert "created_at" in row

    def test_whose_message_is_completed_keeps_no_destination_in_the_ledger(self, run: Bench) -> None:
        run.ledger.unknown(claim(run), "timed_out", now=NOW)
        status(run, reference="message-1")
        self.is_complete(run)

    def test_by_an_id_that_is_taken_meanwhile_is_counted(self, run: Bench) -> None:
        run.ledger.unknown(claim(run), "timed_out", now=NOW)

        def take(step: str, moment: Moment) -> None:
            if (step, moment) == ("messages.record_sent", "before"):
                run.messages.items["gw-1"]["message_id"] = "other"

        run.hook(take)
        assert totals(status(run, reference="message-1").measurements)["GatewayIdsTaken"] == 1
        assert run.messages.items["gw-1"]["message_id"] == "other"

    def test_by_an_id_that_another_message_takes_meanwhile_is_completed_once(self, run: Bench) -> None:
        run.ledger.unknown(claim(run), "timed_out", now=NOW)

        def meanwhile(step: str, moment: Moment) -> None:
            if (step, moment) == ("messages.record_sent", "before"):
                run.hook()
                run.messages.record_sent(*sent_message(message_id="other"), now=NOW)

        run.hook(meanwhile)
        assert status(run, reference="message-1").status == 200
        assert run.ledger.count_undecided(State.ACCEPTED) == 0
        assert run.messages.items["gw-1"]["message_id"] == "other"

    def test_of_a_message_nobody_knows_is_stored(self, run: Bench) -> None:
        assert status(run, reference="nobody").status == 200
        assert run.messages.items["gw-1"]["reference"] == "nobody"
        assert run.ledger.records == {}


class TestWithoutAnId:
    def test_goes_to_the_only_message_with_the_reference(self, run: Bench) -> None:
        run.ledger.accepted(claim(run, reference="order-1"), "gw-1", now=NOW)
        assert status(run, message_id=None, status="received", reference="order-1").message == "Stored"
        assert run.messages.items["gw-1"]["status"] == "received"

    @pytest.mark.parametrize("reference", ["message-1", "order-1", "another", None])
    def test_is_kept_raw_if_that_proves_no_message_with_an_id(self, run: Bench, reference: str | None) -> None:
        claim(run)  # not accepted yet
        for number in (2, 3):
            mine = claim(run, message_id=f"message-{number}", reference="order-1")
            run.ledger.accepted(mine, f"gw-{number}", now=NOW)
        assert status(run, message_id=None, reference=reference).message == "Kept for an operator"
        assert run.messages.items == {}
        assert len(run.queues.dead_letters) == 1


class TestReply:
    @pytest.mark.parametrize("source", ["0491570006", "+61 491 570 006", "0061491570006"])
    def test_in_another_form_of_the_number_is_in_the_conversation(self, run: Bench, source: str) -> None:
        run.messages.record_sent(*sent_message("gw-1"), now=NOW)
        reply(run, source=source, reply_to=0)
        row = run.messages.items["mo-1"]
        assert (row["handset"], row["source"], row["in_reply_to"]) == (HANDSET, source, "gw-1")

    def test_with_reply_to_is_an_exact_match(self, run: Bench) -> None:
        response = reply(run, reply_to="gw-7")
        row = run.messages.items["mo-1"]
        assert (row["direction"], row["handset"], row["in_reply_to"], row["reply_match"]) == (
            "MO",
            HANDSET,
            "gw-7",
            "exact",
        )
        assert (response.status, totals(response.measurements)) == (200, {"RepliesReceived": 1})

    def test_without_is_inferred_from_the_latest_message_to_that_handset(self, run: Bench) -> None:
        run.messages.record_sent(*sent_message("gw-1"), now=NOW - 100)
        run.messages.record_sent(*sent_message("gw-2"), now=NOW - 50)
        run.messages.record_sent(*sent_message("gw-3", has_sender_id=True), now=NOW - 10)
        reply(run)
        row = run.messages.items["mo-1"]
        assert (row["in_reply_to"], row["reply_match"]) == ("gw-2", "inferred")

    @pytest.mark.parametrize(("days", "found"), [(2.99, True), (3.01, False)])
    def test_is_matched_for_three_days(self, run: Bench, days: float, found: bool) -> None:
        run.messages.record_sent(*sent_message("gw-1"), now=NOW - days * 86_400)
        reply(run)
        assert ("in_reply_to" in run.messages.items["mo-1"]) is found

    @pytest.mark.parametrize("source", [None, "", "0491570007"])
    def test_without_a_match_is_stored_too(self, run: Bench, source: str | None) -> None:
        run.messages.record_sent(*sent_message("gw-1"), now=NOW)
        reply(run, source=source)
        assert "in_reply_to" not in run.messages.items["mo-1"]

    def test_is_stored_and_counted_once(self, run: Bench) -> None:
        counts = [totals(reply(run).measurements).get("RepliesReceived", 0) for _ in range(3)]
        assert counts == [1, 0, 0]

    def test_with_the_id_of_a_sent_message_is_kept_for_a_person(self, run: Bench) -> None:
        run.messages.record_sent(*sent_message("mo-1"), now=NOW)
        assert reply(run).status == 200
        assert run.messages.items["mo-1"]["direction"] == "MT"
        assert json.loads(run.queues.dead_letters[0].body)["content"] == "Yes"

    def test_that_cannot_be_stored_is_asked_for_again(self, run: Bench) -> None:
        run.hook(FailAt("messages.record_reply", times=ALWAYS))
        assert reply(run).status == 503
        run.hook()
        assert reply(run).status == 200
        assert run.messages.items["mo-1"]["content"] == "Yes"


class TestOptOut:
    def test_a_reply_opts_its_handset_out_and_back_in(self, run: Bench) -> None:
        assert reply(run, content="Stop.").status == 200
        out = run.opt_outs.read(HANDSET)
        assert out is not None
        assert (out.opted_out, out.by, out.reply_id, out.since) == (True, "reply", "mo-1", format_rfc3339(NOW))
        run.time.advance(60)
        assert reply(run, id="mo-2", content="START").status == 200
        back = run.opt_outs.read(HANDSET)
        assert back is not None
        assert (back.opted_out, back.reply_id) == (False, "mo-2")

    def test_the_reply_is_kept_like_any_other(self, run: Bench) -> None:
        assert totals(reply(run, content="STOP").measurements)["RepliesReceived"] == 1
        assert run.messages.items["mo-1"]["content"] == "STOP"

    @pytest.mark.parametrize("content", ["STOP 12345", "please stop by at nine", None])
    def test_another_text_opts_nobody_out(self, run: Bench, content: str | None) -> None:
        assert reply(run, content=content).status == 200
        assert run.opt_outs.read(HANDSET) is None

    def test_any_order_of_callbacks_with_repeats_gives_the_same_state(self) -> None:
        """The first callbacks come in the order of the replies; each may be repeated at any time, with any text."""
        texts = {"mo-1": "STOP", "mo-2": "START", "mo-3": "stop!", "mo-4": "Start"}
        wrong = []
        for *order, repeated in itertools.product(*[texts] * 3, ("mo-1", "mo-2")):
            run, first = Bench(), dict.fromkeys([*order, repeated])
            for name in (*order, repeated):
                run.time.advance(1)
                reply(run, id=name, content=texts[name])
            found = run.opt_outs.read(HANDSET)
            last = list(first)[-1]
            if found is None or (found.reply_id, found.opted_out) != (last, last in ("mo-1", "mo-3")):
                wrong.append(order)
        assert wrong == []

    def test_a_repeated_callback_with_another_text_changes_nothing(self, run: Bench) -> None:
        reply(run, content="Yes")
        reply(run, content="STOP")
        assert run.opt_outs.read(HANDSET) is None

    def test_a_late_repeat_does_not_undo_an_operators_word(self, run: Bench) -> None:
        reply(run, content="STOP")
        run.time.advance(60)
        since = format_rfc3339(run.time.now())
        run.opt_outs.decide(OptOutRecord(HANDSET, False, since, "person", operator="operator-1"))
        run.time.advance(60)
        reply(run, content="STOP")
        found = run.opt_outs.read(HANDSET)
        assert found is not None
        assert not found.opted_out

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_write_that_fails_makes_the_gateway_deliver_again(self, run: Bench, moment: Moment) -> None:
        run.hook(FailAt("opt_outs.decide", moment))
        assert reply(run, content="STOP").status == 503
        run.time.advance(60)
        assert reply(run, content="STOP").status == 200
        found = run.opt_outs.read(HANDSET)
        assert found is not None
        assert (found.opted_out, found.since) == (True, format_rfc3339(NOW))

    def test_an_erased_reply_brings_no_number_back(self, run: Bench) -> None:
        reply(run, content="STOP")
        run.messages.erase("mo-1", HANDSET, now=NOW)
        run.opt_outs.table.items.clear()
        assert reply(run, content="STOP").status == 200
        assert run.opt_outs.read(HANDSET) is None

    @pytest.mark.parametrize("source", ["Optus", "12345", None])
    def test_a_source_that_is_no_number_can_not_opt_out(self, run: Bench, source: str | None) -> None:
        assert reply(run, content="STOP", source=source).status == 200
        assert run.opt_outs.table.items == {}

    @pytest.mark.parametrize("source", ["0491 570 006", "61491570006", "+61491570006"])
    def test_the_number_is_found_in_any_form(self, run: Bench, source: str) -> None:
        reply(run, content="STOP", source=source)
        assert list(run.opt_outs.table.items) == [HANDSET]

    def test_the_status_blocked_is_not_acted_on(self, run: Bench) -> None:
        """Its meaning is not documented, so it is only shown."""
        run.messages.record_sent(*sent_message(), now=NOW)
        status(run, status="blocked")
        assert run.messages.items["gw-1"]["status"] == "blocked"
        assert run.opt_outs.table.items == {}
