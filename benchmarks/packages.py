"""Builds packages: this project's with `sam build`, a tutorial's, and the runtime for both."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.side_by_side import Figure, NotMeasuredError

_ROOT: Final = Path(__file__).resolve().parent.parent
_TUTORIAL: Final = Path(__file__).with_name("tutorial")
# The layer's versions, so that only importing and packaging differ.
_TUTORIAL_NEEDS: Final = {"aws-lambda-powertools": "[tracer]", "boto3": "", "pydantic": "", "requests": ""}
_LAYER_MEGABYTES: Final = 30.0


def runtime(folder: Path, runtime_version: str) -> Path:
    """Return an interpreter of Lambda's version (such as 3.13) in a new environment with AWS's runtime client.

    Raises NotMeasuredError if this machine has no such interpreter.
    """
    options = ("--quiet", "--no-python-downloads", "--python", runtime_version)
    environment = {"UV_PROJECT_ENVIRONMENT": str(folder), "PYENV_VERSION": runtime_version}  # for pyenv's commands
    try:
        _run("uv", "venv", "--seed", *options, str(folder), **environment)
    except subprocess.CalledProcessError as error:
        raise NotMeasuredError(f"no Python {runtime_version}, Lambda's, is on this machine") from error
    only_client = ("--locked", "--inexact", "--only-group", "bench", "--compile-bytecode")
    _run("uv", "sync", *only_client, *options, **environment)
    return folder / "bin" / "python"


def build(folder: Path, python: Path) -> None:
    """Build the stack into a folder, with the runtime's interpreter first on the path, where SAM looks for it."""
    path = os.pathsep.join([str(python.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    _run("sam", "build", "--build-dir", str(folder), PATH=path, SAM_CLI_TELEMETRY="0")


def build_tutorial(folder: Path, python: Path) -> None:
    """Package the tutorial's handler into a folder without bytecode, as SAM's own builder for Python does."""
    shutil.copytree(_TUTORIAL, folder)
    needs = [f"{name}{extra}=={version(name)}" for name, extra in _TUTORIAL_NEEDS.items()]
    _run("uv", "pip", "install", "--python", str(python), "--target", str(folder), *needs)


def sizes(layer: Path) -> Iterator[Figure]:
    """Measure the layer in megabytes, unzipped and with bytecode, by dependency; the limit is for the total."""
    by_dependency = Counter[str]()
    for path in layer.rglob("*"):
        if path.is_file():
            by_dependency[_dependency(path.relative_to(layer))] += path.stat().st_size
    yield Figure("layer, MB", by_dependency.total() / 1e6, _LAYER_MEGABYTES, "unzipped, with bytecode")
    for name, size in by_dependency.most_common():
        yield Figure(f"layer, MB, {name}", size / 1e6)


def _dependency(path: Path) -> str:
    folder, *rest = path.parts
    return (rest[0] if folder == "__pycache__" else folder).partition(".")[0]


def _run(name: str, *arguments: str, **environment: str) -> None:
    """Run a command of this project's environment. Raises CalledProcessError, and shows what the command wrote."""
    command = [str(Path(sys.executable).with_name(name)), *arguments]
    environment = {**os.environ, "VIRTUAL_ENV": "", **environment}
    done = subprocess.run(
        command, cwd=_ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode:
        sys.stderr.buffer.write(done.stderr)
    done.check_returncode()
