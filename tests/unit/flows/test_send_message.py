"""The send protocol with doubles: POSTs, writes and acknowledgments, also after every failure."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from optus_sms.aws.queues import DeadLetterReason
from optus_sms.flows.receive_callback import CallbackRequest
from optus_sms.flows.refused_claim import CORRECTION_SECONDS, NextStep, next_step
from optus_sms.flows.send_message import (
    LEASE_MARGIN_SECONDS,
    QUEUE_RECEIVES,
    QUEUE_RETENTION_SECONDS,
    QueueRecord,
    SendBatchResult,
)
from optus_sms.flows.unwritten import UnwrittenOutcomes
from optus_sms.gateway.api import Outcome, PostResult, Stop
from optus_sms.gateway.credentials import GatewayCredentials
from optus_sms.model.callbacks import ReplyCallback, StatusCallback
from optus_sms.model.errors import CredentialsError
from optus_sms.model.lanes import Lane
from optus_sms.model.queue_message import UNREADABLE_KEY, parse_message
from optus_sms.model.times import Clock, format_rfc3339
from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.ledger import KEEP_REFUSED_SECONDS
from tests.support.bench import Bench, FailAt, FaultError, totals
from tests.support.builders import (
    CONTENT,
    HANDSET,
    NOW,
    basic,
    credentials_refused,
    message_body,
    queue_record,
    receipt_handle,
    rejected,
    send_failed,
    sent,
    server_error,
    sqs_id,
    sqs_record,
    throttled,
    unknown,
    unreachable,
    wanted,
)
from tests.support.fakes import FakeClock, FixedSecret, Moment, ScriptedGateway

ALWAYS = -1
MOMENTS: tuple[Moment, ...] = ("before", "after")
OLD, NEW = GatewayCredentials("app", "old"), GatewayCredentials("app", "new")


def at(seconds_from_now: float) -> str:
    return format_rfc3339(NOW + seconds_from_now)


def bench(*script: Any, **more: Any) -> Bench:
    options = more.pop("options", {})
    return Bench(gateway=ScriptedGateway(script), options=options, **more)


def claim_stored_late(run: Bench, *, batches: int = 0) -> None:
    """Deliver a message whose claim fails, and is stored only after that delivery and so many ``batches``."""
    claims: list[LedgerRecord] = []
    claim = run.ledger.claim

    def lost(wanted: LedgerRecord, **_: Any) -> LedgerRecord:
        claims.append(wanted)
        raise ConnectionError

    run.ledger.claim = lost  # type: ignore[method-assign]
    run.send(queue_record())
    run.ledger.claim = claim  # type: ignore[method-assign]
    for _ in range(batches):
        run.time.advance(60)
        run.send()
    claim(claims[0], now=run.time.now())


def reasons(bench: Bench) -> list[str]:
    return [letter.reason.value for letter in bench.queues.dead_letters]


class TestNextStep:
    PAYLOAD = "a" * 64

    def decide(self, state: State, *, expired: bool = False, payload: str | None = PAYLOAD, **more: Any) -> NextStep:
        record = LedgerRecord("message-1", state, payload_sha256=payload, **more)
        return next_step(record, wanted(owner="another"), now=NOW, is_expired=expired, is_too_late=expired)

    @pytest.mark.parametrize("state", State)
    def test_another_payload_is_a_conflict_but_after_a_certain_refusal(self, state: State) -> None:
        expected = NextStep.REPLACE if state is State.REJECTED else NextStep.CONFLICT
        assert self.decide(state, payload="b" * 64) is expected

    @pytest.mark.parametrize(
        "changes", [{"unknown_outcomes": 1}, {"gateway_id": "gw-1"}, {"refused_payloads": frozenset({"b" * 64})}]
    )
    def test_another_payload_is_a_conflict_if_the_refusal_is_not_certain_or_was_its_own(
        self, changes: dict[str, Any]
    ) -> None:
        record = LedgerRecord("message-1", State.REJECTED, payload_sha256="a" * 64, **changes)
        other = wanted(payload_sha256="b" * 64)
        assert next_step(record, other, now=NOW, is_expired=False, is_too_late=False) is NextStep.CONFLICT

    @pytest.mark.parametrize(
        ("state", "step"),
        [
            (State.ACCEPTED, NextStep.REPAIR_MESSAGE),
            (State.REJECTED, NextStep.DEAD_LETTER),
            (State.EXPIRED, NextStep.EXPIRED_BEFORE),
            (State.RECALLED, NextStep.DONE),
            (State.RETRY, NextStep.TRY_AGAIN),
        ],
    )
    def test_resolved_states(self, state: State, step: NextStep) -> None:
        assert self.decide(state) is step
        assert self.decide(state, payload=None) is step

    @pytest.mark.parametrize(
        ("lease_until", "step"),
        [
            (NOW + 1, NextStep.WAIT_FOR_LEASE),
            (NOW, NextStep.TAKE_OVER),
            (NOW - 1, NextStep.TAKE_OVER),
            (0, NextStep.TAKE_OVER),
        ],
    )
    def test_sending_depends_on_the_lease(self, lease_until: int, step: NextStep) -> None:
        assert self.decide(State.SENDING, lease_until=int(lease_until)) is step

    @pytest.mark.parametrize(
        ("owner", "lease_until", "step"),
        [
            ("a", NOW + 1 - CORRECTION_SECONDS, NextStep.WAIT_FOR_LEASE),
            ("z", NOW + 1 - CORRECTION_SECONDS, NextStep.WAIT_FOR_LEASE),
            ("a", NOW - CORRECTION_SECONDS, NextStep.REPAIR_MESSAGE),
            ("another", NOW + 1, NextStep.REPAIR_MESSAGE),
            ("a", 0, NextStep.REPAIR_MESSAGE),
        ],
    )
    def test_a_claim_that_a_callback_resolved_is_waited_for_by_all_but_its_owner(
        self, owner: str, lease_until: int, step: NextStep
    ) -> None:
        assert self.decide(State.ACCEPTED, owner=owner, lease_until=int(lease_until)) is step

    @pytest.mark.parametrize(
        ("unknown", "expired", "step"),
        [
            ({"on_unknown": "hold", "unknown_outcomes": 1, "unknown_at": 0}, False, NextStep.DEAD_LETTER),
            ({"on_unknown": "resend", "unknown_outcomes": 1, "unknown_at": int(NOW) - 120}, False, NextStep.SEND_AGAIN),
            (
                {"on_unknown": "resend", "unknown_outcomes": 1, "unknown_at": int(NOW) - 119},
                False,
                NextStep.WAIT_TO_RESEND,
            ),
            ({"on_unknown": "resend", "unknown_outcomes": 1, "unknown_at": 0}, True, NextStep.DEAD_LETTER),
            ({"on_unknown": "resend", "unknown_outcomes": 2, "unknown_at": 0}, False, NextStep.DEAD_LETTER),
            # An invalid state counts as UNKNOWN, without any outcome.
            ({"on_unknown": "resend", "unknown_at": 0}, False, NextStep.SEND_AGAIN),
            ({"on_unknown": "hold", "unknown_at": 0}, False, NextStep.DEAD_LETTER),
        ],
    )
    def test_unknown_is_sent_again_once_if_allowed(
        self, unknown: dict[str, Any], expired: bool, step: NextStep
    ) -> None:
        assert self.decide(State.UNKNOWN, expired=expired, **unknown) is step


class TestClocks:
    def test_a_clock_that_is_ahead_does_not_acknowledge_what_the_owner_may_still_correct(self) -> None:
        """The callback of another system has the message's reference, and its own POST is certainly not sent."""
        run = bench(send_failed())
        ahead = Clock(now=lambda: run.time.now() + 150, monotonic=run.time.monotonic, sleep=run.time.sleep)
        another = replace(run.sender, clock=ahead, new_owner=lambda: "another", unwritten=UnwrittenOutcomes())
        delivered_twice: list[SendBatchResult] = []

        def meanwhile(step: str, moment: Moment) -> None:
            if (step, moment) == ("gateway.post_message", "before"):
                run.hook()
                body = json.dumps({"id": "gw-of-others", "status": "received", "reference": "message-1"})
                run.receiver.receive(CallbackRequest("POST", "/callbacks/status", basic(), body.encode()))
                delivered_twice.append(another.send_batch([queue_record(receive_count=2)], deadline=NOW + 210))

        run.hook(meanwhile)
        assert run.send(queue_record()).failures == (sqs_id(),)
        assert run.state() is State.RETRY
        assert [result.failures for result in delivered_twice] == [(sqs_id(),)], "the queue has lost it"
        assert run.queues.given_back[0].seconds > 60


class TestAccepted:
    def test_message_is_posted_once_and_written_down(self) -> None:
        run = bench()
        run.time.advance(3)
        result = run.send(queue_record())
        assert result.failures == ()
        assert run.queues.given_back == []
        assert [post.fields for post in run.gateway.posts] == [
            {"destination": HANDSET, "content": CONTENT, "reference": "message-1"}
        ]
        assert run.gateway.posts[0].credentials == run.secret.current()
        assert (run.state(), run.record().gateway_id) == (State.ACCEPTED, "gw-1")
        row = run.messages.items["gw-1"]
        assert (row["message_id"], row["destination"], row["status"]) == ("message-1", HANDSET, "accepted")
        assert totals(result.measurements) == {
            "MessagesAccepted": 1,
            "MessagesDue": 1,
            "SegmentsSent": 1,
            "GatewayLatency": 250,
            "QueueDelay": 3000,
        }

    def test_lease_ends_after_the_function_surely_has(self) -> None:
        run = bench()
        leases = []

        def look(step: str, moment: Moment) -> None:
            if (step, moment) == ("gateway.post_message", "before"):
                leases.append(run.record().lease_until)

        run.hook(look)
        run.send(queue_record(), seconds=42)
        assert leases == [int(NOW) + 42 + LEASE_MARGIN_SECONDS]

    def test_all_of_a_batch_are_sent(self) -> None:
        run = bench()
        result = run.send(*(queue_record(name=str(n)) for n in range(10)))
        assert result.failures == ()
        assert dict(run.gateway.accepted) == {f"message-{n}": 1 for n in range(10)}
        assert totals(result.measurements)["MessagesAccepted"] == 10

    def test_without_an_id_is_accepted_all_the_same(self) -> None:
        run = bench(sent(None))
        assert run.send(queue_record()).failures == ()
        assert (run.state(), run.record().gateway_id) == (State.ACCEPTED, None)
        assert run.messages.items == {}

    def test_masked_message_is_marked_in_its_row(self) -> None:
        run = bench()
        run.send(queue_record(message_body(mask="Shop")))
        assert run.messages.items["gw-1"]["has_sender_id"] is True

    @pytest.mark.parametrize(("ahead", "counted_from"), [(None, 0), (-60, 0), (50 * 86_400, 50 * 86_400)])
    def test_ledger_remembers_60_days_from_now_or_from_the_schedule(self, ahead: int | None, counted_from: int) -> None:
        run = bench()
        run.send(queue_record(message_body(scheduled=None if ahead is None else at(ahead))))
        assert run.record().ttl == int(NOW) + counted_from + 60 * 86_400

    def test_a_schedule_that_was_past_when_it_was_queued_is_refused_and_one_that_passed_since_is_sent(self) -> None:
        run = bench()
        run.send(queue_record(message_body(message_id="wrong-year", scheduled=at(-365 * 86_400)), name="1"))
        run.send(queue_record(message_body(message_id="waited", scheduled=at(-600)), name="2", sent_at=NOW - 700))
        assert [post.fields["reference"] for post in run.gateway.posts] == ["waited"]
        ((_, reason, detail, _),) = [(d.body, d.reason, d.detail, d.message_id) for d in run.queues.dead_letters]
        assert (reason, detail.partition(":")[0]) == ("invalid", "scheduled")

    def test_senders_own_reference_is_registered_before_the_post(self) -> None:
        run = bench()
        seen = []
        run.hook(lambda step, moment: seen.append(f"{moment} {step}"))
        run.send(queue_record(message_body(reference="costs-42")))
        assert seen.index("after ledger.register_reference") < seen.index("before gateway.post_message")
        assert run.ledger.messages_under("costs-42") == ["message-1"]
        assert run.gateway.posts[0].fields["reference"] == "costs-42"

    @pytest.mark.parametrize("ahead", [None, 50 * 86_400])
    def test_senders_own_reference_is_kept_as_long_as_any_record_that_answers_to_it(
        self, ahead: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two messages can share it, and the second one must not shorten it for the first."""
        run = bench()
        kept: list[int] = []
        monkeypatch.setattr(run.ledger, "register_reference", lambda _reference, _key, *, ttl: kept.append(ttl))
        run.send(queue_record(message_body(reference="costs-42", scheduled=None if ahead is None else at(ahead))))
        assert kept == [int(NOW) + (60 + 60) * 86_400]

    def test_writes_of_a_message_are_three_or_four(self) -> None:
        for body, most in ((message_body(), 3), (message_body(reference="costs-42"), 4)):
            run = bench()
            seen: list[str] = []
            run.hook(lambda step, moment, seen=seen: seen.append(step) if moment == "before" else None)  # type: ignore[misc]
            run.send(queue_record(body))
            assert len([step for step in seen if step.startswith(("ledger.", "messages."))]) == most


class TestInvalid:
    def test_message_goes_to_a_person_with_the_reason(self) -> None:
        run = bench()
        result = run.send(queue_record("not json", name="7"))
        (letter,) = run.queues.dead_letters
        assert result.failures == ()
        assert (letter.body, letter.reason, letter.message_id) == ("not json", DeadLetterReason.INVALID, sqs_id("7"))
        assert "JSON" in letter.detail
        assert totals(result.measurements) == {"MessagesRejected": 1}
        assert run.ledger.records == {}

    def test_message_is_told_to_its_sender_without_what_it_says(self) -> None:
        run = bench()
        body = json.dumps({"destination": "0491 570 006", "Dear Ann: 4711": 1, "message_id": "m"})
        for count in (1, 2):
            run.send(queue_record(body, receive_count=count))
        (item,) = run.ledger.table.items.values()
        assert (item["pk"], item["message_id"], item["reason"]) == (f"refused#{sqs_id()}", "m", "invalid")
        assert item["ttl"] == int(NOW) + KEEP_REFUSED_SECONDS
        for field in ("destination", "content", "a field: unknown field"):
            assert field in str(item["detail"])
        assert not any(canary in str(item) for canary in ("Ann", "4711", "0491", "491570006"))

    @pytest.mark.parametrize("key", ["+61491570006 Ann", "x" * 51])
    def test_message_whose_key_is_none_is_told_by_its_sqs_id(self, key: str) -> None:
        run = bench()
        run.send(queue_record(message_body(message_id=None), message_id_attribute=key))
        (item,) = run.ledger.table.items.values()
        assert item["message_id"] == sqs_id()

    def test_message_keeps_the_key_of_its_attribute(self) -> None:
        run = bench()
        run.send(queue_record("{}", message_id_attribute="mine"))
        assert run.queues.dead_letters[0].message_id == "mine"

    def test_message_with_a_key_that_cannot_be_read_is_sent_under_no_other(self) -> None:
        """If it was queued twice under one binary key, it would be two SMS."""
        run = bench()
        event = sqs_record(message_body(message_id=None))
        event["messageAttributes"]["message_id"] = {"dataType": "Binary", "binaryValue": "b3JkZXItMQ=="}
        run.send(QueueRecord.from_event(event))
        (letter,) = run.queues.dead_letters
        assert (run.gateway.posts, letter.reason, letter.message_id) == ([], "invalid", UNREADABLE_KEY)
        assert letter.detail.startswith("SQS attribute message_id: ")

    def test_message_to_a_number_that_the_stack_does_not_allow_is_not_sent(self) -> None:
        run = bench(options={"allowed_destinations": ("+614", "+64")})
        satellite, premium = "+8816123456789", "+611900123456"
        run.send(*(queue_record(message_body(destination=number)) for number in (satellite, premium)))
        run.send(queue_record(message_body(message_id="good")))
        assert run.gateway.accepted == {"good": 1}
        assert [letter.detail.partition(":")[0] for letter in run.queues.dead_letters] == ["destination"] * 2

    def test_message_keeps_its_own_key(self) -> None:
        run = bench()
        run.send(queue_record(message_body(message_id="mine", sms_class=9)))
        assert run.queues.dead_letters[0].message_id == "mine"

    def test_message_holds_up_nobody_else(self) -> None:
        run = bench()
        bodies = ["", "[]", "{}", message_body(message_id="good"), message_body(destination="1"), "\ud800"]
        result = run.send(*(queue_record(body, name=str(n)) for n, body in enumerate(bodies)))
        assert result.failures == ()
        assert run.gateway.accepted == {"good": 1}
        assert reasons(run) == ["invalid"] * 5

    def test_missing_own_key_if_the_stack_requires_one(self) -> None:
        run = bench(options={"require_message_id": True})
        run.send(queue_record(message_body(message_id=None)))
        assert "message_id" in run.queues.dead_letters[0].detail
        assert run.gateway.posts == []

    def test_message_that_cannot_be_kept_comes_back(self) -> None:
        run = bench()
        run.hook(FailAt("queues.dead_letter", times=ALWAYS))
        assert run.send(queue_record("not json")).failures == (sqs_id(),)


class TestRefused:
    def test_by_the_gateway_is_rejected_and_kept_for_a_person(self) -> None:
        run = bench(rejected())
        result = run.send(queue_record())
        assert result.failures == ()
        assert run.state() is State.REJECTED
        (letter,) = run.queues.dead_letters
        assert (letter.reason, letter.message_id) == (DeadLetterReason.REJECTED, "message-1")
        assert "400" in letter.detail
        assert letter.body == queue_record().body
        assert totals(result.measurements) == {"MessagesRejected": 1}

    def test_its_dead_letter_has_the_words_of_the_gateway(self) -> None:
        run = bench(rejected()._replace(detail="The destination is barred."))
        run.send(queue_record())
        assert "The destination is barred." in run.queues.dead_letters[0].detail

    def test_redelivered_gets_its_copy_again_and_no_post(self) -> None:
        run = bench(rejected())
        run.send(queue_record())
        result = run.send(queue_record(receive_count=2))
        assert result.failures == ()
        assert reasons(run) == ["rejected", "rejected"]
        assert "400" in run.queues.dead_letters[1].detail
        assert run.gateway.posts_of("message-1") == 1
        assert totals(result.measurements) == {"DuplicatesSuppressed": 1}

    def test_after_too_many_attempts_it_needs_a_person(self) -> None:
        run = bench(*[send_failed()] * 9, options={"max_attempts": 3})
        for attempt in (1, 2):
            assert run.send(queue_record(receive_count=attempt)).failures == (sqs_id(),)
            assert run.state() is State.RETRY
        assert run.send(queue_record(receive_count=3)).failures == ()
        assert run.state() is State.REJECTED
        assert reasons(run) == ["attempts_exhausted"]
        assert "3" in run.queues.dead_letters[0].detail
        run.send(queue_record(receive_count=4))
        assert reasons(run) == ["attempts_exhausted"] * 2
        assert run.gateway.posts_of("message-1") == 3

    def test_after_a_person_reopened_it_all_tries_count_anew(self) -> None:
        run = bench(*[send_failed()] * 9, options={"max_attempts": 2})
        for attempt in (1, 2):
            run.send(queue_record(receive_count=attempt))
        assert run.ledger.reopen(run.ledger.records["message-1"], by="alex", now=run.time.now()) is None
        run.send(queue_record(receive_count=3))
        assert run.state() is State.RETRY
        run.send(queue_record(receive_count=4))
        assert run.state() is State.REJECTED
        assert run.gateway.posts_of("message-1") == 4


class TestEvidence:
    """For the gateway's support: in the ledger's history and in the dead letter."""

    def evidence(self, run: Bench) -> list[str]:
        return [step.evidence for step in run.record().steps() if step.what != "claimed"]

    @pytest.mark.parametrize("outcome", [rejected(), server_error().outcome, sent(None)])
    def test_is_kept_with_each_outcome_but_an_acceptance(self, outcome: PostResult) -> None:
        run = bench(outcome._replace(evidence="x-request-id: r-1"))
        run.send(queue_record())
        assert self.evidence(run) == ["x-request-id: r-1"]
        assert {letter.evidence for letter in run.queues.dead_letters} <= {"x-request-id: r-1"}

    def test_is_in_the_copy_of_a_dead_letter_too(self) -> None:
        run = bench(rejected()._replace(evidence="x-request-id: r-1"))
        for count in (1, 2):
            run.send(queue_record(receive_count=count))
        assert [letter.evidence for letter in run.queues.dead_letters] == ["x-request-id: r-1"] * 2

    def test_of_a_long_outage_does_not_fill_the_record(self) -> None:
        run = bench(*[throttled()._replace(evidence="x-request-id: r-1")] * 30)
        for count in range(1, 31):
            run.send(queue_record(receive_count=count))
            run.time.advance(4000)
        assert Counter(self.evidence(run)) == {"x-request-id: r-1": 20, "": 10}


class TestNotSent:
    @pytest.mark.parametrize("outcome", [send_failed(), unreachable(), throttled()], ids=lambda o: o.reason)
    def test_message_comes_back_and_is_sent_then(self, outcome: Any) -> None:
        run = bench(outcome)
        result = run.send(queue_record())
        assert result.failures == (sqs_id(),)
        assert (run.state(), reasons(run)) == (State.RETRY, [])
        assert totals(result.measurements) == {"GatewayErrors": 1}
        (back,) = run.queues.given_back
        assert back.receipt_handle == receipt_handle()
        run.time.advance(60)
        assert run.send(queue_record(receive_count=2)).failures == ()
        assert (run.state(), run.record().attempts) == (State.ACCEPTED, 2)

    def test_waits_as_long_as_the_gateway_asks(self) -> None:
        run = bench(throttled(300))
        run.send(queue_record())
        assert run.queues.given_back[0].seconds > 300

    def test_backoff_grows_with_each_receive_and_has_jitter(self) -> None:
        run = bench()
        for count in range(1, 15):
            drawn = [run.sender._backoff(queue_record(receive_count=count)) for _ in range(200)]
            ceiling = min(5 * 2 ** (count - 1), 1800)
            assert ceiling // 2 <= min(drawn)
            assert max(drawn) <= ceiling + 1
            assert len(set(drawn)) > 1
        assert run.sender._backoff(queue_record(receive_count=10_000)) <= 1801

    def test_untried_messages_wait_up_to_half_an_hour_so_that_an_outage_spends_few_receives(self) -> None:
        run = bench()
        run.sender.breaker.trip()
        run.send(queue_record(receive_count=50))
        assert 900 < run.queues.given_back[-1].seconds <= 1900

    def test_the_first_retry_comes_after_three_seconds_at_the_earliest(self) -> None:
        run = bench(send_failed())
        run.sender.random.uniform = lambda least, _most: least  # type: ignore[method-assign,assignment]
        run.send(queue_record())
        assert (run.queues.given_back[-1].seconds, run.sender._backoff(queue_record())) == (3, 3)

    def test_backoff_is_never_less_than_asked_for(self) -> None:
        run = bench()
        assert all(run.sender._backoff(queue_record(), at_least=77.7) > 77.7 for _ in range(100))

    def test_a_message_that_cannot_be_given_back_early_is_still_not_done(self) -> None:
        run = bench(send_failed())
        run.hook(FailAt("queues.give_back", times=ALWAYS))
        assert run.send(queue_record()).failures == (sqs_id(),)
        assert run.state() is State.RETRY


class TestUnknown:
    @pytest.mark.parametrize("lost", [unknown(accepted=True), unknown(), server_error()])
    def test_held_message_is_kept_for_a_person_and_never_posted_again(self, lost: Any) -> None:
        run = bench(lost)
        result = run.send(queue_record())
        assert result.failures == ()
        assert (run.state(), reasons(run)) == (State.UNKNOWN, ["unknown_outcome"])
        assert totals(result.measurements) == {"OutcomesUnknown": 1, "GatewayErrors": 1}
        for count in (2, 3):
            run.time.advance(10_000)
            assert run.send(queue_record(receive_count=count)).failures == ()
        assert reasons(run) == ["unknown_outcome"] * 3
        assert run.gateway.posts_of("message-1") == 1

    def test_resend_waits_for_proof_first(self) -> None:
        run = bench(unknown(), options={"on_unknown": "resend"})
        assert run.send(queue_record()).failures == (sqs_id(),)
        assert run.queues.given_back[-1].seconds > 120
        run.time.advance(60.5)
        assert run.send(queue_record(receive_count=2)).failures == (sqs_id(),)
        assert run.queues.given_back[-1].seconds == 60
        assert run.gateway.posts_of("message-1") == 1
        run.time.advance(60)
        assert run.send(queue_record(receive_count=3)).failures == ()
        assert (run.state(), run.gateway.posts_of("message-1")) == (State.ACCEPTED, 2)

    def test_resend_happens_once(self) -> None:
        run = bench(unknown(accepted=True), unknown(accepted=True), options={"on_unknown": "resend"})
        for count in range(1, 6):
            run.send(queue_record(receive_count=count))
            run.time.advance(200)
        assert run.gateway.accepted == {"message-1": 2}
        assert (run.state(), reasons(run)[0]) == (State.UNKNOWN, "unknown_outcome")

    def test_second_unknown_outcome_is_for_a_person_at_once(self) -> None:
        run = bench(unknown(), unknown(), options={"on_unknown": "resend"})
        run.send(queue_record())
        run.time.advance(200)
        assert run.send(queue_record(receive_count=2)).failures == ()
        assert reasons(run) == ["unknown_outcome"]

    def test_copy_that_goes_round_keeps_the_record_longer(self) -> None:
        run = bench(unknown())
        run.send(queue_record())
        first = run.record().ttl
        run.time.advance(20 * 86_400)
        run.send(queue_record(message_body(), name="redriven"))
        assert run.record().ttl == first + 20 * 86_400

    def test_resend_stops_at_the_expiry(self) -> None:
        run = bench(unknown(), options={"on_unknown": "resend"})
        body = message_body(expires_at=at(100))
        run.send(queue_record(body))
        run.time.advance(130)
        assert run.send(queue_record(body, receive_count=2)).failures == ()
        assert (run.state(), reasons(run)) == (State.UNKNOWN, ["unknown_outcome"])
        assert run.gateway.posts_of("message-1") == 1

    def test_message_decides_for_itself(self) -> None:
        run = bench(unknown(), unknown())
        run.send(queue_record(message_body(on_unknown="resend")))
        assert reasons(run) == []
        run = bench(unknown(), options={"on_unknown": "resend"})
        run.send(queue_record(message_body(on_unknown="hold")))
        assert reasons(run) == ["unknown_outcome"]

    def test_what_was_said_at_the_first_claim_counts(self) -> None:
        run = bench(unknown())
        run.send(queue_record(message_body(on_unknown="hold")))
        run.time.advance(200)
        run.send(queue_record(message_body(on_unknown="resend"), receive_count=2))
        assert run.gateway.posts_of("message-1") == 1

    def test_proof_that_came_while_we_waited_wins(self) -> None:
        run = bench(unknown(accepted=True))

        def callback(step: str, moment: Moment) -> None:
            if (step, moment) == ("gateway.post_message", "after"):
                run.ledger.resolve_by_callback("message-1", "gw-9", now=run.time.now())

        run.hook(callback)
        result = run.send(queue_record())
        assert result.failures == ()
        assert (run.state(), reasons(run)) == (State.ACCEPTED, [])
        assert run.messages.items["gw-9"]["message_id"] == "message-1"


class TestDuplicates:
    def test_of_a_sent_message_repair_its_row_and_post_nothing(self) -> None:
        run = bench()
        run.send(queue_record())
        run.messages.items.clear()
        run.hook(calls := Calls())
        result = run.send(queue_record(receive_count=2))
        assert result.failures == ()
        assert calls.of("ledger") == ["ledger.claim"]
        assert run.gateway.posts_of("message-1") == 1
        assert run.messages.items["gw-1"]["message_id"] == "message-1"
        assert totals(result.measurements) == {"DuplicatesSuppressed": 1}

    def test_under_another_sqs_id_are_duplicates_too(self) -> None:
        run = bench()
        run.send(queue_record(message_body(), name="first"))
        run.send(queue_record(message_body(), name="second"))
        assert run.gateway.posts_of("message-1") == 1

    def test_in_one_batch_are_posted_once(self) -> None:
        run = bench()
        result = run.send(*(queue_record(message_body(), name=str(n)) for n in range(10)))
        assert run.gateway.posts_of("message-1") == 1
        assert all(back.seconds >= 1 for back in run.queues.given_back)
        assert len(result.failures) == len(run.queues.given_back)

    def test_a_refused_message_can_be_mended_under_its_key(self) -> None:
        run = bench(rejected(), rejected(), sent())
        first, second, third = (message_body(content=text) for text in ("first", "second", "third"))
        run.send(queue_record(first, name="1"))
        run.send(queue_record(second, name="2"))
        assert (run.state(), reasons(run)) == (State.REJECTED, ["rejected", "rejected"])
        # The first message's redriven dead letter neither replaces the second message nor is sent.
        run.send(queue_record(first, name="3"))
        assert (run.state(), reasons(run)[2:]) == (State.REJECTED, ["conflict"])
        run.send(queue_record(third, name="4"))
        assert (run.state(), run.gateway.accepted) == (State.ACCEPTED, {"message-1": 1})
        for number, body in enumerate((first, second, third), start=5):
            run.send(queue_record(body, name=str(number)))
        assert [post.fields["content"] for post in run.gateway.posts] == ["first", "second", "third"]
        assert reasons(run)[3:] == ["conflict", "conflict"]

    def test_a_mended_message_has_all_its_attempts_and_its_own_choice_for_an_unknown_outcome(self) -> None:
        run = bench(rejected(), send_failed(), unknown(), options={"max_attempts": 2})
        run.send(queue_record(message_body(on_unknown="resend")))
        mended = message_body(content="mended", on_unknown="hold")
        run.send(queue_record(mended, name="2"))
        assert run.state() is State.RETRY
        run.send(queue_record(mended, name="2", receive_count=2))
        assert (run.state(), reasons(run)) == (State.UNKNOWN, ["rejected", "unknown_outcome"])

    def test_a_mended_message_that_comes_too_late_is_expired(self) -> None:
        run = bench(rejected())
        run.send(queue_record())
        run.send(queue_record(message_body(content="mended", expires_at=at(-1)), name="2"))
        assert (run.state(), len(run.gateway.posts)) == (State.EXPIRED, 1)

    def test_after_an_unknown_outcome_another_message_is_a_conflict_even_if_a_resend_was_refused(self) -> None:
        run = bench(unknown(), rejected())
        run.send(queue_record(message_body(on_unknown="resend")))
        run.time.advance(200)
        run.send(queue_record(message_body(on_unknown="resend"), receive_count=2))
        assert run.state() is State.REJECTED
        run.send(queue_record(message_body(content="mended"), name="2"))
        assert (reasons(run)[-1], len(run.gateway.posts)) == ("conflict", 2)

    def test_with_other_fields_are_a_conflict(self) -> None:
        run = bench()
        run.send(queue_record())
        result = run.send(queue_record(message_body(content="Something else"), name="2"))
        assert result.failures == ()
        assert reasons(run) == ["conflict"]
        assert "message_id" in run.queues.dead_letters[0].detail
        assert totals(result.measurements) == {"MessagesRejected": 1}
        assert run.gateway.posts_of("message-1") == 1

    def test_of_a_message_being_sent_come_back_when_its_lease_ends(self) -> None:
        run = bench()
        run.hook(FailAt("gateway.post_message", times=ALWAYS))
        run.send(queue_record())  # stands for a crashed execution environment
        run.hook()
        assert run.state() is State.SENDING
        assert run.send(queue_record(receive_count=2)).failures == (sqs_id(),)
        assert run.queues.given_back[-1].seconds == 60 + LEASE_MARGIN_SECONDS + 1
        assert run.gateway.posts == []

    def test_of_a_message_whose_sender_died_are_unknown_and_held(self) -> None:
        run = bench()
        run.hook(FailAt("gateway.post_message", times=ALWAYS))
        run.send(queue_record())
        run.hook()
        run.time.advance(91)
        result = run.send(queue_record(receive_count=2))
        assert result.failures == ()
        assert (run.state(), run.record().reason) == (State.UNKNOWN, "owner_lost")
        assert reasons(run) == ["unknown_outcome"]
        assert totals(result.measurements) == {"OutcomesUnknown": 1}
        assert run.gateway.posts == []

    def test_of_a_message_whose_sender_wrote_at_the_last_moment_find_that(self) -> None:
        run = bench()
        run.hook(FailAt("gateway.post_message", times=ALWAYS))
        run.send(queue_record())
        run.time.advance(91)

        def late(step: str, moment: Moment) -> None:
            if (step, moment) == ("ledger.unknown", "before"):
                run.ledger.resolve_by_callback("message-1", "gw-9", now=run.time.now())

        run.hook(late)
        assert run.send(queue_record(receive_count=2)).failures == (sqs_id(),)
        run.hook()
        run.time.advance(run.queues.given_back[-1].seconds)
        assert run.send(queue_record(receive_count=3)).failures == ()
        assert (run.state(), reasons(run)) == (State.ACCEPTED, [])

    def test_of_an_expired_message_are_acknowledged(self) -> None:
        run = bench()
        body = message_body(expires_at=at(-1))
        run.send(queue_record(body))
        assert run.send(queue_record(body, receive_count=2)).failures == ()
        assert run.gateway.posts == []

    def test_of_a_message_that_expired_earlier_under_its_key_are_kept_for_a_person(self) -> None:
        run = bench()
        run.send(queue_record(message_body(expires_at=at(-1))))
        result = run.send(
            queue_record(message_body(), name="1"), queue_record(message_body(expires_at=at(60)), name="2")
        )
        assert (result.failures, run.gateway.posts, reasons(run)) == ((), [], ["conflict", "conflict"])
        assert all("expires_at" in letter.detail for letter in run.queues.dead_letters)
        assert len(run.ledger.table.items) == 3  # the record, and two refused ones for their events

    def test_of_a_retry_that_changed_meanwhile_come_back_soon(self) -> None:
        run = bench(send_failed())
        run.send(queue_record())
        record = run.record()
        run.ledger.claim = lambda *_, **__: record  # type: ignore[method-assign] # what a lost race looks like
        assert run.send(queue_record(receive_count=2)).failures == (sqs_id(),)
        assert run.queues.given_back[-1].seconds == 1

    def test_accepted_twice_keeps_both_ids(self) -> None:
        """Only after a takeover under `resend`, if the first owner was only slow."""
        run = bench()

        def other(step: str, moment: Moment) -> None:
            if (step, moment) == ("ledger.accepted", "before"):
                run.hook()
                run.ledger.resolve_by_callback("message-1", "gw-other", now=run.time.now())

        run.hook(other)
        assert run.send(queue_record()).failures == ()
        assert run.record().gateway_id == "gw-other"
        assert run.record().other_gateway_ids == {"gw-1"}
        assert run.messages.items["gw-1"]["message_id"] == "message-1"


class TestRecall:
    @pytest.mark.parametrize("fields", [{}, {"expires_at": at(0)}])
    def test_a_later_delivery_is_acknowledged_and_sends_nothing(self, fields: dict[str, Any]) -> None:
        run = bench()
        record = queue_record(message_body(**fields))
        assert (
            run.ledger.recall(wanted(payload_sha256=record.read(now=NOW)[0].payload_sha256), by="alex", now=NOW) is None
        )
        result = run.send(record)
        assert (result.failures, run.gateway.posts, run.queues.dead_letters) == ((), [], [])
        assert (run.state(), totals(result.measurements)) == (State.RECALLED, {})

    def test_without_its_fields_it_holds_for_any_message_of_that_key(self) -> None:
        run = bench()
        run.ledger.recall(LedgerRecord("message-1", ttl=int(NOW) + 60), by="alex", now=NOW)
        for content in ("one", "another"):
            assert run.send(queue_record(message_body(content=content))).failures == ()
        assert (run.state(), run.gateway.posts, run.queues.dead_letters) == (State.RECALLED, [], [])

    def test_another_message_of_that_key_is_a_conflict(self) -> None:
        run = bench()
        run.ledger.recall(wanted(), by="alex", now=NOW)
        run.send(queue_record(message_body()))
        assert (run.state(), [each.reason for each in run.queues.dead_letters]) == (State.RECALLED, ["conflict"])


class TestExpiry:
    def test_past_is_never_sent(self) -> None:
        run = bench()
        result = run.send(queue_record(message_body(expires_at=at(0))))
        assert result.failures == ()
        assert (run.state(), run.gateway.posts) == (State.EXPIRED, [])
        assert totals(result.measurements) == {"MessagesExpired": 1}

    def test_that_comes_while_it_is_tried_again(self) -> None:
        run = bench(send_failed())
        body = message_body(expires_at=at(30))
        assert run.send(queue_record(body)).failures == (sqs_id(),)
        run.time.advance(31)
        assert run.send(queue_record(body, receive_count=2)).failures == ()
        assert (run.state(), run.gateway.posts_of("message-1")) == (State.EXPIRED, 1)

    def test_limits_when_the_first_byte_may_leave(self) -> None:
        run = bench()
        run.send(queue_record(message_body(expires_at=at(7))))
        assert run.gateway.posts[0].start_within == pytest.approx(7)

    def test_that_comes_while_it_waits_for_its_slot(self) -> None:
        run = bench(interval=10.0)
        bodies = [message_body(message_id="one"), message_body(message_id="two", expires_at=at(5))]
        run.send(queue_record(bodies[0], name="one"))
        run.time._elapsed = 0.0
        run.sender.pacers[Lane.ORDINARY]._next_slot = run.time.monotonic() + 10
        assert run.send(queue_record(bodies[1], name="two")).failures == (sqs_id("two"),)
        assert (run.state("two"), run.gateway.posts_of("two")) == (State.RETRY, 0)
        assert run.send(queue_record(bodies[1], name="two", receive_count=2)).failures == ()
        assert run.state("two") is State.EXPIRED

    def test_of_a_message_of_unknown_outcome_changes_nothing(self) -> None:
        run = bench(unknown())
        body = message_body(expires_at=at(30))
        run.send(queue_record(body))
        run.time.advance(31)
        run.send(queue_record(body, receive_count=2))
        assert (run.state(), reasons(run)) == (State.UNKNOWN, ["unknown_outcome"] * 2)


class TestLanes:
    def test_an_urgent_message_does_not_wait_for_a_slot_of_the_others(self) -> None:
        run = bench(interval=10.0)
        run.sender.pacers[Lane.ORDINARY]._next_slot = run.time.monotonic() + 40
        assert run.send(queue_record(lane=Lane.URGENT)).failures == ()
        assert run.gateway.posts_of("message-1") == 1
        assert run.time.sleeps == [pytest.approx(40.0)]  # at the end the invocation is held for the other lane's slot

    def test_each_lane_spaces_its_own_messages(self) -> None:
        run = bench(interval=10.0)
        begun = []
        for name, lane in (("1", Lane.URGENT), ("2", Lane.ORDINARY), ("3", Lane.URGENT)):
            assert run.sender.pacers[lane].wait_for_slot(at_most=60)
            begun.append((name, run.time.monotonic() - run.time.started))
        assert begun == [("1", 0), ("2", 0), ("3", 10)]

    @pytest.mark.parametrize("lane", Lane)
    def test_a_message_returns_to_its_queue_and_its_dead_letter_has_its_lane(self, lane: Lane) -> None:
        run = bench(send_failed(), rejected())
        run.send(queue_record(lane=lane))
        assert [given.lane for given in run.queues.given_back] == [lane]
        run.send(queue_record(lane=lane, receive_count=2))
        assert [letter.lane for letter in run.queues.dead_letters] == [lane]

    @pytest.mark.parametrize(("first", "second"), [(Lane.ORDINARY, Lane.URGENT), (Lane.URGENT, Lane.ORDINARY)])
    def test_one_key_on_both_queues_is_one_message(self, first: Lane, second: Lane) -> None:
        run = bench(sent())
        assert run.send(queue_record(lane=first)).failures == ()
        again = queue_record(message_body(message_id="message-1"), name="2", lane=second)
        assert run.send(again).failures == ()
        assert run.gateway.posts_of("message-1") == 1


class TestTimeRunsShort:
    @pytest.mark.parametrize("seconds", [0, 5, 16.9])
    def test_message_is_given_back_unclaimed(self, seconds: float) -> None:
        run = bench()
        assert run.send(queue_record(), seconds=seconds).failures == (sqs_id(),)
        assert run.ledger.records == {}
        assert run.gateway.posts == []
        assert run.queues.given_back[0].seconds == 1

    def test_enough_is_a_claim_a_post_and_its_writes(self) -> None:
        run = bench()
        assert run.send(queue_record(), seconds=17).failures == ()
        assert run.gateway.posts[0].start_within == pytest.approx(2)

    def test_slow_claim_leaves_no_time_for_the_post(self) -> None:
        run = bench()
        run.hook(lambda step, moment: run.time.advance(30) if (step, moment) == ("ledger.claim", "after") else None)
        assert run.send(queue_record(), seconds=40).failures == (sqs_id(),)
        assert (run.state(), run.gateway.posts) == (State.RETRY, [])
        assert run.queues.given_back[0].seconds == 1

    def test_it_does_not_count_as_an_attempt_that_exhausts(self) -> None:
        run = bench(options={"max_attempts": 1})
        run.hook(lambda step, moment: run.time.advance(30) if (step, moment) == ("ledger.claim", "after") else None)
        run.send(queue_record(), seconds=40)
        assert (run.state(), reasons(run)) == (State.RETRY, [])

    def test_slots_that_do_not_fit_are_given_back(self) -> None:
        run = bench(interval=20.0)
        result = run.send(*(queue_record(name=str(n)) for n in range(5)))
        assert 1 <= len(run.gateway.posts) < 5
        assert len(result.failures) == 5 - len(run.gateway.posts)
        assert run.time.now() <= NOW + 60  # none waited for a slot after the end of the invocation

    def test_invocation_lasts_until_its_last_slot_is_over(self) -> None:
        run = bench(interval=3.0)
        run.send(queue_record())
        assert run.time.sleeps == [3.0]


class TestStopsEverybody:
    def test_unreachable_gateway_gives_the_next_batch_back_unclaimed(self) -> None:
        run = bench(unreachable())
        run.send(queue_record(name="0"))
        result = run.send(*(queue_record(name=str(n)) for n in range(1, 4)))
        assert result.failures == tuple(sqs_id(str(n)) for n in range(1, 4))
        assert len(run.gateway.posts) == 1
        assert set(run.ledger.records) == {"message-0"}
        assert all(back.seconds >= 2 for back in run.queues.given_back)

    def test_the_last_second_of_an_open_breaker_stops_them_too(self) -> None:
        run = bench()
        run.breaker.trip()
        run.time.advance(1.5)
        run.send(queue_record())
        assert (run.gateway.posts, run.ledger.records) == ([], {})

    def test_a_breaker_that_opened_after_the_claim_stops_the_post_in_its_last_second_too(self) -> None:
        run = bench()

        def opened(step: str, moment: Moment) -> None:
            if (step, moment) == ("ledger.claim", "after"):
                run.breaker.trip()
                run.time.advance(1.5)

        run.hook(opened)
        run.send(queue_record())
        assert (run.gateway.posts, run.state()) == ([], State.RETRY)

    def test_one_goes_alone_before_the_rest_may_follow(self) -> None:
        run = bench(unreachable(), unreachable())
        run.send(queue_record(name="0"))
        run.time.advance(3)
        run.send(*(queue_record(name=str(n)) for n in range(1, 4)))
        assert [post.fields["reference"] for post in run.gateway.posts] == ["message-0", "message-1"]
        run.time.advance(5)
        assert run.send(*(queue_record(name=str(n)) for n in range(1, 4))).failures == ()
        assert len(run.gateway.posts) == 5

    def test_after_an_unknown_outcome_the_next_message_goes_as_the_only_probe(self) -> None:
        """Otherwise an outage would give a whole queue unknown outcomes."""
        run = bench(*[unknown()] * 50)
        run.send(queue_record(name="0"))
        batch = [queue_record(name=str(n)) for n in range(1, 11)]
        assert len(run.send(*batch).failures) == 10
        run.time.advance(3)
        assert len(run.send(*batch).failures) == 9
        assert reasons(run) == ["unknown_outcome"] * 2
        assert len(run.ledger.records) == 2

    def test_an_unknown_outcome_holds_what_waits_for_its_slot(self) -> None:
        run = bench(*[unknown()] * 50, interval=3.0)
        result = run.send(*(queue_record(name=str(n)) for n in range(10)))
        assert (len(run.gateway.posts), reasons(run)) == (1, ["unknown_outcome"])
        assert len(result.failures) == 9
        held = [record for record in run.ledger.records.values() if record.state is State.RETRY]
        assert all(record.attempts == record.uncounted_attempts for record in held)

    def test_too_late_alone_does_not_keep_the_rest_waiting_for_a_probe(self) -> None:
        run = bench(unreachable())
        run.send(queue_record(name="0"))
        run.time.advance(3)
        run.send(*(queue_record(message_body(message_id=f"m{n}", expires_at=at(0)), name=str(n)) for n in range(3)))
        assert all(run.state(f"m{n}") is State.EXPIRED for n in range(3))


class TestCredentials:
    def test_refused_ones_are_read_again_and_the_message_is_sent(self) -> None:
        run = bench(credentials_refused(), secret=FixedSecret(OLD, NEW))
        result = run.send(queue_record())
        assert result.failures == ()
        assert [post.credentials for post in run.gateway.posts] == [OLD, NEW]
        assert (run.state(), run.record().attempts) == (State.ACCEPTED, 1)
        assert not run.breaker.wants_probe()

    def test_refused_ones_without_a_newer_version_stop_the_sending(self) -> None:
        run = bench(*[credentials_refused()] * 3)
        result = run.send(queue_record(name="0"))
        assert result.failures == (sqs_id("0"),)
        assert run.state("message-0") is State.RETRY
        assert totals(result.measurements) == {"GatewayErrors": 1, "CredentialsRefused": 1}
        assert run.send(queue_record(name="1")).failures == (sqs_id("1"),)
        assert len(run.gateway.posts) == 1

    def test_newer_ones_that_are_refused_too_are_tried_once(self) -> None:
        run = bench(*[credentials_refused()] * 5, secret=FixedSecret(OLD, NEW))
        assert run.send(queue_record()).failures == (sqs_id(),)
        assert [post.credentials for post in run.gateway.posts] == [OLD, NEW]
        assert run.state() is State.RETRY

    def test_that_cannot_be_read_again_lose_no_message(self) -> None:
        run = bench(credentials_refused(), secret=FixedSecret(OLD, NEW))
        run.hook(FailAt("secret.newer_than", times=ALWAYS))
        assert run.send(queue_record()).failures == (sqs_id(),)
        assert (run.state(), len(run.gateway.posts)) == (State.RETRY, 1)

    def test_that_are_unusable_are_nobodys_attempt(self) -> None:
        run = bench()

        def unusable(step: str, moment: Moment) -> None:
            if step == "secret.current":
                raise CredentialsError("GatewaySecret still holds the placeholder")

        run.hook(unusable)
        result = run.send(queue_record(name="0"))
        assert result.failures == (sqs_id("0"),)
        assert (run.ledger.records, run.gateway.posts) == ({}, [])
        assert totals(result.measurements) == {"CredentialsRefused": 1}
        assert run.breaker.blocked_seconds() > 0

    def test_each_batch_may_find_them_corrected(self) -> None:
        run = bench()
        run.send(queue_record(name="0"))
        run.send(queue_record(name="1"))
        assert run.secret.batches == 2

    def test_second_post_is_not_begun_without_time(self) -> None:
        run = bench(credentials_refused(), secret=FixedSecret(OLD, NEW))
        run.hook(
            lambda step, moment: run.time.advance(50) if (step, moment) == ("secret.newer_than", "after") else None
        )
        assert run.send(queue_record()).failures == (sqs_id(),)
        assert (run.state(), len(run.gateway.posts)) == (State.RETRY, 1)


class TestWritesThatFail:
    def test_reference_that_cannot_be_registered_is_certainly_not_sent(self) -> None:
        run = bench()
        run.hook(FailAt("ledger.register_reference"))
        assert run.send(queue_record(message_body(reference="costs-42"))).failures == (sqs_id(),)
        assert (run.state(), run.gateway.posts) == (State.RETRY, [])

    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize(
        ("step", "script", "state"),
        [
            ("ledger.accepted", [], State.ACCEPTED),
            ("messages.record_sent", [], State.ACCEPTED),
            ("ledger.rejected", [rejected()], State.REJECTED),
            ("ledger.unknown", [unknown()], State.UNKNOWN),
            ("ledger.not_sent", [send_failed()], State.RETRY),
        ],
    )
    def test_outcome_is_written_again_until_it_is(
        self, step: str, script: list[Any], state: State, moment: Moment
    ) -> None:
        run = bench(*script)
        run.hook(FailAt(step, moment, times=5))
        run.send(queue_record())
        assert run.state() is state
        assert run.time.sleeps == [0.1, 0.2, 0.4, 0.8, 1.0]
        assert run.gateway.posts_of("message-1") == 1

    def test_dead_letter_is_written_again_until_it_is(self) -> None:
        run = bench(rejected())
        run.hook(FailAt("queues.dead_letter", times=3))
        assert run.send(queue_record()).failures == ()
        assert reasons(run) == ["rejected"]

    @pytest.mark.parametrize(
        ("answer", "write", "state", "posts"),
        [
            (sent(), "accepted", State.ACCEPTED, 1),
            (unknown(), "unknown", State.UNKNOWN, 1),
            (send_failed(), "not_sent", State.ACCEPTED, 2),
            (rejected(), "rejected", State.REJECTED, 1),
        ],
    )
    def test_outcome_that_cannot_be_written_is_written_with_the_next_batch(
        self, answer: Any, write: str, state: State, posts: int
    ) -> None:
        run = bench(answer)
        run.hook(FailAt(f"ledger.{write}", times=ALWAYS))
        assert run.send(queue_record()).failures == (sqs_id(),)
        assert run.state() is State.SENDING
        run.hook()
        run.time.advance(3)
        run.send(queue_record(receive_count=2))
        assert (run.state(), run.gateway.posts_of("message-1")) == (state, posts)
        assert run.record().reason != "owner_lost"

    def test_outcome_that_is_written_late_is_not_that_of_another_message_under_the_key(self) -> None:
        run = bench()
        run.hook(FailAt("ledger.accepted", times=ALWAYS))
        run.send(queue_record())
        run.hook()
        run.time.advance(3)
        other = message_body(message_id="message-1", destination="+61491570157")
        assert run.send(queue_record(other, name="2")).failures == ()
        assert (reasons(run), run.gateway.posts_of("message-1")) == (["conflict"], 1)
        assert run.send(queue_record(receive_count=2)).failures == ()
        assert run.messages.items["gw-1"]["destination"] == HANDSET

    @pytest.mark.parametrize("claim_is_lost", [True, False])
    def test_outcome_that_is_written_late_wins_over_another_systems_callback(self, claim_is_lost: bool) -> None:
        run = bench(*([] if claim_is_lost else [unreachable()]))
        lost = {("ledger.claim", "after"), ("ledger.release", "before"), ("ledger.not_sent", "before")}

        def fail(step: str, moment: Moment) -> None:
            if (step, moment) in lost - (set() if claim_is_lost else {("ledger.claim", "after")}):
                raise FaultError

        run.hook(fail)
        run.send(queue_record())
        run.hook()
        assert run.ledger.resolve_by_callback("message-1", "gw-foreign", now=run.time.now()) is not None
        run.time.advance(3)
        run.send(queue_record(receive_count=2))
        assert (run.state(), run.record().gateway_id) == (State.ACCEPTED, f"gw-{len(run.gateway.posts)}")
        assert run.gateway.accepted == {"message-1": 1}

    def test_outcome_is_not_written_late_without_time_for_it(self) -> None:
        run = bench()
        run.hook(FailAt("ledger.accepted", times=ALWAYS))
        run.send(queue_record())
        run.hook()
        for seconds, state in ((5, State.SENDING), (6, State.ACCEPTED)):
            run.send(seconds=seconds)
            assert run.state() is state

    def test_claim_that_is_stored_after_other_batches_is_given_back_too(self) -> None:
        run = bench()
        claim_stored_late(run, batches=2)
        run.send(queue_record(name="3"))
        assert run.state() is State.RETRY

    def test_claim_that_is_stored_late_is_given_back_with_the_next_batch_of_any_message(self) -> None:
        run = bench()
        claim_stored_late(run)
        run.time.advance(3)
        run.send(queue_record(name="2"))
        assert run.state() is State.RETRY

    def test_copy_of_a_claim_that_comes_after_its_outcome_claims_nothing(self) -> None:
        run = bench(send_failed())
        run.send(queue_record())
        again = run.record()._replace(state=State.SENDING, payload_sha256=run_payload())
        assert run.ledger.claim(again, now=run.time.now()).state is State.RETRY

    def test_acceptance_that_cannot_be_written_leads_to_unknown_in_another_execution_environment(self) -> None:
        run = bench()
        run.hook(FailAt("ledger.accepted", times=ALWAYS))
        assert run.send(queue_record()).failures == (sqs_id(),)
        assert run.time.now() <= NOW + 58  # the last write has two of the invocation's 60 seconds
        run.hook()
        run.sender.unwritten._outcomes.clear()
        run.time.advance(100)
        assert run.send(queue_record(receive_count=2)).failures == ()
        assert (run.state(), reasons(run)) == (State.UNKNOWN, ["unknown_outcome"])
        assert run.gateway.accepted == {"message-1": 1}

    def test_row_that_cannot_be_written_is_repaired_by_the_redelivery(self) -> None:
        run = bench()
        run.hook(FailAt("messages.record_sent", times=ALWAYS))
        assert run.send(queue_record()).failures == (sqs_id(),)
        run.hook()
        assert run.send(queue_record(receive_count=2)).failures == ()
        assert run.messages.items["gw-1"]["message_id"] == "message-1"
        assert run.gateway.accepted == {"message-1": 1}

    def test_dead_letter_that_cannot_be_written_is_repaired_by_the_redelivery(self) -> None:
        run = bench(unknown())
        run.hook(FailAt("queues.dead_letter", times=ALWAYS))
        assert run.send(queue_record()).failures == (sqs_id(),)
        run.hook()
        run.time.advance(3)
        assert run.send(queue_record(receive_count=2)).failures == ()
        assert reasons(run) == ["unknown_outcome"]

    def test_claim_that_fails_harms_no_other_record(self) -> None:
        run = bench()
        run.hook(FailAt("ledger.claim", skip=3))
        result = run.send(*(queue_record(name=str(n)) for n in range(10)))
        assert len(result.failures) == 1
        assert len(run.gateway.posts) == 9

    STEPS = (
        "ledger.claim", "ledger.register_reference", "ledger.expired", "ledger.accepted", "ledger.not_sent",
        "ledger.rejected", "ledger.unknown", "ledger.lapsed", "ledger.extend", "messages.record_sent",
        "queues.give_back",
        "queues.dead_letter", "gateway.post_message", "secret.current", "secret.newer_than",
    )  # fmt: skip
    SCRIPTS: Mapping[str, list[Any]] = {
        "accepted": [],
        "send_failed": [send_failed()],
        "rejected": [rejected()],
        "lost, sent": [unknown(accepted=True)],
        "lost, not sent": [unknown()],
        "401": [credentials_refused()],
    }

    @pytest.mark.parametrize("answer", SCRIPTS)
    def test_any_fault_keeps_the_promise(self, answer: str, subtests: pytest.Subtests) -> None:
        for step, moment, times in product(self.STEPS, MOMENTS, (1, ALWAYS)):
            with subtests.test(step=step, moment=moment, times=times):
                self.check_promise(FailAt(step, moment, times=times), self.SCRIPTS[answer])

    @staticmethod
    def check_promise(fault: FailAt, script: list[Any]) -> None:
        """Check: at most one SMS, a response for the whole batch, and at the end sent, resolved or a dead letter."""
        run = bench(*script)
        run.hook(fault)
        waiting = {sqs_id("1"): "1", sqs_id("2"): "2"}
        for count in range(1, 12):
            if count == 3:
                run.hook()  # the fault is over
            records = [queue_record(message_body(message_id=f"m{n}", reference=f"r{n}"), name=n, receive_count=count)
                       for n in waiting.values()]  # fmt: skip
            result = run.send(*records)
            assert set(result.failures) <= set(waiting)
            waiting = {failure: waiting[failure] for failure in result.failures}
            run.time.advance(120)
        assert waiting == {}
        assert all(count <= 1 for count in run.gateway.accepted.values())
        kept = {letter.message_id for letter in run.queues.dead_letters}
        for key in ("m1", "m2"):
            assert run.state(key) in (State.ACCEPTED, State.REJECTED, State.UNKNOWN)
            assert run.state(key) is State.ACCEPTED or key in kept


class TestBatch:
    def test_answer_names_what_is_not_done_in_order(self) -> None:
        references = {f"message-{n}": [send_failed()] for n in (2, 5, 7)}
        run = Bench(gateway=ScriptedGateway(by_reference=references))
        result = run.send(*(queue_record(name=str(n)) for n in range(10)))
        assert result.failures == (sqs_id("2"), sqs_id("5"), sqs_id("7"))

    def test_empty_batch(self) -> None:
        result = bench().send()
        assert (result.failures, result.measurements) == ((), ())

    def test_one_record_runs_without_a_pool(self) -> None:
        run = bench()
        threads = set()
        run.hook(lambda *_: threads.add(threading.current_thread()))
        run.send(queue_record())
        assert threads == {threading.current_thread()}

    def test_nobody_runs_on_after_the_answer(self) -> None:
        run = bench()
        workers = set[threading.Thread]()
        run.hook(lambda *_: workers.add(threading.current_thread()))
        run.send(*(queue_record(name=str(n)) for n in range(20)))
        assert len(workers) > 1
        assert {worker for worker in workers if worker.is_alive()} <= {threading.current_thread()}

    def test_records_run_side_by_side(self) -> None:
        everybody = threading.Barrier(10)
        run = bench()

        def meet(step: str, moment: Moment) -> None:
            if (step, moment) == ("gateway.post_message", "before"):
                everybody.wait(timeout=30)

        run.hook(meet)
        result = run.send(*(queue_record(name=str(n)) for n in range(10)))
        assert result.failures == ()


class TestQueueRecord:
    def test_of_a_real_event(self) -> None:
        event = sqs_record("body", receive_count=3, sent_at=NOW, message_id_attribute="mine")
        assert QueueRecord.from_event(event) == QueueRecord(
            sqs_id(), receipt_handle(), "body", {"message_id": "mine"}, 3, NOW, "AIDAIENQZJOLO23YVJ4VO"
        )

    @pytest.mark.parametrize(
        "event",
        [
            {},
            {"messageId": None, "attributes": None, "messageAttributes": None},
            {"attributes": {"ApproximateReceiveCount": "many", "SentTimestamp": ""}, "messageAttributes": {}},
        ],
    )
    def test_of_an_odd_event_is_as_good_as_absent(self, event: dict[str, Any]) -> None:
        record = QueueRecord.from_event(event)
        assert (record.receive_count, record.sent_at, record.attributes) == (1, None, {})

    @pytest.mark.parametrize(
        "attribute", [{"dataType": "Binary", "binaryValue": "AA=="}, None, {}, {"stringValue": 1}, []]
    )
    def test_an_attribute_that_is_no_text_is_not_absent(self, attribute: Any) -> None:
        event = {"messageAttributes": {"message_id": attribute, "other": {"stringValue": "x"}}}
        assert QueueRecord.from_event(event).attributes == {"message_id": None, "other": "x"}

    def test_a_redriven_dead_letter_was_queued_when_it_was_queued_first(self) -> None:
        event = sqs_record("body", sent_at=NOW)
        event["messageAttributes"]["queued_at"] = {"stringValue": at(-86_400), "dataType": "String"}
        assert QueueRecord.from_event(event).queued_at == NOW - 86_400
        event["messageAttributes"]["queued_at"] = {"stringValue": at(86_400), "dataType": "String"}
        assert QueueRecord.from_event(event).queued_at == NOW

    @pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
    def test_a_time_that_can_not_be_written_stops_no_dead_letter(self, time: str) -> None:
        event = sqs_record("no message", sent_at=NOW)
        event["messageAttributes"]["queued_at"] = {"stringValue": time, "dataType": "String"}
        run = bench()
        assert run.send(QueueRecord.from_event(event)).failures == ()
        assert [letter.queued_at for letter in run.queues.dead_letters] == [NOW]

    def test_queue_delay_of_a_clock_that_runs_ahead_is_zero(self) -> None:
        run = bench()
        assert totals(run.send(queue_record(sent_at=NOW + 5)).measurements)["QueueDelay"] == 0


def test_fake_time_starts_where_the_builders_are() -> None:
    assert FakeClock().now() == NOW


IN_FRONT = PostResult(Outcome.NOT_SENT, "refused_in_front", 403, stop=Stop.REFUSED_IN_FRONT)


class TestBeforeTheFirstByte:
    """Whatever fails before a byte leaves ends as certainly not sent, without an operator."""

    def test_a_claim_that_is_stored_after_its_release_is_not_sent_either(self) -> None:
        run = bench()
        claim_stored_late(run)
        run.send(queue_record(receive_count=2))
        run.send(queue_record(receive_count=3))
        assert (run.state(), run.gateway.posts_of("message-1"), reasons(run)) == (State.ACCEPTED, 1, [])

    def test_a_claim_whose_answer_is_lost_is_released_at_once(self) -> None:
        run = bench()
        run.hook(FailAt("ledger.claim", "after"))
        assert run.send(queue_record()).failures == (sqs_id(),)
        assert (run.state(), run.record().reason, run.gateway.posts) == (State.RETRY, "claim_response_lost", [])
        run.hook()
        assert run.send(queue_record(receive_count=2)).failures == ()
        assert (run.state(), run.gateway.posts_of("message-1")) == (State.ACCEPTED, 1)

    @pytest.mark.parametrize("step", ["ledger.release", "ledger.not_sent"])
    def test_what_cannot_be_written_is_remembered_until_the_next_delivery(self, step: str) -> None:
        run = bench(*([unreachable()] if step == "ledger.not_sent" else []))

        def fail(seen: str, moment: Moment) -> None:
            if (seen, moment) in {(step, "before"), ("ledger.claim", "after")} - (
                {("ledger.claim", "after")} if step == "ledger.not_sent" else set()
            ):
                raise FaultError

        run.hook(fail)
        assert run.send(queue_record()).failures == (sqs_id(),)
        assert run.state() is State.SENDING
        run.hook()
        run.time.advance(200)  # the lease is over, and the outcome is not unknown
        run.send(queue_record(receive_count=2))
        assert (run.state(), reasons(run)) == (State.ACCEPTED, [])

    @pytest.mark.parametrize(
        ("result", "step", "state", "counted"),
        [
            (sent(), "ledger.accepted", State.ACCEPTED, {"MessagesAccepted", "SegmentsSent"}),
            (unknown(), "ledger.unknown", State.UNKNOWN, {"OutcomesUnknown"}),
            (rejected(), "ledger.rejected", State.REJECTED, {"MessagesRejected"}),
            (send_failed(), "ledger.rejected", State.REJECTED, {"MessagesRejected"}),
        ],
        ids=["accepted", "unknown", "rejected", "the last attempt"],
    )
    @pytest.mark.parametrize("moment", MOMENTS)
    def test_an_outcome_that_is_written_late_is_the_same_and_counts_once(
        self, result: PostResult, step: str, state: State, counted: set[str], moment: Moment
    ) -> None:
        run = bench(result, options={"max_attempts": 1})
        run.hook(FailAt(step, moment, times=ALWAYS))
        assert run.send(queue_record()).failures == (sqs_id(),)
        run.hook()
        run.time.advance(200)
        late = run.send(queue_record(receive_count=2))
        assert (late.failures, run.state(), len(run.gateway.posts)) == ((), state, 1)
        assert {name: totals(late.measurements).get(name) for name in counted} == dict.fromkeys(counted, 1.0)

    def test_the_last_attempt_of_a_message_is_the_last_also_if_it_is_written_late(self) -> None:
        run = bench(send_failed(), options={"max_attempts": 1})
        run.hook(FailAt("ledger.rejected", times=ALWAYS))
        run.send(queue_record())
        run.hook()
        run.time.advance(200)
        run.send(queue_record(receive_count=2))
        assert (run.record().reason, reasons(run)) == ("attempts_exhausted", ["attempts_exhausted"])

    def test_an_attempt_counts_also_if_it_is_written_late(self) -> None:
        run = bench(send_failed(), options={"max_attempts": 2})
        run.hook(FailAt("ledger.not_sent", times=ALWAYS))
        run.send(queue_record())
        run.hook()
        run.time.advance(200)
        run.send()
        assert (run.state(), run.record().attempts, run.record().uncounted_attempts) == (State.RETRY, 1, 0)

    @pytest.mark.parametrize("own_id", ["gw-2", None])
    def test_the_item_of_another_acceptance_is_written_before_the_message_is_gone(self, own_id: str | None) -> None:
        """The delivery that has its ID crashed before it wrote the item, and this one acknowledges the message."""
        run = bench(sent(own_id))

        def accepted_before(step: str, moment: Moment) -> None:
            if (step, moment) == ("ledger.accepted", "before"):
                run.ledger.hook = lambda *_: None
                run.ledger.accepted(run.record(), "gw-1", now=run.time.now())

        run.ledger.hook = accepted_before
        assert run.send(queue_record()).failures == ()
        items = {gateway_id: (item["message_id"], item["handset"]) for gateway_id, item in run.messages.items.items()}
        assert items == dict.fromkeys(filter(None, ("gw-1", own_id)), ("message-1", HANDSET))

    def test_two_acceptances_are_reported_also_if_the_second_is_written_late(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = bench(sent("gw-1"))
        run.hook(FailAt("ledger.accepted", times=ALWAYS))
        run.send(queue_record())
        run.hook()
        run.ledger.accepted(run.record(), "gw-2", now=run.time.now())
        assert totals(run.send().measurements)["MessagesAccepted"] == 1
        assert "accepted twice" in capsys.readouterr().out
        assert run.record().other_gateway_ids == {"gw-1"}

    def test_another_owner_is_never_released(self) -> None:
        run = bench()
        other = wanted(owner="other", payload_sha256=run_payload())
        run.ledger.claim(other, now=run.time.now())
        run.hook(FailAt("ledger.claim", "before"))
        run.send(queue_record())
        assert (run.state(), run.record().owner) == (State.SENDING, "other")

    @pytest.mark.parametrize("error", [FaultError("no permission"), CredentialsError("placeholder")])
    def test_a_secret_that_cannot_be_read_costs_waiting(self, error: Exception) -> None:
        run = bench(options={"max_attempts": 2})

        def fail(step: str, _moment: Moment) -> None:
            if step == "secret.current":
                raise error

        run.hook(fail)
        for count in range(1, 30):
            result = run.send(queue_record(receive_count=count))
            run.time.advance(4000)
        assert totals(result.measurements) == {"CredentialsRefused": 1}
        assert (run.ledger.records, reasons(run), run.gateway.posts) == ({}, [], [])


def run_payload() -> str:
    return parse_message(message_body(), now=NOW).payload_sha256


class TestAttemptsThatConcernNoMessageInParticular:
    @pytest.mark.parametrize("result", [unreachable(), credentials_refused(), throttled(), IN_FRONT])
    def test_are_not_used_up_however_long_it_lasts(self, result: PostResult) -> None:
        run = bench(*[result] * 50, options={"max_attempts": 3})
        for count in range(1, 41):
            run.send(queue_record(receive_count=count))
            run.time.advance(4000)
        assert (run.state(), reasons(run)) == (State.RETRY, [])
        assert run.record().attempts > 3

    def test_an_acceptance_from_before_its_first_refusal_uses_up_nothing(self) -> None:
        """A new firewall rule stops every message, although others were accepted within the last hour."""
        options = {"max_attempts": 3}
        run = Bench(gateway=ScriptedGateway(by_reference={"message-1": [IN_FRONT] * 9}), options=options)
        run.send(queue_record(name="0"))
        for _ in range(9):
            run.time.advance(60)
            assert run.send(queue_record()).failures == (sqs_id(),)
        assert (run.state(), reasons(run)) == (State.RETRY, [])

    @pytest.mark.parametrize("earlier", [unreachable(), throttled(), send_failed()])
    def test_another_failure_is_no_refusal_before_the_acceptance(self, earlier: PostResult) -> None:
        options = {"max_attempts": 2}
        run = Bench(gateway=ScriptedGateway(by_reference={"message-1": [earlier, *[IN_FRONT] * 2]}), options=options)
        run.send(queue_record())
        run.time.advance(60)
        run.send(queue_record(message_body(message_id="other"), name="other"))
        assert run.state("other") is State.ACCEPTED
        counted = run.record().uncounted_attempts
        for receive_count in (2, 3):
            run.time.advance(60)
            run.send(queue_record(receive_count=receive_count))
        assert (run.state(), reasons(run)) == (State.RETRY, [])
        assert run.record().uncounted_attempts == counted + 2

    def test_a_text_that_a_firewall_dislikes_ends_as_a_dead_letter_while_others_are_accepted(self) -> None:
        options = {"max_attempts": 3}
        run = Bench(gateway=ScriptedGateway(by_reference={"message-1": [IN_FRONT] * 9}), options=options)
        for count in range(1, 10):
            other = queue_record(message_body(message_id=f"other-{count}"), name=f"other-{count}")
            result = run.send(other, queue_record(receive_count=count))
            assert run.state(f"other-{count}") is State.ACCEPTED
            assert "CredentialsRefused" not in totals(result.measurements)
            run.time.advance(2000)
        assert (run.state(), set(reasons(run))) == (State.REJECTED, {"attempts_exhausted"})
        assert "proxy" in run.queues.dead_letters[0].detail


class TestTheQueuesRetention:
    def test_the_receives_last_longer_than_the_days(self) -> None:
        run = bench()
        run.sender.random.uniform = lambda least, _most: least  # type: ignore[method-assign,assignment]
        waits = [run.sender._backoff(queue_record(receive_count=count)) for count in range(1, QUEUE_RECEIVES + 1)]
        assert sum(waits) > QUEUE_RETENTION_SECONDS

    @pytest.mark.parametrize("hours", [10 * 24 - 1, 14 * 24 - 1], ids=["as deployed", "retention raised"])
    def test_what_sqs_is_about_to_delete_is_kept_for_an_operator(self, hours: int) -> None:
        run = bench(unreachable())
        run.send(queue_record())
        run.time.advance(hours * 3600)
        result = run.send(queue_record(receive_count=200))
        assert (result.failures, run.state(), reasons(run)) == ((), State.REJECTED, ["attempts_exhausted"])
        assert len(run.gateway.posts) == 1
        assert totals(result.measurements) == {"MessagesRejected": 1}
        assert "10 days" in run.queues.dead_letters[0].detail

    def test_no_wait_outlasts_the_retention(self) -> None:
        run = bench(PostResult(Outcome.NOT_SENT, "throttled", 429, stop=Stop.THROTTLED, retry_after_seconds=43_200.0))
        run.time.advance(QUEUE_RETENTION_SECONDS - 2 * 3600 - 3600.5)
        run.send(queue_record())
        assert 3590 < run.queues.given_back[-1].seconds <= 3601
        run.time.advance(run.queues.given_back[-1].seconds)
        run.send(queue_record(receive_count=2))
        assert (run.state(), reasons(run)) == (State.REJECTED, ["attempts_exhausted"])

    def test_an_unknown_outcome_is_not_sent_again_in_its_last_hours(self) -> None:
        run = bench(unknown())
        body = message_body(on_unknown="resend")
        run.time.advance(QUEUE_RETENTION_SECONDS - 2 * 3600 - 60)
        run.send(queue_record(body))
        run.time.advance(130)
        result = run.send(queue_record(body, receive_count=2))
        assert (result.failures, run.state(), reasons(run)) == ((), State.UNKNOWN, ["unknown_outcome"])
        assert len(run.gateway.posts) == 1

    def test_a_dead_letter_does_not_call_an_unknown_outcome_certain(self) -> None:
        run = bench(unknown(), unreachable())
        body = message_body(on_unknown="resend")
        for _ in range(2):
            run.send(queue_record(body))
            run.time.advance(130)
        run.time.advance(QUEUE_RETENTION_SECONDS - 3600)
        run.send(queue_record(body, receive_count=9))
        assert (run.state(), reasons(run)) == (State.REJECTED, ["attempts_exhausted"])
        assert "certainly" not in run.queues.dead_letters[0].detail

    @pytest.mark.parametrize("days", [14, 2000])
    def test_an_event_older_than_any_queue_is_an_example(self, days: int) -> None:
        run = bench()
        run.time.advance(days * 86_400)
        run.send(queue_record())
        assert run.state() is State.ACCEPTED


class TestScheduledMessages:
    def test_are_not_due_when_they_are_accepted(self) -> None:
        run = bench()
        result = run.send(queue_record(message_body(scheduled=at(2 * 86_400))))
        assert "MessagesDue" not in totals(result.measurements)
        assert totals(result.measurements)["MessagesAccepted"] == 1

    def test_count_their_delivery_from_their_schedule(self) -> None:
        run = bench()
        run.send(queue_record(message_body(scheduled=at(2 * 86_400))))
        run.time.advance(2 * 86_400 + 5)
        body = json.dumps({"id": "gw-1", "status": "received"}).encode()
        response = run.receiver.receive(CallbackRequest("POST", "/callbacks/status", basic(), body))
        assert totals(response.measurements)["DeliveryLatency"] == 5000


class TestWhatThe202Says:
    def test_its_status_is_the_messages(self) -> None:
        accepted = PostResult(
            Outcome.ACCEPTED, "accepted", 202, "gw-1", message_status="BLOCKED", message_detail="opted out"
        )
        run = bench(accepted)
        run.hook(calls := Calls())
        run.send(queue_record())
        item = run.messages.items["gw-1"]
        assert (item["status"], item["detail"], "awaiting" in item) == ("blocked", "opted out", False)
        assert calls.of("messages") == ["messages.record_sent", "messages.stop_waiting"]

    @pytest.mark.parametrize("said", ["sent", "nonsense", None])
    def test_a_callback_that_came_first_keeps_its_better_status(self, said: str | None) -> None:
        run = bench(PostResult(Outcome.ACCEPTED, "accepted", 202, "gw-1", message_status=said))
        run.messages.record_status(StatusCallback("gw-1", "received", "on the handset"), now=NOW)
        run.send(queue_record())
        item = run.messages.items["gw-1"]
        assert (item["status"], item["detail"], item["message_id"]) == ("received", "on the handset", "message-1")

    def test_an_id_that_is_anothers_changes_nothing_of_the_other(self) -> None:
        run = bench(sent("gw-1"), sent("gw-1"))
        run.send(queue_record())
        before = dict(run.messages.items["gw-1"])
        result = run.send(queue_record(message_body(message_id="message-2"), name="2"))
        assert (result.failures, run.state("message-2")) == ((), State.ACCEPTED)
        assert run.messages.items["gw-1"] == before
        assert totals(result.measurements)["GatewayIdsTaken"] == 1

    def test_nor_does_the_id_of_a_reply(self) -> None:
        run = bench(sent("mo-1"))
        run.messages.record_reply(ReplyCallback("mo-1", content="Yes"), in_reply_to=None, exact=False, now=NOW)
        before = dict(run.messages.items["mo-1"])
        assert run.send(queue_record()).failures == ()
        assert (run.state(), run.messages.items["mo-1"]) == (State.ACCEPTED, before)


class Calls:
    """A hook that keeps the order of the steps."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def __call__(self, step: str, moment: Moment) -> None:
        if moment == "before":
            self.steps.append(step)

    def of(self, double: str) -> list[str]:
        return [step for step in self.steps if step.startswith(double)]


class TestWhatIsToldOfADelivery:
    """Log lines for operators. Each was wrong in a mutant that all other tests passed."""

    def logged(self, run: Bench, caplog: pytest.LogCaptureFixture, *records: QueueRecord) -> list[dict[str, Any]]:
        caplog.clear()
        with caplog.at_level("INFO"):
            run.send(*records)
        return [vars(record) for record in caplog.records]

    def test_a_failure_is_an_error_and_an_end_is_not(self, caplog: pytest.LogCaptureFixture) -> None:
        run = bench()
        (line,) = self.logged(run, caplog, queue_record(name="0"))
        assert (line["levelname"], line["acknowledged"], "seen_again_in" in line) == ("INFO", True, False)
        run.hook(FailAt("ledger.claim", times=ALWAYS))
        line = self.logged(run, caplog, queue_record(name="1"))[-1]
        assert (line["levelname"], line["message"], line["seen_again_in"] > 0) == ("ERROR", "failed", True)

    def test_only_what_has_a_reason_has_one_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        (line,) = self.logged(bench(sent()._replace(seconds=2.0)), caplog, queue_record())
        assert ("reason" in line, line["gateway_ms"]) == (False, 2000)
        line = self.logged(bench(unknown(), options={"on_unknown": "resend"}), caplog, queue_record())[-1]
        assert line["reason"]

    def test_an_acceptance_without_an_id_is_a_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        without = "accepted without an ID; a callback can bring it"
        told = [line["message"] for line in self.logged(bench(sent(None)), caplog, queue_record())]
        assert without in told
        assert without not in [line["message"] for line in self.logged(bench(sent("gw-1")), caplog, queue_record())]

    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (CredentialsError("GatewaySecret: placeholder"), "GatewaySecret: placeholder"),
            (FaultError("x"), "can't be read"),
        ],
    )
    def test_a_secret_says_what_is_wrong_with_it_only_if_its_own_rules_do(
        self, error: Exception, says: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        run = bench()

        def unusable(step: str, _moment: Moment) -> None:
            if step == "secret.current":
                raise error

        run.hook(unusable)
        assert says in self.logged(run, caplog, queue_record())[0]["message"]

    def test_the_record_has_the_time_when_the_message_was_queued(self) -> None:
        run = bench()
        run.send(queue_record(name="0")._replace(sent_at=NOW - 30), queue_record(name="1")._replace(sent_at=None))
        assert sorted(str(record.queued_at) for record in run.ledger.records.values()) == sorted([at(-30), "None"])

    def test_a_rejection_after_an_unknown_outcome_says_so(self) -> None:
        for first, is_open in ((unknown(), True), (throttled(), False)):
            run = bench(first, rejected(), options={"on_unknown": "resend"})
            run.send(queue_record())
            run.time.advance(1_000)
            run.send(queue_record())
            (letter,) = run.queues.dead_letters
            assert ("the outcome of an earlier attempt is unknown" in letter.detail) is is_open
