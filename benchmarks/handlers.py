"""The functions' own handlers, with all features on, connected to the benchmark's servers."""

import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from uuid import uuid4

from botocore.awsrequest import AWSResponse

from benchmarks.servers import Servers, aws_response, example
from local.aws.app_loader import load_app
from local.template import REGION, load_template
from optus_sms.aws.connections import Connections

_ROOT: Final = Path(__file__).resolve().parent.parent


class _Context:
    """The part of Lambda's context object that the handlers use."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 60_000


def environment(servers: Servers, function: str, **changes: str) -> dict[str, str]:
    """Return the variables that the template and Lambda give to a function (its logical id); AWS over plain HTTP."""
    template = load_template()
    references = {name: {"Ref": name} for name in template.resources}
    return {
        **template.resolve(template.resources[function].properties["Environment"]["Variables"], references),
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": servers.plain,
        **changes,
    }


def load(servers: Servers, function: str, **changes: str) -> ModuleType:
    """Return a fresh copy of a function's module, as after a cold start. Its variables become this process's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= environment(servers, function, **changes)
    return load_app(_ROOT / load_template().resources[function].properties["Code"]["S3Key"] / "app.py")


def batch(size: int) -> dict[str, Any]:
    """Return an SQS event with so many new messages."""
    (record,) = example("sqs/one_message.json")["Records"]
    fields = json.loads(record["body"])
    attributes = {**record["attributes"], "SentTimestamp": str(int(time.time() * 1000))}
    return {
        "Records": [
            {
                **record,
                "messageId": str(uuid4()),
                "body": json.dumps({**fields, "message_id": uuid4().hex}),
                "attributes": attributes,
            }
            for _ in range(size)
        ]
    }


def invoke(app: ModuleType, event: dict[str, Any]) -> None:
    """Invoke a function, which must succeed."""
    result = app.lambda_handler(event, _Context())
    assert not result.get("batchItemFailures")
    assert result.get("statusCode", 200) == 200


def aws_requests(app: ModuleType, event: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Invoke a function, and return the operation and the arguments of each of its requests to AWS."""
    requests: list[tuple[str, dict[str, Any]]] = []
    with aws_in_process(lambda operation, body: requests.append((operation.rpartition(".")[2], json.loads(body)))):
        invoke(app, event)
    return requests


@contextlib.contextmanager
def aws_in_process(record: Callable[[str, bytes], None] = lambda _operation, _body: None) -> Iterator[None]:
    """Respond for AWS without the network: botocore does all but the transfer."""

    def respond(request: Any) -> AWSResponse:
        operation, body = request.headers["X-Amz-Target"], request.body or b"{}"
        operation = operation.decode() if isinstance(operation, bytes) else str(operation)
        record(operation, body)
        content = _Raw(aws_response(operation, body))
        headers = {"Content-Type": "application/x-amz-json-1.0"}
        return AWSResponse(request.url, 200, headers, content)  # type: ignore[arg-type]

    _in_process.append(respond)
    try:
        yield
    finally:
        _in_process.pop()


_in_process: Final[list[Callable[[Any], AWSResponse]]] = []
_send_over_network: Final = Connections.send


def _send(connections: Connections, request: Any, **event: Any) -> AWSResponse:
    return _in_process[-1](request) if _in_process else _send_over_network(connections, request, **event)


# Replaced before a client is made, because botocore keeps the bound method as its handler.
Connections.send = _send  # type: ignore[assignment, method-assign]


class _Raw(io.BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()
