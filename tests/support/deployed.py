"""A deployed stack for the command line: in moto's CloudFormation, with the template's own tables."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import boto3

from optus_sms.aws.queues import DeadLetter, DeadLetterReason, Queues
from optus_sms.model.queue_message import parse_message
from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.ledger import Ledger
from tests.support.aws import default_template
from tests.support.builders import message_body, wanted

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from optus_sms.runtime.settings import OnUnknown

STACK: Final = "optus-sms-test"
_TABLE_PROPERTIES: Final = ("KeySchema", "AttributeDefinitions", "BillingMode", "GlobalSecondaryIndexes")


def _table(logical_id: str) -> dict[str, Any]:
    properties: dict[str, Any] = dict(default_template().resources[logical_id].properties)
    return {
        "Type": "AWS::DynamoDB::Table",
        "Properties": {n: properties[n] for n in _TABLE_PROPERTIES if n in properties},
    }


def _secret(session: boto3.Session, fields: dict[str, str]) -> str:
    """Create a secret, and return its ARN. Not by CloudFormation, because that of moto has no secrets."""
    client = session.client("secretsmanager")
    return client.create_secret(Name=f"{STACK}-{uuid4()}", SecretString=json.dumps(fields))["ARN"]


def deploy(session: boto3.Session, name: str = STACK, *, separate_senders: bool = False) -> DeployedStack:
    """Create the stack. No wait is needed, because moto creates it at once."""
    outputs = {
        "OutboundQueueUrl": {"Ref": "OutboundQueue"},
        "UrgentQueueUrl": {"Ref": "UrgentQueue"},
        "DeadLetterQueueUrl": {"Ref": "DeadLetterQueue"},
        "SendLedgerTableName": {"Ref": "SendLedgerTable"},
        "MessagesTableName": {"Ref": "MessagesTable"},
        "OptOutTableName": {"Ref": "OptOutTable"},
        "GatewaySecretArn": _secret(session, {"application": "REPLACE_ME", "password": "REPLACE_ME"}),
        "CallbackSecretArn": _secret(session, {"username": "gateway", "password": "first-password"}),
        "StatusCallbackUrl": "https://callbacks.invalid/v1/callbacks/status",
        "ReplyCallbackUrl": "https://callbacks.invalid/v1/callbacks/reply",
    }
    template = {
        "Parameters": {
            "GatewayBaseUrl": {"Type": "String", "Default": "https://gateway.invalid/rest/sms/v2"},
            "RetentionDays": {"Type": "Number", "Default": 90},
            "AllowedDestinations": {"Type": "String", "Default": "+614,+4477"},
            "SeparateSenders": {"Type": "String", "Default": str(separate_senders).lower()},
        },
        "Resources": {
            "OutboundQueue": {"Type": "AWS::SQS::Queue"},
            "UrgentQueue": {"Type": "AWS::SQS::Queue"},
            "DeadLetterQueue": {"Type": "AWS::SQS::Queue"},
            "SendLedgerTable": _table("SendLedgerTable"),
            "MessagesTable": _table("MessagesTable"),
            "OptOutTable": _table("OptOutTable"),
        },
        "Outputs": {output: {"Value": value} for output, value in outputs.items()},
    }
    cloudformation = session.client("cloudformation")
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    described = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    return DeployedStack(session, {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]})


@dataclass
class DeployedStack:
    """A deployed stack: its outputs, and methods that bring a message to a state or make a dead letter."""

    session: boto3.Session
    outputs: dict[str, str]

    @cached_property
    def sqs(self) -> SQSClient:
        return self.session.client("sqs")

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger.connect(self.session.client("dynamodb"), self.outputs["SendLedgerTableName"])

    def bring(
        self,
        state: State,
        key: str,
        *,
        body: str | None = None,
        reason: str = "rejected",
        queued_at: float | None = None,
        on_unknown: OnUnknown = "hold",
    ) -> str:
        """Write a message's ledger record as the sender function would in this state; return the message's body."""
        body = body or message_body(message_id=key)
        now = time.time()
        payload = parse_message(body, now=now, queued_at=queued_at).payload_sha256
        of = wanted(key, payload_sha256=payload, on_unknown=on_unknown)
        if state is State.EXPIRED:
            self.ledger.expired(of, now=now)
            return body
        if state is State.RECALLED:
            self.ledger.recall(of, by="alex", now=now)
            return body
        claim = self.ledger.claim(of._replace(owner=f"sender at {now}", lease_until=int(now) + 90), now=now)
        assert claim.state is State.SENDING
        match state:
            case State.RETRY:
                self.ledger.not_sent(claim, "throttled (status 429)", now=now)
            case State.ACCEPTED:
                self.ledger.accepted(claim, f"gw-{key}", now=now)
            case State.REJECTED:
                self.ledger.rejected(claim, reason, "rejected (status 400)", now=now)
            case State.UNKNOWN:
                self.ledger.unknown(claim, "timed_out", now=now)
            case State.SENDING:
                pass
        return body

    def record(self, key: str) -> LedgerRecord | None:
        """Return the ledger's current record of a message."""
        return self.ledger.read(key)

    def letter(
        self,
        body: str,
        reason: DeadLetterReason,
        key: str,
        detail: str = "why",
        queued_at: float | None = None,
        lane: str = "",
    ) -> None:
        """Write a dead letter as the functions do."""
        queues = Queues(self.sqs, dead_letter_queue_url=self.outputs["DeadLetterQueueUrl"])
        queues.dead_letter(DeadLetter(body, reason, detail, key, queued_at=queued_at, lane=lane), now=time.time())

    def moved_by_sqs(self, body: str) -> str:
        """Make a dead letter as SQS itself moves it, without a reason; return its SQS ID."""
        return self.sqs.send_message(QueueUrl=self.outputs["DeadLetterQueueUrl"], MessageBody=body)["MessageId"]

    def queued(self) -> list[tuple[str, str]]:
        """Take all messages out of the outbound queue; return body and attribute `message_id` (or empty) of each."""
        return [(body, attributes.get("message_id", "")) for body, attributes in self.queued_with_attributes()]

    def queued_with_attributes(self) -> list[tuple[str, dict[str, str]]]:
        """Take all messages out of the outbound queue; return body and attributes of each."""
        return [
            (
                message["Body"],
                {name: each["StringValue"] for name, each in message.get("MessageAttributes", {}).items()},
            )
            for message in self.received("OutboundQueueUrl")
        ]

    def dead(self) -> int:
        """Return the number of visible dead letters."""
        answer = self.sqs.get_queue_attributes(
            QueueUrl=self.outputs["DeadLetterQueueUrl"], AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def received(self, output: str) -> list[Any]:
        """Take all messages out of this queue."""
        taken: list[Any] = []
        url = self.outputs[output]
        while batch := self.sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=0,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        ).get("Messages", []):
            taken += batch
            for message in batch:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return taken
