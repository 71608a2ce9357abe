"""PublishEventsFunction: its real handler with a bus, a rule and queues in moto, and its event sources' filters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from local.aws.stream_source import wants
from optus_sms.records.items import CONTRACT_KEY
from optus_sms.records.table import Item
from tests.support.aws import default_template
from tests.support.least_privilege import Account, Sandbox
from tests.unit.flows.test_publish_events import event_between, items, stream_record

EVENTS = Path(__file__).parents[3] / "events"


@dataclass
class Listener:
    """The function, and a listener with a rule on the bus."""

    sandbox: Sandbox
    queue_url: str

    def publish(self, records: list[Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the function's response, and the events."""
        answer = self.sandbox.invoke({"Records": records})
        return answer, [json.loads(body) for body in self.bodies(self.queue_url)]

    def bodies(self, queue_url: str) -> list[str]:
        sqs = self.sandbox.account.owner.client("sqs")
        found = []
        while messages := sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=0).get(
            "Messages", []
        ):
            for message in messages:
                found.append(message["Body"])
                sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        return found


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with Account() as account:
        yield account


@pytest.fixture
def listener(account: Account) -> Iterator[Listener]:
    bus = account.attributes["SmsEventBus"]["Ref"]
    sqs, events = account.owner.client("sqs"), account.owner.client("events")
    queue_url = sqs.create_queue(QueueName="listener")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="all", EventBusName=bus, EventPattern='{"source": ["optus.sms"]}')
    events.put_targets(Rule="all", EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])
    with account.function("PublishEventsFunction", enforced=False) as sandbox:
        yield Listener(sandbox, queue_url)


def records(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((EVENTS / "stream" / f"{name}.json").read_text())["Records"]
    return found


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("accepted", ["SMS Accepted"]),
        ("rejected", ["SMS Rejected"]),
        ("expired", ["SMS Expired"]),
        ("recalled", ["SMS Recalled"]),
        ("outcome_unknown", ["SMS Outcome Unknown"]),
        ("outcome_resolved_later", ["SMS Accepted"]),
        ("health_changed", ["Gateway Health Changed"]),
        ("status_received", ["SMS Status Changed"]),
        ("status_before_our_own_write", ["SMS Status Changed", "SMS Status Changed"]),
        ("status_undelivered", ["SMS Status Changed"]),
        ("reply", ["SMS Reply Received"]),
        ("refused", ["SMS Refused"]),
        ("opted_out", ["SMS Opt-Out Changed"]),
        ("deleted_by_ttl", []),
        ("unreadable_record", ["SMS Rejected", "SMS Expired"]),
    ],
)
def test_every_example_reaches_a_rules_target(listener: Listener, file: str, told: list[str]) -> None:
    answer, events = listener.publish(records(file))

    assert answer == {"batchItemFailures": []}
    assert sorted(event["detail-type"] for event in events) == sorted(told)
    assert {event["source"] for event in events} <= {"optus.sms"}


def test_every_example_is_tested() -> None:
    marks = test_every_example_reaches_a_rules_target.pytestmark  # type: ignore[attr-defined] # set by parametrize
    tested = {case[0] for case in marks[0].args[1]}

    assert tested == {path.stem for path in (EVENTS / "stream").glob("*.json")}


def test_a_hundred_records_arrive_in_their_order(listener: Listener) -> None:
    batch = []
    for number in range(100):
        key: Item = {"pk": f"msg#m{number:03}"}
        batch.append(stream_record({**key, "state": "SENDING"}, {**key, "state": "ACCEPTED"}, number))

    answer, events = listener.publish(batch)

    assert answer == {"batchItemFailures": []}
    assert [event["detail"]["message_id"] for event in events] == [f"m{number:03}" for number in range(100)]


def test_what_cannot_be_published_waits_for_a_person(listener: Listener) -> None:
    kept = listener.sandbox.output("UnpublishedEventsQueueUrl")
    listener.bodies(kept)
    listener.publish(records("unreadable_record"))
    (note,) = listener.bodies(kept)

    assert json.loads(note)["Keys"] == {"pk": {"S": "health#gateway"}}


@pytest.mark.parametrize(
    "event",
    [
        {},
        [],
        None,
        "text",
        {"Records": None},
        {"Records": ["x"]},
        {"Records": [{"eventSource": "aws:sqs", "body": "x"}]},
        {"Records": [{"eventSource": "aws:dynamodb"}]},
        json.loads((EVENTS / "sqs" / "one_message.json").read_text()),
        json.loads((EVENTS / "schedule" / "check_health.json").read_text()),
    ],
    ids=str,
)
def test_foreign_events_are_refused_without_a_crash(listener: Listener, event: Any) -> None:
    assert listener.sandbox.invoke(event) == {"batchItemFailures": []}
    assert listener.bodies(listener.queue_url) == []


def test_its_cold_start_pays_for_no_library_of_the_others() -> None:
    root = EVENTS.parent
    path = os.pathsep.join(str(root / part) for part in ("functions/publish_events", "layers/shared/src"))
    program = "import app, sys; print(*sorted({'pydantic', 'requests', 'yaml', 'jsonschema'} & set(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert ran.stdout.strip() == ""


FILTERS = [
    json.loads(pattern["Pattern"])
    for mapping in default_template().of_type("AWS::Lambda::EventSourceMapping")
    for pattern in mapping.properties.get("FilterCriteria", {}).get("Filters", [])
]


@given(items())
def test_the_filters_let_through_whatever_makes_an_event(images: tuple[Item, Item]) -> None:
    before, after = images
    record = stream_record(before, after) | {"eventName": "MODIFY" if before else "INSERT"}
    # A status and a reply never share an id, so no message becomes a reply.
    turns_round = before and before.get("direction") != "MO" and after.get("direction") == "MO"

    if event_between(before, after) is not None and not turns_round:
        assert wants(FILTERS, record)


@pytest.mark.parametrize("state", ["SENDING", "RETRY"])
def test_the_filters_hold_back_what_makes_none(state: str) -> None:
    claimed = stream_record({}, {"pk": "msg#m1", "state": state})
    accepted = stream_record({}, {"id": "gw-1", "direction": "MT", "status": "accepted"})

    contract = stream_record({}, {"pk": CONTRACT_KEY, "document": "openapi: 3.0.3"})

    assert not wants(FILTERS, claimed)
    assert not wants(FILTERS, contract)
    assert not wants(FILTERS, accepted)
    assert not any(wants(FILTERS, record) for record in records("deleted_by_ttl"))
