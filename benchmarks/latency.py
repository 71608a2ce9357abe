"""How long one message takes from the queue to the gateway on `make run`, beside a loop that receives and posts.

Each message goes alone, and both ways share the queue server, the gateway simulator and this process. The gateway calls
nothing back, so that nothing else runs meanwhile. Most of the time is the emulator's queue, which looks for messages at
intervals; so the time after the receipt is shown as well.
"""

import contextlib
import itertools
import json
import random
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final
from uuid import uuid4

import requests

from benchmarks.charts import chart
from benchmarks.side_by_side import Arm, Figure, measure, percentile, progress
from local.aws.event_source import LONG_POLL_SECONDS
from local.aws.stack import LocalStack
from local.simulator.server import GatewaySimulator
from tools.charts import Bars

_STACK, _LOOP = "through the stack", "receive, post, delete"
_SETTLE_SECONDS: Final = 0.05  # so that what follows the POST does not delay the next message
_LOOKS_EVERY_SECONDS: Final = 0.1  # the emulator's queue; a random part of it, so that both ways meet all its phases
_LOOK_SECONDS: Final = 0.0005
_LOST_SECONDS: Final = 30
_SECONDS: Final = 100.0
_NAMES: Final = {50: "median", 95: "95th percentile"}
_LIMITS: Final = {50: 1.5, 95: 2.0}
"""Of the loop's, by percent."""


def latency(*, passes: int) -> Iterator[Figure | Bars]:
    """Measure single messages, each way in turn; the first of each only warms up."""
    progress("single messages through the local stack")
    received = [0.0]
    after_receipt: dict[str, list[float]] = {_STACK: [], _LOOP: []}
    with LocalStack() as stack, _looping(stack, received) as queue_url:
        stack.on_taken = lambda _records: received.append(time.perf_counter())
        sqs, simulator = stack.client("sqs"), _simulator(stack)
        urls = {_STACK: stack.outputs["OutboundQueueUrl"], _LOOP: queue_url}

        def send(name: str) -> None:
            _send(sqs, urls[name], simulator)
            after_receipt[name].append(time.perf_counter() - received[-1])

        arms = [Arm(name, partial(send, name), _settle) for name in urls]
        seconds = measure(arms, passes=passes, timer=time.perf_counter, at_most=_SECONDS)
    for percent, limit in _LIMITS.items():
        ours, others = (percentile(seconds[name], percent) for name in urls)
        yield Figure(f"latency of one message, {_NAMES[percent]}", ours / others, limit, _note(ours, others))
    for percent in _LIMITS:
        ours, others = (percentile(after_receipt[name][1:], percent) for name in urls)
        yield Figure(f"of that after its receipt, {_NAMES[percent]}", ours / others, None, _note(ours, others))
    yield chart("One message from the queue to the gateway, by make run", "ms", seconds, _LOOP)


def _settle() -> None:
    time.sleep(_SETTLE_SECONDS + random.uniform(0, _LOOKS_EVERY_SECONDS))


def _note(ours: float, others: float) -> str:
    return f"of a bare loop's; {ours * 1000:.0f} ms against {others * 1000:.0f}"


def _simulator(stack: LocalStack) -> GatewaySimulator:
    assert stack.simulator is not None
    return stack.simulator


def _send(sqs: Any, queue_url: str, simulator: GatewaySimulator) -> None:
    """Queue a message, and wait until its POST arrives."""
    before = len(simulator.arrivals())
    fields = {"destination": "+61491570006", "content": "Your code is 246810", "message_id": uuid4().hex}
    sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps(fields))
    for look in itertools.count():
        if len(simulator.arrivals()) > before:
            return
        assert look * _LOOK_SECONDS < _LOST_SECONDS, "a message did not arrive"
        time.sleep(_LOOK_SECONDS)


@contextlib.contextmanager
def _looping(stack: LocalStack, received: list[float]) -> Iterator[str]:
    """Run the loop on a queue of its own, whose URL this returns, until the end."""
    simulator, sqs = _simulator(stack), stack.client("sqs")
    simulator.set_callback_urls(None, None)
    queue_url: str = sqs.create_queue(QueueName="loop")["QueueUrl"]
    stopping = threading.Event()
    loop = threading.Thread(target=_loop, args=(sqs, queue_url, simulator, stopping, received))
    loop.start()
    try:
        yield queue_url
    finally:
        stopping.set()
        loop.join()


def _loop(
    sqs: Any, queue_url: str, simulator: GatewaySimulator, stopping: threading.Event, received: list[float]
) -> None:
    """Send as a first script does: no claim, no outcome, no retry."""
    session = requests.Session()
    session.auth = (simulator.config.application, simulator.config.password)
    while not stopping.is_set():
        messages = sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=LONG_POLL_SECONDS).get("Messages", [])
        for message in messages:
            received.append(time.perf_counter())
            fields = json.loads(message["Body"])
            payload = {"destination": fields["destination"], "content": fields["content"]}
            session.post(f"{simulator.url}/messages", json=payload, timeout=10).raise_for_status()
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
