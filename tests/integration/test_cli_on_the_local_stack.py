"""The command line against the local stack, end to end: queue, sender, simulator, callbacks, tables, dead letters."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from local.aws.stack import LocalStack
from local.simulator.scenarios import SCENARIOS
from optus_sms.aws.queues import DeadLetter, DeadLetterReason, Queues
from tests.integration.conftest import MakeRun
from tests.support.cli import optus_sms
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def _in_the_folder_of_make_run(local_stack: LocalStack, make_run: MakeRun, tmp_path: Path) -> Iterator[None]:
    with make_run(local_stack, tmp_path):
        yield


def new_key() -> str:
    return f"cli-test-{uuid4().hex[:12]}"


def stage(key: str) -> str:
    found = optus_sms("status", key, "--json")
    return str(found.document[0]["stage"]) if found.exit_code != 4 else "not seen"


def gateway_took(stack: LocalStack, key: str) -> int:
    assert stack.simulator is not None
    return len(stack.simulator.taken(reference=key))


def letter_of(key: str) -> dict[str, Any]:
    """Return a message's dead letter; empty if there is none now."""
    letters = optus_sms("dead-letters", "--json").document
    return next((letter for letter in letters if letter["message_id"] == key), {})


def plan_for(key: str, action: str | None = None) -> Path:
    """Return a plan that keeps all dead letters except this message's."""
    path = Path(f"plan-{uuid4().hex[:8]}.json")
    assert optus_sms("redrive", "--plan", path).exit_code == 0
    plan = json.loads(path.read_text())
    for item in plan["items"]:
        wanted = action or item["action"]
        item["action"] = wanted if item["message_id"] == key else "keep"
    assert any(item["message_id"] == key for item in plan["items"])
    path.write_text(json.dumps(plan))
    return path


def test_send_and_follow_to_the_handset_then_ask_by_each_of_its_names(local_stack: LocalStack) -> None:
    key, reference = new_key(), f"ref-{uuid4().hex[:8]}"
    sent = optus_sms(
        "send", SCENARIOS["reply"].number, "Hello", "--message-id", key, "--reference", reference, "--follow"
    )

    assert sent.exit_code == 0, sent.stdout
    for words in ("put on the queue", "attempt 1", "the gateway accepted it", "callback: received", f"{key}: received"):
        assert words in sent.stdout
    assert "On the local stack" in sent.stderr
    row = optus_sms("status", key, "--json").document[0]["gateway"]
    for name in (row["id"], reference):
        assert optus_sms("status", name, "--json").document[0]["message_id"] == key
    eventually(lambda: "replied" in optus_sms("explain", key).stdout, "the reply is explained")
    assert "Yes please" in optus_sms("conversation", SCENARIOS["reply"].number).stdout


def test_a_run_is_recalled_before_it_is_sent_and_erased_after_it(local_stack: LocalStack) -> None:
    run, other, number = f"run-{uuid4().hex[:8]}", new_key(), "+447400123456"
    keys = [new_key() for _ in range(12)]
    optus_sms("pause")
    try:
        eventually(lambda: local_stack.event_sources["OutboundQueue"].is_idle, "the poll under way has ended")
        for key in keys:
            optus_sms("send", number, "A mistake", "--message-id", key, "--reference", run)
        optus_sms("send", number, "Hello", "--message-id", other)
        recalled = optus_sms("recall", "--reference", run, "--yes", "--json")
        assert recalled.document["counts"] == {"recalled": 12}
    finally:
        optus_sms("resume")
    eventually(lambda: stage(other) == "received", "the other message arrives")
    assert {stage(key) for key in keys} == {"recalled before it was sent"}
    assert gateway_took(local_stack, run) == 0
    assert optus_sms("erase", number, "--yes").exit_code == 9  # the queue is not paused
    assert "erased on" in optus_sms("explain", other).stdout
    assert optus_sms("conversation", number).exit_code == 4


@pytest.mark.parametrize(("scenario", "code"), [("rejected", 6), ("bad_request", 6), ("closed_not_taken", 7)])
def test_the_exit_code_of_follow_says_how_it_ended(local_stack: LocalStack, scenario: str, code: int) -> None:
    sent = optus_sms("send", SCENARIOS[scenario].number, "Hello", "--follow", "--json")

    assert sent.exit_code == code
    last = sent.entries[-1]
    assert optus_sms("status", last["message_id"]).exit_code == code
    assert last["next"]


def test_a_rejected_message_goes_again_only_if_a_person_changes_the_plan(local_stack: LocalStack) -> None:
    key = new_key()
    optus_sms("send", SCENARIOS["bad_request"].number, "Hello", "--message-id", key, "--follow")
    eventually(lambda: letter_of(key), "a dead letter")

    assert optus_sms("redrive", "--apply", plan_for(key), "--yes").exit_code == 0
    assert letter_of(key), "the plan keeps what the gateway refused"

    applied = optus_sms("redrive", "--apply", plan_for(key, "send"), "--yes", "--json")
    assert [step["result"] for step in applied.document["steps"]] == ["queued"]
    eventually(lambda: "claimed again: attempt 2" in optus_sms("explain", key).stdout, "it was tried again")
    explained = optus_sms("explain", key).stdout
    assert "let it be sent again" in explained
    eventually(lambda: letter_of(key), "refused again, it is a dead letter again")


def test_an_unknown_outcome_is_never_redriven_and_sent_once_more_when_a_person_says_it_was_not(
    local_stack: LocalStack,
) -> None:
    key = new_key()
    optus_sms("send", SCENARIOS["closed_not_taken"].number, "Hello", "--message-id", key, "--follow")
    eventually(lambda: letter_of(key), "a dead letter")
    assert key in optus_sms("list", "--unknown").stdout

    refused = optus_sms("redrive", "--apply", plan_for(key, "send"), "--yes", "--json")
    assert refused.exit_code == 9
    assert refused.document["steps"][0]["result"] == "refused"
    assert stage(key) == "unknown whether it was sent"

    resolved = optus_sms("resolve", key, "--not-sent", "--by", "alex")
    assert resolved.exit_code == 0, resolved.stdout
    assert "queued again" in resolved.stdout
    eventually(lambda: "claimed again: attempt 2" in optus_sms("explain", key).stdout, "it was tried again")
    assert "alex resolved that it was not sent" in optus_sms("explain", key).stdout
    # The response for this number is always lost, so the outcome is unknown again. Now it is resolved as sent.
    eventually(lambda: stage(key) == "unknown whether it was sent", "unknown again")
    assert optus_sms("resolve", key, "--sent", "--gateway-id", f"gw-{key}").exit_code == 0
    assert optus_sms("status", f"gw-{key}", "--json").document[0]["message_id"] == key
    assert optus_sms("resolve", key, "--not-sent").exit_code == 9, "what is resolved stays resolved"


def test_what_ran_out_of_tries_is_safe_and_arrives_once_after_the_outage(local_stack: LocalStack) -> None:
    key = new_key()
    sqs, url = local_stack.client("sqs"), local_stack.outputs["DeadLetterQueueUrl"]
    body = json.dumps({"destination": SCENARIOS["received"].number, "content": "Hello"})
    # As SQS moves it: without a reason, and with its key only in an attribute.
    sqs.send_message(
        QueueUrl=url, MessageBody=body, MessageAttributes={"message_id": {"DataType": "String", "StringValue": key}}
    )

    path = plan_for(key)
    assert [i["kind"] for i in json.loads(path.read_text())["items"] if i["message_id"] == key] == ["safe"]
    assert optus_sms("redrive", "--apply", path, "--yes").exit_code == 0
    eventually(lambda: stage(key) == "received", "received")
    again = optus_sms("redrive", "--apply", path, "--yes", "--json")
    assert [step["result"] for step in again.document["steps"]] == ["not seen"]
    assert gateway_took(local_stack, key) == 1


def test_a_file_is_queued_once_however_often_it_is_sent(local_stack: LocalStack) -> None:
    mine = uuid4().hex[:8]
    lines = [
        json.dumps({"destination": SCENARIOS["received"].number, "content": f"{mine} {n}", "message_id": f"{mine}-{n}"})
        for n in range(25)
    ]
    Path("messages.jsonl").write_text("\n".join(lines))

    with nobody_takes_messages(local_stack):
        assert optus_sms("send", "--file", "messages.jsonl", "--json").document["queued"] == 25
        assert optus_sms("send", "--file", "messages.jsonl", "--json").document == {
            "queued": 0, "earlier": 25, "held": 0, "refused_by_sqs": [], "invalid": {},
            "journal": "messages.jsonl.journal",
        }  # fmt: skip
    eventually(lambda: all(gateway_took(local_stack, f"{mine}-{n}") == 1 for n in range(25)), "each was sent once")


def test_a_process_killed_half_way_through_a_file_is_resumed(local_stack: LocalStack) -> None:
    lines = [json.dumps({"destination": SCENARIOS["received"].number, "content": f"Message {n}"}) for n in range(200)]
    Path("messages.jsonl").write_text("\n".join(lines))
    journal = Path("messages.jsonl.journal")
    here = "from pathlib import Path; from cli import endpoints_file, main; endpoints_file.CHECKOUT = Path.cwd()"
    command = [sys.executable, "-c", f"{here}; main.main()", "send", "--file", "messages.jsonl"]
    with nobody_takes_messages(local_stack):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            eventually(lambda: journal.exists() and journal.read_text().count("queued") >= 2, "a few batches")
            process.kill()
        assert process.returncode == -signal.SIGKILL

        resumed = optus_sms("send", "--file", "messages.jsonl", "--json").document

        assert 0 < resumed["earlier"] < 200
        assert resumed["held"] in (0, 10), "at most the batch that was cut"
        keys = Counter(json.loads(body)["message_id"] for body in taken_from_the_queue(local_stack))
        assert max(keys.values()) == 1
        assert len(keys) >= 200 - resumed["held"]


@contextmanager
def nobody_takes_messages(stack: LocalStack) -> Iterator[None]:
    """So that the stack starts no execution environment: a forked process shares the journal's lock until it execs."""
    source = stack.event_sources["OutboundQueue"]
    source.enabled = False
    try:
        eventually(lambda: source.is_idle, "the poll under way has ended")
        yield
    finally:
        source.enabled = True


def taken_from_the_queue(stack: LocalStack) -> Iterator[str]:
    """Receive and delete all waiting messages; return their bodies."""
    sqs, url = stack.client("sqs"), stack.outputs["OutboundQueueUrl"]
    while batch := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0).get("Messages"):
        yield from (message["Body"] for message in batch)
        entries = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(batch)]
        sqs.delete_message_batch(QueueUrl=url, Entries=entries)


def test_pause_keeps_messages_in_the_queue_until_resume(local_stack: LocalStack) -> None:
    key = new_key()
    assert optus_sms("pause").exit_code == 0
    try:
        eventually(lambda: local_stack.event_sources["OutboundQueue"].is_idle, "nobody takes messages")
        optus_sms("send", SCENARIOS["received"].number, "Hello", "--message-id", key)
        seen = optus_sms("health", "--json").document
        assert seen["sending"] == "paused"
        assert seen["paused_by"] == "operator"
        assert optus_sms("status", key).exit_code == 4
    finally:
        assert optus_sms("resume").exit_code == 0
    eventually(lambda: stage(key) == "received", "received")


def test_the_doctor_finds_the_stack_well_and_sends_nothing(local_stack: LocalStack) -> None:
    assert local_stack.simulator is not None
    eventually(lambda: optus_sms("health", "--json").document["checked_at"], "the first health check")
    posts = local_stack.simulator.requests()["posts"]

    examined = optus_sms("doctor", "--json")

    checks = {check["name"]: check["result"] for check in examined.document}
    assert examined.exit_code == 0, examined.stdout
    for name in ("gateway secret", "callback secret", "gateway", "credentials", "status callbacks", "reply callbacks"):
        assert checks[name] == "ok"
    assert local_stack.simulator.requests()["posts"] == posts


def test_the_doctor_names_the_remedy_for_an_empty_secret(local_stack: LocalStack) -> None:
    secrets, arn = local_stack.client("secretsmanager"), local_stack.outputs["GatewaySecretArn"]
    right = secrets.get_secret_value(SecretId=arn)["SecretString"]
    secrets.put_secret_value(SecretId=arn, SecretString='{"application": "REPLACE_ME", "password": "REPLACE_ME"}')
    try:
        examined = optus_sms("doctor")
    finally:
        secrets.put_secret_value(SecretId=arn, SecretString=right)

    assert examined.exit_code == 9
    assert re.search("failed.*gateway secret.*placeholder", examined.stdout)
    assert "set-gateway-credentials" in examined.stdout


def test_the_callback_password_is_rotated_and_the_new_urls_are_let_in(local_stack: LocalStack) -> None:
    secrets, arn = local_stack.client("secretsmanager"), local_stack.outputs["CallbackSecretArn"]
    before = secrets.get_secret_value(SecretId=arn)["SecretString"]
    try:
        rotated = optus_sms("rotate-callback-password", "--yes", "--json")
        fields = json.loads(secrets.get_secret_value(SecretId=arn)["SecretString"])
    finally:
        secrets.put_secret_value(SecretId=arn, SecretString=before)

    assert rotated.exit_code == 0
    assert fields["password"] != json.loads(before)["password"]
    host = local_stack.outputs["StatusCallbackUrl"].removeprefix("http://")
    assert rotated.document["status"] == f"http://{fields['username']}:{fields['password']}@{host}"


def test_an_unreadable_callback_is_posted_again_and_stored(local_stack: LocalStack) -> None:
    """As after an upgrade: an earlier version could not read it."""
    gateway_id = f"gw-{uuid4().hex[:12]}"
    body = json.dumps([{"id": gateway_id, "content": "Yes", "source": "0491 570 006"}]).encode("utf-16")
    queues = Queues(local_stack.client("sqs"), dead_letter_queue_url=local_stack.outputs["DeadLetterQueueUrl"])
    letter = DeadLetter(body, DeadLetterReason.UNREADABLE_CALLBACK, "not JSON", "-", route="/callbacks/reply")
    queues.dead_letter(letter, now=time.time())

    ran = optus_sms("replay-callbacks", "--yes", "--json")

    assert [one["result"] for one in ran.document] == ["stored"], ran.stdout
    assert optus_sms("status", gateway_id, "--json").document[0]["stage"] == "a reply"
    assert "unreadable_callback" not in optus_sms("dead-letters").stdout
