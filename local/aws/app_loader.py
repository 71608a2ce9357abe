"""A function's `app.py` in this process. What the package keeps for its execution environment, all loads share."""

import importlib.util
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from uuid import uuid4


def load_app(path: Path) -> ModuleType:
    """A fresh copy of a function's module."""
    name = f"{path.parent.name}_{uuid4().hex}"
    loader = SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(path)))
    loader.exec_module(module)
    return module
