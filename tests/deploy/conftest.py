"""The stack as AWS would run it: built and deployed by `sam`, on an independent emulator.

Functions run under their own roles and reach AWS and the gateway by TLS only.
"""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import certifi
import pytest

from local.template import REGION, STACK_NAME
from tests.deploy.deployment import Deployment, gateway
from tests.support.emulator import HOST, ROOT, Emulator, emulator, skip_without_emulator

SCHEDULE_SPEED: Final = 6


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.deploy)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(autouse=True)
def _blocked_network() -> None:
    """Replaces the fixture that blocks DNS. Here `_names_of_the_emulator` resolves names, for threads too."""


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """The emulator with its gaps filled."""
    skip_without_emulator()
    with emulator(tmp_path_factory.mktemp("aws"), schedule_speed=SCHEDULE_SPEED) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def _names_of_the_emulator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Resolve names of APIs to the emulator, and names of this machine; no others.

    The simulator, which calls back, and the command line, which tries the callbacks, trust its certificate.
    """
    aws: Emulator = request.getfixturevalue("aws")
    look_up = socket.getaddrinfo

    def names(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith(f".execute-api.{REGION}.amazonaws.com"):
            return look_up(HOST, aws.port, *args, **kwargs)
        if host not in (HOST, "localhost"):
            raise socket.gaierror(socket.EAI_NONAME, f"no such name here: {host!r}")
        return look_up(host, port, *args, **kwargs)

    authorities = tmp_path_factory.mktemp("trusted") / "authorities.pem"
    authorities.write_text(Path(certifi.where()).read_text() + aws.authority.read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", names)
        patch.setattr(certifi, "where", lambda: str(authorities))
        patch.setenv("SSL_CERT_FILE", str(authorities))
        yield


@pytest.fixture(autouse=True)
def _operator(_clean_environment: None, aws: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables of an operator's shell, in a folder without a local stack."""
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cli.dead_letter_queue._WAIT_SECONDS", 0)


@pytest.fixture(scope="session")
def built() -> Path:
    """Return the folder with the result of `make build`."""
    subprocess.run(["make", "build"], cwd=ROOT, check=True, capture_output=True)
    return ROOT


@pytest.fixture(scope="session")
def stack(aws: Emulator, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The stack `optus-sms` after the steps of docs/deploy.md: deployed, with credentials, known to the gateway."""
    with gateway() as simulator, pytest.MonkeyPatch.context() as patch:
        for name, value in aws.environment().items():
            patch.setenv(name, value)
        deployment = Deployment(STACK_NAME, aws, simulator, tmp_path_factory.mktemp("stack"))
        deployment.deploy(built)
        deployment.connect()
        yield deployment
