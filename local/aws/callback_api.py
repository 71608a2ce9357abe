"""Serves the callback API as API Gateway would, from the OpenAPI body in the translated template.

This module also does API Gateway's own work: stage path, routes, required parameters (request validator), gateway
responses, the body limit, the proxy event, the mapping of its result. Sources: API Gateway developer guide, "Set up
Lambda proxy integrations", "Gateway response types", "Amazon API Gateway important notes" (renamed headers), "Content
type conversions", "Quotas" (10 MB).
"""

import base64
import json
import re
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from local.aws.function import Invocation
from local.guard import Guard, Header, refusal_of_page, refusal_of_request
from local.http_server import HttpListener, HttpRequest, HttpResponse, HttpRules, refusal
from local.template import ACCOUNT_ID

BODY_LIMIT_BYTES = 10 * 1024 * 1024
_REMAPPED_RESPONSE_HEADERS = {"www-authenticate", "date", "server", "content-md5", "x-powered-by"}

Invoke = Callable[[Any], Invocation]


@dataclass(frozen=True)
class ApiRoute:
    """A method of a path of the API."""

    resource: str
    method: str
    function_arn: str
    required_headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class ApiConfig:
    """A stage of an AWS::ApiGateway::RestApi."""

    api_id: str
    stage: str
    routes: Mapping[tuple[str, str], ApiRoute]
    """By method and path."""
    gateway_responses: Mapping[str, Mapping[str, Any]]
    """The `x-amazon-apigateway-gateway-responses` of the body, by type."""
    passes_bytes: bool = False
    """Whether every media type is binary, so that the function gets each body in base64."""


# Status and message of AWS's default gateway responses; template.yaml changes the first to 401.
_DEFAULT_RESPONSES = {
    "BAD_REQUEST_PARAMETERS": (400, "Missing required request parameters"),
    "MISSING_AUTHENTICATION_TOKEN": (403, "Missing Authentication Token"),
    "REQUEST_TOO_LARGE": (413, "Request Too Long"),
    "DEFAULT_5XX": (502, "Internal server error"),
}


def api_config(api_id: str, stage: str, body: Mapping[str, Any]) -> ApiConfig:
    """Return the stage of a resolved OpenAPI `Body`. Raise ValueError for features that the local API does not have."""
    binary = body.get("x-amazon-apigateway-binary-media-types", [])
    if binary not in ([], ["*/*"]):
        raise ValueError(f"the local API knows no binary media types but */*, not {', '.join(binary)}")
    routes = {
        (method.upper(), path): _route(path, method.upper(), operation, body)
        for path, methods in body["paths"].items()
        for method, operation in methods.items()
    }
    return ApiConfig(api_id, stage, routes, body.get("x-amazon-apigateway-gateway-responses", {}), bool(binary))


def _route(path: str, method: str, operation: Mapping[str, Any], body: Mapping[str, Any]) -> ApiRoute:
    integration = operation["x-amazon-apigateway-integration"]
    match = re.search(r"/functions/(arn:aws:lambda:[^/]+)/invocations$", str(integration["uri"]))
    if integration["type"].lower() != "aws_proxy" or match is None:
        raise ValueError(f"{method} {path} is not a Lambda proxy integration, which is all that the local API serves")
    return ApiRoute(path, method, match[1], _required_headers(operation, body))


def _required_headers(operation: Mapping[str, Any], body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the headers that API Gateway requires; none unless a request validator checks them."""
    validators = body.get("x-amazon-apigateway-request-validators", {})
    validator = validators.get(operation.get("x-amazon-apigateway-request-validator"), {})
    if not validator.get("validateRequestParameters"):
        return ()
    required = [parameter for parameter in operation.get("parameters", []) if parameter.get("required")]
    if others := [parameter["name"] for parameter in required if parameter["in"] != "header"]:
        raise ValueError(f"the local API requires headers only, not {', '.join(others)}")
    return tuple(parameter["name"] for parameter in required)


def no_page(header: Header, _address: str) -> str | None:
    """Accept any Host, because a real gateway reaches this listener by a tunnel's host name."""
    return refusal_of_page(header)


def _response(status: int, headers: list[tuple[str, str]], body: bytes, request_id: str) -> HttpResponse:
    return HttpResponse(status, body, content_type="", headers=(*headers, ("x-amzn-RequestId", request_id)))


class CallbackApi:
    """Serves an API on a listening socket. `functions`: by ARN."""

    def __init__(
        self,
        config: ApiConfig,
        listener: socket.socket,
        functions: Mapping[str, Invoke],
        guard: Guard = refusal_of_request,
    ) -> None:
        self._config = config
        self._functions = functions
        rules = HttpRules(BODY_LIMIT_BYTES, finishes_responses=True, refusal=self._refusal, guard=guard)
        self._listener = HttpListener(self._serve, listener, rules)

    def start(self) -> None:
        """Start serving."""
        self._listener.open()

    def stop(self) -> None:
        """Stop serving, after responses under way have ended."""
        self._listener.close()

    def _serve(self, request: HttpRequest) -> HttpResponse:
        request_id = str(uuid.uuid4())
        path = unquote(request.path).removeprefix(f"/{self._config.stage}")
        # A path with a slash at its end is the same resource; the event's path keeps the slash (observed on AWS,
        # undocumented).
        route = self._config.routes.get((request.method, path.removesuffix("/")))
        if route is None or not request.path.startswith(f"/{self._config.stage}/"):
            return self._gateway_response("MISSING_AUTHENTICATION_TOKEN", request_id)
        if not all(name in request.headers for name in route.required_headers):
            return self._gateway_response("BAD_REQUEST_PARAMETERS", request_id)
        event = proxy_event(self._config, route, request, self._listener.port, request_id)
        try:
            return proxy_response(self._functions[route.function_arn](event), request_id)
        except ValueError:
            return self._gateway_response("DEFAULT_5XX", request_id)

    def _gateway_response(self, kind: str, request_id: str) -> HttpResponse:
        """Return the gateway response of this type: the template's, else its DEFAULT_… one, else AWS's."""
        own = self._config.gateway_responses
        default_status, message = _DEFAULT_RESPONSES[kind]
        spec = own.get(kind) or own.get(f"DEFAULT_{default_status // 100}XX", {})
        body = spec.get("responseTemplates", {}).get("application/json", '{"message":$context.error.messageString}')
        body = body.replace("$context.error.messageString", json.dumps(message))
        prefix, parameters = "gatewayresponse.header.", spec.get("responseParameters", {}).items()
        own_headers = [(name.removeprefix(prefix), text.strip("'")) for name, text in parameters if prefix in name]
        headers = [("Content-Type", "application/json"), *own_headers]
        return _response(int(spec.get("statusCode", default_status)), headers, body.encode(), request_id)

    def _refusal(self, status: HTTPStatus) -> HttpResponse:
        if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return self._gateway_response("REQUEST_TOO_LARGE", str(uuid.uuid4()))
        return refusal(status)


def proxy_event(config: ApiConfig, route: ApiRoute, request: HttpRequest, port: int, request_id: str) -> dict[str, Any]:
    """Return a request as the event of a REST API's Lambda proxy integration. `port`: of the local API."""
    now = time.time()
    path = route.resource + ("/" if request.path.endswith("/") else "")
    headers = [*request.headers.items(), *_added_headers(request.client, port, now)]
    single_headers = dict(headers)
    return {
        "resource": route.resource,
        "path": path,
        "httpMethod": route.method,
        "headers": single_headers,
        "multiValueHeaders": {name: [value for other, value in headers if other == name] for name in single_headers},
        "queryStringParameters": {name: values[-1] for name, values in request.query.items()} or None,
        "multiValueQueryStringParameters": dict(request.query) or None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": config.api_id,
            "domainName": single_headers.get("Host", ""),
            "extendedRequestId": request_id,
            "httpMethod": route.method,
            "identity": {"sourceIp": request.client, "userAgent": single_headers.get("User-Agent")},
            "path": f"/{config.stage}{path}",
            "protocol": "HTTP/1.1",
            "requestId": request_id,
            "requestTime": datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "requestTimeEpoch": int(now * 1000),
            "resourceId": "local",
            "resourcePath": route.resource,
            "stage": config.stage,
        },
        "body": _body(request.body, config.passes_bytes) or None,
        "isBase64Encoded": config.passes_bytes and bool(request.body),
    }


def _body(body: bytes, passes_bytes: bool) -> str:
    """Return the body as text. Without binary media types, API Gateway replaces bytes that are not UTF-8."""
    return base64.b64encode(body).decode() if passes_bytes else body.decode("utf-8", "replace")


def _added_headers(client: str, port: int, now: float) -> list[tuple[str, str]]:
    """Return the headers that API Gateway adds to a request."""
    return [
        ("X-Forwarded-For", client),
        ("X-Forwarded-Port", str(port)),
        ("X-Forwarded-Proto", "http"),
        ("X-Amzn-Trace-Id", f"Root=1-{int(now):08x}-{uuid.uuid4().hex[:24]}"),
    ]


def proxy_response(invocation: Invocation, request_id: str) -> HttpResponse:
    """Return the response that a function's result describes. Raise ValueError where API Gateway returns HTTP 502."""
    result = invocation.result
    body = (result.get("body") or "") if isinstance(result, dict) else None
    if invocation.error is not None or not isinstance(result, dict) or not isinstance(body, str):
        raise ValueError("not the result of a proxy integration")
    many = result.get("multiValueHeaders") or {}
    single = {name: [value] for name, value in (result.get("headers") or {}).items()}
    headers = [(_remapped(name), _header_value(value)) for name, values in (single | many).items() for value in values]
    headers = [header for header in headers if header[0].lower() != "content-length"]
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", "application/json"))
    content = base64.b64decode(body) if result.get("isBase64Encoded") else body.encode()
    return _response(int(result.get("statusCode", 200)), headers, content, request_id)


def _header_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _remapped(name: str) -> str:
    return f"x-amzn-Remapped-{name}" if name.lower() in _REMAPPED_RESPONSE_HEADERS else name
