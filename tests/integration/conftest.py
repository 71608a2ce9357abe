"""One local stack for the integration tests of a test process: the real template, functions and simulator."""

from collections.abc import Iterator

import pytest

from local.aws.stack import LocalStack, StackConfig
from local.simulator.server import GatewayConfig


@pytest.fixture(scope="package")
def local_stack() -> Iterator[LocalStack]:
    """A running local stack on free ports; tests tell their messages apart by keys of their own.

    It ends before the tests of another folder begin, some of which patch what its threads use.
    """
    with LocalStack(StackConfig(simulator=GatewayConfig(seed=1, status_step_seconds=0.02))) as stack:
        yield stack
