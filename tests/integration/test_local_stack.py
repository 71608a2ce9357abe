"""The local stack over real HTTP: messages from the queue to the handset and back, and messages that end elsewhere."""

import base64
import json
import os
import subprocess
import sys
from typing import Any
from uuid import uuid4

import pytest
import requests

from local.aws.stack import LocalStack, StackConfig, StackError, listen
from local.demo.examples import example_messages
from local.simulator.scenarios import SCENARIOS
from local.template import TEMPLATE_PATH
from tests.support.waiting import eventually


def put(stack: LocalStack, fields: dict[str, Any] | str) -> str:
    """Queue a message; return its body."""
    body = fields if isinstance(fields, str) else json.dumps(fields)
    stack.client("sqs").send_message(QueueUrl=stack.outputs["OutboundQueueUrl"], MessageBody=body)
    return body


def ledger(stack: LocalStack, pk: str) -> dict[str, str]:
    """Return the strings of a ledger item; empty if there is none."""
    answer = stack.client("dynamodb").get_item(TableName=stack.outputs["SendLedgerTableName"], Key={"pk": {"S": pk}})
    return {name: value["S"] for name, value in answer.get("Item", {}).items() if "S" in value}


def conversation(stack: LocalStack, handset: str) -> list[dict[str, str]]:
    """Return the strings of a handset's messages and replies, in time order."""
    client, table = stack.client("dynamodb"), stack.outputs["MessagesTableName"]
    listed = client.query(
        TableName=table,
        IndexName="conversation-index",
        KeyConditionExpression="handset = :handset",
        ExpressionAttributeValues={":handset": {"S": handset}},
    )["Items"]
    items = [client.get_item(TableName=table, Key={"id": entry["id"]})["Item"] for entry in listed]
    return [{name: value["S"] for name, value in item.items() if "S" in value} for item in items]


def with_key(stack: LocalStack, handset: str, key: str) -> dict[str, str]:
    """Return the gateway's record of a message; empty if there is none."""
    return next((item for item in conversation(stack, handset) if item.get("message_id") == key), {})


def dead_letter(stack: LocalStack, body: str) -> dict[str, str]:
    """Receive and delete the dead letter with this body; return its attributes, empty if there is none now."""
    sqs, url = stack.client("sqs"), stack.outputs["DeadLetterQueueUrl"]
    answer = sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0, MessageAttributeNames=["All"]
    )
    for message in answer.get("Messages", []):
        if message["Body"] == body:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    return {}


def new_key() -> str:
    return f"key-{uuid4().hex[:12]}"


def test_a_message_goes_from_the_queue_to_the_handset_and_its_callbacks_into_the_table(local_stack: LocalStack) -> None:
    key, handset = new_key(), SCENARIOS["received"].number
    put(local_stack, {"message_id": key, "destination": handset, "content": "Hello"})

    eventually(lambda: with_key(local_stack, handset, key).get("status") == "received", "received")

    row = with_key(local_stack, handset, key)
    assert {"accepted_at", "queued_at", "sent_at", "submitted_at", "received_at"} <= row.keys()
    record = ledger(local_stack, f"msg#{key}")
    assert (record["state"], record["gateway_id"]) == ("ACCEPTED", row["id"])
    assert local_stack.simulator is not None
    assert [message["id"] for message in local_stack.simulator.taken(reference=key)] == [row["id"]]


def test_a_reply_is_stored_with_the_message_that_it_answers(local_stack: LocalStack) -> None:
    key, handset = new_key(), SCENARIOS["reply"].number
    put(local_stack, {"message_id": key, "destination": handset, "content": "Will you come?"})

    sent = eventually(lambda: with_key(local_stack, handset, key), "the message is in the table")
    reply = eventually(
        lambda: [item for item in conversation(local_stack, handset) if item.get("in_reply_to") == sent["id"]], "reply"
    )

    assert [(item["direction"], item["content"], item["reply_match"]) for item in reply] == [
        ("MO", "Yes please", "exact")
    ]


def test_a_malformed_message_is_a_dead_letter_with_its_reason_and_holds_up_nobody(local_stack: LocalStack) -> None:
    key, handset = new_key(), SCENARIOS["received"].number
    malformed = put(local_stack, f"not JSON {key}")
    put(local_stack, {"message_id": key, "destination": handset, "content": "Hello"})

    letter = eventually(lambda: dead_letter(local_stack, malformed), "a dead letter")

    assert letter["reason"] == "invalid"
    assert "JSON" in letter["detail"]
    eventually(lambda: ledger(local_stack, f"msg#{key}").get("state") == "ACCEPTED", "the other one is accepted")


def test_the_schedule_rule_checks_the_gateways_health(local_stack: LocalStack) -> None:
    eventually(lambda: ledger(local_stack, "health#gateway"), "the health check has run")


def test_a_callback_without_credentials_is_challenged_without_waking_the_function(local_stack: LocalStack) -> None:
    answer = requests.post(local_stack.outputs["StatusCallbackUrl"], json={"message_id": "1"}, timeout=10)

    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"})
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert "x-amzn-Remapped-WWW-Authenticate" not in answer.headers  # as an answer of the function would have


def test_a_functions_own_challenge_is_renamed_as_api_gateway_does(local_stack: LocalStack) -> None:
    answer = requests.post(
        local_stack.outputs["StatusCallbackUrl"], json={"message_id": "1"}, auth=("gateway", "wrong"), timeout=10
    )

    assert answer.status_code == 401
    assert "WWW-Authenticate" not in answer.headers
    assert answer.headers["x-amzn-Remapped-WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/callbacks/status"), ("POST", "/v1/callbacks/other"), ("POST", "/callbacks/status"), ("POST", "/")],
)
def test_another_path_or_method_is_not_found(local_stack: LocalStack, method: str, path: str) -> None:
    answer = requests.request(method, local_stack.api_url + path, auth=("gateway", "wrong"), timeout=10)

    assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})


def test_a_body_that_api_gateway_does_not_take_is_too_large(local_stack: LocalStack) -> None:
    answer = requests.post(
        local_stack.outputs["StatusCallbackUrl"], data=b"x" * (10 * 1024 * 1024 + 1), auth=("a", "b"), timeout=10
    )

    assert (answer.status_code, answer.json()) == (413, {"message": "Payload Too Large"})


def test_the_credentials_of_the_event_files_open_the_callbacks(local_stack: LocalStack) -> None:
    event = json.loads((TEMPLATE_PATH.parent / "events/api/status_unknown.json").read_text(encoding="utf-8"))
    secret = local_stack.secret("CallbackSecret")
    expected = base64.b64encode(f"{secret['username']}:{secret['password']}".encode()).decode()

    assert event["headers"]["Authorization"] == f"Basic {expected}"


def test_the_sources_enabled_state_is_honoured(local_stack: LocalStack) -> None:
    source = local_stack.event_sources["OutboundQueue"]
    key, sqs, url = new_key(), local_stack.client("sqs"), local_stack.outputs["OutboundQueueUrl"]

    def waiting() -> int:
        name = "ApproximateNumberOfMessages"
        return int(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])

    source.enabled = False
    try:
        eventually(lambda: source.is_idle, "the poll under way has ended")
        put(local_stack, {"message_id": key, "destination": SCENARIOS["received"].number, "content": "Hello"})
        assert waiting() == 1
        assert ledger(local_stack, f"msg#{key}") == {}
    finally:
        source.enabled = True
    eventually(lambda: ledger(local_stack, f"msg#{key}").get("state") == "ACCEPTED", "accepted once enabled")


def test_the_examples_and_the_event_files_are_the_same() -> None:
    files = {path.stem for path in (TEMPLATE_PATH.parent / "events/sqs").glob("*.json")}
    # The functional tests use these files, which need SQS's own features or the end of a lease.
    not_shown = {"redelivered", "conflict"}

    assert {sent.file for sent in example_messages(with_simulator=True)} == files - not_shown


USED = """
with LocalStack() as stack:
    stack.client("sqs").send_message(
        QueueUrl=stack.outputs["OutboundQueueUrl"], MessageBody='{"destination": "+61491570006", "content": "Hello"}'
    )
    started, urls = descendants(os.getpid()), [stack.endpoint_url, stack.api_url, stack.gateway_url]
    assert len(started) >= 1 + len(stack.functions)  # the emulator, and an environment for each function
assert alive(started) == set()
for url in urls:
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)
"""
NOT_STARTED = """
with listen("127.0.0.1", 0, "test") as taken, contextlib.suppress(StackError):
    with LocalStack(StackConfig(port=taken.getsockname()[1])):
        raise AssertionError("started on a port in use")
"""
THREADS_AFTER = """
import contextlib, os, threading, time
import pytest, requests
from local.aws.stack import LocalStack, StackConfig, StackError, listen
from tests.support.processes import alive, descendants
{code}
end = time.monotonic() + 20  # a last answer may be on its way
while threading.active_count() > 1 and time.monotonic() < end:
    time.sleep(0.02)
print([thread.name for thread in threading.enumerate()])
"""


@pytest.mark.parametrize("code", [USED, NOT_STARTED], ids=["used", "not started"])
def test_no_process_port_or_thread_is_left_when_it_ends(code: str) -> None:
    """In a separate process, because this one has threads of the other tests' stack."""
    run = subprocess.run(
        [sys.executable, "-c", THREADS_AFTER.format(code=code)],
        cwd=TEMPLATE_PATH.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "['MainThread']\n"), run.stderr


def test_a_port_in_use_is_named_with_the_fix() -> None:
    with listen("127.0.0.1", 0, "test") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"{port}.*PORT="), LocalStack(StackConfig(port=port)):
            pass
