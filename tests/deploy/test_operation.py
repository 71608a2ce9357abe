"""The deployed stack for senders, operators and the gateway."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from botocore.exceptions import ClientError
from jsonschema import Draft202012Validator

from local.demo.examples import Sent, example_messages
from local.simulator.scenarios import SCENARIOS
from optus_sms.records.items import State
from tests.deploy.deployment import Deployment
from tests.support.waiting import eventually
from tools.schemas import FOLDER

DEADLINE_SECONDS = 120.0


def new_key() -> str:
    return f"deploy-{uuid4().hex[:12]}"


def queued(stack: Deployment, scenario: str = "received", **fields: object) -> str:
    """Queue a new message; return its message_id."""
    key = new_key()
    stack.send({"message_id": key, "destination": SCENARIOS[scenario].number, "content": "Hello", **fields})
    return key


def is_accepted(stack: Deployment, key: str) -> Callable[[], bool]:
    return lambda: getattr(stack.seen().ledger.get(key), "state", None) is State.ACCEPTED


@pytest.fixture(scope="module")
def bus(stack: Deployment) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Add a rule with a queue to the bus; return a function for the events so far."""
    sqs, events = stack.client("sqs"), stack.client("events")
    queue, name = sqs.create_queue(QueueName="listener")["QueueUrl"], stack.outputs["EventBusName"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allowed = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = {"Version": "2012-10-17", "Statement": [{**allowed, "Resource": arn}]}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})
    events.put_rule(Name="listener", EventBusName=name, EventPattern=json.dumps({"source": ["optus.sms"]}))
    events.put_targets(Rule="listener", EventBusName=name, Targets=[{"Id": "queue", "Arn": arn}])
    heard: list[dict[str, Any]] = []

    def hear() -> list[dict[str, Any]]:
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=0).get(
            "Messages"
        ):
            for message in messages:
                heard.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return heard

    yield hear
    events.remove_targets(Rule="listener", EventBusName=name, Ids=["queue"])
    events.delete_rule(Name="listener", EventBusName=name)


def test_the_doctor_finds_nothing_wrong_after_a_first_deployment(stack: Deployment) -> None:
    """Except that no address receives alarms. The emulator changes alarms on metric math, which can fire."""

    def others() -> dict[str, str]:
        checks = stack.cli("doctor", "--json").document
        return {check["name"]: check["result"] for check in checks if check["result"] != "ok"}

    with contextlib.suppress(AssertionError):
        eventually(lambda: others() == {"alarms": "warning"}, "two health checks", DEADLINE_SECONDS)
    assert others() == {"alarms": "warning"}


def has_ended(stack: Deployment, message: Sent) -> bool:
    return message.reached(stack.seen())


def test_every_example_reaches_its_expected_end(stack: Deployment, bus: Callable[[], list[dict[str, Any]]]) -> None:
    sent = list(example_messages(with_simulator=True))
    for message in sorted(sent, key=lambda each: each.after is not None):
        if message.after is not None:
            eventually(partial(has_ended, stack, message.after), "the one before ends", DEADLINE_SECONDS)
        stack.send(message.body, message.attributes, message.queue)

    def missing() -> list[str]:
        seen = stack.seen()
        return [
            f"{message.message_id}: {message.end.words} expected, {message.now(seen)} found"
            for message in sent
            if not message.reached(seen)
        ]

    with contextlib.suppress(AssertionError):
        eventually(lambda: not missing(), "every example ends", DEADLINE_SECONDS)
    assert missing() == []


def test_outcome_status_and_reply_are_events_on_the_bus(
    stack: Deployment, bus: Callable[[], list[dict[str, Any]]]
) -> None:
    key = queued(stack, "reply")

    def told() -> set[str]:
        gateway_id = stack.seen().facts(key).gateway_id
        own = [event for event in bus() if key in event["detail"].values() or gateway_id in event["detail"].values()]
        return {event["detail-type"] + event["detail"].get("status", "") for event in own}

    wanted = {"SMS Accepted", "SMS Status Changedreceived", "SMS Reply Received"}
    eventually(lambda: wanted <= told(), "outcome, status and reply", DEADLINE_SECONDS)
    schemas = {
        schema["title"]: Draft202012Validator(schema)
        for path in (FOLDER / "events").glob("*.json")
        for schema in [json.loads(path.read_text())]
    }
    assert [error.message for event in bus() for error in schemas[event["detail-type"]].iter_errors(event)] == []


@pytest.mark.parametrize("output", ["StatusCallbackUrl", "ReplyCallbackUrl"])
def test_a_callback_without_credentials_is_challenged_and_a_wrong_one_refused(stack: Deployment, output: str) -> None:
    url = stack.outputs[output]
    without = requests.post(url, data=b"{}", verify=str(stack.aws.authority), timeout=10)
    wrong = requests.post(url, data=b"{}", auth=("gateway", "wrong"), verify=str(stack.aws.authority), timeout=10)
    assert (without.status_code, without.headers["WWW-Authenticate"]) == (401, 'Basic realm="callbacks"')
    assert wrong.status_code == 401


def test_another_path_is_not_found(stack: Deployment) -> None:
    url = stack.outputs["StatusCallbackUrl"].replace("/status", "/other")
    response = requests.post(url, data=b"{}", verify=str(stack.aws.authority), timeout=10)
    assert (response.status_code, response.json()) == (404, {"message": "Not Found"})


def test_an_operator_follows_and_explains_a_message(stack: Deployment) -> None:
    key = new_key()
    sent = stack.cli("send", SCENARIOS["reply"].number, "Hello", "--message-id", key, "--follow")
    assert sent.exit_code == 0, sent.stdout
    eventually(lambda: "replied" in stack.cli("explain", key).stdout, "the reply is explained", DEADLINE_SECONDS)


def test_an_operator_redrives_a_dead_letter(stack: Deployment) -> None:
    key = queued(stack, "bad_request")

    def dead() -> dict[str, Any]:
        letters = stack.cli("dead-letters", "--json").document
        return next((letter for letter in letters if letter["message_id"] == key), {})

    assert eventually(dead, "a dead letter", DEADLINE_SECONDS)["reason"] == "rejected"
    assert stack.cli("redrive", "--plan", "plan.json").exit_code == 0
    plan = json.loads(Path("plan.json").read_text())
    for item in plan["items"]:
        item["action"] = "send" if item["message_id"] == key else "keep"
    Path("plan.json").write_text(json.dumps(plan))
    assert stack.cli("redrive", "--apply", "plan.json", "--yes").exit_code == 0
    eventually(lambda: "attempt 2" in stack.cli("explain", key).stdout, "another attempt", DEADLINE_SECONDS)


def test_an_operator_pauses_and_resumes(stack: Deployment) -> None:
    assert stack.cli("pause").exit_code == 0
    eventually(lambda: not stack.is_sending(), "paused", DEADLINE_SECONDS)
    key = queued(stack)
    checked = stack.seen()
    assert key not in checked.ledger
    assert stack.cli("resume").exit_code == 0
    eventually(is_accepted(stack, key), "accepted after the pause", DEADLINE_SECONDS)


def test_an_outage_pauses_sending_and_its_end_resumes_it(
    stack: Deployment, bus: Callable[[], list[dict[str, Any]]]
) -> None:
    eventually(stack.is_sending, "sending", DEADLINE_SECONDS)
    stack.gateway.set_faults(down="refused")
    key = queued(stack)  # after an operator's command messages decide
    eventually(lambda: not stack.is_sending(), "paused by the health check", 240)
    stack.gateway.clear_faults()
    eventually(is_accepted(stack, key), "accepted after the outage", 240)
    health = [event["detail"]["state"] for event in bus() if event["detail-type"] == "Gateway Health Changed"]
    assert health[-2:] == ["unhealthy", "healthy"]


@pytest.mark.parametrize("secret", ["GatewaySecretArn", "CallbackSecretArn"])
def test_a_secret_is_read_by_tls_only(stack: Deployment, secret: str) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        stack.client("secretsmanager", tls=False).get_secret_value(SecretId=stack.outputs[secret])
    stack.client("secretsmanager").get_secret_value(SecretId=stack.outputs[secret])


@pytest.mark.parametrize(
    "queue", ["OutboundQueueUrl", "UrgentQueueUrl", "DeadLetterQueueUrl", "UnpublishedEventsQueueUrl"]
)
def test_a_queue_is_used_by_tls_only(stack: Deployment, queue: str) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        stack.client("sqs", tls=False).get_queue_attributes(QueueUrl=stack.outputs[queue])
    stack.client("sqs").get_queue_attributes(QueueUrl=stack.outputs[queue])


def test_permissions_are_enforced_by_resource(stack: Deployment) -> None:
    """Shows that the tests above do test the functions' roles."""
    tables = stack.resources()
    arn = stack.client("dynamodb").describe_table(TableName=tables["MessagesTable"])["Table"]["TableArn"]
    reader = stack.aws.as_user("reader", {"Action": "dynamodb:GetItem", "Resource": arn}).client("dynamodb")

    assert "Item" not in reader.get_item(TableName=tables["MessagesTable"], Key={"id": {"S": "none"}})
    with pytest.raises(ClientError, match="AccessDenied"):
        reader.get_item(TableName=tables["SendLedgerTable"], Key={"pk": {"S": "none"}})
