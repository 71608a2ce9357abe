"""Pause, resume, health and doctor: what they report about sending, and the question before a resume."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError

from optus_sms.model.lanes import Lane
from optus_sms.model.times import format_rfc3339
from optus_sms.records.health import HealthRecords
from optus_sms.records.items import Doubt, Health, HealthRecord, Hold, Pause, PausedBy, PauseReason
from tests.support.aws import REGION
from tests.support.cli import Ran, optus_sms
from tests.support.deployed import STACK, DeployedStack
from tests.support.health import NO_PATH, FakeGateway, FakeSwitch, answer, no_response

TARGET = ("--stack", STACK, "--region", REGION)
AT = "2026-01-01T00:00:00.000Z"
OUTAGE = Pause(AT, PauseReason.OUTAGE, confirmed=True)
REFUSED = Pause(AT, PauseReason.CREDENTIALS_REFUSED, confirmed=True)
UNKNOWN = Pause(AT, PauseReason.OUTCOMES_UNKNOWN, confirmed=True)
BY_OPERATOR = Pause(AT, None, confirmed=True)


@pytest.fixture(autouse=True)
def gateway(monkeypatch: pytest.MonkeyPatch) -> FakeGateway:
    """Set the gateway's responses to this machine."""
    found = FakeGateway()

    @contextmanager
    def gateway_of(*_: object, **__: object) -> Iterator[FakeGateway]:
        yield found

    monkeypatch.setattr("cli.credentials_trial.gateway_of", gateway_of)
    return found


def records(stack: DeployedStack) -> HealthRecords:
    return HealthRecords.connect(stack.session.client("dynamodb"), stack.outputs["SendLedgerTableName"])


def recorded(
    stack: DeployedStack,
    *,
    state: Health = Health.HEALTHY,
    pause: Pause | None = None,
    minutes_ago: int = 1,
    credentials: str = "accepted",
    tried_version: str = "",
    doubt: Doubt | None = None,
) -> None:
    """Set the record of the stack's health check."""
    record = HealthRecord(
        state=state, reason="connection_refused", since=AT, checked_at=format_rfc3339(time.time() - 60 * minutes_ago),
        checks=9, credentials=credentials, tried_version=tried_version, pause=pause, doubt=doubt,
    )  # fmt: skip
    assert records(stack).write(record, seen=HealthRecord())


def check_of(name: str) -> dict[str, str]:
    found: dict[str, str] = {check["name"]: check for check in optus_sms("doctor", "--json", *TARGET).document}[name]
    return found


def store_credentials(stack: DeployedStack) -> str:
    """Store credentials; return the ID of the secret's new version."""
    client = stack.session.client("secretsmanager")
    arn, secret = stack.outputs["GatewaySecretArn"], '{"application": "app", "password": "right"}'
    return client.put_secret_value(SecretId=arn, SecretString=secret)["VersionId"]


TROUBLES = [
    (Health.UNHEALTHY, OUTAGE, "accepted", f"unhealthy since {AT}: connection_refused"),
    (Health.UNHEALTHY, BY_OPERATOR, "accepted", f"unhealthy since {AT}: connection_refused"),
    (Health.HEALTHY, REFUSED, "refused", "refuses the credentials"),
    (Health.HEALTHY, UNKNOWN, "accepted", "unknown outcomes"),
]


@pytest.mark.parametrize(("state", "pause", "credentials", "why"), TROUBLES)
class TestResumeInTrouble:
    def test_says_what_would_happen_and_does_nothing_without_a_yes(
        self, stack: DeployedStack, switch: FakeSwitch, state: Health, pause: Pause, credentials: str, why: str
    ) -> None:
        recorded(stack, state=state, pause=pause, credentials=credentials)
        before = records(stack).read()
        ran = optus_sms("resume", *TARGET)
        assert (ran.exit_code, switch.calls, records(stack).read()) == (2, [], before)
        for fact in (why, AT, "probe", "the health check pauses sending again", "--yes"):
            assert fact in ran.stderr
        assert ("resumes automatically" in ran.stderr) == (pause.by is PausedBy.HEALTH)

    def test_with_a_yes_messages_decide_afterwards(
        self, stack: DeployedStack, switch: FakeSwitch, state: Health, pause: Pause, credentials: str, why: str
    ) -> None:
        recorded(stack, state=state, pause=pause, credentials=credentials)
        ran = optus_sms("resume", "--yes", *TARGET)
        assert (ran.exit_code, switch.calls) == (0, ["resume"])
        assert "the health check pauses sending again" in ran.stdout
        record = records(stack).read()
        assert (record.pause, record.messages_decide_since > time.time() - 1) == (None, True)


@pytest.mark.parametrize(("answered", "code"), [(True, 0), (False, 2)])
def test_on_a_terminal_it_asks(
    stack: DeployedStack, switch: FakeSwitch, monkeypatch: pytest.MonkeyPatch, answered: bool, code: int
) -> None:
    recorded(stack, state=Health.UNHEALTHY, pause=OUTAGE)
    monkeypatch.setattr("cli.context.sys", Mock(**{"stdin.isatty.return_value": True}))
    monkeypatch.setattr("cli.context.click.confirm", Mock(return_value=answered))
    assert optus_sms("resume", *TARGET).exit_code == code
    assert switch.on is answered


@pytest.mark.parametrize("pause", [OUTAGE, BY_OPERATOR, None])
@pytest.mark.parametrize("state", [Health.HEALTHY, Health.UNKNOWN])
def test_resume_asks_nothing_unless_something_is_known_to_be_wrong(
    stack: DeployedStack, switch: FakeSwitch, state: Health, pause: Pause | None
) -> None:
    recorded(stack, state=state, pause=pause)
    assert optus_sms("resume", *TARGET).exit_code == 0
    assert switch.on


def test_one_lane_is_paused_and_resumed_alone(stack: DeployedStack, switch: FakeSwitch) -> None:
    switch.on = True
    assert optus_sms("pause", "--lane", "urgent", *TARGET).exit_code == 0
    assert (records(stack).read().hold(Lane.URGENT), switch.calls) == (Hold.RECORDED, ["pause urgent"])
    found = optus_sms("health", *TARGET)
    assert "urgent messages are paused" in found.stdout
    assert "urgent queue 0 waiting" in found.stdout
    assert optus_sms("health", "--json", *TARGET).document["paused_lanes"] == ["urgent"]
    assert optus_sms("resume", "--lane", "urgent", *TARGET, "--yes").exit_code == 0
    assert (records(stack).read().hold(Lane.URGENT), switch.calls[-1]) == (Hold.NONE, "resume urgent")


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_an_unknown_lane_is_refused_with_the_lanes_that_exist(command: str, stack: DeployedStack) -> None:
    ran = optus_sms(command, "--lane", "express", *TARGET)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "'express' is not one of 'ordinary', 'urgent'." in ran.stderr


def test_a_lane_resumed_in_a_pause_of_both_says_that_the_other_stays_paused(
    stack: DeployedStack, switch: FakeSwitch
) -> None:
    assert optus_sms("pause", *TARGET).exit_code == 0
    resumed = optus_sms("resume", "--lane", "urgent", *TARGET, "--yes")
    assert "other lane stays paused" in resumed.stdout
    assert (records(stack).read().free, switch.lanes()) == (
        (Lane.URGENT,),
        {Lane.ORDINARY: False, Lane.URGENT: True},
    )


def test_resume_of_what_is_on_asks_and_changes_nothing(stack: DeployedStack, switch: FakeSwitch) -> None:
    switch.on = True
    recorded(stack, state=Health.UNHEALTHY)
    before = records(stack).read()
    ran = optus_sms("resume", *TARGET)
    assert (ran.exit_code, switch.calls, records(stack).read()) == (0, [], before)
    assert "Sending is on" in ran.stdout
    assert "unhealthy since" in ran.stderr


def test_a_pause_that_takes_over_the_health_checks_says_that_it_no_longer_ends_by_itself(
    stack: DeployedStack, switch: FakeSwitch
) -> None:
    recorded(stack, state=Health.UNHEALTHY, pause=OUTAGE)
    assert "does not end automatically" in optus_sms("pause", *TARGET).stdout
    assert "does not end automatically" not in optus_sms("pause", *TARGET).stdout


@pytest.mark.parametrize(
    ("pause", "minutes_ago", "says", "remedy"),
    [
        (OUTAGE, 1, f"paused by the health check since {AT} (outage); it resumes automatically", "Gateway health"),
        (REFUSED, 1, f"paused by the health check since {AT} (credentials_refused); it", "set-gateway-credentials"),
        (UNKNOWN, 1, f"paused by the health check since {AT} (outcomes_unknown); it", "Unknown outcomes"),
        (OUTAGE, 20, "can't resume automatically, because the health check has not run since", "No health checks"),
        (BY_OPERATOR, 1, f"paused by an operator since {AT}; only `resume` ends it", "`resume`, unless"),
        (None, 1, "paused by hand", "`resume`, unless"),
    ],
)
def test_doctor_and_health_say_who_paused_and_what_ends_it(
    stack: DeployedStack, switch: FakeSwitch, pause: Pause | None, minutes_ago: int, says: str, remedy: str
) -> None:
    recorded(stack, state=Health.UNHEALTHY, pause=pause, minutes_ago=minutes_ago)
    check = check_of("sending")
    assert (check["result"], says in check["finding"], remedy in check["remedy"]) == ("warning", True, True)
    assert ("`resume`" in check["remedy"]) == (pause is None or pause.by is PausedBy.OPERATOR)
    assert says in optus_sms("health", *TARGET).stdout
    found = optus_sms("health", "--json", *TARGET).document
    assert (found["sending"], found["paused_by"]) == ("paused", pause.by.value if pause else "operator")
    assert found["paused_lanes"] == ["ordinary", "urgent"]


def test_sending_that_is_on_for_one_probe_is_not_on(stack: DeployedStack, switch: FakeSwitch) -> None:
    switch.on = True
    recorded(stack, pause=Pause(AT, PauseReason.OUTCOMES_UNKNOWN, probing=True))
    assert check_of("sending")["result"] == "warning"
    recorded_now = optus_sms("health", "--json", *TARGET).document
    assert (recorded_now["sending"], recorded_now["paused_by"]) == ("paused", "health")


@pytest.mark.usefixtures("switch")
class TestCredentials:
    """The output names the version that was tried, where and when.

    The stack's result is not shown for another version.
    """

    def shown(self) -> Ran:
        return optus_sms("health", *TARGET)

    def verdict(self) -> str:
        return str(optus_sms("health", "--json", *TARGET).document["credentials"])

    def test_health_does_not_call_accepted_what_doctor_has_just_seen_refused(
        self, stack: DeployedStack, gateway: FakeGateway
    ) -> None:
        version = store_credentials(stack)
        recorded(stack, tried_version=version)
        assert self.verdict() == "accepted"
        gateway.valid = frozenset()
        found = check_of("credentials")
        assert (found["result"], f"version {version[:8]}, tried from here at" in found["finding"]) == ("failed", True)
        assert self.verdict() == "refused"
        shown = self.shown().stdout
        assert f"refused (HTTP 401), version {version[:8]}, tried from here at 20" in shown
        assert f"accepted, version {version[:8]}, tried by the stack at 20" in shown
        assert version not in shown

    @pytest.mark.parametrize("response", [no_response(), answer(403, b"<html>"), answer(404, NO_PATH)])
    @pytest.mark.parametrize(("is_tried", "says"), [(True, "accepted"), (False, "untried")])
    def test_where_nothing_is_learned_from_here_the_stacks_trial_of_the_same_version_counts(
        self, stack: DeployedStack, gateway: FakeGateway, response: object, is_tried: bool, says: str
    ) -> None:
        version = store_credentials(stack)
        recorded(stack, tried_version=version if is_tried else "another-version")
        gateway.message = response  # type: ignore[assignment]
        assert self.verdict() == says

    def test_an_unusable_secret_is_refused(self, stack: DeployedStack) -> None:
        recorded(stack, tried_version="before")
        assert self.verdict() == "refused"
        assert "no usable version" in self.shown().stdout
        assert "REPLACE_ME" not in self.shown().stdout

    def test_who_may_not_read_the_secret_is_told_of_the_stacks_trial(
        self, stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        denied = ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "GetSecretValue")
        monkeypatch.setattr("cli.credentials_trial.GatewaySecret.current", Mock(side_effect=denied))
        recorded(stack, tried_version="12345678-long")
        shown = self.shown().stdout
        assert "credentials  accepted" in shown
        assert "not tried from here: These AWS credentials may not call GetSecretValue" in shown
        assert "version 12345678, tried by the stack" in shown

    def test_the_doctor_says_what_the_stack_tried_and_when(self, stack: DeployedStack) -> None:
        recorded(stack, tried_version="12345678-long")
        version = store_credentials(stack)
        found = check_of("health check")["finding"]
        assert "accepted, version 12345678, tried by the stack at 20" in found
        assert f"not tried: version {version[:8]}" in found
