"""Permissions to queue messages, by an IAM evaluator: exactly the needed actions, only for the chosen principals."""

from __future__ import annotations

from typing import Any, Final

import pytest

from local.template import translate
from tests.contract.test_template import ALL_CHOSEN
from tests.support.aws import REGION, template_source
from tests.support.builders import ACCOUNT
from tests.support.iam_evaluator import ALLOWED, DENIED, Call, evaluate, needs_iam_evaluator

pytestmark = needs_iam_evaluator

QUEUE: Final = f"arn:aws:sqs:{REGION}:{ACCOUNT}:outbound"
DEAD_LETTERS: Final = f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead-letters"
URGENT: Final = f"arn:aws:sqs:{REGION}:{ACCOUNT}:urgent"
KNOWN: Final = {
    "OutboundQueue": {"Ref": "outbound", "Arn": QUEUE},
    "UrgentQueue": {"Ref": "urgent", "Arn": URGENT},
    "DeadLetterQueue": {"Ref": "dead-letters", "Arn": DEAD_LETTERS},
}
ANYTHING: Final = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}
"""The permission in the sender's own account, which alone is never enough across accounts."""
ACCOUNT_WIDE: Final = "arn:aws:iam::210987654321:role/any"
ONE_ROLE: Final = "arn:aws:iam::210987654322:role/reminders/sender"
STRANGER: Final = "arn:aws:iam::210987654323:role/any"
ORGANIZATION: Final = "o-a1b2c3d4e5"
TOPIC: Final = "arn:aws:sns:ap-southeast-2:210987654321:codes"
RULE: Final = "arn:aws:events:us-east-1:123456789012:rule/booked"


def judged(calls: list[Call], parameters: dict[str, str]) -> list[str]:
    template = translate(template_source(), parameters)
    policies: dict[str, Any] = {}
    for name, queue in (
        ("OutboundQueuePolicy", QUEUE),
        ("UrgentQueuePolicy", URGENT),
        ("DeadLetterQueuePolicy", DEAD_LETTERS),
    ):
        policies[queue] = template.resolve(template.resources[name].properties["PolicyDocument"], KNOWN)
    own = template.resolve(template.resources["SenderPolicy"].properties["PolicyDocument"], KNOWN)
    found = evaluate(calls, {"with SenderPolicy": own, "of another account": ANYTHING, "service": ANYTHING}, policies)
    return [found[call] for call in calls]


def by_role(principal: str, action: str = "SendMessage", resource: str = QUEUE, **more: Any) -> Call:
    context = (("aws:PrincipalOrgID", (more.pop("organization"),)),) if "organization" in more else ()
    return Call("of another account", f"sqs:{action}", resource, context, principal=principal, **more)


def by_service(service: str, source: str, action: str = "SendMessage") -> Call:
    context = (("aws:SourceArn", (source,)),)
    return Call("service", f"sqs:{action}", QUEUE, context, principal=f"{service}.amazonaws.com")


INVITED: Final = [
    by_role(ACCOUNT_WIDE),
    by_role(ACCOUNT_WIDE, "GetQueueUrl"),
    by_role(ACCOUNT_WIDE, resource=URGENT),
    by_role(ACCOUNT_WIDE, "GetQueueUrl", resource=URGENT),
    by_role(ONE_ROLE),
    by_role(STRANGER, organization=ORGANIZATION),
    by_service("sns", TOPIC),
    by_service("events", RULE),
]
OTHERS: Final = [
    by_role(STRANGER),
    by_role(STRANGER, organization="o-zzzzzzzzzz"),
    by_role("arn:aws:iam::210987654322:role/reminders/another"),
    *(
        by_role(ACCOUNT_WIDE, action)
        for action in ("ReceiveMessage", "DeleteMessage", "PurgeQueue", "SetQueueAttributes")
    ),
    by_role(STRANGER, resource=URGENT),
    by_role(ACCOUNT_WIDE, "ReceiveMessage", resource=URGENT),
    by_role(ACCOUNT_WIDE, resource=DEAD_LETTERS),
    by_role(ACCOUNT_WIDE, tls=False),
    by_service("sns", "arn:aws:sns:ap-southeast-2:210987654329:codes"),
    by_service("sns", f"{TOPIC}-of-others"),
    by_service("events", "arn:aws:events:us-east-1:210987654321:rule/booked"),
    by_service("s3", TOPIC),
    by_service("sns", TOPIC, "ReceiveMessage"),
]


def test_the_invited_may_queue() -> None:
    assert dict(zip(INVITED, judged(INVITED, ALL_CHOSEN), strict=True)) == dict.fromkeys(INVITED, ALLOWED)


def test_nobody_else_may_and_the_invited_may_nothing_else() -> None:
    found = dict(zip(OTHERS, judged(OTHERS, ALL_CHOSEN), strict=True))
    assert {call: result for call, result in found.items() if result not in DENIED} == {}


def test_without_an_invitation_no_other_account_and_no_service_may_queue() -> None:
    assert set(judged(INVITED, {})) <= DENIED


@pytest.mark.parametrize("parameters", [{}, ALL_CHOSEN], ids=["defaults", "all-chosen"])
def test_a_role_with_the_policy_for_senders_may_queue_and_nothing_else(parameters: dict[str, str]) -> None:
    own = [
        Call("with SenderPolicy", f"sqs:{action}", queue)
        for action in ("SendMessage", "GetQueueUrl")
        for queue in (QUEUE, URGENT)
    ]
    assert judged(own, parameters) == [ALLOWED] * len(own)
    beside = [
        Call("with SenderPolicy", "sqs:ReceiveMessage", QUEUE),
        Call("with SenderPolicy", "sqs:SendMessage", DEAD_LETTERS),
        Call("with SenderPolicy", "sqs:SendMessage", QUEUE, tls=False),
    ]
    assert set(judged(beside, parameters)) <= DENIED
