"""Least privilege for resources: each function's calls are allowed on exactly the resources that it uses.

The calls are those of the rounds of `test_least_privilege.py`, as botocore makes them. An IAM evaluator judges each
with its resource and condition keys, and its neighbors: another resource, another item, plain HTTP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from local.template import Template, translate
from optus_sms.records.items import HEALTH_KEY, MESSAGE_PREFIX, REFERENCE_PREFIX
from tests.contract.test_template import ALL_CHOSEN, callback_api, listed, policy_statements
from tests.functional.test_least_privilege import ROUNDS
from tests.support.aws import REGION, template_source
from tests.support.builders import ACCOUNT
from tests.support.iam_evaluator import ALLOWED, DENIED, Call, evaluate, needs_iam_evaluator
from tests.support.least_privilege import ROOT, Account, Made, role_of

pytestmark = needs_iam_evaluator

# Requests that are not named as the action that allows them ("Actions, resources, and condition keys" of each service).
ACTIONS: Final = {"SendMessageBatch": "SendMessage", "DeleteMessageBatch": "DeleteMessage"}
KEYS: Final = ("pk", "id")
# Services whose policies refuse plain HTTP. The endpoints of the others accept only HTTPS, or return only metrics.
WITH_HTTP: Final = ("dynamodb", "sqs", "secretsmanager", "events")
DESTRUCTIVE: Final = {
    "dynamodb": ("DeleteItem", "DeleteTable", "UpdateTimeToLive", "PutResourcePolicy", "PartiQLSelect"),
    "sqs": ("PurgeQueue", "SetQueueAttributes", "AddPermission"),
    "secretsmanager": ("PutSecretValue", "DeleteSecret", "PutResourcePolicy"),
    "lambda": ("DeleteEventSourceMapping",),
    "events": ("PutRule", "PutPermission"),
    "logs": ("DeleteLogGroup", "DeleteLogStream"),
    "cloudwatch": ("PutMetricData", "DeleteAlarms"),
}


def arn(service: str, rest: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}"


def call_of(made: Made, role: str) -> Call:
    """Return the call in IAM's terms."""
    given, stream = made.parameters, made.stream
    service = {"streams.dynamodb": "dynamodb", "monitoring": "cloudwatch"}.get(made.service, made.service)
    action = f"{service}:{ACTIONS.get(made.operation, made.operation)}"
    context: tuple[tuple[str, tuple[str, ...]], ...] = ()
    match service:
        case "dynamodb" if made.operation == "ListStreams":
            resource = "*"
        case "dynamodb" if "TableName" not in given:
            resource = given.get("StreamArn", stream)
        case "dynamodb":
            index = f"/index/{given['IndexName']}" if "IndexName" in given else ""
            resource = arn("dynamodb", f"table/{given['TableName']}{index}")
            item = given.get("Key") or given.get("Item") or {}
            context = tuple(("dynamodb:LeadingKeys", (item[key]["S"],)) for key in KEYS if key in item)
        case "sqs":
            resource = arn("sqs", given["QueueUrl"].rpartition("/")[2])
        case "secretsmanager":
            resource = given["SecretId"]
        case "lambda":
            resource = arn("lambda", f"event-source-mapping:{given['UUID']}")
        case "events":
            resource = arn("events", f"event-bus/{given['Entries'][0]['EventBusName']}")
        case "logs":
            resource = arn("logs", f"log-group:{given['logGroupName']}:log-stream:{given['logStreamName']}")
        case "cloudwatch":
            resource = "*"
        case other:
            pytest.fail(f"a call of {other} is not known here")
    return Call(role, action, resource, context)


def without_item(call: Call) -> Call:
    """Return the call without its message's key; items that are not messages stay distinct."""
    own = [value for _, values in call.context for value in values if value.endswith("#gateway")]
    return replace(call, context=call.context if own else tuple((name, ("msg#k",)) for name, _ in call.context))


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with Account() as account:
        yield account


@pytest.fixture(scope="module")
def needed(account: Account) -> list[Call]:
    """Return every distinct call of every function in its round."""
    calls: dict[Call, None] = {}
    for function, work in ROUNDS.items():
        with account.function(function) as sandbox:
            work(sandbox)
        role = role_of(account.template.resources[function]).logical_id
        for made in account.calls:
            call = without_item(call_of(made, role))
            calls[replace(call, resource=re.sub(r":log-stream:\w+$", ":log-stream:s", call.resource))] = None
    return list(calls)


def attributes(account: Account) -> dict[str, Mapping[str, str]]:
    """Return the account's attributes, with ARNs of log groups in AWS's form."""
    groups = {
        function.properties["LoggingConfig"]["LogGroup"]["Ref"]: f"/{function.logical_id}"
        for function in account.template.of_type("AWS::Lambda::Function")
    }
    own = {name: {"Ref": group, "Arn": arn("logs", f"log-group:{group}:*")} for name, group in groups.items()}
    return {**account.attributes, **own}


def role_policies(template: Template, known: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    return {
        role.logical_id: template.resolve(role.properties["Policies"][0]["PolicyDocument"], known)
        for role in template.of_type("AWS::IAM::Role")
        if "Policies" in role.properties
    }


def resource_policies(account: Account) -> dict[str, Any]:
    """Return the policies of queues, secrets and bus, by ARN."""
    template, known = account.template, attributes(account)
    found: dict[str, Any] = {}
    for policy in template.of_type("AWS::SQS::QueuePolicy"):
        document = template.resolve(policy.properties["PolicyDocument"], known)
        found |= {statement["Resource"]: document for statement in document["Statement"]}
    for policy in template.of_type("AWS::SecretsManager::ResourcePolicy"):
        document = template.resolve(policy.properties["ResourcePolicy"], known)
        found[template.resolve(policy.properties["SecretId"], known)] = document
    for policy in template.of_type("AWS::Events::EventBusPolicy"):
        statement = template.resolve(policy.properties["Statement"], known)
        found[statement["Resource"]] = {"Version": "2012-10-17", "Statement": [statement]}
    return found


def judged(account: Account, calls: list[Call]) -> dict[Call, str]:
    return evaluate(calls, role_policies(account.template, attributes(account)), resource_policies(account))


def test_every_call_that_a_function_makes_is_allowed(account: Account, needed: list[Call]) -> None:
    results = judged(account, needed)
    assert {call: result for call, result in results.items() if result != ALLOWED} == {}
    assert len(results) > 40
    assert {call.role for call in results} == set(role_policies(account.template, attributes(account)))


def neighbors(call: Call, all_calls: list[Call]) -> Iterator[Call]:
    """Return the same action on other resources: those of the service's other calls, and one outside the stack."""
    service = call.action.partition(":")[0]
    if call.resource == "*":
        return
    others = {other.resource for other in all_calls if other.action.startswith(f"{service}:")} - {"*"}
    kind = re.compile(re.sub(r"[\w-]+", r"[^:/]+", re.sub(r"^arn:aws:\w+:[\w-]+:\d+:", "", call.resource)))
    same_kind = {other for other in others if kind.fullmatch(re.sub(r"^arn:aws:\w+:[\w-]+:\d+:", "", other))}
    for resource in {
        *same_kind,
        re.sub(r"(:|/)([\w-]+)(?=$|/index/|/stream/|:log-stream:)", r"\1\2-of-others", call.resource),
    }:
        yield replace(call, resource=resource)


def test_the_same_actions_on_other_resources_are_denied(account: Account, needed: list[Call]) -> None:
    needs = {(call.role, call.action, call.resource) for call in needed}  # with whatever item
    asked = [
        call
        for call in {call for each in needed for call in neighbors(each, needed)}
        if (call.role, call.action, call.resource) not in needs
    ]
    results = judged(account, sorted(asked, key=str))
    assert {call: result for call, result in results.items() if result not in DENIED} == {}
    assert {call.action.partition(":")[0] for call in results} == {
        "dynamodb",
        "sqs",
        "secretsmanager",
        "lambda",
        "events",
        "logs",
    }


def test_items_of_messages_are_denied_to_whom_they_do_not_concern(account: Account, needed: list[Call]) -> None:
    own = [call for call in needed if call.context == (("dynamodb:LeadingKeys", (HEALTH_KEY,)),)]
    of_sender = {"SendMessageRole": f"{REFERENCE_PREFIX}k"}  # it may read messages
    other = {call: of_sender.get(call.role, f"{MESSAGE_PREFIX}k") for call in own}
    asked = [replace(call, context=(("dynamodb:LeadingKeys", (key,)),)) for call, key in other.items()]
    results = judged(account, asked)
    assert {(call.role, call.action) for call in asked} == {
        ("SendMessageRole", "dynamodb:GetItem"),
        ("CheckHealthRole", "dynamodb:GetItem"),
        ("CheckHealthRole", "dynamodb:PutItem"),
    }
    assert set(results.values()) <= DENIED


def test_plain_http_is_denied(account: Account, needed: list[Call]) -> None:
    asked = [replace(call, tls=False) for call in needed if call.action.partition(":")[0] in WITH_HTTP]
    results = judged(account, asked)
    assert {call: result for call, result in results.items() if result != "ExplicitlyDenied"} == {}
    assert len(results) > 25


def test_what_destroys_is_denied(account: Account, needed: list[Call]) -> None:
    asked = {
        replace(call, action=f"{service}:{action}", context=())
        for call in needed
        for service in [call.action.partition(":")[0]]
        for action in DESTRUCTIVE[service]
    }
    results = judged(account, sorted(asked, key=str))
    assert {call: result for call, result in results.items() if result == ALLOWED} == {}


def test_a_boundary_of_the_documented_services_denies_nothing_and_a_narrower_one_does(
    account: Account, needed: list[Call]
) -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    (row,) = re.findall(r"^\| `PermissionsBoundaryArn` \|.*$", page, re.MULTILINE)
    services = re.findall(r"`(\w+:\*)`", row)
    policies = role_policies(account.template, attributes(account))

    def denied_by(allowed: list[str]) -> set[str]:
        statement = {"Effect": "Allow", "Action": allowed, "Resource": "*"}
        boundary = {"Version": "2012-10-17", "Statement": [statement]}
        found = evaluate(needed, policies, resource_policies(account), boundary)
        return {f"{call.action.partition(':')[0]}:*" for call, result in found.items() if result != ALLOWED}

    used = {f"{call.action.partition(':')[0]}:*" for call in needed}
    assert denied_by(services) == set()
    assert {name for name in sorted(used) if denied_by([s for s in services if s != name]) != {name}} == set()
    chosen = translate(template_source(), ALL_CHOSEN)
    actions = {a for _, s in policy_statements(chosen) if s["Effect"] == "Allow" for a in listed(s["Action"])}
    assert {f"{action.partition(':')[0]}:*" for action in actions} == set(services)


@pytest.mark.parametrize(
    ("address", "with_sources"),
    [("203.0.113.7", ALLOWED), ("2001:db8::7", ALLOWED), ("203.0.114.7", "ImplicitlyDenied")],
)
def test_only_chosen_addresses_may_call_back_and_without_a_choice_all_may(address: str, with_sources: str) -> None:
    resource = arn("execute-api", "api/v1/POST/callbacks/status")
    call = Call("", "execute-api:Invoke", resource, (("aws:SourceIp", (address,)),), principal="anonymous")
    found = []
    for parameters in ({}, ALL_CHOSEN):
        document = callback_api(translate(template_source(), parameters))["x-amazon-apigateway-policy"]
        expanded = json.loads(json.dumps(document).replace("execute-api:/*", arn("execute-api", "api/*")))
        found.append(evaluate([call], {}, {resource: expanded})[call])
    assert found == [ALLOWED, with_sources]


def test_in_a_vpc_lambda_may_make_network_interfaces_and_the_code_may_not() -> None:
    template = translate(template_source(), ALL_CHOSEN)
    policies = role_policies(template, {name: Anything() for name in template.resources})
    actions = (
        "CreateNetworkInterface",
        "DeleteNetworkInterface",
        "AssignPrivateIpAddresses",
        "UnassignPrivateIpAddresses",
    )
    lambda_itself = [
        Call(f"{name}Role", f"ec2:{action}", arn("ec2", "network-interface/eni-0123456789abcdef0"))
        for name in ("SendMessage", "CheckHealth", "ReconcileMessages")
        for action in actions
    ]
    source = (("lambda:SourceFunctionArn", (arn("lambda", "function:any"),)),)
    code = [replace(call, context=source) for call in lambda_itself]
    results = evaluate([*lambda_itself, *code], policies, {})
    assert {results[call] for call in lambda_itself} == {ALLOWED}
    assert {results[call] for call in code} == {"ExplicitlyDenied"}


class Anything(dict[str, str]):
    """Stands for any attribute of a resource."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return arn("any", name)
