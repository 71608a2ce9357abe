"""The gateway and AWS as far as the handlers need them, in a process of their own: their CPU time is not ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import trustme

from local.aws.stack import CALLBACK_PASSWORD

GATEWAY_SECRET: Final = {"application": "benchmark", "password": "benchmark"}
CALLBACK_SECRET: Final = {"username": "gateway", "password": CALLBACK_PASSWORD}  # those of events/api

# What DynamoDB answers to the write of a status: the row as it is stored now.
_ROW: Final = {
    "id": {"S": "497f6eca-6276-4993-bfeb-53cbbbba6f08"},
    "direction": {"S": "MT"},
    "message_id": {"S": "appointment-4711"},
    "reference": {"S": "appointment-4711"},
    "destination": {"S": "+61491570006"},
    "handset": {"S": "+61491570006"},
    "segments": {"N": "1"},
    "masked": {"BOOL": False},
    "status": {"S": "sent"},
    "status_rank": {"N": "2"},
    "accepted_at": {"S": "2026-01-01T00:00:00.000Z"},
    "created_at": {"S": "2026-01-01T00:00:00.000Z"},
    "queued_at": {"S": "2026-01-01T00:00:01.000Z"},
    "sent_at": {"S": "2026-01-01T00:00:02.000Z"},
    "awaiting": {"S": "status.3"},
    "look_at": {"N": "1767312000"},
    "ttl": {"N": "1775088000"},
}


def aws_answer(target: str, body: bytes) -> bytes:
    """What AWS answers. ``target``: the operation, as in the header ``X-Amz-Target``; the path where there is none."""
    answer: dict[str, Any] = {}
    match target.rpartition(".")[2]:
        case "GetSecretValue":
            asked = json.loads(body)
            fields = CALLBACK_SECRET if "Callback" in asked["SecretId"] else GATEWAY_SECRET
            secret = {"SecretString": json.dumps(fields), "VersionId": "v" * 32, "VersionStages": ["AWSCURRENT"]}
            answer = {"ARN": asked["SecretId"], "Name": "benchmark", **secret}
        case "UpdateItem" if json.loads(body).get("ReturnValues") == "ALL_NEW":
            answer = {"Attributes": _ROW}
        case "Query" | "Scan":
            answer = {"Items": [], "Count": 0, "ScannedCount": 0}
        case "PutEvents":
            entries = json.loads(body)["Entries"]
            answer = {"FailedEntryCount": 0, "Entries": [{"EventId": str(uuid4())} for _ in entries]}
        case path if "/event-source-mappings/" in path:
            answer = {"State": "Enabled"}
    return json.dumps(answer).encode()


@dataclass(frozen=True)
class Servers:
    """Addresses. Of the gateway without the delay: ``gateway/100`` answers after 100 ms."""

    aws: str
    aws_tls: str
    gateway: str
    gateway_tls: str
    authority: bytes
    """The certificate, in PEM, of whoever vouches for the two with TLS."""


@contextlib.contextmanager
def running() -> Iterator[Servers]:
    """Both servers, gone at the end."""
    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        identity = Path(folder, "identity.pem")
        certificate = authority.issue_cert("127.0.0.1")
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        identity.write_bytes(certificate.private_key_pem.bytes() + chain)
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=_serve, args=(there, identity), daemon=True)
        process.start()
        aws, aws_tls, gateway, gateway_tls = here.recv()
        try:
            yield Servers(
                aws=f"http://127.0.0.1:{aws}",
                aws_tls=f"https://127.0.0.1:{aws_tls}",
                gateway=f"http://127.0.0.1:{gateway}",
                gateway_tls=f"https://127.0.0.1:{gateway_tls}",
                authority=authority.cert_pem.bytes(),
            )
        finally:
            process.kill()
            process.join()


def _serve(pipe: Any, identity: Path) -> None:
    asyncio.run(_serve_for_ever(pipe, identity))


async def _serve_for_ever(pipe: Any, identity: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    servers = [
        await asyncio.start_server(_connection(answer), "127.0.0.1", 0, ssl=tls, backlog=1024)
        for answer, tls in ((_aws, None), (_aws, context), (_gateway, None), (_gateway, context))
    ]
    pipe.send([server.sockets[0].getsockname()[1] for server in servers])
    await asyncio.Event().wait()


_Answer = Callable[[str, dict[str, str], bytes], Awaitable[tuple[int, bytes]]]


async def _aws(path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    return 200, aws_answer(headers.get("x-amz-target", path), body)


async def _gateway(path: str, _headers: dict[str, str], _body: bytes) -> tuple[int, bytes]:
    """``/100/messages``: accepted after 100 ms; any other path: well."""
    _, delay, operation = path.split("/")
    await asyncio.sleep(int(delay) / 1000)
    if operation == "messages":
        return 202, json.dumps({"id": str(uuid4()), "status": "accepted"}).encode()
    return 200, b'{"services": {"restv2": {"status": "available"}}}'


def _connection(answer: _Answer) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
                pairs = (line.partition(":") for line in lines if line)
                headers = {name.lower(): value.strip() for name, _, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                status, content = await answer(head.split()[1], headers, body)
                writer.write(
                    b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                    % (status, len(content), content)
                )
                await writer.drain()
        writer.close()

    return serve
