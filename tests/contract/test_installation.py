"""`pip install .` in an environment of its own gives a working `optus-sms`, whatever else is installed there."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, check=False, cwd=cwd, env=environment, capture_output=True, text=True)


def required(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """What a package declares that it requires, and what that requires, from the locked environment."""
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and requirement.name not in found:
            found[requirement.name] = distribution(requirement.name)
            required(requirement.name, found)
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    assert built.returncode == 0, built.stderr
    return next(folder.iterdir())


@pytest.fixture(scope="module")
def optus_sms(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in a fresh environment: the wheel, what it requires in the locked versions, and another's `cli`."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    uv = Path(sys.executable).parent / "uv"
    installed = run(uv, "pip", "install", "--offline", "--no-deps", "--python", folder / "bin/python", wheel)
    assert installed.returncode == 0, installed.stderr
    packages = next(folder.glob("lib/python*/site-packages"))
    for dependency in required("optus-sms", {}).values():
        for top in {file.parts[0] for file in dependency.files or ()} - {"..", "__pycache__"}:
            (packages / top).symlink_to(str(dependency.locate_file(top)))
    (packages / "cli").mkdir()
    (packages / "cli/__init__.py").write_text("raise RuntimeError('of another project')")
    return folder / "bin/optus-sms"


def test_its_packages_have_names_that_no_other_project_has(wheel: Path) -> None:
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"optus_sms", "optus_sms_cli"}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--version",), 0, "0.1.0"),
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
