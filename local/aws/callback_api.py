"""The callback API as API Gateway would serve it, from the translated template's own OpenAPI body.

What API Gateway does by itself is done here too: stage path, routes, required parameters (request validator), gateway
responses, the body limit, the proxy event, the mapping of the answer. Sources: API Gateway developer guide, "Set up
Lambda proxy integrations", "Gateway response types", "Amazon API Gateway important notes" (renamed headers), "Content
type conversions", "Quotas" (10 MB).
"""

import base64
import contextlib
import json
import logging
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from local.aws.function import Invocation
from local.aws.resources import ACCOUNT_ID

BODY_LIMIT_BYTES = 10 * 1024 * 1024
KEEP_ALIVE_SECONDS = 60
_REMAPPED_RESPONSE_HEADERS = {"www-authenticate", "date", "server", "content-md5", "x-powered-by"}

log = logging.getLogger(__name__)

Invoke = Callable[[Any], Invocation]


@dataclass(frozen=True)
class GatewayResponse:
    """What API Gateway answers by itself, without a function."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True)
class ApiRoute:
    """One method of one path of the API."""

    resource: str
    method: str
    function_arn: str
    required_headers: tuple[str, ...] = ()
    required_query: tuple[str, ...] = ()


@dataclass(frozen=True)
class ApiConfig:
    """One stage of an AWS::ApiGateway::RestApi."""

    api_id: str
    stage: str
    routes: Mapping[tuple[str, str], ApiRoute]
    """By method and path."""
    gateway_responses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The `x-amazon-apigateway-gateway-responses` of the body, by kind."""
    binary_media_types: frozenset[str] = frozenset()


# Status and message of the gateway responses that a template has not changed.
_DEFAULT_RESPONSES = {
    "BAD_REQUEST_PARAMETERS": (400, "Missing required request parameters"),
    "MISSING_AUTHENTICATION_TOKEN": (403, "Missing Authentication Token"),
    "REQUEST_TOO_LARGE": (413, "Request Too Long"),
    "DEFAULT_5XX": (502, "Internal server error"),
}


def api_config(api_id: str, stage: str, body: Mapping[str, Any]) -> ApiConfig:
    """From the resolved OpenAPI `Body` of the API. Raises ValueError for an integration that is no Lambda proxy."""
    routes = {}
    for path, methods in body["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                routes[(method.upper(), path)] = _route(path, method.upper(), operation, body)
    return ApiConfig(
        api_id,
        stage,
        routes,
        gateway_responses=body.get("x-amazon-apigateway-gateway-responses", {}),
        binary_media_types=frozenset(body.get("x-amazon-apigateway-binary-media-types", ())),
    )


def _route(path: str, method: str, operation: Mapping[str, Any], body: Mapping[str, Any]) -> ApiRoute:
    integration = operation["x-amazon-apigateway-integration"]
    match = re.search(r"/functions/(arn:aws:lambda:[^/]+)/invocations$", str(integration["uri"]))
    if integration["type"].lower() != "aws_proxy" or match is None:
        raise ValueError(f"{method} {path} is no Lambda proxy integration, which is all that the local API serves")
    required = _required_parameters(operation, body)
    return ApiRoute(
        resource=path,
        method=method,
        function_arn=match[1],
        required_headers=tuple(name for place, name in required if place == "header"),
        required_query=tuple(name for place, name in required if place == "query"),
    )


def _required_parameters(operation: Mapping[str, Any], body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The parameters that API Gateway insists on; none unless a request validator checks them."""
    key = "x-amazon-apigateway-request-validator"
    validator = body.get("x-amazon-apigateway-request-validators", {}).get(operation.get(key, body.get(key)), {})
    if not validator.get("validateRequestParameters"):
        return []
    return [(item["in"], item["name"]) for item in operation.get("parameters", []) if item.get("required")]


def gateway_response(kind: str, own: Mapping[str, Mapping[str, Any]], request_id: str) -> GatewayResponse:
    """What API Gateway answers by itself: the template's response of this kind, else its DEFAULT_…, else AWS's own."""
    default_status, message = _DEFAULT_RESPONSES[kind]
    spec = own.get(kind) or own.get(f"DEFAULT_{default_status // 100}XX", {})
    values = {
        "$context.error.messageString": json.dumps(message),
        "$context.error.message": message,
        "$context.requestId": request_id,
    }
    body = spec.get("responseTemplates", {}).get("application/json", '{"message":$context.error.messageString}')
    for name, value in values.items():
        body = body.replace(name, value)
    prefix = "gatewayresponse.header."
    own_headers = {
        name.removeprefix(prefix): value.strip("'")
        for name, value in spec.get("responseParameters", {}).items()
        if name.startswith(prefix)
    }
    headers = {"Content-Type": "application/json", **own_headers}
    return GatewayResponse(int(spec.get("statusCode", default_status)), headers, body)


class CallbackApi:
    """Serves one API on a socket that is listening already; `functions` are by ARN."""

    def __init__(self, config: ApiConfig, listener: socket.socket, functions: Mapping[str, Invoke]) -> None:
        self._server = _Server(config, listener, functions)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="callback API")

    def start(self) -> None:
        """Start serving."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving; answers under way are finished."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.hang_up()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close waits for every connection's thread

    def __init__(self, config: ApiConfig, listener: socket.socket, functions: Mapping[str, Invoke]) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()[:2]
        self.config = config
        self.functions = functions
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Take no more requests on open connections; answers under way still go out."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class's signature
        log.debug("a connection to the callback API broke", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = KEEP_ALIVE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet

    def handle_one_request(self) -> None:
        """Any method, known or not: API Gateway has an answer for each."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if self.parse_request():
            self._serve()
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nothing: a callback's address may be no one's business."""

    def _serve(self) -> None:
        config = self.server.config
        url = urlsplit(self.path)
        body = self._read_body()
        if body is None:
            self._send_gateway_response("REQUEST_TOO_LARGE")
            return
        path = unquote(url.path).removeprefix(f"/{config.stage}") if self._is_in_stage(url.path) else None
        route = config.routes.get((self.command, path)) if path else None
        if route is None or path is None:
            self._send_gateway_response("MISSING_AUTHENTICATION_TOKEN")
            return
        query = parse_qsl(url.query, keep_blank_values=True)
        if any(name not in self.headers for name in route.required_headers) or any(
            name not in dict(query) for name in route.required_query
        ):
            self._send_gateway_response("BAD_REQUEST_PARAMETERS")
            return
        request_id = str(uuid.uuid4())
        headers = [*self.headers.items(), *self._added_headers()]
        event = proxy_event(config, route, query, headers, body, self.client_address[0], request_id)
        self._send_answer(self.server.functions[route.function_arn](event), request_id)

    def _added_headers(self) -> list[tuple[str, str]]:
        """What API Gateway adds to a request's headers."""
        return [
            ("X-Forwarded-For", self.client_address[0]),
            ("X-Forwarded-Port", str(self.server.server_port)),
            ("X-Forwarded-Proto", "http"),
            ("X-Amzn-Trace-Id", f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}"),
        ]

    def _is_in_stage(self, path: str) -> bool:
        return path.startswith(f"/{self.server.config.stage}/")

    def _read_body(self) -> bytes | None:
        """The body, or None if it is larger than API Gateway takes."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._read_chunks()
        try:
            length = int(self.headers.get("Content-Length", 0))
        except ValueError:
            length = 0
        if length > BODY_LIMIT_BYTES:
            self.close_connection = True
            return None
        return self.rfile.read(length)

    def _read_chunks(self) -> bytes | None:
        body = b""
        while size := int(self.rfile.readline(1024).split(b";")[0] or b"0", 16):
            if len(body) + size > BODY_LIMIT_BYTES:
                self.close_connection = True
                return None
            body += self.rfile.read(size)
            self.rfile.readline(3)
        while self.rfile.readline(65537).strip():
            pass  # trailers
        return body

    def _send_gateway_response(self, kind: str) -> None:
        request_id = str(uuid.uuid4())
        response = gateway_response(kind, self.server.config.gateway_responses, request_id)
        self._send(response.status, list(response.headers.items()), response.body.encode(), request_id)

    def _send_answer(self, invocation: Invocation, request_id: str) -> None:
        try:
            status, headers, body = proxy_answer(invocation)
        except ValueError:
            self._send_gateway_response("DEFAULT_5XX")
            return
        self._send(status, headers, body, request_id)

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes, request_id: str) -> None:
        self.send_response_only(status, HTTPStatus(status).phrase if status in set(HTTPStatus) else "")
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Date", self.date_time_string())
        self.send_header("x-amzn-RequestId", request_id)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def proxy_event(
    config: ApiConfig,
    route: ApiRoute,
    query: list[tuple[str, str]],
    headers: list[tuple[str, str]],
    body: bytes,
    source_ip: str,
    request_id: str,
) -> dict[str, Any]:
    """A request as the event of a REST API's Lambda proxy integration."""
    now = time.time()
    single_headers = dict(headers)
    text, is_base64 = _event_body(body, single_headers.get("Content-Type", ""), config.binary_media_types)
    return {
        "resource": route.resource,
        "path": route.resource,
        "httpMethod": route.method,
        "headers": single_headers,
        "multiValueHeaders": _multi_value(headers),
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": _multi_value(query) or None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": config.api_id,
            "domainName": single_headers.get("Host", ""),
            "extendedRequestId": request_id,
            "httpMethod": route.method,
            "identity": {"sourceIp": source_ip, "userAgent": single_headers.get("User-Agent")},
            "path": f"/{config.stage}{route.resource}",
            "protocol": "HTTP/1.1",
            "requestId": request_id,
            "requestTime": datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "requestTimeEpoch": int(now * 1000),
            "resourceId": "local",
            "resourcePath": route.resource,
            "stage": config.stage,
        },
        "body": text,
        "isBase64Encoded": is_base64,
    }


def _event_body(body: bytes, content_type: str, binary_media_types: frozenset[str]) -> tuple[str | None, bool]:
    """The body as Base64 for the API's binary media types, else as text, which mangles what is not UTF-8."""
    if not body:
        return None, False
    if {"*/*", content_type.partition(";")[0].strip()} & binary_media_types:
        return base64.b64encode(body).decode("ascii"), True
    return body.decode("utf-8", "replace"), False


def _multi_value(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def proxy_answer(invocation: Invocation) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of a function's answer. Raises ValueError when API Gateway would answer 502."""
    answer = invocation.result
    body = (answer.get("body") or "") if isinstance(answer, dict) else None
    if invocation.error is not None or not isinstance(answer, dict) or not isinstance(body, str):
        raise ValueError("not the answer of a proxy integration")
    status = int(answer.get("statusCode", 200))
    headers = [(name, _header_value(value)) for name, value in (answer.get("headers") or {}).items()]
    for name, values in (answer.get("multiValueHeaders") or {}).items():
        headers = [header for header in headers if header[0] != name]
        headers += [(name, _header_value(value)) for value in values]
    headers = [(_remapped(name), value) for name, value in headers if name.lower() != "content-length"]
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", "application/json"))
    return status, headers, base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()


def _header_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _remapped(name: str) -> str:
    return f"x-amzn-Remapped-{name}" if name.lower() in _REMAPPED_RESPONSE_HEADERS else name
