"""`pip install .` in a new environment gives a working `optus-sms`, whatever else is installed there."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.support.installation import built_wheel, installed, packages_of, run

PROJECT: Final = Path(__file__).parents[2] / "pyproject.toml"
VERSION: Final = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def optus_sms(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in a new environment, beside another project's `cli`."""
    folder = tmp_path_factory.mktemp("environment")
    commands = installed(wheel, folder)
    other = packages_of(folder) / "cli"
    other.mkdir()
    (other / "__init__.py").write_text("raise RuntimeError('of another project')")
    return commands / "optus-sms"


def test_its_packages_have_names_that_no_other_project_has(wheel: Path) -> None:
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {
        "optus_sms", "optus_sms_cli", "optus_sms_stack", "optus_sms_testing.py",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--version",), 0, VERSION),
        (("--help",), 0, "dead-letters"),
        (("send", "+61491570006", "Hello", "--dry-run"), 0, "1 segment"),
        (("status", "k"), 3, "Which stack?"),
        (("doctor", "--stack", "s", "--profile", "nobody"), 3, "list-profiles"),
    ],
)
def test_the_command_works(optus_sms: Path, arguments: tuple[str, ...], code: int, says: str, tmp_path: Path) -> None:
    ran = run(optus_sms, *arguments, cwd=tmp_path)
    assert (ran.returncode, says in ran.stdout + ran.stderr) == (code, True), ran.stderr


def test_every_command_can_be_imported(optus_sms: Path, tmp_path: Path) -> None:
    help_of_all = "from optus_sms_cli.start import main; from cli.main import _COMMANDS as c, main as m; import click"
    load = f"{help_of_all}; [m.get_command(click.Context(m), name).name for name in c]; print(len(c))"
    ran = run(optus_sms.parent / "python", "-c", load, cwd=tmp_path)
    assert (ran.returncode, int(ran.stdout or 0) > 10) == (0, True), ran.stderr
