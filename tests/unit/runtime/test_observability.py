"""Logs and metrics: their content, and that none ever has a text, a number or a credential."""

from __future__ import annotations

import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from optus_sms.flows.receive_callback import CallbackRequest
from optus_sms.gateway.credentials import GatewayCredentials
from optus_sms.model.lanes import Lane
from optus_sms.model.times import parse_rfc3339
from optus_sms.runtime.observability import Metric, error_fields, logger, publish
from tests.support.bench import Bench, FailAt
from tests.support.builders import (
    basic,
    credentials_refused,
    message_body,
    queue_record,
    rejected,
    reply_event,
    send_failed,
    status_event,
    throttled,
    unknown,
)
from tests.support.fakes import FixedSecret, Moment, ScriptedGateway

TEXT, NUMBER, PASSWORD = "c4n4ry text", "+61491570110", "c4n4ry-password"
CANARIES = ("c4n4ry", "61491570110", "491570110")
MOMENTS: tuple[Moment, ...] = ("before", "after")
EVERY_STEP = (
    "ledger.claim", "ledger.register_reference", "ledger.accepted", "ledger.not_sent", "ledger.rejected",
    "ledger.unknown", "ledger.with_reference", "ledger.resolve_by_callback", "messages.record_sent",
    "messages.record_status",
    "messages.record_reply", "messages.latest_sent_to", "queues.give_back", "queues.dead_letter",
    "gateway.post_message", "secret.current", "secret.newer_than", "secret.admits", "no fault",
)  # fmt: skip


class TestErrorFields:
    def raised(self, error: Exception) -> Exception:
        try:
            raise error
        except Exception as caught:  # noqa: BLE001 - it is what this test raised
            return caught

    def test_say_type_and_place_but_not_the_message(self) -> None:
        fields = error_fields(self.raised(ValueError(TEXT)))
        assert fields["error"] == "ValueError"
        assert fields["error_at"].startswith(f"{Path(__file__).name}:")
        assert set(fields) == {"error", "error_at"}

    def test_say_the_code_of_an_aws_error(self) -> None:
        error = ClientError({"Error": {"Code": "ThrottlingException", "Message": TEXT}}, "UpdateItem")
        assert error_fields(error) == {"error": "ClientError", "error_code": "ThrottlingException"}

    @pytest.mark.parametrize("response", [None, "text", {}, {"Error": None}, {"Error": {}}])
    def test_of_odd_errors(self, response: object) -> None:
        error = RuntimeError(TEXT)
        error.response = response  # type: ignore[attr-defined]
        assert error_fields(error)["error"] == "RuntimeError"
        assert TEXT not in str(error_fields(error))


class TestPublish:
    def test_is_one_embedded_metric_record(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "send_message")
        monkeypatch.setenv("STACK_NAME", "optus-sms")
        publish([(Metric.MESSAGES_ACCEPTED, 1), (Metric.MESSAGES_ACCEPTED, 1), (Metric.GATEWAY_LATENCY, 250.0)])
        (line,) = capsys.readouterr().out.splitlines()
        record = json.loads(line)
        (directive,) = record["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "OptusSms"
        assert sorted(directive["Dimensions"][0]) == ["service", "stack"]
        assert (record["service"], record["stack"]) == ("send_message", "optus-sms")
        units = {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}
        assert units == {"MessagesAccepted": "Count", "GatewayLatency": "Milliseconds"}
        assert (record["MessagesAccepted"], record["GatewayLatency"]) == ([1.0, 1.0], [250.0])

    def test_of_nothing_prints_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        publish([])
        assert capsys.readouterr().out == ""

    def test_leaves_nothing_behind(self, capsys: pytest.CaptureFixture[str]) -> None:
        publish([(Metric.MESSAGES_ACCEPTED, 1)])
        capsys.readouterr()
        publish([(Metric.REPLIES_RECEIVED, 1)])
        assert "MessagesAccepted" not in capsys.readouterr().out

    def test_takes_a_value_for_each_record_of_the_largest_batch(self, capsys: pytest.CaptureFixture[str]) -> None:
        publish([(metric, 1.0) for _ in range(150) for metric in Metric])
        totals = {metric.value: 0.0 for metric in Metric}
        for line in capsys.readouterr().out.splitlines():
            record = json.loads(line)
            for name in totals:
                totals[name] += sum(record.get(name, []))
        assert set(totals.values()) == {150.0}

    @pytest.mark.parametrize("count", [1, 99, 100, 250])
    def test_names_the_lane_in_each_record_of_a_large_batch(
        self, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder, count: int
    ) -> None:
        publish([(Metric.QUEUE_DELAY, 1.0)] * count, Lane.URGENT)
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {record["lane"] for record in records} == {Lane.URGENT}
        assert sum(len(record["QueueDelay"]) for record in records) == count
        assert not recwarn.list  # Powertools warns of an empty record


def test_log_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    logger().info("accepted", extra={"message_id": "message-1"})
    line = json.loads(capsys.readouterr().out)
    assert (line["level"], line["message"], line["message_id"]) == ("INFO", "accepted", "message-1")
    assert parse_rfc3339(line["timestamp"]) <= time.time()  # else Lambda ignores the level


class TestNothingPrivateIsWritten:
    """The canaries are wherever a person's data can be; any step may fail with an error that quotes one."""

    OUTCOMES = (None, rejected(), send_failed(), unknown(accepted=True), credentials_refused(), throttled(5))
    CALLBACKS = (
        {"message_id": "gw-1", "status": "received", "detail": TEXT, "reference": "message-1"},
        {"message_id": NUMBER, "status": TEXT, "reference": NUMBER},
        {"id": "mo-1", "source": NUMBER, "destination": NUMBER, "content": TEXT, "operator": TEXT, "reply_to": NUMBER},
        {"id": "mo-2", "source": NUMBER, "content": TEXT, "encoding": "base64"},
        {"id": NUMBER, "source": NUMBER, "content": TEXT},
        {"status": TEXT, "content": TEXT},
        TEXT,
        f'{{"content": "{TEXT}", ',
        TEXT.encode() + b"\xff",
    )

    def test_while_sending(self, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests) -> None:
        for step, moment, times in product(EVERY_STEP, MOMENTS, (2, -1)):
            with subtests.test(step=step, moment=moment, times=times):
                self.send(step, moment, times)
                self.check(capsys, at_least=20)

    def send(self, step: str, moment: Moment, times: int) -> None:
        for outcome in self.OUTCOMES:
            run = Bench(
                gateway=ScriptedGateway([] if outcome is None else [outcome]),
                secret=FixedSecret(GatewayCredentials("c4n4ry-app", PASSWORD)),
            )
            run.hook(FailAt(step, moment, times=times))
            bodies = [
                message_body(destination=NUMBER, content=TEXT, reference="costs-42", source=NUMBER),
                message_body(destination=NUMBER, content=TEXT + "!", reference="costs-42"),  # a conflict
                message_body(destination=f"{NUMBER}00000", content=TEXT, message_id="m3", **{TEXT: TEXT}),
                f'{{"destination": "{NUMBER}", "content": "{TEXT}" oops',
            ]
            for body in bodies:
                publish(run.send(queue_record(body)).measurements)

    def test_while_receiving(self, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests) -> None:
        for step, moment in product(EVERY_STEP, MOMENTS):
            with subtests.test(step=step, moment=moment):
                self.receive(step, moment)
                self.check(capsys, at_least=50)

    def receive(self, step: str, moment: Moment) -> None:
        for event in (status_event, reply_event):
            for body in self.CALLBACKS:
                for authorization in (basic(), basic(NUMBER, PASSWORD), PASSWORD, None):
                    run = Bench()
                    fault = FailAt(step, moment)
                    run.hook(fault)
                    secret: Any = run.receiver.secret
                    secret.hook = fault
                    response = run.receiver.receive(
                        CallbackRequest.from_event(event(body, authorization=authorization))
                    )
                    publish(response.measurements)
                    assert not any(canary in json.dumps(response.to_proxy()) for canary in CANARIES)

    @staticmethod
    def check(capsys: pytest.CaptureFixture[str], *, at_least: int) -> None:
        captured = capsys.readouterr()
        lines = captured.out.splitlines()
        assert len(lines) >= at_least  # so that the check covers real output
        assert captured.err == ""
        for line in lines:
            assert not any(canary in line for canary in CANARIES), line
