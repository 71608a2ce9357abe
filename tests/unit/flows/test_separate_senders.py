"""Separate senders on one queue: none can use, end or block another's `message_id`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from optus_sms.flows.resolving import resolve_by_reference
from optus_sms.flows.send_message import QueueRecord
from optus_sms.model.sender_namespaces import reference_of
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import State
from tests.support.bench import Bench, FailAt
from tests.support.builders import NOW, message_body, queue_record, send_failed, sqs_id, unknown
from tests.support.fakes import ScriptedGateway

ORDERS, BILLING, OPERATOR = "AROAORDERS:one", "AIDABILLING", "AROAOPERATOR:alex"
OWN = "AROAORDERS/message-1"
QUEUED_AT = format_rfc3339(NOW - 60)


def bench(*script: Any, **options: Any) -> Bench:
    return Bench(gateway=ScriptedGateway(script), options={"separate_senders": True, **options})


def record(sender_id: str, name: str = "1", **changes: Any) -> QueueRecord:
    """Return a message of this sender."""
    return queue_record(message_body(**changes), name=name, sender_id=sender_id)


def redriven(message_id: str, sender_id: str = OPERATOR, **changes: Any) -> QueueRecord:
    """Return a redriven copy of a dead letter, as the command line, SQS's own redrive or a hostile sender queues it."""
    stamps: dict[str, Any] = {"message_id_attribute": message_id, "queued_at_attribute": QUEUED_AT}
    return queue_record(message_body(**changes), name="redriven", sender_id=sender_id, **stamps)


class TestKeys:
    def test_of_two_senders_never_meet(self) -> None:
        run = bench()
        run.send(record(ORDERS, "1", content="Yours"), record(BILLING, "2", content="Mine"))
        assert {key: found.state for key, found in run.ledger.records.items()} == {
            OWN: State.ACCEPTED,
            "AIDABILLING/message-1": State.ACCEPTED,
        }
        assert run.queues.dead_letters == []

    def test_of_one_role_are_one_in_all_its_sessions(self) -> None:
        run = bench()
        for number, session in enumerate(("one", "two")):
            run.send(record(f"AROAORDERS:{session}", str(number)))
        assert [*run.ledger.records] == [OWN]
        assert run.gateway.accepted.total() == 1

    def test_are_known_by_the_same_name_everywhere(self) -> None:
        run = bench(unknown(accepted=True))
        run.send(record(ORDERS))
        run.send(record(ORDERS, "2", sms_class=9))
        assert [letter.message_id for letter in run.queues.dead_letters] == [OWN, OWN]
        assert run.ledger.table.items[f"refused#{sqs_id('2')}"]["message_id"] == OWN

    def test_are_shared_unless_the_stack_separates_senders(self) -> None:
        run = bench(separate_senders=False)
        run.send(record(ORDERS, "1", content="Yours"))
        run.send(record(BILLING, "2", content="Mine"))
        assert [*run.ledger.records] == ["message-1"]
        assert [letter.reason for letter in run.queues.dead_letters] == ["conflict"]


class TestReferences:
    def test_are_made_of_the_message_id_and_resolve_its_unknown_outcome(self) -> None:
        run = bench(unknown(accepted=True))
        run.send(record(ORDERS))
        (reference,) = run.gateway.accepted
        assert (reference, run.record(OWN).effective_reference) == (reference_of(OWN), reference)
        resolution = resolve_by_reference(run.ledger, run.messages, "gw-1", reference, now=NOW)
        assert (resolution and resolution.message_id, run.state(OWN)) == (OWN, State.ACCEPTED)

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_of_one_sender_can_be_given_by_no_other(self, when: str) -> None:
        run = bench(unknown(accepted=True))
        poison = record(BILLING, "2", message_id="poison", reference=reference_of(OWN))
        for each in (poison, record(ORDERS)) if when == "before" else (record(ORDERS), poison):
            run.send(each)
        refused = [letter for letter in run.queues.dead_letters if letter.reason == "invalid"]
        assert [(letter.message_id, letter.detail.partition(":")[0]) for letter in refused] == [
            ("AIDABILLING/poison", "reference")
        ]
        assert run.ledger.with_reference(reference_of(OWN) or "") == run.record(OWN)

    def test_may_name_the_message_id_of_another_without_harm(self) -> None:
        run = bench(unknown(accepted=True))
        run.send(record(ORDERS))
        run.send(record(BILLING, "2", message_id="poison", reference=OWN))
        assert run.ledger.with_reference(reference_of(OWN) or "") == run.record(OWN)

    def test_of_a_sender_stay_as_they_were_given(self) -> None:
        run = bench()
        run.send(record(ORDERS, reference="costs-42"))
        assert run.gateway.accepted == {"costs-42": 1}


class TestRedrivenDeadLetter:
    def test_keeps_the_namespace_of_its_sender(self) -> None:
        run = bench(send_failed(), max_attempts=1)
        run.send(record(ORDERS))
        (letter,) = run.queues.dead_letters
        assert run.ledger.reopen(run.record(OWN), by="alex", now=NOW) is None
        run.send(redriven(letter.message_id))
        assert {key: found.state for key, found in run.ledger.records.items()} == {OWN: State.ACCEPTED}

    @pytest.mark.parametrize("separate_senders", [True, False])
    @pytest.mark.parametrize("key", [OWN, "message-1"])
    def test_is_never_sent_twice_though_the_setting_was_changed(self, key: str, separate_senders: bool) -> None:
        run = bench(unknown(accepted=True), separate_senders=key == OWN)
        run.send(record(ORDERS))
        run.sender = replace(run.sender, separate_senders=separate_senders)
        run.time.advance(3600)  # the circuit breaker allows it
        run.send(redriven(key))
        assert run.gateway.accepted.total() == 1
        letters = [(letter.reason.value, letter.message_id) for letter in run.queues.dead_letters]
        assert letters == [("unknown_outcome", key)] * 2

    @pytest.mark.parametrize("separate_senders", [True, False])
    @pytest.mark.parametrize("state", ["none", "refused", "other"])
    @pytest.mark.parametrize("expires_at", [None, QUEUED_AT])
    def test_that_a_sender_only_pretends_takes_no_message_id(
        self, state: str, expires_at: str | None, separate_senders: bool
    ) -> None:
        run = bench(send_failed(), max_attempts=1 if state == "refused" else 10)
        if state != "none":
            run.send(record(ORDERS))
        run.sender = replace(run.sender, separate_senders=separate_senders)
        before = run.ledger.records
        run.send(redriven(OWN, BILLING, content="Mine", expires_at=expires_at))
        assert run.ledger.records == before
        assert run.gateway.accepted.total() == 0
        letter = run.queues.dead_letters[-1]
        assert (letter.reason, letter.message_id) == ("invalid", OWN)
        assert letter.detail.startswith("SQS attribute message_id: ")
        # The listeners of the other sender get no event about its message.
        assert run.ledger.table.items[f"refused#{sqs_id('redriven')}"]["message_id"] == sqs_id("redriven")

    def test_comes_back_if_the_ledger_cannot_be_read(self) -> None:
        run = bench()

        run.hook(FailAt("ledger.read"))
        assert run.send(redriven(OWN)).failures == (sqs_id("redriven"),)
        assert run.queues.dead_letters == []
