"""A Lambda function on this machine: a pool of execution environments, each an OS process, as Lambda keeps them.

An execution environment serves one event at a time, and is reused until the function's timeout kills it; then a new one
replaces it. The handler gets the template's environment variables. From this process it gets only the variables that
any process needs.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("execution_environment.py")
INIT_TIMEOUT_SECONDS = 30.0
"""Lambda allows 10 seconds for the handler's import; a busy laptop can need more."""
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")

LogSink = Callable[[str, str], None]
"""Receives a function's name and a line of its log."""


@dataclass(frozen=True)
class FunctionConfig:
    """A function's settings in the template."""

    name: str
    arn: str
    handler: str
    code: Path
    layers: tuple[Path, ...]
    environment: Mapping[str, str]
    timeout_seconds: float
    memory_mb: int
    concurrency: int = 1
    """The most execution environments."""


@dataclass(eq=False)
class FunctionError(Exception):
    """Why an invocation ended without a result, in Lambda's terms."""

    error_type: str
    message: str
    stack_trace: Sequence[str] = ()


@dataclass(frozen=True)
class Invocation:
    """A finished invocation. `error`: None only if the handler returned."""

    request_id: str
    result: Any = None
    error: FunctionError | None = None


class LocalFunction:
    """Invokes a function's handler in one of its execution environments.

    At most `concurrency` events run at a time; the others wait.
    """

    def __init__(self, config: FunctionConfig, log: LogSink) -> None:
        self.config = config
        self._log = log
        self._free = threading.Semaphore(config.concurrency)
        self._lock = threading.Lock()
        self._idle: list[_ExecutionEnvironment] = []
        self._alive: set[_ExecutionEnvironment] = set()
        self._closed = False

    def warm_up(self) -> None:
        """Start an execution environment, so that the first event finds a warm one. Return at once."""
        with self._lock:
            if not self._closed and not self._alive:
                self._idle.append(self._new_environment())

    def invoke(self, event: Any, request_id: str | None = None) -> Invocation:
        """Run the handler once and wait for its end; never raises for an error of the handler."""
        request_id = request_id or str(uuid.uuid4())
        with self._free:
            invocation = self._invoke(event, request_id)
        if invocation.error is not None:
            error = invocation.error
            self._log(self.config.name, f"[ERROR] {request_id} {error.error_type}: {error.message}")
            for line in "".join(error.stack_trace).splitlines():
                self._log(self.config.name, line)
        return invocation

    def close(self) -> None:
        """Kill every execution environment, busy or not, and wait until they are gone."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for environment in self._alive:
                environment.kill()
        for _ in range(self.config.concurrency):
            self._free.acquire()  # wait until the invocations under way have ended and cleaned up
        for environment in self._idle:
            environment.release()
        self._idle.clear()
        self._alive.clear()
        self._free.release(self.config.concurrency)  # later events get "Local.Stopped"

    def process_ids(self) -> list[int]:
        """Return the processes that are idle or busy."""
        with self._lock:
            return [environment.pid for environment in self._alive]

    def _invoke(self, event: Any, request_id: str) -> Invocation:
        try:
            environment = self._take()
        except FunctionError as error:
            return Invocation(request_id, error=error)
        try:
            invocation = environment.invoke(event, request_id)
        except FunctionError as error:
            self._discard(environment)
            return Invocation(request_id, error=error)
        with self._lock:
            self._idle.append(environment)  # the one used last is reused first, as in Lambda
        return invocation

    def _take(self) -> "_ExecutionEnvironment":
        with self._lock:
            if self._closed:
                raise FunctionError("Local.Stopped", "the local stack is stopping")
            return self._idle.pop() if self._idle else self._new_environment()

    def _new_environment(self) -> "_ExecutionEnvironment":
        environment = _ExecutionEnvironment(self.config, self._log)
        self._alive.add(environment)
        return environment

    def _discard(self, environment: "_ExecutionEnvironment") -> None:
        environment.kill()
        environment.release()
        with self._lock:
            self._alive.discard(environment)


class _ExecutionEnvironment:
    """A process of `execution_environment.py`. Its methods raise FunctionError if it can't be used again."""

    def __init__(self, config: FunctionConfig, log: LogSink) -> None:
        self._config = config
        self._log = log
        self._is_ready = False
        self._connection, theirs = socket.socketpair()
        self._lines = self._connection.makefile(encoding="utf-8")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-u", str(PROGRAM), config.handler, str(theirs.fileno())],
                cwd=config.code,
                env=_variables(config),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # the runner handles Ctrl-C in the terminal
            )
        self._log_reader = threading.Thread(target=self._read_log, name=f"log of {config.name}", daemon=True)
        self._log_reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def invoke(self, event: Any, request_id: str) -> Invocation:
        if not self._is_ready:
            late = FunctionError("Sandbox.InitTimedout", "Init timed out")
            ready = self._converse("", INIT_TIMEOUT_SECONDS, late)
            if "error" in ready:
                raise FunctionError(**ready["error"])
            self._is_ready = True
        seconds = self._config.timeout_seconds
        request = {"event": event, "request_id": request_id, "deadline": time.time() + seconds, "arn": self._config.arn}
        late = FunctionError("Sandbox.Timedout", f"{request_id} Task timed out after {seconds:.2f} seconds")
        response = self._converse(json.dumps(request) + "\n", seconds, late)
        if "error" in response:
            return Invocation(request_id, error=FunctionError(**response["error"]))
        return Invocation(request_id, result=response["result"])

    def kill(self) -> None:
        self._process.kill()

    def release(self) -> None:
        """Wait for the killed process and close its resources. Only the thread that used it last may call this."""
        self._process.wait()
        self._log_reader.join()
        self._lines.close()
        self._connection.close()

    def _converse(self, text: str, seconds: float, late: FunctionError) -> dict[str, Any]:
        """Send a line to the program, and return its next line. Raise `late` if none comes in time."""
        self._connection.settimeout(seconds)
        try:
            self._connection.sendall(text.encode())
            line = self._lines.readline()
        except TimeoutError:
            raise late from None
        except OSError:
            line = ""
        if not line:
            raise FunctionError("Runtime.ExitError", f"Runtime exited with status {self._process.wait()}")
        response: dict[str, Any] = json.loads(line)
        return response

    def _read_log(self) -> None:
        with self._process.stdout or contextlib.nullcontext(()) as lines:
            for line in lines:
                self._log(self._config.name, line.rstrip("\n"))


def _variables(config: FunctionConfig) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    own = {
        "AWS_LAMBDA_FUNCTION_NAME": config.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{config.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"local/{uuid.uuid4().hex}",
        "AWS_CONFIG_FILE": os.devnull,  # ignore this machine's AWS settings
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "LAMBDA_TASK_ROOT": str(config.code),
        "PYTHONPATH": os.pathsep.join(str(path) for path in (config.code, *config.layers)),
        "TZ": ":UTC",
    }
    return {**inherited, **own, **config.environment}
