"""A rehearsal of the runbook: for each section the alarm's cause is produced on the local stack, and the commands run.

The commands are read from the page. A section gets a scene here if the local stack can produce its alarm's cause. A
placeholder such as MESSAGE_ID gets a value. `aws` commands run by botocore, where the local stack has that service.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
import requests

from local import endpoints
from local.aws.stack import LocalStack, StackConfig
from local.simulator.scenarios import SCENARIOS
from local.simulator.server import GatewayConfig, GatewaySimulator
from optus_sms.records.contract import ContractRecords
from optus_sms.records.items import State
from optus_sms.records.ledger import Ledger
from optus_sms.runtime.observability import NAMESPACE
from tests.contract.test_template import alarm_metrics
from tests.integration.conftest import MakeRun
from tests.support.aws import default_template
from tests.support.builders import wanted
from tests.support.cli import Ran, commands, optus_sms
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)  # a probe waits up to a minute after an unknown outcome
RUNBOOK: Final = Path(__file__).parents[2] / "docs" / "runbook.md"
SLOW: Final = 120.0
# Exit codes of successful commands: done, and the codes for a message's stage.
WORKS: Final = {0, 6, 7, 8, 9}
# Services that only AWS has; only the form of their commands is checked (tests/contract/test_docs_commands.py).
ONLY_AWS: Final = {"cloudformation", "events", "lambda", "service-quotas"}
ONLY_AWS_OPERATIONS: Final = {"restore-table-to-point-in-time"}
SERVICES: Final = ("send_message", "receive_callback", "check_health", "reconcile_messages")
# Alarms whose cause the local stack can't produce.
NO_SCENE: Final = {
    "callback-api-errors": "the local callback API has no metrics",
    "callbacks-throttled": "the local callback API has no throttle",
    "callbacks-not-stored": "the local tables do not fail",
    "slow-delivery": "takes more than ten minutes",
    "missing-statuses": "takes an hour",
    "no-health-checks": "takes five minutes without them",
    "function-errors": "the functions do not crash on request",
    "function-throttles": "there is no account with a limit",
    "near-timeouts": "takes four fifths of a timeout",
    "events-late": "takes five minutes",
    "unpublished-events": "the local bus does not fail",
}


@dataclass
class Rehearsal:
    """The stack, with the operations of the scenes."""

    stack: LocalStack
    made: dict[str, str] = field(default_factory=dict)

    @property
    def gateway(self) -> GatewaySimulator:
        assert self.stack.simulator is not None
        return self.stack.simulator

    @property
    def ledger(self) -> Ledger:
        return Ledger.connect(self.stack.client("dynamodb"), self.stack.outputs["SendLedgerTableName"])

    def send(self, scenario: str, *, until: State | None = None) -> str:
        """Queue a message, and wait until the ledger has it in this state."""
        key = f"rehearsal-{uuid4().hex[:10]}"
        assert optus_sms("send", SCENARIOS[scenario].number, "Hello", "--message-id", key).exit_code == 0
        if until:
            eventually(lambda: (found := self.ledger.read(key)) and found.state is until, f"{scenario}: {until}", SLOW)
        return key

    def measured(self, name: str) -> bool:
        """Return whether the metric has shown trouble: a value other than 0, or for GatewayHealthy 0."""
        now = time.time()
        found = self.stack.client("cloudwatch").get_metric_data(
            MetricDataQueries=[
                {"Id": f"m{number}", "MetricStat": {
                    "Metric": {"Namespace": NAMESPACE, "MetricName": name, "Dimensions": [
                        {"Name": "service", "Value": service}, {"Name": "stack", "Value": "optus-sms"}]},
                    "Period": 60, "Stat": "Minimum" if name == "GatewayHealthy" else "Maximum"}}
                for number, service in enumerate(SERVICES)
            ],
            StartTime=now - 3600, EndTime=now + 3600,
        )  # fmt: skip
        values = [value for result in found["MetricDataResults"] for value in result["Values"]]
        return any(value == 0 for value in values) if name == "GatewayHealthy" else any(values)

    def post_callback(self, body: str, *, password: str | None = None) -> int:
        credentials = self.stack.secret("CallbackSecret")
        auth = (credentials["username"], password or credentials["password"])
        return requests.post(self.stack.outputs["StatusCallbackUrl"], data=body, auth=auth, timeout=30).status_code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("make-run")


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[LocalStack]:
    """A stack with six health checks a second, and the log at the place of `make run`."""
    log = folder / endpoints.PATH.with_name("functions.log")
    log.parent.mkdir()
    with log.open("w", buffering=1) as file:
        config = StackConfig(
            simulator=GatewayConfig(seed=1, status_step_seconds=0.02),
            schedule_speed=360,
            log=lambda name, line: print(name, line, file=file),
        )
        with LocalStack(config) as stack:
            yield stack


@pytest.fixture
def rehearsal(
    stack: LocalStack, make_run: MakeRun, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rehearsal]:
    """Run in the folder of `make run`. The shell has settings of a deployed stack, and has sourced the endpoints."""
    monkeypatch.setenv("OPTUS_SMS_STACK", "optus-sms-production")
    with make_run(stack, folder):
        for names in re.findall(r"^unset (.+)$", endpoints.PATH.read_text(), re.MULTILINE):
            for name in names.split():
                monkeypatch.delenv(name, raising=False)
        found = Rehearsal(stack)
        yield found
        found.gateway.clear_faults()
        optus_sms("resume", *(["--yes"] if "--yes" in options_of("resume") else []))


def options_of(name: str) -> set[str]:
    return {option for parameter in commands()[name].params for option in parameter.opts}


# ------------------------------------------------------------------------------------------------------------- the page


def sections() -> dict[str, list[str]]:
    """Return by anchor the commands of each section, in order: lines of blocks, and inline ones."""
    found = {}
    for part in re.split(r"^#{2,3} ", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        lines = []
        for block, inline in re.findall(r"```sh\n(.*?)```|`((?:optus-sms|aws) [^`\n]+)`", text, re.DOTALL):
            joined = (block or inline).replace("\\\n", " ")
            calls = [line.strip() for line in joined.splitlines() if re.match(r"\s*(optus-sms|aws) [a-z]", line)]
            lines += [call for call in calls if block or not is_only_named(call)]
        found[re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")] = lines
    return found


def is_only_named(call: str) -> bool:
    """Return whether a sentence only names a command, without its required argument."""
    name, *rest = call.split()[1:]
    known = commands().get(name)
    return not rest and known is not None and any(each.required for each in known.params)


SECTIONS: Final = sections()
# By anchor, the first metric that the section's alarm reads. Two alarms can share a section.
ALARMS: Final = {
    alarm.properties["AlarmDescription"].partition("docs/runbook.md#")[2].strip(): metrics[0].name
    for alarm in default_template().of_type("AWS::CloudWatch::Alarm")
    if (metrics := [m for m in alarm_metrics(alarm) if m.name != "ApproximateAgeOfOldestMessage"])
}


# ----------------------------------------------------------------------------------------------------------- the scenes


def a_dead_letter(rehearsal: Rehearsal) -> None:
    key = rehearsal.send("bad_request", until=State.REJECTED)
    eventually(lambda: key in optus_sms("dead-letters", "--json").stdout, "a dead letter", SLOW)
    rehearsal.made["MESSAGE_ID"] = key


def an_unknown_outcome(rehearsal: Rehearsal) -> None:
    rehearsal.made["MESSAGE_ID"] = rehearsal.send("lost_response", until=State.UNKNOWN)
    rehearsal.send("received", until=State.ACCEPTED)  # as a probe, after which all messages are sent again


def refused_credentials(rehearsal: Rehearsal) -> None:
    rehearsal.gateway.set_faults(credentials_refused=True)
    eventually(lambda: rehearsal.measured("CredentialsRefused"), "noticed without a message", SLOW)
    rehearsal.gateway.clear_faults()


def refused_callbacks(rehearsal: Rehearsal) -> None:
    assert {rehearsal.post_callback("{}", password="an-old-one") for _ in range(5)} == {401}


def an_unreadable_callback(rehearsal: Rehearsal) -> None:
    assert rehearsal.post_callback("not JSON") == 200


def an_outage(rehearsal: Rehearsal) -> None:
    rehearsal.gateway.set_faults(down="refused")
    eventually(lambda: rehearsal.measured("GatewayHealthy"), "unhealthy", SLOW)


def a_pause(rehearsal: Rehearsal) -> None:
    assert optus_sms("pause").exit_code == 0
    eventually(lambda: rehearsal.measured("SendingPaused"), "paused", SLOW)


def a_changed_contract(rehearsal: Rehearsal) -> None:
    store = ContractRecords.connect(rehearsal.stack.client("dynamodb"), rehearsal.stack.outputs["SendLedgerTableName"])
    store.put("openapi: 3.0.3\nx-gone: true\n", now=time.time())
    assert rehearsal.stack.functions["CheckHealthFunction"].invoke({"check": "contract"}).error is None


def an_abandoned_message(rehearsal: Rehearsal) -> None:
    old, key = time.time() - 12 * 86_400, f"abandoned-{uuid4().hex[:8]}"
    claim = rehearsal.ledger.claim(
        wanted(key, ttl=int(old) + 60 * 86_400, owner="o", lease_until=int(old) + 90), now=old
    )
    rehearsal.ledger.not_sent(claim, "unreachable", now=old)
    eventually(lambda: (found := rehearsal.ledger.read(key)) and found.unresolved_at, "given up", SLOW)


def a_wrong_run(rehearsal: Rehearsal) -> None:
    rehearsal.made["REFERENCE"] = rehearsal.send("received", until=State.ACCEPTED)


def message(scenario: str, until: State | None = None) -> Callable[[Rehearsal], None]:
    def play(rehearsal: Rehearsal) -> None:
        rehearsal.made["MESSAGE_ID"] = rehearsal.send(scenario, until=until)

    return play


def undelivered(rehearsal: Rehearsal) -> None:
    key = rehearsal.send("dead")
    eventually(lambda: optus_sms("status", key).exit_code == 6, "not delivered", SLOW)


SCENES: Final[dict[str, Callable[[Rehearsal], None]]] = {
    "dead-letters": a_dead_letter,
    "messages-wait": message("received"),
    "urgent-messages-wait": message("received"),
    "unknown-outcomes": an_unknown_outcome,
    "rejected": message("bad_request", State.REJECTED),
    "gateway-errors": message("send_failed", State.ACCEPTED),
    "credentials-refused": refused_credentials,
    "callbacks-refused": refused_callbacks,
    "unreadable-callbacks": an_unreadable_callback,
    "undelivered": undelivered,
    "gateway-health": an_outage,
    "sending-paused": a_pause,
    "contract-changed": a_changed_contract,
    "abandoned-messages": an_abandoned_message,
    "redrive": a_dead_letter,
    "stop-a-wrong-run": a_wrong_run,
}
# SQS has no metrics on the local stack.
NOT_MEASURED: Final = {"messages-wait", "urgent-messages-wait", "dead-letters"}
FINDS_RECORDS: Final = {"rejected", "gateway-errors", "undelivered", "contract-changed", "abandoned-messages"}


# --------------------------------------------------------------------------------------------------------- the commands


def value_of(rehearsal: Rehearsal, placeholder: str) -> str:
    """Return an operator's value for a placeholder."""
    match placeholder:
        case "MESSAGE_ID" | "REFERENCE" if placeholder in rehearsal.made:
            return rehearsal.made[placeholder]
        case "MESSAGE_ID" | "REFERENCE" | "KEY":
            return rehearsal.send("received", until=State.ACCEPTED)
        case "GATEWAY_ID" | "ID":
            return f"gw-{uuid4().hex[:8]}"
        case "SQS_ID":
            an_unreadable_callback(rehearsal)
            eventually(lambda: optus_sms("dead-letters", "--json").document, "dead letters", SLOW)
            letters = optus_sms("dead-letters", "--json").document
            return str(next(letter.get("sqs_id") or letter["message_id"] for letter in letters))
        case "FILE":
            path = Path(f"run-{uuid4().hex[:8]}.jsonl")
            line = {"destination": SCENARIOS["received"].number, "content": "Hello", "message_id": uuid4().hex}
            path.write_text(json.dumps(line) + "\n")
            return str(path)
    pytest.fail(f"{placeholder}: give it a value in {Path(__file__).name}, value_of")


def operate(rehearsal: Rehearsal, line: str) -> Ran:
    """Run an `optus-sms` command of the page, and confirm its questions."""
    words = shlex.split(line, comments=True)[1:]
    words = [re.sub(r"\b[A-Z]{2,}(?:_[A-Z]+)*\b", lambda found: value_of(rehearsal, found[0]), word) for word in words]
    name = words[0]
    agrees = ["--yes"] if "--yes" in options_of(name) and "--yes" not in words else []
    stdin = None
    if name == "set-gateway-credentials":
        stdin = "\n".join(rehearsal.stack.secret("GatewaySecret")[field] for field in ("application", "password"))
    return optus_sms(*words, *agrees, stdin=stdin)


def call_aws(rehearsal: Rehearsal, line: str) -> None:
    """Run an `aws` command by botocore: options become parameters, and texts of structures are parsed as JSON."""
    line = re.sub(r"\$\(out (\w+)\)", lambda found: rehearsal.stack.outputs[found[1]], line)
    _, service, operation, *rest = shlex.split(line, comments=True)
    if service in ONLY_AWS or operation in ONLY_AWS_OPERATIONS:
        return
    client = rehearsal.stack.client(service)
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation.replace("-", "_")])
    members = {
        re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower(): (name, shape)
        for name, shape in model.input_shape.members.items()
    }
    given: dict[str, Any] = {}
    for option, value in zip(rest[::2], rest[1::2], strict=True):
        name = option.removeprefix("--")
        if name in ("query", "output"):
            continue
        parameter, shape = members[name]
        match shape.type_name:
            case "integer" | "long":
                given[parameter] = int(value)
            case "list":
                given[parameter] = value.split()
            case "structure" | "map":
                given[parameter] = json.loads(value)
            case _:
                given[parameter] = value
    getattr(client, operation.replace("-", "_"))(**given)


@pytest.mark.parametrize("anchor", SECTIONS)
def test_the_commands_of_a_section_work_when_its_alarm_rings(rehearsal: Rehearsal, anchor: str) -> None:
    if scene := SCENES.get(anchor):
        scene(rehearsal)
        if anchor in ALARMS and anchor not in NOT_MEASURED:
            eventually(lambda: rehearsal.measured(ALARMS[anchor]), f"{ALARMS[anchor]} is measured", SLOW)
    for line in SECTIONS[anchor]:
        if line.startswith("aws "):
            call_aws(rehearsal, line)
            continue
        if anchor == "unknown-outcomes" and "MESSAGE_ID" in line:
            an_unknown_outcome(rehearsal)
        ran = operate(rehearsal, line)
        assert ran.exit_code in WORKS, f"{line}: {ran.stderr}"
        assert "unset" not in ran.stderr
        if " logs " in line and anchor in FINDS_RECORDS:
            assert ran.stdout, f"{line} finds nothing"


def test_every_alarm_has_a_scene_or_a_reason_for_none() -> None:
    assert set(ALARMS) <= SECTIONS.keys()
    assert set(ALARMS) == (SCENES.keys() | NO_SCENE.keys()) - {"redrive", "stop-a-wrong-run"}
    assert set(ALARMS) & SCENES.keys() & NO_SCENE.keys() == set()


def test_the_page_is_read() -> None:
    assert sum(map(len, SECTIONS.values())) > 30
    assert sum(line.startswith("optus-sms ") for lines in SECTIONS.values() for line in lines) > 25
