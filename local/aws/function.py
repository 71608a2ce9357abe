"""A Lambda function on this machine: a pool of execution environments, each an OS process, as Lambda keeps them.

An execution environment serves one event at a time, is used again while it lives, is killed when the function's
timeout passes and is replaced. Nothing of this process's own environment reaches the handler except what a process
needs to run at all; the rest is the template's.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

PROGRAM = Path(__file__).with_name("execution_environment.py")
INIT_TIMEOUT_SECONDS = 30.0
"""Lambda gives the import of the handler 10 seconds; a busy laptop may need more."""
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")

LogSink = Callable[[str, str], None]
"""Takes a function's name and one line of its log."""


@dataclass(frozen=True)
class FunctionConfig:
    """What the template says about one function."""

    name: str
    arn: str
    handler: str
    code: Path
    layers: tuple[Path, ...]
    environment: Mapping[str, str]
    timeout_seconds: float
    memory_mb: int
    concurrency: int = 1
    """How many execution environments there may be."""


@dataclass(frozen=True)
class FunctionError:
    """An invocation that ended without a result, in Lambda's words."""

    error_type: str
    message: str
    stack_trace: tuple[str, ...] = ()


@dataclass(frozen=True)
class Invocation:
    """One finished invocation: `error` is None exactly when the handler returned."""

    request_id: str
    result: Any = None
    error: FunctionError | None = None


class LocalFunction:
    """Invokes a function's handler in one of its execution environments.

    More events at a time than `concurrency` wait for one to become free.
    """

    def __init__(self, config: FunctionConfig, log: LogSink) -> None:
        self.config = config
        self._log = log
        self._free = threading.Semaphore(config.concurrency)
        self._lock = threading.Lock()
        self._idle: list[_ExecutionEnvironment] = []
        self._alive: set[_ExecutionEnvironment] = set()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm_up(self) -> None:
        """Start an execution environment now, so that the first event meets a warm one. Returns at once."""
        with self._lock:
            if not self._closed and not self._alive:
                self._idle.append(self._new_environment())

    def invoke(self, event: Any, request_id: str | None = None) -> Invocation:
        """Run the handler once and wait for the end; never raises for what the handler does."""
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
            self._free.acquire()  # invocations under way have noticed and cleaned up after themselves
        for environment in self._idle:
            environment.release()
        self._idle.clear()
        self._alive.clear()
        self._free.release(self.config.concurrency)  # who comes later is told so

    def process_ids(self) -> list[int]:
        """The processes that stand ready or are busy."""
        with self._lock:
            return [environment.pid for environment in self._alive]

    def _invoke(self, event: Any, request_id: str) -> Invocation:
        try:
            environment = self._take()
        except _EnvironmentLostError as lost:
            return Invocation(request_id, error=lost.error)
        try:
            invocation = environment.invoke(event, request_id)
        except _EnvironmentLostError as lost:
            self._discard(environment)
            return Invocation(request_id, error=lost.error)
        with self._lock:
            self._idle.append(environment)  # the last one used is the first one used again, as in Lambda
        return invocation

    def _take(self) -> "_ExecutionEnvironment":
        with self._lock:
            if self._closed:
                raise _EnvironmentLostError(FunctionError("Local.Stopped", "the local stack is stopping"))
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


class _EnvironmentLostError(Exception):
    """The execution environment cannot be used again."""

    def __init__(self, error: FunctionError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(eq=False)
class _ExecutionEnvironment:
    config: FunctionConfig
    log: LogSink
    _ready: bool = field(default=False, init=False)
    _buffer: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        answers_read, answers_write = os.pipe()
        self._answers = answers_read
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-u", str(PROGRAM), self.config.handler, str(answers_write)],
                cwd=self.config.code,
                env=_variables(self.config),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(answers_write,),
                start_new_session=True,  # Ctrl-C in the terminal is the runner's to handle
            )
        finally:
            os.close(answers_write)
        self._log_reader = threading.Thread(target=self._read_log, name=f"log of {self.config.name}", daemon=True)
        self._log_reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def invoke(self, event: Any, request_id: str) -> Invocation:
        if not self._ready:
            first = self._next_answer(time.monotonic() + INIT_TIMEOUT_SECONDS, "Sandbox.InitTimedout", "Init timed out")
            if "error" in first:
                raise _EnvironmentLostError(_error(first["error"]))
            self._ready = True
        timeout = self.config.timeout_seconds
        self._send(
            {"event": event, "request_id": request_id, "deadline": time.time() + timeout, "arn": self.config.arn}
        )
        answer = self._next_answer(
            time.monotonic() + timeout, "Sandbox.Timedout", f"{request_id} Task timed out after {timeout:.2f} seconds"
        )
        if "error" in answer:
            return Invocation(request_id, error=_error(answer["error"]))
        return Invocation(request_id, result=answer["result"])

    def kill(self) -> None:
        self._process.kill()

    def release(self) -> None:
        """Wait for the killed process and close what belonged to it; only for the thread that used it last."""
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # an event it had not read any more
                self._process.stdin.close()
        self._log_reader.join()
        os.close(self._answers)

    def _send(self, request: dict[str, Any]) -> None:
        stdin = self._process.stdin
        try:
            if stdin is not None:
                stdin.write(json.dumps(request).encode() + b"\n")
                stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._exited() from error

    def _next_answer(self, deadline: float, error_type: str, message: str) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    if time.monotonic() >= deadline:
                        raise _EnvironmentLostError(FunctionError(error_type, message))
                    continue
                piece = os.read(self._answers, 65536)
                if not piece:
                    raise self._exited()
                self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _exited(self) -> _EnvironmentLostError:
        status = self._process.wait()
        return _EnvironmentLostError(FunctionError("Runtime.ExitError", f"Runtime exited with status {status}"))

    def _read_log(self) -> None:
        stdout = self._process.stdout
        if stdout is None:
            return
        with stdout:
            for line in stdout:
                self.log(self.config.name, line.decode("utf-8", "replace").rstrip("\n"))


def _error(description: dict[str, Any]) -> FunctionError:
    return FunctionError(
        description["errorType"], description["errorMessage"], tuple(description.get("stackTrace", ()))
    )


def _variables(config: FunctionConfig) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    own = {
        "AWS_LAMBDA_FUNCTION_NAME": config.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{config.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"local/{uuid.uuid4().hex}",
        "AWS_CONFIG_FILE": os.devnull,  # this machine's own AWS settings have no part in it
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "LAMBDA_TASK_ROOT": str(config.code),
        "PYTHONPATH": os.pathsep.join(str(path) for path in (config.code, *config.layers)),
        "TZ": ":UTC",
    }
    return {**inherited, **own, **config.environment}
