"""Check whether a stack is fit to send. Each check has a finding and, if it fails, a remedy.

No message is sent, and nothing is written except metrics of refused callbacks.
"""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from typing import Any, Final, Literal, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from cli.callback_secret import callback_secret
from cli.credentials_trial import CredentialsTrial, gateway_of, gateway_secret, trial_of_stack, try_from_here
from cli.errors import CliError, from_aws
from cli.health import queue_counts, sending_of
from cli.output import counted
from cli.sending import is_checked_lately, is_paused_by_health_check
from cli.target import QUEUES, Target
from optus_sms.flows.pausing import Admission
from optus_sms.gateway.transport import Transport
from optus_sms.model.errors import CredentialsError
from optus_sms.records.items import Health, HealthRecord, PauseReason, State

Result = Literal["ok", "warning", "failed", "skipped"]
_SECONDS: Final = 10.0
_UNDECIDED_SECONDS: Final = 3600  # a new alarm has no data for some minutes
_REMEDIES: Final = {
    PauseReason.OUTAGE: "Nothing, while the gateway is down: docs/runbook.md, Gateway health",
    PauseReason.CREDENTIALS_REFUSED: "optus-sms set-gateway-credentials",
    PauseReason.OUTCOMES_UNKNOWN: "docs/runbook.md, Unknown outcomes",
}
_WRONG_BASIC: Final = "Basic " + base64.b64encode(b"doctor:wrong on purpose").decode()


class Check(NamedTuple):
    """One finding."""

    result: Result
    finding: str
    remedy: str = ""


def examine(target: Target) -> Iterator[tuple[str, Check]]:
    """Yield each check with its name. A check that can't be made has failed, and the others continue."""
    trial = cache(lambda: try_from_here(target, seconds=_SECONDS))
    with closing(Transport()) as transport:
        checks: dict[str, Callable[[], Check]] = {
            "gateway secret": lambda: _secret(target),
            "callback secret": lambda: _callback_secret(target),
            "gateway": lambda: _gateway(target),
            "credentials": lambda: _credentials(trial()),
            "status callbacks": lambda: _callbacks(target, transport, "StatusCallbackUrl"),
            "reply callbacks": lambda: _callbacks(target, transport, "ReplyCallbackUrl"),
            "health check": lambda: _health_check(target, trial()),
            "sending": lambda: _sending(target),
            "events": lambda: _events(target),
            "alarms": lambda: _alarms(target),
            "access log": lambda: _access_log(target),
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


def _secret(target: Target) -> Check:
    try:
        gateway_secret(target).current()
    except CredentialsError as error:
        return Check("failed", str(error), "optus-sms set-gateway-credentials")
    return Check("ok", "has an application and a password")


def _callback_secret(target: Target) -> Check:
    callback_secret(target)
    return Check("ok", "has a user name and a password")


def _gateway(target: Target) -> Check:
    with gateway_of(target, seconds=_SECONDS) as gateway:
        response = gateway.get_health()
    if response.status == 200:
        return Check("ok", "responds to GET /healthz from here")
    if response.status == 404:
        return Check("ok", "responds from here; it does not offer /healthz")
    finding = f"HTTP {response.status}" if response.status else f"can't be reached from here: {response.failure}"
    remedy = (
        "Check GatewayBaseUrl and this machine's network. The health check below shows whether the stack reaches it."
    )
    return Check("failed", finding, remedy)


def _credentials(trial: CredentialsTrial) -> Check:
    if not trial.version:
        return Check("skipped", trial.problem)
    match trial.admission:
        case Admission.ACCEPTED:
            return Check("ok", f"{trial} (GET of a message that does not exist)")
        case Admission.REFUSED:
            remedy = (
                "Compare them with the portal (API configuration, REST v2). If they are right, the gateway may "
                "allow-list only the stack's addresses; then see the health check below."
            )
            return Check("failed", str(trial), remedy)
        case Admission.REFUSED_IN_FRONT:
            remedy = "Allow this machine's address, or rely on the stack's own health check below."
            return Check("warning", f"{trial}: by a proxy or firewall", remedy)
    remedy = "Send one message to your own handset: send +61… Test --follow"
    return Check("warning", f"{trial}; the response proves neither acceptance nor refusal", remedy)


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
    if (without.status, wrong.status) == (403, 403):
        remedy = "Run it from an address in CallbackSourceCidrs, or post a test callback there (docs/callbacks.md)."
        return Check("warning", "the API's policy or its web ACL refuses this machine", remedy)
    finding = f"returns HTTP {without.status} without credentials and {wrong.status} with wrong ones; both must be 401"
    return Check("failed", finding, "Read ReceiveCallbackFunction's log; 503 means that it can't read CallbackSecret.")


def _health_check(target: Target, here: CredentialsTrial) -> Check:
    found = target.health.read()
    if not found.checked_at:
        remedy = "Wait two minutes; then check CheckHealthFunction's log and its rule."
        return Check("failed", "the stack has never checked the gateway", remedy)
    if not is_checked_lately(found, now=time.time()):
        remedy = "Check CheckHealthFunction's log and its rule."
        return Check("failed", f"the last check was at {found.checked_at}", remedy)
    trial = trial_of_stack(found)
    if trial.admission == Admission.REFUSED:
        remedy = "optus-sms set-gateway-credentials; the stack tries them within a minute."
        return Check("failed", f"the gateway refuses the stack's credentials: {trial}", remedy)
    finding = f"the stack finds the gateway {found.state} ({found.reason}), the credentials {trial}"
    if here.version not in ("", trial.version):
        finding += f"; not tried: version {here.version}, which is current"
    if found.state is Health.HEALTHY:
        return Check("ok", finding)
    return Check("warning", finding, "docs/runbook.md, Gateway health")


def _sending(target: Target) -> Check:
    record = target.health.read()
    found = sending_of(target, record)
    waiting, urgent = (queue_counts(target, output)["waiting"] for output in QUEUES.values())
    finding = f"{found['pause'] or found['sending']}; {waiting} waiting in the queue, {urgent} in the urgent one"
    if found["sending"] == "on" and found["paused_lanes"]:
        return Check("warning", finding, "`resume`, unless the pause is intended")
    if found["sending"] == "on":
        return _sending_on(record, finding)
    if not is_paused_by_health_check(record):
        return Check("warning", finding, "`resume`, unless the pause is intended")
    if not is_checked_lately(record, now=time.time()):
        return Check("warning", finding, "docs/runbook.md, No health checks")
    return Check("warning", finding, _REMEDIES[record.pause.reason] if record.pause and record.pause.reason else "")


def _sending_on(record: HealthRecord, finding: str) -> Check:
    """Check that sending is not on despite a recorded pause, which the next health check would take for a resume."""
    if record.pause and record.pause.reason is None and record.pause.confirmed:
        remedy = "`pause` again, unless it was on purpose: an update of the stack can enable the mapping."
        return Check("warning", f"{finding}; it was paused by an operator at {record.pause.at}", remedy)
    return Check("ok", finding)


def _events(target: Target) -> Check:
    """Check that changes of the tables can reach the bus: its policy refuses only callers without TLS."""
    if count := queue_counts(target, "UnpublishedEventsQueueUrl")["waiting"]:
        finding = f"about {counted(count, 'change')} could not be published"
        return Check("failed", finding, "docs/runbook.md, Unpublished events")
    if target.local:
        return Check("ok", "no change is left unpublished")
    client = target.client("lambda")
    for stream in ("LedgerChanges", "MessageChanges", "OptOutChanges"):
        mapping_id = target.physical_id(f"PublishEventsFunction{stream}")  # SAM's name for the function's event
        if mapping_id is None:
            return Check("failed", f"no mapping {stream}", "Deploy the current version with `sam deploy`.")
        mapping = client.get_event_source_mapping(UUID=mapping_id)
        result = mapping.get("LastProcessingResult", "")
        if mapping["State"].startswith("Disabl") or result.startswith("PROBLEM"):
            finding = f"the mapping {stream} is {mapping['State']}, its last result {result or 'unknown'}"
            return Check("failed", finding, "Read PublishEventsFunction's log.")
    return Check("ok", "the changes of all tables are published")


def _access_log(target: Target) -> Check:
    """Check the role by which API Gateway writes logs, a setting of the account in each region."""
    if target.local:
        return Check("skipped", "a local stack has none")
    role = target.client("apigateway").get_account().get("cloudwatchRoleArn")
    if not role:
        remedy = "Deploy with ApiGatewayLogRole=create."
        return Check("failed", "API Gateway has no role for logs in this region, so callbacks leave none", remedy)
    return Check("ok", f"API Gateway writes it as {role.rpartition('/')[2]}")


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
    return _fault_of(alarms) or _receiver(target, alarms)


class _Fault(NamedTuple):
    """A fault that an alarm can have."""

    result: Result
    finding: str
    remedy: str
    has_it: Callable[[dict[str, Any]], bool]


def _fault_of(alarms: list[dict[str, Any]]) -> Check | None:
    """Return the worst fault of the alarms that exist; None if there is none."""
    faults = (
        _Fault(
            "failed",
            "actions disabled",
            "aws cloudwatch enable-alarm-actions --alarm-names …",
            lambda alarm: not alarm["ActionsEnabled"],
        ),
        _Fault(
            "failed",
            "not evaluated",
            "aws cloudwatch describe-alarms --alarm-names … shows the reason (StateReason).",
            lambda alarm: alarm.get("EvaluationState", "").startswith("EVALUATION_"),
        ),
        _Fault(
            "warning",
            "in ALARM",
            "docs/runbook.md has a section for each",
            lambda alarm: alarm["StateValue"] == "ALARM",
        ),
        _Fault("warning", "without data for an hour", "docs/deploy.md, What only AWS can show", _is_without_data),
    )
    for fault in faults:
        if names := [alarm["AlarmName"] for alarm in alarms if fault.has_it(alarm)]:
            return Check(fault.result, f"{fault.finding}: {', '.join(names)}", fault.remedy)
    return None


def _is_without_data(alarm: dict[str, Any]) -> bool:
    return bool(
        alarm["StateValue"] == "INSUFFICIENT_DATA"
        and time.time() - alarm["StateUpdatedTimestamp"].timestamp() > _UNDECIDED_SECONDS
    )


def _receiver(target: Target, alarms: list[dict[str, Any]]) -> Check:
    """Check that an address, or a topic from elsewhere (AlarmTopicArn), receives the alarms."""
    enabled = f"{counted(len(alarms), 'alarm')} enabled, and"
    topic = target.physical_id("AlarmTopic")
    if topic is None and all(alarm.get("AlarmActions") for alarm in alarms):
        return Check("ok", f"{enabled} an existing topic receives them")
    if topic is None:
        remedy = "Deploy with AlarmEmail or AlarmTopicArn, or add actions of your own to the alarms."
        return Check("warning", f"{enabled} no address receives them: AlarmEmail and AlarmTopicArn are empty", remedy)
    subscriptions = target.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    if not any(subscription["SubscriptionArn"].startswith("arn:") for subscription in subscriptions):
        remedy = "Click the link in AWS's mail to AlarmEmail; it may be in a spam folder."
        return Check("failed", f"{enabled} the address is not confirmed", remedy)
    return Check("ok", f"{enabled} an address receives them")


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
        return Check("warning", f"about {counted(count, 'dead letter')}", "`dead-letters`, then `redrive`")
    return Check("ok", "none")


def _unknown(target: Target) -> Check:
    count = target.ledger.count_undecided(State.UNKNOWN)
    if count:
        return Check("warning", f"{count} not resolved", "`list --unknown`; callbacks resolve most, `resolve` the rest")
    return Check("ok", "none")
