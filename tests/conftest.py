"""The rules of every test: no real AWS, no settings of the user's shell, no network beyond this machine."""

from __future__ import annotations

import gc
import ipaddress
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from hypothesis import HealthCheck, settings

from optus_sms.aws.connections import Connections
from tests.support.aws import FAKE_AWS_ENVIRONMENT
from tests.support.execution_environment import forget_execution_environment

TESTS = Path(__file__).parent
collect_ignore = ["projects"]  # projects of senders: tests/integration/test_sender_projects.py runs them

# No deadline, because a shared machine is slow at times, and these tests are not about speed. Derandomized, so that an
# unchanged tree has no new failures; the deep suites search further, with seeds that they print.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")

# Prefixes of every variable that the functions, boto3, requests or Powertools would read.
_OURS = (
    "AWS_", "POWERTOOLS_", "GATEWAY_", "CALLBACK_", "MAX_", "SENDER_", "ON_UNKNOWN_", "REQUIRE_MESSAGE_", "RETENTION_",
    "REPLY_MATCH_", "OUTBOUND_", "DEAD_LETTER_", "SEND_LEDGER_", "MESSAGES_TABLE_", "EVENT_BUS_", "LAMBDA_",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC",
)  # fmt: skip


# Programs that tests end inherit the signals that are ignored here: SIGINT in a shell's background job, SIGHUP under
# nohup.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow modules first, so that no test process begins a long one at the end."""
    items.sort(key=lambda item: item.path.parent.name != "integration")


def pytest_collection_finish() -> None:
    """Freeze the imported objects, so that the garbage collector doesn't scan them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_loader() -> Iterator[None]:
    """Let all AWS sessions share botocore's service descriptions, so that they are read only once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set fake credentials and region, and remove the shell's settings and the caches of the test before."""
    for name in list(os.environ):
        if name.upper().startswith(_OURS):
            monkeypatch.delenv(name)
    for name, value in FAKE_AWS_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    forget_execution_environment()
    yield
    forget_execution_environment()


@pytest.fixture(scope="session", autouse=True)
def _moto_responds() -> Iterator[None]:
    """While moto responds to botocore's event `before-send`, no other handler may: botocore calls all of them."""
    send = Connections.send

    def unless_moto(self: Connections, request: Any, **event: Any) -> Any:
        moto = sys.modules.get("moto.core.models")
        return None if moto and moto.botocore_stubber.enabled else send(self, request, **event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connections, "send", unless_moto)
        yield


class NetworkBlockedError(Exception):
    """A test tried to reach a network that its level doesn't allow."""


@pytest.fixture(autouse=True)
def _blocked_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block all network in a unit test's own thread, and for all other code everything beyond this machine."""
    is_unit, test_thread = "unit" in request.path.relative_to(TESTS).parts[:1], threading.current_thread()
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def may_reach_this_machine() -> bool:
        return not is_unit or threading.current_thread() is not test_thread

    def check(sock: socket.socket, address: Any) -> None:
        if sock.family == socket.AF_UNIX or (may_reach_this_machine() and _is_loopback(address[0])):
            return
        sock.close()  # code that expects only an OSError here would leak the socket
        raise NetworkBlockedError(f"a {request.path.parent.name} test tried to connect to {address!r}")

    def guarded_connect(sock: socket.socket, address: Any) -> None:
        check(sock, address)
        connect(sock, address)

    def guarded_connect_ex(sock: socket.socket, address: Any) -> int:
        check(sock, address)
        return connect_ex(sock, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not may_reach_this_machine() or not _resolves_here(host):
            raise socket.gaierror(socket.EAI_NONAME, f"no name lookups in tests: {host!r}")
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)


def _is_loopback(host: Any) -> bool:
    try:
        return bool(ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return str(host) == "localhost"


def _resolves_here(host: Any) -> bool:
    if host is None:
        return True
    text: str = host.decode() if isinstance(host, bytes) else host
    return text in ("", "localhost") or _is_address(text)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
