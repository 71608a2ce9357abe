"""A message from SQS through the handler with separate senders, and its redriven dead letter."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from cli.dead_letter_queue import DeadLetterQueue, put_back
from local.aws.event_source import record
from optus_sms.model.sender_namespaces import reference_of
from optus_sms.records.items import State
from optus_sms.records.ledger import Ledger
from tests.support.apps import give_gateway
from tests.support.builders import REGION, message_body, send_failed, sqs_event
from tests.support.fakes import ScriptedGateway
from tests.support.least_privilege import Account, Sandbox

SENDER = "AIDAIT2UOQQY3AUEKVGXU"  # moto's sender of every message
OWN = f"{SENDER}/order-17"
QUEUE = f"arn:aws:sqs:{REGION}:123456789012:queue"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.setattr("cli.dead_letter_queue._WAIT_SECONDS", 0)
    with Account() as account, account.function("SendMessageFunction", enforced=False) as sandbox:
        monkeypatch.setenv("SEPARATE_SENDERS", "true")
        monkeypatch.setenv("MAX_ATTEMPTS", "1")
        yield sandbox


def deliver(sandbox: Sandbox, sender_id: str = "") -> None:
    """Deliver waiting messages to the handler, from this sender or from SQS's own."""
    sqs, url = sandbox.client("sqs"), sandbox.output("OutboundQueueUrl")
    messages = sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=0,
        MessageSystemAttributeNames=["All"],
        MessageAttributeNames=["All"],
    )["Messages"]
    records: list[dict[str, Any]] = [record(message, QUEUE) for message in messages]
    for each in records:
        each["attributes"]["SenderId"] = sender_id or each["attributes"]["SenderId"]
    assert sandbox.invoke(sqs_event(*records)) == {"batchItemFailures": []}
    for message in messages:
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def test_a_message_keeps_its_senders_namespace_through_the_dead_letter_queue(sandbox: Sandbox) -> None:
    gateway = ScriptedGateway([send_failed()])
    give_gateway(sandbox.app, gateway)
    sqs, url = sandbox.client("sqs"), sandbox.output("OutboundQueueUrl")
    ledger = Ledger.connect(sandbox.client("dynamodb"), sandbox.output("SendLedgerTableName"))
    sqs.send_message(QueueUrl=url, MessageBody=message_body(message_id="order-17"))
    deliver(sandbox)
    with DeadLetterQueue(sqs, sandbox.output("DeadLetterQueueUrl"), separate_senders=True) as queue:
        (letter,) = queue.dead_letters()
    record_of_it = ledger.read(OWN)
    assert (letter.message_id, record_of_it and record_of_it.state) == (OWN, State.REJECTED)

    assert record_of_it is not None
    assert ledger.reopen(record_of_it, by="alex", now=time.time()) is None
    put_back(sqs, url, letter)
    deliver(sandbox, sender_id="AROAOPERATOR:alex")
    assert [found.message_id for found in ledger.scan()] == [OWN]
    assert gateway.accepted == {reference_of(OWN): 1}
