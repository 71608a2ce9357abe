"""The requirements of `sam local`: a Docker engine, `make run` in a terminal, and the result of `sam build`.

Everything runs in a new folder with this checkout's samconfig.toml and events.
"""

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from local.aws.resources import local_client
from local.pytest_plugin import exported
from local.template import TEMPLATE_PATH
from tests.support.waiting import eventually

ROOT: Final = TEMPLATE_PATH.parent
SAM: Final = Path(sys.executable).with_name("sam")
START_SECONDS: Final = 60.0


@pytest.fixture(autouse=True)
def _blocked_network() -> None:
    """Replaces the fixture that allows only loopback, because the stack listens on Docker's bridge.

    All else runs in processes.
    """


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """Skip the test if no Docker engine responds."""
    if shutil.which("docker") is None or _docker("version").returncode != 0:
        pytest.skip("no Docker engine answers, so `sam local` was not tried")


@dataclass(frozen=True)
class Run:
    """A running `make run`, and the folder for `sam local`."""

    folder: Path
    variables: dict[str, str]
    """Those of .local/endpoints.env."""

    def sam(self, *arguments: str) -> list[str]:
        """Return a `sam local` command. It pulls AWS's image if it is missing."""
        runtime = "public.ecr.aws/lambda/python:3.13-x86_64"
        has_image = _docker("image", "inspect", runtime).returncode == 0
        return [str(SAM), "local", *arguments, *(["--skip-pull-image"] if has_image else [])]

    def environment(self) -> dict[str, str]:
        """Return an environment without the user's AWS settings."""
        return _environment()

    @contextmanager
    def serving(self, command: str) -> Iterator[str]:
        """Yield the address of a running `sam local start-api` or `start-lambda`."""
        port = _free_port()
        with (self.folder / f"{command}.log").open("w") as log:
            process = subprocess.Popen(
                self.sam(command, "--port", str(port)),
                cwd=self.folder,
                env=self.environment(),
                stdout=log,
                stderr=log,
            )
        try:
            eventually(lambda: _listens(port), f"sam local {command} is up", START_SECONDS)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()  # it removes its containers
            process.wait(timeout=60)

    def client(self, service: str) -> Any:
        """A boto3 client of the running stack."""
        return local_client(service, self.variables["AWS_ENDPOINT_URL"])

    def control(self, method: str, path: str, **fields: object) -> Any:
        """A request to the simulator's control endpoint."""
        url = f"{self.variables['SIMULATOR_CONTROL_URL']}/{path}"
        answer = requests.request(method, url, json=fields or None, timeout=10)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def call_back(self, url: str) -> None:
        """Point the gateway's callbacks at `<url>/callbacks/…`."""
        who = f"{self.variables['CALLBACK_USERNAME']}:{self.variables['CALLBACK_PASSWORD']}"
        base = url.replace("http://", f"http://{who}@")
        self.control("POST", "callback-urls", status=f"{base}/callbacks/status", reply=f"{base}/callbacks/reply")

    def clean(self) -> None:
        """Return to the state at the start, without messages."""
        dynamodb = self.client("dynamodb")
        for name, key in (("SEND_LEDGER_TABLE_NAME", "pk"), ("MESSAGES_TABLE_NAME", "id")):
            table = self.variables[name]
            for item in dynamodb.scan(TableName=table)["Items"]:
                dynamodb.delete_item(TableName=table, Key={key: item[key]})
        eventually(self._without_dead_letters, "there are no dead letters")
        self.control("POST", "reset")

    def ledger(self, key: str) -> dict[str, str]:
        """The strings of a message's ledger record; empty if there is none."""
        return self._item(self.variables["SEND_LEDGER_TABLE_NAME"], {"pk": {"S": f"msg#{key}"}})

    def message(self, gateway_id: str) -> dict[str, str]:
        """The strings of the gateway's record; empty if there is none."""
        return self._item(self.variables["MESSAGES_TABLE_NAME"], {"id": {"S": gateway_id}})

    def taken(self, reference: str) -> list[dict[str, Any]]:
        """Return the messages that the gateway accepted with this reference."""
        messages: list[dict[str, Any]] = self.control("GET", f"messages?reference={reference}")["messages"]
        return messages

    def dead_letters(self) -> list[tuple[str, str]]:
        """Return reason and body of each visible dead letter."""
        answer = self.client("sqs").receive_message(
            QueueUrl=self.variables["DEAD_LETTER_QUEUE_URL"],
            MaxNumberOfMessages=10,
            VisibilityTimeout=0,
            MessageAttributeNames=["All"],
        )
        return [
            (message["MessageAttributes"]["reason"]["StringValue"], message["Body"])
            for message in answer.get("Messages", [])
        ]

    def _without_dead_letters(self) -> bool:
        """Delete the visible dead letters; return whether none is left or held by the stack's display."""
        sqs, queue = self.client("sqs"), self.variables["DEAD_LETTER_QUEUE_URL"]
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:  # PurgeQueue is allowed once a minute
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=counts)["Attributes"]
        return not any(int(attributes[name]) for name in counts)

    def _item(self, table: str, key: dict[str, Any]) -> dict[str, str]:
        item = self.client("dynamodb").get_item(TableName=table, Key=key).get("Item", {})
        return {name: value["S"] for name, value in item.items() if "S" in value}


@pytest.fixture(scope="session")
def run(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run `make build`, and `make run NO_EXAMPLES=1` on an address that containers can reach."""
    subprocess.run(["make", "build"], cwd=ROOT, env=_environment(), check=True, capture_output=True)
    folder = tmp_path_factory.mktemp("sam")
    shutil.copy(ROOT / "samconfig.toml", folder)
    (folder / "events").symlink_to(ROOT / "events")
    options = {"NO_EXAMPLES": "1", "BIND": _bind_address(), "PORT": "0"}
    environment = {**_environment(), **options, "PYTHONPATH": str(ROOT)}
    with (folder / "run.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "local"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        eventually((folder / ".local/sam-template.json").exists, "the stack is up", START_SECONDS)
        yield Run(folder, exported(folder / ".local/endpoints.env"))
    finally:
        process.terminate()
        process.wait(timeout=60)


def _environment() -> dict[str, str]:
    own = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ}
    return {**own, "SAM_CLI_TELEMETRY": "0"}


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


def _bind_address() -> str:
    """Return the address of Docker's bridge (Linux), else loopback, which containers reach by Docker Desktop."""
    networks = json.loads(_docker("network", "inspect", "bridge").stdout)
    for config in networks[0]["IPAM"]["Config"]:
        address = str(config.get("Gateway") or ipaddress.ip_network(config["Subnet"])[1])
        with socket.socket() as probe:
            try:
                probe.bind((address, 0))
            except OSError:
                continue
            return address
    return "127.0.0.1"


def _free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
