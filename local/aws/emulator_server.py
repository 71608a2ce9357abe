"""The program that emulates AWS's services: `ministack` in its own process.

A separate process starts with fresh state, leaves no state behind, and leaves the second core to the runner. It serves
on an inherited listening socket, so that the parent detects a port in use before anything starts. It ends when its
standard input closes, so that it never outlives its parent, even after a crash.

    python -m local.aws.emulator_server <file descriptor of the listening socket>

The emulator reads its settings from the environment when it is imported (`start_emulator` in stack.py).
"""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from hypercorn.asyncio import serve as serve_app
from hypercorn.config import Config
from ministack.app import app
from ministack.services import lambda_svc

from local.guard import refusal_of_request

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def serve(listening_fd: int) -> None:
    """Serve the emulator on an inherited listening socket until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    with socket.socket(fileno=os.dup(listening_fd)) as listener:
        address = listener.getsockname()[0]
    lambda_svc._ensure_poller = lambda: None  # noqa: SLF001 - the runner feeds the functions
    config = Config()
    config.bind, config.keep_alive_timeout, config.loglevel = [f"fd://{listening_fd}"], 75, "ERROR"
    threading.Thread(target=_stop_when_parent_is_gone, daemon=True).start()
    asyncio.run(serve_app(partial(_guarded, address), config))


async def _guarded(address: str, scope: Message, receive: Receive, send: Send) -> None:
    """Serve only programs of this machine: the emulator allows every origin, so any web page could read the secrets.

    Serve HTTP requests only, and not ASGI's startup event: there the emulator would start its schedules, run scripts
    below /etc, and remove Docker containers of its other instances.
    """
    if scope["type"] != "http":
        return
    if refused := _refusal(scope["headers"], address):
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(refused).encode()})
    else:
        await app(scope, receive, partial(_without_cors, send))


async def _without_cors(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        headers = [
            (name, value) for name, value in message["headers"] if not name.lower().startswith(b"access-control")
        ]
        message = {**message, "headers": headers}
    await send(message)


def _refusal(headers: list[tuple[bytes, bytes]], address: str) -> dict[str, str] | None:
    """Return a refusal in AWS's form. A request must be signed, in a header that no page can send to other sites."""

    def header(name: str) -> str | None:
        return ",".join(value.decode("latin-1") for key, value in headers if key == name.lower().encode()) or None

    if why := refusal_of_request(header, address):
        return {"__type": "AccessDenied", "message": why}
    if not header("Authorization"):
        return {"__type": "MissingAuthenticationToken", "message": "Authorization: is missing. Sign the request."}
    return None


def _stop_when_parent_is_gone() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # requests can still be long polling without a client


if __name__ == "__main__":
    serve(int(sys.argv[1]))
