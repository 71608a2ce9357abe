"""API Gateway's work before the function: in the translated template, and served over HTTP."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from local.aws.callback_api import ApiConfig, CallbackApi, api_config
from local.aws.function import Invocation
from local.template import STACK_NAME
from tests.support.aws import default_template
from tests.support.builders import basic
from tests.support.callback_stack import CallbackStack

API = default_template().resources["CallbackApi"].properties["Body"]
STAGE = next(iter(default_template().of_type("AWS::ApiGateway::Stage"))).properties
PATHS = ("/callbacks/status", "/callbacks/reply")
BODY = '{"id": "497f6eca-6276-4993-bfeb-53cbbbba6f08", "status": "sent"}'


# ------------------------------------------------------------------------------------------------------- the template


@pytest.mark.parametrize("path", PATHS)
def test_api_gateway_itself_insists_on_the_header_and_on_nothing_else(path: str) -> None:
    operation = API["paths"][path]["post"]
    validator = API["x-amazon-apigateway-request-validators"][operation["x-amazon-apigateway-request-validator"]]
    assert validator == {"validateRequestBody": False, "validateRequestParameters": True}
    required = [(each["in"], each["name"]) for each in operation["parameters"] if each.get("required")]
    assert required == [("header", "Authorization")]


def test_bodies_come_as_bytes_and_nothing_needs_them_as_text() -> None:
    """A mock integration or the validation of a body would fail on binary media types."""
    assert API["x-amazon-apigateway-binary-media-types"] == ["*/*"]
    integrations = [
        method["x-amazon-apigateway-integration"] for path in API["paths"].values() for method in path.values()
    ]
    assert {each["type"] for each in integrations} == {"aws_proxy"}


def test_there_are_two_routes_and_no_catch_all() -> None:
    assert {path: set(methods) for path, methods in API["paths"].items()} == {path: {"post"} for path in PATHS}


def test_the_challenge_comes_from_a_gateway_response() -> None:
    """A function's own WWW-Authenticate would be renamed (API Gateway developer guide, "important notes")."""
    response = API["x-amazon-apigateway-gateway-responses"]["BAD_REQUEST_PARAMETERS"]
    assert response["statusCode"] == "401"
    assert response["responseParameters"] == {"gatewayresponse.header.WWW-Authenticate": "'Basic realm=\"callbacks\"'"}


def test_everything_that_api_gateway_answers_itself_has_a_constant_body() -> None:
    """API Gateway's default message for an unknown path quotes the Authorization header."""
    responses = API["x-amazon-apigateway-gateway-responses"]
    assert {"DEFAULT_4XX", "DEFAULT_5XX", "MISSING_AUTHENTICATION_TOKEN", "THROTTLED"} <= set(responses)
    for kind, response in responses.items():
        assert set(response["responseTemplates"]) == {"application/json"}, kind
        template = response["responseTemplates"]["application/json"]
        assert "$" not in template, kind
        assert set(json.loads(template)) == {"message"}, kind
    assert responses["DEFAULT_4XX"]["statusCode"] == responses["MISSING_AUTHENTICATION_TOKEN"]["statusCode"] == "404"
    assert "statusCode" not in responses["DEFAULT_5XX"]  # 504 stays 504; every 5xx makes the gateway deliver again
    assert responses["THROTTLED"]["statusCode"] == "429"


def test_the_access_log_can_hold_neither_credentials_nor_text_nor_numbers() -> None:
    """The caller controls path, query, headers and body, so the log has none of them."""
    log_format = STAGE["AccessLogSetting"]["Format"]
    variables = set(re.findall(r"\$context\.[A-Za-z.]+", log_format))
    assert variables <= {
        "$context.requestTime",
        "$context.requestId",
        "$context.identity.sourceIp",
        "$context.httpMethod",
        "$context.resourcePath",  # the template's own path
        "$context.status",
        "$context.error.responseType",  # the type, not the message
        "$context.responseLatency",
        "$context.integrationLatency",
        "$context.tlsVersion",
    }
    assert "$context.status" in variables
    own = {"service": "callback_api", "stack": STACK_NAME}  # dimensions of the metric that a filter makes of it
    line = json.loads(re.sub(r"\$context\.[A-Za-z.]+", "x", log_format))
    assert line == dict.fromkeys(line, "x") | own


def test_execution_logs_which_can_quote_headers_and_bodies_are_off() -> None:
    for setting in STAGE["MethodSettings"]:
        assert (setting["LoggingLevel"], setting["DataTraceEnabled"]) == ("OFF", False)


def test_the_stage_is_throttled() -> None:
    [setting] = STAGE["MethodSettings"]
    assert (setting["HttpMethod"], setting["ResourcePath"]) == ("*", "/*")
    assert (setting["ThrottlingRateLimit"], setting["ThrottlingBurstLimit"]) == ("500", 1000)


def test_there_is_no_way_in_but_tls_of_today() -> None:
    properties = default_template().resources["CallbackApi"].properties
    assert properties["SecurityPolicy"] == "SecurityPolicy_TLS13_1_2_2021_06"
    assert default_template().outputs["StatusCallbackUrl"]["Value"]["Fn::Sub"].startswith("https://")


def test_the_function_may_do_what_it_does_and_nothing_else() -> None:
    [policy] = default_template().resources["ReceiveCallbackRole"].properties["Policies"]
    actions = set()
    for statement in policy["PolicyDocument"]["Statement"]:
        if statement["Effect"] == "Deny":
            continue
        assert statement["Resource"] != "*"
        actions |= {statement["Action"]} if isinstance(statement["Action"], str) else set(statement["Action"])
    assert {action for action in actions if not action.startswith("logs:")} == {
        "secretsmanager:GetSecretValue",
        "dynamodb:UpdateItem",
        "dynamodb:Query",
        "dynamodb:GetItem",
        "sqs:SendMessage",
    }


# --------------------------------------------------------------------------------------------------- served over HTTP


@dataclass(frozen=True)
class HttpAnswer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Api:
    """The template's API on a port, with the real handler behind it; ``invoked`` counts the requests that reach it."""

    def __init__(self, stack: CallbackStack, config: ApiConfig, listener: socket.socket) -> None:
        self.invoked = 0
        self._stack = stack
        self._port = listener.getsockname()[1]
        arn = next(iter(config.routes.values())).function_arn
        self.server = CallbackApi(config, listener, {arn: self._invoke})

    def _invoke(self, event: Any) -> Invocation:
        self.invoked += 1
        answer = self._stack.handle(event)
        result = {"statusCode": answer.status, "headers": dict(answer.headers), "body": answer.body}
        return Invocation("request", result, None)

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes | str = BODY) -> HttpAnswer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return HttpAnswer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def shared_stack() -> Iterator[CallbackStack]:
    with CallbackStack() as stack:
        yield stack


@pytest.fixture
def api(shared_stack: CallbackStack) -> Iterator[Api]:
    shared_stack.clean()
    function = default_template().resources["ReceiveCallbackFunction"]
    arn = "arn:aws:lambda:ap-southeast-2:123456789012:function:receive"
    body = default_template().resolve(API, {function.logical_id: {"Ref": "receive", "Arn": arn}})
    listener = socket.create_server(("127.0.0.1", 0))
    api = Api(shared_stack, api_config("abcdefghij", STAGE["StageName"], body), listener)
    api.server.start()
    yield api
    api.server.stop()


@pytest.mark.parametrize("path", PATHS)
def test_without_the_header_nobody_is_woken_and_a_challenge_is_sent(api: Api, path: str) -> None:
    answer = api.request("POST", f"/v1{path}", {"Content-Type": "application/json"})
    assert (answer.status, answer.body) == (401, b'{"message":"Unauthorized"}')
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="callbacks"'
    assert api.invoked == 0


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_waits_for_the_challenge_gets_through(api: Api, shared_stack: CallbackStack, path: str) -> None:
    challenge = api.request("POST", f"/v1{path}", {}).headers["WWW-Authenticate"]
    assert challenge.startswith("Basic ")
    answer = api.request("POST", f"/v1{path}", {"Authorization": basic(), "Content-Type": "application/json"})
    assert (answer.status, answer.body) == (200, b'{"message": "Stored"}')
    assert len(shared_stack.rows()) == 1


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "text/plain", "application/xml", None])
def test_any_content_type_gets_through(api: Api, content_type: str | None) -> None:
    headers = {"Authorization": basic()} | ({"Content-Type": content_type} if content_type else {})
    assert api.request("POST", "/v1/callbacks/status", headers).status == 200


@pytest.mark.parametrize(
    ("content_type", "encoding", "is_stored"),
    [
        ("application/json", "utf-8", True),
        ("application/json; charset=ISO-8859-1", "iso-8859-1", True),
        ("application/json", "utf-16", True),
        ("application/json", "iso-8859-1", False),
        ("application/json", "gzip", False),
    ],
)
def test_a_body_comes_through_byte_for_byte(
    api: Api, shared_stack: CallbackStack, content_type: str, encoding: str, is_stored: bool
) -> None:
    text = '{"id": "mo-1", "content": "Café ä£"}'
    body = gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding)
    headers = {"Authorization": basic(), "Content-Type": content_type}
    assert api.request("POST", "/v1/callbacks/reply", headers, body).status == 200
    if is_stored:
        assert shared_stack.row("mo-1")["content"] == "Café ä£"
    else:
        [letter] = shared_stack.dead_letters()
        assert (letter["reason"], letter["body_encoding"]) == ("unreadable_callback", "base64")
        assert base64.b64decode(letter["body"]) == body


def test_wrong_credentials_are_refused_by_the_function(api: Api) -> None:
    answer = api.request("POST", "/v1/callbacks/status", {"Authorization": basic(password="wrong")})
    assert (answer.status, answer.body) == (401, b'{"message": "Unauthorized"}')
    assert answer.headers["x-amzn-Remapped-WWW-Authenticate"] == 'Basic realm="callbacks"'


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/callbacks/status"),
        ("PUT", "/v1/callbacks/reply"),
        ("BREW", "/v1/callbacks/reply"),
        ("POST", "/v1/callbacks"),
        ("POST", "/v1/callbacks/status/more"),
        ("POST", "/v1/"),
        ("POST", "/callbacks/status"),
    ],
)
def test_another_path_or_method_is_answered_without_the_function(api: Api, method: str, path: str) -> None:
    answer = api.request(method, path, {"Authorization": basic(password="secret-of-somebody")})
    assert (answer.status, answer.body) == (404, b'{"message":"Not Found"}')
    assert api.invoked == 0


def test_a_body_beyond_64_kilobytes_is_refused(api: Api) -> None:
    answer = api.request("POST", "/v1/callbacks/status", {"Authorization": basic()}, b"x" * 65_537)
    assert answer.status == 413
