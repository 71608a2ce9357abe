"""Events on the local stack: from a queued message to a rule's target, by tables, streams and the real function."""

import json
from uuid import uuid4

from jsonschema import Draft202012Validator

from local.aws.stack import LocalStack
from local.demo.watcher import Event, Seen, Watcher
from local.simulator.scenarios import SCENARIOS
from tests.support.builders import TOO_LONG_FOR_AN_EVENT
from tools.schemas import FOLDER


def of_message(seen: Seen, key: str) -> list[Event]:
    """Return the events of a message, including those of its replies."""
    gateway_id = seen.facts(key).gateway_id
    return [
        event
        for event in seen.events
        if event["detail"].get("message_id") == key
        or (gateway_id is not None and event["detail"].get("in_reply_to") == gateway_id)
    ]


def test_the_whole_life_of_a_message_is_told(local_stack: LocalStack) -> None:
    key = f"told-{uuid4()}"
    body = {"message_id": key, "destination": SCENARIOS["reply"].number, "content": "Will you come?"}

    def complete(seen: Seen) -> bool:
        told = of_message(seen, key)
        names = {event["detail-type"] for event in told}
        statuses = {event["detail"].get("status") for event in told}
        return {"SMS Accepted", "SMS Reply Received"} <= names and "received" in statuses

    with Watcher(local_stack) as watcher:
        local_stack.client("sqs").send_message(
            QueueUrl=local_stack.outputs["OutboundQueueUrl"], MessageBody=json.dumps(body)
        )
        watcher.wait_until(complete, 60, 60)
        with watcher.changed:
            assert complete(watcher.seen), of_message(watcher.seen, key)
            events = list(watcher.seen.events)

    schemas = [json.loads(path.read_text()) for path in sorted((FOLDER / "events").glob("*.json"))]
    for event in events:
        (schema,) = [one for one in schemas if one["title"] == event["detail-type"]]
        assert [error.message for error in Draft202012Validator(schema).iter_errors(event)] == []
    assert not any("Will you come?" in json.dumps(event) for event in events)


def test_what_no_event_can_hold_is_noted_and_stops_no_other(local_stack: LocalStack) -> None:
    keys, client = [f"edited-{uuid4()}", f"after-{uuid4()}"], local_stack.client("dynamodb")
    with Watcher(local_stack) as watcher:
        for key, detail in zip(keys, (TOO_LONG_FOR_AN_EVENT, "rejected"), strict=True):
            client.put_item(
                TableName=local_stack.outputs["SendLedgerTableName"],
                Item={"pk": {"S": f"msg#{key}"}, "state": {"S": "REJECTED"}, "detail": {"S": detail}},
            )
        for source in local_stack.stream_sources:
            source.wake()
        assert watcher.wait_until(lambda seen: bool(of_message(seen, keys[1])), 60, 60)

    sqs, notes = local_stack.client("sqs"), []
    queue = local_stack.outputs["UnpublishedEventsQueueUrl"]
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=0).get("Messages"):
        for message in messages:
            notes.append(json.loads(message["Body"])["Keys"]["pk"]["S"])
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])  # otherwise doctor reports it
    assert f"msg#{keys[0]}" in notes
    assert f"msg#{keys[1]}" not in notes
