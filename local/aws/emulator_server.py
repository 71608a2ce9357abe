"""The program that plays AWS's services: an emulator (`ministack`) in a process of its own.

A process of its own has fresh state at each start, leaves the second core to the runner, and takes everything that the
emulator knows with it when it ends. It serves on the listening socket it inherits (so that the parent has found a port
in use before anything started) and ends when its standard input closes, so that it never outlives its parent, however
that ends.

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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with socket.socket(fileno=os.dup(listening_fd)) as listener:
        address = listener.getsockname()[0]
    lambda_svc._ensure_poller = lambda: None  # noqa: SLF001 - the runner feeds the functions
    config = Config()
    config.bind, config.keep_alive_timeout, config.loglevel = [f"fd://{listening_fd}"], 75, "ERROR"
    threading.Thread(target=_stop_when_parent_is_gone, daemon=True).start()
    asyncio.run(serve_app(partial(_guarded, address), config))


async def _guarded(address: str, scope: Message, receive: Receive, send: Send) -> None:
    """Serve programs of this machine: a page could read the secrets, because the emulator allows every origin.

    Only HTTP. At its own startup, which ASGI offers too, the emulator starts its schedules, runs scripts that it finds
    below /etc, and removes Docker containers that another instance of it has made.
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
    """As AWS words one. It requires a signature too, and no page can send that header to another site by itself."""

    def header(name: str) -> str | None:
        return ",".join(value.decode("latin-1") for key, value in headers if key == name.lower().encode()) or None

    if why := refusal_of_request(header, address):
        return {"__type": "AccessDenied", "message": why}
    if not header("Authorization"):
        return {"__type": "MissingAuthenticationToken", "message": "Authorization: is missing. Sign the request."}
    return None


def _stop_when_parent_is_gone() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # requests may still be long polling, with no client left


if __name__ == "__main__":
    serve(int(sys.argv[1]))
