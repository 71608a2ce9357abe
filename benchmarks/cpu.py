"""CPU time of a message and of a status callback, compared with their bare requests, and their AWS calls."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import requests
from botocore.session import Session

from benchmarks.charts import chart
from benchmarks.handlers import aws_requests, batch, invoke, load
from benchmarks.servers import GATEWAY_SECRET, Servers, example
from benchmarks.side_by_side import Arm, Figure, measure, progress, ratio
from optus_sms.aws import clients
from tools.charts import Bars

_SENDER, _FLOOR = "SendMessageFunction", "a POST, 3 writes and a read"
_RECEIVER, _WRITE = "ReceiveCallbackFunction", "the bare table write"
_CALLBACKS: Final = 50


def _client() -> Any:
    """Return a client with the functions' settings, which sends by botocore's own HTTP client."""
    return Session().create_client("dynamodb", config=clients._CONFIG)


def messages(servers: Servers, *, passes: int) -> Iterator[Figure | Bars]:
    """Measure a message in a batch of ten; then count the AWS calls of such a batch."""
    progress("CPU of a message")
    app = load(servers, "SendMessageFunction", GATEWAY_BASE_URL=f"{servers.plain}/0")
    invoke(app, batch(1))  # the first one also reads the health record, which is not a message's cost
    calls = [call for call in aws_requests(app, batch(1)) if call[0] in ("UpdateItem", "GetItem")]
    client, session = _client(), requests.Session()
    session.auth = (GATEWAY_SECRET["application"], GATEWAY_SECRET["password"])
    payload = {"destination": "+61491570006", "content": "Hello"}

    def floor() -> None:
        for _ in range(10):
            session.post(f"{servers.plain}/0/messages", json=payload, timeout=10)
            for operation, arguments in calls:
                (client.get_item if operation == "GetItem" else client.update_item)(**arguments)

    arms = [Arm(_FLOOR, floor, units=10), Arm(_SENDER, lambda: invoke(app, batch(10)), units=10)]
    seconds = measure(arms, passes=passes, timer=time.process_time)
    yield Figure("CPU of a message", ratio(seconds, _SENDER, _FLOOR), 1.1, "of one POST, three table writes and a read")
    yield chart("CPU of a message", "µs", seconds, _FLOOR)
    counts = Counter(operation for operation, _ in aws_requests(app, batch(10)))
    yield Figure("table writes of a message", counts.pop("UpdateItem") / 10, 3)
    yield Figure("table reads of a message", counts.pop("GetItem", 0) / 10, 1)
    yield Figure("secret reads of a warm batch", counts.pop("GetSecretValue", 0), 0)
    yield Figure("other AWS calls of a message", counts.total() / 10, 0)


def callbacks(servers: Servers, *, passes: int) -> Iterator[Figure | Bars]:
    """Measure a status callback, its log line and metrics included; then count its AWS calls."""
    progress("CPU of a status callback")
    app, event = load(servers, "ReceiveCallbackFunction"), example("api/status_sent.json")
    (write,) = [arguments for operation, arguments in aws_requests(app, event) if operation == "UpdateItem"]
    client = _client()

    def receive() -> None:
        for _ in range(_CALLBACKS):
            invoke(app, event)

    def write_only() -> None:
        for _ in range(_CALLBACKS):
            client.update_item(**write)

    arms = [Arm(_RECEIVER, receive, units=_CALLBACKS), Arm(_WRITE, write_only, units=_CALLBACKS)]
    seconds = measure(arms, passes=passes, timer=time.process_time)
    yield Figure("CPU of a status callback", ratio(seconds, _RECEIVER, _WRITE), 1.25, "of the bare table write")
    yield chart("CPU of a status callback", "µs", seconds, _WRITE)
    calls = Counter(operation for operation, _ in aws_requests(app, event))
    yield Figure("table writes of a status callback", calls.pop("UpdateItem"), 1)
    yield Figure("other AWS calls of a status callback", calls.total(), 0)
