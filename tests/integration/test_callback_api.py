"""API Gateway's work around a function, over real HTTP, with a function that records its events."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from local.aws import callback_api
from local.aws.callback_api import CallbackApi, api_config
from local.aws.function import FunctionError, Invocation
from local.aws.stack import listen

ARN = "arn:aws:lambda:ap-southeast-2:123456789012:function:Receiver"
URI = f"arn:aws:apigateway:ap-southeast-2:lambda:path/2015-03-31/functions/{ARN}/invocations"
OPERATION = {"x-amazon-apigateway-integration": {"type": "aws_proxy", "httpMethod": "POST", "uri": URI}}
BODY: dict[str, Any] = {"paths": {"/things": {"post": OPERATION}}}


class Receiver:
    """Stands for the function: records its events and returns the given response."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.answer = Invocation("1", result={"statusCode": 200, "body": "done"})

    def __call__(self, event: dict[str, Any]) -> Invocation:
        self.events.append(event)
        return self.answer


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def serve(receiver: Receiver) -> Iterator[Callable[..., str]]:
    """Serve an API with this OpenAPI body as stage `v1`; yield its base URL."""
    served: list[CallbackApi] = []

    def start(body: dict[str, Any] = BODY) -> str:
        listener = listen("127.0.0.1", 0, "test")
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        served.append(CallbackApi(api_config("abc", "v1", body), listener, {ARN: receiver}))
        served[-1].start()
        return url

    yield start
    for api in served:
        api.stop()


def test_a_request_becomes_the_event_of_a_proxy_integration(serve: Callable[..., str], receiver: Receiver) -> None:
    url = serve()
    answer = requests.post(
        f"{url}/things?a=1&a=2", data="täxt".encode(), headers={"X-Own": "value", "User-Agent": "test"}, timeout=10
    )

    assert (answer.status_code, answer.text, answer.headers["Content-Type"]) == (200, "done", "application/json")
    (event,) = receiver.events
    assert (event["resource"], event["path"], event["httpMethod"]) == ("/things", "/things", "POST")
    assert (event["body"], event["isBase64Encoded"]) == ("täxt", False)
    assert (event["headers"]["X-Own"], event["multiValueHeaders"]["X-Own"]) == ("value", ["value"])
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"]}
    context = event["requestContext"]
    assert (context["stage"], context["path"], context["resourcePath"]) == ("v1", "/v1/things", "/things")
    assert context["identity"] == {"sourceIp": "127.0.0.1", "userAgent": "test"}
    assert context["requestId"] == answer.headers["x-amzn-RequestId"]


def test_no_body_is_null_and_bytes_that_are_no_text_are_mangled(serve: Callable[..., str], receiver: Receiver) -> None:
    url = serve()
    requests.post(f"{url}/things", timeout=10)
    requests.post(f"{url}/things", data=b"\xff", timeout=10)

    assert [event["body"] for event in receiver.events] == [None, "\ufffd"]


def test_with_binary_media_types_each_body_comes_as_its_bytes(serve: Callable[..., str], receiver: Receiver) -> None:
    url = serve(BODY | {"x-amazon-apigateway-binary-media-types": ["*/*"]})
    for body in (b"\xff", b'{"id": "1"}', b""):
        assert requests.post(f"{url}/things", data=body, timeout=10).text == "done"

    assert [(event["body"], event["isBase64Encoded"]) for event in receiver.events] == [
        ("/w==", True),
        ("eyJpZCI6ICIxIn0=", True),
        (None, False),
    ]


def test_a_chunked_body_is_read_and_the_connection_is_used_again(serve: Callable[..., str], receiver: Receiver) -> None:
    url = serve()
    with requests.Session() as session:
        for _ in range(2):
            session.post(f"{url}/things", data=iter([b"one ", b"two"]), timeout=10)

    assert [event["body"] for event in receiver.events] == ["one two"] * 2


def test_a_body_over_the_limit_gets_a_gateway_response(
    serve: Callable[..., str], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callback_api.BODY_LIMIT_BYTES == 10 * 1024 * 1024
    monkeypatch.setattr(callback_api, "BODY_LIMIT_BYTES", 6)
    url = serve()
    for body in (b"1234567", iter([b"123", b"4567"])):
        response = requests.post(f"{url}/things", data=body, timeout=10)
        assert (response.status_code, response.json()) == (413, {"message": "Request Too Long"})
        assert response.headers["x-amzn-RequestId"]
    assert receiver.events == []
    assert requests.post(f"{url}/things", data=iter([b"123", b"456"]), timeout=10).text == "done"


CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (CHUNKED + b"\r\nzz\r\n", 400),
        (CHUNKED + b"\r\n-5\r\nhello\r\n0\r\n\r\n", 400),
        (CHUNKED + b"\r\n0x5\r\nhello\r\n0\r\n\r\n", 400),
        (CHUNKED + b"\r\n5_0\r\n", 400),
        (CHUNKED + b"\r\n5\r\nhello, and more\r\n0\r\n\r\n", 400),
        (CHUNKED + b"\r\n" + b"f" * 2000 + b"\r\n", 400),
        (CHUNKED + b"\r\n0\r\n" + b"A: b\r\n" * 200 + b"\r\n", 400),
        (CHUNKED + b"\r\nfffffffffff\r\n", 413),
        (CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", 501),
        (b"Content-Length: many\r\n\r\n", 400),
        (b"Content-Length: -5\r\n\r\n", 400),
        (b"Content-Length: +5\r\n\r\nhello", 400),
        (b"Content-Length:\r\n\r\n", 400),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_and_the_connection_ends(
    serve: Callable[..., str], receiver: Receiver, head: bytes, status: int
) -> None:
    port = urlsplit(serve()).port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"POST /v1/things HTTP/1.1\r\nHost: localhost\r\n" + head)
        response = b"".join(iter(lambda: connection.recv(65536), b""))

    assert response.startswith(f"HTTP/1.1 {status} ".encode())
    assert receiver.events == []


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 5\r\n\r\n", b"hello"),
        (CHUNKED + b"\r\n", b"5;name=value\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"),
    ],
)
def test_a_client_that_expects_it_is_asked_for_the_body(
    serve: Callable[..., str], receiver: Receiver, head: bytes, body: bytes
) -> None:
    port = urlsplit(serve()).port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(b"POST /v1/things HTTP/1.1\r\nHost: localhost\r\nExpect: 100-Continue\r\n" + head)
            assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert [event["body"] for event in receiver.events] == ["hello", "hello"]


def test_the_response_to_a_large_body_arrives_although_the_client_is_still_sending(serve: Callable[..., str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(serve()).port or 0, timeout=10)
    for body in (bytes(30_000_000), iter([bytes(1_000_000)] * 30)):
        connection.request("POST", "/v1/things", body, encode_chunked=not isinstance(body, bytes))
        response = connection.getresponse()
        assert (response.status, response.read()) == (413, b'{"message":"Request Too Long"}')
        connection.close()


def test_a_target_that_is_none_is_refused(serve: Callable[..., str]) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(serve()).port), timeout=10) as connection:
        connection.sendall(b"POST http://test:80[/v1/things HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(("path", "status"), [("/things", 200), ("/things/", 200), ("/things//", 403), ("/", 403)])
def test_a_slash_at_the_end_is_the_same_resource(
    serve: Callable[..., str], receiver: Receiver, path: str, status: int
) -> None:
    assert requests.post(f"{serve()}{path}", timeout=10).status_code == status
    assert [(event["resource"], event["path"], event["requestContext"]["path"]) for event in receiver.events] == [
        ("/things", path, f"/v1{path}")
    ] * (status == 200)


def test_a_body_that_ends_early_does_not_reach_the_function(serve: Callable[..., str], receiver: Receiver) -> None:
    port = urlsplit(serve()).port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"POST /v1/things HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536) == b""
    assert receiver.events == []


def test_a_response_under_way_is_finished_and_an_idle_connection_ends() -> None:
    busy, released = threading.Event(), threading.Event()

    def invoke(_event: object) -> Invocation:
        busy.set()
        assert released.wait(10)
        return Invocation("1", result={"body": "late"})

    listener = listen("127.0.0.1", 0, "test")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/things"
    api = CallbackApi(api_config("abc", "v1", BODY), listener, {ARN: invoke})
    api.start()
    with requests.Session() as session, ThreadPoolExecutor(2) as threads:
        session.get(url, timeout=10)  # and keeps its connection open
        response = threads.submit(requests.post, url, timeout=10)
        assert busy.wait(10)
        stopped = threads.submit(api.stop)
        with pytest.raises(TimeoutError):
            stopped.result(timeout=0.3)
        released.set()
        assert response.result(timeout=10).text == "late"
        stopped.result(timeout=10)
    with pytest.raises(requests.ConnectionError):
        requests.post(url, timeout=10)


@pytest.mark.parametrize(
    "answer",
    [
        Invocation("1", error=FunctionError("ValueError", "no")),
        Invocation("1", result=None),
        Invocation("1", result="text"),
        Invocation("1", result={"statusCode": 200, "body": {"not": "text"}}),
        Invocation("1", result={"statusCode": "many"}),
    ],
)
def test_an_answer_that_is_none_is_a_502(serve: Callable[..., str], receiver: Receiver, answer: Invocation) -> None:
    receiver.answer = answer
    response = requests.post(f"{serve()}/things", timeout=10)

    assert (response.status_code, response.json()) == (502, {"message": "Internal server error"})


def test_an_answers_headers_go_out_some_renamed(serve: Callable[..., str], receiver: Receiver) -> None:
    headers = {"WWW-Authenticate": "Basic", "X-Number": 5, "Content-Type": "text/plain"}
    result = {"statusCode": 401, "headers": headers, "multiValueHeaders": {"X-Many": ["a", "b"]}, "body": "no"}
    receiver.answer = Invocation("1", result=result)
    response = requests.post(f"{serve()}/things", timeout=10)

    assert response.status_code == 401
    assert response.headers["x-amzn-Remapped-WWW-Authenticate"] == "Basic"
    assert "WWW-Authenticate" not in response.headers
    assert (response.headers["X-Number"], response.headers["X-Many"]) == ("5", "a, b")
    assert response.headers["Content-Type"] == "text/plain"


def with_validator(validates: bool, **more: Any) -> dict[str, Any]:
    """An API whose route requires the header X-Token."""
    operation = OPERATION | {
        "parameters": [{"name": "X-Token", "in": "header", "required": True, "type": "string"}],
        "x-amazon-apigateway-request-validator": "own",
    }
    validators = {"own": {"validateRequestParameters": validates, "validateRequestBody": False}}
    return {
        "paths": {"/things": {"post": operation}},
        "x-amazon-apigateway-request-validators": validators,
        **more,
    }


def test_a_missing_required_header_does_not_reach_the_function(serve: Callable[..., str], receiver: Receiver) -> None:
    url = serve(with_validator(True))

    refused = requests.post(f"{url}/things", timeout=10)
    taken = requests.post(f"{url}/things", headers={"x-token": "t"}, timeout=10)

    assert (refused.status_code, refused.json()) == (400, {"message": "Missing required request parameters"})
    assert (taken.status_code, len(receiver.events)) == (200, 1)


def test_without_a_validator_a_required_header_is_not_required(serve: Callable[..., str], receiver: Receiver) -> None:
    assert requests.post(f"{serve(with_validator(False))}/things", timeout=10).status_code == 200
    assert len(receiver.events) == 1


def test_a_gateway_response_of_the_template_is_used_and_its_default_too(serve: Callable[..., str]) -> None:
    own = {
        "BAD_REQUEST_PARAMETERS": {
            "statusCode": "401",
            "responseParameters": {"gatewayresponse.header.WWW-Authenticate": "'Basic realm=\"x\"'"},
            "responseTemplates": {"application/json": '{"own":$context.error.messageString}'},
        },
        "DEFAULT_4XX": {"responseTemplates": {"application/json": '{"message":"constant"}'}},
    }
    url = serve(with_validator(True, **{"x-amazon-apigateway-gateway-responses": own}))

    missing = requests.post(f"{url}/things", timeout=10)
    nowhere = requests.post(f"{url}/nothing", timeout=10)

    assert (missing.status_code, missing.json()) == (401, {"own": "Missing required request parameters"})
    assert missing.headers["WWW-Authenticate"] == 'Basic realm="x"'
    assert (nowhere.status_code, nowhere.json()) == (403, {"message": "constant"})


def test_another_integration_is_refused() -> None:
    mock = {"x-amazon-apigateway-integration": {"type": "mock", "uri": ""}}

    with pytest.raises(ValueError, match="POST /things"):
        api_config("abc", "v1", {"paths": {"/things": {"post": mock}}})


def test_what_would_be_ignored_is_refused() -> None:
    with pytest.raises(ValueError, match="binary media types"):
        api_config("abc", "v1", BODY | {"x-amazon-apigateway-binary-media-types": ["image/png"]})
    in_query = with_validator(True)
    in_query["paths"]["/things"]["post"]["parameters"] = [{"name": "token", "in": "query", "required": True}]
    with pytest.raises(ValueError, match="headers only, not token"):
        api_config("abc", "v1", in_query)
