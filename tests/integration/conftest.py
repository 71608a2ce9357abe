"""One local stack for the integration tests of a test process: the real template, functions and simulator."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import boto3
import pytest

from local import endpoints, private_file
from local.aws.stack import LocalStack, StackConfig
from local.demo.watcher import Watcher
from local.page.server import PhonePage
from local.simulator.server import GatewayConfig
from tests.support.aws import REGION

MakeRun = Callable[[LocalStack, Path], AbstractContextManager[None]]


@pytest.fixture(scope="package")
def local_stack() -> Iterator[LocalStack]:
    """A running local stack on free ports. Each test uses its own keys for its messages.

    It ends before the tests of other folders, some of which patch objects that its threads use.
    """
    with LocalStack(StackConfig(simulator=GatewayConfig(seed=1, status_step_seconds=0.02))) as stack:
        yield stack


@pytest.fixture(scope="module")
def page_url(local_stack: LocalStack) -> Iterator[str]:
    """The phone page of that stack, with its JSON API."""
    watcher = Watcher(local_stack)
    with PhonePage(local_stack, watcher) as page, watcher:
        yield page.url


@pytest.fixture(scope="package")
def _session() -> boto3.Session:
    """Share one session among all runs of the command line: reading boto3's service data takes most of a run's time."""
    return boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION)


@pytest.fixture
def make_run(_session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    """Let the command line find the stack, as in the folder of `make run`."""

    @contextmanager
    def make_run(stack: LocalStack, folder: Path) -> Iterator[None]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr("cli.endpoints_file.CHECKOUT", folder)
        monkeypatch.setattr("cli.target.boto3.Session", lambda **_: _session)
        monkeypatch.setattr("cli.dead_letter_queue._WAIT_SECONDS", 0)  # the emulator has one server
        with private_file.present(endpoints.PATH, endpoints.as_text(endpoints.variables(stack))):
            yield

    return make_run
