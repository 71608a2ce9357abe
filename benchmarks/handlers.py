"""The functions' own handlers with everything on, wired to the servers of this benchmark."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from uuid import uuid4

import botocore.httpsession
from botocore.awsrequest import AWSResponse

from benchmarks.servers import CALLBACK_SECRET, Servers, aws_answer
from tests.support.builders import api_event, basic, message_body, sqs_event, sqs_record

_ROOT: Final = Path(__file__).resolve().parent.parent


class Context:
    """Lambda's, as far as the handlers ask."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 60_000


def set_environment(servers: Servers) -> None:
    """Of both functions, as the template sets it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    secret = "arn:aws:secretsmanager:ap-southeast-2:123456789012:secret:"
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": "ap-southeast-2",
        "AWS_DEFAULT_REGION": "ap-southeast-2",
        "AWS_ENDPOINT_URL": servers.aws,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "CALLBACK_SECRET_ID": secret + "callback-abcdef",
        "DEAD_LETTER_QUEUE_URL": f"{servers.aws}/123456789012/dead-letters",
        "GATEWAY_ALLOW_HTTP": "true",
        "GATEWAY_SECRET_ID": secret + "gateway-abcdef",
        "GATEWAY_TIMEOUT_SECONDS": "10",
        "MAX_ATTEMPTS": "10",
        "MAX_MESSAGES_PER_SECOND": "0",
        "MESSAGES_TABLE_NAME": "messages",
        "ON_UNKNOWN_OUTCOME": "hold",
        "OUTBOUND_QUEUE_URL": f"{servers.aws}/123456789012/outbound",
        "REPLY_MATCH_DAYS": "3",
        "REQUIRE_MESSAGE_ID": "false",
        "RETENTION_DAYS": "90",
        "SENDER_CONCURRENCY": "2",
        "SEND_LEDGER_TABLE_NAME": "ledger",
        "STACK_NAME": "benchmark",
    }


def load(function: str, **environment: str) -> ModuleType:
    """A fresh copy of a function's module, as a new sandbox has it."""
    os.environ |= {"POWERTOOLS_SERVICE_NAME": function, **environment}
    path = _ROOT / "functions" / function / "app.py"
    spec = importlib.util.spec_from_file_location(f"{function}_{uuid4().hex}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batch(size: int) -> dict[str, Any]:
    """An SQS event of that many new messages."""
    now = time.time()
    records = (
        sqs_record(message_body(message_id=uuid4().hex), name=str(number), sent_at=now) for number in range(size)
    )
    return sqs_event(*records)


def status_callback() -> dict[str, Any]:
    """API Gateway's event of a status callback."""
    body = {"message_id": "497f6eca-6276-4993-bfeb-53cbbbba6f08", "status": "sent", "reference": "appointment-4711"}
    return api_event("/callbacks/status", body, authorization=basic(**CALLBACK_SECRET))


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
