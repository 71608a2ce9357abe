"""The doctor's findings about faults that only AWS can have, with doubles of its clients."""

import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from cli.doctor import Check, _access_log, _alarms, _callbacks, _events, _sending_on
from cli.target import Target
from optus_sms.records.items import Health, HealthRecord, Pause, PauseReason


def target(local: bool = False, waiting: int = 0, **responses: Any) -> Target:
    """Return a stack whose clients return these responses, by operation."""
    client = Mock(**{f"{name}.return_value": value for name, value in responses.items()})
    attributes = {"Attributes": {"ApproximateNumberOfMessages": str(waiting)}}
    sqs = Mock(**{"get_queue_attributes.return_value": attributes})
    known = {"client": lambda _service: client, "sqs": sqs, "outputs": {"UnpublishedEventsQueueUrl": "url"}}
    return cast(Target, SimpleNamespace(local=local, name="stack", physical_id=lambda name: name, **known))


@pytest.mark.parametrize(
    ("waiting", "mapping", "result", "says"),
    [
        (0, {"State": "Enabled", "LastProcessingResult": "OK"}, "ok", "published"),
        (0, {"State": "Enabled"}, "ok", "published"),
        (2, {"State": "Enabled"}, "failed", "2 changes"),
        (0, {"State": "Disabled"}, "failed", "LedgerChanges is Disabled"),
        (0, {"State": "Enabled", "LastProcessingResult": "PROBLEM: Function call failed"}, "failed", "PROBLEM"),
    ],
)
def test_changes_that_do_not_reach_the_bus_are_found(
    waiting: int, mapping: dict[str, str], result: str, says: str
) -> None:
    found = _events(target(waiting=waiting, get_event_source_mapping=mapping))
    assert (found.result, says in found.finding) == (result, True)


@pytest.mark.parametrize("stream", ["LedgerChanges", "MessageChanges", "OptOutChanges"])
def test_a_stream_that_no_function_reads_is_found(stream: str) -> None:
    stack = target(get_event_source_mapping={"State": "Enabled"})
    vars(stack)["physical_id"] = lambda name: None if name.endswith(stream) else name
    found = _events(stack)
    assert (found.result, stream in found.finding) == ("failed", True)


@pytest.mark.parametrize(
    ("account", "result"), [({"cloudwatchRoleArn": "arn:aws:iam::1:role/logs"}, "ok"), ({}, "failed")]
)
def test_an_account_without_a_role_for_logs_is_found(account: dict[str, str], result: str) -> None:
    assert _access_log(target(get_account=account)).result == result


@pytest.mark.parametrize(
    ("changes", "result", "says"),
    [
        ({"EvaluationState": "EVALUATION_ERROR"}, "failed", "not evaluated: A"),
        ({"EvaluationState": "PARTIAL_DATA"}, "warning", "AlarmEmail"),
        ({"StateValue": "INSUFFICIENT_DATA"}, "warning", "without data for an hour: A"),
        ({"StateValue": "INSUFFICIENT_DATA", "since": 60}, "warning", "AlarmEmail"),
        ({"AlarmActions": ["arn:aws:sns:ap-southeast-2:123456789012:on-call"]}, "ok", "an existing topic"),
    ],
)
def test_an_alarm_that_can_not_be_evaluated_is_found(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], result: str, says: str
) -> None:
    since = datetime.fromtimestamp(time.time() - changes.pop("since", 4000), UTC)
    alarm = {"AlarmName": "A", "ActionsEnabled": True, "StateValue": "OK", "StateUpdatedTimestamp": since, **changes}
    stack = target(get_paginator=Mock(**{"paginate.return_value": [{"MetricAlarms": [alarm]}]}))
    monkeypatch.setattr(stack, "physical_id", lambda _name: None)
    monkeypatch.setattr("cli.doctor._alarm_names", lambda _target: ["A"])
    found = _alarms(stack)
    assert (found.result, says in found.finding) == (result, True)


@pytest.mark.parametrize(("status", "result"), [(401, "ok"), (403, "warning"), (404, "failed"), (503, "failed")])
def test_a_refused_address_is_told_from_a_broken_api(status: int, result: str) -> None:
    transport = Mock(**{"exchange.return_value": SimpleNamespace(status=status, failure=None)})
    stack = cast(Target, SimpleNamespace(outputs={"StatusCallbackUrl": "https://api.example/v1/callbacks/status"}))
    assert _callbacks(stack, transport, "StatusCallbackUrl").result == result


@pytest.mark.parametrize(
    ("pause", "result"),
    [
        (None, "ok"),
        (Pause("2026-11-26T00:00:00Z", None, confirmed=True), "warning"),
        (Pause("2026-11-26T00:00:00Z", None, confirmed=False), "ok"),  # not made yet
        (Pause("2026-11-26T00:00:00Z", PauseReason.OUTAGE, confirmed=True), "ok"),  # the health check will handle it
    ],
)
def test_sending_that_was_turned_on_past_an_operators_pause_is_found(pause: Pause | None, result: str) -> None:
    assert _sending_on(HealthRecord(Health.HEALTHY, pause=pause), "on").result == result


def test_a_local_stack_has_no_access_log_and_no_mapping_of_a_stream() -> None:
    assert _access_log(target(local=True)).result == "skipped"
    assert _events(target(local=True)) == Check("ok", "no change is left unpublished")
