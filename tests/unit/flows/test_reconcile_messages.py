"""Reconciliation: due items end, others stay, and no step affects another. A fake clock lets days pass."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import pytest
from botocore.exceptions import ClientError

from optus_sms.flows.reconcile_messages import (
    ASK_SECONDS,
    ASKS_AT_ONCE,
    IN_VAIN_IN_A_ROW,
    RUN_SECONDS,
    Lookup,
    Reconciler,
    Report,
    judge_lookup,
)
from optus_sms.gateway.api import Gateway
from optus_sms.gateway.credentials import GatewayCredentials
from optus_sms.gateway.transport import Exchange
from optus_sms.model.callbacks import StatusCallback
from optus_sms.model.statuses import FINAL_STATUSES, STATUS_RANK
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.ledger import ABANDONED_SECONDS, COMPLETE_SECONDS, LAPSE_SECONDS, UNRESOLVED_SECONDS
from optus_sms.records.messages import FIRST_LOOK_SECONDS, MATCH_SECONDS, UNANSWERED_SECONDS, StatusResult
from optus_sms.records.table import SHARDS
from optus_sms.runtime.observability import Metric
from tests.support.builders import CONTENT, HANDSET, NOW, sent_message, wanted
from tests.support.fakes import FakeClock, Hook, MemoryLedger, MemoryMessages, Moment, no_hook
from tests.support.health import NO_MESSAGE, NO_PATH, FakeSecret, answer, no_response

DAY = 86_400
THROTTLED = ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "AnyCall")


def message(status: str | None, **more: Any) -> Exchange:
    """Return MessageDetails."""
    fields = {"id": "gw-1", "direction": "MT", "destination": HANDSET, "content": CONTENT, "status": status}
    return answer(200, {name: value for name, value in (fields | more).items() if value is not None})


@dataclass
class AnsweringGateway(Gateway):
    """Responses by ID, else ``otherwise``, where gw-1 stands for the ID.

    ``asked``: the requests in order, with times.
    """

    clock: FakeClock
    otherwise: Exchange = field(default_factory=lambda: answer(404, NO_MESSAGE))
    answers: dict[str, Exchange] = field(default_factory=dict)
    asked: list[tuple[float, str]] = field(default_factory=list)
    timeout_seconds: float = 10.0
    takes_seconds: float = 0.0

    def get_message(self, gateway_id: str, credentials: GatewayCredentials) -> Exchange:
        self.asked.append((self.clock.now(), gateway_id))
        self.clock.advance(self.takes_seconds)
        body = (self.otherwise.body or b"").replace(b'"gw-1"', f'"{gateway_id}"'.encode())
        return self.answers.get(gateway_id, self.otherwise._replace(body=body))


class Stack:
    """Ledger, messages, gateway and clock, and runs of the reconciler over them."""

    def __init__(self, hook: Hook = no_hook) -> None:
        self.clock = FakeClock()
        self.ledger = MemoryLedger(hook)
        self.messages = MemoryMessages(hook=hook)
        self.gateway = AnsweringGateway(self.clock)
        self.secret = FakeSecret()

    def run(self, *, remaining: float = 120.0) -> Report:
        reconciler = Reconciler(self.ledger, self.messages, self.gateway, self.secret, self.clock.clock)
        return reconciler.run(deadline=self.clock.now() + remaining)

    def pass_until(self, seconds_after_the_start: float) -> Report:
        """Run at that time."""
        self.clock.advance(NOW + seconds_after_the_start - self.clock.now())
        return self.run()

    def claim(self, key: str = "message-1", **changes: Any) -> LedgerRecord:
        lease = int(self.clock.now()) + 90
        owner = f"owner at {self.clock.now()}"
        claim = self.ledger.claim(wanted(key, **changes, owner=owner, lease_until=lease), now=self.clock.now())
        assert claim.state is State.SENDING
        return claim

    def record(self, key: str = "message-1") -> LedgerRecord:
        return self.ledger.records[key]

    def sent(self, gateway_id: str = "gw-1", **changes: Any) -> None:
        self.messages.record_sent(*sent_message(gateway_id, **changes), now=self.clock.now())

    def row(self, gateway_id: str = "gw-1") -> dict[str, Any]:
        return dict(self.messages.items[gateway_id])

    @property
    def asked(self) -> list[str]:
        return [gateway_id for _, gateway_id in self.gateway.asked]


def counted(report: Report) -> dict[str, int]:
    """Return the counts, without gauges and zeros."""
    gauges = {"MessagesSending", "MessagesRetrying", "MessagesUnknown", "MessagesAwaitingId"}
    gauges |= {"MessagesAwaitingStatus", "CallbacksAwaitingMessage"}
    return {name: count for name, count in report.counts.items() if name not in gauges and count}


def gauges(report: Report) -> dict[str, int]:
    return {name: count for name, count in report.counts.items() if name not in counted(report) and count}


class TestDeadLeases:
    def test_become_unknown_a_quarter_of_an_hour_after_the_lease(self) -> None:
        stack = Stack()
        stack.claim()
        assert counted(stack.pass_until(90 + LAPSE_SECONDS - 1)) == {}
        assert stack.record().state is State.SENDING
        assert counted(stack.pass_until(90 + LAPSE_SECONDS)) == {"OutcomesUnknown": 1}
        assert (stack.record().state, stack.record().reason) == (State.UNKNOWN, "owner_lost")

    def test_a_living_lease_is_left_alone_however_long_it_is(self) -> None:
        stack = Stack()
        stack.claim()
        stack.ledger.items["message-1"]["look_at"] = 0  # listed as due by an index that lags
        assert counted(stack.pass_until(60)) == {}
        assert stack.record().state is State.SENDING

    def test_whoever_writes_its_outcome_first_wins(self) -> None:
        stack = Stack()
        claim = stack.claim()

        def meanwhile(step: str, moment: Moment) -> None:
            if (step, moment) == ("ledger.unknown", "before"):
                stack.ledger.hook = no_hook
                stack.ledger.accepted(claim, "gw-1", now=stack.clock.now())

        stack.ledger.hook = meanwhile
        assert counted(stack.pass_until(90 + LAPSE_SECONDS)) == {}
        assert (stack.record().state, stack.record().gateway_id) == (State.ACCEPTED, "gw-1")


class TestUnknownOutcomes:
    def test_are_given_up_after_eight_days_and_a_late_callback_still_resolves_them(self) -> None:
        stack = Stack()
        stack.ledger.unknown(stack.claim(), "timed_out", now=NOW)
        assert counted(stack.pass_until(UNRESOLVED_SECONDS - 1)) == {}
        assert counted(stack.pass_until(UNRESOLVED_SECONDS)) == {"OutcomesUnresolved": 1}
        assert stack.record().state is State.UNKNOWN
        assert stack.record().unresolved_at == format_rfc3339(NOW + UNRESOLVED_SECONDS)
        assert counted(stack.run()) == {}
        assert stack.ledger.resolve_by_callback("message-1", "gw-1", now=stack.clock.now()) is not None
        assert stack.record().state is State.ACCEPTED

    def test_of_a_scheduled_message_eight_days_after_its_schedule(self) -> None:
        stack = Stack()
        stack.ledger.unknown(stack.claim(ttl=wanted().ttl + 30 * DAY), "timed_out", now=NOW)
        assert counted(stack.pass_until(30 * DAY + UNRESOLVED_SECONDS - 1)) == {}
        assert counted(stack.pass_until(30 * DAY + UNRESOLVED_SECONDS)) == {"OutcomesUnresolved": 1}

    def test_from_a_dead_lease_to_given_up(self) -> None:
        stack = Stack()
        stack.claim()
        stack.pass_until(DAY)
        assert counted(stack.pass_until(UNRESOLVED_SECONDS)) == {"OutcomesUnresolved": 1}

    def test_accepted_without_an_id_is_given_up_too_and_stays_accepted(self) -> None:
        stack = Stack()
        stack.ledger.accepted(stack.claim(), None, now=NOW)
        assert gauges(stack.run()) == {"MessagesAwaitingId": 1}
        assert counted(stack.pass_until(UNRESOLVED_SECONDS)) == {"OutcomesUnresolved": 1}
        assert stack.record().state is State.ACCEPTED


class TestAbandonedRetries:
    def test_are_reported_once_when_no_queue_can_hold_them(self, caplog: pytest.LogCaptureFixture) -> None:
        stack = Stack()
        stack.ledger.not_sent(stack.claim(), "connection_refused", now=NOW)
        assert counted(stack.pass_until(ABANDONED_SECONDS - 1)) == {}
        assert counted(stack.pass_until(ABANDONED_SECONDS)) == {"MessagesAbandoned": 1}
        assert counted(stack.pass_until(2 * ABANDONED_SECONDS)) == {}
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert record.__dict__["message_id"] == "message-1"

    def test_a_redrive_later_on_still_sends_it(self) -> None:
        stack = Stack()
        stack.ledger.not_sent(stack.claim(), "connection_refused", now=NOW)
        stack.pass_until(ABANDONED_SECONDS)
        assert stack.claim().attempts == 2


def test_an_interrupted_resolution_by_an_id_that_is_anothers_is_counted() -> None:
    stack = Stack()
    stack.ledger.unknown(stack.claim(), "timed_out", now=NOW)
    stack.ledger.resolve_by_callback("message-1", "gw-1", now=NOW)
    stack.messages.record_sent("gw-1", wanted("other"), now=NOW)
    assert counted(stack.pass_until(COMPLETE_SECONDS)) == {"GatewayIdsTaken": 1}
    assert stack.row()["message_id"] == "other"


class TestCallbacksWithoutAMessage:
    def callback(self, stack: Stack, status: str = "received") -> None:
        """Store a callback whose match failed."""
        stack.messages.record_status(StatusCallback("gw-1", status, None, "message-1"), now=stack.clock.now())
        stack.messages.await_message("gw-1", now=stack.clock.now())

    def test_resolve_an_unknown_outcome(self) -> None:
        stack = Stack()
        stack.ledger.unknown(stack.claim(), "timed_out", now=NOW)
        self.callback(stack)
        assert counted(stack.pass_until(MATCH_SECONDS - 1)) == {}
        report = stack.pass_until(MATCH_SECONDS)
        assert counted(report) == {"OutcomesResolved": 1}
        assert gauges(report) == {}
        assert (stack.record().state, stack.record().gateway_id) == (State.ACCEPTED, "gw-1")
        assert (stack.row()["message_id"], stack.row()["destination"]) == ("message-1", HANDSET)

    def test_complete_a_row_whose_message_is_accepted_already(self) -> None:
        stack = Stack()
        stack.ledger.accepted(stack.claim(), "gw-1", now=NOW)
        self.callback(stack, "sent")
        report = stack.pass_until(MATCH_SECONDS)
        assert counted(report) == {}
        assert gauges(report) == {"MessagesAwaitingStatus": 1}
        assert stack.row()["message_id"] == "message-1"

    def test_with_an_id_that_is_anothers_are_counted(self) -> None:
        stack = Stack()
        stack.ledger.unknown(stack.claim(), "timed_out", now=NOW)
        self.callback(stack)

        def take(step: str, moment: Moment) -> None:
            if (step, moment) == ("messages.record_sent", "before"):
                stack.messages.items["gw-1"]["message_id"] = "other"

        stack.messages.hook = take
        assert counted(stack.pass_until(MATCH_SECONDS)) == {"OutcomesResolved": 1, "GatewayIdsTaken": 1}
        assert stack.row()["message_id"] == "other"

    def test_of_nobody_are_looked_at_once(self) -> None:
        stack = Stack()
        self.callback(stack)
        assert gauges(stack.run()) == {"CallbacksAwaitingMessage": 1}
        assert gauges(stack.pass_until(MATCH_SECONDS)) == {}
        assert "unresolved_at" in stack.row()

    def test_of_a_message_that_was_certainly_not_sent_are_a_contradiction(self) -> None:
        stack = Stack()
        stack.ledger.not_sent(stack.claim(), "connection_refused", now=NOW)
        self.callback(stack)
        assert counted(stack.pass_until(MATCH_SECONDS)) == {"CallbacksContradictory": 1}
        assert (stack.record().state, "unresolved_at" in stack.row()) == (State.RETRY, True)

    def test_an_ambiguous_reference_proves_nothing(self) -> None:
        stack = Stack()
        for key in ("one", "two"):
            stack.ledger.unknown(stack.claim(key, reference="costs"), "timed_out", now=NOW)
            stack.ledger.register_reference("costs", key, ttl=0)
        stack.messages.record_status(StatusCallback("gw-1", "sent", None, "costs"), now=NOW)
        stack.messages.await_message("gw-1", now=NOW)
        assert counted(stack.pass_until(MATCH_SECONDS)) == {}
        assert {record.state for record in stack.ledger.records.values()} == {State.UNKNOWN}


class TestJudgeLookup:
    @pytest.mark.parametrize(
        ("looked", "lookup"),
        [
            (message("received"), Lookup.RESPONDED),
            (message("received", id="GW-1"), Lookup.RESPONDED),
            (message("received", id="gw-2"), Lookup.REFUSED),
            (message("received", id=None), Lookup.REFUSED),
            (answer(200, b"<html>"), Lookup.REFUSED),
            (answer(200, [{"id": "gw-1"}]), Lookup.REFUSED),
            (answer(404, NO_MESSAGE), Lookup.RESPONDED),
            (answer(400, {"statusCode": 400, "error": "invalid_attrib", "message": "x"}), Lookup.RESPONDED),
            (answer(422, {"statusCode": 422, "error": "invalid_attrib", "message": "x"}), Lookup.RESPONDED),
            (answer(422, b"<html>"), Lookup.REFUSED),
            (answer(410, NO_MESSAGE), Lookup.RESPONDED),
            (answer(410, b"<html>"), Lookup.RESPONDED),
            (answer(404, NO_PATH), Lookup.REFUSED),
            (answer(404, b"<html>"), Lookup.REFUSED),
            (answer(401), Lookup.REFUSED),
            (answer(403), Lookup.REFUSED),
            (answer(405), Lookup.REFUSED),
            (answer(501), Lookup.REFUSED),
            (answer(429), Lookup.LATER),
            (answer(500), Lookup.LATER),
            (answer(503), Lookup.LATER),
            (answer(302), Lookup.LATER),
            (no_response("timed_out"), Lookup.LATER),
        ],
    )
    def test_what_an_answer_means_for_going_on(self, looked: Exchange, lookup: Lookup) -> None:
        assert judge_lookup(looked, "gw-1") is lookup


class TestMissingStatuses:
    @pytest.mark.parametrize("status", sorted(FINAL_STATUSES))
    def test_a_final_status_is_asked_for_after_a_day(self, status: str) -> None:
        stack = Stack()
        stack.sent()
        stack.gateway.otherwise = message(status.upper())
        assert counted(stack.pass_until(FIRST_LOOK_SECONDS - 1)) == {}
        report = stack.pass_until(FIRST_LOOK_SECONDS)
        assert counted(report) == {"StatusesAsked": 1}
        assert gauges(report) == {}
        assert stack.row()["status"] == status
        assert f"{status}_at" in stack.row()
        assert counted(stack.pass_until(30 * DAY)) == {}

    def test_is_asked_for_four_times_in_eight_days_and_then_given_up(self, caplog: pytest.LogCaptureFixture) -> None:
        stack = Stack()
        stack.sent()
        stack.gateway.otherwise = message("submitted")
        for hour in range(1, 24 * 20):
            stack.pass_until(hour * 3600)
        assert [round((at - NOW) / DAY, 1) for at, _ in stack.gateway.asked] == [1.0, 2.0, 4.0, 8.0]
        assert stack.gateway.asked[-1][0] - NOW == 8 * DAY
        assert stack.row()["status"] == "submitted"
        assert "unresolved_at" in stack.row()
        last = caplog.records[-1]
        assert (last.levelno, last.__dict__["message_id"]) == (logging.WARNING, "message-1")
        assert last.__dict__["last"] == "submitted"

    def test_a_callback_after_that_still_counts(self) -> None:
        stack = Stack()
        stack.sent()
        for day in (1, 2, 4, 8):
            report = stack.pass_until(day * DAY)
        assert counted(report) == {"StatusesAsked": 1, "StatusesUnresolved": 1}
        result = stack.messages.record_status(StatusCallback("gw-1", "received"), now=stack.clock.now())
        assert result.message.status == "received"

    def test_of_a_scheduled_message_counts_from_its_schedule(self) -> None:
        stack = Stack()
        stack.sent(scheduled_at=NOW + 59 * DAY)
        stack.pass_until(60 * DAY - 1)
        assert stack.asked == []
        stack.pass_until(60 * DAY)
        assert stack.asked == ["gw-1"]

    def test_the_answer_is_merged_by_rank_as_a_callback_is(self) -> None:
        wrong = []
        for known, asked in product(STATUS_RANK.keys() - FINAL_STATUSES, STATUS_RANK):
            stack = Stack()
            stack.sent()
            stack.messages.record_status(StatusCallback("gw-1", known), now=NOW)
            stack.gateway.otherwise = message(asked)
            stack.pass_until(DAY)
            if stack.row()["status"] != max(known, asked, key=lambda name: STATUS_RANK[name]):
                wrong.append((known, asked, stack.row()["status"]))
        assert wrong == []

    @pytest.mark.parametrize(
        "looked",
        [
            answer(404, NO_MESSAGE),
            message(None),
            message("shredded"),
            message("received", direction="MO"),
            message("received", id="gw-2"),
            answer(200, b"<html>"),
            answer(200, {"status": 5}),
        ],
    )
    def test_what_tells_nothing_changes_nothing_and_is_asked_again(self, looked: Exchange) -> None:
        stack = Stack()
        stack.sent()
        stack.gateway.otherwise = looked
        stack.pass_until(DAY)
        assert stack.row()["status"] == "accepted"
        stack.gateway.otherwise = message("received")
        stack.pass_until(2 * DAY)
        assert stack.row()["status"] == "received"

    def test_a_message_that_the_gateway_never_answers_for_holds_up_no_other(self) -> None:
        stack = Stack()
        for number in range(5):
            stack.sent(f"gw-{number}")
            stack.gateway.answers[f"gw-{number}"] = message("received", id=f"gw-{number}")
        stack.gateway.answers["gw-0"] = stack.gateway.answers["gw-1"] = answer(500)
        stack.pass_until(DAY)
        rows = stack.messages.items
        assert [rows[f"gw-{number}"]["status"] for number in range(2, 5)] == ["received"] * 3
        last_answered = max(stack.asked.index(f"gw-{number}") for number in range(2, 5))
        passed_over = [gateway_id for gateway_id in stack.asked[:last_answered] if gateway_id in ("gw-0", "gw-1")]
        assert passed_over, "the gateway answered for no other after it"
        assert [rows[gateway_id]["looks"] for gateway_id in passed_over] == [1] * len(passed_over)

    def test_a_gateway_that_is_not_well_is_asked_three_times_a_run_and_nothing_is_missed(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        stack = Stack()
        for number in range(5):
            stack.sent(f"gw-{number}")
        stack.gateway.otherwise = answer(503)
        stack.pass_until(DAY)
        stack.pass_until(DAY + 300)
        assert len(stack.asked) == 2 * 3  # as docs/outages.md has it
        assert len(set(stack.asked)) == 5, "the second run begins with others"
        assert {record.__dict__.get("reason") for record in caplog.records} == {"HTTP 503"}
        assert all("looks" not in row for row in stack.messages.items.values()), "an outage is no request"
        stack.gateway.otherwise = message("received")
        stack.pass_until(DAY + 600)
        assert {row["status"] for row in stack.messages.items.values()} == {"received"}

    @pytest.mark.parametrize(
        ("looked", "bad"),
        [
            (answer(500), ("gw-0", "gw-1", "gw-2")),
            (answer(410), ("gw-0", "gw-1", "gw-2")),
            (no_response("timed_out"), ("gw-0", "gw-1", "gw-2")),
            (answer(403), ("gw-0", "gw-39")),
            (answer(404, NO_PATH), ("gw-0", "gw-39")),
        ],
    )
    def test_ids_that_are_always_answered_so_keep_no_other_from_its_status(
        self, looked: Exchange, bad: tuple[str, ...]
    ) -> None:
        stack = Stack()
        ids = [f"gw-{number}" for number in range(40)]
        for gateway_id in ids:
            stack.sent(gateway_id)
            stack.gateway.answers[gateway_id] = looked if gateway_id in bad else message("received", id=gateway_id)
            stack.messages.items[gateway_id]["look_at"] = int(NOW) + DAY - (gateway_id in bad)  # they lead
        stack.pass_until(DAY)
        stack.pass_until(DAY + 300)
        others = [row for gateway_id, row in stack.messages.items.items() if gateway_id not in bad]
        assert {row["status"] for row in others} == {"received"}
        for day in range(2, 13):
            stack.pass_until(day * DAY)
        assert all("unresolved_at" in stack.row(gateway_id) for gateway_id in bad)
        assert max(stack.asked.count(gateway_id) for gateway_id in bad) <= 13

    def test_a_status_without_a_response_is_given_up_only_when_it_is_long_over(self) -> None:
        """Without other responses the gateway can be down."""
        stack = Stack()
        stack.messages._keep_seconds = DAY
        stack.sent(scheduled_at=int(NOW) + 30 * DAY)
        assert stack.row()["ttl"] > NOW + 30 * DAY + UNANSWERED_SECONDS
        stack.gateway.otherwise = no_response("timed_out")
        assert counted(stack.pass_until(31 * DAY)) == {"StatusesAsked": 1}
        assert counted(stack.pass_until(30 * DAY + UNANSWERED_SECONDS - 1)) == {"StatusesAsked": 1}
        report = stack.pass_until(30 * DAY + UNANSWERED_SECONDS)
        assert counted(report) == {"StatusesAsked": 1, "StatusesUnresolved": 1}

    @pytest.mark.parametrize("looked", [answer(404, NO_PATH), answer(405), answer(403)])
    def test_a_gateway_that_does_not_offer_it_is_asked_three_times_a_run_and_every_message_ends(
        self, looked: Exchange
    ) -> None:
        stack = Stack()
        for number in range(5):
            stack.sent(f"gw-{number}")
        stack.gateway.otherwise = looked
        for day in range(1, 12):
            stack.pass_until(day * DAY)
            stack.pass_until(day * DAY + 300)
        assert len(stack.asked) == 4 * IN_VAIN_IN_A_ROW
        assert all("unresolved_at" in row for row in stack.messages.items.values())

    @pytest.mark.parametrize(
        ("looked", "refused", "password"),
        [
            (answer(401), True, "new"),
            (answer(403), True, "new"),
            (answer(405), True, "right"),
            (answer(404, NO_MESSAGE), False, "right"),
        ],
    )
    def test_a_refusal_is_logged_and_that_of_the_credentials_makes_the_next_run_read_the_secret_again(
        self, looked: Exchange, refused: bool, password: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        stack = Stack()
        stack.sent()
        stack.gateway.otherwise = looked
        stack.pass_until(DAY)
        stack.secret.store("new", "v2")
        stack.pass_until(2 * DAY)
        assert ("the gateway refuses to look up a message" in caplog.messages) is refused
        assert stack.secret.current().password == password

    def test_the_log_has_no_status_that_is_unknown(self, caplog: pytest.LogCaptureFixture) -> None:
        """It is the gateway's free text."""
        caplog.set_level(logging.INFO)
        stack = Stack()
        stack.sent()
        for day, status in ((1, "submitted"), (2, "told Ann")):
            stack.gateway.otherwise = message(status)
            stack.pass_until(day * DAY)
        lines = [record.__dict__["status"] for record in caplog.records if record.message == "status requested"]
        assert lines == ["submitted", None]

    def test_only_refusals_in_a_row_end_a_run(self) -> None:
        stack = Stack()
        stack.gateway.otherwise = answer(405)
        stack.gateway.answers["gw-2"] = message("received", id="gw-2")
        ids = [f"gw-{number}" for number in range(8)]
        for seconds, gateway_id in enumerate(ids):
            stack.sent(gateway_id)
            stack.messages.items[gateway_id]["look_at"] = int(NOW) + seconds
        stack.pass_until(DAY)
        assert stack.asked == ids[:6]

    def test_is_asked_politely(self) -> None:
        stack = Stack()
        for number in range(ASKS_AT_ONCE + 20):
            stack.sent(f"gw-{number}")
        stack.pass_until(DAY)
        times = [at for at, _ in stack.gateway.asked]
        assert ASKS_AT_ONCE - SHARDS < len(times) <= ASKS_AT_ONCE
        assert min(later - at for at, later in pairwise(times)) == ASK_SECONDS
        stack.pass_until(DAY + 300)
        assert len(set(stack.asked)) == ASKS_AT_ONCE + 20

    def test_a_slow_gateway_does_not_keep_a_run_longer_than_its_time(self) -> None:
        stack = Stack()
        for number in range(50):
            stack.sent(f"gw-{number}")
        stack.gateway.takes_seconds = 9.0
        stack.clock.advance(DAY)
        started = stack.clock.now()
        assert stack.run().failed == ()
        assert stack.clock.now() - started <= RUN_SECONDS

    def test_credentials_that_cannot_be_used_leave_it_for_later(self, caplog: pytest.LogCaptureFixture) -> None:
        stack = Stack()
        stack.sent()
        stack.sent("gw-2")
        stack.secret.break_()
        assert stack.pass_until(DAY).failed == ()
        assert len(caplog.records) == 1
        stack.secret.store("right", "v2")
        stack.gateway.otherwise = message("received")
        stack.pass_until(DAY + 300)
        assert stack.row()["status"] == "received"

    def test_what_a_callback_has_ended_meanwhile_is_not_asked_for(self) -> None:
        stack = Stack()
        stack.sent()
        stack.messages.items["gw-1"]["status"] = "received"  # a crash between two writes left it listed
        stack.clock.advance(1)
        stack.sent("gw-2")
        stack.gateway.otherwise = message("received")
        assert gauges(stack.pass_until(DAY + 1)) == {}
        assert stack.asked == ["gw-2"]


class TestARun:
    def everything(self, stack: Stack) -> None:
        """Make an item of each kind, all due after twelve days."""
        stack.claim("sending")
        stack.ledger.unknown(stack.claim("unknown"), "timed_out", now=NOW)
        stack.ledger.not_sent(stack.claim("retry"), "throttled", now=NOW)
        stack.ledger.accepted(stack.claim("no-id"), None, now=NOW)
        stack.sent("gw-status")
        stack.messages.record_status(StatusCallback("gw-message", "sent", None, "unknown-reference"), now=NOW)
        stack.messages.await_message("gw-message", now=NOW)

    def test_counts_everything_undecided(self) -> None:
        stack = Stack()
        self.everything(stack)
        report = stack.run()
        assert report.counts == {
            "MessagesSending": 1,
            "MessagesUnknown": 1,
            "MessagesRetrying": 1,
            "MessagesAwaitingId": 1,
            "MessagesAwaitingStatus": 1,
            "CallbacksAwaitingMessage": 1,
        }
        assert dict(report.measurements)[Metric.MESSAGES_UNKNOWN] == 1.0

    def test_in_the_end_nothing_is_undecided(self) -> None:
        stack = Stack()
        self.everything(stack)
        for day in range(1, 25):
            stack.pass_until(day * DAY)
        assert set(stack.run().counts.values()) == {0}

    @pytest.mark.parametrize(
        "broken",
        [
            "ledger.due",
            "ledger.unknown",
            "ledger.give_up",
            "messages.due",
            "messages.record_status",
            "messages.look_again",
        ],
    )
    def test_a_failing_step_is_named_and_the_others_are_done(self, broken: str) -> None:
        stack = Stack()
        self.everything(stack)
        stack.gateway.otherwise = message("submitted")

        def failing(step: str, moment: Moment) -> None:
            if (step, moment) == (broken, "before"):
                raise THROTTLED

        stack.ledger.hook = stack.messages.hook = failing
        report = stack.pass_until(12 * DAY)
        assert report.failed
        assert "gauges" not in report.failed
        stack.ledger.hook = stack.messages.hook = no_hook
        for day in range(13, 40):
            assert stack.pass_until(day * DAY).failed == ()
        assert set(stack.run().counts.values()) == {0}

    def test_one_item_that_always_fails_does_not_keep_the_others(self) -> None:
        stack = Stack()
        for number in range(3):
            stack.sent(f"gw-{number}")
        stack.gateway.otherwise = message("received")
        record_status, poison = stack.messages.record_status, "gw-0"

        def failing(callback: StatusCallback, *, now: float) -> StatusResult:
            if callback.gateway_id == poison:
                raise THROTTLED
            return record_status(callback, now=now)

        stack.messages.record_status = failing  # type: ignore[method-assign]
        report = stack.pass_until(DAY)
        assert report.failed == ("statuses",)
        assert gauges(report) == {"MessagesAwaitingStatus": 1}
        assert Metric.ITEMS_SET_ASIDE not in dict(report.measurements)  # the next run tries it again

    def test_an_item_that_cannot_even_be_set_aside_stops_no_run(self) -> None:
        stack = Stack()
        stack.claim()
        stack.ledger.items["message-1"]["history"] = "edited"
        stack.sent()

        def failing(step: str, moment: Moment) -> None:
            if (step, moment) == ("ledger.look_again", "before"):
                raise THROTTLED

        stack.ledger.hook = failing
        report = stack.pass_until(DAY)
        assert (report.failed, stack.asked) == (("leases",), ["gw-1"])

    def test_without_time_nothing_is_begun_and_nothing_is_lost(self) -> None:
        stack = Stack()
        self.everything(stack)
        stack.clock.advance(12 * DAY)
        assert counted(stack.run(remaining=5)) == {}
        assert counted(stack.run())["OutcomesUnresolved"] == 3

    def test_logs_no_number_and_no_text(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        stack = Stack()
        self.everything(stack)
        stack.gateway.otherwise = message("submitted", id=HANDSET)
        for day in range(1, 25):
            stack.pass_until(day * DAY)
        logged = json.dumps([record.__dict__ for record in caplog.records], default=str)
        assert len(caplog.records) > 5
        assert HANDSET not in logged
        assert CONTENT not in logged
