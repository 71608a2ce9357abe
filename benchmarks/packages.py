"""What is deployed, and what a tutorial deploys: both made anew by `sam build`; and the runtime they start under."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.side_by_side import Figure, Progress

_ROOT: Final = Path(__file__).resolve().parent.parent
_TUTORIAL: Final = Path(__file__).with_name("tutorial")
# Each in the version that the layer has, so that only the ways of importing and packaging differ.
_TUTORIAL_NEEDS: Final = {"aws-lambda-powertools": "[tracer]", "boto3": "", "pydantic": "", "requests": ""}
_LAYER_MEGABYTES: Final = 30.0


class CommandError(Exception):
    """A command failed; what it said."""


class RuntimeMissingError(Exception):
    """The runtime's Python is not on this machine; in words."""


@dataclass(frozen=True)
class Packages:
    """``layer``: what is in `/opt/python`. ``functions``: what is in `/var/task`, by the function's logical id."""

    layer: Path
    functions: Mapping[str, Path]
    tutorial: Path


def runtime(folder: Path, runtime_version: str) -> Path:
    """An interpreter of Lambda's version (such as 3.13) with AWS's runtime client, in an environment of its own."""
    wanted = ("--quiet", "--seed", "--no-python-downloads", "--python", runtime_version)
    try:
        _run("uv", "venv", *wanted, str(folder), PYENV_VERSION=runtime_version)  # lets pyenv's commands answer
    except CommandError as error:
        raise RuntimeMissingError(f"no Python {runtime_version}, Lambda's, is on this machine") from error
    python, needs = folder / "bin" / "python", folder / "requirements.txt"
    _run("uv", "export", "--quiet", "--locked", "--only-group", "bench", "--output-file", str(needs))
    _run("uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), "--requirements", str(needs))
    return python


def build(folder: Path, *, python: Path, progress: Progress) -> Packages:
    """Both packages, in ``folder``."""
    progress("sam build")
    ours, theirs, source = folder / "ours", folder / "theirs", folder / "source"
    _sam_build(_ROOT / "template.yaml", ours, python)
    progress("sam build of the tutorial")
    shutil.copytree(_TUTORIAL, source)
    needs = [f"{name}{extra}=={version(name)}" for name, extra in _TUTORIAL_NEEDS.items()]
    (source / "requirements.txt").write_text("\n".join([*needs, ""]), encoding="utf-8")
    _sam_build(source / "template.yaml", theirs, python)
    functions = {path.parent.name: path.parent for path in ours.glob("*/app.py")}
    return Packages(ours / "SharedLayer" / "python", functions, theirs / "TutorialFunction")


def sizes(packages: Packages) -> Iterator[Figure]:
    """Megabytes of the layer, unzipped and with bytecode, by dependency; the limit is for the whole."""
    by_dependency = Counter[str]()
    for path in packages.layer.rglob("*"):
        if path.is_file():
            by_dependency[_dependency(path.relative_to(packages.layer))] += path.stat().st_size
    yield Figure("layer, MB", by_dependency.total() / 1e6, _LAYER_MEGABYTES, "unzipped, with bytecode")
    for name, size in by_dependency.most_common():
        yield Figure(f"layer, MB, {name}", size / 1e6)


def _dependency(path: Path) -> str:
    folder, *rest = path.parts
    return (rest[0] if folder == "__pycache__" else folder).partition(".")[0]


def _sam_build(template: Path, folder: Path, python: Path) -> None:
    """SAM's own builder for Python asks for an interpreter of the runtime's version on the path."""
    path = os.pathsep.join([str(python.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    _run("sam", "build", "--template", str(template), "--build-dir", str(folder), PATH=path, SAM_CLI_TELEMETRY="0")


def _run(name: str, *arguments: str, **environment: str) -> None:
    """A command of this project's environment."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(name)), *arguments],
        cwd=_ROOT,
        env=os.environ | {"VIRTUAL_ENV": ""} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandError(f"{name} {arguments[0]}: {done.stderr or done.stdout}")
