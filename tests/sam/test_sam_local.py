"""`sam local invoke` and `start-api` with the built functions, on the running local stack.

Each file in events/ has its expectation here. Accepted messages must be in the tables and at the gateway.
"""

import base64
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import cache
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
import requests

from local.demo.examples import Sent, example_messages
from local.template import TEMPLATE_PATH
from tests.sam.conftest import Run
from tests.support.aws import default_template
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

EVENTS: Final = TEMPLATE_PATH.parent / "events"
FILES: Final = sorted(EVENTS.glob("*/*.json"))
FUNCTIONS: Final = sorted(function.logical_id for function in default_template().of_type("AWS::Lambda::Function"))

# The responses to callbacks; status_… and reply_… are stored.
ANSWERS: Final = {
    "empty_body": (200, "Kept for an operator"),
    "no_credentials": (401, "Unauthorized"),
    "no_id": (200, "Kept for an operator"),
    "other_scheme": (401, "Unauthorized"),
    "unreadable_body": (200, "Kept for an operator"),
    "unreadable_latin_1": (200, "Kept for an operator"),
    "wrong_credentials": (401, "Unauthorized"),
    "wrong_method": (404, "Not found"),
    "wrong_path": (404, "Not found"),
}
# The events of changes in the tables.
PUBLISHED: Final = {
    "accepted": ["SMS Accepted"],
    "deleted_by_ttl": [],
    "expired": ["SMS Expired"],
    "health_changed": ["Gateway Health Changed"],
    "outcome_resolved_later": ["SMS Accepted"],
    "outcome_unknown": ["SMS Outcome Unknown"],
    "recalled": ["SMS Recalled"],
    "opted_out": ["SMS Opt-Out Changed"],
    "refused": ["SMS Refused"],
    "rejected": ["SMS Rejected"],
    "reply": ["SMS Reply Received"],
    "status_before_our_own_write": ["SMS Status Changed", "SMS Status Changed"],
    "status_received": ["SMS Status Changed"],
    "status_undelivered": ["SMS Status Changed"],
    "unreadable_record": ["SMS Expired", "SMS Rejected"],
}
FILES_DAY: Final = "2026-01-01"
"""The time of all changes in events/stream, which distinguishes them from changes in the running stack."""
# It is open which of a file's messages wins, so these are not among the examples.
ONE_OF_TWO: Final = {"conflict", "duplicate"}

Invoke = Callable[[str, Path], Any]


def function_of(path: Path) -> str:
    """The function that a file in events/ is for."""
    match path.parent.name:
        case "sqs":
            return "SendMessageFunction"
        case "api":
            return "ReceiveCallbackFunction"
        case "stream":
            return "PublishEventsFunction"
        case _ if "check" in json.loads(path.read_text(encoding="utf-8")):
            return "CheckHealthFunction"
        case _:
            return "".join(word.capitalize() for word in path.stem.split("_")) + "Function"


def files(folder: str, *, without: AbstractSet[str] = frozenset()) -> list[Any]:
    """Parameters: the files of a folder of events/."""
    chosen = [path for path in FILES if path.parent.name == folder and path.stem not in without]
    return [pytest.param(path, id=path.stem) for path in chosen]


@pytest.fixture(scope="module")
def lambda_url(run: Run) -> Iterator[str]:
    """Serve `sam local start-lambda`, which keeps its containers, so it is faster than `sam local invoke`."""
    with run.serving("start-lambda") as url:
        yield url


@pytest.fixture
def invoke(run: Run, lambda_url: str) -> Invoke:
    """Runs a function with an event file, in empty tables; fails if the function raised."""
    run.clean()
    client = boto3.client("lambda", endpoint_url=lambda_url)

    def call(function: str, path: Path) -> Any:
        answer = client.invoke(FunctionName=function, Payload=path.read_bytes())
        payload = answer["Payload"].read().decode()
        assert not answer.get("FunctionError"), payload
        return json.loads(payload)

    return call


def expected_ends() -> dict[str, list[Sent]]:
    ends: dict[str, list[Sent]] = {}
    for sent in example_messages(with_simulator=True):
        ends.setdefault(sent.file, []).append(sent)
    ends["redelivered"] = ends["one_message"]
    return ends


def test_every_function_has_an_event() -> None:
    assert {function_of(path) for path in FILES} == set(FUNCTIONS)


@pytest.mark.parametrize(
    ("function", "file", "answer"),
    [
        ("SendMessageFunction", "sqs/one_message", {"batchItemFailures": []}),
        (
            "ReceiveCallbackFunction",
            "api/status_received",
            {"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": '{"message": "Stored"}'},
        ),
    ],
)
def test_the_short_command_of_the_readme(run: Run, function: str, file: str, answer: Mapping[str, Any]) -> None:
    run.clean()

    result = subprocess.run(
        run.sam("invoke", function, "-e", f"events/{file}.json"),
        cwd=run.folder,
        env=run.environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.strip(), result.stderr
    assert json.loads(result.stdout.strip().splitlines()[-1]) == answer, result.stderr
    if function == "SendMessageFunction":
        assert run.ledger("one-message")["state"] == "ACCEPTED"
        assert len(run.taken("one-message")) == 1
    else:
        assert run.message("497f6eca-6276-4993-bfeb-53cbbbba6f08")["status"] == "received"


@pytest.mark.parametrize("path", files("sqs", without=ONE_OF_TWO))
def test_a_queue_event_reaches_ledger_and_gateway(run: Run, invoke: Invoke, path: Path) -> None:
    # After a lost response an execution environment returns what follows to the queue for some seconds.
    eventually(lambda: invoke("SendMessageFunction", path) == {"batchItemFailures": []}, f"{path.stem} is acknowledged")

    messages = expected_ends()[path.stem]
    dead = sorted((sent.end.dead_letter, body_of(sent, path)) for sent in messages if sent.end.dead_letter)
    if dead:
        eventually(lambda: sorted(run.dead_letters())[: len(dead)] == dead, f"dead letters {dead}")
    for sent in messages:
        record = run.ledger(sent.message_id)
        # A message that follows the reply STOP is in one batch here with the one that causes the reply.
        state = "ACCEPTED" if sent.after else sent.end.state
        assert record.get("state") == state, sent
        if state == "ACCEPTED":
            (taken,) = run.taken(reference_of(path, sent))
            assert taken["id"] == record["gateway_id"]
            assert run.message(taken["id"])["message_id"] == sent.message_id


def bodies(path: Path) -> list[str]:
    return [record["body"] for record in json.loads(path.read_text(encoding="utf-8"))["Records"]]


def body_of(sent: Sent, path: Path) -> str:
    """Return the body in the file, without the times that `make run` fills in."""
    return sent.body if sent.body in bodies(path) else bodies(path)[0]


def reference_of(path: Path, sent: Sent) -> str:
    """Return the message's reference at the gateway: the sender's, else the key."""
    fields = json.loads(body_of(sent, path))
    return str(fields.get("reference", sent.message_id))


@pytest.mark.parametrize("path", files("sqs", without={path.stem for path in FILES} - ONE_OF_TWO))
def test_of_two_with_one_key_one_is_sent(run: Run, invoke: Invoke, path: Path) -> None:
    invoke("SendMessageFunction", path)  # the other is done or waits for the first one; both are correct

    (key,) = {json.loads(body)["message_id"] for body in bodies(path)}
    assert run.ledger(key)["state"] == "ACCEPTED"
    assert len(run.taken(key)) == 1
    if path.stem == "conflict":
        eventually(lambda: [reason for reason, _ in run.dead_letters()] == ["conflict"], "the other is a dead letter")


@pytest.mark.parametrize("path", files("api"))
def test_a_callback_event_reaches_the_tables(run: Run, invoke: Invoke, path: Path) -> None:
    answer = invoke("ReceiveCallbackFunction", path)

    status, message = ANSWERS.get(path.stem, (200, "Stored"))
    assert (answer["statusCode"], json.loads(answer["body"])) == (status, {"message": message})
    # Callbacks of an earlier test's message can come in between; their IDs are in no file.
    stored = [row["direction"]["S"] for row in rows(run) if row["id"]["S"] in all_callbacks()]
    if message == "Stored":
        assert stored == ["MO" if "reply" in path.stem else "MT"]
    else:
        assert stored == []
    if message == "Kept for an operator":
        eventually(lambda: [reason for reason, _ in run.dead_letters()] == ["unreadable_callback"], "it is kept")


@cache
def all_callbacks() -> str:
    """The bodies of all callbacks in events/."""
    events = [json.loads(path.read_text(encoding="utf-8")) for path in FILES if path.parent.name == "api"]
    return "\n".join(map(readable_body, events))


def readable_body(event: Mapping[str, Any]) -> str:
    """A callback's body, which an event may hold in base64."""
    body = str(event["body"] or "")
    return base64.b64decode(body).decode("latin-1") if event["isBase64Encoded"] else body


def rows(run: Run) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = run.client("dynamodb").scan(TableName=run.variables["MESSAGES_TABLE_NAME"])["Items"]
    return items


@pytest.fixture(scope="module")
def published(run: Run) -> Callable[[], list[str]]:
    """Return the names of the files' events on the bus since the last call, sorted."""
    sqs, events = run.client("sqs"), run.client("events")
    queue, bus = sqs.create_queue(QueueName="published")["QueueUrl"], run.variables["EVENT_BUS_NAME"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="all", EventBusName=bus, EventPattern=json.dumps({"source": ["optus.sms"]}))
    events.put_targets(Rule="all", EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])

    def take() -> list[str]:
        names = []
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
                event = json.loads(message["Body"])
                if event["detail"]["occurred_at"].startswith(FILES_DAY):
                    names.append(event["detail-type"])
        return sorted(names)

    return take


@pytest.mark.parametrize("path", files("stream"))
def test_a_change_in_a_table_becomes_an_event(invoke: Invoke, published: Callable[[], list[str]], path: Path) -> None:
    published()

    assert invoke("PublishEventsFunction", path) == {"batchItemFailures": []}

    assert published() == PUBLISHED[path.stem]


def test_a_health_check_asks_the_gateway_and_is_recorded(run: Run, invoke: Invoke) -> None:
    def check() -> Any:
        """Run a check that counts, because one soon after the stack's own check of every minute does not."""
        run.clean()
        answer = invoke("CheckHealthFunction", EVENTS / "schedule/check_health.json")
        return None if "skipped" in answer else answer

    answer = eventually(check, "a check counts")

    assert answer["seen"] == "healthy"
    key = {"pk": {"S": "health#gateway"}}
    item = run.client("dynamodb").get_item(TableName=run.variables["SEND_LEDGER_TABLE_NAME"], Key=key)["Item"]
    assert item["state"]["S"] == answer["state"]


def test_the_contract_check_reads_the_gateways_description(invoke: Invoke) -> None:
    answer = invoke("CheckHealthFunction", EVENTS / "schedule/check_contract.json")

    # The local stack's own daily check may have stored the baseline already.
    assert (answer["contract"] in ("baseline", "same"), answer["differences"]) == (True, [])


def test_an_outcome_that_nobody_decided_is_noticed(run: Run, invoke: Invoke) -> None:
    invoke("SendMessageFunction", EVENTS / "sqs/lost_response.json")

    answer = invoke("ReconcileMessagesFunction", EVENTS / "schedule/reconcile_messages.json")

    assert run.ledger("lost-response")["state"] == "UNKNOWN"
    assert answer["MessagesUnknown"] == 1


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_event_for_another_function_makes_one_fail(run: Run, invoke: Invoke, function: str) -> None:
    """One of each kind; its own are above."""
    for path in {path.parent: path for path in FILES}.values():
        invoke(function, path)


def test_start_api_serves_both_callbacks_to_the_gateway(run: Run) -> None:
    run.clean()
    with run.serving("start-api") as url:
        for kind in ("status", "reply"):
            refused = requests.post(f"{url}/callbacks/{kind}", json={}, timeout=60)
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="callbacks"')
        run.call_back(url)
        try:
            fields = {"message_id": "by-sam", "destination": "+447700900801", "content": "Will you come?"}
            queue = run.variables["OUTBOUND_QUEUE_URL"]
            run.client("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps(fields))
            eventually(lambda: "gateway_id" in run.ledger("by-sam"), "it is sent")
            gateway_id = run.ledger("by-sam")["gateway_id"]
            eventually(lambda: run.message(gateway_id).get("status") == "received", "it is received", 60)
            eventually(lambda: replies_to(run, gateway_id), "the reply is stored", 60)
        finally:
            run.call_back(run.variables["STATUS_CALLBACK_URL"].removesuffix("/callbacks/status"))


def replies_to(run: Run, gateway_id: str) -> list[dict[str, Any]]:
    return [row for row in rows(run) if row.get("in_reply_to") == {"S": gateway_id}]
