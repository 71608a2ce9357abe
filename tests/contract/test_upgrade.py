"""A new version must not replace resources of a live stack that hold data, credentials or an address.

CloudFormation replaces a resource if its logical ID, type or a create-only property changes. A replaced ledger has no
record of sent messages, a replaced queue or API has another address than senders or the gateway's portal use, and a
replaced secret has another password. docs/upgrade.md says what to do if it must be.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from local.template import REGION, STACK_NAME, Template, translate
from tests.support.aws import default_template, template_source
from tests.support.broken_templates import Mistake, with_mistake

# By logical ID: type, and the properties that identify it. Entries may be added, never changed.
LIVE: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "OutboundQueue": ("AWS::SQS::Queue", {}),
    "UrgentQueue": ("AWS::SQS::Queue", {}),
    "DeadLetterQueue": ("AWS::SQS::Queue", {}),
    "SendLedgerTable": ("AWS::DynamoDB::Table", {"KeySchema": [("pk", "HASH", "S")]}),
    "MessagesTable": ("AWS::DynamoDB::Table", {"KeySchema": [("id", "HASH", "S")]}),
    "GatewaySecret": (
        "AWS::SecretsManager::Secret",
        {"SecretString": {"application": "REPLACE_ME", "password": "REPLACE_ME"}},
    ),
    "CallbackSecret": (
        "AWS::SecretsManager::Secret",
        {
            "GenerateSecretString": {
                "SecretStringTemplate": '{"username":"gateway"}',
                "GenerateStringKey": "password",
                "PasswordLength": 40,
                "ExcludePunctuation": True,
            }
        },
    ),
    "OptOutTable": ("AWS::DynamoDB::Table", {"KeySchema": [("handset", "HASH", "S")]}),
    "UnpublishedEventsQueue": ("AWS::SQS::Queue", {}),
    "SmsEventBus": ("AWS::Events::EventBus", {"Name": f"{STACK_NAME}-events"}),
    "CallbackApi": ("AWS::ApiGateway::RestApi", {}),
    "CallbackApiv1Stage": ("AWS::ApiGateway::Stage", {"StageName": "v1"}),
}
# Types that hold data, credentials or an address. Add each new resource of these types to the list above.
KEPT_TYPES: Final = {
    *("AWS::SQS::Queue", "AWS::DynamoDB::Table", "AWS::SecretsManager::Secret", "AWS::ApiGateway::RestApi"),
    *(
        "AWS::ApiGateway::Stage",
        "AWS::Events::EventBus",
        "AWS::S3::Bucket",
        "AWS::RDS::DBInstance",
        "AWS::KMS::Key",
        "AWS::Kinesis::Stream",
    ),
}
SOURCE: Final = template_source()


def identity(stack: Template, logical_id: str) -> dict[str, Any]:
    """Return the values whose change makes CloudFormation replace this resource or overwrite a secret."""
    properties = stack.resources[logical_id].properties
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, stack.resources[logical_id].type).schema
    create_only = {path.split("/")[2] for path in schema.get("createOnlyProperties", [])}
    kept = {name: value for name, value in properties.items() if name in create_only | {"GenerateSecretString"}}
    kept.pop("RestApiId", None)  # a stage's: it follows the API, which has its own entry
    if "KeySchema" in properties:
        types = {item["AttributeName"]: item["AttributeType"] for item in properties["AttributeDefinitions"]}
        keys = [(key["AttributeName"], key["KeyType"]) for key in properties["KeySchema"]]
        kept["KeySchema"] = [(name, kind, types[name]) for name, kind in keys]
    if "SecretString" in properties:
        kept["SecretString"] = json.loads(properties["SecretString"])
    return kept


def replaced(stack: Template) -> list[str]:
    """Return the resources that an upgrade to this template would replace, overwrite or leave unguarded."""
    problems = []
    for logical_id, (kind, kept) in LIVE.items():
        if logical_id not in stack.resources or stack.resources[logical_id].type != kind:
            problems.append(f"{logical_id} is gone")
        elif identity(stack, logical_id) != kept:
            problems.append(f"{logical_id} is another one")
    unknown = {name for name, resource in stack.resources.items() if resource.type in KEPT_TYPES} - LIVE.keys()
    return problems + [f"{name} is not in this test's list" for name in sorted(unknown)]


def test_an_upgrade_replaces_nothing_that_holds_data_credentials_or_an_address() -> None:
    assert replaced(default_template()) == []


def test_the_callback_urls_in_the_gateways_portal_stay() -> None:
    outputs = default_template().outputs
    for kind, name in (("status", "StatusCallbackUrl"), ("reply", "ReplyCallbackUrl")):
        (url,) = outputs[name]["Value"].values()
        assert url == f"https://${{CallbackApi}}.execute-api.${{AWS::Region}}.${{AWS::URLSuffix}}/v1/callbacks/{kind}"


@pytest.mark.parametrize(
    ("mistake", "problem"),
    [
        (Mistake("Resources/SendLedgerTable/Properties/TableName", "ledger"), "SendLedgerTable is another one"),
        (
            Mistake("Resources/MessagesTable/Properties/AttributeDefinitions/0/AttributeType", "N"),
            "MessagesTable is another one",
        ),
        (
            Mistake("Resources/SendLedgerTable/Properties/KeySchema/0/AttributeName", "undecided"),
            "SendLedgerTable is another one",
        ),
        (Mistake("Resources/OutboundQueue/Properties/FifoQueue", True), "OutboundQueue is another one"),
        (
            Mistake("Resources/CallbackSecret/Properties/GenerateSecretString/PasswordLength", 41),
            "CallbackSecret is another one",
        ),
        (
            Mistake("Resources/GatewaySecret/Properties/SecretString", '{"application":"","password":""}'),
            "GatewaySecret is another one",
        ),
        (Mistake("Resources/CallbackApi/Properties/StageName", "v2"), "CallbackApiv1Stage is gone"),
        (Mistake("Resources/DeadLetterQueue/Type", "AWS::SNS::Topic"), "DeadLetterQueue is gone"),
        (Mistake("Resources/Archive", {"Type": "AWS::S3::Bucket"}), "Archive is not in this test's list"),
    ],
    ids=lambda value: value.path if isinstance(value, Mistake) else "",
)
def test_what_would_replace_is_noticed(mistake: Mistake, problem: str) -> None:
    assert problem in replaced(translate(with_mistake(SOURCE, mistake), {}))
