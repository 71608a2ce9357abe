"""The functions' own `app.py`; what the package keeps for a sandbox, all loads share until `forget_sandbox`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from uuid import uuid4

from optus_sms.gateway.api import Gateway


def give_gateway(app: ModuleType, gateway: Gateway) -> None:
    """Let the function have this gateway instead of a connection to the real one."""
    app.Gateway = SimpleNamespace(connect=lambda *_, **__: gateway)  # type: ignore[attr-defined]


def load_app(path: Path) -> ModuleType:
    """A fresh copy of a function's module."""
    specification = importlib.util.spec_from_file_location(f"{path.parent.name}_{uuid4().hex}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
