"""The phone page without a browser: sends its script's requests, and collects the stream's data."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self
from urllib.parse import urlsplit

import requests

from local.aws.stack import LocalStack, StackConfig
from local.demo.watcher import Watcher
from local.page.server import PhonePage
from local.simulator.server import GatewayConfig
from tests.support.waiting import eventually

_TIMEOUT_SECONDS: Final = 60


@contextmanager
def served(config: StackConfig | None = None) -> Iterator[tuple[LocalStack, PhonePage]]:
    """Serve a local stack with its page, as `make run` does."""
    default = StackConfig(simulator=GatewayConfig(seed=1, status_step_seconds=0.02, late_seconds=1.0))
    with LocalStack(config or default) as stack:
        watcher = Watcher(stack)
        with PhonePage(stack, watcher) as page, watcher:
            yield stack, page


class Told:
    """A page's data: the snapshot with every later update."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.replies: dict[str, dict[str, Any]] = {}
        self.opt_outs: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.rest: dict[str, Any] = {}
        self.kinds: list[str] = []

    def take(self, kind: str, data: str) -> None:
        told = json.loads(data)
        self.kinds.append(kind)
        self.messages |= {message["message_id"]: message for message in told.pop("messages", [])}
        self.replies |= {reply["id"]: reply for reply in told.pop("replies", [])}
        self.opt_outs |= {opt_out["handset"]: opt_out for opt_out in told.pop("opt_outs", [])}
        self.events += told.pop("events", [])
        self.rest |= told


class PageClient:
    """An open page, as a context manager that follows the stream in a thread. `ended`: whether the stream has ended."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.told = Told()
        self.ended = threading.Event()
        found = re.search(r'name="page-token" content="([^"]+)"', requests.get(url, timeout=_TIMEOUT_SECONDS).text)
        assert found, "the page has no token"
        self.token = found[1]

    def __enter__(self) -> Self:
        self._socket = connected(self.url, b"/api/stream")
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()
        eventually(lambda: self.told.kinds, "the snapshot")
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # the page ended first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def post(self, path: str, body: object = None, **more: Any) -> requests.Response:
        return self.ask("POST", path, body, **more)

    def ask(self, method: str, path: str, body: object = None, **more: Any) -> requests.Response:
        """Send a request with the page's token, unless `headers` differ."""
        headers = {"X-Page-Token": self.token} | more.pop("headers", {})
        return requests.request(
            method, self.url + path, json=body, headers=headers, timeout=_TIMEOUT_SECONDS, allow_redirects=False, **more
        )

    def send(self, destination: str, content: str, **more: Any) -> str:
        """Put a message on the queue through the page; its message_id."""
        answer = self.post("/api/send", {"destination": destination, "content": content, **more})
        assert answer.status_code == 200, answer.text
        key: str = answer.json()["message_id"]
        return key

    def until(self, key: str, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Return the page's view of the message as soon as a condition holds."""

        def look() -> dict[str, Any]:
            message = self.told.messages.get(key, {})
            return message if message and holds(message) else {}

        return eventually(look, f"{key}: {what}", _TIMEOUT_SECONDS)

    def _follow(self) -> None:
        kind = ""
        with self._socket.makefile("rb") as lines, contextlib.suppress(OSError):
            for line in lines:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    self.told.take(kind, value)
        self.ended.set()


def connected(url: str, path: bytes) -> socket.socket:
    """Return a connection on which this path was requested and nothing was read."""
    host = urlsplit(url).netloc
    address, port = host.split(":")
    connection = socket.create_connection((address, int(port)), timeout=_TIMEOUT_SECONDS)
    connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n")
    return connection
