"""Every action that a role allows is used by its function, and no other is needed.

One round of each function's work, with IAM enforced. Under its role nothing is refused; if the role lacks an action,
exactly that action is refused.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from moto.core import disable_iam_authentication

from local.aws.event_source import record
from local.aws.table_stream import lambda_record
from optus_sms.gateway.credentials import GatewayCredentials
from optus_sms.gateway.transport import Exchange
from optus_sms.model.callbacks import StatusCallback
from optus_sms.records.items import CONTRACT_KEY, HEALTH_KEY
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from tests.support.apps import give_gateway
from tests.support.aws import default_template
from tests.support.builders import (
    ACCOUNT,
    NOW,
    REGION,
    TOO_LONG_FOR_AN_EVENT,
    message_body,
    rejected,
    reply_event,
    sent,
    sent_message,
    sqs_event,
    status_event,
    unreachable,
    wanted,
)
from tests.support.fakes import FakeClock, ScriptedGateway
from tests.support.health import NO_PATH, FakeGateway, answer
from tests.support.least_privilege import Account, Sandbox, allowed_actions

_numbers = itertools.count(1)
Round = Callable[[Sandbox], None]


def send_messages(sandbox: Sandbox) -> None:
    """Send a round by each queue."""
    for output in ("OutboundQueueUrl", "UrgentQueueUrl"):
        send_by(sandbox, output)


def send_by(sandbox: Sandbox, output: str) -> None:
    """Send four messages: accepted, refused, not sendable now, and marked as redriven by another sender.

    They are received and deleted as Lambda does.
    """
    number = next(_numbers)
    keys = {name: f"{name}-{number}" for name in ("sent", "refused", "later")}
    scripts = {keys["sent"]: [sent(f"gw-{number}")], keys["refused"]: [rejected()], keys["later"]: [unreachable()]}
    give_gateway(sandbox.app, ScriptedGateway(by_reference=scripts))
    sandbox.app.Clock = lambda: FakeClock().clock  # type: ignore[attr-defined] # nobody waits for another try
    owner = sandbox.account.owner.client("sqs")
    sqs, queue = sandbox.client("sqs"), sandbox.output(output)
    with as_owner():
        forget(sandbox, HEALTH_KEY)  # a doubt would hold the messages
        while left := owner.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=0).get("Messages"):
            for forgotten in left:  # left by a round that was not allowed to receive them
                owner.delete_message(QueueUrl=queue, ReceiptHandle=forgotten["ReceiptHandle"])
        for key in keys.values():
            owner.send_message(QueueUrl=queue, MessageBody=message_body(message_id=key))
        stamps = {"message_id": "AROAORDERS/message-1", "queued_at": "2026-01-01T00:00:00Z"}
        attributes: Any = {name: {"DataType": "String", "StringValue": value} for name, value in stamps.items()}
        owner.send_message(QueueUrl=queue, MessageBody=message_body(), MessageAttributes=attributes)
    with refused():
        sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])
    messages: list[dict[str, Any]] = []
    with refused():
        messages = sqs.receive_message(
            QueueUrl=queue,
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
            WaitTimeSeconds=0,
        ).get("Messages", [])
    records = [record(message, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue.rpartition('/')[2]}") for message in messages]
    # In one batch with the others, the one that finds no gateway could keep them from being sent.
    for is_later in (False, True):
        if batch := [each for each in records if (keys["later"] in each["body"]) is is_later]:
            sandbox.invoke(sqs_event(*batch))
    for message in messages:
        with refused():
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


def forget(sandbox: Sandbox, *keys: str) -> None:
    """Delete items of `SendLedgerTable`."""
    table = sandbox.output("SendLedgerTableName")
    for key in keys:
        sandbox.account.owner.client("dynamodb").delete_item(TableName=table, Key={"pk": {"S": key}})


def receive_callbacks(sandbox: Sandbox) -> None:
    """Send a status that resolves nothing, a reply that must be matched and opts out, and an unreadable callback."""
    number = next(_numbers)
    for event in (
        status_event({"message_id": f"gw-{number}", "status": "sent", "reference": f"order-{number}"}),
        reply_event({"id": f"mo-{number}", "source": "+61491570157", "content": "STOP"}),
        status_event("not JSON"),
    ):
        sandbox.invoke(event)
    with as_owner():
        resolve_unknown(sandbox, f"unknown-{number}")
    sandbox.invoke(status_event({"message_id": f"late-{number}", "status": "sent", "reference": f"unknown-{number}"}))


def resolve_unknown(sandbox: Sandbox, key: str) -> None:
    """Resolve a message with an unknown outcome by a callback with its reference."""
    sandbox.account.owner.client("dynamodb").put_item(
        TableName=sandbox.output("SendLedgerTableName"),
        Item={"pk": {"S": f"msg#{key}"}, "state": {"S": "UNKNOWN"}, "attempts": {"N": "1"}},
    )


def publish_events(sandbox: Sandbox) -> None:
    """Publish changes as Lambda reads them from the stream, one of them too long for an event."""
    owner, table = sandbox.account.owner.client("dynamodb"), sandbox.output("SendLedgerTableName")
    number = next(_numbers)
    with as_owner():
        for key, detail in (("good", "rejected"), ("bad", TOO_LONG_FOR_AN_EVENT)):
            item = {"pk": {"S": f"msg#{key}-{number}"}, "state": {"S": "REJECTED"}, "detail": {"S": detail}}
            owner.put_item(TableName=table, Item=item)
        arn = owner.describe_table(TableName=table)["Table"]["LatestStreamArn"]
    streams = sandbox.client("dynamodbstreams")
    records: list[dict[str, Any]] = []
    with refused():
        streams.list_streams(TableName=table)
    shard, iterator = "", ""
    with refused():
        shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
    if shard:
        with refused():
            iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")[
                "ShardIterator"
            ]
    if iterator:
        with refused():
            records = streams.get_records(ShardIterator=iterator)["Records"]
    if records:
        sandbox.invoke({"Records": [lambda_record(record, arn) for record in records[-2:]]})


class IllThenWell(FakeGateway):
    """A gateway that is unhealthy for the first three checks."""

    timeout_seconds = 5.0
    looks = 0

    def get_health(self) -> Exchange:
        self.looks += 1
        return answer(503 if self.looks <= 3 else 200)

    def get_contract(self, credentials: GatewayCredentials | None) -> Exchange:
        return answer(200, b"openapi: 3.0.3")


class WithoutLookups(IllThenWell):
    """A gateway without look-ups, so that only `/healthz` shows its health."""

    def get_message(self, gateway_id: str, credentials: GatewayCredentials) -> Exchange:
        return answer(404, NO_PATH)


def check_health(sandbox: Sandbox) -> None:
    """Ill until sending is paused, then well until it is resumed; and the first look at its contract."""
    owner = sandbox.account.owner
    with as_owner():
        forget(sandbox, HEALTH_KEY, CONTRACT_KEY)
        for mapping_id in sandbox.account.mapping_ids.values():
            owner.client("lambda").update_event_source_mapping(UUID=mapping_id, Enabled=True)
    give_gateway(sandbox.app, WithoutLookups())
    time = FakeClock()
    sandbox.app.Clock = lambda: time.clock  # type: ignore[attr-defined] # checks at once would not count
    for _ in range(5):
        time.advance(60)
        sandbox.invoke({"check": "health"})
    sandbox.invoke({"check": "contract"})


def reconcile_messages(sandbox: Sandbox) -> None:
    """Reconcile a lease that ended long ago, a callback without its message, and a message without a final status."""
    number = next(_numbers)
    client = sandbox.account.owner.client("dynamodb")
    ledger = Ledger.connect(client, sandbox.output("SendLedgerTableName"))
    messages = Messages.connect(client, sandbox.output("MessagesTableName"), retention_days=90)
    long_ago = NOW - 10 * 86_400
    with as_owner():
        ledger.claim(wanted(f"dead-{number}", owner="owner", lease_until=int(long_ago) + 90), now=long_ago)
        messages.record_sent(*sent_message(f"asked-{number}"), now=long_ago)
        messages.record_status(StatusCallback(f"alone-{number}", "sent", reference=f"nobody-{number}"), now=long_ago)
    give_gateway(sandbox.app, IllThenWell())
    sandbox.app.Clock = lambda: FakeClock().clock  # type: ignore[attr-defined]
    sandbox.invoke({})


ROUNDS: dict[str, Round] = {
    "SendMessageFunction": send_messages,
    "ReceiveCallbackFunction": receive_callbacks,
    "CheckHealthFunction": check_health,
    "ReconcileMessagesFunction": reconcile_messages,
    "PublishEventsFunction": publish_events,
}


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Ignore refusals of Lambda's calls under the role; the account counts them."""
    with contextlib.suppress(ClientError, BotoCoreError):
        yield


@contextlib.contextmanager
def as_owner() -> Iterator[None]:
    """Run the test's own preparation outside of the role."""
    with disable_iam_authentication():
        yield


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with Account() as account:
        yield account


CASES = [
    pytest.param(function.logical_id, action, id=f"{function.logical_id}-{action}")
    for function in default_template().of_type("AWS::Lambda::Function")
    for action in allowed_actions(function)
]


def test_every_function_has_a_round() -> None:
    assert set(ROUNDS) == {function.logical_id for function in default_template().of_type("AWS::Lambda::Function")}


@pytest.mark.parametrize("function", ROUNDS)
def test_its_role_allows_all_that_a_function_does(account: Account, function: str) -> None:
    with account.function(function) as sandbox:
        ROUNDS[function](sandbox)

    assert (account.denied, account.failed) == ([], [])


def test_a_message_returns_to_the_queue_that_it_came_by(account: Account) -> None:
    with account.function("SendMessageFunction") as sandbox:
        send_messages(sandbox)
        queues = [sandbox.output(output) for output in ("OutboundQueueUrl", "UrgentQueueUrl")]

    returned = [made.parameters["QueueUrl"] for made in account.calls if made.operation == "ChangeMessageVisibility"]
    assert list(dict.fromkeys(returned)) == queues


@pytest.mark.parametrize(("function", "action"), CASES)
def test_each_action_is_needed(account: Account, function: str, action: str) -> None:
    with account.function(function, without=action) as sandbox:
        ROUNDS[function](sandbox)

    assert set(account.denied) == {action}
