"""A message to a handset that has opted out is not sent, whatever led to the attempt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from optus_sms.flows.opt_out_check import OptOutCheck, at_once, in_a_thread
from optus_sms.flows.send_message import QueueRecord
from optus_sms.model.queue_message import parse_message
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import OPTED_OUT, OptOutRecord, State
from optus_sms.records.updates import NOTHING
from tests.support.bench import Bench, FailAt, FaultError, totals
from tests.support.builders import (
    HANDSET,
    NOW,
    message_body,
    queue_record,
    rejected,
    send_failed,
    unknown,
    unreachable,
    wanted,
)
from tests.support.fakes import Moment, ScriptedGateway, no_hook

OUT = OptOutRecord(HANDSET, True, format_rfc3339(NOW), "reply", reply_id="mo-1")
IN = OptOutRecord(HANDSET, False, format_rfc3339(NOW + 1), "person", operator="operator-1")


def bench(*script: Any, opted_out: bool = True, **options: Any) -> Bench:
    run = Bench(gateway=ScriptedGateway(script), options=options)
    if opted_out:
        run.opt_outs.decide(OUT)
    return run


def message(**fields: Any) -> QueueRecord:
    return queue_record(message_body(**fields))


class TestOptedOut:
    def test_is_not_sent_and_ends_without_a_dead_letter(self) -> None:
        run = bench()
        result = run.send(message())
        assert (result.failures, run.gateway.posts, run.queues.dead_letters) == ((), [], [])
        assert (run.state(), run.record().reason, run.record().detail) == (
            State.REJECTED,
            OPTED_OUT,
            "opted_out_by_reply",
        )
        assert run.record().destination is None
        assert totals(result.measurements) == {"MessagesOptedOut": 1}

    def test_others_of_its_batch_are_sent(self) -> None:
        run = bench()
        other = queue_record(message_body(message_id="message-2", destination="+61491570156"), name="2")
        assert run.send(message(), other).failures == ()
        assert run.gateway.accepted == {"message-2": 1}

    def test_delivered_again_is_acknowledged_without_a_dead_letter(self) -> None:
        run = bench()
        run.send(message())
        result = run.send(message())
        assert (result.failures, run.gateway.posts, run.queues.dead_letters) == ((), [], [])
        assert totals(result.measurements) == {"DuplicatesSuppressed": 1}

    def test_its_message_id_stays_used_and_a_new_one_is_sent_after_it_opted_back_in(self) -> None:
        run = bench()
        run.send(message())
        run.opt_outs.decide(IN)
        run.send(message())
        run.send(message(message_id="message-2"))
        assert run.gateway.accepted == {"message-2": 1}

    def test_opted_back_in_is_sent(self) -> None:
        run = bench()
        run.opt_outs.decide(IN)
        run.send(message())
        assert run.state() is State.ACCEPTED

    def test_an_item_made_by_hand_counts(self) -> None:
        run = bench(opted_out=False)
        run.opt_outs.table.update(HANDSET, NOTHING.set(note="rang us"))
        run.send(message())
        assert (run.gateway.posts, run.record().reason) == ([], OPTED_OUT)


class TestDespiteOptOut:
    def test_is_sent_without_a_read(self) -> None:
        run = bench()
        steps: list[str] = []
        run.hook(lambda step, _moment: steps.append(step))
        run.send(message(despite_opt_out=True))
        assert (run.state(), [step for step in steps if step.startswith("opt_outs")]) == (State.ACCEPTED, [])
        assert "despite_opt_out" not in run.gateway.posts[0].fields

    def test_false_is_as_if_it_were_absent(self) -> None:
        run = bench()
        run.send(message(despite_opt_out=False))
        assert run.record().reason == OPTED_OUT

    def test_is_refused_where_the_stack_does_not_allow_it(self) -> None:
        run = bench(opted_out=False, allow_despite_opt_out=False)
        run.send(message(despite_opt_out=True), queue_record(message_body(message_id="m-2", despite_opt_out=False)))
        (letter,) = run.queues.dead_letters
        assert (letter.reason, letter.detail.partition(":")[0]) == ("invalid", "despite_opt_out")
        assert run.gateway.accepted == {"m-2": 1}

    def test_is_no_part_of_what_makes_a_message_another(self) -> None:
        run = bench(send_failed(), opted_out=False)
        run.send(message())
        run.time.advance(60)
        run.opt_outs.decide(OUT)
        run.send(message(despite_opt_out=True))
        assert run.state() is State.ACCEPTED

    def test_is_noted_in_the_history_of_each_attempt_that_had_it(self) -> None:
        run = bench(send_failed(), opted_out=False)
        run.send(message())
        run.time.advance(60)
        run.send(message(despite_opt_out=True))
        claims = [step for step in run.record().steps() if step.what == "claimed"]
        assert [(step.attempt, step.is_despite_opt_out) for step in claims] == [(1, False), (2, True)]


class TestEveryWayToAnAttempt:
    """Every claim sees an opt-out that was stored before it."""

    def test_stored_before_the_claim_and_after_the_delivery_began(self) -> None:
        run = bench(opted_out=False)

        def opt_out(step: str, moment: Moment) -> None:
            if (step, moment) == ("ledger.claim", "before"):
                run.opt_outs.table.items[HANDSET] = {"handset": HANDSET, "opted_out": True}

        run.hook(opt_out)
        run.send(message())
        assert (run.gateway.posts, run.record().reason) == ([], OPTED_OUT)

    @pytest.mark.parametrize("first", [send_failed(), unreachable()])
    def test_a_retry(self, first: Any) -> None:
        run = bench(first, opted_out=False)
        run.send(message())
        run.opt_outs.decide(OUT)
        run.time.advance(1_000)
        run.send(message())
        assert (len(run.gateway.posts), run.record().reason) == (1, OPTED_OUT)

    def test_a_resend_after_an_unknown_outcome(self) -> None:
        run = bench(unknown(), opted_out=False, on_unknown="resend")
        run.send(message())
        run.opt_outs.decide(OUT)
        run.time.advance(1_000)
        run.send(message())
        assert (len(run.gateway.posts), run.state(), run.record().reason) == (1, State.REJECTED, OPTED_OUT)
        assert run.record().destination == HANDSET  # a callback can still prove the first attempt

    def test_a_message_that_an_operator_lets_be_sent_again(self) -> None:
        run = bench(rejected(), opted_out=False)
        run.send(message())
        assert run.ledger.reopen(run.record(), by="operator-1", now=NOW) is None
        run.opt_outs.decide(OUT)
        run.send(message())
        assert (len(run.gateway.posts), run.record().reason) == (1, OPTED_OUT)

    def test_a_corrected_message(self) -> None:
        run = bench(rejected(), opted_out=False)
        run.send(message())
        run.opt_outs.decide(OUT)
        run.send(message(content="Mended."))
        assert (len(run.gateway.posts), run.record().reason) == (1, OPTED_OUT)

    def test_a_claim_whose_owner_is_gone(self) -> None:
        run = bench(on_unknown="resend")
        payload = parse_message(message_body(), now=NOW).payload_sha256
        run.ledger.claim(wanted(owner="gone", payload_sha256=payload, on_unknown="resend"), now=NOW)
        run.time.advance(1_000)
        for _ in range(3):
            run.send(message())
            run.time.advance(1_000)
        assert (run.gateway.posts, run.record().reason) == ([], OPTED_OUT)


class TestNotRead:
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_the_message_waits_and_uses_up_no_attempt(self, moment: Moment) -> None:
        run = bench(opted_out=False, max_attempts=1)
        run.hook(FailAt("opt_outs.read", moment, times=-1))
        for _ in range(3):
            result = run.send(message())
            assert (len(result.failures), totals(result.measurements)) == (1, {})
        assert (run.state(), run.gateway.posts, run.queues.dead_letters) == (State.RETRY, [], [])
        assert run.queues.given_back[-1].seconds > 1
        run.hook(no_hook)
        run.send(message())
        assert run.state() is State.ACCEPTED

    def test_is_in_the_log_with_the_error_and_without_the_number(self, capsys: pytest.CaptureFixture[str]) -> None:
        run = bench(opted_out=False)
        run.hook(FailAt("opt_outs.read"))
        run.send(message())
        logged = capsys.readouterr().out
        assert ("opt-out not read" in logged, "FaultError" in logged, HANDSET in logged) == (True, True, False)

    def test_a_thread_that_can_not_start_is_a_read_that_failed(self) -> None:
        def exhausted(_run: Any) -> Any:
            raise RuntimeError("can't start new thread")

        run = bench(opted_out=False)
        object.__setattr__(run.sender, "beside", exhausted)
        assert len(run.send(message()).failures) == 1
        assert (run.state(), run.gateway.posts) == (State.RETRY, [])

    def test_an_outcome_that_can_not_be_written_is_written_with_the_next_batch(self) -> None:
        run = bench()
        run.hook(FailAt("ledger.rejected", times=-1))
        assert len(run.send(message(), seconds=20).failures) == 1
        run.hook(no_hook)
        result = run.send(queue_record(message_body(message_id="other", despite_opt_out=True), name="2"))
        assert run.record().reason == OPTED_OUT
        assert totals(result.measurements)["MessagesOptedOut"] == 1


class TestBeside:
    @pytest.mark.parametrize(("messages", "beside"), [(1, 1), (3, 0)])
    def test_only_a_message_alone_is_read_for_in_parallel(self, messages: int, beside: int) -> None:
        """The messages of a batch run in parallel already, and more threads would cost CPU."""
        run, started = bench(opted_out=False), []

        def start(read: Callable[[], None]) -> Callable[[], None]:
            started.append(read)
            return at_once(read)

        object.__setattr__(run.sender, "beside", start)
        run.send(*(queue_record(name=str(number)) for number in range(messages)))
        assert (len(run.gateway.posts), len(started)) == (messages, beside)

    def test_other_calls_go_on_while_it_reads(self) -> None:
        may_end, went_on = threading.Event(), []

        def read() -> OptOutRecord | None:
            may_end.wait()
            return OUT

        with OptOutCheck(read, in_a_thread) as check:
            went_on.append(True)
            may_end.set()
            assert not check.allows()
        assert (went_on, check.opt_out) == ([True], OUT)

    def test_it_has_ended_when_the_attempt_has(self) -> None:
        threads = threading.active_count()
        with OptOutCheck(lambda: None, in_a_thread) as check:
            pass
        assert (threading.active_count(), check.allows()) == (threads, True)

    def test_a_read_that_fails_allows_nothing(self) -> None:
        def read() -> OptOutRecord | None:
            raise FaultError

        with OptOutCheck(read, in_a_thread) as check:
            assert not check.allows()
        assert isinstance(check.error, FaultError)
