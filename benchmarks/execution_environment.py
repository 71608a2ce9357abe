"""A function as Lambda starts it: AWS's runtime client in its own process, under AWS's runtime interface emulator."""

import contextlib
import importlib.resources
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.side_by_side import NotMeasuredError

_CGROUPS: Final = Path("/sys/fs/cgroup")
_PERIOD_US: Final = 20_000  # a process may run for its share of each period
_TIMEOUT_SECONDS: Final = 300.0


@dataclass
class ExecutionEnvironment:
    """One execution environment at a time. The emulator starts it at the first invocation."""

    name: str
    folders: Sequence[Path]
    """Folders on Python's path; the one with `app.py` is first."""
    event: Callable[[], object]
    """Makes the first event."""
    variables: Mapping[str, str]
    python: Path
    memory_mb: int = 512
    share: float | None = None
    """The share of a CPU; None: no limit."""
    _port: int = 0
    exit: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """Ends the running processes."""

    def start(self) -> None:
        """Start a new one that waits for its first invocation. Raises NotMeasuredError."""
        self.exit.close()
        self._port, runtime_port = _free_ports(2)
        command = [_emulator(), "--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"]
        command += ["--runtime-api-address", f"127.0.0.1:{runtime_port}"]
        if self.share is not None:
            group = self.exit.enter_context(_cpu_share(self.share))
            command += ["/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
        process = subprocess.Popen(
            [*command, str(self.python), "-m", "awslambdaric", "app.lambda_handler"],
            cwd=self.folders[0],
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.exit.callback(process.wait)
        self.exit.callback(os.killpg, process.pid, signal.SIGKILL)  # the runtime is in the emulator's process group
        _wait_for(self._port, process)

    def invoke(self) -> None:
        """Run INIT and the first invocation. Raises RuntimeError if the handler failed."""
        url = f"http://127.0.0.1:{self._port}/2015-03-31/functions/function/invocations"
        event = json.dumps(self.event()).encode()
        with urllib.request.urlopen(url, event, timeout=_TIMEOUT_SECONDS) as response:
            result = json.loads(response.read())
        if "errorType" in result or result.get("batchItemFailures") or result.get("statusCode", 200) != 200:
            raise RuntimeError(f"{self.name}: {result}")

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.defpath,
            "PYTHONDONTWRITEBYTECODE": "1",  # /opt and /var/task are read-only in Lambda
            "PYTHONPATH": os.pathsep.join(map(str, self.folders)),
            "LAMBDA_TASK_ROOT": str(self.folders[0]),
            "AWS_LAMBDA_FUNCTION_NAME": self.name.replace(" ", "-"),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_mb),
            **self.variables,
        }


def _emulator() -> str:
    """Return the path of the emulator in AWS SAM CLI."""
    kind = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    return str(importlib.resources.files("samcli") / "local" / "rapid" / f"aws-lambda-rie-{kind}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as bound:
        sockets = [bound.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the process listens."""
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.002)
    raise RuntimeError(f"the emulator ended with status {process.returncode}")


@contextlib.contextmanager
def _cpu_share(share: float) -> Iterator[Path]:
    """Make a control group (version 2 or 1) that limits its processes to this share of a CPU, as Lambda does."""
    quota = str(round(share * _PERIOD_US))
    if (_CGROUPS / "cgroup.controllers").exists():
        parent, limits = _CGROUPS, {"cpu.max": f"{quota} {_PERIOD_US}"}
    else:
        parent, limits = _CGROUPS / "cpu", {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": quota}
    try:
        group = Path(tempfile.mkdtemp(prefix="benchmark-", dir=parent))
        for name, value in limits.items():
            (group / name).write_text(value, encoding="utf-8")
    except OSError as error:
        raise NotMeasuredError(f"control groups are closed to this user ({error})") from error
    yield group
    while group.exists():
        with contextlib.suppress(OSError):  # fails until the kernel has removed its processes
            group.rmdir()
        time.sleep(0.002)
