"""A function as Lambda starts it: AWS's runtime client in a process of its own, under AWS's emulator of the rest."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_PERIOD_US: Final = 20_000  # in each of which a process may run for its share
_PATIENCE_SECONDS: Final = 300.0


class NoShareError(Exception):
    """A process can't be held to a share of a CPU here; why."""


@dataclass(frozen=True)
class BuiltFunction:
    """``folders``: on the path, the one with `app.py` first. ``event``: makes what it is invoked with first."""

    name: str
    folders: Sequence[Path]
    event: Callable[[], object]
    environment: Mapping[str, str]
    memory_mb: int = 512


class ExecutionEnvironment:
    """One at a time; the emulator starts it at its first invocation. ``share``: of a CPU; None: all there is."""

    def __init__(self, function: BuiltFunction, python: Path, share: float | None = None) -> None:
        self._function = function
        self._command = [str(python), "-m", "awslambdaric", "app.lambda_handler"]
        self._share = share
        self._port = 0
        self._exit = contextlib.ExitStack()

    def start(self) -> None:
        """A new one, as far as waiting for its first invocation. Raises NoShareError."""
        self.end()
        command = self._command
        if self._share is not None:
            group = self._exit.enter_context(_cpu_share(self._share))
            command = ["/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *command]
        self._port, runtime_port = _free_ports(2)
        addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"]
        addresses += ["--runtime-api-address", f"127.0.0.1:{runtime_port}"]
        process = subprocess.Popen(
            [str(_emulator()), *addresses, *command],
            cwd=self._function.folders[0],
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._exit.callback(_end, process)
        _wait_for(self._port, process)

    def invoke(self) -> None:
        """INIT and the first invocation. Raises RuntimeError if the handler failed."""
        url = f"http://127.0.0.1:{self._port}/2015-03-31/functions/function/invocations"
        event = json.dumps(self._function.event()).encode()
        with urllib.request.urlopen(url, event, timeout=_PATIENCE_SECONDS) as answer:
            said = json.loads(answer.read())
        if "errorType" in said or said.get("batchItemFailures") or said.get("statusCode", 200) != 200:
            raise RuntimeError(f"{self._function.name}: {said}")

    def end(self) -> None:
        """End it, if it runs."""
        self._exit.close()

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.defpath,
            "PYTHONDONTWRITEBYTECODE": "1",  # /opt and /var/task are read-only in Lambda
            "PYTHONPATH": os.pathsep.join(map(str, self._function.folders)),
            "LAMBDA_TASK_ROOT": str(self._function.folders[0]),
            "AWS_LAMBDA_FUNCTION_NAME": self._function.name.replace(" ", "-"),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self._function.memory_mb),
            **self._function.environment,
        }


def _emulator() -> Path:
    """The one that AWS SAM CLI brings."""
    found = importlib.util.find_spec("samcli")
    assert found is not None
    assert found.submodule_search_locations is not None
    kind = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    return Path(found.submodule_search_locations[0], "local", "rapid", f"aws-lambda-rie-{kind}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_ones:
        sockets = [open_ones.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until somebody listens there."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        if process.poll() is not None:
            raise RuntimeError(f"the emulator ended with status {process.returncode}")
        time.sleep(0.002)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The emulator and the runtime, which is in its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def _cpu_share(share: float) -> Iterator[Path]:
    """A control group (version 2 or 1) whose processes get so much of a CPU and no more, as Lambda does it."""
    quota = str(round(share * _PERIOD_US))
    is_v2 = (_CGROUPS / "cgroup.controllers").exists()
    limits = {"cpu.max": f"{quota} {_PERIOD_US}"}
    if not is_v2:
        limits = {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": quota}
    try:
        group = Path(tempfile.mkdtemp(prefix="benchmark-", dir=_CGROUPS if is_v2 else _CGROUPS / "cpu"))
        for name, value in limits.items():
            (group / name).write_text(value, encoding="utf-8")
    except OSError as error:
        raise NoShareError(f"control groups are closed to this user ({error})") from error
    try:
        yield group
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    """Once the kernel has buried its processes."""
    while True:
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.002)
        else:
            return
