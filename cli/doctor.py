"""Check whether a stack is fit to send. Each check has a finding and, if it fails, a remedy.

No message is sent, and nothing is written but the refused callbacks in the metrics.
"""

import base64
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final, Literal, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from cli.callback_secret import callback_secret
from cli.errors import CliError, from_aws
from cli.health import health_of, queue_counts
from cli.output import counted
from cli.target import Target
from optus_sms.flows.check_health import judge_credentials
from optus_sms.flows.pausing import Admission
from optus_sms.gateway.api import Gateway
from optus_sms.gateway.credentials import GatewayCredentials, GatewaySecret
from optus_sms.gateway.transport import Transport
from optus_sms.model.errors import CredentialsError
from optus_sms.model.times import time_or_none
from optus_sms.records.items import Health, State

Result = Literal["ok", "warning", "failed", "skipped"]
_SECONDS: Final = 10.0
_CHECKED_LATELY_SECONDS: Final = 600
_WRONG_BASIC: Final = "Basic " + base64.b64encode(b"doctor:wrong on purpose").decode()


class Check(NamedTuple):
    """One finding."""

    result: Result
    finding: str
    remedy: str = ""


def examine(target: Target) -> Iterator[tuple[str, Check]]:
    """Yield each check with its name; one that can't be made has failed, and stops none of the others."""
    with closing(Transport()) as transport:
        checks: dict[str, Callable[[], Check]] = {
            "gateway secret": lambda: _secret(target),
            "callback secret": lambda: _callback_secret(target),
            "gateway": lambda: _gateway(target),
            "credentials": lambda: _credentials(target),
            "status callbacks": lambda: _callbacks(target, transport, "StatusCallbackUrl"),
            "reply callbacks": lambda: _callbacks(target, transport, "ReplyCallbackUrl"),
            "health check": lambda: _health_check(target),
            "sending": lambda: _sending(target),
            "alarms": lambda: _alarms(target),
            "dead letters": lambda: _dead_letters(target),
            "unknown outcomes": lambda: _unknown(target),
        }
        for name, check in checks.items():
            yield name, _tried(check, local=target.local)


def _tried(check: Callable[[], Check], *, local: bool) -> Check:
    try:
        return check()
    except CliError as error:
        return Check("failed", error.problem, error.next_step)
    except (BotoCoreError, ClientError) as error:
        found = from_aws(error, local=local)
        return Check("failed", found.problem, found.next_step)


def _gateway_secret(target: Target) -> GatewaySecret:
    return GatewaySecret(target.secrets, target.outputs["GatewaySecretArn"])


def _read_secret(target: Target) -> GatewayCredentials:
    return _gateway_secret(target).current()


def _secret(target: Target) -> Check:
    try:
        _read_secret(target)
    except CredentialsError as error:
        return Check("failed", str(error), "optus-sms set-gateway-credentials")
    return Check("ok", "has an application and a password")


def _callback_secret(target: Target) -> Check:
    callback_secret(target)
    return Check("ok", "has a user name and a password")


@contextmanager
def _gateway_of(target: Target) -> Iterator[Gateway]:
    url = target.settings.get("GatewayBaseUrl") or target.settings.get("GATEWAY_BASE_URL") or ""
    with closing(Transport(authority=_gateway_secret(target))) as transport:
        yield Gateway(transport, url.rstrip("/"), timeout_seconds=_SECONDS, now=time.time)


def _gateway(target: Target) -> Check:
    with _gateway_of(target) as gateway:
        response = gateway.get_health()
    if response.status == 200:
        return Check("ok", "responds to GET /healthz from here")
    if response.status == 404:
        return Check("ok", "responds from here; it does not offer /healthz")
    finding = f"HTTP {response.status}" if response.status else f"can't be reached from here: {response.failure}"
    remedy = "Check GatewayBaseUrl and this machine's network. The stack's own network counts, see health check."
    return Check("failed", finding, remedy)


def _credentials(target: Target) -> Check:
    try:
        credentials = _read_secret(target)
    except CredentialsError:
        return Check("skipped", "the secret has no credentials")
    with _gateway_of(target) as gateway:
        response = gateway.get_message(str(uuid.uuid4()), credentials)
    match judge_credentials(response):
        case Admission.ACCEPTED:
            return Check("ok", "the gateway accepts them (GET of a message that does not exist)")
        case Admission.REFUSED:
            remedy = (
                "Compare them with the portal (API configuration, REST v2). If they are right, the gateway may "
                "allow-list only the stack's addresses; then the health check below counts."
            )
            return Check("failed", f"the gateway refuses them from here (HTTP {response.status})", remedy)
        case Admission.REFUSED_IN_FRONT:
            remedy = "Allow this machine's address, or rely on the stack's own health check below."
            return Check("warning", f"a proxy or firewall in front refuses from here (HTTP {response.status})", remedy)
        case Admission.UNKNOWN:
            remedy = "Send one message to your own handset: send +61… Test --follow"
            return Check("warning", f"the response does not show it (HTTP {response.status})", remedy)


def _callbacks(target: Target, transport: Transport, output: str) -> Check:
    url = target.outputs[output]
    without = transport.exchange("POST", url, body=b"{}", seconds=_SECONDS)
    headers = {"Authorization": _WRONG_BASIC}
    wrong = transport.exchange("POST", url, headers=headers, body=b"{}", seconds=_SECONDS)
    if without.status is None:
        remedy = "Check that the stack's CallbackApi has a stage v1, and that this machine may call it."
        return Check("failed", f"can't be reached: {without.failure}", remedy)
    if (without.status, wrong.status) == (401, 401):
        return Check("ok", "reachable; refuses missing and wrong credentials")
    finding = f"returns HTTP {without.status} without and {wrong.status} with wrong credentials; both must be 401"
    return Check("failed", finding, "Read ReceiveCallbackFunction's log; 503 means that it can't read CallbackSecret.")


def _health_check(target: Target) -> Check:
    found = target.health.read()
    if not found.checked_at:
        remedy = "Wait two minutes; then check CheckHealthFunction's log and its rule."
        return Check("failed", "the stack has never checked the gateway", remedy)
    if time.time() - (time_or_none(found.checked_at) or 0.0) > _CHECKED_LATELY_SECONDS:
        remedy = "Check CheckHealthFunction's log and its rule."
        return Check("failed", f"the last check was at {found.checked_at}", remedy)
    if found.credentials == "refused":
        remedy = "optus-sms set-gateway-credentials; the stack checks them within a minute."
        return Check("failed", "the gateway refuses the stack's credentials", remedy)
    finding = f"the stack finds the gateway {found.state} ({found.reason})"
    if found.state is Health.HEALTHY:
        return Check("ok", finding)
    return Check("warning", finding, "docs/runbook.md, Gateway health")


def _sending(target: Target) -> Check:
    found = health_of(target)
    by = f", by {found['paused_by']}" if found["paused_by"] else ""
    finding = f"{found['sending']}{by}; {found['waiting']} waiting in the queue"
    if found["sending"] == "on":
        return Check("ok", finding)
    return Check("warning", finding, "`resume`, unless the pause is intended")


def _alarms(target: Target) -> Check:
    if target.local:
        return Check("skipped", "a local stack has none")
    names = _alarm_names(target)
    client = target.client("cloudwatch")
    kinds = ["MetricAlarm", "CompositeAlarm"]
    pages = client.get_paginator("describe_alarms").paginate(AlarmNames=names, AlarmTypes=kinds) if names else ()
    alarms = [alarm for page in pages for kind in ("MetricAlarms", "CompositeAlarms") for alarm in page.get(kind, ())]
    if not alarms:
        return Check("failed", "there are none", "Deploy the current version with `sam deploy`.")
    gone = sorted(set(names) - {alarm["AlarmName"] for alarm in alarms})
    if gone:
        remedy = "They were deleted, which CloudFormation does not notice: deploy a change to each to create it again."
        return Check("failed", f"gone: {', '.join(gone)}", remedy)
    disarmed = [alarm["AlarmName"] for alarm in alarms if not alarm["ActionsEnabled"]]
    if disarmed:
        remedy = "aws cloudwatch enable-alarm-actions --alarm-names …"
        return Check("failed", f"switched off: {', '.join(disarmed)}", remedy)
    ringing = [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"]
    if ringing:
        return Check("warning", f"ringing now: {', '.join(ringing)}", "docs/runbook.md has a section for each")
    return _subscription(target, f"{counted(len(alarms), 'alarm')} armed, and")


def _subscription(target: Target, armed: str) -> Check:
    """Check that an address receives the alarms."""
    topic = target.physical_id("AlarmTopic")
    if topic is None:
        remedy = "Deploy with AlarmEmail, or add actions of your own to the alarms."
        return Check("warning", f"{armed} no address receives them: AlarmEmail is empty", remedy)
    subscriptions = target.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    if not any(subscription["SubscriptionArn"].startswith("arn:") for subscription in subscriptions):
        remedy = "Click the link in AWS's mail to AlarmEmail; it may be in a spam folder."
        return Check("failed", f"{armed} the address is not confirmed", remedy)
    return Check("ok", f"{armed} an address receives them")


def _alarm_names(target: Target) -> list[str]:
    pages = target.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=target.name)
    resources = [resource for page in pages for resource in page["StackResourceSummaries"]]
    return [
        r["PhysicalResourceId"]
        for r in resources
        if r["ResourceType"].startswith("AWS::CloudWatch::") and "Alarm" in r["ResourceType"]
    ]


def _dead_letters(target: Target) -> Check:
    count = queue_counts(target, "DeadLetterQueueUrl")["waiting"]
    if count:
        return Check("warning", f"about {counted(count, 'dead letter')}", "`dead-letters`, then `redrive --plan`")
    return Check("ok", "none")


def _unknown(target: Target) -> Check:
    count = target.ledger.count_undecided(State.UNKNOWN)
    if count:
        return Check("warning", f"{count} not resolved", "`list --unknown`; callbacks resolve most, `resolve` the rest")
    return Check("ok", "none")
