"""The queue's valve, the gateway's health as the stack itself sees it, and the callback password."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

from botocore.exceptions import ClientError

from cli.errors import CliError, Exit
from optus_sms.aws.queue_switch import EventSourceSwitch
from optus_sms.records.health import HEALTH_KEY, DynamoHealthStore, HealthRecord

if TYPE_CHECKING:
    from cli.target import Target

_MAPPING: Final = "SendMessageFunctionOutboundMessages"  # SAM's name for the event of that function
_PASSWORD_LENGTH: Final = 40
_LATELY: Final = timedelta(days=1)
_WAITING: Final = {
    "waiting": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}


@dataclass(frozen=True, slots=True)
class HealthReport:
    """``sending``: on, paused or changing; ``paused_by``: an operator, or the health check with its reason."""

    state: str
    reason: str
    since: str
    checked_at: str
    credentials: str
    sending: str
    paused_by: str
    waiting: int
    in_flight: int
    delayed: int
    dead_letters: int


def pause_sending(target: Target) -> None:
    """Shut the valve, and make the pause an operator's, which the health check never ends."""
    _valve(target).turn(open_=False)
    _forget_own_pause(target)


def resume_sending(target: Target) -> None:
    """Open the valve; the health check notices that an operator did."""
    _valve(target).turn(open_=True)


def sending_state(target: Target) -> str:
    """On, paused, or changing."""
    is_open = _valve(target).is_open()
    return "changing" if is_open is None else "on" if is_open else "paused"


def health_record(target: Target) -> HealthRecord:
    """The gateway's health as the stack itself sees it."""
    return DynamoHealthStore(target.dynamodb, target.outputs["SendLedgerTableName"]).read()


def health_of(target: Target) -> HealthReport:
    """Everything at a glance."""
    record = health_record(target)
    sending = sending_state(target)
    by = f"the health check ({record.pause.reason.value}) at {record.pause.at}" if record.pause else "an operator"
    return HealthReport(
        state=record.state.value,
        reason=record.reason,
        since=record.since,
        checked_at=record.checked_at,
        credentials=record.credentials,
        sending=sending,
        paused_by=by if sending == "paused" else "",
        dead_letters=queue_counts(target, target.outputs["DeadLetterQueueUrl"])["waiting"],
        **queue_counts(target, target.outputs["OutboundQueueUrl"]),
    )


def rotated_lately(target: Target) -> bool:
    """Whether there is a previous version that may be what the portal has, because it changed within a day."""
    described: Any = target.secrets.describe_secret(SecretId=target.outputs["CallbackSecretArn"])
    stages = {stage for names in described.get("VersionIdsToStages", {}).values() for stage in names}
    changed = described.get("LastChangedDate")
    return "AWSPREVIOUS" in stages and changed is not None and datetime.now(UTC) - changed < _LATELY


def rotate(target: Target) -> None:
    """A new password in the callback secret; the version before it still counts."""
    password = target.secrets.get_random_password(PasswordLength=_PASSWORD_LENGTH, ExcludePunctuation=True)
    fields = callback_secret(target) | {"password": password["RandomPassword"]}
    target.secrets.put_secret_value(SecretId=target.outputs["CallbackSecretArn"], SecretString=json.dumps(fields))


def callback_urls(target: Target) -> dict[str, str]:
    """The two URLs for the portal, user name and password in them."""
    fields = callback_secret(target)
    credentials = f"{quote(fields['username'], safe='')}:{quote(fields['password'], safe='')}@"
    return {
        name: target.outputs[output].replace("://", f"://{credentials}", 1)
        for name, output in (("status", "StatusCallbackUrl"), ("reply", "ReplyCallbackUrl"))
    }


def callback_secret(target: Target) -> dict[str, str]:
    """User name and password that the gateway calls back with."""
    answer = target.secrets.get_secret_value(SecretId=target.outputs["CallbackSecretArn"])
    try:
        fields = json.loads(answer.get("SecretString", ""))
    except ValueError:
        fields = None
    texts = fields if isinstance(fields, dict) else {}
    found = {name: texts.get(name) for name in ("username", "password")}
    if not all(isinstance(text, str) and text for text in found.values()):
        raise CliError(
            "CallbackSecret has no username or no password.",
            'Put {"username": "…", "password": "…"} into it (aws secretsmanager put-secret-value), then the URLs of\n'
            "`callback-urls` into the portal.",
        )
    return cast("dict[str, str]", found)


def _valve(target: Target) -> EventSourceSwitch:
    mapping = target.settings.get("SENDER_MAPPING_ID") if target.local else target.physical_id(_MAPPING)
    if not mapping:
        raise CliError(
            "This stack has no mapping between queue and sender.", "Deploy the current version.", Exit.NO_TARGET
        )
    return EventSourceSwitch(target.lambda_, mapping)


def _forget_own_pause(target: Target) -> None:
    try:
        target.dynamodb.update_item(
            TableName=target.outputs["SendLedgerTableName"],
            Key={"pk": {"S": HEALTH_KEY}},
            UpdateExpression="REMOVE paused_by",
            ConditionExpression="attribute_exists(paused_by)",
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise


def queue_counts(target: Target, url: str) -> dict[str, int]:
    """How many messages of a queue are waiting, in flight and delayed: approximately, as SQS says."""
    answer: Any = target.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_WAITING.values()))  # type: ignore[arg-type]
    return {name: int(answer["Attributes"].get(attribute, 0)) for name, attribute in _WAITING.items()}
