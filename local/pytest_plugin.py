"""A pytest plugin for the tests of senders, installed as `optus_sms_testing`: the local stack as a fixture.

It starts the program of `make run` once per session, on free ports and in its own folder.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

import optus_sms

_UP_WITHIN_SECONDS: Final = 120.0
_ENDS_WITHIN_SECONDS: Final = 20.0
_OPTIONS: Final = {
    **dict.fromkeys(("ONCE", "MESSAGES", "BIND", "TLS", "SCHEDULE_SPEED", "GATEWAY_BASE_URL"), ""),
    "NO_EXAMPLES": "1",
    "PORT": "0",
}
"""Options set here, not by the shell: its `GATEWAY_BASE_URL` would send the tests' messages to real handsets."""
_RUN: Final = "import optus_sms_cli.start, runpy; runpy.run_module('local', run_name='__main__', alter_sys=True)"


@dataclass(frozen=True)
class OptusSmsStack:
    """A running local stack. ``environment``: for the system under test (AWS endpoint, credentials, outputs)."""

    environment: Mapping[str, str]

    @property
    def queue_url(self) -> str:
        """Return the output `OutboundQueueUrl`."""
        return self.environment["OUTBOUND_QUEUE_URL"]

    @property
    def event_bus_name(self) -> str:
        """Return the output `EventBusName`."""
        return self.environment["EVENT_BUS_NAME"]

    def client(self, service: str) -> Any:
        """Return a boto3 client of the stack's AWS."""
        import boto3  # noqa: PLC0415 - only for those who use it

        return boto3.client(
            service,  # type: ignore[call-overload] # the stubs know literal names only
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )

    def send(self, message: Mapping[str, Any]) -> None:
        """Queue a message as another system does."""
        self.client("sqs").send_message(QueueUrl=self.queue_url, MessageBody=json.dumps(message))

    def received(self, handset: str, *, reference: str | None = None, wait: int = 10) -> list[dict[str, Any]]:
        """Return the handset's messages, oldest first, as soon as there is one; [] after ``wait`` seconds."""
        query = {"wait": str(wait), **({} if reference is None else {"reference": reference})}
        path = f"api/handsets/{urllib.parse.quote(handset)}/messages?{urllib.parse.urlencode(query)}"
        messages: list[dict[str, Any]] = _json(self.environment["PAGE_URL"] + path, timeout=wait + 10)["messages"]
        return messages

    def reply(self, handset: str, content: str) -> str:
        """Let the handset send a text; return the gateway's ID of the reply."""
        body = {"source": handset, "content": content}
        return str(_json(f"{self.environment['SIMULATOR_CONTROL_URL']}/replies", body)["id"])


@pytest.fixture(scope="session")
def optus_sms_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OptusSmsStack]:
    """Yield the session's local stack: queue, functions, tables, bus and a simulated gateway."""
    folder = tmp_path_factory.mktemp("optus-sms")
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN], cwd=folder, env=_environment(), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield OptusSmsStack(_endpoints(folder, process))
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_ENDS_WITHIN_SECONDS)
            process.kill()


def _environment() -> dict[str, str]:
    paths = [str(_root()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **_OPTIONS, "PYTHONPATH": os.pathsep.join(paths)}


def _root() -> Path:
    """Return the folder with template.yaml, functions/ and local/: this module's if installed, else the checkout."""
    installed = Path(__file__).with_name("optus_sms_stack")
    return installed if (installed / "local").is_dir() else Path(optus_sms.__path__[0]).parents[3]


def _endpoints(folder: Path, process: subprocess.Popen[bytes]) -> dict[str, str]:
    """Return the variables in `.local/endpoints.env`, which exists as soon as the stack is up."""
    file, end = folder / ".local" / "endpoints.env", time.monotonic() + _UP_WITHIN_SECONDS
    while not file.exists():
        if process.poll() is not None or time.monotonic() > end:
            told = (folder / "output.txt").read_text(encoding="utf-8")[-2000:]
            pytest.fail(f"The local stack of optus-sms did not start:\n{told}", pytrace=False)
        time.sleep(0.05)
    return exported(file)


def exported(file: Path) -> dict[str, str]:
    """Return the variables that a shell has after sourcing the file."""
    lines = (shlex.split(line) for line in file.read_text(encoding="utf-8").splitlines())
    return dict(words[1].split("=", 1) for words in lines if words[0] == "export")


def _json(url: str, body: Mapping[str, Any] | None = None, *, timeout: float = 10) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - of the stack itself
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout) as response:
        return json.load(response)
