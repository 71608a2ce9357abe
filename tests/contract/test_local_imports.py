"""Modules outside the layer: none imports in a circle, and only tests/ imports from tests/."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "cli", "functions", "layers", "local", "tools")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}


def imported(path: Path) -> Iterator[str]:
    """Return the full names of all modules that a file imports, for type checking too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else str(node.module) for name in names)


def test_there_are_modules_in_each_folder() -> None:
    assert {module.partition(".")[0] for module in MODULES} == set(FOLDERS)


def test_nothing_outside_tests_imports_from_tests() -> None:
    assert [module for module, path in MODULES.items() if any(map(_is_in_tests, imported(path)))] == []


def _is_in_tests(module: str) -> bool:
    return module.partition(".")[0] == "tests"


def test_no_circle() -> None:
    order = list(TopologicalSorter({name: set(imported(path)) for name, path in MODULES.items()}).static_order())
    assert set(MODULES) <= set(order)
