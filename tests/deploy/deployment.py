"""A stack deployed by `sam`, its gateway, and its outside view for operators, senders and scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from cli.dead_letter_queue import DeadLetterQueue
from local.demo.watcher import Seen
from local.simulator.server import GatewayConfig, GatewaySimulator
from local.template import STACK_NAME
from optus_sms.records.changes import read_item
from optus_sms.records.items import LedgerRecord, MessageRecord, OptOutRecord, ReplyRecord
from optus_sms.records.table import unmarshal
from tests.support.cli import Ran, optus_sms
from tests.support.emulator import HOST, Emulator

SAM: Final = Path(sys.executable).with_name("sam")


def gateway() -> GatewaySimulator:
    """A gateway with TLS, whose callbacks wait for the challenge of a 401."""
    return GatewaySimulator(
        GatewayConfig(
            seed=1, tls_hosts=(HOST,), callback_auth="challenge", status_step_seconds=0.05, retry_interval_seconds=1
        )
    )


def sam(aws: Emulator, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `sam` in a folder with a samconfig.toml, whatever its exit code."""
    own = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [SAM, *arguments],
        cwd=folder,
        env={**own, "SAM_CLI_TELEMETRY": "0", **aws.environment()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Deployment:
    """A stack by its name. ``folder``: for its files."""

    name: str
    aws: Emulator
    gateway: GatewaySimulator
    folder: Path

    def try_to_deploy(self, built: Path, **parameters: str) -> subprocess.CompletedProcess[str]:
        """`sam deploy`, with the simulator as the gateway and everything else from samconfig.toml."""
        given = {
            "LogRetentionDays": "7",
            "GatewayBaseUrl": self.gateway.url,
            "ServiceStatusUrl": f"{self.gateway.services_url}/status?service=restv2",
            **parameters,
        }
        overrides = " ".join(f"{name}={value}" for name, value in given.items())
        name = () if self.name == STACK_NAME else ("--stack-name", self.name)
        return sam(
            self.aws, "deploy", "--no-confirm-changeset", *name, "--parameter-overrides", overrides, folder=built
        )

    def deploy(self, built: Path, **parameters: str) -> None:
        """Deploy; it must succeed."""
        deployed = self.try_to_deploy(built, **parameters)
        assert deployed.returncode == 0, deployed.stdout

    def connect(self) -> None:
        """Give the stack the gateway's credentials, and the gateway the stack's callback URLs."""
        authority = self.folder / "gateway.pem"
        authority.write_text(self.gateway.ca_certificate)
        config = self.gateway.config
        credentials = f"{config.application}\n{config.password}\n"
        assert self.cli("set-gateway-credentials", "--ca-certificate", authority, stdin=credentials).exit_code == 0
        self.gateway.set_callback_urls(*self.cli("callback-urls", "--json").document.values())

    def cli(self, command: str, *arguments: object, stdin: str | None = None) -> Ran:
        """Run `optus-sms <command> --stack <this one>`."""
        return optus_sms(command, "--stack", self.name, *arguments, stdin=stdin)

    def client(self, service: str, *, tls: bool = True) -> Any:
        """Return an administrator's client."""
        return self.aws.client(service, tls=tls)

    def description(self) -> dict[str, Any]:
        """Return the current status, parameters and outputs."""
        described: dict[str, Any] = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]
        return described

    @cached_property
    def outputs(self) -> dict[str, str]:
        """Return the outputs of the first deployment, which an update must not change."""
        return {output["OutputKey"]: output["OutputValue"] for output in self.description()["Outputs"]}

    def resources(self) -> dict[str, str]:
        """Return the physical IDs by logical ID."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.name)
        return {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for page in pages
            for resource in page["StackResourceSummaries"]
        }

    def send(
        self,
        body: Mapping[str, object] | str,
        attributes: Mapping[str, Any] | None = None,
        queue: str = "OutboundQueueUrl",
    ) -> None:
        """Queue a message as any sender does. ``queue``: the output with its URL."""
        self.client("sqs").send_message(
            QueueUrl=self.outputs[queue],
            MessageBody=body if isinstance(body, str) else json.dumps(body),
            MessageAttributes=attributes or {},
        )

    def is_sending(self) -> bool:
        """Return whether the queue's event source mapping is enabled."""
        mapping = self.resources()["SendMessageFunctionOutboundMessages"]
        state: str = self.client("lambda").get_event_source_mapping(UUID=mapping)["State"]
        return state == "Enabled"

    def seen(self) -> Seen:
        """Return all current records and dead letters."""
        seen = Seen()
        for table in ("SendLedgerTableName", "MessagesTableName", "OptOutTableName"):
            for page in self.client("dynamodb").get_paginator("scan").paginate(TableName=self.outputs[table]):
                for item in page["Items"]:
                    match read_item(unmarshal(item)):
                        case LedgerRecord() as record:
                            seen.ledger[record.message_id] = record
                        case MessageRecord() as record:
                            seen.messages[record.id] = record
                        case ReplyRecord() as record:
                            seen.replies[record.id] = record
                        case OptOutRecord() as record:
                            seen.opt_outs[record.handset] = record
        with DeadLetterQueue(self.client("sqs"), self.outputs["DeadLetterQueueUrl"], wait_seconds=0) as queue:
            seen.dead_letters += queue.dead_letters()
        return seen
