"""The stack that a command works on: a deployed one, by its outputs, or the local one, by `.local/endpoints.env`."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session as BotocoreSession

from cli.endpoints_file import ENDPOINTS, read_endpoints
from cli.errors import CliError, Exit
from cli.long_reads import Patience
from optus_sms.aws.queue_switch import QueueSwitch
from optus_sms.model.lanes import Lane
from optus_sms.model.sender_namespaces import in_namespace, namespace_of, namespace_of_sender
from optus_sms.records.health import HealthRecords
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from optus_sms.records.opt_outs import OptOuts

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

    from cli.dead_letter_queue import DeadLetterQueue
    from optus_sms.model.queue_message import OutboundMessage

# By lane: the name of the mapping's ID on the local stack, and SAM's name for the queue's event of SendMessageFunction.
_MAPPINGS: Final = {
    Lane.ORDINARY: ("SenderMappingId", "SendMessageFunctionOutboundMessages"),
    Lane.URGENT: ("UrgentMappingId", "SendMessageFunctionUrgentMessages"),
}
QUEUES: Final = {Lane.ORDINARY: "OutboundQueueUrl", Lane.URGENT: "UrgentQueueUrl"}
"""The output with the URL of each lane's queue."""
QUEUE_NAMES: Final = {Lane.ORDINARY: "queue", Lane.URGENT: "urgent queue"}
"""The name of each lane's queue in the commands' output."""
_ATTEMPTS: Final = 5
# Retries also concern SendMessage: a retry after a lost response queues the same message_id twice, which is one SMS.
_CONFIG: Final = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
    user_agent="optus-sms-cli",
)
# On this machine waiting doesn't help: the local stack runs or it doesn't.
_ATTEMPTS_HERE: Final = 1
_CONFIG_HERE: Final = _CONFIG.merge(
    Config(retries={"mode": "standard", "total_max_attempts": _ATTEMPTS_HERE}, proxies={})
)
_NO_PROFILE: Final[Any] = {
    name: (None, None, default, None)
    for name, default in (("profile", None), ("config_file", os.devnull), ("credentials_file", os.devnull))
}
"""Settings of a session that ignores AWS_PROFILE and the user's AWS files."""
_DELETE_FIRST: Final = "Delete it, then deploy it again; docs/deploy.md, If the first deployment fails."
# For each status in which a stack can't be used: its meaning, and what can happen next.
_NOT_READY: Final = {
    "CREATE_IN_PROGRESS": "Wait for it: aws cloudformation wait stack-create-complete --stack-name {name}",
    "REVIEW_IN_PROGRESS": "Its first change set was never executed. Deploy it: sam deploy --stack-name {name}",
    "ROLLBACK_IN_PROGRESS": f"Its first deployment failed. Wait until the roll-back has ended. {_DELETE_FIRST}",
    "ROLLBACK_COMPLETE": f"Its first deployment failed, and it can only be deleted. {_DELETE_FIRST}",
    "ROLLBACK_FAILED": f"Its first deployment failed, and it can only be deleted. {_DELETE_FIRST}",
    "CREATE_FAILED": f"Its first deployment failed. {_DELETE_FIRST}",
    "DELETE_IN_PROGRESS": "It is being deleted. Name another stack with --stack.",
    "DELETE_FAILED": "Its deletion stopped half-way, and it can only be deleted again. Its events name the resource\n"
    "in the way: aws cloudformation describe-stack-events --stack-name {name}",
}


@dataclass(frozen=True)
class Target:
    """A stack. ``stack_id``: its identity.

    ``settings``: its parameters, or for the local stack the functions' environment, under the parameters' names.
    """

    name: str
    stack_id: str
    local: bool
    outputs: Mapping[str, str]
    settings: Mapping[str, str]
    session: boto3.Session = field(repr=False)
    endpoint_url: str | None = None

    def client(self, service: str) -> Any:
        """Return a new client of that service in the stack's region."""
        config = _CONFIG_HERE if self.local else _CONFIG
        client: Any = self.session.client(service, endpoint_url=self.endpoint_url, config=config)  # type: ignore[call-overload]
        Patience(client, attempts=_ATTEMPTS_HERE if self.local else _ATTEMPTS, local=self.local)
        return client

    @cached_property
    def sqs(self) -> SQSClient:
        """The client for the queues."""
        return cast("SQSClient", self.client("sqs"))

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        """The client for the tables."""
        return cast("DynamoDBClient", self.client("dynamodb"))

    @cached_property
    def secrets(self) -> SecretsManagerClient:
        """The client for the two secrets."""
        return cast("SecretsManagerClient", self.client("secretsmanager"))

    @cached_property
    def ledger(self) -> Ledger:
        """`SendLedgerTable`."""
        return Ledger.connect(self.dynamodb, self.outputs["SendLedgerTableName"])

    @cached_property
    def health(self) -> HealthRecords:
        """The record of the stack's health check, also in `SendLedgerTable`."""
        return HealthRecords.connect(self.dynamodb, self.outputs["SendLedgerTableName"])

    @cached_property
    def opt_outs(self) -> OptOuts:
        """`OptOutTable`."""
        return OptOuts.connect(self.dynamodb, self.outputs["OptOutTableName"])

    @cached_property
    def messages(self) -> Messages:
        """`MessagesTable`."""
        days = int(self.settings.get("RetentionDays", "90"))
        return Messages.connect(self.dynamodb, self.outputs["MessagesTableName"], retention_days=days)

    def check_rules(self, message: OutboundMessage) -> None:
        """Raise `InvalidMessageError` for a message that this stack's parameters don't allow."""
        from optus_sms.model.queue_message import check_allowed, check_despite_opt_out  # importing pydantic takes long

        allowed = self.settings.get("AllowedDestinations", "")
        check_allowed(message, tuple(allowed.split(",")) if allowed else ())
        check_despite_opt_out(message, allowed=self.settings.get("AllowDespiteOptOut") != "false")

    @property
    def separate_senders(self) -> bool:
        """Whether each sender's keys have their own namespace (`SeparateSenders`)."""
        return self.settings.get("SeparateSenders") == "true"

    def id_of(self, key: str) -> str:
        """Return the `message_id` of a message that these credentials queue under this key.

        A key that has a namespace already is returned unchanged.
        """
        if not self.separate_senders or namespace_of(key):
            return key
        # GetCallerIdentity returns as `UserId` what SQS reports as `SenderId`.
        return in_namespace(namespace_of_sender(self._identity["UserId"]), key)

    def dead_letter_queue(self, output: str = "DeadLetterQueueUrl", what: str = "dead letters") -> DeadLetterQueue:
        """Return a reader of `DeadLetterQueue` or another queue. ``what``: the name of its messages, for progress."""
        from cli.dead_letter_queue import DeadLetterQueue  # its imports are slow, and `status` needs none

        urgent = self.outputs[QUEUES[Lane.URGENT]]
        return DeadLetterQueue(
            self.sqs,
            self.outputs[output],
            what=what,
            separate_senders=self.separate_senders,
            urgent_queue=urgent.rpartition("/")[2],
        )

    @property
    def switch(self) -> QueueSwitch:
        """The switch of sending: the event source mappings between the queues and the sender function."""
        mappings = {
            lane: self.settings.get(setting, "") if self.local else self.physical_id(logical_id) or ""
            for lane, (setting, logical_id) in _MAPPINGS.items()
        }
        if not all(mappings.values()):
            raise CliError(
                "This stack has no event source mapping between a queue and the sender function.",
                "Deploy the current version.",
                Exit.NO_TARGET,
            )
        return QueueSwitch(self.client("lambda"), mappings)

    def pause_sending(self, lane: Lane | None = None) -> None:
        """Pause as an operator; no health check ends that. It is recorded first, so that a running check sees it."""
        self.health.pause_by_operator(lane, now=time.time())
        self.switch.pause([lane] if lane else Lane)

    def resume_sending(self, lane: Lane | None = None) -> None:
        """Resume as an operator, after any pause. It is recorded first, so that a running check sees it."""
        self.health.resume_by_operator(lane, now=time.time())
        self.switch.resume([lane] if lane else Lane)

    @cached_property
    def operator(self) -> str:
        """The operator's name, recorded with each of the operator's decisions."""
        if self.local:
            return _local_user()
        return self._identity["Arn"]

    @cached_property
    def _identity(self) -> Mapping[str, str]:
        """The ARN and user ID of these credentials."""
        return cast("Mapping[str, str]", self.client("sts").get_caller_identity())

    def physical_id(self, logical_id: str) -> str | None:
        """Return the physical ID of a resource of a deployed stack; None if there is none."""
        try:
            response = self.client("cloudformation").describe_stack_resource(
                StackName=self.name, LogicalResourceId=logical_id
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationError":
                return None
            raise
        return str(response["StackResourceDetail"]["PhysicalResourceId"])


class Outputs(dict[str, str]):
    """The template's outputs. The error for a missing one names the likely cause: another template."""

    def __missing__(self, name: str) -> str:
        raise CliError(
            f"This stack has no output {name}, so it is another template, or an older version of this one.",
            "Check the name given with --stack; deploy the current version with `sam deploy`.",
            Exit.NO_TARGET,
        )


def choose(*, stack: str | None, local: bool, region: str | None, profile: str | None) -> Target:
    """Return the stack that the options name; without options the local stack, if there is one."""
    if stack and local:
        raise CliError("--stack and --local can't be combined.", "Give one of them.", Exit.USAGE)
    if stack:
        return deployed(stack, region=region, profile=profile)
    if local or ENDPOINTS.exists():
        return local_target(parse_endpoints(read_endpoints()))
    raise CliError(
        "Which stack?",
        "Name a deployed one with --stack NAME (or OPTUS_SMS_STACK), or start the local one with `make run` and call\n"
        "this from the same folder.",
        Exit.NO_TARGET,
    )


def local_target(values: Mapping[str, str]) -> Target:
    """Return the local stack, by the variables of its endpoints file."""
    session = boto3.Session(
        botocore_session=BotocoreSession(session_vars=_NO_PROFILE),
        aws_access_key_id=values.get("AWS_ACCESS_KEY_ID", "local"),
        aws_secret_access_key=values.get("AWS_SECRET_ACCESS_KEY", "local"),
        region_name=values.get("AWS_REGION", "ap-southeast-2"),
    )
    named = {_camel(name): value for name, value in values.items()}
    return Target(
        name="the local stack",
        stack_id=values.get("OUTBOUND_QUEUE_URL", ""),
        local=True,
        outputs=Outputs(named),
        settings=named,
        session=session,
        endpoint_url=values.get("AWS_ENDPOINT_URL"),
    )


def deployed(stack: str, *, region: str | None, profile: str | None) -> Target:
    """Return a deployed stack, reached with the current AWS credentials."""
    session = boto3.Session(region_name=region, profile_name=profile)
    try:
        response = session.client("cloudformation", config=_CONFIG).describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        raise CliError(
            f"There is no stack {stack!r} in {session.region_name} of this account.",
            "`aws cloudformation list-stacks` lists them all; name another region with --region, or deploy it\n"
            "with `sam deploy`.",
            Exit.NO_TARGET,
        ) from None
    status = response["StackStatus"]
    if status in _NOT_READY:
        raise CliError(
            f"The stack {stack!r} is not ready: {status}.", _NOT_READY[status].format(name=stack), Exit.NO_TARGET
        )
    outputs = {output["OutputKey"]: output["OutputValue"] for output in response.get("Outputs", [])}
    settings = {p["ParameterKey"]: p.get("ParameterValue", "") for p in response.get("Parameters", [])}
    return Target(
        name=stack,
        stack_id=response.get("StackId", stack),
        local=False,
        outputs=Outputs(outputs),
        settings=settings,
        session=session,
    )


def parse_endpoints(text: str) -> dict[str, str]:
    """Return the variables of a file with lines ``export NAME=value``, quoted for a shell."""
    words = shlex.split(text, comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def _camel(name: str) -> str:
    """Return `OutboundQueueUrl` for `OUTBOUND_QUEUE_URL`."""
    return re.sub(r"(?:^|_)([A-Z0-9])([A-Z0-9]*)", lambda part: part[1] + part[2].lower(), name)


def _local_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
