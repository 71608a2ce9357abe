"""Requests to AWS over the project's own connections: botocore sees the same responses and errors as from its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from botocore import xform_name
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
    SSLError,
)
from botocore.session import Session

from layers.shared.trim import OPERATIONS
from optus_sms.aws import clients
from optus_sms.aws.connections import Connections
from tests.support.fault_server import (
    PATIENCE_SECONDS,
    FaultServer,
    Peer,
    Script,
    server_tls,
    stranger_pem,
    trusted_pem,
)

ITEM: Final = {"pk": {"S": "msg#1"}}
Connect = Callable[..., Any]


def answer(status: int, body: object, *headers: bytes) -> bytes:
    content = json.dumps(body).encode()
    head = [b"HTTP/1.1 %d Reason" % status, b"Content-Length: %d" % len(content), *headers, b"", b""]
    return b"\r\n".join(head) + content


def responding(*answers: bytes, then: Callable[[Peer], None] = Peer.wait_until_closed) -> Script:
    def script(peer: Peer) -> None:
        for each in answers:
            peer.read_request()
            peer.send(each)
        then(peer)

    return script


def failing(then: Callable[[Peer], None]) -> Script:
    def script(peer: Peer) -> None:
        peer.read_request()
        then(peer)

    return script


FOUND: Final = answer(200, {"Item": ITEM})
THROTTLED: Final = answer(400, {"__type": "x#ThrottlingException", "message": "slow"}, b"Connection: close")


@pytest.fixture(params=["ours", "botocore's own"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Makes a client of a server, over either kind of connections; one attempt as a rule."""

    def new(url: str, *, attempts: int = 1, seconds: float = 0.3, ca_bundle: Path | None = None) -> BaseClient:
        session = Session()
        config = clients._CONFIG.merge(
            Config(read_timeout=seconds, retries={"mode": "standard", "total_max_attempts": attempts})
        )
        if request.param == "ours":
            ours = Connections(1, seconds, ca_bundle=str(ca_bundle) if ca_bundle else None)
            session.register("before-send", ours.send)  # type: ignore[arg-type] # the stubs want **kwargs only
        verify = str(ca_bundle) if ca_bundle else None
        return session.create_client("dynamodb", endpoint_url=url, config=config, verify=verify)

    return new


def url_of(server: FaultServer) -> str:
    return server.url.removesuffix("/messages")


def read(client: Any) -> Any:
    return client.get_item(TableName="table", Key=ITEM)


@pytest.mark.parametrize(
    ("server_does", "error"),
    [
        (failing(Peer.reset), ConnectionClosedError),
        (failing(Peer.fin), ConnectionClosedError),
        (responding(b"SSH-2.0-OpenSSH\r\n\r\n", then=Peer.fin), ConnectionClosedError),
        (failing(Peer.wait_until_closed), ReadTimeoutError),
        (responding(answer(500, {}), then=Peer.fin), ClientError),
        (responding(THROTTLED, then=Peer.fin), ClientError),
    ],
    ids=["reset", "closed", "not HTTP", "silent", "HTTP 500", "throttled"],
)
def test_a_fault_is_the_error_that_botocore_raises(
    connect: Connect, server_does: Script, error: type[Exception]
) -> None:
    with FaultServer(server_does) as server, pytest.raises(error) as raised:
        read(connect(url_of(server)))

    assert type(raised.value) is error or error is ClientError
    assert server.complete_requests == 1


def test_a_server_that_does_not_listen(connect: Connect) -> None:
    with FaultServer(Peer.reset) as server:
        url = url_of(server)

    with pytest.raises(EndpointConnectionError):
        read(connect(url))


CUT_SHORT: Final = {
    "body": FOUND[:-3],
    "head": FOUND[: FOUND.index(b"Content-Length")],
    "body of unknown length": FOUND[: FOUND.index(b"{")].replace(b"Content-Length", b"X-Length"),
    "interim response": b"HTTP/1.1 103 Early Hints\r\n\r\n",
}


@pytest.mark.parametrize("cut_short", CUT_SHORT.values(), ids=CUT_SHORT)
def test_a_response_that_ends_early_is_no_response(cut_short: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's own client returns it as a table without the item: a handset without an opt-out."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)
    with FaultServer(responding(cut_short, then=Peer.fin), responding(FOUND)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url_of(server))
        assert read(clients.dynamodb())["Item"] == ITEM
        assert server.complete_requests == 2


@pytest.mark.parametrize(
    "fault",
    [
        failing(Peer.reset),
        responding(THROTTLED),
        *(responding(answer(each, {}, b"Connection: close")) for each in (500, 503)),
    ],
    ids=["reset", "throttled", "HTTP 500", "HTTP 503"],
)
def test_botocore_tries_again(connect: Connect, fault: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", waited.append)

    with FaultServer(fault, responding(FOUND)) as server:
        assert read(connect(url_of(server), attempts=2))["Item"] == ITEM

    assert (len(waited), server.complete_requests) == (1, 2)


CALLS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "GetMetricData": ("cloudwatch", {"MetricDataQueries": [], "StartTime": 0, "EndTime": 1}),
    "GetItem": ("dynamodb", {"TableName": "table", "Key": ITEM}),
    "PutItem": ("dynamodb", {"TableName": "table", "Item": ITEM}),
    "Query": ("dynamodb", {"TableName": "table"}),
    "Scan": ("dynamodb", {"TableName": "table"}),
    "UpdateItem": ("dynamodb", {"TableName": "table", "Key": ITEM}),
    "PutEvents": ("events", {"Entries": [{"Source": "s"}]}),
    "GetEventSourceMapping": ("lambda", {"UUID": "u"}),
    "UpdateEventSourceMapping": ("lambda", {"UUID": "u", "Enabled": False}),
    "GetSecretValue": ("secretsmanager", {"SecretId": "s"}),
    "ChangeMessageVisibility": ("sqs", {"QueueUrl": "q", "ReceiptHandle": "r", "VisibilityTimeout": 1}),
    "SendMessage": ("sqs", {"QueueUrl": "q", "MessageBody": "b"}),
}
"""A call of each operation that the functions may call."""


def test_each_operation_has_a_call() -> None:
    assert set(CALLS) == set().union(*OPERATIONS.values())


@pytest.mark.parametrize("operation", CALLS)
def test_the_same_request_is_sent_as_by_botocore_alone(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service, arguments = CALLS[operation]
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "function")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-2-3;Parent=4;Sampled=1")
    seen = []
    for session in (clients._session(), Session()):
        with FaultServer(responding(FOUND)) as server:
            client = session.create_client(service, endpoint_url=url_of(server), config=clients._CONFIG)
            getattr(client, xform_name(operation))(**arguments)
        head, _, body = bytes(server.connections[0].received).partition(b"\r\n\r\n")
        line, *headers = head.split(b"\r\n")
        values = dict(header.lower().split(b": ", 1) for header in headers)
        own = {b"amz-sdk-invocation-id", b"authorization", b"host", b"x-amz-date"}  # new for each request or server
        assert own <= set(values)
        seen.append((line, {name: b"" if name in own else value for name, value in values.items()}, body))

    assert seen[0] == seen[1]
    assert seen[0][1][b"x-amzn-trace-id"] == b"root=1-2-3;parent=4;sampled=1"


@pytest.mark.parametrize("service", ["dynamodb", "sqs"])
def test_an_error_has_the_class_and_code_that_botocore_alone_gives_it(service: str) -> None:
    """A queue's error has the code of the header, and the class for the name in the body."""
    operation = {"dynamodb": "GetItem", "sqs": "SendMessage"}[service]
    refused = answer(400, {"__type": "x#QueueDoesNotExist"}, b"x-amzn-query-error: AWS.Older;Sender")
    errors = []
    for session in (clients._session(), Session()):
        with FaultServer(responding(refused)) as server:
            client = session.create_client(service, endpoint_url=url_of(server), config=clients._CONFIG)
            with pytest.raises(ClientError) as raised:
                getattr(client, xform_name(operation))(**CALLS[operation][1])
        errors.append((type(raised.value).__name__, raised.value.response["Error"]["Code"]))

    assert errors[0] == errors[1]
    assert service != "sqs" or errors[0][1] == "AWS.Older"


def test_a_connection_serves_again_until_the_server_closes_it(connect: Connect) -> None:
    with FaultServer(responding(FOUND, FOUND, then=Peer.fin), responding(FOUND)) as server:
        client = connect(url_of(server), attempts=2)
        assert [read(client)["Item"] for _ in range(2)] == [ITEM, ITEM]
        assert len(server.connections) == 1
        assert read(client)["Item"] == ITEM
        assert len(server.connections) == 2


def test_the_next_attempt_uses_a_new_connection(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A freeze of the execution environment can end all connections of a batch, unseen until the next write."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)
    both_open = threading.Barrier(2)

    def respond_once(peer: Peer) -> None:
        peer.read_request()
        both_open.wait(PATIENCE_SECONDS)
        peer.send(FOUND)
        peer.read_request()
        peer.reset()

    with FaultServer(respond_once, respond_once, responding(FOUND)) as server:
        client = connect(url_of(server), attempts=2, seconds=PATIENCE_SECONDS)
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(read, [client] * 2))
        assert read(client)["Item"] == ITEM
        assert len(server.connections) == 3


def test_tls_is_verified(connect: Connect, tmp_path: Path) -> None:
    roots, strange = tmp_path / "roots.pem", tmp_path / "strange.pem"
    roots.write_bytes(trusted_pem())
    strange.write_bytes(stranger_pem())

    with FaultServer(responding(FOUND), tls=server_tls()) as server:
        assert read(connect(url_of(server), ca_bundle=roots))["Item"] == ITEM
        with pytest.raises(SSLError):
            read(connect(url_of(server), ca_bundle=strange))
        with pytest.raises(SSLError):
            read(connect(url_of(server)))
        with pytest.raises(SSLError, match="No such file"):
            read(connect(url_of(server), ca_bundle=tmp_path / "absent.pem"))
    with FaultServer(responding(FOUND), tls=server_tls(name="other.example")) as server, pytest.raises(SSLError):
        read(connect(url_of(server), ca_bundle=roots))


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_roots_of_the_environment_are_trusted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(trusted_pem())
    monkeypatch.setenv(name, str(roots))

    with FaultServer(responding(FOUND), tls=server_tls()) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url_of(server))
        assert read(clients.dynamodb())["Item"] == ITEM


def test_a_proxy_is_left_to_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer(responding(FOUND)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", url_of(proxy))
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://aws.example")
        assert read(clients.dynamodb())["Item"] == ITEM
        assert proxy.connections[0].received.startswith(b"POST http://aws.example/ ")


@pytest.mark.parametrize("cut_short", CUT_SHORT.values(), ids=CUT_SHORT)
def test_behind_a_proxy_a_response_that_ends_early_is_an_error(
    cut_short: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)
    with FaultServer(*[responding(cut_short, then=Peer.fin)] * 3) as proxy:
        monkeypatch.setenv("HTTP_PROXY", url_of(proxy))
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://aws.example")
        with pytest.raises(HTTPClientError):
            read(clients.dynamodb())


def test_without_a_proxy_the_functions_send_by_their_own_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", lambda *_: pytest.fail("botocore's own client"))
    with FaultServer(responding(FOUND)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url_of(server))
        assert read(clients.dynamodb())["Item"] == ITEM
