"""Cold start: INIT and the first invocation of the built functions, under AWS's runtime client and its emulator.

Both are measured together, because work that INIT leaves is done in the first invocation, on a slower CPU.
"""

import contextlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks import packages
from benchmarks.charts import chart
from benchmarks.execution_environment import ExecutionEnvironment
from benchmarks.handlers import batch, environment
from benchmarks.servers import Servers, example
from benchmarks.side_by_side import Arm, Figure, NotMeasuredError, measure, progress, ratio
from layers.shared.trim import split_roots
from local.template import load_template
from tools.charts import Bars

_FIRST_EVENT: Final[Mapping[str, Callable[[], object]]] = {
    "SendMessageFunction": lambda: batch(1),
    "ReceiveCallbackFunction": lambda: example("api/status_sent.json"),
    "CheckHealthFunction": lambda: example("schedule/check_health.json"),
    "ReconcileMessagesFunction": lambda: example("schedule/reconcile_messages.json"),
    "PublishEventsFunction": lambda: example("stream/accepted.json"),
}
_TUTORIAL, _EMPTY = "the usual tutorial", "empty handler"
_LIMITS: Final = {name: 0.30 if name == "SendMessageFunction" else 0.24 for name in _FIRST_EVENT}
"""The limits, as ratios to the tutorial's handler."""
_EMPTY_CODE: Final = "def lambda_handler(event, context):\n    return {}\n"
_SECONDS: Final = 60.0
"""Of each comparison; with a share of a CPU a pass takes half a minute."""
_WHOLE_CPU_MB: Final = 1769
"""The memory size that has one whole CPU, by AWS's guide to Lambda (configuration-memory)."""


def cold_starts(servers: Servers, folder: Path, *, passes: int, throttled_passes: int) -> Iterator[Figure | Bars]:
    """Measure each function against the tutorial's handler and an empty one, and the size of the layer.

    Then repeat it with the CPU share of the functions' memory. Raises NotMeasuredError.
    """
    if platform.system() != "Linux":
        raise NotMeasuredError("the emulator that AWS SAM CLI brings is for Linux")
    runtime_version = load_template().resources["SendMessageFunction"].properties["Runtime"].removeprefix("python")
    python = packages.runtime(folder / "runtime", runtime_version)
    progress("packages")
    packages.build(folder / "build", python)
    packages.build_tutorial(folder / "tutorial", python)
    yield from packages.sizes(folder / "build" / "SharedLayer" / "python")
    functions = _functions(servers, folder / "build", python)
    others = [_tutorial(servers, folder / "tutorial", python), _empty(folder / "empty", python)]
    yield from _compare(functions, others, passes, None)
    for memory_mb in sorted({function.memory_mb for function in functions}) if throttled_passes else ():
        alike = [function for function in functions if function.memory_mb == memory_mb]
        yield from _compare(alike, others, throttled_passes, memory_mb / _WHOLE_CPU_MB)


def _compare(
    functions: Sequence[ExecutionEnvironment], others: Sequence[ExecutionEnvironment], passes: int, share: float | None
) -> Iterator[Figure | Bars]:
    slower = "" if share is None else f" at {share:.2f} CPU"
    progress(f"cold starts{slower}")
    with contextlib.ExitStack() as running:
        for each in (*functions, *others):
            each.share = share
            running.callback(each.exit.close)
        arms = [Arm(each.name, each.invoke, each.start) for each in (*functions, *others)]
        seconds = measure(arms, passes=passes, timer=time.perf_counter, at_most=_SECONDS)
    for function in functions:
        note = f"of the tutorial's; {ratio(seconds, function.name, _EMPTY):.1f} times an empty handler's"
        name = f"cold start of {function.name}{slower}"
        yield Figure(name, ratio(seconds, function.name, _TUTORIAL), _LIMITS[function.name], note)
    yield chart(f"Cold start, first invocation included{slower}", "ms", seconds, _TUTORIAL, _EMPTY)


def _functions(servers: Servers, build: Path, python: Path) -> list[ExecutionEnvironment]:
    layer, resources = build / "SharedLayer", load_template().resources
    certifi = layer / "python" / "certifi"
    _trust(servers, layer / "aws-roots.pem", certifi / "cacert.pem")
    if (certifi / "roots").is_dir():
        split_roots(servers.authority.decode(), certifi / "roots")
    roots = {"AWS_CA_BUNDLE": str(layer / "aws-roots.pem")}
    return [
        ExecutionEnvironment(
            name,
            (build / name, layer / "python"),
            first_event,
            _variables(servers, name) | roots,
            python,
            memory_mb=resources[name].properties["MemorySize"],
        )
        for name, first_event in _FIRST_EVENT.items()
    ]


def _tutorial(servers: Servers, folder: Path, python: Path) -> ExecutionEnvironment:
    _trust(servers, folder / "certifi" / "cacert.pem")
    variables = _variables(servers, "SendMessageFunction")
    del variables["AWS_CA_BUNDLE"]
    return ExecutionEnvironment(_TUTORIAL, (folder,), lambda: batch(1), variables, python)


def _empty(folder: Path, python: Path) -> ExecutionEnvironment:
    folder.mkdir()
    (folder / "app.py").write_text(_EMPTY_CODE, encoding="utf-8")
    return ExecutionEnvironment(_EMPTY, (folder,), dict, {}, python)


def _variables(servers: Servers, function: str) -> dict[str, str]:
    gateway = f"{servers.tls}/0"
    urls = {"GATEWAY_BASE_URL": gateway, "SERVICE_STATUS_URL": f"{gateway}/status"}
    return environment(servers, function, **urls, AWS_ENDPOINT_URL=servers.tls)


def _trust(servers: Servers, *roots: Path) -> None:
    """Add the authority of the benchmark's servers to files of root certificates."""
    for path in roots:
        with path.open("ab") as file:
            file.write(servers.authority)
