"""The local execution environments: real processes that import a handler, serve events, hang and crash as in Lambda."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local.aws.function import FunctionConfig, LocalFunction
from tests.support.processes import alive
from tests.support.waiting import eventually

HANDLER = """
import os, sys, time
calls = 0
def lambda_handler(event, context):
    global calls
    calls += 1
    match event["do"]:
        case "count": return {"calls": calls, "pid": os.getpid()}
        case "environment": return dict(os.environ)
        case "context": return {
            "id": context.aws_request_id, "left": context.get_remaining_time_in_millis(),
            "name": context.function_name, "memory": context.memory_limit_in_mb, "arn": context.invoked_function_arn}
        case "raise": raise ValueError("no such thing")
        case "hang": time.sleep(600)
        case "exit": os._exit(3)
        case "set": return {1, 2}
        case "print": print("to stdout"); print("to stderr", file=sys.stderr); sys.stdout.write("no newline")
        case "read": return sys.stdin.read()
        case "meet":
            open(event["mine"], "w").close()
            while not os.path.exists(event["other"]): time.sleep(0.01)
            return os.getpid()
"""


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, log: list[str]) -> Iterator[Callable[..., LocalFunction]]:
    """Make functions with this module's handler or with the given code; close them at the end."""
    made: list[LocalFunction] = []

    def function(code: str = HANDLER, **settings: Any) -> LocalFunction:
        folder = tmp_path / f"function-{len(made)}"
        folder.mkdir()
        (folder / "app.py").write_text(code, encoding="utf-8")
        values: dict[str, Any] = {
            "name": "Example",
            "arn": "arn:aws:lambda:ap-southeast-2:123456789012:function:Example",
            "handler": "app.lambda_handler",
            "code": folder,
            "layers": (),
            "environment": {"OWN": "value"},
            "timeout_seconds": 20.0,
            "memory_mb": 256,
        } | settings
        made.append(LocalFunction(FunctionConfig(**values), lambda _name, line: log.append(line)))
        return made[-1]

    yield function
    for one in made:
        one.close()


def test_an_execution_environment_is_used_again(make: Callable[..., LocalFunction]) -> None:
    function = make()

    first, second = (function.invoke({"do": "count"}).result for _ in range(2))

    assert (first["calls"], second["calls"]) == (1, 2)
    assert first["pid"] == second["pid"] != os.getpid()


def test_events_at_the_same_time_have_an_environment_each(make: Callable[..., LocalFunction], tmp_path: Path) -> None:
    function = make(concurrency=2)
    one, two = str(tmp_path / "one"), str(tmp_path / "two")

    with ThreadPoolExecutor(2) as threads:
        events = [{"do": "meet", "mine": one, "other": two}, {"do": "meet", "mine": two, "other": one}]
        pids = {invocation.result for invocation in threads.map(function.invoke, events)}

    assert len(pids) == 2
    assert pids == set(function.process_ids())


def test_nothing_of_the_callers_environment_reaches_the_handler(
    make: Callable[..., LocalFunction], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")

    environment = make().invoke({"do": "environment"}).result

    assert not {"AWS_PROFILE", "HTTPS_PROXY", "AWS_ACCESS_KEY_ID"} & environment.keys()
    assert (environment["OWN"], environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]) == ("value", "256")


def test_the_context_tells_the_time_left_and_who_is_called(make: Callable[..., LocalFunction]) -> None:
    invocation = make().invoke({"do": "context"})

    context = invocation.result
    assert context["id"] == invocation.request_id
    assert 0 < context["left"] <= 20_000
    assert (context["name"], context["memory"]) == ("Example", "256")
    assert context["arn"].endswith(":function:Example")


def test_a_layer_is_importable_and_the_handlers_stdin_is_empty(
    make: Callable[..., LocalFunction], tmp_path: Path
) -> None:
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer" / "shared_code.py").write_text("NAME = 'layer'", encoding="utf-8")
    code = "import shared_code, sys\ndef lambda_handler(event, context): return shared_code.NAME + sys.stdin.read()"

    assert make(code, layers=(tmp_path / "layer",)).invoke({}).result == "layer"


def test_the_runners_own_modules_are_not_importable(make: Callable[..., LocalFunction]) -> None:
    code = "import importlib.util\ndef lambda_handler(event, context): return importlib.util.find_spec('resources')"

    assert make(code).invoke({}).result is None


@pytest.mark.parametrize(
    ("event", "error_type", "words"),
    [
        ({"do": "raise"}, "ValueError", "no such thing"),
        ({"do": "set"}, "TypeError", "set is not JSON serializable"),
        ({"do": "exit"}, "Runtime.ExitError", "exited with status 3"),
    ],
)
def test_a_handler_that_fails_is_an_error_and_the_next_event_is_served(
    make: Callable[..., LocalFunction], log: list[str], event: dict[str, str], error_type: str, words: str
) -> None:
    function = make()

    error = function.invoke(event).error

    assert error is not None
    assert error.error_type == error_type
    assert words in error.message
    assert any(words in line for line in log)
    assert function.invoke({"do": "count"}).error is None


def test_a_handler_that_hangs_is_killed_when_its_time_is_over(make: Callable[..., LocalFunction]) -> None:
    function = make(timeout_seconds=0.2)
    function.warm_up()
    (hanging,) = function.process_ids()

    error = function.invoke({"do": "hang"}).error

    assert error is not None
    assert error.error_type == "Sandbox.Timedout"
    assert "Task timed out after 0.20 seconds" in error.message
    assert alive({hanging}) == set()


def test_a_handler_that_cannot_be_imported_is_an_error(make: Callable[..., LocalFunction]) -> None:
    error = make("import no_such_module").invoke({}).error

    assert error is not None
    assert (error.error_type, error.message) == ("ModuleNotFoundError", "No module named 'no_such_module'")


def test_what_the_handler_prints_is_its_log(make: Callable[..., LocalFunction], log: list[str]) -> None:
    function = make()
    function.invoke({"do": "print"})
    function.close()  # an unfinished line counts as a line when the process ends

    assert log == ["to stdout", "to stderr", "no newline"]


def test_closing_ends_events_under_way(make: Callable[..., LocalFunction], tmp_path: Path) -> None:
    function = make()
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(function.invoke, {"do": "meet", "mine": str(tmp_path / "a"), "other": "never"})
        eventually((tmp_path / "a").exists, "the handler is at work")
        processes = set(function.process_ids())
        function.close()
        error = under_way.result().error

    assert error is not None
    assert error.error_type == "Runtime.ExitError"
    assert alive(processes) == set()
    after = function.invoke({}).error
    assert after is not None
    assert after.error_type == "Local.Stopped"
