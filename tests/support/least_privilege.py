"""Runs each function under its own role: AWS by moto with IAM enforced; the handler and Lambda use the role's
credentials.

Moto compares an action's resource with `*` for most services and knows no conditions, so the roles here are copies of
the template's with `Resource: "*"`. Which resources an action is allowed on is checked on the template.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Self
from unittest.mock import patch
from uuid import uuid4

import boto3
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core import enable_iam_authentication
from moto.iam.access_control import IAMRequest

from local.aws.app_loader import load_app
from local.aws.resources import Attributes, Creator, create_resources
from local.template import Resource, Template
from optus_sms.aws import clients
from optus_sms.runtime import observability
from tests.support.aws import FAKE_AWS_ENVIRONMENT, REGION, default_template
from tests.support.builders import ACCOUNT, CALLBACK_PASSWORD
from tests.support.execution_environment import forget_execution_environment
from tests.support.fakes import FakeLambdaContext

ROOT = Path(__file__).parents[2]
SIGNED_AS = "monitoring"  # CloudWatch; moto checks actions under that name
GATEWAY_SECRET = json.dumps({"application": "example-app", "password": "example-password"})


def role_of(function: Resource) -> Resource:
    """The function's own role."""
    return default_template().resources[function.properties["Role"]["Fn::GetAtt"][0]]


def allowed_actions(function: Resource) -> list[str]:
    """Return the role's actions without those for network interfaces, because in moto no function is in a VPC."""
    statements = role_of(function).properties["Policies"][0]["PolicyDocument"]["Statement"]
    allowing = [statement for statement in statements if statement["Effect"] == "Allow"]
    actions = [action for statement in allowing for action in _listed(statement["Action"])]
    return sorted({action for action in actions if not action.startswith("ec2:")})


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True)
class Made:
    """A call as botocore makes it; ``stream``: the one that a call with an iterator reads from."""

    service: str
    operation: str
    parameters: Mapping[str, Any]
    stream: str


@dataclass
class Account:
    """A context manager: the stack's resources in moto. ``denied``: what was refused, such as `sqs:SendMessage`."""

    denied: list[str] = field(default_factory=list)
    calls: list[Made] = field(default_factory=list)
    """The calls of the function, and of Lambda for it."""
    failed: list[Exception] = field(default_factory=list)
    """The handlers' exceptions."""

    def __enter__(self) -> Self:
        self._exits = contextlib.ExitStack()
        self._exits.callback(_restore_environment, dict(os.environ))
        os.environ.update(FAKE_AWS_ENVIRONMENT)
        self._exits.enter_context(mock_aws())
        # moto computes a wrong signature for a GET without a body, and these tests are not about signatures.
        self._exits.enter_context(patch.object(IAMRequest, "check_signature"))
        self.template = default_template()
        self.attributes = _create(self.template)
        self.owner = boto3.Session()
        iam = self.owner.client("iam")
        for function in self.template.of_type("AWS::Lambda::Function"):
            iam.create_role(RoleName=function.logical_id, AssumeRolePolicyDocument="{}")
            self.owner.client("logs").create_log_group(logGroupName=f"/{function.logical_id}")
        self.mapping_ids = _create_mappings(self.owner)
        for name, mapping_id in self.mapping_ids.items():
            self.attributes[name] = {"Ref": mapping_id, "Id": mapping_id}
        return self

    def __exit__(self, *_: object) -> None:
        forget_execution_environment()
        self._exits.close()

    @contextlib.contextmanager
    def function(self, logical_id: str, *, without: str = "", enforced: bool = True) -> Iterator[Sandbox]:
        """Run a function in a new execution environment whose role lacks an action, with IAM enforced if wanted."""
        resource = self.template.resources[logical_id]
        document = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": action.replace("cloudwatch:", f"{SIGNED_AS}:"), "Resource": "*"}
                for action in allowed_actions(resource)
                if action != without
            ],
        }
        self.owner.client("iam").put_role_policy(
            RoleName=logical_id, PolicyName="own", PolicyDocument=json.dumps(document)
        )
        arn = f"arn:aws:iam::{ACCOUNT}:role/{logical_id}"
        credentials = self.owner.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        self.denied.clear()
        self.calls.clear()
        self.failed.clear()
        variables = self.template.resolve(resource.properties["Environment"]["Variables"], self.attributes)
        environment = {
            **variables,
            "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
            "AWS_SESSION_TOKEN": credentials["SessionToken"],
            "AWS_DEFAULT_REGION": REGION,
        }
        before = dict(os.environ)
        os.environ.update(environment)
        forget_execution_environment()
        try:
            with enable_iam_authentication() if enforced else contextlib.nullcontext():
                clients._session().register("after-call", self._on_answer)  # type: ignore[arg-type] # the stubs want **kwargs only
                clients._session().register("before-parameter-build", self._on_call)  # type: ignore[arg-type]
                yield Sandbox(self, logical_id, load_app(ROOT / resource.properties["Code"]["S3Key"] / "app.py"))
        finally:
            _restore_environment(before)
            forget_execution_environment()

    def _on_call(self, params: Mapping[str, Any], model: Any, **_: Any) -> None:
        stream = params.get("StreamArn") or (self.calls[-1].stream if self.calls else "")
        self.calls.append(Made(model.service_model.endpoint_prefix, model.name, dict(params), stream))

    def _on_answer(self, model: Any, parsed: Mapping[str, Any], **_: Any) -> None:
        if parsed["ResponseMetadata"]["HTTPStatusCode"] == 403:
            service = model.service_model.signing_name
            self.denied.append(f"{'cloudwatch' if service == SIGNED_AS else service}:{model.name}")


@dataclass
class Sandbox:
    """A function under its role. ``app``: its module; a test may replace the parts of it that are not AWS."""

    account: Account
    logical_id: str
    app: ModuleType

    def client(self, service: str) -> Any:
        """Return a client with the role's credentials, for Lambda's calls for the function."""
        return clients._session().create_client(service)

    def output(self, name: str) -> str:
        """Return one of the stack's outputs."""
        value: str = self.account.template.resolve(
            self.account.template.outputs[name]["Value"], self.account.attributes
        )
        return value

    def invoke(self, event: Any) -> Any:
        """Run the handler, and write its output to the log group as Lambda does."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if observability.logger.cache_info().currsize:
                observability.logger().registered_handler.setStream(printed)  # type: ignore[attr-defined]
            try:
                result = self.app.lambda_handler(event, FakeLambdaContext(self.logical_id))
            except Exception as error:  # noqa: BLE001 - Lambda handles a failed invocation
                self.account.failed.append(error)
                result = None
        self._write_log(printed.getvalue())
        return result

    def _write_log(self, text: str) -> None:
        logs, names = self.client("logs"), {"logGroupName": f"/{self.logical_id}", "logStreamName": uuid4().hex}
        line = {"timestamp": int(time.time() * 1000), "message": text or "-"}
        for write in (logs.create_log_stream, partial(logs.put_log_events, logEvents=[line])):
            with contextlib.suppress(ClientError):  # the account counts refusals
                write(**names)


class _InProcess(Creator):
    def client(self, service: str) -> Any:
        return boto3.client(service)  # type: ignore[call-overload] # the stubs know literal names only


def _create(template: Template) -> Attributes:
    """Create resources without event source mappings, because moto would run those with Docker."""
    creator = _InProcess(
        "", secret_values={"GatewaySecret": GATEWAY_SECRET}, generated_passwords={"CallbackSecret": CALLBACK_PASSWORD}
    )
    mappings = {mapping.logical_id for mapping in template.of_type("AWS::Lambda::EventSourceMapping")}
    resources = {name: resource for name, resource in template.resources.items() if name not in mappings}
    others = Template(resources, {}, template.parameters, template.document, template._evaluator)
    return {**create_resources(others, creator), **{name: {"Ref": name, "Id": name} for name in mappings}}


def _create_mappings(owner: boto3.Session) -> dict[str, str]:
    """Create the sender function's mappings, on unused queues because moto would otherwise run them with Docker."""
    owner.client("lambda").create_function(
        FunctionName="sender",
        Role=f"arn:aws:iam::{ACCOUNT}:role/SendMessageFunction",
        Runtime="python3.13",
        Handler="app.lambda_handler",
        Code={"ZipFile": b"never run"},
    )
    mappings = {}
    for name in ("SendMessageFunctionOutboundMessages", "SendMessageFunctionUrgentMessages"):
        owner.client("sqs").create_queue(QueueName=name)
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        mapping = owner.client("lambda").create_event_source_mapping(EventSourceArn=arn, FunctionName="sender")
        mappings[name] = mapping["UUID"]
    return mappings


def _restore_environment(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
