"""A real process is killed, or frozen and thawed too late, at each of eight points of a send.

The gateway counts the messages.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple, Self, cast

import pytest

from local.aws.resources import Attributes, Creator, create_resources, local_client
from local.aws.stack import listen, start_emulator
from local.simulator.server import GatewayConfig, GatewaySimulator
from local.template import REGION, Template
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import LedgerRecord, OptOutRecord, State
from optus_sms.records.ledger import Ledger
from optus_sms.records.opt_outs import OptOuts
from tests.functional.flows.kill_harness import (
    AFTER_CLAIM,
    BEFORE_CLAIM,
    BEFORE_WRITE,
    BETWEEN_DELIVERIES_SECONDS,
    CONNECTED,
    DELIVERIES,
    POINTS,
    REQUEST_SENT,
    RETURNED,
    STATUS_LINE_READ,
    WRITTEN,
    Invocation,
    deliver,
    stop_at,
)
from tests.support.aws import default_template
from tests.support.builders import message_body
from tests.support.waiting import eventually

RESOURCES: Final = (
    "SendLedgerTable",
    "MessagesTable",
    "OutboundQueue",
    "UrgentQueue",
    "OptOutTable",
    "DeadLetterQueue",
    "GatewaySecret",
)
AT_A_TIME: Final = 3
ANSWER_SECONDS: Final = 60.0


class Case(NamedTuple):
    """``original``: "killed", or "frozen" during the redelivery and thawed afterwards.

    ``meanwhile``: "opt-out" if the handset opts out before the redelivery, else "quiet".
    """

    point: str
    on_unknown: str
    original: str
    meanwhile: str

    @property
    def key(self) -> str:
        return "-".join(self).replace(" ", "_")


class End(NamedTuple):
    """The number of acceptances, and the ledger's state."""

    accepted: int
    state: State


@dataclass(frozen=True)
class Finding:
    """The result of a case."""

    end: End
    queued: int
    dead_letters: int
    has_row: bool


CASES: Final = [
    Case(*parts) for parts in itertools.product(POINTS, ("hold", "resend"), ("killed", "frozen"), ("quiet", "opt-out"))
]
ONCE, HELD = End(1, State.ACCEPTED), End(1, State.UNKNOWN)
TWICE, NEVER = End(2, State.ACCEPTED), End(0, State.UNKNOWN)
OPTED_OUT, OPTED_OUT_AFTER_ONE = End(0, State.REJECTED), End(1, State.REJECTED)

# By point: hold killed, hold frozen, resend killed, resend frozen.
QUIET: Final = {
    BEFORE_CLAIM: (ONCE, ONCE, ONCE, ONCE),
    AFTER_CLAIM: (NEVER, NEVER, ONCE, ONCE),  # after a crash it can't be proved that it was not sent
    CONNECTED: (NEVER, NEVER, ONCE, ONCE),  # the thawed process finds that it is too late to begin
    REQUEST_SENT: (HELD, HELD, TWICE, TWICE),
    STATUS_LINE_READ: (HELD, ONCE, TWICE, TWICE),  # the thawed process still has the proof
    BEFORE_WRITE: (HELD, ONCE, TWICE, TWICE),
    WRITTEN: (ONCE, ONCE, ONCE, ONCE),
    RETURNED: (ONCE, ONCE, ONCE, ONCE),
}
OPT_OUT: Final = QUIET | {
    BEFORE_CLAIM: (OPTED_OUT, OPTED_OUT, OPTED_OUT, OPTED_OUT),
    AFTER_CLAIM: (NEVER, NEVER, OPTED_OUT, OPTED_OUT),
    CONNECTED: (NEVER, NEVER, OPTED_OUT, OPTED_OUT),
    REQUEST_SENT: (HELD, HELD, OPTED_OUT_AFTER_ONE, OPTED_OUT_AFTER_ONE),
    STATUS_LINE_READ: (HELD, ONCE, OPTED_OUT_AFTER_ONE, ONCE),  # the thawed one still has the proof
    BEFORE_WRITE: (HELD, ONCE, OPTED_OUT_AFTER_ONE, ONCE),
}
EXPECTED: Final = {"quiet": QUIET, "opt-out": OPT_OUT}


class Bench:
    """AWS (the emulator), the gateway simulator, and a fork server for processes."""

    def __init__(self) -> None:
        self._exit = ExitStack()
        self._begun: dict[Case, Future[Finding]] = {}
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(["tests.functional.flows.kill_harness"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Python 3.11 does not hand it to the fork server
            forkserver.ensure_running()

    def __enter__(self) -> Self:
        self.endpoint_url = self._start_aws()
        self.gateway = self._exit.enter_context(GatewaySimulator(GatewayConfig(seed=1)))
        template = default_template()
        few = Template(
            {name: template.resources[name] for name in RESOURCES},
            {}, template.parameters, template.document, template._evaluator,
        )  # fmt: skip
        secret = {"application": self.gateway.config.application, "password": self.gateway.config.password}
        creator = Creator(self.endpoint_url, secret_values={"GatewaySecret": json.dumps(secret)})
        self._attributes: Attributes = create_resources(few, creator)
        variables = template.resources["SendMessageFunction"].properties["Environment"]["Variables"]
        self.environment: dict[str, str] = template.resolve(variables, self._attributes) | {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": REGION,
            "GATEWAY_BASE_URL": self.gateway.url,
            "POWERTOOLS_LOG_LEVEL": "CRITICAL",
        }
        self.sqs, self.dynamodb = (local_client(name, self.endpoint_url) for name in ("sqs", "dynamodb"))
        self._pool = self._exit.enter_context(ThreadPoolExecutor(AT_A_TIME))
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _start_aws(self) -> str:
        listener = listen("127.0.0.1", 0, "AWS")
        endpoint_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = start_emulator(listener, "127.0.0.1")
        self._exit.callback(process.wait)
        self._exit.callback(cast("Any", process.stdin).close)
        return endpoint_url

    def finding(self, case: Case) -> Finding:
        """Return the result of a case; the next ones run at the same time."""
        at = CASES.index(case)
        for ahead in CASES[at : at + AT_A_TIME]:
            if ahead not in self._begun:
                self._begun[ahead] = self._pool.submit(Run(self, ahead).run)
        return self._begun[case].result()

    def ref(self, logical_id: str) -> str:
        """Return the resource's name or URL."""
        return self._attributes[logical_id]["Ref"]

    def record(self, key: str) -> LedgerRecord | None:
        """Return the ledger's record."""
        return Ledger.connect(self.dynamodb, self.ref("SendLedgerTable")).read(key)

    def opt_out(self, handset: str) -> None:
        """Store that the handset has opted out."""
        record = OptOutRecord(handset, True, format_rfc3339(time.time()), "person", operator="operator-1")
        OptOuts.connect(self.dynamodb, self.ref("OptOutTable")).decide(record)

    def rows(self) -> list[dict[str, Any]]:
        """Return the items of MessagesTable."""
        rows: list[dict[str, Any]] = self.dynamodb.scan(TableName=self.ref("MessagesTable"))["Items"]
        return rows


class Run:
    """The run of a case."""

    def __init__(self, bench: Bench, case: Case) -> None:
        self._bench = bench
        self._case = case
        self._shift: Any = bench.processes.Value("d", 0.0)
        sqs = bench.sqs
        self._queue, self._dead_letter_queue = (
            sqs.create_queue(QueueName=case.key + end, Attributes={"VisibilityTimeout": "600"})["QueueUrl"]
            for end in ("", "-dead")
        )
        self._handset = f"+614915{CASES.index(case):05}"
        self._body = message_body(message_id=case.key, on_unknown=case.on_unknown, destination=self._handset)
        sqs.send_message(QueueUrl=self._queue, MessageBody=self._body)
        message = sqs.receive_message(QueueUrl=self._queue)["Messages"][0]
        self._receipt = message["ReceiptHandle"]
        record = {"messageId": message["MessageId"], "receiptHandle": self._receipt, "body": self._body}
        queues = {"OUTBOUND_QUEUE_URL": self._queue, "DEAD_LETTER_QUEUE_URL": self._dead_letter_queue}
        self._invocation = Invocation({"Records": [record]}, bench.environment | queues)

    def run(self) -> Finding:
        """Run the original up to its point, then the redelivery, then the rest of the original."""
        point, _, fate, _ = self._case
        original, ear = self._start(stop_at, point, self._shift)
        assert self._hear(ear) == "stopped"
        if POINTS.index(point) >= POINTS.index(REQUEST_SENT):
            eventually(self._taken, "the gateway takes what was sent")
        if fate == "killed":
            ear.send("die")
            original.join()
            self._redeliver()
        else:
            os.kill(cast("int", original.pid), signal.SIGSTOP)
            try:
                self._redeliver()
            finally:
                os.kill(cast("int", original.pid), signal.SIGCONT)
            ear.send("go on")
            if self._hear(ear):
                self._delete()
            original.join()
        record = self._bench.record(self._case.key)
        assert record is not None
        return Finding(
            End(len(self._taken()), record.state),
            self._messages(self._queue),
            self._messages(self._dead_letter_queue),
            any(row.get("message_id") == {"S": self._case.key} for row in self._bench.rows()),
        )

    def _redeliver(self) -> None:
        """Redeliver in a separate process until the message is acknowledged; the first time during the lease."""
        if self._case.meanwhile == "opt-out":
            self._bench.opt_out(self._handset)
        process, ear = self._start(deliver, self._shift)
        for _ in range(DELIVERIES):
            ear.send("deliver")
            if self._hear(ear):
                self._delete()
                break
            self._shift.value += BETWEEN_DELIVERIES_SECONDS
        ear.send("enough")
        process.join()

    def _delete(self) -> None:
        """Delete a message as Lambda does if it is not a failure; it can be deleted already."""
        entry = {"Id": "0", "ReceiptHandle": self._receipt}
        self._bench.sqs.delete_message_batch(QueueUrl=self._queue, Entries=[entry])

    def _messages(self, queue: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = self._bench.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return sum(int(counts[name]) for name in names)

    def _start(self, target: Callable[..., None], *args: object) -> tuple[Any, Connection]:
        ours, theirs = self._bench.processes.Pipe()
        process = self._bench.processes.Process(target=target, args=(self._invocation, *args, theirs), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def _hear(self, ear: Connection) -> Any:
        assert ear.poll(ANSWER_SECONDS), "the process says nothing"
        return ear.recv()

    def _taken(self) -> list[dict[str, Any]]:
        return self._bench.gateway.taken(reference=self._case.key)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)
def test_killed_sender(case: Case, bench: Bench) -> None:
    finding = bench.finding(case)
    expected = EXPECTED[case.meanwhile][case.point][(case.on_unknown == "resend") * 2 + (case.original == "frozen")]
    assert finding.end == expected
    assert finding.end.accepted <= (1 if case.on_unknown == "hold" else 2)
    assert finding.queued == 0
    if finding.end.state is State.UNKNOWN:
        assert finding.dead_letters >= 1
    elif finding.end.state is State.REJECTED:
        assert finding.dead_letters == 0  # an opt-out
    else:
        assert finding.has_row or case.point == STATUS_LINE_READ  # without an id, a callback brings the row
