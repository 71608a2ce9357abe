"""Events of `sam local generate-event`, which have AWS's shapes with unrelated content, for every function."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from local.aws.stack import LocalStack
from local.simulator.scenarios import SCENARIOS
from tests.support.aws import default_template
from tests.support.waiting import eventually

FUNCTIONS = sorted(function.logical_id for function in default_template().of_type("AWS::Lambda::Function"))
KINDS = {
    "sqs": ("sqs", "receive-message"),
    "api": ("apigateway", "aws-proxy"),
    "http api": ("apigateway", "http-api-proxy"),
    "schedule": ("cloudwatch", "scheduled-event"),
    "stream": ("dynamodb", "update"),
}


@cache
def generated(*arguments: str) -> str:
    """Return the output of `sam local generate-event <arguments>`."""
    sam = Path(sys.executable).with_name("sam")
    own = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [str(sam), "local", "generate-event", *arguments]
    environment = {**own, "SAM_CLI_TELEMETRY": "0"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def invoke(stack: LocalStack, function: str, event: str) -> Any:
    invocation = stack.functions[function].invoke(json.loads(event))
    assert invocation.error is None, invocation.error
    return invocation.result


def dead_letter(stack: LocalStack, body: str) -> dict[str, str]:
    """Return the attributes of the dead letter with this body; empty if there is none now."""
    sqs, url = stack.client("sqs"), stack.outputs["DeadLetterQueueUrl"]
    answer = sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0, MessageAttributeNames=["All"]
    )
    for message in answer.get("Messages", []):
        if message["Body"] == body:
            return {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    return {}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_event_of_another_kind_makes_a_function_fail(local_stack: LocalStack, kind: str, function: str) -> None:
    invoke(local_stack, function, generated(*KINDS[kind]))


def test_somebody_elses_queue_message_is_a_dead_letter_that_says_why(local_stack: LocalStack) -> None:
    body = "Hello, I am no JSON!"

    answer = invoke(local_stack, "SendMessageFunction", generated(*KINDS["sqs"], "--body", body))

    assert answer == {"batchItemFailures": []}
    letter = eventually(lambda: dead_letter(local_stack, body), "it is a dead letter")
    assert (letter["reason"], "JSON" in letter["detail"]) == ("invalid", True)


def test_a_message_in_a_generated_event_is_sent(local_stack: LocalStack) -> None:
    fields = {"message_id": "generated", "destination": SCENARIOS["received"].number, "content": "Hello"}
    event = json.loads(generated(*KINDS["sqs"]))
    event["Records"][0]["body"] = json.dumps(fields)  # sam's own --body takes no text with quotes

    answer = invoke(local_stack, "SendMessageFunction", json.dumps(event))

    assert answer == {"batchItemFailures": []}
    key, table = {"pk": {"S": "msg#generated"}}, local_stack.outputs["SendLedgerTableName"]
    assert local_stack.client("dynamodb").get_item(TableName=table, Key=key)["Item"]["state"] == {"S": "ACCEPTED"}


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ((), 404),
        (("--path", "callbacks/status", "--method", "POST"), 401),
        (("--path", "callbacks/reply", "--method", "POST"), 401),
        (("--path", "callbacks/reply", "--method", "GET"), 404),
    ],
)
def test_a_generated_request_is_refused(local_stack: LocalStack, options: tuple[str, ...], status: int) -> None:
    answer = invoke(local_stack, "ReceiveCallbackFunction", generated(*KINDS["api"], *options))

    assert answer["statusCode"] == status
