"""One local stack for all integration tests of a test process: the real template, functions and simulator."""

from collections.abc import Iterator

import pytest

from local.aws.stack import LocalStack, StackConfig
from local.simulator.server import GatewayConfig


@pytest.fixture(scope="session")
def local_stack() -> Iterator[LocalStack]:
    """A running local stack on free ports; tests tell their messages apart by keys of their own."""
    with LocalStack(StackConfig(simulator=GatewayConfig(seed=1, status_step_seconds=0.02))) as stack:
        yield stack
