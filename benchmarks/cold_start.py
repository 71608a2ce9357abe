"""Cold start: INIT and the first invocation of the built functions, under AWS's runtime client and its emulator.

Together, because what is not done at INIT is done in the first invocation, on a slower CPU.
"""

from __future__ import annotations

import contextlib
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks import packages
from benchmarks.charts import Chart, chart
from benchmarks.execution_environment import BuiltFunction, ExecutionEnvironment, NoShareError
from benchmarks.handlers import batch, environment, example, status_callback
from benchmarks.packages import Packages
from benchmarks.servers import Servers
from benchmarks.side_by_side import Arm, Figure, Progress, measure, ratio
from local.template import Template, load_template

_FIRST_EVENT: Final[Mapping[str, Callable[[], object]]] = {
    "SendMessageFunction": lambda: batch(1),
    "ReceiveCallbackFunction": status_callback,
    "CheckHealthFunction": lambda: example("schedule/check_health.json"),
    "ReconcileMessagesFunction": lambda: example("schedule/reconcile_messages.json"),
    "PublishEventsFunction": lambda: example("stream/accepted.json"),
}
_TUTORIAL, _EMPTY = "the usual tutorial", "empty handler"
_LIMITS: Final = {name: 0.36 if name == "SendMessageFunction" else 0.30 for name in _FIRST_EVENT}
"""Of the tutorial's handler."""
_EMPTY_CODE: Final = "def lambda_handler(event, context):\n    return {}\n"
_WHOLE_CPU_MB: Final = 1769
"""Memory that brings one whole CPU, by AWS's guide to Lambda (configuration-memory)."""


def cold_starts(
    servers: Servers, *, passes: int, throttled_passes: int, progress: Progress
) -> Iterator[Figure | Chart | str]:
    """Each function against the tutorial's handler and an empty one, then with the CPU that its memory brings; and what
    the layer holds. In words what can't be measured here.
    """
    if platform.system() != "Linux":
        yield "Cold starts are not measured: the emulator that AWS SAM CLI brings is for Linux."
        return
    template = load_template()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            python = packages.runtime(folder / "runtime", _runtime_version(template))
        except packages.RuntimeMissingError as error:
            yield f"Cold starts are not measured: {error}"
            return
        built = packages.build(folder, python=python, progress=progress)
        yield from packages.sizes(built)
        roots = _trust(servers.authority, built)
        ours = [_function(template, name, built, servers, roots) for name in _FIRST_EVENT]
        others = [_tutorial(built, servers), _empty(folder / "empty")]
        progress("cold starts")
        yield from _compare(ours, others, python, passes)
        try:
            yield from _compare_throttled(ours, others, python, throttled_passes, progress)
        except NoShareError as error:
            yield f"Cold starts at the memory's share of a CPU are not measured: {error}"


def _compare(
    ours: Sequence[BuiltFunction],
    others: Sequence[BuiltFunction],
    python: Path,
    passes: int,
    share: float | None = None,
) -> Iterator[Figure | Chart]:
    with contextlib.ExitStack() as running:
        arms = []
        for function in (*ours, *others):
            environment = ExecutionEnvironment(function, python, share)
            running.callback(environment.end)
            arms.append(Arm(function.name, environment.invoke, environment.start))
        seconds = measure(arms, passes=passes, timer=time.perf_counter)
    slower = "" if share is None else f" at {share:.2f} CPU"
    for function in ours:
        of_empty = f"{ratio(seconds, function.name, _EMPTY):.1f} times an empty handler's" if share is None else ""
        name = f"cold start of {function.name}{slower}"
        note = "; ".join(filter(None, ("of the tutorial's", of_empty)))
        yield Figure(name, ratio(seconds, function.name, _TUTORIAL), _LIMITS[function.name], note)
    yield chart(f"Cold start, first invocation included{slower}", "ms", seconds, _TUTORIAL, _EMPTY)


def _compare_throttled(
    ours: Sequence[BuiltFunction], others: Sequence[BuiltFunction], python: Path, passes: int, progress: Progress
) -> Iterator[Figure | Chart]:
    for memory_mb in sorted({function.memory_mb for function in ours}) if passes else ():
        progress(f"cold starts with the CPU of {memory_mb} MB")
        alike = [function for function in ours if function.memory_mb == memory_mb]
        yield from _compare(alike, others, python, passes, memory_mb / _WHOLE_CPU_MB)


def _function(template: Template, name: str, built: Packages, servers: Servers, roots: Path) -> BuiltFunction:
    return BuiltFunction(
        name,
        (built.functions[name], built.layer),
        _FIRST_EVENT[name],
        environment(servers, name, **_over_tls(servers), AWS_CA_BUNDLE=str(roots)),
        memory_mb=template.resources[name].properties["MemorySize"],
    )


def _tutorial(built: Packages, servers: Servers) -> BuiltFunction:
    own = environment(servers, "SendMessageFunction", **_over_tls(servers))
    del own["AWS_CA_BUNDLE"]
    return BuiltFunction(_TUTORIAL, (built.tutorial,), lambda: batch(1), own)


def _empty(folder: Path) -> BuiltFunction:
    folder.mkdir()
    (folder / "app.py").write_text(_EMPTY_CODE, encoding="utf-8")
    return BuiltFunction(_EMPTY, (folder,), dict, {})


def _over_tls(servers: Servers) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": servers.aws_tls,
        "GATEWAY_BASE_URL": f"{servers.gateway_tls}/0",
        "SERVICE_STATUS_URL": f"{servers.gateway_tls}/0/status",
    }


def _trust(authority: bytes, built: Packages) -> Path:
    """Each file of roots gets one more, for the benchmark's servers; the one for AWS."""
    aws_roots = built.layer.parent / "aws-roots.pem"
    for path in (aws_roots, built.layer / "certifi" / "cacert.pem", built.tutorial / "certifi" / "cacert.pem"):
        with path.open("ab") as file:
            file.write(authority)
    return aws_roots


def _runtime_version(template: Template) -> str:
    (runtime,) = {function.properties["Runtime"] for function in template.of_type("AWS::Lambda::Function")}
    return str(runtime).removeprefix("python")
