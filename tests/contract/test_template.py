"""The invariants of template.yaml. They are checked on the translated template, because a linter of the SAM file sees
neither SAM's output nor relations between resources.

Each invariant yields the violations, and comes with a mistake that it must notice.
"""

import ipaddress
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import pytest

from local.template import (
    REGION,
    STACK_NAME,
    TEMPLATE_PATH,
    Resource,
    Template,
    TemplateError,
    evaluated,
    known_parameters,
    translate,
)
from optus_sms.flows.send_message import QUEUE_RECEIVES, QUEUE_RETENTION_SECONDS
from optus_sms.model.errors import SettingsError
from optus_sms.model.lanes import Lane
from optus_sms.records.items import CONTRACT_KEY, HEALTH_KEY, MESSAGE_PREFIX, REFUSED_PREFIX, State
from optus_sms.records.ledger import KEEP_REFUSED_SECONDS, KEEP_SECONDS
from optus_sms.runtime.observability import NAMESPACE, Metric
from optus_sms.runtime.settings import read_settings
from tests.support.aws import template_source
from tests.support.broken_templates import Mistake, with_mistake
from tests.support.settings import SETTINGS
from tools.schemas import QUEUE_MESSAGE_VERSION

ROOT: Final = TEMPLATE_PATH.parent
PACKAGE: Final = ROOT / "layers" / "shared" / "src" / "optus_sms"
SOURCE: Final = template_source()

# Every parameter has another value than its default, so that each condition is tested both ways.
ALL_CHOSEN: Final = {
    "GatewayBaseUrl": "https://gateway.example/v2",
    "GatewaySecretArn": "arn:aws:secretsmanager:ap-southeast-2:123456789012:secret:sms/gateway-AbCdEf",
    "OnUnknownOutcome": "resend",
    "RequireMessageId": "true",
    "SeparateSenders": "true",
    "AllowedDestinations": "+614,+64",
    "OptOutWords": "STOP,OPT OUT",
    "OptInWords": "",
    "AllowDespiteOptOut": "false",
    "ServiceStatusUrl": "",
    "PauseOnOutage": "false",
    "MaxMessagesPerSecond": "40",
    "SenderConcurrency": "100",
    "MaxUrgentPerSecond": "40",
    "UrgentConcurrency": "100",
    "SenderPrincipals": "210987654321,arn:aws:iam::210987654322:role/reminders/sender",
    "SenderOrganizationId": "o-a1b2c3d4e5",
    "SenderSourceArns": "arn:aws:sns:ap-southeast-2:210987654321:codes,arn:aws:events:us-east-1:123456789012:rule/*",
    "RetentionDays": "7",
    "LogRetentionDays": "365",
    "ReplyTextInEvents": "false",
    "AlarmEmail": "operator@example.com",
    "AlarmTopicArn": "arn:aws:sns:ap-southeast-2:123456789012:on-call",
    "Architecture": "x86_64",
    "ApiGatewayLogRole": "existing",
    "SubnetIds": "subnet-0123abcd,subnet-0123abce",
    "SecurityGroupIds": "sg-0123abcd",
    "KmsKeyArn": "arn:aws:kms:ap-southeast-2:123456789012:key/0a1b2c3d",
    "GatewaySecretKmsKeyArn": "arn:aws:kms:ap-southeast-2:210987654321:key/mrk-4e5f",
    "PermissionsBoundaryArn": "arn:aws:iam::123456789012:policy/boundaries/applications",
    "RolePath": "/sms/production/",
    "Tracing": "active",
    "CallbackSourceCidrs": "203.0.113.0/24,2001:db8::/32",
    "WebAclArn": "arn:aws:wafv2:ap-southeast-2:123456789012:regional/webacl/callbacks/0a1b2c3d-4e5f",
    "MaxCallbacksPerSecond": "50",
}
# The stack's own secret, encrypted with the stack's own key.
OWN_KEY: Final = {"KmsKeyArn": ALL_CHOSEN["KmsKeyArn"]}

Problems = Iterator[str]
Check = Callable[[Template], Problems]


@dataclass(frozen=True)
class Invariant:
    check: Check
    mistakes: tuple[Mistake, ...]
    parameters: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.check.__name__


INVARIANTS: Final[list[Invariant]] = []


def invariant(*mistakes: Mistake, parameters: Mapping[str, str] | None = None) -> Callable[[Check], Check]:
    """Register a check with the mistakes that it must notice, in a stack with these parameters."""

    def register(check: Check) -> Check:
        INVARIANTS.append(Invariant(check, mistakes, parameters or {}))
        return check

    return register


def resource_mistake(path: str, *value: object) -> Mistake:
    """Return a mistake in a resource: `path` is <logical ID>/<property>/…"""
    logical_id, _, rest = path.partition("/")
    return Mistake(f"Resources/{logical_id}/Properties/{rest}", *value)


def functions(stack: Template) -> list[Resource]:
    return list(stack.of_type("AWS::Lambda::Function"))


def policy_statements(stack: Template) -> Iterator[tuple[Resource, Mapping[str, Any]]]:
    """Yield each statement of each role."""
    for role in stack.of_type("AWS::IAM::Role"):
        for policy in role.properties.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield role, statement


def callback_api(stack: Template) -> Mapping[str, Any]:
    body: Mapping[str, Any] = stack.resources["CallbackApi"].properties["Body"]
    return body


# By the queue of each lane: its event, and the parameter of its concurrency.
LANES: Final = {
    "OutboundQueue": ("OutboundMessages", "SenderConcurrency", "SENDER_CONCURRENCY"),
    "UrgentQueue": ("UrgentMessages", "UrgentConcurrency", "URGENT_CONCURRENCY"),
}


def listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


# Queues


@invariant(
    resource_mistake("OutboundQueue/VisibilityTimeout", 359),
    resource_mistake("SendMessageFunction/Timeout", 61),
    resource_mistake("OutboundQueue/VisibilityTimeout"),
    resource_mistake("UrgentQueue/VisibilityTimeout", 359),
)
def queue_stays_invisible_for_six_timeouts(stack: Template) -> Problems:
    for source in stack.of_type("AWS::Lambda::EventSourceMapping"):
        queue = stack.resources[source.properties["EventSourceArn"]["Fn::GetAtt"][0]]
        if queue.type != "AWS::SQS::Queue":
            continue
        function = stack.resources[source.properties["FunctionName"]["Ref"]]
        visibility, timeout = queue.properties.get("VisibilityTimeout", 30), function.properties["Timeout"]
        if visibility < 6 * timeout:
            yield f"{queue.logical_id}: {visibility} s < 6 × {timeout} s"


@invariant(resource_mistake("SendMessageFunction/Events/OutboundMessages/Properties/FunctionResponseTypes"))
def batches_report_what_failed(stack: Template) -> Problems:
    for source in stack.of_type("AWS::Lambda::EventSourceMapping"):
        if source.properties.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
            yield source.logical_id


@invariant(
    resource_mistake("SendMessageFunction/Events/OutboundMessages/Properties/ScalingConfig"),
    resource_mistake("SendMessageFunction/Environment/Variables/SENDER_CONCURRENCY", "3"),
    resource_mistake("SendMessageFunction/ReservedConcurrentExecutions", 2),
    resource_mistake(
        "SendMessageFunction/Events/UrgentMessages/Properties/ScalingConfig/MaximumConcurrency",
        {"Ref": "SenderConcurrency"},
    ),
    resource_mistake("SendMessageFunction/Environment/Variables/URGENT_CONCURRENCY", "3"),
    parameters={"SenderConcurrency": "4"},
)
def senders_are_as_many_as_the_pace_reckons_with(stack: Template) -> Problems:
    """The event source limits them: with reserved concurrency Lambda would receive messages that it can't process."""
    function = stack.resources["SendMessageFunction"].properties
    for event, parameter, variable in LANES.values():
        source = stack.resources[f"SendMessageFunction{event}"].properties
        if source.get("ScalingConfig") != {"MaximumConcurrency": stack.parameters[parameter].value}:
            yield event
        if function["Environment"]["Variables"][variable] != stack.parameters[parameter].value:
            yield variable
    if "ReservedConcurrentExecutions" in function:
        yield "reserved concurrency"


@invariant(
    resource_mistake("SendMessageFunction/Events/OutboundMessages/Properties/BatchSize", 20),
    resource_mistake("SendMessageFunction/Events/UrgentMessages/Properties/BatchSize", 20),
)
def a_batch_is_what_the_rules_reckon_with(stack: Template) -> Problems:
    for event, _, _ in LANES.values():
        if stack.resources[f"SendMessageFunction{event}"].properties["BatchSize"] != 10:
            yield f"{event}: Rules are for batches of 10"


@invariant(
    resource_mistake(
        "SendMessageFunction/Events/UrgentMessages/Properties/Queue", {"Fn::GetAtt": ["OutboundQueue", "Arn"]}
    ),
    resource_mistake("SendMessageFunction/Environment/Variables/URGENT_QUEUE_URL", {"Ref": "OutboundQueue"}),
    resource_mistake("UrgentQueue/MessageRetentionPeriod", 345600),
    resource_mistake("UrgentQueue/RedrivePolicy"),
)
def the_lanes_differ_only_in_their_queue_and_pace(stack: Template) -> Problems:
    queues = [stack.resources[name].properties for name in LANES]
    if queues[0] != queues[1]:
        yield "queues"
    variables = stack.resources["SendMessageFunction"].properties["Environment"]["Variables"]
    for (name, (event, _, _)), variable in zip(LANES.items(), ("OUTBOUND_QUEUE_URL", "URGENT_QUEUE_URL"), strict=True):
        if stack.resources[f"SendMessageFunction{event}"].properties["EventSourceArn"] != {"Fn::GetAtt": [name, "Arn"]}:
            yield event
        if variables[variable] != {"Ref": name}:
            yield variable


@invariant(
    resource_mistake("OutboundQueue/RedrivePolicy"),
    resource_mistake("OutboundQueue/RedrivePolicy/maxReceiveCount", 5),
    resource_mistake("OutboundQueue/MessageRetentionPeriod", 345600),
)
def only_crash_loops_reach_the_dead_letters_by_themselves(stack: Template) -> Problems:
    """Returning a message costs a receive, so a low count would dead-letter messages without an attempt."""
    policy = stack.resources["OutboundQueue"].properties.get("RedrivePolicy", {})
    if policy.get("deadLetterTargetArn") != {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}:
        yield "no dead-letter queue"
    if policy.get("maxReceiveCount") != QUEUE_RECEIVES:
        yield "maxReceiveCount"
    if stack.resources["OutboundQueue"].properties.get("MessageRetentionPeriod") != QUEUE_RETENTION_SECONDS:
        yield "MessageRetentionPeriod"


@invariant(
    resource_mistake("DeadLetterQueue/MessageRetentionPeriod", 864000),
    resource_mistake("DeadLetterQueue/MessageRetentionPeriod"),
)
def dead_letters_outlive_their_source(stack: Template) -> Problems:
    """SQS counts a moved message's days from its first enqueue time."""
    four_days = 4 * 86400
    source = stack.resources["OutboundQueue"].properties.get("MessageRetentionPeriod", four_days)
    dead = stack.resources["DeadLetterQueue"].properties.get("MessageRetentionPeriod", four_days)
    if dead < source + four_days:
        yield f"{dead} s against {source} s"


@invariant(
    resource_mistake("OutboundQueue/MaximumMessageSize"), resource_mistake("DeadLetterQueue/MaximumMessageSize", 65536)
)
def a_dead_letter_has_room_for_its_attributes(stack: Template) -> Problems:
    largest = 1048576  # SQS' own limit
    taken = stack.resources["OutboundQueue"].properties.get("MaximumMessageSize", largest)
    if taken + 16384 > stack.resources["DeadLetterQueue"].properties.get("MaximumMessageSize", largest):
        yield f"OutboundQueue takes {taken}"


@invariant(
    resource_mistake("OutboundQueue/SqsManagedSseEnabled", False),
    resource_mistake("DeadLetterQueue/SqsManagedSseEnabled"),
)
def queues_are_encrypted(stack: Template) -> Problems:
    for queue in stack.of_type("AWS::SQS::Queue"):
        keys = [name for name in ("SqsManagedSseEnabled", "KmsMasterKeyId") if queue.properties.get(name)]
        if keys != (["KmsMasterKeyId"] if stack.parameters["KmsKeyArn"].value else ["SqsManagedSseEnabled"]):
            yield f"{queue.logical_id}: {keys}"


@invariant(
    Mistake("Resources/DeadLetterQueuePolicy"),
    Mistake("Resources/CallbackSecretPolicy"),
    Mistake("Resources/GatewaySecretPolicy"),
    resource_mistake("OutboundQueuePolicy/PolicyDocument/Statement/0/Condition"),
    resource_mistake("OutboundQueuePolicy/PolicyDocument/Statement/0/Effect", "Allow"),
    resource_mistake("OutboundQueuePolicy/PolicyDocument/Statement/0/Action", "sqs:SendMessage"),
    Mistake("Resources/SmsEventBusPolicy"),
    resource_mistake("SmsEventBusPolicy/Statement/Effect", "Allow"),
    Mistake("Resources/UnpublishedEventsQueuePolicy"),
)
def queues_secrets_and_bus_refuse_plain_http(stack: Template) -> Problems:
    guarded = set()
    for policy in stack.of_type("AWS::SQS::QueuePolicy"):
        if _denies_plain_http(policy.properties["PolicyDocument"], "sqs:*"):
            guarded |= {queue["Ref"] for queue in policy.properties["Queues"]}
    for policy in stack.of_type("AWS::SecretsManager::ResourcePolicy"):
        if _denies_plain_http(policy.properties["ResourcePolicy"], "secretsmanager:*"):
            guarded.add(policy.properties["SecretId"]["Ref"])
    for policy in stack.of_type("AWS::Events::EventBusPolicy"):
        if _denies_plain_http({"Statement": [policy.properties["Statement"]]}, "events:PutEvents"):
            guarded.add(policy.properties["EventBusName"]["Ref"])
    for kind in ("AWS::SQS::Queue", "AWS::SecretsManager::Secret", "AWS::Events::EventBus"):
        yield from (resource.logical_id for resource in stack.of_type(kind) if resource.logical_id not in guarded)


def _denies_plain_http(policy: Mapping[str, Any], actions: str) -> bool:
    wanted = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": actions,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return any(wanted.items() <= statement.items() for statement in policy["Statement"])


# Senders


@invariant(
    resource_mistake("OutboundQueuePolicy/PolicyDocument/Statement/1/Fn::If/1/Action", "sqs:*"),
    resource_mistake("OutboundQueuePolicy/PolicyDocument/Statement/1/Fn::If/1/Principal", "*"),
    resource_mistake("OutboundQueuePolicy/PolicyDocument/Statement/2/Fn::If/1/Condition"),
    resource_mistake("OutboundQueuePolicy/PolicyDocument/Statement/3/Fn::If/1/Condition"),
    resource_mistake("OutboundQueuePolicy/PolicyDocument/Statement/3/Fn::If/1/Principal", "*"),
    resource_mistake("DeadLetterQueuePolicy/PolicyDocument/Statement/0/Effect", "Allow"),
    resource_mistake("UrgentQueuePolicy/PolicyDocument/Statement/1/Fn::If/1/Principal", "*"),
    resource_mistake("UrgentQueuePolicy/PolicyDocument/Statement/3"),
    parameters=ALL_CHOSEN,
)
def only_the_invited_may_queue(stack: Template) -> Problems:
    """Allow exactly SendMessage and GetQueueUrl, to the principals in the parameters; no other policy allows more."""
    queue = {"Effect": "Allow"}
    may_queue = queue | {"Action": ["sqs:SendMessage", "sqs:GetQueueUrl"]}
    principals, organization, sources = (
        stack.parameters[name].value for name in ("SenderPrincipals", "SenderOrganizationId", "SenderSourceArns")
    )
    wanted: list[dict[str, Any]] = []
    if principals:
        wanted.append(may_queue | {"Sid": "LetPrincipalsQueue", "Principal": {"AWS": principals.split(",")}})
    if organization:
        condition = {"StringEquals": {"aws:PrincipalOrgID": organization}}
        wanted.append(may_queue | {"Sid": "LetTheOrganizationQueue", "Principal": "*", "Condition": condition})
    if sources:
        services = {"Service": ["sns.amazonaws.com", "events.amazonaws.com"]}
        named = {"ArnLike": {"aws:SourceArn": sources.split(",")}}
        statement = {"Sid": "LetTopicsAndRulesQueue", "Principal": services, "Condition": named}
        wanted.append(queue | {"Action": "sqs:SendMessage"} | statement)
    allowed = [
        statement
        for policy in stack.of_type("AWS::SQS::QueuePolicy")
        for statement in policy.properties["PolicyDocument"]["Statement"]
        if statement["Effect"] != "Deny"
    ]
    both = [each | {"Resource": {"Fn::GetAtt": [name, "Arn"]}} for name in LANES for each in wanted]
    if allowed != both:
        yield str(allowed)


@invariant(
    resource_mistake("SenderPolicy/PolicyDocument/Statement/0/Action", "sqs:*"),
    resource_mistake("SenderPolicy/PolicyDocument/Statement/0/Resource", "*"),
)
def the_senders_policy_lets_a_role_queue_and_nothing_else(stack: Template) -> Problems:
    (policy,) = stack.of_type("AWS::IAM::ManagedPolicy")
    statement = policy.properties["PolicyDocument"]["Statement"][0]
    queues = [{"Fn::GetAtt": [name, "Arn"]} for name in LANES]
    allowed = {"Action": ["sqs:SendMessage", "sqs:GetQueueUrl"], "Resource": queues}
    if statement != {"Sid": "QueueMessages", "Effect": "Allow"} | allowed:
        yield str(statement)
    others = policy.properties["PolicyDocument"]["Statement"][1:]
    yield from (str(other) for other in others if other["Sid"] != "EncryptMessages")


@invariant(
    Mistake("Resources/EventBusArnParameter"),
    resource_mistake("OutboundQueueUrlParameter/Value", "elsewhere"),
    resource_mistake("OutboundQueueUrlParameter/Name", {"Fn::Sub": "/optus-sms/OutboundQueueUrl"}),
    resource_mistake("SchemaVersionParameter/Value", "2"),
    Mistake("Outputs/OutboundQueueUrl/Export", {"Name": "queue"}),
)
def each_output_is_in_parameter_store_and_none_is_exported(stack: Template) -> Problems:
    """A stack can neither change nor delete an export that another stack imports."""
    values = {name: output["Value"] for name, output in stack.outputs.items()}
    wanted = values | {"SchemaVersion": QUEUE_MESSAGE_VERSION}
    found = {
        resource.properties["Name"].removeprefix(f"/optus-sms/{STACK_NAME}/"): resource.properties["Value"]
        for resource in stack.of_type("AWS::SSM::Parameter")
    }
    yield from (name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    yield from (name for name, output in stack.outputs.items() if "Export" in output)


# Tables


@invariant(
    resource_mistake("SendLedgerTable/SSESpecification"),
    resource_mistake("MessagesTable/PointInTimeRecoverySpecification/PointInTimeRecoveryEnabled", False),
    resource_mistake("SendLedgerTable/DeletionProtectionEnabled"),
    resource_mistake("MessagesTable/BillingMode"),
    resource_mistake("OptOutTable/PointInTimeRecoverySpecification"),
)
def tables_are_encrypted_recoverable_protected_and_on_demand(stack: Template) -> Problems:
    key = stack.parameters["KmsKeyArn"].value
    wanted = {
        "SSESpecification": {"SSEEnabled": True} | ({"SSEType": "KMS", "KMSMasterKeyId": key} if key else {}),
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "DeletionProtectionEnabled": True,
        "BillingMode": "PAY_PER_REQUEST",
    }
    for table in stack.of_type("AWS::DynamoDB::Table"):
        yield from (
            f"{table.logical_id}: {name}" for name, value in wanted.items() if table.properties.get(name) != value
        )


@invariant(
    Mistake("Resources/SendLedgerTable/DeletionPolicy"),
    Mistake("Resources/MessagesTable/UpdateReplacePolicy", "Delete"),
    Mistake("Resources/OptOutTable/DeletionPolicy", "Delete"),
    Mistake("Resources/OutboundQueue/DeletionPolicy", "Delete"),
    Mistake("Resources/SendLedgerTable/DeletionPolicy", "RetainExceptOnCreate"),
    Mistake("Resources/DeadLetterQueue/UpdateReplacePolicy"),
)
def data_outlives_the_stack(stack: Template) -> Problems:
    for kind in ("AWS::DynamoDB::Table", "AWS::SQS::Queue"):
        for resource in stack.of_type(kind):
            wanted = "Retain" if kind == "AWS::DynamoDB::Table" else "RetainExceptOnCreate"
            if (resource.deletion_policy, resource.update_replace_policy) != (wanted, "Retain"):
                yield resource.logical_id


@invariant(
    resource_mistake("SendLedgerTable/TimeToLiveSpecification"),
    resource_mistake("MessagesTable/TimeToLiveSpecification/AttributeName", "expires"),
    resource_mistake("OptOutTable/TimeToLiveSpecification", {"AttributeName": "ttl", "Enabled": True}),
)
def items_expire_but_opt_outs(stack: Template) -> Problems:
    for table in stack.of_type("AWS::DynamoDB::Table"):
        wanted = None if table.logical_id == "OptOutTable" else {"AttributeName": "ttl", "Enabled": True}
        if table.properties.get("TimeToLiveSpecification") != wanted:
            yield table.logical_id


@invariant(
    resource_mistake("SendLedgerTable/KeySchema/0/AttributeName", "id"),
    resource_mistake("OptOutTable/KeySchema/0/AttributeName", "number"),
    resource_mistake(
        "MessagesTable/KeySchema",
        [{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "created_at", "KeyType": "RANGE"}],
    ),
    resource_mistake("MessagesTable/GlobalSecondaryIndexes/0/KeySchema/1/AttributeName", "id"),
    resource_mistake("MessagesTable/GlobalSecondaryIndexes/0/Projection", {"ProjectionType": "ALL"}),
    resource_mistake("MessagesTable/GlobalSecondaryIndexes/0/Projection/NonKeyAttributes", ["direction"]),
    resource_mistake("MessagesTable/GlobalSecondaryIndexes/1"),
    resource_mistake("SendLedgerTable/GlobalSecondaryIndexes/0/KeySchema/1/AttributeName", "claimed_at"),
)
def keys_never_change(stack: Template) -> Problems:
    """With other keys CloudFormation would replace the table, and with an empty ledger messages are sent twice."""
    ledger = stack.resources["SendLedgerTable"].properties
    if _key(ledger) != [("pk", "HASH")]:
        yield "SendLedgerTable"
    if _indexes(ledger) != {"undecided-index": ([("undecided", "HASH"), ("look_at", "RANGE")], "KEYS_ONLY")}:
        yield "undecided-index"
    if _key(stack.resources["OptOutTable"].properties) != [("handset", "HASH")]:
        yield "OptOutTable"
    messages = stack.resources["MessagesTable"].properties
    if _key(messages) != [("id", "HASH")]:
        yield "MessagesTable"
    if _indexes(messages) != {
        "conversation-index": ([("handset", "HASH"), ("created_at", "RANGE")], ["direction", "has_sender_id"]),
        "awaiting-index": ([("awaiting", "HASH"), ("look_at", "RANGE")], "KEYS_ONLY"),
    }:
        yield "MessagesTable's indexes"


def _indexes(properties: Mapping[str, Any]) -> dict[str, tuple[list[tuple[str, str]], str | list[str]]]:
    """The key of each index, and what it has beside it: a type of projection, or names."""
    return {
        index["IndexName"]: (_key(index), projection.get("NonKeyAttributes", projection["ProjectionType"]))
        for index in properties.get("GlobalSecondaryIndexes", [])
        for projection in (index["Projection"],)
    }


def _key(properties: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key["AttributeName"], key["KeyType"]) for key in properties["KeySchema"]]


# Your own key


# The property with the key, by type. Add each new type of resource that keeps data at rest.
KEYS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "AWS::SQS::Queue": ("KmsMasterKeyId",),
    "AWS::DynamoDB::Table": ("SSESpecification", "KMSMasterKeyId"),
    "AWS::SecretsManager::Secret": ("KmsKeyId",),
    "AWS::Logs::LogGroup": ("KmsKeyId",),
    "AWS::SNS::Topic": ("KmsMasterKeyId",),
    "AWS::Events::EventBus": ("KmsKeyIdentifier",),
    "AWS::Lambda::Function": ("KmsKeyArn",),
}


def _key_of(resource: Resource) -> object:
    found: Any = resource.properties
    for name in KEYS_OF[resource.type]:
        found = found.get(name, {})
    return found or ""


@invariant(
    *(
        resource_mistake(path)
        for path in (
            *("OutboundQueue/KmsMasterKeyId", "UnpublishedEventsQueue/KmsMasterKeyId", "CallbackSecret/KmsKeyId"),
            *("CallbackAccessLogGroup/KmsKeyId", "AlarmTopic/KmsMasterKeyId", "SmsEventBus/KmsKeyIdentifier"),
            "MessagesTable/SSESpecification",
        )
    ),
    Mistake("Globals/Function/KmsKeyArn"),
    Mistake("Resources/UrgentQueue", {"Type": "AWS::SQS::Queue", "Properties": {"SqsManagedSseEnabled": True}}),
    parameters=ALL_CHOSEN,
)
def everything_at_rest_has_your_key_or_none(stack: Template) -> Problems:
    for kind in KEYS_OF:
        for resource in stack.of_type(kind):
            if _key_of(resource) != stack.parameters["KmsKeyArn"].value:
                yield resource.logical_id


# The key's actions for a role's action, with the service that uses the key and the encryption context.
KEY_USES: Final[Mapping[str, tuple[str, ...]]] = {
    "sqs:ReceiveMessage": ("kms:Decrypt",),
    "sqs:SendMessage": ("kms:GenerateDataKey", "kms:Decrypt"),
    "secretsmanager:GetSecretValue": ("kms:Decrypt",),
    **{
        f"dynamodb:{name}": ("kms:Decrypt",)
        for name in (
            *("GetItem", "PutItem", "UpdateItem", "DeleteItem", "BatchGetItem", "Query", "Scan", "TransactWriteItems"),
            "GetRecords",
        )
    },
}
CONTEXTS: Final = {"sqs": "aws:sqs:arn", "dynamodb": "aws:dynamodb:tableName", "secretsmanager": "SecretARN"}


def statements_of_policies(stack: Template) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each statement of each role, and of each policy for roles outside the stack."""
    yield from ((role.logical_id, statement) for role, statement in policy_statements(stack))
    for policy in stack.of_type("AWS::IAM::ManagedPolicy"):
        yield from ((policy.logical_id, s) for s in policy.properties["PolicyDocument"]["Statement"])


def _key_for(stack: Template, service: str, name: str) -> str:
    """Return the key that encrypts a resource of this stack, or an existing secret; empty for AWS's own key."""
    if service == "secretsmanager" and name == stack.parameters["GatewaySecretArn"].value:
        return stack.parameters["GatewaySecretKmsKeyArn"].value
    return stack.parameters["KmsKeyArn"].value


@invariant(
    *(
        resource_mistake(f"{role}/Policies/0/PolicyDocument/Statement/{number}")
        for role, numbers in (("SendMessageRole", (9, 10, 11, 12)), ("PublishEventsRole", (7, 8)))
        for number in numbers
    ),
    resource_mistake("SenderPolicy/PolicyDocument/Statement/1"),
    resource_mistake("SendMessageRole/Policies/0/PolicyDocument/Statement/9/Fn::If/1/Action", "kms:*"),
    resource_mistake("SendMessageRole/Policies/0/PolicyDocument/Statement/9/Fn::If/1/Resource", "*"),
    resource_mistake(
        "SendMessageRole/Policies/0/PolicyDocument/Statement/12/Fn::If/1/Resource/0", {"Ref": "KmsKeyArn"}
    ),
    resource_mistake("CheckHealthRole/Policies/0/PolicyDocument/Statement/7/Fn::If/1/Condition"),
    resource_mistake(
        "ReceiveCallbackRole/Policies/0/PolicyDocument/Statement/5/Resource", {"Fn::GetAtt": ["OutboundQueue", "Arn"]}
    ),
    parameters=ALL_CHOSEN,
)
def roles_may_use_the_key_exactly_for_what_they_call(stack: Template) -> Problems:
    """Only through the service, and only for a queue, table or secret that the same role may call."""
    wanted, allowed = set(), set()
    for role, statement in statements_of_policies(stack):
        if statement["Effect"] != "Allow":
            continue
        for action in listed(statement["Action"]):
            service = action.partition(":")[0]
            if service == "kms":
                (conditions,) = statement.get("Condition", {"": {}}).values()
                via = conditions.get("kms:ViaService")
                ((context, names),) = [
                    (key, value) for key, value in conditions.items() if key != "kms:ViaService"
                ] or [("", "")]
                allowed |= {
                    (role, action, key, via, context, _where(name, {}))
                    for key in listed(statement["Resource"])
                    for name in listed(names)
                }
                continue
            for resource in listed(statement["Resource"]):
                name = _where(resource, {})
                if key := _key_for(stack, service, name):
                    context = f"kms:EncryptionContext:{CONTEXTS.get(service)}"
                    via = f"{service}.{REGION}.amazonaws.com"
                    wanted |= {
                        (role, use, key, via, context, name.partition("/")[0] if service == "dynamodb" else name)
                        for use in KEY_USES.get(action, ())
                    }
    yield from map(str, wanted ^ allowed)


# Names


@invariant(
    Mistake("Resources/MessagesTable/Type", "AWS::DynamoDB::GlobalTable"),
    Mistake("Outputs/OutboundQueueArn"),
)
def public_names_are_there(stack: Template) -> Problems:
    """Other systems depend on these names; a new name needs a line in the changelog."""
    resources = {
        "OutboundQueue": "AWS::SQS::Queue",
        "UrgentQueue": "AWS::SQS::Queue",
        "DeadLetterQueue": "AWS::SQS::Queue",
        "SendLedgerTable": "AWS::DynamoDB::Table",
        "MessagesTable": "AWS::DynamoDB::Table",
        "OptOutTable": "AWS::DynamoDB::Table",
        "CallbackSecret": "AWS::SecretsManager::Secret",
        "CallbackApi": "AWS::ApiGateway::RestApi",
        "SendMessageFunction": "AWS::Lambda::Function",
        "ReceiveCallbackFunction": "AWS::Lambda::Function",
        "CheckHealthFunction": "AWS::Lambda::Function",
        "ReconcileMessagesFunction": "AWS::Lambda::Function",
        "PublishEventsFunction": "AWS::Lambda::Function",
        "SmsEventBus": "AWS::Events::EventBus",
        "UnpublishedEventsQueue": "AWS::SQS::Queue",
        "SenderPolicy": "AWS::IAM::ManagedPolicy",
    }
    if not stack.parameters["GatewaySecretArn"].value:
        resources["GatewaySecret"] = "AWS::SecretsManager::Secret"
    parameters = set(ALL_CHOSEN)
    outputs = {
        *("OutboundQueueUrl", "OutboundQueueArn", "UrgentQueueUrl", "UrgentQueueArn", "DeadLetterQueueUrl"),
        *("StatusCallbackUrl", "ReplyCallbackUrl", "OptOutTableName"),
        *("GatewaySecretArn", "CallbackSecretArn", "MessagesTableName", "SendLedgerTableName"),
        *("EventBusName", "EventBusArn", "UnpublishedEventsQueueUrl", "DashboardUrl", "SenderPolicyArn"),
    }
    types = {name: resource.type for name, resource in stack.resources.items()}
    yield from (name for name, kind in resources.items() if types.get(name) != kind)
    yield from parameters ^ stack.parameters.keys()
    yield from outputs ^ stack.outputs.keys()


@invariant(
    resource_mistake("OutboundQueue/QueueName", "outbound"),
    resource_mistake("SendLedgerTable/TableName", "ledger"),
    resource_mistake("SendMessageFunction/FunctionName", "send"),
    resource_mistake("SendMessageRole/RoleName", "send"),
    resource_mistake("CallbackSecret/Name", "callbacks"),
    resource_mistake("CallbackApi/Name", "callbacks"),
    resource_mistake("DeadLettersAlarm/AlarmName", "dead"),
    resource_mistake("SendMessageLogGroup/LogGroupName", "/aws/lambda/send"),
    resource_mistake("SharedLayer/LayerName"),
    resource_mistake("SmsEventBus/Name", "sms"),
)
def nothing_has_a_fixed_name(stack: Template) -> Problems:
    """So that two stacks fit in one account, and CloudFormation can replace resources."""
    names = {
        "AWS::ApiGateway::RestApi": "Name",
        "AWS::CloudWatch::Alarm": "AlarmName",
        "AWS::DynamoDB::Table": "TableName",
        "AWS::CloudWatch::Dashboard": "DashboardName",
        "AWS::Events::EventBus": "Name",
        "AWS::Events::Rule": "Name",
        "AWS::IAM::Role": "RoleName",
        "AWS::Lambda::Function": "FunctionName",
        "AWS::Lambda::LayerVersion": "LayerName",
        "AWS::Logs::LogGroup": "LogGroupName",
        "AWS::Logs::QueryDefinition": "Name",
        "AWS::SNS::Topic": "TopicName",
        "AWS::SQS::Queue": "QueueName",
        "AWS::SecretsManager::Secret": "Name",
    }
    for resource in stack.resources.values():
        name = resource.properties.get(names.get(resource.type, ""), STACK_NAME)
        if not str(name).startswith(STACK_NAME):
            yield f"{resource.logical_id} is called {name}"


@invariant(
    Mistake("Parameters/RetentionDays/Description"),
    Mistake("Parameters/SenderConcurrency/ConstraintDescription"),
    Mistake("Parameters/GatewayBaseUrl/AllowedPattern"),
    Mistake("Metadata/AWS::CloudFormation::Interface/ParameterLabels/AlarmEmail"),
    Mistake("Metadata/AWS::CloudFormation::Interface/ParameterGroups/1"),
)
def parameters_explain_themselves(stack: Template) -> Problems:
    interface = stack.document["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    for name, parameter in stack.parameters.items():
        needed = {"Default", "Description", "ConstraintDescription"}
        yield from (f"{name}: no {part}" for part in needed - parameter.definition.keys())
        if not parameter.definition.keys() & {"AllowedPattern", "AllowedValues", "MinValue"}:
            yield f"{name}: takes anything"
        if grouped.count(name) != 1 or name not in interface["ParameterLabels"]:
            yield f"{name}: no group or no label"


@invariant(Mistake("Outputs/StatusCallbackUrl/Description"))
def outputs_are_described(stack: Template) -> Problems:
    yield from (name for name, output in stack.outputs.items() if not output.get("Description"))


# Functions


@invariant(
    Mistake("Globals/Function/Runtime", "python3.12"),
    Mistake("Globals/Function/Handler", "app.handler"),
    Mistake("Globals/Function/Layers"),
    Mistake("Globals/Function/Architectures"),
    resource_mistake("SendMessageFunction/CodeUri", "functions/send"),
)
def functions_are_built_alike(stack: Template) -> Problems:
    for function in functions(stack):
        properties = function.properties
        wanted = ("python3.13", "app.lambda_handler", [stack.parameters["Architecture"].value])
        if tuple(properties.get(name) for name in ("Runtime", "Handler", "Architectures")) != wanted:
            yield f"{function.logical_id}: runtime, handler or processor"
        if not (ROOT / properties["Code"]["S3Key"] / "app.py").is_file():
            yield f"{function.logical_id}: no code in {properties['Code']['S3Key']}"
        layers = [stack.resources[layer["Ref"]].type for layer in properties.get("Layers", [])]
        if layers != ["AWS::Lambda::LayerVersion"]:
            yield f"{function.logical_id}: layers"


@invariant(
    resource_mistake("SendMessageFunction/Environment/Variables/MAX_ATTEMPTS"),
    resource_mistake("ReceiveCallbackFunction/Environment/Variables/REPLY_MATCH_DAYS", "three"),
    resource_mistake("CheckHealthFunction/Environment/Variables/GATEWAY_ALLOW_HTTP", "true"),
)
def functions_get_the_settings_that_they_read(stack: Template) -> Problems:
    for function in functions(stack):
        variables = {
            name: value if isinstance(value, str) else "https://sqs.example/created"
            for name, value in function.properties["Environment"]["Variables"].items()
        }
        if "GATEWAY_ALLOW_HTTP" in variables:
            yield f"{function.logical_id}: plain http is for tests"
        try:
            read_settings(SETTINGS[function.logical_id], variables)
        except SettingsError as error:
            yield f"{function.logical_id}: {error}"


@invariant(resource_mistake("CheckHealthFunction/Environment/Variables/POWERTOOLS_SERVICE_NAME", "health"))
def metrics_are_named_after_the_function(stack: Template) -> Problems:
    for function in functions(stack):
        variables, folder = function.properties["Environment"]["Variables"], function.properties["Code"]["S3Key"]
        service, namespace = variables["POWERTOOLS_SERVICE_NAME"], variables["POWERTOOLS_METRICS_NAMESPACE"]
        stack_name = variables["STACK_NAME"]
        if (namespace, f"functions/{service}", stack_name) != ("OptusSms", folder, STACK_NAME):
            yield f"{function.logical_id}: {namespace}, {service}"


@invariant(
    resource_mistake("SendMessageFunction/Environment/Variables/GATEWAY_TIMEOUT_SECONDS", "60"),
    resource_mistake("CheckHealthFunction/Timeout", 10),
)
def a_slow_gateway_leaves_time_to_write_it_down(stack: Template) -> Problems:
    for function in functions(stack):
        gateway_timeout = function.properties["Environment"]["Variables"].get("GATEWAY_TIMEOUT_SECONDS", "0")
        if function.properties["Timeout"] < float(gateway_timeout) + 10:
            yield function.logical_id


@invariant(
    resource_mistake("SendMessageFunction/LoggingConfig"),
    resource_mistake("ReceiveCallbackFunction/LoggingConfig/LogFormat", "Text"),
    resource_mistake("CheckHealthFunction/LoggingConfig/LogGroup", {"Ref": "SendMessageLogGroup"}),
    Mistake("Globals/Function/LoggingConfig/ApplicationLogLevel"),
    resource_mistake("CheckHealthFunction/LoggingConfig/SystemLogLevel", "WARN"),
    resource_mistake("ReceiveCallbackFunction/LoggingConfig/SystemLogLevel"),
    resource_mistake("SendMessageLogGroup/RetentionInDays"),
    resource_mistake("CallbackAccessLogGroup/RetentionInDays", 30),
    parameters=ALL_CHOSEN,
)
def logs_are_kept_apart_and_only_as_long_as_chosen(stack: Template) -> Problems:
    groups = [
        function.properties.get("LoggingConfig", {}).get("LogGroup", {}).get("Ref") for function in functions(stack)
    ]
    if None in groups or len(set(groups)) != len(groups):
        yield "not one log group for each function"
    for function in functions(stack):
        logging = function.properties.get("LoggingConfig", {})
        if logging.get("LogFormat") != "JSON":
            yield f"{function.logical_id}: format"
        # A higher application level drops the metrics, which are log records without a level. The system level WARN
        # leaves out Lambda's records of successful invocations; timeouts and crashes stay.
        system = "WARN" if function.logical_id in ("ReceiveCallbackFunction", "PublishEventsFunction") else "INFO"
        if (logging.get("ApplicationLogLevel"), logging.get("SystemLogLevel")) != ("INFO", system):
            yield f"{function.logical_id}: level"
    for group in stack.of_type("AWS::Logs::LogGroup"):
        if group.properties.get("RetentionInDays") != stack.parameters["LogRetentionDays"].value:
            yield group.logical_id


@invariant(
    resource_mistake("SendMessageFunction/VpcConfig"),
    resource_mistake("CheckHealthFunction/VpcConfig"),
    resource_mistake("ReceiveCallbackFunction/VpcConfig", {"SubnetIds": ["subnet-0123abcd"]}),
    Mistake("Conditions/InVpc", {"Fn::Equals": ["a", "b"]}),
    parameters=ALL_CHOSEN,
)
def the_gateway_is_called_from_the_chosen_network(stack: Template) -> Problems:
    """And only the functions that call the gateway are in it, because callbacks need no NAT gateway."""
    chosen = {name: stack.parameters[name].value.split(",") for name in ("SubnetIds", "SecurityGroupIds")}
    network = None if chosen["SubnetIds"] == [""] else chosen
    for function in functions(stack):
        calls_gateway = "GATEWAY_BASE_URL" in function.properties["Environment"]["Variables"]
        if function.properties.get("VpcConfig") != (network if calls_gateway else None):
            yield function.logical_id


TRACING_ACTIONS: Final = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]


@invariant(
    Mistake("Globals/Function/Tracing"),
    resource_mistake("SendMessageFunction/Tracing", "PassThrough"),
    resource_mistake("CallbackApi/TracingEnabled"),
    resource_mistake("CallbackApi/TracingEnabled", False),
    resource_mistake("PublishEventsRole/Policies/0/PolicyDocument/Statement/6"),
    resource_mistake("PublishEventsRole/Policies/0/PolicyDocument/Statement/6/Fn::If/1/Action", "xray:*"),
    Mistake("Conditions/IsTraced", {"Fn::Equals": ["a", "b"]}),
    parameters=ALL_CHOSEN,
)
def traces_are_written_if_chosen(stack: Template) -> Problems:
    chosen = stack.parameters["Tracing"].value == "active"
    for function in functions(stack):
        if function.properties.get("TracingConfig") != {"Mode": "Active" if chosen else "PassThrough"}:
            yield function.logical_id
        role = function.properties["Role"]["Fn::GetAtt"][0]
        allowed = [
            action
            for name, statement in statements_of_policies(stack)
            if name == role
            for action in listed(statement["Action"])
            if action.startswith("xray:")
        ]
        if allowed != (TRACING_ACTIONS if chosen else []):
            yield role
    for stage in stack.of_type("AWS::ApiGateway::Stage"):
        if stage.properties.get("TracingEnabled") is not chosen:
            yield stage.logical_id


@invariant(
    resource_mistake("CheckHealthFunction/Events/EveryMinute/Properties/RetryPolicy"),
    resource_mistake("CheckHealthFunction/EventInvokeConfig"),
    resource_mistake("CheckHealthFunction/Events/EveryMinute/Properties/Schedule", "rate(5 minutes)"),
    resource_mistake("CheckHealthFunction/Events/EveryMinute/Properties/Input", "health"),
    resource_mistake("CheckHealthFunction/Timeout", 61),
)
def health_is_checked_every_minute_and_never_late(stack: Template) -> Problems:
    rule = stack.resources["CheckHealthFunctionEveryMinute"].properties
    target = rule["Targets"][0]
    never_late = {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}
    if rule["ScheduleExpression"] != "rate(1 minute)" or target["Input"] != '{"check": "health"}':
        yield "schedule or input"
    if stack.resources["CheckHealthFunction"].properties["Timeout"] > 60:
        yield "two checks at a time"
    invocations = [
        config.properties
        for config in stack.of_type("AWS::Lambda::EventInvokeConfig")
        if config.properties["FunctionName"] == {"Ref": "CheckHealthFunction"}
    ]
    for settings in (target.get("RetryPolicy", {}), *(invocations or [{}])):
        if not never_late.items() <= settings.items():
            yield f"retries: {settings}"


@invariant(
    resource_mistake("CheckHealthFunction/Events/EveryDay/Properties/Schedule", "rate(7 days)"),
    resource_mistake("CheckHealthFunction/Events/EveryDay/Properties/Input", '{"check": "health"}'),
    resource_mistake("ReconcileMessagesFunction/Events/EveryFiveMinutes/Properties/Schedule", "rate(1 hour)"),
    resource_mistake("ReconcileMessagesFunction/Timeout", 301),
)
def the_contract_is_watched_daily_and_reconciliation_never_overlaps(stack: Template) -> Problems:
    daily = stack.resources["CheckHealthFunctionEveryDay"].properties
    if (daily["ScheduleExpression"], daily["Targets"][0].get("Input")) != ("rate(1 day)", '{"check": "contract"}'):
        yield "contract"
    if stack.resources["ReconcileMessagesFunctionEveryFiveMinutes"].properties["ScheduleExpression"] != (
        "rate(5 minutes)"
    ):
        yield "reconciliation"
    if stack.resources["ReconcileMessagesFunction"].properties["Timeout"] > 300:
        yield "two runs at a time"


@invariant(
    resource_mistake("CheckHealthFunction/Environment/Variables/SENDER_MAPPING_ID", {"Ref": "SendMessageFunction"}),
    resource_mistake(
        "CheckHealthRole/Policies/0/PolicyDocument/Statement/1/Resource", {"Fn::Sub": "${OutboundQueue.Arn}"}
    ),
    resource_mistake("SendMessageFunction/Events/OutboundMessages/Properties/Enabled", True),
    resource_mistake("SendMessageFunction/Events/UrgentMessages/Properties/Enabled", True),
    resource_mistake("CheckHealthFunction/Environment/Variables/URGENT_MAPPING_ID", {"Ref": "SendMessageFunction"}),
    resource_mistake("CheckHealthRole/Policies/0/PolicyDocument/Statement/1/Resource/1"),
)
def health_pauses_the_senders_queue_and_a_deployment_does_not_resume_it(stack: Template) -> Problems:
    """With `Enabled` in the template, CloudFormation would resume paused sending when it changes the mapping."""
    sources = [f"SendMessageFunction{event}" for event, _, _ in LANES.values()]
    variables = stack.resources["CheckHealthFunction"].properties["Environment"]["Variables"]
    if [variables[name] for name in ("SENDER_MAPPING_ID", "URGENT_MAPPING_ID")] != [{"Ref": name} for name in sources]:
        yield "another mapping"
    turned = [
        resource
        for role, statement in policy_statements(stack)
        for resource in listed(statement["Resource"])
        if role.logical_id == "CheckHealthRole" and "lambda:UpdateEventSourceMapping" in listed(statement["Action"])
    ]
    wanted = [f":event-source-mapping:${{{source}}}'}}" for source in sources]
    if len(turned) != len(wanted) or not all(str(r).endswith(end) for r, end in zip(turned, wanted, strict=True)):
        yield f"permission: {turned}"
    if any("Enabled" in stack.resources[source].properties for source in sources):
        yield "Enabled"


# Permissions


@invariant(
    resource_mistake("SendMessageRole/Policies/0/PolicyDocument/Statement/0/Resource", "*"),
    resource_mistake("SendMessageRole/Policies/0/PolicyDocument/Statement/2/Action", "dynamodb:*"),
    resource_mistake("CheckHealthRole/Policies/0/PolicyDocument/Statement/0/Action", ["dynamodb:Update*"]),
    resource_mistake("ReceiveCallbackRole/Policies/0/PolicyDocument/Statement/0/Resource", "arn:aws:secretsmanager:*"),
    resource_mistake("ReceiveCallbackRole/Policies/0/PolicyDocument/Statement/1/NotAction", "dynamodb:Scan"),
)
def roles_name_actions_and_resources(stack: Template) -> Problems:
    for role, statement in policy_statements(stack):
        named = {"Sid", "Effect", "Action", "Resource"}
        if not named <= statement.keys() <= {*named, "Condition"}:
            yield f"{role.logical_id}: {sorted(statement)}"
        if statement["Effect"] == "Deny":
            continue
        # Lambda requires `*` for network interfaces; metrics and a list of streams have no ARN.
        anywhere = statement.get("Sid") == "UseVpc" and all(action.startswith("ec2:") for action in statement["Action"])
        anywhere = anywhere or statement["Action"] == TRACING_ACTIONS
        anywhere = anywhere or statement["Action"] in ("cloudwatch:GetMetricData", "dynamodb:ListStreams")
        for value in [*listed(statement["Action"]), *([] if anywhere else listed(statement["Resource"]))]:
            if "*" in json.dumps(value):
                yield f"{role.logical_id}, {statement.get('Sid')}: {value}"


@invariant(
    resource_mistake("SendMessageRole/ManagedPolicyArns", ["arn:aws:iam::aws:policy/AmazonSQSFullAccess"]),
    resource_mistake("SendMessageFunction/Role"),
    resource_mistake("CheckHealthFunction/Role", {"Fn::GetAtt": ["SendMessageRole", "Arn"]}),
    resource_mistake("SendMessageRole/AssumeRolePolicyDocument/Statement/0/Principal", {"AWS": "*"}),
)
def each_function_has_a_written_out_role_of_its_own(stack: Template) -> Problems:
    roles = [function.properties["Role"]["Fn::GetAtt"][0] for function in functions(stack)]
    if len(set(roles)) != len(roles):
        yield "a role is shared"
    for name in roles:
        properties = stack.resources[name].properties
        trust = properties["AssumeRolePolicyDocument"]["Statement"]
        if properties.get("ManagedPolicyArns") or not properties.get("Policies"):
            yield f"{name}: not written out"
        if [statement["Principal"] for statement in trust] != [{"Service": "lambda.amazonaws.com"}]:
            yield f"{name}: trusts {trust}"


@invariant(
    *(
        resource_mistake(path)
        for path in (
            "SendMessageRole/PermissionsBoundary",
            "ApiGatewayLogsRole/PermissionsBoundary",
            "CheckHealthRole/Path",
        )
    ),
    resource_mistake("SenderPolicy/Path"),
    Mistake("Resources/NewRole", {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {}}}),
    parameters=ALL_CHOSEN | {"ApiGatewayLogRole": "create"},
)
def every_role_has_the_boundary_and_the_path(stack: Template) -> Problems:
    """Also the roles that SAM makes."""
    names = {"PermissionsBoundary": "PermissionsBoundaryArn", "Path": "RolePath"}
    wanted = {name: stack.parameters[parameter].value for name, parameter in names.items()}
    for role in stack.of_type("AWS::IAM::Role"):
        if {name: role.properties.get(name, "") for name in wanted} != wanted:
            yield role.logical_id
    for policy in stack.of_type("AWS::IAM::ManagedPolicy"):
        if policy.properties.get("Path", "") != wanted["Path"]:
            yield policy.logical_id


@invariant(
    resource_mistake("SendMessageRole/Policies/0/PolicyDocument/Statement/0/Action/3", "sqs:PurgeQueue"),
    resource_mistake(
        "ReceiveCallbackRole/Policies/0/PolicyDocument/Statement/3/Resource", {"Fn::GetAtt": ["MessagesTable", "Arn"]}
    ),
    resource_mistake("CheckHealthRole/Policies/0/PolicyDocument/Statement/0/Condition"),
)
def roles_allow_what_is_needed(stack: Template) -> Problems:
    """The complete list of permissions; a new line here is a decision."""
    secret = stack.parameters["GatewaySecretArn"].value or "GatewaySecret"
    own_items = f"SendLedgerTable where dynamodb:LeadingKeys is {HEALTH_KEY}, {CONTRACT_KEY}"
    wanted = {
        *(
            ("SendMessageRole", f"sqs:{name}", queue)
            for queue in LANES
            for name in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes", "ChangeMessageVisibility")
        ),
        ("SendMessageRole", "sqs:SendMessage", "DeadLetterQueue"),
        (
            "SendMessageRole",
            "dynamodb:GetItem",
            f"SendLedgerTable where dynamodb:LeadingKeys is {HEALTH_KEY}, {MESSAGE_PREFIX}*",
        ),
        ("SendMessageRole", "dynamodb:GetItem", "OptOutTable"),
        ("SendMessageRole", "dynamodb:UpdateItem", "SendLedgerTable"),
        ("SendMessageRole", "dynamodb:UpdateItem", "MessagesTable"),
        ("SendMessageRole", "secretsmanager:GetSecretValue", secret),
        ("ReceiveCallbackRole", "secretsmanager:GetSecretValue", "CallbackSecret"),
        ("ReceiveCallbackRole", "dynamodb:UpdateItem", "MessagesTable"),
        ("ReceiveCallbackRole", "dynamodb:UpdateItem", "OptOutTable"),
        ("ReceiveCallbackRole", "dynamodb:Query", "MessagesTable/index/conversation-index"),
        ("ReceiveCallbackRole", "dynamodb:GetItem", "SendLedgerTable"),
        ("ReceiveCallbackRole", "dynamodb:UpdateItem", "SendLedgerTable"),
        ("ReceiveCallbackRole", "sqs:SendMessage", "DeadLetterQueue"),
        ("CheckHealthRole", "dynamodb:GetItem", own_items),
        ("CheckHealthRole", "dynamodb:PutItem", own_items),
        *(
            ("CheckHealthRole", f"lambda:{name}EventSourceMapping", f"SendMessageFunction{event}")
            for name in ("Get", "Update")
            for event, _, _ in LANES.values()
        ),
        ("CheckHealthRole", "cloudwatch:GetMetricData", "*"),
        ("CheckHealthRole", "secretsmanager:GetSecretValue", secret),
        *(
            ("ReconcileMessagesRole", f"dynamodb:{name}", index)
            for name in ("Query", "Scan")
            for index in ("SendLedgerTable/index/undecided-index", "MessagesTable/index/awaiting-index")
        ),
        *(
            ("ReconcileMessagesRole", f"dynamodb:{name}", table)
            for name in ("GetItem", "UpdateItem")
            for table in ("SendLedgerTable", "MessagesTable")
        ),
        ("ReconcileMessagesRole", "secretsmanager:GetSecretValue", secret),
        *(
            ("PublishEventsRole", f"dynamodb:{name}", f"{table}/stream")
            for name in ("DescribeStream", "GetShardIterator", "GetRecords")
            for table in ("SendLedgerTable", "MessagesTable", "OptOutTable")
        ),
        ("PublishEventsRole", "dynamodb:ListStreams", "*"),
        ("PublishEventsRole", "events:PutEvents", "SmsEventBus"),
        ("PublishEventsRole", "sqs:SendMessage", "UnpublishedEventsQueue"),
        *(
            (f"{name}Role", f"logs:{action}", f"{name}LogGroup")
            for name in ("SendMessage", "ReceiveCallback", "CheckHealth", "ReconcileMessages", "PublishEvents")
            for action in ("CreateLogStream", "PutLogEvents")
        ),
    }
    allowed = {
        (role.logical_id, action, _where(resource, statement))
        for role, statement in policy_statements(stack)
        if statement["Sid"] != "UseVpc" and statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
        if not action.startswith(("kms:", "xray:"))  # roles_may_use_the_key_…, traces_are_written_if_chosen
        for resource in listed(statement["Resource"])
    }
    yield from map(str, allowed ^ wanted)


def _where(resource: Any, statement: Mapping[str, Any]) -> str:
    name = resource
    if isinstance(resource, Mapping):
        (argument,) = resource.values()
        name = re.sub(r"\$\{(\w+)\.Arn\}", r"\1", argument if isinstance(argument, str) else argument[0])
        name = re.sub(r"arn:.*:event-source-mapping:\$\{(\w+)\}", r"\1", name)
        if argument[1] == "StreamArn":
            name += "/stream"
    conditions = [
        (key, values)
        for operator, tested in statement.get("Condition", {}).items()
        if operator in ("ForAllValues:StringEquals", "ForAllValues:StringLike")
        for key, values in tested.items()
    ]
    return " ".join([name, *(f"where {key} is {', '.join(values)}" for key, values in conditions)])


# Secrets


@invariant(
    resource_mistake("GatewaySecret/SecretString", '{"application":"","password":""}'),
    resource_mistake("CallbackSecret/GenerateSecretString/PasswordLength", 16),
    resource_mistake("CallbackSecret/GenerateSecretString/ExcludePunctuation"),
)
def secrets_survive_upgrades(stack: Template) -> Problems:
    """With a changed text CloudFormation overwrites the credentials; with a changed recipe it makes a new password."""
    recipe = {
        "SecretStringTemplate": '{"username":"gateway"}',
        "GenerateStringKey": "password",
        "PasswordLength": 40,
        "ExcludePunctuation": True,
    }
    if stack.resources["CallbackSecret"].properties.get("GenerateSecretString") != recipe:
        yield "CallbackSecret"
    if "GatewaySecret" in stack.resources:
        text = stack.resources["GatewaySecret"].properties.get("SecretString")
        if text != '{"application":"REPLACE_ME","password":"REPLACE_ME"}':
            yield "GatewaySecret"


# Callbacks


@invariant(
    resource_mistake("ReceiveCallbackFunction/Events/StatusCallback/Properties/RequestModel"),
    resource_mistake("ReceiveCallbackFunction/Events/ReplyCallback/Properties/RequestModel/ValidateParameters"),
    resource_mistake("ReceiveCallbackFunction/Events/ReplyCallback/Properties/RequestParameters"),
    resource_mistake("ReceiveCallbackFunction/Events/StatusCallback/Properties/RequestModel/ValidateBody", True),
    resource_mistake("ReceiveCallbackFunction/Events/StatusCallback/Properties/Method", "GET"),
)
def strangers_do_not_reach_the_function(stack: Template) -> Problems:
    """A validator requires the Authorization header on both routes, but checks no body: unreadable ones are kept."""
    body = callback_api(stack)
    if sorted(body["paths"]) != ["/callbacks/reply", "/callbacks/status"]:
        yield f"paths: {sorted(body['paths'])}"
    for path, methods in body["paths"].items():
        operation = methods.get("post", {})
        validator = body.get("x-amazon-apigateway-request-validators", {}).get(
            operation.get("x-amazon-apigateway-request-validator"), {}
        )
        if validator != {"validateRequestParameters": True, "validateRequestBody": False}:
            yield f"{path}: validator {validator}"
        required = [p["name"] for p in operation.get("parameters", []) if p["in"] == "header" and p.get("required")]
        if list(methods) != ["post"] or required != ["Authorization"]:
            yield f"{path}: {list(methods)} requires {required}"


@invariant(
    resource_mistake("CallbackApi/GatewayResponses/BAD_REQUEST_PARAMETERS"),
    resource_mistake("CallbackApi/GatewayResponses/BAD_REQUEST_PARAMETERS/StatusCode", "400"),
    resource_mistake("CallbackApi/GatewayResponses/BAD_REQUEST_PARAMETERS/ResponseParameters"),
    resource_mistake("CallbackApi/GatewayResponses/MISSING_AUTHENTICATION_TOKEN/StatusCode", "403"),
    resource_mistake("CallbackApi/GatewayResponses/DEFAULT_4XX/StatusCode"),
    resource_mistake("CallbackApi/GatewayResponses/DEFAULT_5XX/StatusCode", "200"),
)
def api_gateway_answers_as_documented(stack: Template) -> Problems:
    responses = callback_api(stack)["x-amazon-apigateway-gateway-responses"]
    wanted = {
        "BAD_REQUEST_PARAMETERS": "401",
        "MISSING_AUTHENTICATION_TOKEN": "404",
        "RESOURCE_NOT_FOUND": "404",
        "DEFAULT_4XX": "404",
        "REQUEST_TOO_LARGE": "413",
        "THROTTLED": "429",
        "DEFAULT_5XX": None,  # each keeps its own status
    }
    for name, status in wanted.items():
        if name not in responses or responses[name].get("statusCode") != status:
            yield name
    challenge = responses.get("BAD_REQUEST_PARAMETERS", {}).get("responseParameters", {})
    if challenge.get("gatewayresponse.header.WWW-Authenticate") != "'Basic realm=\"callbacks\"'":
        yield "no challenge"


@invariant(
    resource_mistake("CallbackApi/GatewayResponses/DEFAULT_4XX"),
    resource_mistake("CallbackApi/GatewayResponses/DEFAULT_5XX/ResponseTemplates"),
    resource_mistake(
        "CallbackApi/GatewayResponses/THROTTLED/ResponseTemplates",
        {"application/json": '{"message":$context.error.messageString}'},
    ),
)
def api_gateway_quotes_nothing(stack: Template) -> Problems:
    """API Gateway's default messages can quote the Authorization header."""
    responses = callback_api(stack)["x-amazon-apigateway-gateway-responses"]
    yield from {"DEFAULT_4XX", "DEFAULT_5XX"} - responses.keys()
    for name, response in responses.items():
        templates = response.get("responseTemplates", {})
        if list(templates) != ["application/json"]:
            yield f"{name}: {list(templates)}"
        for template in templates.values():
            if "$" in template or json.loads(template).keys() != {"message"}:
                yield f"{name}: {template}"


@invariant(
    resource_mistake("CallbackApi/AccessLogSetting"),
    resource_mistake("CallbackApi/AccessLogSetting/Format", '{"path":"$context.path"}'),
    resource_mistake("CallbackApi/AccessLogSetting/Format", '{"user":"$context.identity.user"}'),
    resource_mistake("CallbackApi/AccessLogSetting/Format", "$context.requestId"),
    resource_mistake("CallbackApi/MethodSettings/0/DataTraceEnabled", True),
    resource_mistake("CallbackApi/MethodSettings/0/LoggingLevel", "INFO"),
)
def api_logs_hold_nothing_private(stack: Template) -> Problems:
    stage = stack.resources["CallbackApiv1Stage"].properties
    harmless = {
        *("requestTime", "requestId", "identity.sourceIp", "httpMethod", "resourcePath", "status", "tlsVersion"),
        *("error.responseType", "responseLatency", "integrationLatency"),
    }
    log = stage.get("AccessLogSetting", {})
    if log.get("DestinationArn") != {"Fn::GetAtt": ["CallbackAccessLogGroup", "Arn"]}:
        yield "no access log"
    yield from set(re.findall(r"\$context\.([\w.]+)", log.get("Format", ""))) - harmless
    if not log.get("Format", "{").startswith("{") or not _is_json(log.get("Format", "{}")):
        yield "the access log is not JSON"
    for settings in stage["MethodSettings"]:
        if (settings["DataTraceEnabled"], settings["LoggingLevel"]) != (False, "OFF"):
            yield "execution logs"


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


@invariant(
    resource_mistake("CallbackApi/MethodSettings"),
    resource_mistake("CallbackApi/MethodSettings/0/ThrottlingRateLimit"),
    resource_mistake("CallbackApi/MethodSettings/0/ResourcePath", "/callbacks/status"),
    resource_mistake("CallbackApi/MethodSettings/0/ThrottlingRateLimit", 500),
    Mistake("Mappings/CallbackBursts/50/Burst", 20),
    parameters=ALL_CHOSEN,
)
def callbacks_are_throttled(stack: Template) -> Problems:
    every = [
        s
        for s in stack.resources["CallbackApiv1Stage"].properties.get("MethodSettings", [])
        if (s["HttpMethod"], s["ResourcePath"]) == ("*", "/*")
    ]
    rate = int(stack.parameters["MaxCallbacksPerSecond"].value)
    limits = {"ThrottlingRateLimit": str(rate), "ThrottlingBurstLimit": min(2 * rate, 5000)}  # at most the account's
    if len(every) != 1 or not limits.items() <= every[0].items():
        yield "no limit"


@invariant(
    resource_mistake("CallbackApi/Auth"),
    resource_mistake("CallbackApi/Auth/ResourcePolicy/CustomStatements/0/Condition"),
    resource_mistake("CallbackApi/Auth/ResourcePolicy/CustomStatements/0/Effect", "Deny"),
    Mistake("Conditions/HasCallbackSources", {"Fn::Equals": ["a", "b"]}),
    Mistake("Resources/CallbackWebAcl"),
    resource_mistake("CallbackWebAcl/ResourceArn", {"Fn::Sub": "${CallbackApi}"}),
    parameters=ALL_CHOSEN,
)
def callbacks_come_from_the_chosen_addresses_and_through_the_web_acl(stack: Template) -> Problems:
    statement: dict[str, object] = {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke"}
    statement["Resource"] = "execute-api:/*"
    if sources := stack.parameters["CallbackSourceCidrs"].value:
        statement["Condition"] = {"IpAddress": {"aws:SourceIp": sources.split(",")}}
    if callback_api(stack).get("x-amazon-apigateway-policy", {}).get("Statement") != [statement]:
        yield "policy"
    names = {name: {"Ref": name} for name in ("CallbackApi", "CallbackApiv1Stage")}
    found = [
        (stack.resolve(each.properties["ResourceArn"], names), each.properties["WebACLArn"])
        for each in stack.of_type("AWS::WAFv2::WebACLAssociation")
    ]
    stage = f"arn:aws:apigateway:{REGION}::/restapis/CallbackApi/stages/CallbackApiv1Stage"
    acl = stack.parameters["WebAclArn"].value
    if found != ([(stage, acl)] if acl else []):
        yield f"web ACL: {found}"


@invariant(
    resource_mistake("CallbackApi/SecurityPolicy"),
    resource_mistake("CallbackApi/SecurityPolicy", "TLS_1_0"),
    resource_mistake("CallbackApi/SecurityPolicy", "SecurityPolicy_TLS13_1_3_2025_09"),
    resource_mistake("CallbackApi/EndpointConfiguration"),
    resource_mistake("CallbackApi/OpenApiVersion"),
)
def callbacks_come_by_modern_tls_to_one_stage(stack: Template) -> Problems:
    api = stack.resources["CallbackApi"].properties
    if not str(api.get("SecurityPolicy", "")).startswith(("SecurityPolicy_TLS13_1_2_", "SecurityPolicy_TLS13_1_3_")):
        yield "TLS"
    if f"{api.get('SecurityPolicy')} {api.get('EndpointAccessMode')}" not in str(api["Body"]):
        yield "a new policy would wait for the next deployment of the API"
    if api.get("EndpointConfiguration") != {"Types": ["REGIONAL"]}:
        yield "endpoint"
    deployments = [deployment.properties for deployment in stack.of_type("AWS::ApiGateway::Deployment")]
    if any("StageName" in deployment for deployment in deployments):
        yield "SAM's second stage"


@invariant(
    Mistake("Resources/ApiGatewayAccount/DeletionPolicy"),
    Mistake("Resources/ApiGatewayLogsRole/DeletionPolicy"),
    resource_mistake("CallbackApi/Tags/LogRole"),
)
def access_log_works_in_a_new_account(stack: Template) -> Problems:
    """The stage is made after the account's role. Role and setting belong to the account, so they are retained."""
    if stack.parameters["ApiGatewayLogRole"].value == "existing":
        return
    stage = stack.resources["CallbackApiv1Stage"]
    if {"Ref": "ApiGatewayAccount"} not in [tag["Value"] for tag in stage.properties.get("Tags", [])]:
        yield "the stage does not wait for the role"
    for name in ("ApiGatewayAccount", "ApiGatewayLogsRole"):
        if stack.resources[name].deletion_policy != "RetainExceptOnCreate":
            yield name


@invariant(resource_mistake("ReceiveCallbackFunction/Events/StatusCallback/Properties/Path", "/status"))
def callback_urls_are_routes(stack: Template) -> Problems:
    routes = callback_api(stack)["paths"]
    for name in ("StatusCallbackUrl", "ReplyCallbackUrl"):
        url = stack.resolve(stack.outputs[name]["Value"], {"CallbackApi": {"Ref": "abc123"}})
        base = f"https://abc123.execute-api.{REGION}.amazonaws.com/v1"
        if url.removeprefix(base) not in routes:
            yield url


# Alarms


@dataclass(frozen=True)
class Watched:
    """A metric that an alarm or the dashboard reads; ``dimensions`` as in the template."""

    namespace: str
    name: str
    dimensions: Mapping[str, Any]


def alarm_metrics(alarm: Resource) -> list[Watched]:
    """Return the metrics that an alarm reads, directly or through an expression."""
    properties = alarm.properties
    metrics = [m["MetricStat"]["Metric"] for m in properties.get("Metrics", []) if "MetricStat" in m] or [properties]
    return [
        Watched(m["Namespace"], m["MetricName"], {d["Name"]: d["Value"] for d in m.get("Dimensions", [])})
        for m in metrics
    ]


def dashboard_widgets(stack: Template) -> list[dict[str, Any]]:
    body = stack.resources["Dashboard"].properties["DashboardBody"]["Fn::Sub"].replace("${AWS::StackName}", STACK_NAME)
    widgets: list[dict[str, Any]] = json.loads(body)["widgets"]
    return widgets


def dashboard_metrics(stack: Template) -> list[Watched]:
    rows = [row for widget in dashboard_widgets(stack) for row in widget["properties"]["metrics"]]
    found = []
    for namespace, name, *rest in rows:
        names = rest[:-1]
        dimensions = {key: _reference(value) for key, value in zip(names[::2], names[1::2], strict=True)}
        found.append(Watched(namespace, name, dimensions))
    return found


def _reference(text: str) -> Any:
    """Return `${Queue.QueueName}` and `${Function}` in the form of other places in the template."""
    match = re.fullmatch(r"\$\{(\w+)(?:\.(\w+))?\}", text)
    if match is None:
        return text
    return {"Fn::GetAtt": [match[1], match[2]]} if match[2] else {"Ref": match[1]}


def published() -> dict[str, set[str]]:
    """Return by service the metrics that its function can publish: those named in a module that its app.py imports."""
    found = {}
    for app in sorted((ROOT / "functions").glob("*/app.py")):
        modules = re.findall(r"^\s*from optus_sms\.(\w+\.\w+) import", app.read_text(), re.MULTILINE)
        code = "".join(
            (PACKAGE / f"{module.replace('.', '/')}.py").read_text()
            for module in modules
            if module not in ("runtime.observability", "aws.traffic")  # this module only reads metrics
        )
        found[app.parent.name] = {Metric[name].value for name in re.findall(r"\bMetric\.([A-Z_]+)\b", code)}
    return found


# AWS's own metrics that the stack reads ("Available CloudWatch metrics" of each service).
AWS_METRICS: Final[Mapping[str, tuple[str, str, frozenset[str]]]] = {
    "AWS/SQS": (
        "QueueName",
        "AWS::SQS::Queue",
        frozenset(
            {
                *("ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesNotVisible"),
                *("ApproximateNumberOfMessagesVisible", "NumberOfMessagesSent"),
            }
        ),
    ),
    "AWS/Lambda": (
        "FunctionName",
        "AWS::Lambda::Function",
        frozenset({"Duration", "Errors", "Invocations", "IteratorAge", "Throttles"}),
    ),
}


BY_LANE: Final = {Metric.QUEUE_DELAY, Metric.SENDING_PAUSED}  # published for each lane, too


def counted_lines(stack: Template) -> dict[str, set[str]]:
    """Return by service the metrics that filters make of the callback API's access log, which has service and stack."""
    line = json.loads(stack.resources["CallbackApiv1Stage"].properties["AccessLogSetting"]["Format"])
    found: dict[str, set[str]] = {}
    for each in stack.of_type("AWS::Logs::MetricFilter"):
        (made,) = each.properties["MetricTransformations"]
        (field,) = re.fullmatch(r'\{ \$\.(\w+) = "\d+" \}', each.properties["FilterPattern"]).groups()  # type: ignore[union-attr]
        dimensions = {d["Key"]: line[d["Value"].removeprefix("$.")] for d in made["Dimensions"]}
        if field in line and dimensions["stack"] == STACK_NAME and made["MetricNamespace"] == NAMESPACE:
            found.setdefault(dimensions["service"], set()).add(made["MetricName"])
    return found


def is_known(stack: Template, metric: Watched) -> bool:
    if metric.namespace == "AWS/ApiGateway":
        name = callback_api(stack)["info"]["title"]
        return metric.name == "5XXError" and metric.dimensions == {"ApiName": name, "Stage": "v1"}
    if metric.namespace not in AWS_METRICS:
        service = str(metric.dimensions.get("service"))
        of_a_lane = metric.name in BY_LANE and metric.dimensions.get("lane") in set(Lane)
        own = {name: value for name, value in metric.dimensions.items() if not (of_a_lane and name == "lane")}
        ours = own == {"service": service, "stack": STACK_NAME}
        made = published().get(service, set()) | counted_lines(stack).get(service, set())
        return ours and metric.namespace == NAMESPACE and metric.name in made
    dimension, kind, names = AWS_METRICS[metric.namespace]
    value = metric.dimensions.get(dimension)
    if set(metric.dimensions) != {dimension} or metric.name not in names or not isinstance(value, Mapping):
        return False
    name, attribute = value["Fn::GetAtt"] if "Fn::GetAtt" in value else (value["Ref"], "QueueUrl or FunctionName")
    right = attribute == "QueueName" if kind == "AWS::SQS::Queue" else "Ref" in value
    return right and name in stack.resources and stack.resources[name].type == kind


@invariant(
    resource_mistake("DeadLettersAlarm/AlarmActions"),
    resource_mistake("UnknownOutcomesAlarm/OKActions", []),
    resource_mistake("GatewayHealthAlarm/AlarmActions", [{"Ref": "AlarmTopic"}]),
    resource_mistake("GatewayHealthAlarm/AlarmActions", [{"Ref": "AlarmTopicArn"}]),
    parameters=ALL_CHOSEN,
)
def alarms_reach_somebody(stack: Template) -> Problems:
    told: list[object] = [{"Ref": "AlarmTopic"}] if stack.parameters["AlarmEmail"].value else []
    told += [topic] if (topic := stack.parameters["AlarmTopicArn"].value) else []
    for alarm in stack.of_type("AWS::CloudWatch::Alarm"):
        if [alarm.properties.get(name) for name in ("AlarmActions", "OKActions")] != [told, told]:
            yield f"{alarm.logical_id}: actions"


@invariant(
    resource_mistake("OldestMessageAlarm/AlarmDescription"),
    resource_mistake("RejectedShareAlarm/AlarmDescription", "Many. Runbook: docs/runbook.md#rejected"),
    resource_mistake("FunctionErrorsAlarm/AlarmDescription", "A function raised an error, which none should ever do."),
    resource_mistake(
        "SlowDeliveryAlarm/AlarmDescription",
        "One message in ten takes more than ten minutes to its handset. Runbook: docs/runbook.md#slow",
    ),
)
def alarms_say_what_they_mean_and_what_to_do(stack: Template) -> Problems:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for alarm in stack.of_type("AWS::CloudWatch::Alarm"):
        match = re.fullmatch(
            r"(.{40,}) Runbook: docs/runbook\.md#([\w-]+)", alarm.properties.get("AlarmDescription", "")
        )
        if match is None or match[2] not in anchors:
            yield f"{alarm.logical_id}: {alarm.properties.get('AlarmDescription')}"


@invariant(
    resource_mistake("DeadLettersAlarm/Dimensions/0/Name", "FunctionName"),
    resource_mistake("OldestMessageAlarm/Metrics/1/MetricStat/Metric/Dimensions/0/Value", "outbound"),
    resource_mistake("OldestMessageAlarm/Metrics/1/MetricStat/Metric/MetricName", "AgeOfOldestMessage"),
    resource_mistake("CallbackApiErrorsAlarm/Dimensions/0/Value", "CallbackApi"),
    resource_mistake("CallbacksThrottledAlarm/MetricName", "Throttled"),
    resource_mistake("CallbacksThrottledFilter/MetricTransformations/0/Dimensions/1/Value", "$.source_ip"),
    resource_mistake("GatewayErrorsAlarm/MetricName", "GatewayError"),
    resource_mistake("GatewayErrorsAlarm/Dimensions/0/Value", "receive_callback"),
    resource_mistake("GatewayErrorsAlarm/Dimensions/1/Value", "another-stack"),
    resource_mistake("EventsLateAlarm/Dimensions/0/Value", {"Ref": "MessagesTable"}),
    resource_mistake("RejectedShareAlarm/Metrics/1/MetricStat/Metric/MetricName", "Rejected"),
)
def alarms_watch_metrics_that_exist(stack: Template) -> Problems:
    for alarm in stack.of_type("AWS::CloudWatch::Alarm"):
        yield from (f"{alarm.logical_id}: {m}" for m in alarm_metrics(alarm) if not is_known(stack, m))


@invariant(
    resource_mistake("UnknownOutcomesAlarm/Metrics/1/MetricStat/Metric/Dimensions/0/Value", "reconcile_messages"),
    resource_mistake("UnknownOutcomesAlarm/Metrics/2/MetricStat/Metric/Dimensions/0/Value", "send_message"),
    resource_mistake("CredentialsRefusedAlarm/Metrics/2/MetricStat/Metric/Dimensions/0/Value", "send_message"),
)
def an_alarm_hears_of_it_from_every_function_that_finds_out(stack: Template) -> Problems:
    """Unknown outcomes: sender function and reconciliation. Refused credentials: also the health check."""
    for alarm, metric in (
        ("UnknownOutcomes", Metric.OUTCOMES_UNKNOWN),
        ("CredentialsRefused", Metric.CREDENTIALS_REFUSED),
    ):
        finders = {service for service, metrics in published().items() if metric.value in metrics}
        yield from finders - {m.dimensions["service"] for m in alarm_metrics(stack.resources[f"{alarm}Alarm"])}


@invariant(
    resource_mistake("OldestMessageAlarm/Metrics/0/Expression", "IF(FILL(paused, 0) < 1, 0, age)"),
    resource_mistake("OldestMessagePausedAlarm/Metrics/0/Expression", "age"),
    resource_mistake("OldestUrgentMessageAlarm/Threshold", 900),
    resource_mistake("OldestUrgentMessageAlarm/Metrics/2/MetricStat/Metric/Dimensions/2/Value", "ordinary"),
    resource_mistake(
        "OldestMessagePausedAlarm/Metrics/1/MetricStat/Metric/Dimensions/0/Value", {"Ref": "MessagesTable"}
    ),
)
def an_old_message_rings_once_and_names_a_pause(stack: Template) -> Problems:
    moving, paused = (stack.resources[f"OldestMessage{name}Alarm"].properties for name in ("", "Paused"))
    expressions = [alarm["Metrics"][0]["Expression"] for alarm in (moving, paused)]
    if expressions != ["IF(FILL(paused, 0) < 1, age, 0)", "IF(FILL(paused, 0) < 1, 0, age)"]:
        yield f"expressions: {expressions}"
    urgent = stack.resources["OldestUrgentMessageAlarm"].properties
    if (urgent["Metrics"][0]["Expression"], urgent["Threshold"]) != (expressions[0], 60):
        yield "urgent"
    for alarm, queue, lane in ((moving, "OutboundQueue", "ordinary"), (urgent, "UrgentQueue", "urgent")):
        age, is_paused = (m["MetricStat"]["Metric"]["Dimensions"][-1]["Value"] for m in alarm["Metrics"][1:])
        if (age, is_paused) != ({"Fn::GetAtt": [queue, "QueueName"]}, lane):
            yield f"{queue}: {age}, {is_paused}"
    if moving["Metrics"][1:] != paused["Metrics"][1:] or moving["Threshold"] != paused["Threshold"]:
        yield "they watch different things"


def _with(text: str, other: str) -> object:
    """Return the dashboard with one text replaced."""
    body = SOURCE["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    assert text in body
    return {"Fn::Sub": body.replace(text, other, 1)}


@invariant(
    resource_mistake("Dashboard/DashboardBody", _with("MessagesDelivered", "MessagesArrived")),
    resource_mistake("Dashboard/DashboardBody", _with("${OutboundQueue.QueueName}", "${OutboundQueue.Arn}")),
    resource_mistake("Dashboard/DashboardBody", _with('"service", "send_message"', '"service", "send"')),
)
def dashboard_shows_metrics_that_exist(stack: Template) -> Problems:
    yield from (str(metric) for metric in dashboard_metrics(stack) if not is_known(stack, metric))


@invariant(
    resource_mistake("Dashboard/DashboardBody", _with('"x": 6,', '"x": 5,')),
    resource_mistake("Dashboard/DashboardBody", _with('"y": 12,', '"y": 18,')),
    resource_mistake("Dashboard/DashboardBody", _with("${AWS::Region}", "eu-west-1")),
)
def dashboard_is_one_screen_without_overlap(stack: Template) -> Problems:
    taken: set[tuple[int, int]] = set()
    for widget in dashboard_widgets(stack):
        x, y, width, height = (widget[name] for name in ("x", "y", "width", "height"))
        cells = {(column, row) for column in range(x, x + width) for row in range(y, y + height)}
        if cells & taken or x + width > 24 or y + height > 18 or widget["properties"]["region"] != "${AWS::Region}":
            yield widget["properties"]["title"]
        taken |= cells


@invariant(
    resource_mistake(
        "FunctionErrorsAlarm/Metrics/1/MetricStat/Metric/Dimensions/0/Value", {"Ref": "CheckHealthFunction"}
    ),
    resource_mistake("NearTimeoutAlarm/Metrics/0/Expression", "MAX([sendMessage / 60000])"),
    resource_mistake("SendMessageFunction/Timeout", 45),
)
def no_function_fails_unnoticed(stack: Template) -> Problems:
    """Alarms for errors, throttles and durations near its own timeout, for each function."""
    wanted = {function.logical_id for function in functions(stack)}
    for alarm, name in (("FunctionErrors", "Errors"), ("FunctionThrottles", "Throttles"), ("NearTimeout", "Duration")):
        watched = alarm_metrics(stack.resources[f"{alarm}Alarm"])
        if {m.dimensions["FunctionName"]["Ref"] for m in watched} != wanted or {m.name for m in watched} != {name}:
            yield alarm
    result, *metrics = stack.resources["NearTimeoutAlarm"].properties["Metrics"]
    shares = dict(re.findall(r"(\w+) / (\d+)", result["Expression"]))
    for metric in metrics:
        function = stack.resources[metric["MetricStat"]["Metric"]["Dimensions"][0]["Value"]["Ref"]]
        if shares.get(metric["Id"]) != str(function.properties["Timeout"] * 1000):
            yield f"{function.logical_id}: {shares.get(metric['Id'])} ms"


MEASURED_ALL_THE_TIME: Final = {"HealthChecks", "SendingPaused"}


@invariant(
    resource_mistake("HealthChecksAlarm/TreatMissingData", "notBreaching"),
    resource_mistake("SendingPausedAlarm/TreatMissingData"),
    resource_mistake("GatewayHealthAlarm/TreatMissingData", "breaching"),
    resource_mistake("DeadLettersAlarm/TreatMissingData", "breaching"),
    resource_mistake("UnknownOutcomesAlarm/TreatMissingData"),
)
def silence_means_what_it_should(stack: Template) -> Problems:
    """Missing data is an alarm only for metrics of every minute; the others have no data while nothing happens."""
    for alarm in stack.of_type("AWS::CloudWatch::Alarm"):
        always = {metric.name for metric in alarm_metrics(alarm)} <= MEASURED_ALL_THE_TIME
        if alarm.properties.get("TreatMissingData") != ("breaching" if always else "notBreaching"):
            yield alarm.logical_id


# From Lambda's own log records in JSON, such as {"type": "platform.report", "record": {"status": "timeout", …}}
# ("Lambda Telemetry API Event schema reference"). The text format's "Task timed out" never comes.
REPORT_FIELDS: Final = {"type", "record", "status", "errorType"}


@invariant(
    resource_mistake("WhatWentWrongQuery/QueryString", 'filter level = "ERROR" or @message like /Task timed out/')
)
def a_timeout_is_found_where_lambda_reports_it(stack: Template) -> Problems:
    if (
        'type = "platform.report" and record.status != "success"'
        not in (stack.resources["WhatWentWrongQuery"].properties["QueryString"])
    ):
        yield "WhatWentWrongQuery"


@invariant(
    resource_mistake("FollowOneMessageQuery/LogGroupNames/0"),
    resource_mistake("WhoIsRefusedQuery/LogGroupNames/0", {"Ref": "AlarmTopic"}),
    resource_mistake("WhyNotSentQuery/QueryString", "filter ispresent(result)"),
)
def log_questions_ask_for_what_is_logged(stack: Template) -> Problems:
    code = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    logged = {*re.findall(r'"(\w+)"', code), "service", "level", "message", *REPORT_FIELDS}
    access_log = stack.resources["CallbackApiv1Stage"].properties["AccessLogSetting"]["Format"]
    logged |= set(re.findall(r'"(\w+)":', access_log))
    words = {
        *("fields", "filter", "sort", "stats", "limit", "by", "as", "or", "and", "in", "like", "asc", "desc"),
        *("ispresent", "count", "max", "pct", "bin", "messages", "requests", "latest", "median_ms", "p95_ms", "max_ms"),
        "timestamp",
    }
    for query in stack.of_type("AWS::Logs::QueryDefinition"):
        text = re.sub(r'"[^"]*"|/[^/]*/', "", query.properties["QueryString"])
        unknown = set(re.findall(r"\b[a-z_]\w*", text)) - words - logged
        groups = {stack.document["Resources"][group["Ref"]]["Type"] for group in query.properties["LogGroupNames"]}
        if unknown or groups != {"AWS::Logs::LogGroup"}:
            yield f"{query.logical_id}: {sorted(unknown)} {sorted(groups)}"
    followed = stack.resources["FollowOneMessageQuery"].properties["LogGroupNames"]
    of_functions = [function.properties["LoggingConfig"]["LogGroup"] for function in functions(stack)]
    if sorted(map(str, followed)) != sorted(map(str, of_functions)):
        yield "FollowOneMessageQuery does not see every function"


# Events


@invariant(
    *(
        resource_mistake(f"PublishEventsFunction/Events/{name}/Properties/{path}", *value)
        for name, path, *value in (
            ("LedgerChanges", "StartingPosition", "LATEST"),
            ("MessageChanges", "DestinationConfig"),
            ("LedgerChanges", "BisectBatchOnFunctionError"),
            ("MessageChanges", "MaximumRetryAttempts", 1000),
            ("MessageChanges", "MaximumRecordAgeInSeconds", 86400),
        )
    ),
    resource_mistake("MessagesTable/StreamSpecification/StreamViewType", "NEW_IMAGE"),
    resource_mistake("PublishEventsFunction/Events/LedgerChanges"),
)
def events_miss_nothing_and_nothing_blocks_them(stack: Template) -> Problems:
    sources = [
        source.properties
        for source in stack.of_type("AWS::Lambda::EventSourceMapping")
        if "FilterCriteria" in source.properties
    ]
    followed = {source["EventSourceArn"]["Fn::GetAtt"][0] for source in sources}
    tables = {table.logical_id: table.properties for table in stack.of_type("AWS::DynamoDB::Table")}
    yield from followed ^ set(tables)
    for name, table in tables.items():
        if table.get("StreamSpecification") != {"StreamViewType": "NEW_AND_OLD_IMAGES"}:
            yield f"{name}: images"
    destination = {"OnFailure": {"Destination": {"Fn::GetAtt": ["UnpublishedEventsQueue", "Arn"]}}}
    for source in sources:
        if (source["StartingPosition"], source.get("DestinationConfig")) != ("TRIM_HORIZON", destination):
            yield f"{source['EventSourceArn']}: start or destination"
        tries, age = source.get("MaximumRetryAttempts", -1), source.get("MaximumRecordAgeInSeconds", -1)
        # Limited by age, because a count of retries would be used up first. It leaves an operator half of the stream's
        # 24 hours.
        if not source.get("BisectBatchOnFunctionError") or tries != -1 or not 0 < age <= 43200:
            yield f"{source['EventSourceArn']}: tries"


@invariant(
    *(
        resource_mistake(
            f"PublishEventsFunction/Events/{name}/Properties/FilterCriteria/Filters/{number}/Pattern",
            json.dumps(pattern),
        )
        for name, number, pattern in (
            ("LedgerChanges", 0, {"dynamodb": {"NewImage": {"state": {"S": ["ACCEPTED", "REJECTED", "UNKNOWN"]}}}}),
            ("LedgerChanges", 1, {"dynamodb": {"Keys": {"pk": {"S": ["gateway#health"]}}}}),
            ("LedgerChanges", 2, {"dynamodb": {"Keys": {"pk": {"S": [{"prefix": "refused"}]}}}}),
            ("MessageChanges", 1, {"dynamodb": {"NewImage": {"direction": {"S": ["MT"]}}}}),
            ("OptOutChanges", 0, {"eventName": ["INSERT"]}),
        )
    ),
)
def streams_pass_each_change_that_can_make_an_event(stack: Template) -> Problems:
    """The filters name items, states and attributes as `optus_sms.records` does."""
    written = {"eventName": ["INSERT", "MODIFY"]}
    states = [state.value for state in State if state not in (State.SENDING, State.RETRY)]
    wanted = {
        "SendLedgerTable": [
            written | {"dynamodb": {"NewImage": {"state": {"S": states}}}},
            written | {"dynamodb": {"Keys": {"pk": {"S": [HEALTH_KEY]}}}},
            {"eventName": ["INSERT"], "dynamodb": {"Keys": {"pk": {"S": [{"prefix": REFUSED_PREFIX}]}}}},
        ],
        "MessagesTable": [
            written | {"dynamodb": {"NewImage": {"status": {"S": [{"anything-but": ["accepted"]}]}}}},
            {"eventName": ["INSERT"], "dynamodb": {"NewImage": {"direction": {"S": ["MO"]}}}},
        ],
        "OptOutTable": [written | {"dynamodb": {"Keys": {"handset": {"S": [{"prefix": "+"}]}}}}],
    }
    for source in stack.of_type("AWS::Lambda::EventSourceMapping"):
        if filters := source.properties.get("FilterCriteria"):
            table = source.properties["EventSourceArn"]["Fn::GetAtt"][0]
            if [json.loads(one["Pattern"]) for one in filters["Filters"]] != wanted[table]:
                yield f"{table}: filters"


@invariant(
    resource_mistake("OutboundQueue/MessageRetentionPeriod", 1209600),
    resource_mistake("DeadLetterQueue/MessageRetentionPeriod", 5000000),
)
def the_ledger_remembers_longer_than_any_queue(stack: Template) -> Problems:
    """A message can wait in its queue and in the dead-letter queue, be redriven, and wait in both again."""
    waiting = sum(
        stack.resources[name].properties["MessageRetentionPeriod"] for name in ("OutboundQueue", "DeadLetterQueue")
    )
    if 2 * waiting + 10 * 86400 > KEEP_SECONDS:
        yield f"{KEEP_SECONDS} s against twice {waiting} s"


@invariant(resource_mistake("DeadLetterQueue/MessageRetentionPeriod", 1000000))
def a_refused_message_is_recorded_as_long_as_its_dead_letter_is_kept(stack: Template) -> Problems:
    kept = stack.resources["DeadLetterQueue"].properties["MessageRetentionPeriod"]
    if kept != KEEP_REFUSED_SECONDS:
        yield f"DeadLetterQueue: {kept} s against {KEEP_REFUSED_SECONDS} s"


# The tests


@pytest.fixture(scope="module", params=[{}, ALL_CHOSEN, OWN_KEY], ids=["defaults", "all-chosen", "own-key"])
def stack(request: pytest.FixtureRequest) -> Template:
    return translate(SOURCE, request.param)


def broken_stack(mistake: Mistake, parameters: Mapping[str, str]) -> Template:
    """Return the stack with a mistake. Parts that SAM passes on unchanged are not translated again."""
    names = mistake.path.split("/")
    if names[0] == "Resources" and names[2:3] == ["Properties"]:
        kind = SOURCE["Resources"][names[1]]["Type"]
        if not kind.startswith("AWS::Serverless::"):
            whole = translated_once(tuple(sorted(parameters.items())))
            return evaluated(with_mistake(whole.document, mistake), whole.parameters)
    return translate(with_mistake(SOURCE, mistake), parameters)


@cache
def translated_once(parameters: tuple[tuple[str, str], ...]) -> Template:
    return translate(SOURCE, dict(parameters))


@pytest.mark.parametrize("rule", INVARIANTS, ids=lambda rule: rule.name)
def test_invariant_holds(rule: Invariant, stack: Template) -> None:
    assert list(rule.check(stack)) == []


@pytest.mark.parametrize(
    ("rule", "mistake"),
    [pytest.param(rule, mistake, id=f"{rule.name}-{mistake}") for rule in INVARIANTS for mistake in rule.mistakes],
)
def test_invariant_notices(rule: Invariant, mistake: Mistake) -> None:
    assert list(rule.check(broken_stack(mistake, rule.parameters))) != []


def test_each_invariant_has_a_mistake_that_it_notices() -> None:
    assert [rule.name for rule in INVARIANTS if not rule.mistakes] == []


@pytest.mark.parametrize("parameters", [{}, ALL_CHOSEN], ids=["defaults", "all-chosen"])
def test_translated_template_is_lint_free(parameters: Mapping[str, str]) -> None:
    assert linted(translate(SOURCE, parameters).document) == []


def test_all_chosen_is_every_parameter_away_from_its_default() -> None:
    defaults = {name: str(definition["Default"]) for name, definition in SOURCE["Parameters"].items()}
    assert defaults.keys() == ALL_CHOSEN.keys()
    assert [name for name, value in ALL_CHOSEN.items() if value == defaults[name]] == []


def test_other_addresses_need_a_new_deployment_of_the_api() -> None:
    """API Gateway applies a policy only with a deployment, which SAM makes if the API's definition changes."""

    def deployed(**parameters: str) -> object:
        return translate(SOURCE, parameters).resources["CallbackApiv1Stage"].properties["DeploymentId"]

    ranges = ("", "203.0.113.0/24", "203.0.113.0/25")
    assert len({str(deployed(CallbackSourceCidrs=each)) for each in ranges}) == 3


def test_lint_would_notice_a_mistake() -> None:
    queue = {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": 43_201}, "DeletionPolicy": "Delete"}

    found = linted({"Resources": {"OutboundQueue": queue | {"UpdateReplacePolicy": "Delete"}}})

    assert [line.split()[0] for line in found] == ["E3034"]


def linted(document: Mapping[str, Any]) -> list[str]:
    """Return rule and message of each finding of cfn-lint."""
    from cfnlint import ManualArgs, lint  # the import takes seconds, so only the process of these tests does it

    found = lint(json.dumps(document), config=ManualArgs(regions=[REGION]))
    return [f"{match.rule.id} {match.message}" for match in found]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"GatewayBaseUrl": "http://gateway.example"}, "an https address"),
        ({"GatewayBaseUrl": "https://gateway.example/v2/"}, "an https address"),
        ({"GatewayBaseUrl": "https://user:password@gateway.example"}, "an https address"),
        ({"GatewaySecretArn": "gateway"}, "the full ARN"),
        ({"OnUnknownOutcome": "retry"}, "hold or resend"),
        ({"RequireMessageId": "yes"}, "true or false"),
        ({"SeparateSenders": "yes"}, "true or false"),
        ({"AllowedDestinations": "61"}, "prefixes such as"),
        ({"AllowedDestinations": "+61, +64"}, "without spaces"),
        ({"OptOutWords": "STOP, OPT OUT"}, "no spaces around them"),
        ({"OptInWords": ","}, "START,UNSTOP"),
        ({"AllowedDestinations": "+61,"}, "prefixes such as"),
        ({"ServiceStatusUrl": "http://status.example/status"}, "empty, or an https address"),
        ({"PauseOnOutage": "yes"}, "true or false"),
        ({"MaxMessagesPerSecond": "0.5"}, "a whole number"),
        ({"MaxMessagesPerSecond": "-1"}, "a whole number"),
        ({"SenderConcurrency": "1"}, "from 2 to 100"),
        ({"SenderConcurrency": "many"}, "from 2 to 100"),
        ({"MaxUrgentPerSecond": "0.5"}, "a whole number"),
        ({"UrgentConcurrency": "1"}, "from 2 to 100"),
        ({"SenderPrincipals": "12345678901"}, "account IDs and ARNs"),
        ({"SenderPrincipals": "*"}, "account IDs and ARNs"),
        ({"SenderPrincipals": "210987654321, 210987654322"}, "no spaces"),
        ({"SenderPrincipals": "arn:aws:iam::210987654321:role/*"}, "account IDs and ARNs"),
        ({"SenderPrincipals": "arn:aws:iam::*:role/sender"}, "account IDs and ARNs"),
        ({"SenderOrganizationId": "*"}, "the ID of an organization"),
        ({"SenderSourceArns": "*"}, "account number included"),
        ({"SenderSourceArns": "arn:aws:sns:ap-southeast-2:*:codes"}, "account number included"),
        ({"SenderSourceArns": "arn:aws:events:ap-southeast-2:123456789012:event-bus/own"}, "EventBridge rules"),
        ({"SenderSourceArns": "arn:aws:s3:::bucket"}, "EventBridge rules"),
        ({"RetentionDays": "0"}, "from 1 to 3650"),
        ({"LogRetentionDays": "31"}, "periods that CloudWatch Logs accepts"),
        ({"AlarmEmail": "somebody"}, "an e-mail address"),
        ({"AlarmTopicArn": "on-call"}, "the ARN of a standard topic"),
        ({"AlarmTopicArn": "arn:aws:sns:ap-southeast-2:123456789012:on-call.fifo"}, "the ARN of a standard topic"),
        ({"Architecture": "arm"}, "arm64 or x86_64"),
        ({"SubnetIds": "subnet-0123abcd, subnet-0123abce", "SecurityGroupIds": "sg-0123abcd"}, "no space"),
        ({"SubnetIds": "subnet-0123abcd"}, "SubnetIds needs SecurityGroupIds"),
        ({"KmsKeyArn": "arn:aws:kms:ap-southeast-2:123456789012:alias/sms"}, "not of an alias"),
        ({"KmsKeyArn": "0a1b2c3d"}, "the ARN of a key"),
        ({"PermissionsBoundaryArn": "applications"}, "the ARN of a managed policy"),
        ({"CallbackSourceCidrs": "203.0.113.7"}, "address ranges such as"),
        ({"CallbackSourceCidrs": "203.0.113.0/24, 203.0.114.0/24"}, "no spaces"),
        ({"CallbackSourceCidrs": "203.0.113.0/33"}, "address ranges such as"),
        ({"CallbackSourceCidrs": "203.0.113.256/32"}, "address ranges such as"),
        ({"CallbackSourceCidrs": "203.0.113/24"}, "address ranges such as"),
        ({"CallbackSourceCidrs": "203.0.113.0/24,"}, "address ranges such as"),
        ({"CallbackSourceCidrs": "::::/64"}, "address ranges such as"),
        ({"CallbackSourceCidrs": "1::2::3/64"}, "address ranges such as"),
        ({"CallbackSourceCidrs": "12345::/32"}, "address ranges such as"),
        ({"CallbackSourceCidrs": "1:2:3:4:5:6:7:8:9/64"}, "address ranges such as"),
        ({"CallbackSourceCidrs": "2001:db8::/129"}, "address ranges such as"),
        ({"WebAclArn": "arn:aws:wafv2:us-east-1:123456789012:global/webacl/callbacks/0a1b"}, "a regional web ACL"),
        ({"MaxCallbacksPerSecond": "0"}, "10, 25, 50"),
        ({"Tracing": "on"}, "off or active"),
        ({"RolePath": "/sms"}, "begins and ends with a slash"),
        ({"RolePath": "sms/"}, "begins and ends with a slash"),
        ({"RolePath": f"/{'a' * 511}/"}, "at most 512 characters"),
        ({"GatewaySecretKmsKeyArn": ALL_CHOSEN["KmsKeyArn"]}, "GatewaySecretKmsKeyArn needs GatewaySecretArn"),
        ({"MaxMessagesPerSecond": "1", "SenderConcurrency": "4"}, "SenderConcurrency must be at most 3"),
        ({"MaxMessagesPerSecond": "33", "SenderConcurrency": "4"}, "SenderConcurrency must be at most 3"),
        ({"MaxUrgentPerSecond": "33", "UrgentConcurrency": "4"}, "UrgentConcurrency must be at most 3"),
        ({"MaxMessagesPerSecond": "40"}, "MaxMessagesPerSecond needs MaxUrgentPerSecond"),
    ],
)
def test_wrong_parameters_are_refused_with_the_reason(parameters: dict[str, str], reason: str) -> None:
    with pytest.raises(TemplateError, match=re.escape(reason)):
        known_parameters(SOURCE, parameters)


@pytest.mark.parametrize(
    "ranges",
    [
        "0.0.0.0/0",
        "203.0.113.255/32,198.51.100.0/9",
        "::/0",
        "::1/128",
        "2001:DB8::/32",
        "1:2:3:4:5:6:7:8/64",
        "1::7:8/100",
    ],
)
def test_address_ranges_are_taken_as_they_are_written(ranges: str) -> None:
    assert all(ipaddress.ip_network(each, strict=False) for each in ranges.split(","))
    assert known_parameters(SOURCE, {"CallbackSourceCidrs": ranges})


def test_every_pace_that_is_taken_lets_a_batch_through_in_thirty_seconds() -> None:
    taken = {(rate, senders) for rate in range(1, 41) for senders in range(2, 101) if _is_taken(rate, senders)}

    assert all(10 * senders / rate <= 30 for rate, senders in taken)
    assert {(rate, senders) for rate in range(1, 34) for senders in (2, 3)} <= taken
    assert {(rate, senders) for rate in range(34, 41) for senders in range(2, 101)} <= taken


def test_without_a_pace_any_number_of_senders_is_taken() -> None:
    assert all(_is_taken(0, senders) for senders in range(2, 101))


def test_every_deployment_is_tagged_as_a_whole() -> None:
    """The stack's tags apply to each resource that can have tags. A resource's own would be missing on a new one."""
    environments = tomllib.loads((ROOT / "samconfig.toml").read_text())
    deployed = {
        name: e["deploy"]["parameters"] for name, e in environments.items() if name != "version" and "deploy" in e
    }

    assert deployed.keys() >= {"default", "staging", "production"}
    for name, parameters in deployed.items():
        assert "Application=" in parameters["tags"], name
        assert "Environment=" in parameters["tags"], name
    own = {logical_id for logical_id, r in SOURCE["Resources"].items() if "Tags" in r.get("Properties", {})}
    assert own == {"CallbackApi"}  # there a tag orders two resources


# Both lanes, so that a rule can't hold for one only.
PACED: Final = {"MaxMessagesPerSecond": "100", "MaxUrgentPerSecond": "100"}


def _is_taken(rate: int, senders: int) -> bool:
    try:
        for pace, concurrency in (
            ("MaxMessagesPerSecond", "SenderConcurrency"),
            ("MaxUrgentPerSecond", "UrgentConcurrency"),
        ):
            known_parameters(SOURCE, (PACED if rate else {}) | {pace: str(rate), concurrency: str(senders)})
    except TemplateError:
        return False
    return True
