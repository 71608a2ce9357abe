"""Replace parts of a function's `app.py`."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

from optus_sms.gateway.api import Gateway


def give_gateway(app: ModuleType, gateway: Gateway) -> None:
    """Let the function have this gateway instead of a connection to the real one."""
    app.Gateway = SimpleNamespace(connect=lambda *_, **__: gateway)  # type: ignore[attr-defined]
