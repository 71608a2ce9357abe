"""How long codes wait behind reminders at a paced gateway: on the urgent queue, and on the ordinary one beside them.

Both lanes' event sources are those of the local stack, with execution environments of the sender function in this
process. The queues are lists, AWS is played in process, and the gateway notes when each message reaches it.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final
from uuid import uuid4

from benchmarks.charts import chart
from benchmarks.handlers import aws_in_process, batch, invoke, load
from benchmarks.servers import Servers
from benchmarks.side_by_side import Figure, NotMeasuredError, percentile, progress
from local.aws.app_loader import load_app
from local.aws.event_source import EventSource, EventSourceConfig
from local.aws.function import Invocation
from local.template import ACCOUNT_ID, REGION, load_template
from tools.charts import Bars

REMINDERS: Final = 500
CODES: Final = 20
ROUND_TRIP_SECONDS: Final = 0.1  # of the gateway
REMINDER, URGENT_CODE, ORDINARY_CODE = "reminder", "urgent code", "ordinary code"
# The ten slots of an invocation take a tenth of a second each: its last response comes when its last slot ends, so the
# pace alone decides how fast the ordinary lane is.
_PACE: Final = {"MaxMessagesPerSecond": "50", "SenderConcurrency": "5", "MaxUrgentPerSecond": "10"}
_BETWEEN_CODES_SECONDS: Final = 0.4  # twenty while reminders still wait
_MOST_SECONDS: Final = 60.0
_END_SECONDS: Final = 0.5  # for the last invocations


@dataclass(frozen=True)
class Run:
    """One emptying of the queues: when each message was queued, by kind and key, and reached the gateway, by key."""

    queued: Mapping[str, Mapping[str, float]]
    reached: Mapping[str, float]

    def waits(self, kind: str) -> list[float]:
        """Return how many seconds each message of a kind waited."""
        return [self.reached[key] - at for key, at in self.queued[kind].items()]

    @property
    def seconds_per_message(self) -> float:
        """The time between two messages at the gateway, on average, whatever their lane."""
        at = sorted(self.reached.values())
        return (at[-1] - at[0]) / (len(at) - 1)


def lanes(servers: Servers, *, passes: int) -> Iterator[Figure | Bars]:
    """Measure runs with urgent codes and without, in turn. Raises NotMeasuredError."""
    with _stack(servers) as stack:
        runs = []
        for number in range(1, passes + 1):
            progress(f"{CODES} codes behind {REMINDERS} reminders, pass {number} of {passes}")
            runs.append((stack.run(urgent=False), stack.run(urgent=True)))
    yield from figures(runs)


def figures(runs: Sequence[tuple[Run, Run]]) -> Iterator[Figure | Bars]:
    """Return what pairs of runs show, one without urgent codes and one with them.

    The least of each counts: other work of the machine only makes messages wait longer.
    """
    waits = {
        f"{lane} queue": [percentile(both.waits(kind), 95) for _, both in runs]
        for lane, kind in (("urgent", URGENT_CODE), ("ordinary", ORDINARY_CODE))
    }
    for (lane, seconds), limit in zip(waits.items(), (2.0, None), strict=True):
        name = f"codes behind {REMINDERS} reminders, {lane}"
        trips = min(seconds) / ROUND_TRIP_SECONDS
        note = "round trips of the gateway, until 95 % have reached it"
        yield Figure(name, trips, limit, note, noisy=limit is not None)
    one, both = (min(run.seconds_per_message for run in each) for each in zip(*runs, strict=True))
    yield Figure("time of a message, both lanes at work", both / one, 1.0, "of that with the ordinary lane alone")
    yield chart(f"A code behind {REMINDERS} reminders, until 95 % are at the gateway", "ms", waits, "ordinary queue")


class _Queue:
    """A queue as an event source calls SQS, in order. A message that the function returns comes again at once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: list[dict[str, Any]] = []
        self._received: dict[str, dict[str, Any]] = {}

    def put(self, messages: Sequence[dict[str, Any]]) -> None:
        with self._changed:
            self._messages += messages
            self._changed.notify()

    def receive_message(self, **request: Any) -> dict[str, Any]:
        with self._changed:
            self._changed.wait_for(lambda: self._messages, timeout=request["WaitTimeSeconds"])
            most = request["MaxNumberOfMessages"]
            received, self._messages = self._messages[:most], self._messages[most:]
        self._received |= {message["MessageId"]: message for message in received}
        return {"Messages": received}

    def delete_message_batch(self, **request: Any) -> None:
        """Nothing to do: what is deleted does not come again."""

    def invoke(self, apps: list[ModuleType], event: dict[str, Any]) -> Invocation:
        """Invoke one of the execution environments that are free, and queue what it returned."""
        app = apps.pop()
        result = app.lambda_handler(event, SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000))
        apps.append(app)  # the last one used is the first one used again, as in Lambda
        self.put([self._received[failure["itemIdentifier"]] for failure in result["batchItemFailures"]])
        return Invocation("", result)


class _Gateway(ThreadingHTTPServer):
    """Accepts each message after its time, and notes when it came."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Submission)
        self.reached: dict[str, float] = {}


class _Submission(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Gateway

    def do_POST(self) -> None:
        key = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["reference"]
        self.server.reached.setdefault(key, time.monotonic())
        time.sleep(ROUND_TRIP_SECONDS)
        body = json.dumps({"id": str(uuid4()), "status": "accepted"}).encode()
        self.send_response(202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base class
        """Not shown."""


@dataclass
class _Stack:
    """Both queues, their event sources and the gateway."""

    gateway: _Gateway
    ordinary: _Queue = field(default_factory=_Queue)
    urgent: _Queue = field(default_factory=_Queue)

    def run(self, *, urgent: bool) -> Run:
        """Queue the reminders, then one code after the other on each queue; return when all were at the gateway."""
        self.gateway.reached.clear()
        queued: dict[str, dict[str, float]] = {REMINDER: _queue(self.ordinary, REMINDERS)}
        for _ in range(CODES):
            time.sleep(_BETWEEN_CODES_SECONDS)
            if urgent:
                queued.setdefault(URGENT_CODE, {}).update(_queue(self.urgent, 1))
            queued.setdefault(ORDINARY_CODE, {}).update(_queue(self.ordinary, 1))
        keys = {key for each in queued.values() for key in each}
        until = time.monotonic() + _MOST_SECONDS
        while missing := keys - self.gateway.reached.keys():
            if time.monotonic() > until:
                raise NotMeasuredError(f"{len(missing)} of {len(keys)} messages have not reached the gateway")
            time.sleep(0.1)
        time.sleep(_END_SECONDS)
        return Run(queued, dict(self.gateway.reached))


def _queue(queue: _Queue, count: int) -> dict[str, float]:
    """Queue so many new messages, and return when, by their keys."""
    records = batch(count)["Records"]
    names = {"MessageId": "messageId", "ReceiptHandle": "receiptHandle", "Body": "body", "Attributes": "attributes"}
    queue.put([{name: record[ours] for name, ours in names.items()} | {"MD5OfBody": ""} for record in records])
    return dict.fromkeys((json.loads(record["body"])["message_id"] for record in records), time.monotonic())


@contextlib.contextmanager
def _stack(servers: Servers) -> Iterator[_Stack]:
    """Run it, with its execution environments warm."""
    with contextlib.ExitStack() as ended:
        gateway = ended.enter_context(_Gateway())
        threading.Thread(target=gateway.serve_forever, daemon=True).start()
        ended.callback(gateway.shutdown)
        ended.enter_context(aws_in_process())
        stack = _Stack(gateway)
        sources = _sources()
        apps = _environments(
            servers, f"http://127.0.0.1:{gateway.server_port}", sum(config.concurrency for config in sources)
        )
        for queue, config in zip((stack.ordinary, stack.urgent), sources, strict=True):
            source = EventSource(config, partial(queue.invoke, apps), queue)
            source.start()
            ended.callback(source.join)
            ended.callback(source.stop)
        yield stack


def _sources() -> list[EventSourceConfig]:
    """Return the template's event source mappings of the ordinary and of the urgent queue."""
    template = load_template(parameters=_PACE)
    arns = {each: {"Ref": each, "Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{each}"} for each in template.resources}
    mappings = [template.resources[f"SendMessageFunction{event}"] for event in ("OutboundMessages", "UrgentMessages")]
    return [EventSourceConfig.from_properties(template.resolve(each.properties, arns), "") for each in mappings]


def _environments(servers: Servers, gateway: str, count: int) -> list[ModuleType]:
    """Return execution environments, each of which has sent a message."""
    names = {"MAX_MESSAGES_PER_SECOND": "MaxMessagesPerSecond", "SENDER_CONCURRENCY": "SenderConcurrency"}
    names["MAX_URGENT_PER_SECOND"] = "MaxUrgentPerSecond"
    variables = {name: _PACE[parameter] for name, parameter in names.items()}
    first = load(servers, "SendMessageFunction", GATEWAY_BASE_URL=gateway, **variables)
    apps = [first, *(load_app(Path(first.lambda_handler.__code__.co_filename)) for _ in range(count - 1))]
    for app in apps:
        app.__dict__["publish"] = lambda *_: None  # all loads share the metrics, which are not made for many threads
        invoke(app, batch(1))
    return apps
