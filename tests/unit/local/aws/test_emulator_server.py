"""The requests that the guard passes to the emulator."""

import asyncio
from typing import Any

import pytest

from local.aws import emulator_server


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_only_http_reaches_the_emulator(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its own startup it would remove other emulators' containers."""

    async def unexpected(*_arguments: Any) -> Any:
        raise AssertionError(kind)

    monkeypatch.setattr(emulator_server, "app", unexpected)
    headers = [(b"host", b"localhost"), (b"authorization", b"signed")]
    asyncio.run(emulator_server._guarded("127.0.0.1", {"type": kind, "headers": headers}, unexpected, unexpected))
