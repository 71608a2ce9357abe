"""Draws the dashboard of template.yaml from a run of the local stack: good minutes, an outage, a slow gateway.

    python -m tools.dashboard          (`make dashboard`; docs/images/dashboard.svg)

The widgets are the template's. The functions' own metrics come from their log lines, as in AWS; those that SQS and
Lambda publish by themselves are taken from the running stack. A period is two seconds instead of a minute.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import requests

from local.aws.function import Invocation, LocalFunction
from local.aws.metrics import metric_data
from local.aws.stack import LocalStack, StackConfig
from local.demo.display import Display
from local.simulator.scenarios import SCENARIOS
from local.simulator.server import GatewayConfig
from local.template import STACK_NAME, load_template
from tools.charts import PALETTE, Bars, Lines, Place, Series, draw

PATH = Path(__file__).resolve().parent.parent / "docs" / "images" / "dashboard.svg"
PERIOD_SECONDS = 2
SEND_SECONDS = 80
QUIET_SECONDS = 10.0
LONGEST_SECONDS = 120.0
PER_SECOND = 2
SCHEDULE_SPEED = 20.0
QUEUES = ("OutboundQueue", "DeadLetterQueue", "UnpublishedEventsQueue")

Key = tuple[str, str, str]
"""Namespace, metric, and the value of the dimension that tells one from another: service, queue or function."""


@dataclass
class Measured:
    """Everything measured during a run, from many threads."""

    started: float = field(default_factory=time.time)
    acknowledged: set[str] = field(default_factory=set)
    """Keys of the messages that the sender is done with."""
    _values: dict[Key, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, namespace: str, metric: str, of: str, value: float) -> None:
        """A value of now."""
        with self._lock:
            self._values[namespace, metric, of].append((time.time() - self.started, value))

    def take_log(self, _function: str, line: str) -> None:
        """A log line of a function: metrics, or that a message is done."""
        if '"acknowledged":true' in line:
            self.acknowledged.add(str(json.loads(line).get("message_id")))
        for namespace, data in metric_data(line):
            for metric in data:
                service = next(d["Value"] for d in metric["Dimensions"] if d["Name"] == "service")
                for value in metric["Values"]:
                    self.add(namespace, metric["MetricName"], service, value)

    def points(self, key: Key, statistic: str, seconds: float) -> list[tuple[float, float]]:
        """By period; a sum has every period, other statistics those with a value."""
        periods: dict[int, list[float]] = defaultdict(list)
        for at, value in self._values.get(key, []):
            periods[int(at // PERIOD_SECONDS)].append(value)
        wanted = range(int(seconds // PERIOD_SECONDS)) if statistic == "Sum" else sorted(periods)
        found = [((n + 0.5) * PERIOD_SECONDS, _statistic(statistic, periods.get(n, []))) for n in wanted]
        return [point for point in found if point[0] <= seconds]

    def total(self, key: Key) -> float:
        """The sum over everything."""
        return sum(value for _, value in self._values.get(key, []))


def _statistic(name: str, values: list[float]) -> float:
    plain: Mapping[str, Callable[[list[float]], float]] = {"Sum": sum, "Maximum": max, "Minimum": min}
    if name in plain:
        return plain[name](values)
    if not name.startswith("p"):
        raise ValueError(f"the local dashboard does not know the statistic {name}")
    return sorted(values)[min(int(len(values) * float(name[1:]) / 100), len(values) - 1)]


def panels(body: str, measured: Measured, seconds: float) -> list[tuple[Place, Bars | Lines]]:
    """The widgets of a dashboard, filled with what was measured, each with its place."""
    return [
        ((widget["x"], widget["y"], widget["width"], widget["height"]), _panel(widget["properties"], measured, seconds))
        for widget in json.loads(body)["widgets"]
    ]


def _panel(widget: Mapping[str, Any], measured: Measured, seconds: float) -> Bars | Lines:
    given = {row[-1].get("color") for row in widget["metrics"]}
    others = itertools.cycle([color for color in PALETTE if color not in given])
    metrics = [((row[0], row[1], row[3]), row[-1], row[-1].get("color") or next(others)) for row in widget["metrics"]]
    if widget["view"] == "bar":
        bars = [(options["label"], measured.total(key), color) for key, options, color in metrics]
        return Bars(widget["title"], bars)
    series = [
        Series(options["label"], measured.points(key, options["stat"], seconds), color, options.get("yAxis") == "right")
        for key, options, color in metrics
    ]
    return Lines(widget["title"], series, widget["stacked"])


# The run


def numbers(seed: int) -> Iterator[str]:
    """Destinations as life has them: most arrive, some do not, some answer, a few go wrong in rarer ways."""
    chosen = random.Random(seed)  # noqa: S311 - a picture, not a secret
    shares = {
        "received": 80,
        "reply": 6,
        "rejected": 3,
        "expired": 3,
        "bad_request": 2,
        "lost_answer_then_callbacks": 1,
        "lost_answer": 1,
        "callbacks_duplicated": 4,
    }
    while True:
        yield SCENARIOS[chosen.choices(list(shares), list(shares.values()))[0]].number


class Run:
    """One run: sends for a while, with an outage and a slow spell, and waits until nothing moves any more."""

    def __init__(self, stack: LocalStack, measured: Measured, display: Display) -> None:
        self._stack, self._measured, self._display = stack, measured, display
        self._sqs = stack.client("sqs")
        self._numbers = numbers(seed=7)
        self._sent = 0
        self._queues = {logical_id: stack.outputs[f"{logical_id}Url"] for logical_id in QUEUES}
        self._queued_at: dict[str, float] = {}

    def go(self) -> float:
        """The seconds it took."""
        for function in self._stack.functions.values():
            function.invoke = self._counted(function)  # type: ignore[method-assign] # CloudWatch counts from outside, too
        simulator, last_change = self._stack.simulator, 0.0
        if simulator is None:
            raise ValueError("the run needs the simulator")
        spells: list[tuple[float, Callable[[], object]]] = [
            (20.0, partial(simulator.set_faults, down="refused")),
            (32.0, partial(simulator.set_faults, down=None)),
            (50.0, partial(simulator.set_faults, answer_delay_seconds=1.5)),
            (62.0, partial(simulator.set_faults, answer_delay_seconds=0.0)),
            (66.0, self._call_back_wrongly),
        ]
        while True:
            at = time.time() - self._measured.started
            while spells and at >= spells[0][0]:
                spells.pop(0)[1]()
            if at < SEND_SECONDS:
                self._send(until=at)
            busy = self._sample()
            last_change = at if busy or at < SEND_SECONDS else last_change
            self._display.progress(f"{at:.0f} s: {self._sent} messages queued, {'working' if busy else 'quiet'}")
            if at - last_change > QUIET_SECONDS or at > LONGEST_SECONDS:
                return at
            time.sleep(0.5)

    @property
    def sent(self) -> int:
        """How many messages were queued."""
        return self._sent

    def _send(self, until: float) -> None:
        """As many as should have been queued by now, at most ten."""
        count = min(int(until * PER_SECOND) - self._sent, 9)
        if count <= 0:
            return
        bodies = [
            {"message_id": f"picture-{self._sent + n}", "destination": next(self._numbers), "content": "Hello"}
            for n in range(count)
        ]
        self._queued_at |= {body["message_id"]: time.time() for body in bodies}
        if self._sent % 20 == 0:
            bodies.append(bodies[0])  # somebody queues a message twice
        entries = [{"Id": str(n), "MessageBody": json.dumps(body)} for n, body in enumerate(bodies)]
        self._sqs.send_message_batch(QueueUrl=self._queues["OutboundQueue"], Entries=entries)
        self._sent += count
        self._measured.add("AWS/SQS", "NumberOfMessagesSent", self._name("OutboundQueue"), len(bodies))

    def _sample(self) -> bool:
        """What SQS says of its queues; whether messages wait or are under way."""
        busy = False
        for logical_id, url in self._queues.items():
            attributes = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            waiting = int(attributes["ApproximateNumberOfMessages"])
            under_way = int(attributes["ApproximateNumberOfMessagesNotVisible"])
            name = self._name(logical_id)
            self._measured.add("AWS/SQS", "ApproximateNumberOfMessagesVisible", name, waiting)
            self._measured.add("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", name, under_way)
            if logical_id == "OutboundQueue":
                busy = waiting + under_way > 0
                self._measured.add("AWS/SQS", "ApproximateAgeOfOldestMessage", name, self._oldest())
        return busy

    def _oldest(self) -> float:
        """Seconds that the oldest message has waited; moto does not tell."""
        for key in self._queued_at.keys() & self._measured.acknowledged:
            del self._queued_at[key]
        return time.time() - min(self._queued_at.values(), default=time.time())

    def _name(self, logical_id: str) -> str:
        return self._queues[logical_id].rpartition("/")[2]

    def _counted(self, function: LocalFunction) -> Any:
        invoke, name = function.invoke, function.config.name

        def counted(event: Any, request_id: str | None = None) -> Invocation:
            self._measured.add("AWS/Lambda", "Invocations", name, 1)
            first = event["Records"][0] if isinstance(event, dict) and event.get("Records") else {}
            if "dynamodb" in first:
                age = time.time() - first["dynamodb"]["ApproximateCreationDateTime"]
                self._measured.add("AWS/Lambda", "IteratorAge", name, max(age, 0) * 1000)
            invocation = invoke(event, request_id)
            self._measured.add("AWS/Lambda", "Errors", name, 0 if invocation.error is None else 1)
            return invocation

        return counted

    def _call_back_wrongly(self) -> None:
        """A stranger, and the gateway with something that nobody can read."""
        secret = self._stack.secret("CallbackSecret")
        for password in ["guessed"] * 4 + [secret["password"]]:
            requests.post(
                self._stack.outputs["StatusCallbackUrl"],
                data=b"status=received",
                headers={"Content-Type": "application/json"},
                auth=(secret["username"], password),
                timeout=10,
            )


def body_of(stack: LocalStack) -> str:
    """The dashboard's body with the names that the local stack's resources have."""
    template = load_template()
    attributes = {name: {"Ref": name, "Arn": name} for name in template.resources}
    for logical_id in QUEUES:
        attributes[logical_id]["QueueName"] = stack.outputs[f"{logical_id}Url"].rpartition("/")[2]
    body: str = template.resolve(template.resources["Dashboard"].properties["DashboardBody"], attributes)
    return body


def main(path: Path = PATH) -> int:
    """Run, draw, and say where."""
    display, measured = Display(), Measured()
    config = StackConfig(
        simulator=GatewayConfig(seed=7, status_step_seconds=0.6, late_seconds=8.0, answer_delay_seconds=0.1),
        schedule_speed=SCHEDULE_SPEED,
        log=measured.take_log,
        progress=lambda step: display.progress(f"{step} …"),
    )
    with LocalStack(config) as stack:
        measured.started = time.time()
        run = Run(stack, measured, display)
        seconds = run.go()
        drawn = panels(body_of(stack), measured, seconds)
    subtitle = (
        f"{run.sent} messages on one machine: from 20 to 32 s the gateway was down, from 50 to 62 s it answered late; "
        f"one period is {PERIOD_SECONDS} s, in CloudWatch a minute"
    )
    path.parent.mkdir(exist_ok=True)
    path.write_text(draw(f"Dashboard of {STACK_NAME}", subtitle, drawn, seconds), encoding="utf-8")
    display.progress(f"{path} after {seconds:.0f} s", final=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
