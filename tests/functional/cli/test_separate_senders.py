"""The command line with separate senders: it uses the operator's own namespace, and a redrive keeps the sender's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli import queueing
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.model.sender_namespaces import reference_of
from optus_sms.records.items import State
from tests.support.aws import REGION
from tests.support.builders import message_body
from tests.support.cli import optus_sms
from tests.support.deployed import STACK, DeployedStack

TARGET = ("--stack", STACK, "--region", REGION)
MOVED = "AIDAIT2UOQQY3AUEKVGXU"  # the SenderId that moto gives to every message
OTHERS = "AROAORDERS/order-17"
PLAN = Path("plan.json")


@pytest.fixture
def separate_senders() -> bool:
    return True


@pytest.fixture
def own(stack: DeployedStack) -> str:
    """Return the namespace of these credentials."""
    return stack.session.client("sts").get_caller_identity()["UserId"]


def test_send_queues_the_key_and_names_the_message_id(stack: DeployedStack, own: str) -> None:
    ran = optus_sms("send", "+61491570006", "Hello", "--message-id", "mine", "--json", *TARGET)
    assert ran.document["message_id"] == f"{own}/mine"
    ((body, attribute),) = stack.queued()
    assert (json.loads(body)["message_id"], attribute) == ("mine", "")


def test_a_message_of_ones_own_is_found_by_its_key(stack: DeployedStack, own: str) -> None:
    stack.bring(State.ACCEPTED, f"{own}/mine", body=message_body(message_id="mine"))
    for id_ in ("mine", f"{own}/mine"):
        assert optus_sms("explain", id_, "--json", *TARGET).document[0]["message_id"] == f"{own}/mine"


def test_a_message_of_another_is_found_by_its_whole_id(stack: DeployedStack) -> None:
    stack.bring(State.UNKNOWN, OTHERS, body=message_body(message_id="order-17"))
    ran = optus_sms("explain", "order-17", *TARGET)
    assert (ran.exit_code, "SeparateSenders" in ran.stderr) == (4, True)
    assert optus_sms("explain", OTHERS, "--json", *TARGET).document[0]["message_id"] == OTHERS


def test_a_file_that_was_killed_goes_on_by_the_ledger(
    stack: DeployedStack, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Path("lines.jsonl")
    lines.write_text(message_body(message_id="mine") + "\n")

    def dying(*_: object) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(queueing, "_queue_batch", dying)
        optus_sms("send", "--file", lines, *TARGET)
    stack.bring(State.ACCEPTED, f"{own}/mine", body=message_body(message_id="mine"))
    done = optus_sms("send", "--file", lines, "--json", *TARGET).document
    assert (done["held"], done["queued"], done["earlier"]) == (0, 0, 1)


@pytest.mark.usefixtures("switch")
def test_find_finds_a_key_whichever_sender_has_it(stack: DeployedStack) -> None:
    body = stack.bring(State.UNKNOWN, OTHERS, body=message_body(message_id="order-17"))
    stack.letter(body, DeadLetterReason.UNKNOWN_OUTCOME, OTHERS, queued_at=1_767_225_600.0)
    billing = "AIDABILLING/order-17"
    stack.letter(message_body(message_id="order-17"), DeadLetterReason.INVALID, billing, queued_at=1.0)
    stack.sqs.send_message(QueueUrl=stack.outputs["OutboundQueueUrl"], MessageBody=body)
    found = optus_sms("find", "order-17", "--queue", "--json", *TARGET).document["found"]
    assert {(each["where"], each["message_id"]) for each in found} == {
        ("ledger", OTHERS), ("dead letters", OTHERS), ("dead letters", billing), ("queue", f"{MOVED}/order-17"),
    }  # fmt: skip


def test_a_dead_letter_of_ones_own_is_shown_and_redriven_by_its_key(stack: DeployedStack, own: str) -> None:
    letters = {}
    for message_id in (f"{own}/order-17", OTHERS):
        letters[message_id] = stack.bring(State.RETRY, message_id, body=message_body(message_id="order-17"))
        stack.letter(letters[message_id], DeadLetterReason.ATTEMPTS_EXHAUSTED, message_id, queued_at=1_767_225_600.0)
    (shown,) = optus_sms("dead-letters", "--body", "order-17", "--json", *TARGET).document
    assert shown["message_id"] == f"{own}/order-17"
    assert optus_sms("redrive", "order-17", "--yes", *TARGET).exit_code == 0
    assert stack.queued() == [(letters[f"{own}/order-17"], f"{own}/order-17")]


@pytest.mark.parametrize("command", [("redrive", "--yes"), ("dead-letters", "--body")])
def test_a_dead_letter_of_another_needs_its_whole_id_and_that_is_said(
    stack: DeployedStack, command: tuple[str, str]
) -> None:
    body = stack.bring(State.RETRY, OTHERS, body=message_body(message_id="order-17"))
    stack.letter(body, DeadLetterReason.ATTEMPTS_EXHAUSTED, OTHERS, queued_at=1_767_225_600.0)
    ran = optus_sms(*command, "order-17", *TARGET)
    assert (ran.exit_code, "SeparateSenders" in ran.stderr, "`find order-17`" in ran.stderr) == (4, True, True)
    assert (stack.queued(), stack.dead()) == ([], 1)


def test_a_redrive_keeps_the_namespace(stack: DeployedStack) -> None:
    body = stack.bring(State.REJECTED, OTHERS, body=message_body(message_id="order-17"), reason="attempts_exhausted")
    stack.letter(body, DeadLetterReason.ATTEMPTS_EXHAUSTED, OTHERS, queued_at=1_767_225_600.0)
    optus_sms("redrive", "--plan", PLAN, *TARGET)
    assert optus_sms("redrive", "--apply", PLAN, "--yes", *TARGET).exit_code == 0
    ((queued, attributes),) = stack.queued_with_attributes()
    assert (queued, attributes) == (body, {"message_id": OTHERS, "queued_at": "2026-01-01T00:00:00.000Z"})


def test_a_message_resolved_as_not_sent_keeps_the_namespace(stack: DeployedStack) -> None:
    body = stack.bring(State.UNKNOWN, OTHERS, body=message_body(message_id="order-17"))
    stack.letter(body, DeadLetterReason.UNKNOWN_OUTCOME, OTHERS, queued_at=1_767_225_600.0)
    assert optus_sms("resolve", OTHERS, "--not-sent", *TARGET).exit_code == 0
    assert stack.queued() == [(body, OTHERS)]


@pytest.mark.parametrize("way", ["mine", "whole", "file"])
def test_a_recall_of_ones_own_key_keeps_the_namespace(stack: DeployedStack, own: str, way: str) -> None:
    whole = f"{own}/mine"
    Path("lines.jsonl").write_text(message_body(message_id="mine") + "\n")
    stack.bring(State.RETRY, whole, body=message_body(message_id="mine"))
    arguments = {"mine": ["mine"], "whole": [whole], "file": ["--file", "lines.jsonl"]}[way]
    ran = optus_sms("recall", *arguments, "--yes", *TARGET)
    assert (ran.exit_code, own in ran.stderr) == (0, way == "file"), "whose keys a file has is said"
    assert [getattr(stack.record(key), "state", None) for key in (whole, "mine")] == [State.RECALLED, None]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_recall_names_a_message_of_another_by_its_whole_id(stack: DeployedStack, is_known: bool) -> None:
    if is_known:
        stack.bring(State.RETRY, OTHERS, body=message_body(message_id="order-17"))
    assert optus_sms("recall", OTHERS, "--yes", *TARGET).exit_code == 0
    record = stack.record(OTHERS)
    assert record is not None
    assert record.state is State.RECALLED


@pytest.mark.usefixtures("switch")
@pytest.mark.parametrize("which", [("--since", "1h"), ("--reference", reference_of(f"{MOVED}/k"))])
def test_a_recall_of_what_waits_keeps_the_namespace_of_its_sender(stack: DeployedStack, which: tuple[str, str]) -> None:
    stack.sqs.send_message(QueueUrl=stack.outputs["OutboundQueueUrl"], MessageBody=message_body(message_id="k"))
    assert optus_sms("recall", *which, "--yes", *TARGET).exit_code == 0
    states = [getattr(stack.record(key), "state", None) for key in (f"{MOVED}/k", "k")]
    assert (states, stack.queued()) == ([State.RECALLED, None], [])


def test_what_no_ledger_record_proves_to_be_of_a_sender_is_not_redriven(stack: DeployedStack) -> None:
    stack.letter(message_body(message_id="order-17"), DeadLetterReason.INVALID, OTHERS, queued_at=1_767_225_600.0)
    stack.moved_by_sqs(message_body(message_id="crashed"))
    stack.moved_by_sqs(message_body(message_id="waiting"))
    stack.bring(State.RETRY, f"{MOVED}/waiting", body=message_body(message_id="waiting"))
    optus_sms("redrive", "--plan", PLAN, *TARGET)
    plan = json.loads(PLAN.read_text())
    assert {(item["message_id"], item["kind"], item["action"]) for item in plan["items"]} == {
        (OTHERS, "unknown", "keep"),
        (f"{MOVED}/crashed", "unknown", "keep"),
        (f"{MOVED}/waiting", "safe", "send"),
    }
    for item in plan["items"]:
        item["action"] = "send"
    PLAN.write_text(json.dumps(plan))
    assert optus_sms("redrive", "--apply", PLAN, "--yes", *TARGET).exit_code == 9
    assert [attribute for _, attribute in stack.queued()] == [f"{MOVED}/waiting"]
