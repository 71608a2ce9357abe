"""A stack as CloudFormation describes it, in moto."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from tests.support.aws import REGION
from tests.support.deployed import STACK, DeployedStack, deploy
from tests.support.health import FakeSwitch


@pytest.fixture(scope="module")
def session() -> Iterator[boto3.Session]:
    """AWS in this process, and one session for all runs: reading boto3's service data takes most of a run's time."""
    with mock_aws():
        yield boto3.Session(region_name=REGION)


@pytest.fixture
def separate_senders() -> bool:
    """The parameter of `stack`; a module can override it."""
    return False


@pytest.fixture
def stack(
    session: boto3.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separate_senders: bool
) -> Iterator[DeployedStack]:
    """A new stack for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cli.target.boto3.Session", lambda **_: session)
    monkeypatch.setattr("cli.dead_letter_queue._WAIT_SECONDS", 0)  # moto has one server, so no message comes late
    yield deploy(session, separate_senders=separate_senders)
    session.client("cloudformation").delete_stack(StackName=STACK)


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> FakeSwitch:
    """The queue's event source mapping: sending is paused."""
    found = FakeSwitch(on=False)
    monkeypatch.setattr("cli.target.Target.switch", found)
    return found
