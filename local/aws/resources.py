"""Create the template's resources in the emulator, as CloudFormation would, and return their attributes.

Every resource type of the template is in exactly one of three tables: created here, played by the runner, or left out
with the reason. A type in none of them is an error, and so is a property that would be ignored, so that no part of the
template gets lost.
"""

import contextlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from graphlib import TopologicalSorter
from typing import Any

import boto3
from botocore.config import Config

from local.template import ACCOUNT_ID, REGION, STACK_NAME, Resource, Template

Attributes = dict[str, dict[str, str]]
"""By logical ID: the value of `Ref` (under "Ref") and the attributes of `Fn::GetAtt`."""

PLAYED_BY_THE_RUNNER = {
    "AWS::Lambda::Function": "execution environments (local/aws/function.py)",
    "AWS::Lambda::LayerVersion": "a folder on the execution environments' PYTHONPATH",
    "AWS::ApiGateway::RestApi": "local/aws/callback_api.py",
    "AWS::ApiGateway::Stage": "local/aws/callback_api.py",
    "AWS::Events::Rule": "local/aws/schedules.py",
}

LEFT_OUT = {
    "AWS::ApiGateway::Account": "only says where API Gateway may write its logs",
    "AWS::ApiGateway::Deployment": "the API is served as the template describes it at every start",
    "AWS::CloudWatch::Alarm": "nothing evaluates alarms here; metrics are lines in the functions' log",
    "AWS::CloudWatch::Dashboard": "tools/dashboard.py draws it",
    "AWS::Events::EventBusPolicy": "access is not checked here; tests on the template check the policies",
    "AWS::IAM::ManagedPolicy": "access is not checked here; tests on the template check the policies",
    "AWS::IAM::Role": "access is not checked here; tests on the template check the policies",
    "AWS::Lambda::EventInvokeConfig": "asynchronous invocations are not repeated here",
    "AWS::Lambda::Permission": "access is not checked here",
    "AWS::Logs::LogGroup": "the functions' log is a file",
    "AWS::Logs::MetricFilter": "counts lines of the callback API's access log, which is not kept here",
    "AWS::Logs::QueryDefinition": "the functions' log is a file",
    "AWS::SNS::TopicPolicy": "access is not checked here",
    "AWS::SQS::QueuePolicy": "access is not checked here; tests on the template check the policies",
    "AWS::SSM::Parameter": "they repeat the outputs, which .local/endpoints.env has",
    "AWS::SecretsManager::ResourcePolicy": "access is not checked here",
    "AWS::WAFv2::WebACLAssociation": "requests are not filtered here",
}


class ResourceError(Exception):
    """The template has a part that the local stack would ignore; the text names it and the fix."""


@dataclass(frozen=True)
class Creator:
    """The context in which resources are created."""

    endpoint_url: str
    secret_values: Mapping[str, str] = field(default_factory=dict)
    """Secret strings by logical ID, in place of the template's."""
    generated_passwords: Mapping[str, str] = field(default_factory=dict)
    """Passwords by a secret's logical ID, in place of random ones."""

    def client(self, service: str) -> Any:
        """Return a boto3 client of the local endpoint."""
        return local_client(service, self.endpoint_url)


_session_lock = threading.Lock()


@cache
def _session() -> boto3.session.Session:
    return boto3.session.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION)


def local_client(service: str, endpoint_url: str, max_attempts: int = 5) -> Any:
    """Return a boto3 client of the local endpoint with fake credentials; this machine's AWS settings don't matter."""
    config = Config(retries={"total_max_attempts": max_attempts}, proxies={}, max_pool_connections=20)
    with _session_lock:  # creating clients is not thread-safe; using them is
        return _session().client(service, endpoint_url=endpoint_url, config=config)  # type: ignore[call-overload]


def create_resources(template: Template, creator: Creator) -> Attributes:
    """Create the emulator's resources, in order of dependency; return the attributes of all resources of the template.

    Raise ResourceError if the template has a resource or property that would be ignored.
    """
    attributes: Attributes = {}
    for resource in template.resources.values():
        if resource.type in PLAYED_BY_THE_RUNNER or resource.type in LEFT_OUT:
            attributes[resource.logical_id] = _plain_attributes(resource)
        elif resource.type not in _CREATORS:
            raise ResourceError(
                f"{resource.logical_id} is of type {resource.type}, which the local stack does not know: "
                "add it to one of the tables in local/aws/resources.py"
            )
    for resource in _in_order(template):
        properties = template.resolve(resource.properties, attributes)
        attributes[resource.logical_id] = _CREATORS[resource.type](resource.logical_id, dict(properties), creator)
    return attributes


def _in_order(template: Template) -> Iterator[Resource]:
    created = {name: resource for name, resource in template.resources.items() if resource.type in _CREATORS}
    graph = {
        name: {other for other in (*_references(resource.properties), *resource.depends_on) if other in created}
        for name, resource in created.items()
    }
    return (created[name] for name in TopologicalSorter(graph).static_order())


def _references(properties: Mapping[str, Any]) -> list[str]:
    """Return the logical IDs in properties (and other texts that look like one)."""
    return re.findall(r'(?:"Ref": "|"Fn::GetAtt": \["|\$\{)(\w+)', json.dumps(properties))


def _plain_attributes(resource: Resource) -> dict[str, str]:
    name = resource.logical_id
    region_and_account = f"{REGION}:{ACCOUNT_ID}"
    match resource.type:
        case "AWS::Lambda::Function":
            return {"Ref": name, "Arn": f"arn:aws:lambda:{region_and_account}:function:{name}"}
        case "AWS::Lambda::LayerVersion":
            return {"Ref": f"arn:aws:lambda:{region_and_account}:layer:{name}:1"}
        case "AWS::ApiGateway::RestApi":
            return {"Ref": name.lower(), "RestApiId": name.lower(), "RootResourceId": "root"}
        case "AWS::ApiGateway::Stage":
            return {"Ref": resource.properties["StageName"]}
        case "AWS::Events::Rule":
            return {"Ref": name, "Arn": f"arn:aws:events:{region_and_account}:rule/{name}"}
        case other:
            return {"Ref": name, "Arn": f"arn:aws:{other.split('::')[1].lower()}:{region_and_account}:{name}"}


# One function for each type that the emulator has: (logical ID, properties, creator) -> attributes


def _queue(logical_id: str, properties: dict[str, Any], creator: Creator) -> dict[str, str]:
    sqs = creator.client("sqs")
    name = _name(logical_id)
    attributes = {key: _as_text(value) for key, value in properties.items()}
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return {"Ref": url, "QueueUrl": url, "Arn": arn, "QueueName": name}


def _table(logical_id: str, properties: dict[str, Any], creator: Creator) -> dict[str, str]:
    dynamodb = creator.client("dynamodb")
    name = _name(logical_id)
    ttl = properties.pop("TimeToLiveSpecification", None)
    for without_effect_here in ("PointInTimeRecoverySpecification", "DeletionProtectionEnabled", "SSESpecification"):
        properties.pop(without_effect_here, None)
    stream = {"StreamEnabled": True, **properties.pop("StreamSpecification")}
    table = dynamodb.create_table(TableName=name, StreamSpecification=stream, **properties)["TableDescription"]
    if ttl:
        dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
    return {"Ref": name, "Arn": table["TableArn"], "StreamArn": table["LatestStreamArn"]}


def _secret(logical_id: str, properties: dict[str, Any], creator: Creator) -> dict[str, str]:
    generate = properties.pop("GenerateSecretString", None)
    if generate:
        properties["SecretString"] = _generated_secret(generate, creator.generated_passwords.get(logical_id))
    if logical_id in creator.secret_values:
        properties["SecretString"] = creator.secret_values[logical_id]
    arn = creator.client("secretsmanager").create_secret(Name=_name(logical_id), **properties)["ARN"]
    return {"Ref": arn, "Id": arn}


def _generated_secret(generate: Mapping[str, Any], password: str | None) -> str:
    password = password or secrets.token_urlsafe(generate["PasswordLength"])
    return json.dumps({**json.loads(generate["SecretStringTemplate"]), generate["GenerateStringKey"]: password})


_NO_CODE = b"PK\5\6".ljust(22, b"\0")
"""An empty zip file: the runner runs the function, and the emulator has only its name."""


def _event_source_mapping(logical_id: str, properties: dict[str, Any], creator: Creator) -> dict[str, str]:
    """Create a mapping for Lambda's API to enable and disable; `event_source.py` does its work. A stream's mapping is
    never disabled, so it is not created.
    """
    if ":sqs:" not in properties["EventSourceArn"]:
        return {"Ref": logical_id}
    client = creator.client("lambda")
    with contextlib.suppress(client.exceptions.ResourceConflictException):  # it exists, for another queue
        client.create_function(
            FunctionName=properties["FunctionName"],
            Role=_any_role(creator),
            Runtime="python3.13",
            Handler="app.lambda_handler",
            Code={"ZipFile": _NO_CODE},
        )
    mapping = client.create_event_source_mapping(
        EventSourceArn=properties["EventSourceArn"],
        FunctionName=properties["FunctionName"],
        Enabled=str(properties.get("Enabled", True)).lower() == "true",
    )
    return {"Ref": mapping["UUID"], "Id": mapping["UUID"]}


def _any_role(creator: Creator) -> str:
    """Return the ARN of an existing role, which a function must have, whatever the role allows."""
    trust, iam = json.dumps({"Version": "2012-10-17", "Statement": []}), creator.client("iam")
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName="any", AssumeRolePolicyDocument=trust)
    return str(iam.get_role(RoleName="any")["Role"]["Arn"])


def _event_bus(_logical_id: str, properties: dict[str, Any], creator: Creator) -> dict[str, str]:
    name = properties["Name"]
    arn = creator.client("events").create_event_bus(**properties)["EventBusArn"]
    return {"Ref": name, "Name": name, "Arn": arn}


def _topic(logical_id: str, properties: dict[str, Any], creator: Creator) -> dict[str, str]:
    properties.pop("Subscription", None)  # the local stack sends no email
    attributes = {key: _as_text(value) for key, value in properties.items()}
    arn = creator.client("sns").create_topic(Name=_name(logical_id), Attributes=attributes)["TopicArn"]
    return {"Ref": arn, "TopicArn": arn, "TopicName": _name(logical_id)}


def _name(logical_id: str) -> str:
    """Return the physical name; the template sets none."""
    return f"{STACK_NAME}-{logical_id}"


def _as_text(value: object) -> str:
    """Return an attribute in the form of SQS and SNS."""
    return value if isinstance(value, str) else json.dumps(value)


# boto3 refuses unknown properties, so none is ignored. The event source checks those of a mapping.
_CREATORS: Mapping[str, Callable[[str, dict[str, Any], Creator], dict[str, str]]] = {
    "AWS::DynamoDB::Table": _table,
    "AWS::Events::EventBus": _event_bus,
    "AWS::Lambda::EventSourceMapping": _event_source_mapping,
    "AWS::SNS::Topic": _topic,
    "AWS::SQS::Queue": _queue,
    "AWS::SecretsManager::Secret": _secret,
}
