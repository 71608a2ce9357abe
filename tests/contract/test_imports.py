"""The package's imports follow the table in its docstring, and importing has no side effects."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import optus_sms

PACKAGE = Path(optus_sms.__file__).parent
ROOT = Path(__file__).parents[2]
APPS = sorted((ROOT / "functions").glob("*/app.py"))
CODE = sorted(
    path
    for folder in ("benchmarks", "cli", "functions", "layers", "local", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if ".aws-sam" not in path.parts
)
RECORDS = PACKAGE / "records"
MODULES = {
    f"optus_sms.{path.parent.name}.{path.stem}": path
    for path in sorted(PACKAGE.glob("*/*.py"))
    if path.stem != "__init__"
}
BESIDE_EACH_OTHER = {"gateway", "records", "aws"}
# Modules of the standard library for I/O, or for facts about the environment.
WORLDLY = {"os", "socket", "ssl", "http", "urllib", "subprocess", "threading", "logging", "asyncio"}


def rows() -> dict[str, str]:
    """Return the table of the package's docstring: package → its purpose, in the direction of imports."""
    return dict(re.findall(r"^([a-z]+)  +([A-Z].+)$", optus_sms.__doc__ or "", re.MULTILINE))


def imported(path: Path) -> Iterator[str]:
    """Return the full names of all modules that a file imports, for type checking too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else str(node.module) for name in names)


def ours(path: Path) -> set[str]:
    return {name for name in imported(path) if name.startswith("optus_sms.")}


def package_of(module: str) -> str:
    return module.split(".")[1]


def test_the_table_names_each_package_with_its_reason() -> None:
    packages = {path.parent.name: path.read_text().strip().strip('"') for path in PACKAGE.glob("*/__init__.py")}
    assert rows() == packages
    assert {package_of(module) for module in MODULES} == set(packages)


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_from_its_own_package_and_those_above(module: str) -> None:
    above = list(rows())[: list(rows()).index(package_of(module)) + 1]
    beside = BESIDE_EACH_OTHER - {package_of(module)} if package_of(module) in BESIDE_EACH_OTHER else set()
    allowed = set(above) - beside
    assert {package_of(name) for name in ours(MODULES[module])} <= allowed


def test_no_circle() -> None:
    order = list(TopologicalSorter({name: ours(path) for name, path in MODULES.items()}).static_order())
    assert set(order) == set(MODULES)


@pytest.mark.parametrize("module", [name for name in MODULES if package_of(name) == "model"])
def test_pure_modules_touch_nothing_outside(module: str) -> None:
    roots = {name.partition(".")[0] for name in imported(MODULES[module]) if name != "urllib.parse"}
    assert roots <= (sys.stdlib_module_names - WORLDLY) | {"pydantic", "pydantic_core", "optus_sms"}


def names_of_items(path: Path) -> set[str]:
    """Return the names that a file imports to read or write stored items."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    of_table = {alias.name for node in nodes if node.module == "optus_sms.records.table" for alias in node.names}
    return of_table & {"Item", "marshal", "unmarshal"}


def keys_of_items(path: Path) -> set[str]:
    """Return the keys of items, or prefixes of them, in a file's strings, docstrings excepted."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [str(n.value) for n in nodes if isinstance(n, ast.Constant) and id(n) not in documentation]
    return {found[0] for text in texts if (found := re.search(r"\b(msg|ref|health|contract)#", text))}


@pytest.mark.parametrize("name", ["cli", "local", "tools", "functions", "benchmarks", "layers"])
def test_only_records_see_an_item_as_it_is_stored(name: str) -> None:
    outside = [path for path in CODE if path.is_relative_to(ROOT / name) and not path.is_relative_to(RECORDS)]
    assert outside
    assert {path.name: found for path in outside if (found := names_of_items(path) | keys_of_items(path))} == {}


def test_the_keys_of_items_stand_in_one_place() -> None:
    keys = {path.name: keys_of_items(path) for path in RECORDS.glob("*.py")}
    assert {name: found for name, found in keys.items() if found} == {
        "items.py": {"msg#", "ref#", "health#", "contract#"}
    }


@pytest.mark.parametrize(
    "line",
    ["from optus_sms.records.table import Item", "key = f'msg#{message_id}'", "key = {'pk': {'S': 'health#gateway'}}"],
)
def test_code_that_reads_items_itself_is_noticed(tmp_path: Path, line: str) -> None:
    path = tmp_path / "reader.py"
    path.write_text(line)
    assert names_of_items(path) | keys_of_items(path)


@pytest.mark.parametrize("app", APPS, ids=lambda path: path.parent.name)
def test_an_entry_point_imports_no_sibling(app: Path) -> None:
    """In Lambda a handler is the top-level module `app`, with only the layer beside it."""
    roots = {name.partition(".")[0] for name in imported(app)}
    assert roots - sys.stdlib_module_names == {"optus_sms", "aws_lambda_powertools"}


def test_there_are_entry_points() -> None:
    assert {app.parent.name for app in APPS} >= {"send_message", "receive_callback", "check_health"}


# Runs in a new interpreter: imports modules (separated by commas), and prints the side effects.
PROBE = """
import importlib, logging, os, sys, threading

class Environment(type(os.environ)):
    def __getitem__(self, name):
        caller = sys._getframe(1)
        while caller.f_globals.get("__name__") in ("os", "_collections_abc", "collections.abc"):
            caller = caller.f_back
        if {"optus_sms", "functions"} & set(caller.f_code.co_filename.split(os.sep)):
            print("reads", name)
        return super().__getitem__(name)

os.environ.__class__ = Environment
import boto3, botocore.session, socket
boto3.Session.__init__ = lambda *_, **__: print("makes a session")
botocore.session.Session.create_client = lambda *_, **__: print("makes a client")
socket.socket.__init__ = lambda *_, **__: print("makes a socket")
level = logging.root.level
*folders, modules = sys.argv[1:]
sys.path[:0] = folders
for module in modules.split(","):
    importlib.import_module(module)
for name in (None, *logging.root.manager.loggerDict):
    for handler in logging.getLogger(name).handlers:
        if not isinstance(handler, logging.NullHandler):
            print("adds a handler to", name)
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        print("starts", thread.name)
if logging.root.level != level:
    print("changes the log level")
"""


def what_importing_does(modules: str, *folders: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-c", PROBE, *map(str, (PACKAGE.parent, *folders)), modules],
        capture_output=True, text=True, check=False, env={}, timeout=60,
    )  # fmt: skip
    return (result.stdout + result.stderr).strip()


def test_importing_the_modules_does_nothing_else() -> None:
    assert what_importing_does(",".join(MODULES)) == ""


@pytest.mark.parametrize("app", APPS, ids=lambda path: path.parent.name)
def test_importing_an_entry_point_does_nothing_else(app: Path) -> None:
    assert what_importing_does("app", app.parent) == ""


@pytest.mark.parametrize(
    "line",
    [
        "import os; os.environ.get('GATEWAY_BASE_URL')",
        "import boto3; boto3.client('sqs')",
        "import logging; logging.basicConfig()",
        "import threading, time; threading.Thread(target=time.sleep, args=(1,), daemon=True).start()",
        "import socket; socket.socket()",
    ],
)
def test_the_probe_sees_what_it_looks_for(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "functions" / "noisy"
    folder.mkdir(parents=True)
    (folder / "app.py").write_text(line)
    assert what_importing_does("app", folder) != ""


# What costs a cold start milliseconds. pydantic is for the queue message only.
HEAVY = {"asyncio", "boto3", "charset_normalizer", "multiprocessing", "pydantic", "requests", "s3transfer", "unittest"}
NEEDED = {"send_message": {"pydantic"}}


@pytest.mark.parametrize("app", APPS, ids=lambda path: path.parent.name)
def test_an_entry_point_loads_nothing_heavy_that_it_does_not_need(app: Path) -> None:
    command = f"import sys; sys.path[:0] = {[str(PACKAGE.parent), str(app.parent)]}; import app; print(*sys.modules)"
    environment = {"BOTO_DISABLE_CRT": "true"}  # awscrt, which the layer lacks, loads more
    loaded = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, env=environment, timeout=60
    ).stdout.split()
    assert HEAVY & set(loaded) == NEEDED.get(app.parent.name, set())
