"""One dead letter at a time: shown whole, sent again, deleted because it is moot, or posted again as a callback."""

from __future__ import annotations

import base64
import json
from typing import Any
from unittest.mock import Mock

import pytest

from cli.dead_letter_queue import DeadLetterQueue
from optus_sms.aws.queues import DeadLetter, DeadLetterReason, Queues
from optus_sms.flows.receive_callback import KEPT
from optus_sms.gateway.transport import Exchange
from optus_sms.records.items import State
from tests.support.aws import REGION
from tests.support.builders import CONTENT, HANDSET, NOW, message_body
from tests.support.cli import Ran, optus_sms
from tests.support.deployed import STACK, DeployedStack

TARGET = ("--stack", STACK, "--region", REGION)


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Answer each question with yes, and return the questions."""
    for module in ("cli.context", "cli.commands.resolve"):
        monkeypatch.setattr(f"{module}.sys", Mock(**{"stdin.isatty.return_value": True}))
    confirm = Mock(return_value=True)
    monkeypatch.setattr("cli.context.click.confirm", confirm)
    return confirm


def put(stack: DeployedStack, dead_letter: DeadLetter, now: float = NOW) -> None:
    Queues(stack.sqs, dead_letter_queue_url=stack.outputs["DeadLetterQueueUrl"]).dead_letter(dead_letter, now=now)


class TestList:
    def test_is_newest_first_with_times(self, stack: DeployedStack) -> None:
        for minute, key in ((1, "b"), (3, "a"), (2, "c")):
            body = message_body(message_id=key)
            letter = DeadLetter(body, DeadLetterReason.INVALID if key == "c" else DeadLetterReason.REJECTED, "why", key)
            put(stack, letter, NOW + 60 * minute)
        listed = optus_sms("dead-letters", "--json", *TARGET).document
        assert [each["message_id"] for each in listed] == ["a", "c", "b"]
        assert listed[0]["since"] == "2026-01-01T00:03:00.000Z"
        assert all(each["queued_at"] for each in listed)
        rows = optus_sms("dead-letters", *TARGET).stdout.splitlines()
        assert rows[4].startswith("2026-01-01T00:03:00.000Z  rejected")
        only = optus_sms("dead-letters", "--reason", "rejected", "--json", *TARGET).document
        assert [each["message_id"] for each in only] == ["a", "b"]

    def test_one_is_shown_whole_by_either_id(self, stack: DeployedStack) -> None:
        body, detail = message_body(message_id="k"), f"“{CONTENT}” is bad, " + "x" * 200
        put(stack, DeadLetter(body, DeadLetterReason.REJECTED, detail, "k"))
        stack.letter(message_body(message_id="other"), DeadLetterReason.REJECTED, "other")
        (found,) = optus_sms("dead-letters", "--body", "k", "--json", *TARGET).document
        assert (found["body"], found["detail"], found["destination"]) == (body, detail, HANDSET)
        shown = optus_sms("dead-letters", "--body", found["sqs_id"], *TARGET).stdout
        assert all(whole in shown for whole in (body, detail, HANDSET, "2026-01-01T00:00:00.000Z"))
        assert "other" not in shown
        assert stack.dead() == 2

    def test_one_that_is_not_there_is_not_found(self, stack: DeployedStack) -> None:
        stack.letter(message_body(message_id="k"), DeadLetterReason.REJECTED, "k")
        ran = optus_sms("dead-letters", "--body", "nobody\x1b[2J", *TARGET)
        assert (ran.exit_code, "\x1b" in ran.stderr) == (4, False)

    def test_a_body_drives_no_terminal(self, stack: DeployedStack) -> None:
        stack.letter("not JSON \x9b2J\u202e", DeadLetterReason.INVALID, "k")
        shown = optus_sms("dead-letters", "--body", "k", *TARGET).stdout
        assert not set(shown) & set("\x9b\u202e")
        assert (
            optus_sms("dead-letters", "--body", "k", "--json", *TARGET).document[0]["body"] == "not JSON \x9b2J\u202e"
        )


class TestDelete:
    def test_deletes_the_one_that_is_named_and_sends_nothing(self, stack: DeployedStack) -> None:
        stack.letter(message_body(message_id="k"), DeadLetterReason.REJECTED, "k")
        stack.letter(message_body(message_id="other"), DeadLetterReason.REJECTED, "other")
        ran = optus_sms("dead-letters", "--delete", "k", "--yes", "--json", *TARGET)
        assert len(ran.document["deleted"]) == 1
        assert [each["message_id"] for each in optus_sms("dead-letters", "--json", *TARGET).document] == ["other"]
        assert stack.queued() == []

    def test_asks_first_and_says_if_there_is_none(self, stack: DeployedStack) -> None:
        stack.letter(message_body(message_id="k"), DeadLetterReason.REJECTED, "k")
        assert optus_sms("dead-letters", "--delete", "k", *TARGET).exit_code == 2
        assert stack.dead() == 1
        assert optus_sms("dead-letters", "--delete", "none", "--yes", *TARGET).exit_code == 4
        assert optus_sms("dead-letters", "--delete", "k", "--reason", "rejected", *TARGET).exit_code == 2


class TestRedriveOne:
    def test_sends_it_under_its_key_and_nothing_else(self, stack: DeployedStack) -> None:
        bodies = {}
        for key in ("k", "other"):
            bodies[key] = stack.bring(State.REJECTED, key, reason="attempts_exhausted")
            stack.letter(bodies[key], DeadLetterReason.ATTEMPTS_EXHAUSTED, key)
        stack.letter(bodies["k"], DeadLetterReason.ATTEMPTS_EXHAUSTED, "k")
        ran = optus_sms("redrive", "k", "--yes", "--json", *TARGET)
        assert [step["result"] for step in ran.document["steps"]] == ["queued", "another copy deleted"]
        assert (stack.queued(), stack.dead()) == ([(bodies["k"], "k")], 1)

    def test_also_what_the_gateway_refused_because_it_was_asked_for(
        self, stack: DeployedStack, on_a_terminal: Mock
    ) -> None:
        body = stack.bring(State.REJECTED, "k")
        stack.letter(body, DeadLetterReason.REJECTED, "k")
        assert optus_sms("redrive", "k", *TARGET).exit_code == 0
        question = on_a_terminal.call_args.args[0]
        assert all(fact in question for fact in ("k", "…006", "rejected", "will again unless the cause is corrected"))
        assert HANDSET not in question
        assert (stack.queued(), stack.dead()) == ([(body, "k")], 0)

    def test_what_sqs_moved_is_named_by_its_sqs_id(self, stack: DeployedStack) -> None:
        body = message_body(message_id=None)
        sqs_id = stack.moved_by_sqs(body)
        assert optus_sms("redrive", sqs_id, "--yes", *TARGET).exit_code == 0
        assert stack.queued() == [(body, sqs_id)]

    @pytest.mark.parametrize(
        ("state", "command"),
        [(State.RETRY, ("redrive", "k", "--yes")), (State.UNKNOWN, ("resolve", "k", "--not-sent"))],
    )
    def test_the_copy_keeps_its_team_for_the_fair_queue(
        self, stack: DeployedStack, state: State, command: tuple[str, ...]
    ) -> None:
        body, url = stack.bring(state, "k"), stack.outputs["DeadLetterQueueUrl"]
        stack.sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="bookings")
        assert optus_sms(*command, *TARGET).exit_code == 0
        (copy,) = stack.received("OutboundQueueUrl")
        assert (copy["Body"], copy["Attributes"]["MessageGroupId"]) == (body, "bookings")

    @pytest.mark.parametrize(
        ("state", "why"),
        [(State.UNKNOWN, "resolve it"), (State.ACCEPTED, "accepted it"), (State.SENDING, "it is being sent")],
    )
    def test_refuses_what_may_have_been_sent_and_says_why(self, stack: DeployedStack, state: State, why: str) -> None:
        stack.letter(stack.bring(state, "k"), DeadLetterReason.UNKNOWN_OUTCOME, "k")
        ran = optus_sms("redrive", "k", "--yes", *TARGET)
        assert (ran.exit_code, why in ran.stderr) == (9, True)
        assert (stack.queued(), stack.dead()) == ([], 1)

    def test_what_changed_while_it_asked_is_judged_again(self, stack: DeployedStack, on_a_terminal: Mock) -> None:
        body = stack.bring(State.RETRY, "k")
        stack.letter(body, DeadLetterReason.ATTEMPTS_EXHAUSTED, "k")

        def accepted_meanwhile(*_: object, **__: object) -> bool:
            record = stack.record("k")
            assert record is not None
            stack.ledger.accepted(record, "gw-1", now=NOW)
            return True

        on_a_terminal.side_effect = accepted_meanwhile
        ran = optus_sms("redrive", "k", "--json", *TARGET)
        assert [step["result"] for step in ran.document["steps"]] == ["sent meanwhile"]
        assert (stack.queued(), stack.dead()) == ([], 0)

    def test_of_two_with_one_key_and_other_fields_neither_is_chosen(self, stack: DeployedStack) -> None:
        for content in ("One", "Two"):
            stack.letter(message_body(message_id="k", content=content), DeadLetterReason.INVALID, "k")
        ran = optus_sms("redrive", "k", "--yes", *TARGET)
        assert (ran.exit_code, "--plan" in ran.stderr) == (2, True)
        assert (stack.queued(), stack.dead()) == ([], 2)

    def test_one_that_is_not_there_is_not_found(self, stack: DeployedStack) -> None:
        assert optus_sms("redrive", "nobody", "--yes", *TARGET).exit_code == 4

    def test_without_yes_and_without_a_terminal_nothing_is_done(self, stack: DeployedStack) -> None:
        stack.letter(stack.bring(State.REJECTED, "k"), DeadLetterReason.REJECTED, "k")
        assert optus_sms("redrive", "k", *TARGET).exit_code == 2
        assert (stack.queued(), stack.dead()) == ([], 1)

    @pytest.mark.parametrize(
        "options", [(), ("k", "--plan", "p"), ("k", "--apply", "p"), ("--plan", "p", "--apply", "p")]
    )
    def test_options_that_make_no_sense_are_refused(self, stack: DeployedStack, options: tuple[str, ...]) -> None:
        assert optus_sms("redrive", *options, *TARGET).exit_code == 2

    def test_ended_between_copy_and_delete_the_same_command_queues_the_same_key(
        self, stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = stack.bring(State.REJECTED, "k", reason="attempts_exhausted")
        stack.letter(body, DeadLetterReason.ATTEMPTS_EXHAUSTED, "k")
        with monkeypatch.context() as patch:
            patch.setattr(DeadLetterQueue, "delete", Mock(side_effect=KeyboardInterrupt))
            assert optus_sms("redrive", "k", "--yes", *TARGET).exit_code == 130
        assert optus_sms("redrive", "k", "--yes", *TARGET).exit_code == 0
        assert stack.queued() == [(body, "k"), (body, "k")], "the ledger lets one through"
        assert stack.dead() == 0


class TestMoot:
    """The dead letter of a message that was resolved as sent."""

    def unknown(self, stack: DeployedStack, *keys: str) -> None:
        for key in keys:
            stack.letter(stack.bring(State.UNKNOWN, key), DeadLetterReason.UNKNOWN_OUTCOME, key)

    def test_is_deleted_on_a_yes(self, stack: DeployedStack, on_a_terminal: Mock) -> None:
        self.unknown(stack, "k", "other")
        other = message_body(message_id="k", content="Other fields")
        stack.letter(other, DeadLetterReason.CONFLICT, "k")
        assert optus_sms("resolve", "k", "--sent", *TARGET).exit_code == 0
        assert "1 dead letter" in on_a_terminal.call_args.args[0]
        left = optus_sms("dead-letters", "--json", *TARGET).document
        assert sorted((each["message_id"], each["reason"]) for each in left) == [
            ("k", "conflict"), ("other", "unknown_outcome"),
        ]  # fmt: skip

    def test_stays_on_a_no(self, stack: DeployedStack, on_a_terminal: Mock) -> None:
        self.unknown(stack, "k")
        on_a_terminal.return_value = False
        assert optus_sms("resolve", "k", "--sent", *TARGET).exit_code == 0
        assert stack.dead() == 1

    def test_stays_where_nobody_can_be_asked_and_that_is_said(self, stack: DeployedStack) -> None:
        self.unknown(stack, "k")
        ran = optus_sms("resolve", "k", "--sent", *TARGET)
        assert (ran.exit_code, "--yes" in ran.stderr, stack.dead()) == (0, True, 1)

    def test_is_deleted_with_yes_for_many(self, stack: DeployedStack) -> None:
        self.unknown(stack, "a", "b")
        ran = optus_sms("resolve", "--since", "1h", "--sent", "--yes", *TARGET)
        assert (ran.exit_code, "2 dead letters deleted" in ran.stdout, stack.dead()) == (0, True, 0)

    def test_of_what_was_not_resolved_stays(self, stack: DeployedStack) -> None:
        stack.letter(stack.bring(State.RETRY, "k"), DeadLetterReason.ATTEMPTS_EXHAUSTED, "k")
        assert optus_sms("resolve", "k", "--sent", "--yes", *TARGET).exit_code == 9
        assert stack.dead() == 1


class Receiver:
    """The stack's callback URL: its responses, and the posted requests."""

    def __init__(self, *responses: Exchange) -> None:
        self.responses = list(responses)
        self.posts: list[tuple[str, bytes, dict[str, str]]] = []

    def exchange(self, method: str, url: str, *, headers: dict[str, str], body: bytes, seconds: float) -> Exchange:
        assert (method, seconds > 0) == ("POST", True)
        self.posts.append((url, body, headers))
        return self.responses.pop(0) if self.responses else stored()

    def close(self) -> None:
        """Do nothing, because nothing is open."""


def stored(message: str = "Stored", status: int = 200) -> Exchange:
    return Exchange(True, status, f'{{"message": "{message}"}}'.encode())


class TestReplayCallbacks:
    """``READABLE``: callbacks that this version can read, and an earlier one could not."""

    READABLE = b'{"id": "gw-1", "status": "received"}'

    @pytest.fixture
    def receiver(self, monkeypatch: pytest.MonkeyPatch) -> Receiver:
        receiver = Receiver()
        monkeypatch.setattr("cli.callback_replay.Transport", lambda: receiver)
        return receiver

    def keep(self, stack: DeployedStack, body: bytes, now: float = NOW, **fields: Any) -> None:
        put(stack, DeadLetter(body, DeadLetterReason.UNREADABLE_CALLBACK, "why", "-", **fields), now)

    def run(self) -> Ran:
        return optus_sms("replay-callbacks", "--yes", "--json", *TARGET)

    def results(self, ran: Ran) -> list[str]:
        return [one["result"] for one in ran.document]

    def test_each_goes_to_its_url_as_it_came_and_leaves_the_queue(
        self, stack: DeployedStack, receiver: Receiver
    ) -> None:
        reply = '{"id": "r-1", "content": "J’arrive"}'.encode("cp1252")
        self.keep(stack, reply, NOW + 60, route="/callbacks/reply", charset="windows-1252")
        self.keep(stack, self.READABLE, route="/callbacks/status")
        stack.letter(message_body(message_id="k"), DeadLetterReason.REJECTED, "k")
        ran = self.run()
        assert (ran.exit_code, self.results(ran), stack.dead()) == (0, ["stored", "stored"], 1)
        (first, first_body, headers), (second, second_body, second_headers) = receiver.posts
        assert first == "https://callbacks.invalid/v1/callbacks/status"
        assert second == "https://callbacks.invalid/v1/callbacks/reply"
        assert (first_body, second_body) == (self.READABLE, reply)
        assert headers["Authorization"] == "Basic " + base64.b64encode(b"gateway:first-password").decode()
        assert second_headers["Content-Type"] == "application/json; charset=windows-1252"
        assert "first-password" not in ran.stdout + ran.stderr

    def test_an_array_that_was_too_long_goes_in_pieces(self, stack: DeployedStack, receiver: Receiver) -> None:
        callbacks = [{"id": f"gw-{number}", "status": "sent", "detail": "é"} for number in range(45)]
        self.keep(stack, json.dumps(callbacks).encode("utf-16"), charset="utf-16")
        receiver.responses = [stored(), stored(KEPT), stored()]
        assert self.results(self.run()) == ["kept again"]
        assert len(receiver.posts) == 3
        assert [each for _, body, _ in receiver.posts for each in json.loads(body)] == callbacks
        assert {headers["Content-Type"] for *_, headers in receiver.posts} == {"application/json"}
        assert stack.dead() == 0

    def test_of_an_array_in_pieces_nothing_is_deleted_before_all_are_stored(
        self, stack: DeployedStack, receiver: Receiver
    ) -> None:
        self.keep(stack, json.dumps([{"id": f"gw-{number}", "status": "sent"} for number in range(45)]).encode())
        receiver.responses = [stored(KEPT), stored(status=503)]
        assert self.results(self.run()) == ["not posted"]
        assert (len(receiver.posts), stack.dead()) == (2, 1)

    def test_what_this_version_can_not_read_stays_as_it_is(self, stack: DeployedStack, receiver: Receiver) -> None:
        for body in (b"not JSON", b"", b"[1]", b"\xff\xfe\x00"):
            self.keep(stack, body)
        ran = self.run()
        assert (ran.exit_code, self.results(ran)) == (9, ["unreadable"] * 4)
        assert (receiver.posts, stack.dead()) == ([], 4)

    def test_what_the_stack_keeps_again_is_there_once(self, stack: DeployedStack, receiver: Receiver) -> None:
        receiver.responses = [stored(KEPT)]
        self.keep(stack, self.READABLE)
        ran = self.run()
        assert (ran.exit_code, self.results(ran)) == (9, ["kept again"])
        assert stack.dead() == 0, "the stack has put another one there"

    @pytest.mark.parametrize("status", [401, 403, 413, 503])
    def test_what_is_refused_stays_and_the_others_go(
        self, stack: DeployedStack, receiver: Receiver, status: int
    ) -> None:
        receiver.responses = [stored(status=status)]
        for minute in range(2):
            self.keep(stack, self.READABLE, NOW + 60 * minute)
        ran = self.run()
        assert (ran.exit_code, self.results(ran), stack.dead()) == (9, ["not posted", "stored"], 1)
        assert f"HTTP {status}" in ran.stdout

    def test_a_url_that_does_not_respond_ends_it(self, stack: DeployedStack, receiver: Receiver) -> None:
        receiver.responses = [Exchange(False, failure="timed_out")]
        for minute in range(3):
            self.keep(stack, self.READABLE, NOW + 60 * minute)
        ran = self.run()
        assert (ran.exit_code, self.results(ran), stack.dead()) == (9, ["not posted"], 3)
        assert "2 more were not posted" in ran.stderr

    def test_a_charset_that_is_none_is_in_no_header(self, stack: DeployedStack, receiver: Receiver) -> None:
        self.keep(stack, self.READABLE, charset="utf-8\r\nX-Evil:1")
        self.run()
        assert receiver.posts[0][2]["Content-Type"] == "application/json"

    def test_nothing_to_post_says_so_and_asks_nothing(self, stack: DeployedStack, receiver: Receiver) -> None:
        stack.letter(message_body(message_id="k"), DeadLetterReason.REJECTED, "k")
        ran = optus_sms("replay-callbacks", *TARGET)
        assert (ran.exit_code, ran.stdout, stack.dead()) == (0, "none\n", 1)

    def test_without_yes_and_without_a_terminal_nothing_is_posted(
        self, stack: DeployedStack, receiver: Receiver
    ) -> None:
        self.keep(stack, self.READABLE)
        ran = optus_sms("replay-callbacks", *TARGET)
        assert (ran.exit_code, receiver.posts, stack.dead()) == (2, [], 1)
