"""`find` and numbers in any form: it finds every place, and names the places that it did not search."""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import Mock

import pytest

from optus_sms.aws.queues import DeadLetterReason
from optus_sms.model.callbacks import ReplyCallback
from optus_sms.records.items import State
from optus_sms.records.messages import Messages
from tests.support.aws import REGION
from tests.support.builders import CONTENT, HANDSET, message_body, sent_message
from tests.support.cli import optus_sms
from tests.support.deployed import STACK, DeployedStack
from tests.support.health import FakeSwitch

TARGET = ("--stack", STACK, "--region", REGION)
OTHER = "+61491570156"
SPELLINGS = [
    HANDSET,
    "61491570006",
    "0491 570 006",
    "(04) 9157-0006",
    "+61 491 570 006",
    "0061 491 570 006",
    "０４９１５７０００６",
]


pytestmark = pytest.mark.usefixtures("switch")


@pytest.fixture
def messages(stack: DeployedStack) -> Messages:
    client = stack.session.client("dynamodb")
    return Messages.connect(client, stack.outputs["MessagesTableName"], retention_days=90)


def queue(stack: DeployedStack, body: str) -> None:
    stack.sqs.send_message(QueueUrl=stack.outputs["OutboundQueueUrl"], MessageBody=body)


def waiting(stack: DeployedStack) -> int:
    """Return how many messages of the queue a reader would get now."""
    return len(stack.queued())


def find(*arguments: str) -> dict[str, Any]:
    ran = optus_sms("find", *arguments, "--json", *TARGET)
    assert ran.exit_code in (0, 4)
    document: dict[str, Any] = ran.document
    assert (ran.exit_code == 0) == bool(document["found"])
    return document


def places(*arguments: str) -> set[tuple[str, str, str]]:
    return {(each["where"], each["message_id"], each["state"]) for each in find(*arguments)["found"]}


def everywhere(stack: DeployedStack, messages: Messages) -> None:
    """Put a message to the handset into each possible place, and one to another handset."""
    messages.record_sent(*sent_message("gw-sent", message_id="sent"), now=time.time())
    for state in (State.UNKNOWN, State.RETRY, State.SENDING):
        stack.bring(state, state.value.lower())
    stack.letter(stack.bring(State.REJECTED, "rejected"), DeadLetterReason.REJECTED, "rejected")
    queue(stack, message_body(message_id="waits"))
    elsewhere = message_body(message_id="elsewhere", destination=OTHER)
    stack.letter(elsewhere, DeadLetterReason.REJECTED, "elsewhere")
    queue(stack, elsewhere)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_number_in_any_form_finds_its_messages_in_every_place(
    stack: DeployedStack, messages: Messages, spelling: str
) -> None:
    everywhere(stack, messages)
    without_queue = {
        ("messages", "sent", "on its way"),
        ("ledger", "unknown", "unknown whether it was sent"),
        ("ledger", "retry", "waits for another attempt"),
        ("ledger", "sending", "being sent"),
        ("dead letters", "rejected", "rejected"),
    }
    assert places(spelling) == without_queue
    assert places(spelling, "--queue") == without_queue | {("queue", "waits", "waits")}
    assert (stack.dead(), waiting(stack)) == (2, 2), "reading takes nothing away"


def test_it_says_where_it_looked_and_where_it_did_not(stack: DeployedStack, messages: Messages) -> None:
    everywhere(stack, messages)
    found = find(HANDSET)
    looked, not_looked = "\n".join(found["looked"]), "\n".join(found["not_looked"])
    assert all(fact in looked for fact in ("for that handset: 1", "open ledger records: 3", "dead letters: 2"))
    assert all(fact in not_looked for fact in ("about 2: --queue", "closed (rejected, expired, given up)"))
    read = find(HANDSET, "--queue")
    assert "waiting messages of the queue: 2" in read["looked"]
    shown = optus_sms("find", HANDSET, *TARGET).stdout
    assert all(line in shown for line in (*found["looked"], *found["not_looked"]))


def test_what_readers_do_not_see_is_named(stack: DeployedStack) -> None:
    queue(stack, message_body(message_id="k"))
    stack.letter(message_body(message_id="k"), DeadLetterReason.REJECTED, "k")
    for output in ("OutboundQueueUrl", "DeadLetterQueueUrl"):
        stack.sqs.receive_message(QueueUrl=stack.outputs[output], VisibilityTimeout=60)
    told = "\n".join(find("k", "--queue")["not_looked"])
    assert all(fact in told for fact in ("about 1 messages of the queue", "about 1 dead letters"))


@pytest.mark.parametrize("name", ["k", "ref-1", "sqs"])
def test_a_key_or_reference_finds_what_no_table_has(stack: DeployedStack, name: str) -> None:
    body = message_body(message_id="k", reference="ref-1")
    queue(stack, body)
    sqs_id = stack.moved_by_sqs(body)
    what = sqs_id if name == "sqs" else name
    expected = {("dead letters", "k", "receives_exhausted")} | ({("queue", "k", "waits")} if name != "sqs" else set())
    assert places(what, "--queue") == expected
    assert places("nothing", "--queue") == set()


def test_a_reference_of_many_finds_each_that_is_open(stack: DeployedStack) -> None:
    now = time.time()
    for key in ("a", "b", "c"):
        stack.bring(State.UNKNOWN, key)
        record = stack.record(key)
        assert record is not None
        stack.ledger.register_reference("shared", key, ttl=int(now) + 1000)
        again = stack.ledger.claim(record._replace(owner="next", reference="shared"), now=now, after=record)
        stack.ledger.unknown(again, "timed_out", now=now)
    assert {key for _, key, _ in places("shared")} == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("body", "is_found"),
    [
        ('{"destination": "0491 570 006", "content": "x"}', True),
        ('{"to": "(04) 9157-0006"}', True),
        ("not JSON: +61 491\u2009570\u2009006", True),
        ('{"to": "61491\\u00a0570006"}', True),
        ("to=%2B61491%20570%20006", True),
        ("\x00 0491 570 006", True),
        ("\x00 0491 570 156", False),
        ('{"destination": "0491 570 156"}', False),
        ('{"a": "04915", "b": "70006"}', False),
    ],
)
def test_a_number_is_found_in_what_is_no_message(stack: DeployedStack, body: str, is_found: bool) -> None:
    stack.letter(body, DeadLetterReason.INVALID, "broken")
    assert bool(find(HANDSET)["found"]) == is_found


@pytest.mark.parametrize(("body", "is_found"), [("to 683 4002", True), ("to 683 4003", False)])
def test_a_number_shorter_than_most_is_found_too(stack: DeployedStack, body: str, is_found: bool) -> None:
    stack.letter(body, DeadLetterReason.INVALID, "broken")
    assert bool(find("+6834002")["found"]) == is_found


@pytest.mark.parametrize(("body", "is_found"), [('{"id": "gw-1"}', True), ('{"id": "gw-12"}', False), ("gw-1", True)])
def test_an_id_is_found_in_a_callback(stack: DeployedStack, body: str, is_found: bool) -> None:
    stack.letter(body, DeadLetterReason.UNREADABLE_CALLBACK, "-")
    assert bool(find("gw-1")["found"]) == is_found


def test_numbers_are_partly_hidden_unless_asked_for_and_texts_always(stack: DeployedStack, messages: Messages) -> None:
    everywhere(stack, messages)
    for options in ((), ("--json",)):
        shown = optus_sms("find", HANDSET, "--queue", *options, *TARGET).stdout
        assert (HANDSET in shown, "…006" in shown, CONTENT in shown) == (False, True, False)
        assert HANDSET in optus_sms("find", HANDSET, "--show-numbers", *options, *TARGET).stdout


def test_what_was_redriven_has_no_number_and_that_is_said(stack: DeployedStack) -> None:
    stack.bring(State.REJECTED, "k")
    record = stack.record("k")
    assert record is not None
    stack.ledger.reopen(record, by="alex", now=time.time())
    assert "because they were redriven: 1" in "\n".join(find(HANDSET)["not_looked"])
    assert places("k") == {("ledger", "k", "waits for another attempt")}


class TestQueueWhileSendingIsOn:
    def test_is_read_only_with_a_yes(self, stack: DeployedStack, switch: FakeSwitch) -> None:
        switch.on = True
        queue(stack, message_body(message_id="k"))
        ran = optus_sms("find", "k", "--queue", *TARGET)
        assert (ran.exit_code, "--yes" in ran.stderr) == (2, True)
        assert places("k", "--queue", "--yes") == {("queue", "k", "waits")}
        assert waiting(stack) == 1

    def test_an_empty_one_is_read_without(self, stack: DeployedStack, switch: FakeSwitch) -> None:
        switch.on = True
        assert optus_sms("find", "k", "--queue", *TARGET).exit_code == 4


class TestNumbersEverywhere:
    @pytest.mark.parametrize("spelling", SPELLINGS)
    def test_a_conversation(self, stack: DeployedStack, messages: Messages, spelling: str) -> None:
        messages.record_sent(*sent_message("gw-1", message_id="k"), now=time.time())
        ran = optus_sms("conversation", spelling, *TARGET)
        assert ("k: accepted" in ran.stdout, "find" in ran.stderr) == (True, True)

    @pytest.mark.parametrize("spelling", SPELLINGS)
    def test_a_send(self, stack: DeployedStack, spelling: str) -> None:
        ran = optus_sms("send", spelling, "Hello", *TARGET)
        assert (ran.exit_code, f"The destination is {HANDSET}" in ran.stderr) == (0, spelling != HANDSET)
        ((body, _),) = stack.queued()
        assert f'"destination": "{HANDSET}"' in body

    def test_a_short_code_is_looked_up_as_it_is(self, stack: DeployedStack, messages: Messages) -> None:
        reply = ReplyCallback("r-1", source="12345", content="Yes")
        messages.record_reply(reply, in_reply_to=None, exact=False, now=time.time())
        assert "Yes" in optus_sms("conversation", "12345", *TARGET).stdout

    def test_what_was_not_accepted_is_not_denied(self, stack: DeployedStack) -> None:
        stack.bring(State.UNKNOWN, "k")
        ran = optus_sms("conversation", "0491 570 006", *TARGET)
        assert (ran.exit_code, f"`find {HANDSET}`" in ran.stderr) == (4, True)
        assert places(HANDSET) == {("ledger", "k", "unknown whether it was sent")}


def test_status_of_what_is_not_in_the_tables_names_find(stack: DeployedStack) -> None:
    assert "`find" in optus_sms("status", "k", *TARGET).stderr


def test_interrupted_it_gives_back_what_it_read(stack: DeployedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(stack, message_body(message_id="k"))
    monkeypatch.setattr("cli.finding.Sought.is_letter", Mock(side_effect=KeyboardInterrupt))
    assert optus_sms("find", "k", "--queue", *TARGET).exit_code == 130
    assert waiting(stack) == 1
