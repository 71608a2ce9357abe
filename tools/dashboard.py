"""Draws the dashboard of template.yaml from a run of the local stack: good minutes, an outage, a slow gateway.

    python -m tools.dashboard          (`make dashboard`; docs/images/dashboard.svg)

The widgets are the template's. The functions' own metrics come from their log lines, as in AWS; the metrics of SQS and
Lambda are measured here, except the age of the oldest message, which stays empty. A period is two seconds instead of a
minute.
"""

import itertools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from local.aws.function import Invocation, LocalFunction
from local.aws.metrics import metric_data
from local.aws.stack import LocalStack, StackConfig
from local.demo.display import Display
from local.simulator.config import GatewayConfig
from local.simulator.scenarios import SCENARIOS
from local.template import STACK_NAME, load_template
from tools.charts import PALETTE, Bars, Lines, Place, Series, draw

PATH: Final = Path(__file__).resolve().parent.parent / "docs" / "images" / "dashboard.svg"
SUBTITLE: Final = (
    "The gateway was down from 20 to 32 s, and slow from 50 to 62 s. A period is 2 s, in CloudWatch a minute."
)
PERIOD_SECONDS: Final = 2
RUN_SECONDS: Final = 100
SEND_SECONDS: Final = 80
PER_SECOND: Final = 2
QUEUES: Final = ("OutboundQueue", "UrgentQueue", "DeadLetterQueue", "UnpublishedEventsQueue")
_FAULTS_AT: Final[Mapping[float, Mapping[str, Any]]] = {
    20: {"down": "refused"},
    32: {"down": None},
    50: {"response_delay_seconds": 1.5},
    62: {"response_delay_seconds": None},
}
_MIX: Final = ("received",) * 15 + ("reply", "rejected", "expired", "bad_request", "lost_response")
"""The phases of the run, in order."""

Key = tuple[str, str, str]
"""Namespace, metric, and the values of the dimensions that distinguish series: service and lane, queue, function."""


@dataclass
class Measured:
    """Everything measured during a run, from many threads."""

    started: float = field(default_factory=time.time)
    samples: list[tuple[Key, float, float]] = field(default_factory=list)
    """The series, seconds since the start, and the value."""

    def add(self, namespace: str, metric: str, of: str, value: float) -> None:
        """Add a value with the current time."""
        self.samples.append(((namespace, metric, of), time.time() - self.started, value))

    def take_log(self, _function: str, line: str) -> None:
        """Add the metrics of a function's log line."""
        for namespace, data in metric_data(line):
            for metric in data:
                of = {d["Name"]: d["Value"] for d in metric["Dimensions"] if d["Name"] in ("service", "lane")}
                for value in metric["Values"]:
                    self.add(
                        namespace, metric["MetricName"], " ".join(of[name] for name in sorted(of, reverse=True)), value
                    )

    def points(self, key: Key, statistic: str, seconds: float) -> list[tuple[float, float]]:
        """Return the statistic by period: a sum for every period, other statistics for periods with a value."""
        periods: dict[int, list[float]] = defaultdict(list)
        for sample_key, at, value in self.samples:
            if sample_key == key:
                periods[int(at // PERIOD_SECONDS)].append(value)
        wanted = range(int(seconds // PERIOD_SECONDS)) if statistic == "Sum" else sorted(periods)
        return [((n + 0.5) * PERIOD_SECONDS, _statistic(statistic, periods.get(n, []))) for n in wanted]


def _statistic(name: str, values: list[float]) -> float:
    plain: Mapping[str, Callable[[list[float]], float]] = {"Sum": sum, "Maximum": max, "Minimum": min}
    if name in plain:
        return plain[name](values)
    if not name.startswith("p"):
        raise ValueError(f"the local dashboard does not know the statistic {name}")
    return sorted(values)[min(int(len(values) * float(name[1:]) / 100), len(values) - 1)]


def panels(body: str, measured: Measured, seconds: float) -> list[tuple[Place, Bars | Lines]]:
    """Return the widgets of a dashboard's body with their places, filled with the measured values."""
    return [
        ((widget["x"], widget["y"], widget["width"], widget["height"]), _panel(widget["properties"], measured, seconds))
        for widget in json.loads(body)["widgets"]
    ]


def _panel(widget: Mapping[str, Any], measured: Measured, seconds: float) -> Bars | Lines:
    given = {row[-1].get("color") for row in widget["metrics"]}
    others = itertools.cycle([color for color in PALETTE if color not in given])
    metrics = [
        ((row[0], row[1], " ".join(row[3:-1:4])), row[-1], row[-1].get("color") or next(others))
        for row in widget["metrics"]
    ]
    series = [
        Series(options["label"], measured.points(key, options["stat"], seconds), color, options.get("yAxis") == "right")
        for key, options, color in metrics
    ]
    if widget["view"] == "bar":
        return Bars(widget["title"], [(one.label, sum(value for _, value in one.points), one.color) for one in series])
    return Lines(widget["title"], series, widget["stacked"])


def dashboard_body() -> str:
    """Return the body of the template's dashboard, with logical IDs as the names of queues and functions."""
    template = load_template()
    attributes = {name: {"Ref": name, "QueueName": name, "Arn": name} for name in template.resources}
    body: str = template.resolve(template.resources["Dashboard"].properties["DashboardBody"], attributes)
    return body


def run(stack: LocalStack, measured: Measured, display: Display) -> None:
    """Send for a while, with an outage and a slow gateway in between, and wait until all messages have ended."""
    simulator, sqs = stack.simulator, stack.client("sqs")
    if simulator is None:
        raise ValueError("the run needs the simulator")
    for function in stack.functions.values():
        _measure_function(function, measured)
    measured.started = time.time()
    for tick in range(RUN_SECONDS * PER_SECOND):
        second = tick / PER_SECOND
        time.sleep(max(0.0, measured.started + second - time.time()))
        simulator.set_faults(**_FAULTS_AT.get(second, {}))
        if second < SEND_SECONDS:
            number = SCENARIOS[_MIX[tick % len(_MIX)]].number
            body = json.dumps({"message_id": f"picture-{tick}", "destination": number, "content": "Hello"})
            sqs.send_message(QueueUrl=stack.outputs["OutboundQueueUrl"], MessageBody=body)
            measured.add("AWS/SQS", "NumberOfMessagesSent", "OutboundQueue", 1)
        for name in QUEUES:
            _measure_queue(sqs, name, stack.outputs[f"{name}Url"], measured)
        display.progress(f"{second:.0f} of {RUN_SECONDS} s")


def _measure_queue(sqs: Any, name: str, url: str, measured: Measured) -> None:
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    waiting, in_flight = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
    measured.add("AWS/SQS", f"{waiting}Visible", name, int(attributes[waiting]))
    measured.add("AWS/SQS", in_flight, name, int(attributes[in_flight]))


def _measure_function(function: LocalFunction, measured: Measured) -> None:
    """Measure from outside, as Lambda does."""
    invoke, name = function.invoke, function.config.name

    def measure(event: Any, request_id: str | None = None) -> Invocation:
        invocation = invoke(event, request_id)
        measured.add("AWS/Lambda", "Invocations", name, 1)
        measured.add("AWS/Lambda", "Errors", name, 0 if invocation.error is None else 1)
        if name == "PublishEventsFunction":
            queued_at = event["Records"][0]["dynamodb"]["ApproximateCreationDateTime"]
            measured.add("AWS/Lambda", "IteratorAge", name, (time.time() - queued_at) * 1000)
        return invocation

    function.invoke = measure  # type: ignore[method-assign]


def main(path: Path = PATH) -> None:
    """Run, draw, and print the picture's path."""
    display, measured = Display(), Measured()
    config = StackConfig(
        simulator=GatewayConfig(seed=7, status_step_seconds=0.6, response_delay_seconds=0.1),
        schedule_speed=20.0,
        log=measured.take_log,
        progress=lambda step: display.progress(f"{step} …"),
    )
    with LocalStack(config) as stack:
        run(stack, measured, display)
    drawn = panels(dashboard_body(), measured, RUN_SECONDS)
    path.write_text(draw(f"Dashboard of {STACK_NAME}", SUBTITLE, drawn, RUN_SECONDS), encoding="utf-8")
    display.progress(f"{path}", final=True)


if __name__ == "__main__":
    main()
