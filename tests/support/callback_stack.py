"""ReceiveCallbackFunction as deployed: its real handler and wiring on the template's own resources, AWS by moto.

Resources, environment variables and the secret come from the translated template; every AWS call is counted, and any of
them can be made to fail.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import boto3
from moto import mock_aws

from local.aws.app_loader import load_app
from local.aws.resources import Attributes, Creator, create_resources
from local.template import Resource, Template
from optus_sms.aws import clients
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import CONVERSATION_INDEX, Messages
from optus_sms.records.opt_outs import OptOuts
from optus_sms.records.table import Item, unmarshal
from optus_sms.runtime import observability
from tests.support.aws import FAKE_AWS_ENVIRONMENT, default_template
from tests.support.builders import CALLBACK_PASSWORD, basic
from tests.support.execution_environment import forget_execution_environment
from tests.support.fakes import FakeClock, FakeLambdaContext

HANDLER = Path(__file__).parents[2] / "functions" / "receive_callback" / "app.py"
RESOURCES = ("SendLedgerTable", "MessagesTable", "OptOutTable", "DeadLetterQueue", "CallbackSecret")


@dataclass(frozen=True)
class Answer:
    """The handler's return value and its output (log lines and metrics)."""

    status: int
    headers: Mapping[str, str]
    body: str
    output: str

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric of the embedded metric records."""
        found: dict[str, float] = {}
        for line in self.output.splitlines():
            record = json.loads(line)
            for directive in record.get("_aws", {}).get("CloudWatchMetrics", ()):
                for metric in directive["Metrics"]:
                    found[metric["Name"]] = sum(record[metric["Name"]])
        return found

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log records."""
        return [record for line in self.output.splitlines() if "_aws" not in (record := json.loads(line))]


@dataclass
class _Fault:
    error: Exception
    after: int


@dataclass
class CallbackStack:
    """A context manager. ``calls`` are the handler's AWS calls so far, such as ``dynamodb.UpdateItem``."""

    clock: FakeClock = field(default_factory=FakeClock)
    calls: list[str] = field(default_factory=list)
    _faults: dict[str, _Fault] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._exits = contextlib.ExitStack()
        self._exits.callback(_restore_environment, dict(os.environ))
        os.environ.update(FAKE_AWS_ENVIRONMENT)
        self._exits.enter_context(mock_aws())
        attributes = _create(default_template())
        self._environment = FAKE_AWS_ENVIRONMENT | _environment(default_template(), attributes)
        self.secret_id = attributes["CallbackSecret"]["Ref"]
        self._queue_url = attributes["DeadLetterQueue"]["Ref"]
        self._table = attributes["MessagesTable"]["Ref"]
        self._ledger_table = attributes["SendLedgerTable"]["Ref"]
        self._opt_out_table = attributes["OptOutTable"]["Ref"]
        self._dynamodb = boto3.client("dynamodb")
        self._sqs = boto3.client("sqs")
        self.secrets_manager = boto3.client("secretsmanager")
        self.ledger = Ledger.connect(self._dynamodb, self._ledger_table)
        self.messages = Messages.connect(self._dynamodb, self._table, retention_days=90)
        self.opt_outs = OptOuts.connect(self._dynamodb, self._opt_out_table)
        self.new_execution_environment()
        return self

    def __exit__(self, *_: object) -> None:
        forget_execution_environment()
        self._exits.close()

    def new_execution_environment(self) -> None:
        """Make the next callback a cold start."""
        os.environ.update(self._environment)
        forget_execution_environment()
        clients._session().register("before-call", self._on_call)  # type: ignore[arg-type] # the stubs want **kwargs only
        self._app = load_app(HANDLER)
        self._app.Clock = lambda: self.clock.clock  # type: ignore[attr-defined]
        self._app.receiver()

    def clean(self) -> Self:
        """Remove all data, counts and faults; the execution environment stays warm.

        For a stack that several tests share.
        """
        os.environ.update(self._environment)
        self.mend()
        assert self._app.receiver().secret.admits(basic())  # reads the secret again if it is due
        for row in self.rows():
            self._dynamodb.delete_item(TableName=self._table, Key={"id": {"S": str(row["id"])}})
        for record in self.opt_outs.scan():
            self._dynamodb.delete_item(TableName=self._opt_out_table, Key={"handset": {"S": record.handset}})
        for item in self._ledger_items():
            self._dynamodb.delete_item(TableName=self._ledger_table, Key={"pk": item["pk"]})
        self.dead_letters()
        self.calls.clear()
        return self

    def fail(self, *calls: str, error: Exception, after: int = 0) -> None:
        """Let these AWS calls raise ``error``, as if botocore had given up; the first ``after`` of each work."""
        self._faults |= {call: _Fault(error, after) for call in calls}

    def mend(self) -> None:
        """Let all calls succeed again."""
        self._faults.clear()

    def handle(self, event: Any) -> Answer:
        """Invoke the handler once."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if self._logger is not None:
                self._logger.setStream(printed)
            answer = self._app.lambda_handler(event, FakeLambdaContext("ReceiveCallbackFunction"))
        return Answer(answer["statusCode"], answer["headers"], answer["body"], printed.getvalue())

    def counted(self, event: Any) -> tuple[Answer, list[str]]:
        """Invoke the handler once; return also the AWS calls that it made."""
        before = len(self.calls)
        return self.handle(event), self.calls[before:]

    def row(self, gateway_id: str) -> Item:
        """Return an item of MessagesTable; empty if there is none."""
        return unmarshal(self._dynamodb.get_item(TableName=self._table, Key={"id": {"S": gateway_id}}).get("Item", {}))

    def rows(self) -> list[Item]:
        """Return all items of MessagesTable."""
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=self._table)
        return [unmarshal(item) for page in pages for item in page["Items"]]

    def everything(self) -> tuple[list[Item], list[Item]]:
        """Return all items of both tables."""
        return self.rows(), [unmarshal(item) for item in self._ledger_items()]

    def ledger_item(self, key: str) -> Item:
        """A message's item of SendLedgerTable."""
        answer = self._dynamodb.get_item(TableName=self._ledger_table, Key={"pk": {"S": f"msg#{key}"}})
        return unmarshal(answer.get("Item", {}))

    def conversation(self, handset: str) -> list[Item]:
        """Return the index's items of a handset, in the index's order."""
        answer = self._dynamodb.query(
            TableName=self._table,
            IndexName=CONVERSATION_INDEX,
            KeyConditionExpression="handset = :handset",
            ExpressionAttributeValues={":handset": {"S": handset}},
        )
        return [unmarshal(item) for item in answer["Items"]]

    def dead_letters(self) -> list[dict[str, Any]]:
        """Receive and delete all dead letters; return ``body`` and attributes of each."""
        found = []
        while messages := self._sqs.receive_message(
            QueueUrl=self._queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=0
        ).get("Messages", []):
            for message in messages:
                attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
                found.append({"body": message["Body"], **attributes})
                self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def rotate(self, username: str, password: str) -> None:
        """Rotate the secret as an operator would: a new current version; the old one becomes the previous."""
        secret = json.dumps({"username": username, "password": password})
        self.secrets_manager.put_secret_value(SecretId=self.secret_id, SecretString=secret)

    def secret_versions(self) -> list[str]:
        """The ids of all versions of the secret."""
        found = self.secrets_manager.list_secret_version_ids(SecretId=self.secret_id, IncludeDeprecated=True)
        return sorted(version["VersionId"] for version in found["Versions"])

    @property
    def _logger(self) -> Any:
        if not observability.logger.cache_info().currsize:
            return None  # made at its first use, with the stdout of that moment
        return observability.logger().registered_handler

    def _on_call(self, model: Any, **_: Any) -> None:
        name = f"{model.service_model.service_name}.{model.name}"
        self.calls.append(name)
        if (fault := self._faults.get(name)) is not None:
            fault.after -= 1
            if fault.after < 0:
                raise fault.error

    def _ledger_items(self) -> list[dict[str, Any]]:
        return list(self._dynamodb.scan(TableName=self._ledger_table)["Items"])


class _InProcess(Creator):
    """Creates resources in this process's moto instead of a server."""

    def client(self, service: str) -> Any:
        return boto3.client(service)  # type: ignore[call-overload] # the stubs know literal names only


def _restore_environment(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _create(template: Template) -> Attributes:
    resources = {name: template.resources[name] for name in RESOURCES}
    few = Template(resources, {}, template.parameters, template.document, template._evaluator)
    return create_resources(few, _InProcess("", generated_passwords={"CallbackSecret": CALLBACK_PASSWORD}))


def _environment(template: Template, attributes: Attributes) -> dict[str, str]:
    function: Resource = template.resources["ReceiveCallbackFunction"]
    resolved: dict[str, str] = template.resolve(function.properties["Environment"]["Variables"], attributes)
    return resolved
