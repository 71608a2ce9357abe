"""Everything that a new machine downloads and runs is pinned by content: packages, build backend, uv, CI's actions."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from tools.locked_uv import requirement

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: Final[list[dict[str, Any]]] = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
MAKEFILE: Final = (ROOT / "Makefile").read_text()
SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement)[0]


def test_every_locked_file_has_its_hash() -> None:
    others = [package for package in PACKAGES if package["source"] != {"editable": "."}]
    assert len(others) == len(PACKAGES) - 1
    for package in others:
        files = [*package["wheels"], *([package["sdist"]] if "sdist" in package else [])]
        assert files, package["name"]
        assert all(SHA256.fullmatch(file["hash"]) for file in files), package["name"]


def test_the_build_backend_is_the_locked_one() -> None:
    """Without build isolation it comes from the environment, where only locked packages are."""
    settings, groups = PROJECT["tool"]["uv"], PROJECT["dependency-groups"]
    assert settings["no-build-isolation-package"] == [PROJECT["project"]["name"]]
    installed = {name_of(each) for group in settings["default-groups"] for each in groups[group]}
    assert {*map(name_of, PROJECT["build-system"]["requires"])} <= installed


def test_a_senders_tests_have_the_emulator_of_make_run() -> None:
    """The wheel can't name a dependency group."""
    assert {*PROJECT["dependency-groups"]["local"]} <= {*PROJECT["project"]["optional-dependencies"]["testing"]}


def test_every_sync_takes_locked_wheels_and_builds_nothing_else() -> None:
    syncs = re.findall(r"^.*/uv sync .*$", MAKEFILE, re.MULTILINE)
    assert len(syncs) == 2  # SYNC, and the one for the emulator's environment
    assert all({"--locked", "--no-build"} <= set(line.split()) for line in syncs), syncs


def test_the_image_gets_locked_wheels() -> None:
    (export,) = re.findall(r"uv export --quiet .*--only-group .*", MAKEFILE)
    (install,) = re.findall(r"uv pip install .*", MAKEFILE)
    assert "--locked" in export.split()
    assert {"--require-hashes", "--only-binary=:all:", "--no-deps", "--requirement=/dev/stdin"} <= {*install.split()}


def test_pip_takes_only_the_locked_wheel_of_uv() -> None:
    (line,) = re.findall(r"^.*-m pip install.*$", MAKEFILE, re.MULTILINE)
    assert {"--require-hashes", "--only-binary=:all:", "--no-deps", "--requirement=/dev/stdin"} <= set(line.split())
    assert "tools/locked_uv.py" in line
    name, *hashes = requirement().split()
    (uv,) = [package for package in PACKAGES if package["name"] == "uv"]
    assert (name, hashes) == (f"uv=={uv['version']}", [f"--hash={wheel['hash']}" for wheel in uv["wheels"]])


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.y*ml")), ids=lambda path: path.name)
def test_every_action_is_named_by_its_commit_with_its_version_beside_it(path: Path) -> None:
    uses = re.findall(r"\buses: (?!\./\.github/)(.*)", path.read_text())  # workflows of the same commit need no pin
    assert uses
    assert [each for each in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", each)] == []
