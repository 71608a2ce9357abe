"""The program of one local execution environment: imports the handler once, then serves one event after another.

The parent (`local/aws/function.py`) starts it with the function's environment. Events come in and results go out as
JSON lines over a socket. The handler's output is the log, as in Lambda. The program ends when the socket closes.

    python -P execution_environment.py <handler, e.g. app.lambda_handler> <file descriptor of the socket>

In  {"event": …, "request_id": "…", "deadline": seconds since the epoch, "arn": "…"}
Out {"ready": true} once the handler is imported, then per event
    {"result": …} or {"error": {"error_type": …, "message": …, "stack_trace": […]}}
"""

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, TextIO


class InvocationContext:
    """The context object of Lambda's Python runtime. `deadline`: seconds since the epoch."""

    function_version = "$LATEST"
    identity = None
    client_context = None

    def __init__(self, request_id: str, arn: str, deadline: float) -> None:
        self.aws_request_id = request_id
        self.invoked_function_arn = arn
        self.deadline = deadline
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the execution environment is killed."""
        return max(0, int((self.deadline - time.time()) * 1000))


def main(handler_name: str, connection_fd: int) -> None:
    """Serve events until the connection closes."""
    with os.fdopen(connection_fd, encoding="utf-8") as events, os.fdopen(os.dup(connection_fd), "w") as responses:
        try:
            handler = _import_handler(handler_name)
        except BaseException as error:  # noqa: BLE001 - any failure of the import is the result of the first event, as in Lambda
            _respond(responses, {"error": _describe(error)})
            return
        _respond(responses, {"ready": True})
        for line in events:
            _respond(responses, _invoke(handler, json.loads(line)))


def _import_handler(name: str) -> Callable[[Any, InvocationContext], Any]:
    module_name, _, function_name = name.rpartition(".")
    handler: Callable[[Any, InvocationContext], Any] = getattr(importlib.import_module(module_name), function_name)
    return handler


def _invoke(handler: Callable[[Any, InvocationContext], Any], request: dict[str, Any]) -> dict[str, Any]:
    context = InvocationContext(request["request_id"], request["arn"], request["deadline"])
    try:
        result = handler(request["event"], context)
        json.dumps(result)  # a result that JSON can't hold is the function's error
    except Exception as error:  # noqa: BLE001 - any exception of the handler is its result
        return {"error": _describe(error)}
    return {"result": result}


def _describe(error: BaseException) -> dict[str, Any]:
    """Return the arguments of `FunctionError`."""
    return {
        "error_type": type(error).__name__,
        "message": str(error),
        "stack_trace": traceback.format_exception(error),
    }


def _respond(responses: TextIO, response: dict[str, Any]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    responses.write(json.dumps(response) + "\n")
    responses.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
