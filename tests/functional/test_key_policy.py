"""The key policies of docs/encryption.md, and the roles' permissions for the key, by an IAM evaluator.

The functions' own calls (`test_resource_privilege.py`) determine the services' calls of the key.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, Final

import pytest

from local.template import STACK_NAME, translate
from tests.contract.test_template import ALL_CHOSEN, CONTEXTS, KEY_USES, OWN_KEY
from tests.functional.test_resource_privilege import (  # noqa: F401 - fixtures
    Anything,
    account,
    attributes,
    needed,
    role_policies,
)
from tests.support.aws import REGION, template_source
from tests.support.builders import ACCOUNT
from tests.support.iam_evaluator import ALLOWED, DENIED, Call, evaluate, needs_iam_evaluator
from tests.support.least_privilege import ROOT, Account

pytestmark = needs_iam_evaluator

KEY: Final = OWN_KEY["KmsKeyArn"]
SECRET: Final = ALL_CHOSEN["GatewaySecretArn"]
SECRET_KEY: Final = ALL_CHOSEN["GatewaySecretKmsKeyArn"]
PAGE: Final = (
    (ROOT / "docs" / "encryption.md")
    .read_text()
    .replace("111122223333", ACCOUNT)
    .replace("arn:aws:secretsmanager:ap-southeast-2:444455556666:secret:sms/gateway-AbCdEf", SECRET)
)
POLICY, SECRET_STATEMENT = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
ANYTHING: Final = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
OTHER_ACCOUNT: Final = "arn:aws:iam::444455556666:role/sender"
QUEUE: Final = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{STACK_NAME}-OutboundQueue-1A2B"
RULE: Final = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/booked"
TOPIC: Final = f"arn:aws:sns:{REGION}:444455556666:codes"
BUS: Final = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{STACK_NAME}-events"


def key_call(role: str, action: str, *, key: str = KEY, principal: str = "", **context: str) -> Call:
    """Return a service's call for a principal; context keys have `__` for `:`, and no common prefix."""
    known = {"via": "kms:ViaService", "source": "aws:SourceArn"}
    named = (
        (known.get(name) or f"kms:EncryptionContext:{name.replace('__', ':')}", (v,)) for name, v in context.items()
    )
    return Call(role, f"kms:{action}", key, tuple(named), principal=principal)


def uses(call: Call) -> list[Call]:
    """Return the service's calls of the key for a function's call."""
    service = call.action.partition(":")[0]
    name = call.resource
    if service == "dynamodb":
        name = call.resource.split(":table/")[-1].partition("/")[0]
    context = {"via": f"{service}.{REGION}.amazonaws.com", CONTEXTS.get(service, "").replace(":", "__"): name}
    return [key_call(call.role, use.removeprefix("kms:"), **context) for use in KEY_USES.get(call.action, ())]


def judged(calls: list[Call], policies: dict[str, Any], key_policy: dict[str, Any] = POLICY) -> dict[Call, str]:
    return evaluate(calls, {"any": ANYTHING, **policies}, {KEY: key_policy})


@pytest.fixture
def policies(account: Account) -> dict[str, Any]:  # noqa: F811
    """Return the roles' policies in a stack with a key."""
    return role_policies(translate(template_source(), OWN_KEY), attributes(account))


@pytest.fixture
def key_calls(account: Account, needed: list[Call]) -> list[Call]:  # noqa: F811
    """Return all calls of the key, with those for the streams that the publisher's round leaves out."""
    via = f"dynamodb.{REGION}.amazonaws.com"
    tables = [account.attributes[name]["Ref"] for name in ("MessagesTable", "OptOutTable")]
    others = [key_call("PublishEventsRole", "Decrypt", via=via, aws__dynamodb__tableName=table) for table in tables]
    return list(dict.fromkeys([*(use for call in needed for use in uses(call)), *others]))


def test_each_role_may_use_the_key_for_all_that_it_calls(policies: dict[str, Any], key_calls: list[Call]) -> None:
    found = judged(key_calls, policies)
    assert {call: result for call, result in found.items() if result != ALLOWED} == {}
    assert {call.role for call in key_calls} == set(policies)


def test_no_role_may_use_the_key_itself_or_for_what_it_does_not_call(
    policies: dict[str, Any], key_calls: list[Call]
) -> None:
    others = {
        other
        for call in key_calls
        for other in (
            replace(call, context=call.context[1:]),
            replace(call, context=call.context[:1]),
            replace(call, context=(("kms:ViaService", (f"s3.{REGION}.amazonaws.com",)), *call.context[1:])),
            replace(call, context=(*call.context[:1], (call.context[1][0], (f"{call.context[1][1][0]}-of-others",)))),
            *(replace(call, action=f"kms:{name}") for name in ("CreateGrant", "Encrypt", "ScheduleKeyDeletion")),
            *(replace(call, context=other.context) for other in key_calls),
            replace(call, resource=KEY[:-1] + "e"),
        )
    } - set(key_calls)
    found = judged(sorted(others, key=str), policies)
    assert {call: result for call, result in found.items() if result not in DENIED} == {}


def service_call(service: str, action: str, **context: str) -> Call:
    return key_call("any", action, principal=f"{service}.amazonaws.com", **context)


LOGS: Final = {"aws__logs__arn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{STACK_NAME}-SendMessageLogGroup-1A2B"}
BESIDE_ROLES: Final[dict[str, list[Call]]] = {
    "EncryptLogs": [service_call(f"logs.{REGION}", name, **LOGS) for name in ("Encrypt", "Decrypt", "GenerateDataKey")],
    "LetEventBridgeFindTheKey": [service_call("events", "DescribeKey")],
    "EncryptEvents": [
        service_call("events", name, **{"aws__events__event-bus__arn": BUS}) for name in ("GenerateDataKey", "Decrypt")
    ],
    "LetAlarmsReachTheTopic": [
        service_call("cloudwatch", name, aws__sns__topicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:{STACK_NAME}-AlarmTopic-1")
        for name in ("GenerateDataKey", "Decrypt")
    ],
    "LetTopicsAndRulesQueue": [
        service_call(service, name, source=source, aws__sqs__arn=QUEUE)
        for service, source in (("sns", TOPIC), ("events", RULE))
        for name in ("GenerateDataKey", "Decrypt")
    ],
    "LetOtherAccountsQueue": [
        key_call("any", name, principal=OTHER_ACCOUNT, via=f"sqs.{REGION}.amazonaws.com", aws__sqs__arn=QUEUE)
        for name in ("GenerateDataKey", "Decrypt")
    ],
}
STRANGERS: Final = [
    key_call("any", "Decrypt", principal=OTHER_ACCOUNT),
    key_call("any", "Decrypt", principal="arn:aws:iam::999900001111:role/any", via=f"sqs.{REGION}.amazonaws.com"),
    service_call(
        f"logs.{REGION}", "Decrypt", aws__logs__arn=f"arn:aws:logs:{REGION}:999900001111:log-group:optus-sms-1"
    ),
    service_call("events", "Decrypt", **{"aws__events__event-bus__arn": f"{BUS}-of-others"}),
    service_call("cloudwatch", "Decrypt", aws__sns__topicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:others"),
    service_call("sns", "GenerateDataKey", source=f"{TOPIC}-of-others", aws__sqs__arn=QUEUE),
    service_call("events", "GenerateDataKey", source=RULE, aws__sqs__arn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:others"),
    service_call("s3", "Decrypt"),
]


def test_each_statement_lets_in_its_own_and_is_needed(policies: dict[str, Any], key_calls: list[Call]) -> None:
    """Without a statement exactly its calls are denied."""
    who = {"LetIamPoliciesOfThisAccountDecide": key_calls, **BESIDE_ROLES}
    assert [statement["Sid"] for statement in POLICY["Statement"]] == list(who)
    for sid in [None, *who]:
        kept = {**POLICY, "Statement": [s for s in POLICY["Statement"] if s["Sid"] != sid]}
        found = judged([call for calls in who.values() for call in calls], policies, kept)
        denied = {call for call, result in found.items() if result != ALLOWED}
        assert denied == set(who[sid] if sid else []), sid


def test_the_key_policy_lets_in_nobody_else() -> None:
    found = judged(STRANGERS, {})
    assert {call: result for call, result in found.items() if result not in DENIED} == {}


def test_senders_of_this_account_may_use_the_key_by_their_policy_for_the_queue_only() -> None:
    template = translate(template_source(), OWN_KEY)
    urgent = f"{QUEUE}-urgent"
    known = {"OutboundQueue": {"Ref": "outbound", "Arn": QUEUE}, "UrgentQueue": {"Ref": "urgent", "Arn": urgent}}
    own = template.resolve(template.resources["SenderPolicy"].properties["PolicyDocument"], known)
    via = {"via": f"sqs.{REGION}.amazonaws.com"}
    allowed = [
        key_call("sender", name, **via, aws__sqs__arn=queue)
        for name in ("GenerateDataKey", "Decrypt")
        for queue in (QUEUE, urgent)
    ]
    denied = [key_call("sender", "Decrypt"), key_call("sender", "Decrypt", **via, aws__sqs__arn=f"{QUEUE}-of-others")]
    found = judged([*allowed, *denied], {"sender": own})
    assert [found[call] for call in allowed] == [ALLOWED] * len(allowed)
    assert {found[call] for call in denied} <= DENIED


@pytest.mark.parametrize("role", ["SendMessageRole", "CheckHealthRole", "ReconcileMessagesRole"])
def test_a_secret_of_another_account_under_its_own_key_can_be_read_and_nothing_else(role: str) -> None:
    template = translate(template_source(), ALL_CHOSEN)
    policies = role_policies(template, {name: Anything() for name in template.resources})
    via = {"key": SECRET_KEY, "via": f"secretsmanager.{REGION}.amazonaws.com"}
    right = key_call(role, "Decrypt", **via, SecretARN=SECRET)
    wrong = [
        key_call(role, "Decrypt", key=SECRET_KEY),
        key_call(role, "Decrypt", **via, SecretARN=f"{SECRET}-of-others"),
        key_call(role, "GenerateDataKey", **via, SecretARN=SECRET),
        key_call("ReceiveCallbackRole", "Decrypt", **via, SecretARN=SECRET),
    ]
    document = {"Version": "2012-10-17", "Statement": [SECRET_STATEMENT]}
    found = evaluate([right, *wrong], policies, {SECRET_KEY: document})
    assert found[right] == ALLOWED
    assert {found[call] for call in wrong} <= DENIED
    assert evaluate([right], policies, {})[right] in DENIED
