"""First deployment, update, upgrade, failure and removal, by the commands of docs/deploy.md and docs/upgrade.md."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from optus_sms.records.items import State
from tests.deploy.deployment import Deployment, gateway, sam
from tests.support.emulator import ROOT, Emulator
from tests.support.waiting import eventually

DEADLINE_SECONDS: Final = 180.0
KEPT: Final = {
    *("OutboundQueue", "UrgentQueue", "DeadLetterQueue", "UnpublishedEventsQueue"),
    *("SendLedgerTable", "MessagesTable", "OptOutTable"),
    *("ApiGatewayAccount", "ApiGatewayLogsRole"),
}
DATA: Final = {*KEPT, "GatewaySecret", "CallbackSecret", "CallbackApi", "SmsEventBus"}


def earlier_version(folder: Path) -> Path:
    """The version before the last change of the functions' code; one of the template may concern comments only."""
    git = ["git", "-C", str(ROOT)]
    last = subprocess.run(
        [*git, "log", "-1", "--format=%H", "--", "functions", "layers/shared/src"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    archive = subprocess.run([*git, "archive", f"{last}^"], check=False, capture_output=True)
    if archive.returncode:
        pytest.skip("this clone has no earlier version")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.fixture
def another(aws: Emulator, tmp_path: Path) -> Iterator[Deployment]:
    """A second stack in the account, not deployed yet."""
    with gateway() as simulator:
        yield Deployment(f"optus-sms-{uuid4().hex[:6]}", aws, simulator, tmp_path)


def names_left(stack: Deployment) -> list[str]:
    """Return the names of tables and queues with the stack's name, whether the stack exists or not."""
    tables = stack.client("dynamodb").list_tables()["TableNames"]
    queues = stack.client("sqs").list_queues(QueueNamePrefix=stack.name).get("QueueUrls", [])
    names = [*tables, *(url.rpartition("/")[2] for url in queues)]
    return [name for name in names if name.startswith(f"{stack.name}-")]


def all_accepted(stack: Deployment, keys: list[str]) -> bool:
    ledger = stack.seen().ledger
    return all(key in ledger and ledger[key].state is State.ACCEPTED for key in keys)


def send(stack: Deployment, key: str) -> None:
    stack.send({"message_id": key, "destination": "+61491570006", "content": "Hello"})


def test_rules_and_patterns_refuse_parameters_with_their_reason(stack: Deployment, built: Path) -> None:
    too_many = stack.try_to_deploy(built, MaxMessagesPerSecond="5", SenderConcurrency="10", MaxUrgentPerSecond="5")
    assert too_many.returncode != 0
    assert "SenderConcurrency must be at most 3" in " ".join(too_many.stdout.split())
    not_tls = stack.try_to_deploy(built, ServiceStatusUrl="http://status.invalid/")
    assert not_tls.returncode != 0
    assert "an https address" in " ".join(not_tls.stdout.split())
    assert stack.description()["StackStatus"].endswith("_COMPLETE")


def test_an_update_changes_settings_and_keeps_data_and_addresses(stack: Deployment, built: Path) -> None:
    before, outputs = stack.resources(), stack.outputs
    stack.deploy(built, SenderConcurrency="3", MaxMessagesPerSecond="33", MaxUrgentPerSecond="5", RetentionDays="30")

    after = stack.resources()
    assert {name: after[name] for name in DATA} == {name: before[name] for name in DATA}
    assert {output["OutputKey"]: output["OutputValue"] for output in stack.description()["Outputs"]} == outputs
    client = stack.client("lambda")
    sender = client.get_function_configuration(FunctionName=after["SendMessageFunction"])["Environment"]["Variables"]
    assert (sender["SENDER_CONCURRENCY"], sender["MAX_MESSAGES_PER_SECOND"], sender["RETENTION_DAYS"]) == (
        "3",
        "33",
        "30",
    )
    mapping = client.get_event_source_mapping(UUID=after["SendMessageFunctionOutboundMessages"])
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 3}
    send(stack, "after-an-update")
    eventually(lambda: all_accepted(stack, ["after-an-update"]), "sent by the updated functions", DEADLINE_SECONDS)


def test_an_upgrade_with_messages_in_flight_loses_none_and_sends_none_twice(
    another: Deployment, built: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    old = earlier_version(tmp_path_factory.mktemp("earlier"))
    built_old = sam(another.aws, "build", folder=old)
    assert built_old.returncode == 0, built_old.stdout
    another.deploy(old)
    another.connect()
    another.gateway.set_faults(response_delay_seconds=0.5)
    before, is_upgraded = another.resources(), threading.Event()
    keys: list[str] = []

    def keep_sending() -> None:
        while not is_upgraded.wait(1):  # a message a second
            send(another, f"in-flight-{len(keys)}")
            keys.append(f"in-flight-{len(keys)}")

    with ThreadPoolExecutor(1) as sender:
        sending = sender.submit(keep_sending)
        try:
            eventually(another.gateway.taken, "the old version sends", DEADLINE_SECONDS)
            another.deploy(built)
        finally:
            is_upgraded.set()
        sending.result()

    assert {name: another.resources()[name] for name in DATA} == {name: before[name] for name in DATA}
    eventually(lambda: all_accepted(another, keys), "all are accepted", DEADLINE_SECONDS)
    assert [len(another.gateway.taken(reference=key)) for key in keys] == [1] * len(keys)
    assert another.seen().dead_letters == []


def test_a_failed_first_deployment_is_rolled_back_and_can_be_removed(another: Deployment, built: Path) -> None:
    events = another.client("events")
    events.create_event_bus(Name=f"{another.name}-events")  # takes the name, so that the stack's bus can't be created

    failed = another.try_to_deploy(built)

    assert failed.returncode != 0
    assert another.description()["StackStatus"] == "ROLLBACK_COMPLETE"
    left = {name.removeprefix(f"{another.name}-").split("-")[0] for name in names_left(another)}
    assert left == {"SendLedgerTable", "MessagesTable", "OptOutTable"}
    removed = sam(another.aws, "delete", "--no-prompts", "--stack-name", another.name, folder=built)
    assert removed.returncode == 0, removed.stdout
    events.delete_event_bus(Name=f"{another.name}-events")
    another.deploy(built)
    assert another.description()["StackStatus"] == "CREATE_COMPLETE"


def test_a_removed_stack_leaves_tables_and_queues(another: Deployment, built: Path) -> None:
    another.deploy(built)
    resources = another.resources()

    removed = sam(another.aws, "delete", "--no-prompts", "--stack-name", another.name, folder=built)

    assert removed.returncode == 0, removed.stdout
    with pytest.raises(ClientError, match="does not exist"):
        another.description()
    kept = {resources[name].rpartition("/")[2] for name in KEPT if name.endswith(("Queue", "Table"))}
    assert set(names_left(another)) == kept
    functions = {each["FunctionName"] for each in another.client("lambda").list_functions()["Functions"]}
    assert resources["SendMessageFunction"] not in functions


def test_every_parameter_for_organizations_at_once(another: Deployment, built: Path) -> None:
    """Key, boundary, path, addresses, rate, traces and topic: the stack deploys, sends and gets its statuses.

    All but `WebAclArn`: the emulator supports no association of a web ACL, and applies no boundary to roles.
    """
    key = another.client("kms").create_key()["KeyMetadata"]["Arn"]
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    boundary = another.client("iam").create_policy(
        PolicyName=another.name, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )["Policy"]["Arn"]
    topic = another.client("sns").create_topic(Name=another.name)["TopicArn"]

    another.deploy(
        built,
        KmsKeyArn=key,
        PermissionsBoundaryArn=boundary,
        RolePath="/sms/",
        CallbackSourceCidrs="127.0.0.0/8",
        MaxCallbacksPerSecond="50",
        Tracing="active",
        AlarmTopicArn=topic,
    )
    another.connect()
    send(another, "with-everything")

    eventually(lambda: all_accepted(another, ["with-everything"]), "accepted", DEADLINE_SECONDS)
    eventually(
        lambda: any(m.status == "received" for m in another.seen().messages.values()), "a status", DEADLINE_SECONDS
    )
    resources = another.resources()
    assert another.client("iam").get_role(RoleName=resources["SendMessageRole"])["Role"]["Path"] == "/sms/"
    queue = another.client("sqs").get_queue_attributes(
        QueueUrl=another.outputs["OutboundQueueUrl"], AttributeNames=["KmsMasterKeyId"]
    )
    assert queue["Attributes"]["KmsMasterKeyId"] == key
    (alarm,) = another.client("cloudwatch").describe_alarms(AlarmNames=[resources["DeadLettersAlarm"]])["MetricAlarms"]
    assert (alarm["AlarmActions"], alarm["OKActions"]) == ([topic], [topic])
