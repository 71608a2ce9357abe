"""The unchanged examples of docs/senders.md against the local stack: each SMS reaches its handset."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from local import endpoints
from local.aws.stack import LocalStack
from tests.support.node import needs_packages
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "senders"
PACKAGES = ROOT / "tests" / "support" / "senders"
PAGE = (ROOT / "docs" / "senders.md").read_text(encoding="utf-8")
HANDSET = "+61491570006"
BLOCKS = {"send.py": "python", "send_many.py": "python", "send.mjs": "js", "send.sh": "sh", "rule.yaml": "yaml",
          "topic.yaml": "yaml", "state_machine.asl.json": "json", "sender.tf": "hcl"}  # fmt: skip


@pytest.fixture
def environment(local_stack: LocalStack) -> dict[str, str]:
    """Return the variables of `source .local/endpoints.env`."""
    schema = {"SCHEMA": str(ROOT / "schemas" / "queue-message.schema.json")}
    return {**os.environ, **endpoints.variables(local_stack), **schema}


def received(page_url: str, reference: str, wait: int = 30) -> list[dict[str, Any]]:
    """Return the handset's messages, as the test of any system does."""
    url = f"{page_url}api/handsets/{HANDSET}/messages"
    response = requests.get(url, params={"reference": reference, "wait": str(wait)}, timeout=wait + 5)
    assert response.status_code == 200, response.text
    messages: list[dict[str, Any]] = response.json()["messages"]
    return messages


def example(name: str) -> str:
    return (EXAMPLES / name).read_text(encoding="utf-8")


def run(*command: str, environment: Mapping[str, str], stdin: str = "", cwd: Path = ROOT) -> str:
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, env=environment, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize(("name", "language"), BLOCKS.items())
def test_the_page_has_each_example_as_it_is(name: str, language: str) -> None:
    assert f"```{language}\n{example(name).rstrip()}\n```" in PAGE


def test_the_page_has_no_example_that_is_not_tried() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == BLOCKS.keys()


def test_python_sends_one_message_however_often_it_runs(page_url: str, environment: dict[str, str]) -> None:
    for _ in range(2):
        run(sys.executable, str(EXAMPLES / "send.py"), environment=environment)
    assert len(received(page_url, "appointment-4711-reminder")) == 1


AWS_CLI = """#!{python}
import sys, boto3
service, operation, *options = sys.argv[1:]
assert (service, operation, options[::2]) == ("sqs", "send-message", ["--queue-url", "--message-body"])
boto3.client("sqs").send_message(QueueUrl=options[1], MessageBody=options[3])
"""


def test_shell_sends_one_message_a_day(
    page_url: str, environment: dict[str, str], local_stack: LocalStack, tmp_path: Path
) -> None:
    """A stand-in for the AWS CLI, because not every machine has one that supports AWS_ENDPOINT_URL."""
    aws = tmp_path / "aws"
    aws.write_text(AWS_CLI.format(python=sys.executable))
    aws.chmod(0o700)
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    for _ in range(2):
        run("sh", str(EXAMPLES / "send.sh"), environment=environment)
    (message,) = _taken(local_stack, "backup-failed-")
    assert len(received(page_url, message["fields"]["reference"])) == 1


def _taken(stack: LocalStack, prefix: str) -> list[dict[str, Any]]:
    assert stack.simulator is not None
    simulator = stack.simulator

    def look() -> list[dict[str, Any]]:
        return [each for each in simulator.taken() if each["fields"].get("reference", "").startswith(prefix)]

    return eventually(look, f"a message whose reference begins with {prefix}")


def test_many_messages_are_checked_and_queued_and_a_second_run_sends_none_again(
    page_url: str, environment: dict[str, str], local_stack: LocalStack
) -> None:
    lines = [
        json.dumps({"message_id": f"many-{number}", "destination": HANDSET, "content": f"Number {number}"})
        for number in range(23)
    ]
    lines.insert(3, '{"message_id": "many-x", "destination": "0491 570 006", "content": "Hello"}')
    lines.insert(9, json.dumps({"destination": HANDSET, "content": "without an ID"}))
    lines.insert(15, "{")
    for _ in range(2):
        told = run(sys.executable, str(EXAMPLES / "send_many.py"), environment=environment, stdin="\n".join(lines))
        assert re.findall(r"line (\d+):", told) == ["4", "10", "16"]
    for number in range(23):
        assert len(received(page_url, f"many-{number}")) == 1
    assert local_stack.simulator is not None
    assert len(_taken(local_stack, "many-")) == 23


@needs_packages(PACKAGES)
def test_node_sends_one_message(page_url: str, environment: dict[str, str], tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "send.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(PACKAGES / "node_modules")
    run("node", "send.mjs", environment=environment, cwd=tmp_path)
    assert len(received(page_url, "appointment-4711-reminder-node")) == 1


def test_an_event_of_others_becomes_a_message(page_url: str, local_stack: LocalStack) -> None:
    """The rule's target receives the result of its input transformer."""
    rule = yaml.load(example("rule.yaml"), _CloudFormation)["Resources"]["AppointmentBooked"]["Properties"]
    transformer = rule["Targets"][0]["InputTransformer"]
    events, name = local_stack.client("events"), "booked"
    pattern = json.dumps(rule["EventPattern"])
    events.put_rule(Name=name, EventPattern=pattern)
    target = {"Id": "sms", "Arn": local_stack.outputs["OutboundQueueArn"], "InputTransformer": transformer}
    events.put_targets(Rule=name, Targets=[target])
    detail = json.dumps({"appointment": "77", "handset": HANDSET, "day": "Friday"})
    events.put_events(Entries=[{"Source": "booking", "DetailType": "Appointment Booked", "Detail": detail}])
    (message,) = received(page_url, "booked-77")
    assert message["content"] == "Booked for Friday."


def test_a_message_published_to_a_topic_is_sent(page_url: str, local_stack: LocalStack) -> None:
    subscription = yaml.load(example("topic.yaml"), _CloudFormation)["Resources"]["TextsToQueue"]["Properties"]
    raw = str(subscription["RawMessageDelivery"]).lower()
    sns = local_stack.client("sns")
    topic = sns.create_topic(Name="texts")["TopicArn"]
    queue = local_stack.outputs["OutboundQueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": raw})
    body = {"message_id": "from-a-topic", "destination": HANDSET, "content": "By SNS"}
    sns.publish(TopicArn=topic, Message=json.dumps(body))
    assert [message["content"] for message in received(page_url, "from-a-topic")] == ["By SNS"]


def test_a_state_machines_step_sends_a_message(page_url: str, local_stack: LocalStack) -> None:
    """The test makes the step's call: it fills in the parameters as Step Functions does, and sends them to SQS."""
    step = json.loads(example("state_machine.asl.json"))["States"]["QueueMessage"]
    given = {"$.queue_url": local_stack.outputs["OutboundQueueUrl"], "$.handset": HANDSET, "$.order": "A 1"}
    request = _filled_in(step["Parameters"], {**given, "$$.Execution.Name": "run-1"})
    assert step["Resource"] == "arn:aws:states:::sqs:sendMessage"
    local_stack.client("sqs").send_message(QueueUrl=request["QueueUrl"], MessageBody=json.dumps(request["MessageBody"]))
    (message,) = received(page_url, "confirmed-run-1")
    assert message["content"] == "Your order A 1 is confirmed."


def _filled_in(node: Any, given: Mapping[str, str]) -> Any:
    """Fill in fields whose names end in `.$`: paths, or States.Format of a path."""
    if not isinstance(node, dict):
        return node
    filled = {}
    for name, value in node.items():
        if not name.endswith(".$"):
            filled[name] = _filled_in(value, given)
        elif found := re.fullmatch(r"States\.Format\('(.*)', (.*)\)", value):
            filled[name.removesuffix(".$")] = found[1].replace("{}", given[found[2]])
        else:
            filled[name.removesuffix(".$")] = given[value]
    return filled


class _CloudFormation(yaml.SafeLoader):
    """A YAML loader that keeps CloudFormation's short forms as text."""


_CloudFormation.add_multi_constructor("!", lambda loader, suffix, node: f"{suffix} {node.value}")


def test_it_is_ready_as_soon_as_it_responds(page_url: str) -> None:
    assert requests.get(f"{page_url}api/ready", timeout=5).json() == {"ready": True}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("0491570006/messages", "E.164"),
        (f"{HANDSET}/messages?wait=61", "at most 60"),
        (f"{HANDSET}/messages?wait=x", "whole seconds"),
        (f"{HANDSET}/messages?since=1", "wait (seconds) or reference"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_in_words(page_url: str, path: str, words: str) -> None:
    response = requests.get(f"{page_url}api/handsets/{path}", timeout=5)
    assert (response.status_code, words in response.json()["error"]) == (400, True)


def test_a_handset_that_received_nothing_has_no_messages(page_url: str) -> None:
    assert received(page_url, "never-sent", wait=0) == []
