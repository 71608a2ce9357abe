"""`recall`: unsent messages are never sent, sent ones are listed as sent, and no message is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ReadTimeoutError

from cli import queueing
from optus_sms.model.queue_message import parse_message
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.ledger import Ledger
from tests.support.aws import REGION
from tests.support.builders import message_body, wanted
from tests.support.cli import Ran, optus_sms
from tests.support.deployed import STACK, DeployedStack
from tests.support.health import FakeSwitch

TARGET = ("--stack", STACK, "--region", REGION)
FILE, JOURNAL = Path("messages.jsonl"), Path("messages.jsonl.journal")

pytestmark = pytest.mark.usefixtures("switch")


def recall(*arguments: object) -> Ran:
    return optus_sms("recall", *arguments, "--yes", "--json", *TARGET)


def results(ran: Ran) -> dict[str, str]:
    return {message["message_id"]: message["result"] for message in ran.document["messages"]}


def queue(stack: DeployedStack, body: str, **attributes: str) -> str:
    """Queue a message; return its SQS message ID."""
    return stack.sqs.send_message(
        QueueUrl=stack.outputs["OutboundQueueUrl"],
        MessageBody=body,
        MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()},
    )["MessageId"]


def raising(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises this."""

    def ending(*_: object) -> Any:
        raise error

    return ending


def state(stack: DeployedStack, key: str) -> State | None:
    record = stack.record(key)
    return record.state if record else None


def claimable(stack: DeployedStack, key: str, body: str) -> bool:
    """Return whether a delivery would send this message."""
    of = wanted(key, payload_sha256=parse_message(body, now=time.time()).payload_sha256)
    claim = of._replace(owner="a later delivery", lease_until=int(time.time()) + 90)
    return stack.ledger.claim(claim, now=time.time()).is_held_by("a later delivery")


def test_each_state_is_recalled_or_listed_and_a_repeat_says_so(stack: DeployedStack) -> None:
    for each in set(State) - {State.RECALLED}:
        stack.bring(each, each.value)
    before = {each: stack.record(each.value) for each in State}

    ran = recall("absent", *(each.value for each in State if each is not State.RECALLED))

    assert results(ran) == {
        "absent": "recalled",
        "RETRY": "recalled",
        "ACCEPTED": "sent already",
        "SENDING": "may have been sent",
        "UNKNOWN": "may have been sent",
        "REJECTED": "not sent",
        "EXPIRED": "not sent",
    }
    assert (ran.exit_code, state(stack, "absent"), state(stack, "RETRY")) == (9, State.RECALLED, State.RECALLED)
    for each in set(State) - {State.RETRY, State.RECALLED}:
        assert stack.record(each.value) == before[each]
    assert stack.dead() == 0
    again = recall("absent", "RETRY")
    assert (again.exit_code, set(results(again).values())) == (0, {"recalled before"})


def test_what_it_shows_of_a_recalled_message(stack: DeployedStack) -> None:
    stack.bring(State.RETRY, "k")
    assert recall("k").exit_code == 0
    status = optus_sms("status", "k", *TARGET)
    assert (status.exit_code, "recalled before it was sent" in status.stdout) == (6, True)
    explained = optus_sms("explain", "k", *TARGET).stdout
    assert "recalled it, so that no attempt follows" in explained
    assert "new message_id" in explained


def test_no_later_delivery_or_redrive_sends_it(stack: DeployedStack) -> None:
    body = message_body(message_id="k")
    stack.moved_by_sqs(body)
    recall("k")
    assert not claimable(stack, "k", body)
    assert not claimable(stack, "k", message_body(message_id="k", content="Other fields"))
    plan = Path("plan.json")
    optus_sms("redrive", "--plan", plan, *TARGET)
    (item,) = json.loads(plan.read_text())["items"]
    assert (item["kind"], item["action"]) == ("recalled", "keep")
    plan.write_text(plan.read_text().replace('"action": "keep"', '"action": "send"'))
    assert optus_sms("redrive", "--apply", plan, "--yes", *TARGET).exit_code == 9
    assert stack.queued() == []


def test_after_an_unknown_outcome_no_attempt_follows_and_that_is_said(stack: DeployedStack) -> None:
    stack.bring(State.UNKNOWN, "k")
    record = stack.record("k")
    assert record is not None
    stack.ledger.resolve_not_sent(record, by="alex", now=time.time())
    again = wanted("k")._replace(payload_sha256=record.payload_sha256, owner="b", lease_until=int(time.time()) + 90)
    stack.ledger.unknown(stack.ledger.claim(again, now=time.time()), "timed_out", now=time.time())
    record = stack.record("k")
    assert record is not None
    resend = again._replace(owner="c")
    stack.ledger.not_sent(stack.ledger.claim(resend, now=time.time(), after=record), "throttled", now=time.time())

    (message,) = recall("k").document["messages"]

    assert (message["result"], "earlier one may have been sent" in message["why"]) == ("recalled", True)
    assert "resolve k --sent" in optus_sms("explain", "k", *TARGET).stdout
    assert "it was recalled" in optus_sms("resolve", "k", "--not-sent", *TARGET).stdout
    assert state(stack, "k") is State.RECALLED
    assert optus_sms("resolve", "k", "--sent", *TARGET).exit_code == 0


@pytest.mark.parametrize("options", [("--since", "1h"), ("--reference", "run-7"), ("k-1", "k-2")])
def test_a_dry_run_changes_nothing(stack: DeployedStack, options: tuple[str, ...]) -> None:
    for key in ("k-1", "k-2"):
        queue(stack, message_body(message_id=key, reference="run-7"))
    ran = optus_sms("recall", *options, "--dry-run", "--json", *TARGET)
    assert (ran.document["counts"], ran.exit_code) == ({"recalled": 2}, 0)
    assert (state(stack, "k-1"), len(stack.queued())) == (None, 2)


@pytest.mark.parametrize(
    "options",
    [(), ("k", "--since", "1h"), ("k", "--file", FILE), ("--until", "1h"), ("--journal", JOURNAL), ("k", "--scan"),
     ("not a key",)],
)  # fmt: skip
def test_options_that_make_no_sense_do_nothing(stack: DeployedStack, options: tuple[object, ...]) -> None:
    assert recall(*options).exit_code == 2
    assert state(stack, "k") is None


def test_it_asks_and_reads_only_a_paused_queue(stack: DeployedStack, switch: FakeSwitch) -> None:
    ran = optus_sms("recall", "k", *TARGET)
    assert (ran.exit_code, "--yes" in ran.stderr, state(stack, "k")) == (2, True, None)
    for is_on in (True, None):
        switch.on = is_on
        ran = recall("--since", "1h")
        assert (ran.exit_code, "pause" in ran.stderr) == (2, True)


class TestFile:
    def test_what_was_queued_is_recalled_and_the_rest_is_as_it_was(
        self, stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`send` is ended after its first batch."""
        lines = [message_body(message_id=None, content=f"Message {n}") for n in range(25)]
        FILE.write_text("\n".join(lines))
        with monkeypatch.context() as patch:
            queue_batch = queueing._queue_batch
            ends = iter((queue_batch, raising(KeyboardInterrupt())))
            patch.setattr(queueing, "_queue_batch", lambda *of: next(ends)(*of))  # noqa: PLW0108 - another each time
            assert optus_sms("send", "--file", FILE, *TARGET).exit_code == 130
        sent = [json.loads(body)["message_id"] for body, _ in stack.queued()]
        stack.bring(State.ACCEPTED, sent[0], body=message_body(message_id=sent[0], content="Message 0"))

        ran = recall("--file", FILE)

        # The second batch may be on the queue; the third is not.
        assert ran.document["counts"] == {"recalled": 19, "sent already": 1}
        assert not claimable(stack, sent[1], message_body(message_id=sent[1], content="Message 1"))
        assert recall("--file", FILE).document["counts"] == {"recalled before": 19, "sent already": 1}

    def test_without_its_journal_only_lines_with_a_message_id(self, stack: DeployedStack) -> None:
        FILE.write_text(message_body(message_id=None))
        ran = recall("--file", FILE)
        assert (ran.exit_code, "journal" in ran.stderr) == (5, True)
        FILE.write_text(message_body(message_id="k"))
        assert results(recall("--file", FILE)) == {"k": "recalled"}
        assert not JOURNAL.exists()

    def test_another_message_of_that_key_is_left(self, stack: DeployedStack) -> None:
        stack.bring(State.RETRY, "k")
        FILE.write_text(message_body(message_id="k", content="Other fields"))
        ran = recall("--file", FILE)
        assert (ran.exit_code, results(ran), state(stack, "k")) == (9, {"k": "another message"}, State.RETRY)


class TestWaiting:
    def test_what_was_queued_in_that_time_is_recalled_and_deleted_and_the_rest_given_back(
        self, stack: DeployedStack
    ) -> None:
        hour = 3600
        old, before, after = (format_rfc3339(time.time() - ago) for ago in (30 * hour, 3 * hour, hour))
        bodies = {key: message_body(message_id=key) for key in ("old", "body", "new")}
        queue(stack, bodies["old"], queued_at=old)
        queue(stack, bodies["body"], queued_at=before)
        queue(stack, bodies["body"], queued_at=before)  # delivered twice by its sender
        queue(stack, message_body(message_id=None), message_id="attribute", queued_at=before)
        sqs_id = queue(stack, message_body(message_id=None), queued_at=before)
        queue(stack, "not JSON", queued_at=before)
        queue(stack, stack.bring(State.ACCEPTED, "accepted"), queued_at=before)
        queue(stack, bodies["new"], queued_at=after)

        ran = recall("--since", "4h", "--until", "2h")

        expected = {"body": "recalled", "attribute": "recalled", sqs_id: "recalled", "accepted": "sent already"}
        assert (ran.exit_code, results(ran), len(ran.document["messages"])) == (9, expected, 4)
        left = sorted(json.loads(body)["message_id"] if body[0] == "{" else body for body, _ in stack.queued())
        assert left == ["accepted", "new", "not JSON", "old"]
        assert (state(stack, "old"), state(stack, "new"), state(stack, sqs_id)) == (None, None, State.RECALLED)

    def test_by_reference_also_what_is_invisible_in_the_queue(self, stack: DeployedStack) -> None:
        queue(stack, message_body(message_id="waits", reference="run-7"))
        queue(stack, message_body(message_id="run-7"))
        queue(stack, message_body(message_id="other", reference="run-8"))
        for key, reference, to in (("retry", "run-7", State.RETRY), ("unknown", "run-7", State.UNKNOWN),
                                   ("sent", "run-7", State.ACCEPTED), ("retry-8", "run-8", State.RETRY)):  # fmt: skip
            claim = wanted(key, reference=reference)._replace(owner=key, lease_until=int(time.time()) + 90)
            claim = stack.ledger.claim(claim, now=time.time())
            ends: dict[State, Callable[[LedgerRecord], Any]] = {
                State.RETRY: lambda of: stack.ledger.not_sent(of, "throttled", now=time.time()),
                State.UNKNOWN: lambda of: stack.ledger.unknown(of, "timed_out", now=time.time()),
                State.ACCEPTED: lambda of: stack.ledger.accepted(of, "gw", now=time.time()),
            }
            ends[to](claim)
        found = {"waits": "recalled", "run-7": "recalled", "retry": "recalled", "unknown": "may have been sent"}
        dry = optus_sms("recall", "--reference", "run-7", "--scan", "--dry-run", "--json", *TARGET)
        assert results(dry) == found | {"sent": "sent already"}
        assert results(recall("--reference", "run-7")) == found
        assert (len(stack.queued()), state(stack, "retry-8")) == (1, State.RETRY)

    def test_many_are_recalled(self, stack: DeployedStack) -> None:
        for number in range(35):
            queue(stack, message_body(message_id=f"k-{number}"))
        ran = recall("--since", "1h")
        assert (ran.exit_code, ran.document["counts"], stack.queued()) == (0, {"recalled": 35}, [])

    @pytest.mark.parametrize("is_done", [True, False])
    def test_none_is_deleted_before_its_recall_is_written(
        self, stack: DeployedStack, monkeypatch: pytest.MonkeyPatch, is_done: bool
    ) -> None:
        """A write fails or its response is lost: no message is lost, and a repeat of the command completes it."""
        keys = {f"k-{number}" for number in range(3)}
        for key in keys:
            queue(stack, message_body(message_id=key))
        write = Ledger.recall

        def failing(self: Ledger, record: LedgerRecord, **more: Any) -> LedgerRecord | None:
            if record.message_id != "k-1":
                return write(self, record, **more)
            if is_done:
                write(self, record, **more)
            raise ReadTimeoutError(endpoint_url="")

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "recall", failing)
            assert recall("--since", "1h").exit_code == 1
        waiting = {json.loads(body)["message_id"] for body, _ in stack.queued()}
        assert "k-1" in waiting
        assert {key for key in keys if state(stack, key) is not State.RECALLED} <= waiting
        for key in waiting:
            queue(stack, message_body(message_id=key))
        assert recall("--since", "1h").exit_code == 0
        assert ({state(stack, key) for key in keys}, stack.queued()) == ({State.RECALLED}, [])

    def test_interrupted_it_gives_back_what_it_holds_and_continues(
        self, stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(25):
            queue(stack, message_body(message_id=f"k-{number}"))
        with monkeypatch.context() as patch:
            patch.setattr("cli.commands.recall._until", Mock(side_effect=KeyboardInterrupt))
            assert recall("--since", "1h").exit_code == 130
        assert recall("--since", "1h").document["counts"] == {"recalled": 25}
