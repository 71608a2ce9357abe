"""Loads a function's `app.py` in this process. All loads share what the package keeps per execution environment."""

import importlib.util
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from uuid import uuid4


def load_app(path: Path) -> ModuleType:
    """Return a fresh copy of a function's module."""
    name = f"{path.parent.name}_{uuid4().hex}"
    loader = SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(path)))
    loader.exec_module(module)
    return module
