"""The functions' own handlers with everything on, wired to the servers of this benchmark."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from uuid import uuid4

import botocore.httpsession
from botocore.awsrequest import AWSResponse

from benchmarks.servers import Servers, aws_answer
from local.aws.app_loader import load_app
from local.template import ACCOUNT_ID, REGION, Resource, load_template

_ROOT: Final = Path(__file__).resolve().parent.parent
_EVENTS: Final = _ROOT / "events"


class FixedContext:
    """Lambda's, as far as the handlers ask."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 60_000


def environment(servers: Servers, function: str, **changes: str) -> dict[str, str]:
    """What the template gives to a function (its logical id), and what Lambda does; AWS is asked over http."""
    template = load_template()
    references = {name: {"Ref": _reference(resource, servers)} for name, resource in template.resources.items()}
    return {
        **template.resolve(template.resources[function].properties["Environment"]["Variables"], references),
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": servers.aws,
        **changes,
    }


def _reference(resource: Resource, servers: Servers) -> str:
    """What `Ref` gives, as far as the functions look at it."""
    match resource.type:
        case "AWS::SQS::Queue":
            return f"{servers.aws}/{ACCOUNT_ID}/{resource.logical_id}"
        case "AWS::SecretsManager::Secret":
            return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT_ID}:secret:{resource.logical_id}-abcdef"
        case _:
            return resource.logical_id


def load(servers: Servers, function: str, **changes: str) -> ModuleType:
    """A fresh copy of a function's module, as a cold start has it; its variables become this process's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= environment(servers, function, **changes)
    path = _ROOT / load_template().resources[function].properties["Code"]["S3Key"] / "app.py"
    return load_app(path)


def example(name: str) -> dict[str, Any]:
    """An event of the folder events/."""
    event: dict[str, Any] = json.loads((_EVENTS / name).read_text(encoding="utf-8"))
    return event


def batch(size: int) -> dict[str, Any]:
    """An SQS event of that many new messages."""
    (record,) = example("sqs/one_message.json")["Records"]
    fields, attributes = json.loads(record["body"]), {**record["attributes"], "SentTimestamp": str(_now_ms())}
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


def status_callback() -> dict[str, Any]:
    """API Gateway's event of a status callback."""
    return example("api/status_sent.json")


def _now_ms() -> int:
    return int(time.time() * 1000)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """What the handlers print goes nowhere, as far as the operating system: they still format and write it."""
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)


class _Raw(io.BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()


@contextlib.contextmanager
def aws_in_process(record: Callable[[str, bytes], None] = lambda _target, _body: None) -> Iterator[None]:
    """AWS is asked nothing over the network; botocore does everything but the transfer."""
    real = botocore.httpsession.URLLib3Session.send

    def send(_session: object, request: Any) -> AWSResponse:
        target, body = request.headers["X-Amz-Target"], request.body or b"{}"
        target = target.decode() if isinstance(target, bytes) else str(target)
        record(target, body)
        content = aws_answer(target, body)
        headers = {"Content-Type": "application/x-amz-json-1.0"}
        return AWSResponse(request.url, 200, headers, _Raw(content))  # type: ignore[arg-type]

    botocore.httpsession.URLLib3Session.send = send  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        botocore.httpsession.URLLib3Session.send = real  # type: ignore[method-assign]


def table_writes(app: ModuleType, event: dict[str, Any]) -> list[dict[str, Any]]:
    """What one invocation asks of DynamoDB's UpdateItem."""
    return [json.loads(body) for operation, body in _asked(app, event) if operation == "UpdateItem"]


def aws_calls(app: ModuleType, event: dict[str, Any]) -> Counter[str]:
    """How often one invocation calls each operation of AWS."""
    return Counter(operation for operation, _ in _asked(app, event))


def _asked(app: ModuleType, event: dict[str, Any]) -> list[tuple[str, bytes]]:
    asked: list[tuple[str, bytes]] = []
    with silent(), aws_in_process(lambda target, body: asked.append((target.rpartition(".")[2], body))):
        result = app.lambda_handler(event, FixedContext())
    assert not result.get("batchItemFailures")
    assert result.get("statusCode", 200) == 200
    return asked
