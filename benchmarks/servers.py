"""The parts of the gateway and AWS that the handlers need, in a separate process, whose CPU time is not measured."""

import asyncio
import contextlib
import json
import multiprocessing
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import trustme

from local.aws.stack import CALLBACK_PASSWORD

GATEWAY_SECRET: Final = {"application": "benchmark", "password": "benchmark"}
CALLBACK_SECRET: Final = {"username": "gateway", "password": CALLBACK_PASSWORD}  # the credentials of events/api
EVENTS: Final = Path(__file__).resolve().parent.parent / "events"


def example(name: str) -> dict[str, Any]:
    """Return an event of the folder events/."""
    event: dict[str, Any] = json.loads((EVENTS / name).read_text(encoding="utf-8"))
    return event


_MESSAGE: Final = example("stream/status_before_our_own_write.json")["Records"][-1]["dynamodb"]["NewImage"]
"""Stands for every item of MessagesTable; its status allows the write."""
_WRITTEN: Final = re.compile(r"(#\w+) (?:= (?:if_not_exists\(#\w+, )?)?(:\w+)")
"""Name and value of an attribute that an UpdateExpression sets or adds."""


def aws_response(operation: str, body: bytes) -> bytes:
    """Return AWS's response. ``operation``: the header ``X-Amz-Target``, or the path if there is none."""
    response: dict[str, Any] = {}
    match operation.rpartition(".")[2]:
        case "GetSecretValue":
            secret_id = json.loads(body)["SecretId"]
            fields = CALLBACK_SECRET if "Callback" in secret_id else GATEWAY_SECRET
            secret = {"SecretString": json.dumps(fields), "VersionId": "v" * 32, "VersionStages": ["AWSCURRENT"]}
            response = {"ARN": secret_id, "Name": "benchmark", **secret}
        case "UpdateItem":
            response = {"Attributes": _item(json.loads(body))}
        case "Query" | "Scan":
            response = {"Items": [], "Count": 0, "ScannedCount": 0}
        case "PutEvents":
            entries = json.loads(body)["Entries"]
            response = {"FailedEntryCount": 0, "Entries": [{"EventId": str(uuid4())} for _ in entries]}
        case path if "/event-source-mappings/" in path:
            response = {"State": "Enabled"}
    return json.dumps(response).encode()


def _item(update: dict[str, Any]) -> dict[str, Any]:
    """Return the item after an update, as if it was the first write of its key."""
    if update["ReturnValues"] != "ALL_NEW":
        return {}
    names, values = update["ExpressionAttributeNames"], update["ExpressionAttributeValues"]
    written = {names[name]: values[value] for name, value in _WRITTEN.findall(update["UpdateExpression"])}
    return {**update["Key"], **(_MESSAGE if "id" in update["Key"] else {}), **written}


@dataclass(frozen=True)
class Servers:
    """The addresses of AWS. The gateway has paths there: ``/100/messages`` accepts a message after 100 ms."""

    plain: str
    tls: str
    authority: bytes
    """The certificate, in PEM, of the authority behind ``tls``."""


@contextlib.contextmanager
def running() -> Iterator[Servers]:
    """Run both servers during the block."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with _listener() as plain, _listener() as tls:
        ports = [listener.getsockname()[1] for listener in (plain, tls)]
        process = multiprocessing.get_context("fork").Process(
            target=lambda: asyncio.run(_serve({plain: None, tls: context})), daemon=True
        )
        process.start()
        try:
            yield Servers(f"http://127.0.0.1:{ports[0]}", f"https://127.0.0.1:{ports[1]}", authority.cert_pem.bytes())
        finally:
            process.kill()
            process.join()


def _listener() -> socket.socket:
    """Return a listening socket; with no protocol named, asyncio would let small responses wait 40 ms."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    return listener


async def _serve(listeners: dict[socket.socket, ssl.SSLContext | None]) -> None:
    for listener, context in listeners.items():
        await asyncio.start_server(_connection, sock=listener, ssl=context, backlog=1024)
    await asyncio.Event().wait()


async def _connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            status, content = await _response(head.split()[1], headers.get("x-amz-target"), body)
            writer.write(
                b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(content), content)
            )
            await writer.drain()
    writer.close()


async def _response(path: str, operation: str | None, body: bytes) -> tuple[int, bytes]:
    if operation or "/event-source-mappings/" in path:
        return 200, aws_response(operation or path, body)
    _, delay, page = path.split("/")
    await asyncio.sleep(int(delay) / 1000)
    if page == "messages":
        return 202, json.dumps({"id": str(uuid4()), "status": "accepted"}).encode()
    return 200, b'{"services": {"restv2": {"status": "available"}}}'
