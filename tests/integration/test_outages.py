"""Outages on the local stack, its schedules sped up: sending pauses and resumes automatically, and nothing is lost."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from local.aws.stack import LocalStack, StackConfig
from local.simulator.scenarios import SCENARIOS
from local.simulator.server import GatewayConfig, GatewaySimulator
from optus_sms.records.contract import ContractRecords
from optus_sms.records.items import CONTRACT_KEY, State
from optus_sms.records.ledger import Ledger
from optus_sms.records.table import Item, unmarshal
from tests.support.builders import wanted
from tests.support.waiting import eventually

CHECKS_A_SECOND = 6
SLOW = 120.0
"""Seconds that a step may take on a machine that many share."""


@dataclass
class Outages:
    """A stack, its functions' logs, and the tests' operations."""

    stack: LocalStack
    lines: list[tuple[str, str]] = field(default_factory=list)

    @property
    def gateway(self) -> GatewaySimulator:
        assert self.stack.simulator is not None
        return self.stack.simulator

    @property
    def health(self) -> Item:
        return self.item("SendLedgerTableName", {"pk": {"S": "health#gateway"}})

    def item(self, table: str, key: dict[str, Any]) -> Item:
        answer = self.stack.client("dynamodb").get_item(
            TableName=self.stack.outputs[table], Key=key, ConsistentRead=True
        )
        return unmarshal(answer.get("Item", {}))

    def ledger(self, key: str) -> Item:
        return self.item("SendLedgerTableName", {"pk": {"S": f"msg#{key}"}})

    def row(self, key: str) -> Item:
        return self.item("MessagesTableName", {"id": {"S": str(self.ledger(key).get("gateway_id", "-"))}})

    @property
    def is_paused(self) -> bool:
        return not any(source.enabled for source in self.stack.event_sources.values())

    def turn(self, *, enabled: bool) -> None:
        """Turn the mappings of both queues, as an operator can by hand."""
        client = self.stack.client("lambda")
        for source in self.stack.event_sources.values():
            client.update_event_source_mapping(UUID=source.config.mapping_id, Enabled=enabled)
        eventually(lambda: self.is_paused is not enabled, "the mapping turns", SLOW)

    def queue(self, count: int, number: str = SCENARIOS["received"].number) -> list[str]:
        sqs, keys = self.stack.client("sqs"), [f"outage-{uuid4().hex[:12]}" for _ in range(count)]
        for start in range(0, count, 10):
            entries = [
                {
                    "Id": key,
                    "MessageBody": json.dumps({"message_id": key, "destination": number, "content": "Hello"}),
                }
                for key in keys[start : start + 10]
            ]
            sqs.send_message_batch(QueueUrl=self.stack.outputs["OutboundQueueUrl"], Entries=entries)
        return keys

    def visible(self, queue: str) -> int:
        name = "ApproximateNumberOfMessages"
        answer = self.stack.client("sqs").get_queue_attributes(
            QueueUrl=self.stack.outputs[queue], AttributeNames=[name]
        )
        return int(answer["Attributes"][name])

    def checked(self, times: int) -> None:
        """Wait for so many more checks."""
        start = int(str(self.health.get("checks", 0)))
        eventually(lambda: int(str(self.health.get("checks", 0))) >= start + times, f"{times} checks", SLOW)

    def well(self) -> None:
        """Make the gateway healthy, and wait until the health check has recorded that and sending is on."""
        self.gateway.clear_faults()
        eventually(lambda: self.health.get("state") == "healthy", "healthy", SLOW)
        eventually(lambda: "paused_by" not in self.health and not self.is_paused, "not paused", SLOW)

    def all_arrive(self, keys: list[str]) -> None:
        """Check that each message is sent exactly once and becomes `received`, and none is a dead letter."""
        for key in keys:
            eventually(lambda key=key: self.row(key).get("status") == "received", f"{key} arrives", SLOW)  # type: ignore[misc]
        assert self.times_sent(keys) == dict.fromkeys(keys, 1)
        assert {self.ledger(key)["state"] for key in keys} == {"ACCEPTED"}
        assert self.visible("DeadLetterQueueUrl") == 0

    def times_sent(self, keys: list[str]) -> dict[str, int]:
        return {key: len(self.gateway.taken(reference=key)) for key in keys}

    def take_dead_letters(self, count: int) -> dict[str, str]:
        """Wait for so many dead letters and delete them; return message_id and reason of each."""
        sqs, url, reasons = self.stack.client("sqs"), self.stack.outputs["DeadLetterQueueUrl"], {}
        eventually(lambda: self.visible("DeadLetterQueueUrl") == count, f"{count} dead letters", SLOW)
        while batch := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]).get(
            "Messages"
        ):
            for letter in batch:
                attributes = letter["MessageAttributes"]
                reasons[attributes["message_id"]["StringValue"]] = attributes["reason"]["StringValue"]
                sqs.delete_message(QueueUrl=url, ReceiptHandle=letter["ReceiptHandle"])
        return reasons

    def invoke(self, function: str, event: dict[str, Any]) -> dict[str, Any]:
        invocation = self.stack.functions[function].invoke(event)
        assert invocation.error is None
        result: dict[str, Any] = invocation.result
        return result

    def most_receives(self) -> int:
        records = (json.loads(line) for name, line in self.lines if name == "SendMessageFunction")
        return max(int(record.get("receive_count", 0)) for record in records)


@pytest.fixture(scope="module")
def outages() -> Iterator[Outages]:
    lines: list[tuple[str, str]] = []
    config = StackConfig(
        simulator=GatewayConfig(seed=1, status_step_seconds=0.02),
        schedule_speed=60 * CHECKS_A_SECOND,
        log=lambda name, line: lines.append((name, line)),
    )
    with LocalStack(config) as stack:
        found = Outages(stack, lines)
        found.well()
        yield found


@pytest.fixture(autouse=True)
def _well_again(outages: Outages) -> Iterator[None]:
    yield
    outages.well()
    # The health check counts in whole seconds: a message accepted in the second in which the failures of the next test
    # begin would count as accepted since then, and nothing would be paused for five minutes.
    time.sleep(1.1)


def test_an_outage_shuts_the_queue_and_its_end_opens_it(outages: Outages) -> None:
    outages.gateway.set_faults(down="refused")
    keys = outages.queue(6)
    eventually(lambda: outages.is_paused, "paused", SLOW)
    assert (outages.health["state"], outages.health["paused_by"]) == ("unhealthy", "health")
    assert outages.health["pause_reason"] == "outage"
    outages.checked(12)
    assert outages.is_paused
    outages.gateway.clear_faults()
    eventually(lambda: not outages.is_paused, "resumed", SLOW)
    outages.all_arrive(keys)


def test_what_is_on_the_wire_when_the_gateway_dies_is_unknown_and_never_sent_again(outages: Outages) -> None:
    outages.gateway.set_faults(response_delay_seconds=6.0)
    on_the_wire = outages.queue(5)
    eventually(lambda: all(outages.times_sent(on_the_wire).values()), "on the wire", SLOW)
    outages.gateway.set_faults(down="refused", response_delay_seconds=None)
    waiting = outages.queue(6)
    eventually(lambda: outages.is_paused, "paused", SLOW)
    assert outages.take_dead_letters(5) == dict.fromkeys(on_the_wire, "unknown_outcome")
    outages.gateway.clear_faults()
    eventually(lambda: not outages.is_paused, "resumed", SLOW)
    outages.all_arrive(on_the_wire + waiting)


def test_refused_credentials_shut_the_queue_and_good_ones_open_it(outages: Outages) -> None:
    outages.gateway.set_faults(credentials_refused=True)
    keys = outages.queue(5)
    eventually(lambda: outages.health.get("pause_reason") == "credentials_refused", "paused", SLOW)
    assert outages.health["state"] == "healthy"
    outages.gateway.clear_faults()
    eventually(lambda: not outages.is_paused, "resumed", SLOW)
    outages.all_arrive(keys)


def test_a_gateway_without_healthz_is_judged_by_the_status_service(outages: Outages) -> None:
    outages.gateway.set_faults(healthz="off")
    eventually(lambda: outages.health["reason"] == "service status: available", "asked", SLOW)
    assert (outages.health["state"], outages.is_paused) == ("healthy", False)


def test_what_an_operator_shut_stays_shut_through_an_outage(outages: Outages) -> None:
    outages.turn(enabled=False)
    try:
        outages.gateway.set_faults(down="refused")
        eventually(lambda: outages.health["state"] == "unhealthy", "unhealthy", SLOW)
        outages.gateway.clear_faults()
        eventually(lambda: outages.health["state"] == "healthy", "healthy", SLOW)
        outages.checked(3)
        assert outages.is_paused
        assert outages.health["paused_by"] == "operator"
    finally:
        outages.turn(enabled=True)


def test_what_an_operator_opened_in_an_outage_is_paused_again_if_messages_fail(outages: Outages) -> None:
    outages.gateway.set_faults(down="refused")
    eventually(lambda: outages.health.get("pause_confirmed"), "paused", SLOW)
    outages.turn(enabled=True)
    eventually(lambda: "paused_by" not in outages.health, "noticed", SLOW)
    outages.checked(4)
    assert not outages.is_paused, "no message has failed"
    keys = outages.queue(1)
    eventually(lambda: outages.is_paused, "paused again", SLOW)
    outages.gateway.clear_faults()
    eventually(lambda: not outages.is_paused, "resumed", SLOW)
    outages.all_arrive(keys)


def test_the_contract_is_compared_and_its_absence_is_told_apart(outages: Outages) -> None:
    key = {"pk": {"S": CONTRACT_KEY}}
    # The daily check can have run during an earlier test's outage.
    assert outages.invoke("CheckHealthFunction", {"check": "contract"})["contract"] in ("baseline", "same")
    assert outages.invoke("CheckHealthFunction", {"check": "contract"})["contract"] == "same"
    document = str(outages.item("SendLedgerTableName", key)["document"])
    dynamodb, table = outages.stack.client("dynamodb"), outages.stack.outputs["SendLedgerTableName"]
    ContractRecords.connect(dynamodb, table).put(document + "\nx-gone: true", now=time.time())
    changed = outages.invoke("CheckHealthFunction", {"check": "contract"})
    assert (changed["contract"], changed["differences"][-1]) == ("changed", "-x-gone: true")
    assert outages.item("SendLedgerTableName", key)["document"] == document
    outages.gateway.set_faults(openapi="off")
    assert outages.invoke("CheckHealthFunction", {"check": "contract"})["contract"] == "absent"
    outages.gateway.set_faults(openapi="503")
    assert outages.invoke("CheckHealthFunction", {"check": "contract"})["contract"] == "unreadable"


def make_due(outages: Outages, table: str, key: dict[str, Any]) -> None:
    """Make an item due, as if days had passed."""
    outages.stack.client("dynamodb").update_item(
        TableName=outages.stack.outputs[table],
        Key=key,
        UpdateExpression="SET look_at = :past",
        ConditionExpression="attribute_exists(look_at)",
        ExpressionAttributeValues={":past": {"N": "1"}},
    )


def test_a_status_that_no_callback_told_is_asked_for(outages: Outages) -> None:
    (key,) = outages.queue(1, SCENARIOS["callbacks_none"].number)
    eventually(lambda: outages.row(key), "sent", SLOW)
    gateway_id = str(outages.ledger(key)["gateway_id"])
    eventually(lambda: outages.gateway.taken(reference=key)[0]["status"] == "received", "arrived", SLOW)
    assert outages.row(key)["status"] == "accepted"
    make_due(outages, "MessagesTableName", {"id": {"S": gateway_id}})
    eventually(lambda: outages.row(key)["status"] == "received", "asked for", SLOW)


def test_a_claim_of_a_dead_sender_becomes_unknown_and_is_given_up_in_the_end(outages: Outages) -> None:
    key = f"dead-{uuid4().hex[:12]}"
    ledger = Ledger.connect(outages.stack.client("dynamodb"), outages.stack.outputs["SendLedgerTableName"])
    old = time.time() - 3600
    claim = ledger.claim(wanted(key, ttl=int(old) + 60 * 86_400, owner="dead", lease_until=int(old)), now=old)
    assert claim.state is State.SENDING
    eventually(lambda: outages.ledger(key)["state"] == "UNKNOWN", "unknown", SLOW)
    assert "unresolved_at" not in outages.ledger(key)
    make_due(outages, "SendLedgerTableName", {"pk": {"S": f"msg#{key}"}})
    eventually(lambda: "unresolved_at" in outages.ledger(key), "given up", SLOW)
    assert outages.ledger(key)["state"] == "UNKNOWN"


@pytest.mark.deep
@pytest.mark.timeout(900)
def test_a_long_outage_with_hundreds_of_messages_costs_none_of_them(outages: Outages) -> None:
    """The gateway is down for two hours of checks, and messages come before and during that."""
    outages.lines.clear()
    keys = outages.queue(50)
    outages.all_arrive(keys)  # messages on the wire at the beginning have unknown outcomes, which the test above covers
    outages.gateway.set_faults(down="refused")
    keys += outages.queue(100)
    eventually(lambda: outages.is_paused, "paused", SLOW)
    for _ in range(6):
        keys += outages.queue(25)
        outages.checked(20)
    assert outages.is_paused
    assert outages.visible("DeadLetterQueueUrl") == 0
    receives_at_the_end_of_the_outage = outages.most_receives()
    outages.gateway.clear_faults()
    eventually(lambda: not outages.is_paused, "resumed", SLOW)
    outages.all_arrive(keys)
    assert len(keys) == 300
    assert receives_at_the_end_of_the_outage < 10, "of the 100 after which SQS itself would give a message up"
