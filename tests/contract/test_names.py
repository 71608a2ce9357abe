"""One name for one thing: no two public classes have the same name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "cli", "functions", "layers", "local", "tools")


def places_of_classes(root: Path) -> dict[str, list[str]]:
    """Return the files that define each public class, by its name."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(root)))
    return places


def test_no_public_class_name_is_used_twice() -> None:
    assert {name: files for name, files in places_of_classes(ROOT).items() if len(files) > 1} == {}


def test_a_second_class_of_a_name_is_seen(tmp_path: Path) -> None:
    for folder in ("local", "cli"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "module.py").write_text("class Twice:\n    class _Private: ...\n")
    assert places_of_classes(tmp_path) == {"Twice": ["cli/module.py", "local/module.py"]}
