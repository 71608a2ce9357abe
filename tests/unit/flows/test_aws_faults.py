"""Every AWS call of sender, receiver and reconciler fails in every way in which AWS's calls can; the end is the same.

A whole life of one message is played once without a fault and then with each fault at each call: the call is not done
and fails; it is done and its response is lost; the SDK repeats it after a lost response; the first or the second of
these until the invocation ends. At the end the records are the same as without a fault. A dead letter is made only if
bytes of the message may have left.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import pytest

from optus_sms.flows.breaker import Breaker
from optus_sms.flows.opt_out_check import at_once
from optus_sms.flows.probing import Probing
from optus_sms.flows.receive_callback import CallbackRequest, Receiver
from optus_sms.flows.reconcile_messages import Reconciler
from optus_sms.flows.send_message import Sender
from optus_sms.gateway.credentials import GatewayCredentials
from optus_sms.gateway.transport import Exchange
from optus_sms.model.errors import CredentialsError
from optus_sms.model.lanes import Lane
from optus_sms.records.health import HealthRecords
from optus_sms.records.items import MESSAGE_PREFIX, LedgerRecord
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from optus_sms.records.opt_outs import OptOuts
from optus_sms.records.table import Item
from tests.support.bench import FaultError
from tests.support.builders import basic, message_body, queue_record, rejected, send_failed, sent, unknown, unreachable
from tests.support.fakes import (
    FakeClock,
    FixedCallbackSecret,
    FixedSecret,
    RecordingQueues,
    ScriptedGateway,
    unpaced,
)
from tests.support.health import NO_MESSAGE, answer
from tests.support.memory_table import MemoryTable

T = TypeVar("T")
Way = Literal["not done", "response lost", "repeated", "not done, lasting", "response lost, lasting"]
WAYS: Final[tuple[Way, ...]] = ("not done", "response lost", "repeated", "not done, lasting", "response lost, lasting")
VISIBILITY_SECONDS: Final = 360
LIVES: Final[Mapping[str, list[Any]]] = {
    "accepted": [],
    "accepted without an ID": [sent(None)],
    "never connected at first": [unreachable()],
    "not queued at first": [send_failed()],
    "rejected": [rejected()],
    "response lost, sent": [unknown(accepted=True)],
    "response lost, not sent": [unknown()],
}


@dataclass
class Faults:
    """Lets the call with this number fail; if the fault lasts, also all calls of its kind until the invocation ends."""

    at: int = -1
    way: Way = "not done"
    calls: list[str] = field(default_factory=list)
    _failing: str = ""

    def call(self, kind: str, operation: Callable[[], T]) -> T:
        self.calls.append(kind)
        if len(self.calls) - 1 == self.at and "lasting" in self.way:
            self._failing = kind
        if self._failing != kind and len(self.calls) - 1 != self.at:
            return operation()
        if self.way.startswith("not done"):
            raise FaultError
        result = operation()
        if self.way.startswith("response lost"):
            raise FaultError
        return operation() if self.way == "repeated" else result

    def invocation_ends(self) -> None:
        self._failing = ""


class FaultyTable(MemoryTable):
    def __init__(self, faults: Faults, *, key: str) -> None:
        super().__init__(key=key)
        self.faults = faults

    def get(self, key: str) -> Item:
        return self.faults.call(f"get by {self.key}", lambda: MemoryTable.get(self, key))

    def update(self, key: str, *args: Any, **more: Any) -> Any:
        return self.faults.call(f"update by {self.key}", lambda: MemoryTable.update(self, key, *args, **more))

    def query(self, *args: Any, **more: Any) -> Iterator[Item]:
        found = list(MemoryTable.query(self, *args, **more))
        # Reads of empty partitions (a hundred in each run) are left out.
        return iter(self.faults.call(f"query by {self.key}", lambda: found) if found else ())

    def count(self, *_: Any, **__: Any) -> int:
        return 0


class FaultyQueues(RecordingQueues):
    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.faults = faults

    def give_back(self, receipt_handle: str, *, seconds: int, lane: Lane) -> None:
        self.faults.call(
            "give back", lambda: RecordingQueues.give_back(self, receipt_handle, seconds=seconds, lane=lane)
        )

    def dead_letter(self, letter: Any, *, now: float) -> None:
        self.faults.call("dead letter", lambda: RecordingQueues.dead_letter(self, letter, now=now))


class FaultySecret(FixedSecret):
    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.faults = faults

    def current(self) -> GatewayCredentials:
        return self.faults.call("secret", lambda: FixedSecret.current(self))


class FaultyCallbackSecret(FixedCallbackSecret):
    def __init__(self, faults: Faults) -> None:
        super().__init__(basic())
        self.faults = faults

    def admits(self, authorization: str) -> bool:
        try:
            return self.faults.call("secret", lambda: FixedCallbackSecret.admits(self, authorization))
        except FaultError as error:
            raise CredentialsError("not read") from error


class Gateway(ScriptedGateway):
    """Records whether bytes of a message may have left. Look-ups find no message."""

    bytes_left = False

    def post_message(self, *args: Any, **more: Any) -> Any:
        result = super().post_message(*args, **more)
        self.bytes_left |= result.reason not in ("connection_refused", "not_allowed")
        return result

    def get_message(self, gateway_id: str, credentials: GatewayCredentials) -> Exchange:
        return answer(404, NO_MESSAGE)


class Life:
    """One message from the queue to its end, with a callback for each SMS, and the runs of the reconciler."""

    def __init__(self, script: list[Any], faults: Faults, reference: str | None) -> None:
        self.faults = faults
        self.reference = reference
        self.time = FakeClock()
        self.ledger_table, self.messages_table = FaultyTable(faults, key="pk"), FaultyTable(faults, key="id")
        self.queues = FaultyQueues(faults)
        self.gateway = Gateway(script)
        owners = itertools.count()
        ledger, messages = Ledger(self.ledger_table), Messages(self.messages_table, retention_days=90)
        opt_outs = OptOuts(FaultyTable(faults, key="handset"))
        self.sender = Sender(
            ledger=ledger,
            messages=messages,
            opt_outs=opt_outs,
            beside=at_once,
            queues=self.queues,
            gateway=self.gateway,
            secret=FaultySecret(faults),
            pacers=unpaced(self.time.clock),
            probing=Probing(Breaker(self.time.monotonic), HealthRecords(self.ledger_table), self.time.clock),
            clock=self.time.clock,
            random=random.Random(1),
            new_owner=lambda: f"owner-{next(owners)}",
        )
        self.receiver = Receiver(ledger, messages, opt_outs, self.queues, FaultyCallbackSecret(faults), self.time.clock)
        self.reconciler = Reconciler(ledger, messages, self.gateway, FaultySecret(faults), self.time.clock)

    def live(self) -> dict[str, Any]:
        self.deliver()
        self.call_back()
        for days in (0.02, 1, 9, 12):
            self.time.advance(days * 86_400)
            self.reconciler.run(deadline=self.time.now() + 120)
            self.faults.invocation_ends()
        return self.end()

    def deliver(self) -> None:
        """SQS delivers the message until it is acknowledged."""
        body = message_body(message_id="m", reference=self.reference)
        for count in range(1, 30):
            given_back, kept = len(self.queues.given_back), len(self.queues.dead_letters)
            result = self.sender.send_batch(
                [queue_record(body, receive_count=count, sent_at=self.time.now())], deadline=self.time.now() + 60
            )
            self.faults.invocation_ends()
            assert self.gateway.bytes_left or len(self.queues.dead_letters) == kept, "a dead letter without a reason"
            if not result.failures:
                return
            is_given_back = len(self.queues.given_back) > given_back
            self.time.advance(self.queues.given_back[-1].seconds if is_given_back else VISIBILITY_SECONDS)
        raise AssertionError("it is delivered for ever")

    def call_back(self) -> None:
        """The gateway reports each SMS until the callback is stored."""
        for number, post in enumerate(self.gateway.posts, start=1):
            if not self.gateway.accepted[str(post.fields["reference"])]:
                continue
            fields = {"id": f"gw-{number}", "status": "received", "reference": post.fields["reference"]}
            for _ in range(50):
                request = CallbackRequest("POST", "/callbacks/status", basic(), json.dumps(fields).encode())
                response = self.receiver.receive(request)
                self.faults.invocation_ends()
                if response.status == 200:
                    break
                self.time.advance(60)
            else:
                raise AssertionError("it is never stored")

    def end(self) -> dict[str, Any]:
        """Return the result for operators and senders."""
        record = LedgerRecord.from_item(self.ledger_table.items[MESSAGE_PREFIX + "m"])
        rows = self.messages_table.items.values()
        names = ("message_id", "status", "destination", "handset", "segments", "direction")
        return {
            "state": record.state,
            "unknown_outcomes": record.unknown_outcomes,
            "gateway_id": record.gateway_id,
            "kept of the handset": record.destination,
            "waits": record.undecided,
            "sms": dict(self.gateway.accepted),
            "dead letters": {letter.reason for letter in self.queues.dead_letters},
            "rows": [{name: row.get(name) for name in names} for row in rows],
        }


@pytest.mark.parametrize("reference", [None, "order-1"])
@pytest.mark.parametrize("life", LIVES)
def test_each_fault_at_each_call_changes_nothing_in_the_end(life: str, reference: str | None) -> None:
    undisturbed = Life(LIVES[life], Faults(), reference)
    expected = undisturbed.live()
    wrong = []
    for at, way in itertools.product(range(len(undisturbed.faults.calls)), WAYS):
        disturbed = Life(LIVES[life], Faults(at, way), reference)
        try:
            end = disturbed.live()
        except AssertionError as error:
            end = {"error": str(error)}
        different = {name: (expected.get(name), value) for name, value in end.items() if expected.get(name) != value}
        if different:
            wrong.append((at, undisturbed.faults.calls[at], way, different))
    assert wrong == []
