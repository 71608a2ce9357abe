"""The guards of tests/conftest.py hold, so that a passing unit test is one without network and without real AWS."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

import boto3
import pytest


def test_no_connection_leaves_a_unit_test() -> None:
    with socket.socket() as sock, pytest.raises(Exception, match="tried to connect"):
        sock.connect(("127.0.0.1", 9))
    with pytest.raises(OSError, match="no name lookups"):
        socket.create_connection(("localhost", 9))


def in_another_thread(act: Callable[[], None]) -> BaseException | None:
    """Return the exception of a call in another thread."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            act()
            raised.append(None)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0]


def test_the_threads_of_a_stack_that_other_tests_use_go_on_during_a_unit_test() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as sock:
        assert in_another_thread(lambda: sock.connect(server.getsockname())) is None


def test_no_thread_reaches_another_machine() -> None:
    with socket.socket() as sock:
        assert "tried to connect" in str(in_another_thread(lambda: sock.connect(("192.0.2.1", 9))))


def test_credentials_are_fake() -> None:
    credentials = boto3.Session().get_credentials()
    assert credentials is not None
    assert credentials.access_key == "testing"
    assert os.environ["AWS_DEFAULT_REGION"] == "ap-southeast-2"
