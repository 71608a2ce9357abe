"""The wheel, and a new environment with it, as after `pip install`."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, check=False, cwd=cwd, env=environment, capture_output=True, text=True)


def required(name: str, found: dict[str, Distribution], extra: str = "") -> dict[str, Distribution]:
    """Return a package's requirements, recursively, in the locked environment's versions."""
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if wanted and requirement.name not in found:
            found[requirement.name] = distribution(requirement.name)
            for own in ("", *requirement.extras):
                required(requirement.name, found, own)
    return found


def built_wheel(folder: Path) -> Path:
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


def installed(wheel: Path, folder: Path, extra: str = "") -> Path:
    """Return the command folder of a new environment with the wheel and its requirements in the locked versions."""
    venv.create(folder)
    uv = Path(sys.executable).parent / "uv"
    done = run(uv, "pip", "install", "--offline", "--no-deps", "--python", folder / "bin/python", wheel)
    assert done.returncode == 0, done.stderr
    packages = packages_of(folder)
    for dependency in required("optus-sms", {}, extra).values():
        for top in {file.parts[0] for file in dependency.files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(str(dependency.locate_file(top)))
    return folder / "bin"


def packages_of(folder: Path) -> Path:
    return next(folder.glob("lib/python*/site-packages"))
