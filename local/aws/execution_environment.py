"""The program inside one local execution environment: it imports the handler once, then answers event after event.

The parent (`local/aws/function.py`) starts it with the function's environment. Events come in as JSON lines on standard
input, answers go out as JSON lines on a pipe of their own; what the handler prints is log output, as in Lambda. It ends
when standard input closes.

    python -P execution_environment.py <handler, e.g. app.lambda_handler> <file descriptor for answers>

In  {"event": …, "request_id": "…", "deadline": seconds since the epoch, "arn": "…"}
Out {"ready": true} once the handler is imported, then per event
    {"result": …} or {"error": {"errorType": …, "errorMessage": …, "stackTrace": […]}}
"""

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO


@dataclass(frozen=True)
class InvocationContext:
    """The context object of Lambda's Python runtime."""

    aws_request_id: str
    invoked_function_arn: str
    deadline: float
    function_name: str
    memory_limit_in_mb: str
    log_group_name: str
    log_stream_name: str
    function_version: str = "$LATEST"
    identity: None = None
    client_context: None = None

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the execution environment is killed."""
        return max(0, int((self.deadline - time.time()) * 1000))


def main(handler_name: str, answers_fd: int) -> None:
    """Answer events until standard input closes."""
    events = os.fdopen(os.dup(0), "r", encoding="utf-8")
    _close_standard_input()
    with os.fdopen(answers_fd, "w", encoding="utf-8", buffering=1) as answers:
        try:
            handler = _import_handler(handler_name)
        except BaseException as error:  # noqa: BLE001 - whatever an import raises is the answer to the first event, as in Lambda
            _answer(answers, {"error": _describe(error)})
            return
        _answer(answers, {"ready": True})
        for line in events:
            _answer(answers, _invoke(handler, json.loads(line)))


def _import_handler(name: str) -> Callable[[Any, InvocationContext], Any]:
    module_name, _, function_name = name.rpartition(".")
    handler: Callable[[Any, InvocationContext], Any] = getattr(importlib.import_module(module_name), function_name)
    return handler


def _invoke(handler: Callable[[Any, InvocationContext], Any], request: dict[str, Any]) -> dict[str, Any]:
    context = InvocationContext(
        aws_request_id=request["request_id"],
        invoked_function_arn=request["arn"],
        deadline=request["deadline"],
        function_name=os.environ["AWS_LAMBDA_FUNCTION_NAME"],
        memory_limit_in_mb=os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
        log_group_name=os.environ["AWS_LAMBDA_LOG_GROUP_NAME"],
        log_stream_name=os.environ["AWS_LAMBDA_LOG_STREAM_NAME"],
    )
    try:
        result = handler(request["event"], context)
        json.dumps(result)  # what cannot be written as JSON is an error of the function
    except Exception as error:  # noqa: BLE001 - any exception of the handler is its answer
        return {"error": _describe(error)}
    return {"result": result}


def _describe(error: BaseException) -> dict[str, Any]:
    return {
        "errorType": type(error).__name__,
        "errorMessage": str(error),
        "stackTrace": traceback.format_exception(error),
    }


def _answer(answers: TextIO, answer: dict[str, Any]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    answers.write(json.dumps(answer) + "\n")


def _close_standard_input() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
