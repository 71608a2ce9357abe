"""Each rule of the records is tested on a table in memory and on three implementations of DynamoDB."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws

from optus_sms.aws import clients
from tests.support.aws import REGION
from tests.support.emulator import emulator as new_emulator
from tests.support.emulator import skip_without_emulator

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DYNALITE: Final = Path(__file__).parents[2] / "support" / "dynalite"


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[DynamoDBClient]:
    """DynamoDB by moto, with the functions' own configuration."""
    with mock_aws():
        yield boto3.client("dynamodb", region_name=REGION, config=clients._CONFIG)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamoDBClient]:
    """DynamoDB by the emulator of `make test-deploy`."""
    skip_without_emulator()
    with new_emulator(tmp_path_factory.mktemp("emulator"), fill_gaps=False) as running:
        yield client_of(running.url, running.key, running.secret, verify=str(running.authority))


@pytest.fixture(scope="module")
def dynalite() -> Iterator[DynamoDBClient]:
    """DynamoDB by dynalite."""
    if shutil.which("node") is None or not (DYNALITE / "node_modules").exists():
        pytest.skip("needs Node and dynalite: `make test-deploy` installs it")
    command = ["node", str(DYNALITE / "serve.cjs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield client_of(f"http://127.0.0.1:{process.stdout.readline().strip()}", "any", "any")
        process.kill()


def client_of(url: str, key: str, secret: str, verify: str | None = None) -> DynamoDBClient:
    session = boto3.Session(aws_access_key_id=key, aws_secret_access_key=secret, region_name=REGION)
    patient = clients._CONFIG.merge(Config(read_timeout=60))  # one process serves all clients of a race
    return session.client("dynamodb", endpoint_url=url, verify=verify, config=patient)


@pytest.fixture(
    params=[
        "memory",
        "dynamodb",
        pytest.param("emulator", marks=pytest.mark.deploy),
        pytest.param("dynalite", marks=pytest.mark.deploy),
    ]
)
def client(request: pytest.FixtureRequest) -> DynamoDBClient | None:
    """DynamoDB; None for a table in memory."""
    return None if request.param == "memory" else request.getfixturevalue(request.param)
