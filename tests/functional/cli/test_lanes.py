"""The commands use both queues: messages of the urgent lane are sent, found, recalled, erased and redriven."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.dead_letter_queue import read_dead_letter
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.model.lanes import Lane
from optus_sms.records.items import State
from tests.support.aws import REGION
from tests.support.builders import HANDSET, NOW, message_body
from tests.support.cli import optus_sms
from tests.support.deployed import STACK, DeployedStack

pytestmark = pytest.mark.usefixtures("switch")
TARGET = ("--stack", STACK, "--region", REGION)
URGENT = "UrgentQueueUrl"


def bodies(stack: DeployedStack, output: str) -> list[str]:
    return [json.loads(message["Body"])["message_id"] for message in stack.received(output)]


def queue_urgent(stack: DeployedStack, key: str) -> None:
    stack.sqs.send_message(QueueUrl=stack.outputs[URGENT], MessageBody=message_body(message_id=key))


def test_send_urgent_queues_to_the_urgent_queue(stack: DeployedStack, tmp_path: Path) -> None:
    assert optus_sms("send", HANDSET, "Hello", "--urgent", "--message-id", "one", *TARGET).exit_code == 0
    lines = tmp_path / "lines"
    lines.write_text(message_body(message_id="two") + "\n")
    assert optus_sms("send", "--file", lines, "--urgent", *TARGET).exit_code == 0
    assert (bodies(stack, URGENT), bodies(stack, "OutboundQueueUrl")) == (["one", "two"], [])


@pytest.mark.parametrize(("lane", "output"), [("urgent", URGENT), ("ordinary", "OutboundQueueUrl")])
def test_a_dead_letter_is_redriven_into_its_lane(stack: DeployedStack, lane: str, output: str) -> None:
    body = message_body(message_id="exhausted")
    stack.letter(body, DeadLetterReason.INVALID, "exhausted", lane=lane)
    listed = optus_sms("dead-letters", "--json", *TARGET).document
    assert [each["lane"] for each in listed] == [lane]
    assert optus_sms("redrive", "exhausted", "--yes", *TARGET).exit_code == 0
    assert bodies(stack, output) == ["exhausted"]


@pytest.mark.parametrize(
    ("source", "lane"), [("", Lane.ORDINARY), ("arn:aws:sqs:r:1:u", Lane.URGENT), ("arn:aws:sqs:r:1:o", Lane.ORDINARY)]
)
def test_a_dead_letter_moved_by_sqs_is_of_the_queue_that_it_came_from(source: str, lane: Lane) -> None:
    """The attributes, which the sender may have set, don't count."""
    attributes = {"SentTimestamp": "0", **({"DeadLetterQueueSourceArn": source} if source else {})}
    named = {"lane": {"StringValue": "urgent", "DataType": "String"}}
    raw = {"MessageId": "m", "Body": message_body(), "Attributes": attributes, "MessageAttributes": named}
    assert read_dead_letter(raw, now=NOW, urgent_queue="u").lane is lane


def test_find_reads_the_urgent_queue_too(stack: DeployedStack) -> None:
    queue_urgent(stack, "code-1")
    found = optus_sms("find", "code-1", "--queue", "--yes", "--json", *TARGET).document["found"]
    assert [(each["where"], each["message_id"]) for each in found] == [("urgent queue", "code-1")]


def test_recall_takes_it_from_the_urgent_queue(stack: DeployedStack) -> None:
    queue_urgent(stack, "code-2")
    ran = optus_sms("recall", "--since", "1h", "--yes", "--json", *TARGET)
    assert [each["message_id"] for each in ran.document["messages"]] == ["code-2"]
    record = stack.record("code-2")
    assert (record and record.state, bodies(stack, URGENT)) == (State.RECALLED, [])


def test_erase_takes_it_from_the_urgent_queue(stack: DeployedStack) -> None:
    queue_urgent(stack, "code-3")
    assert optus_sms("erase", HANDSET, "--yes", *TARGET).exit_code == 0
    assert bodies(stack, URGENT) == []
