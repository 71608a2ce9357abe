"""The real sender and receiver in a world where a seed decides who goes next and what goes wrong.

Every call to a table, a queue or the gateway is a step: before and after it anybody else may go on, time may pass
(beyond leases too), the process may crash, the write may fail, be repeated by the SDK, arrive late, or be done with its
answer lost. Messages are delivered again, twice at a time, redriven from the dead letters, and callbacks come in any
order. First there is a time of chaos, then nothing fails any more, and then the promises are checked.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, cast

from optus_sms.aws.queues import DeadLetter, Queues
from optus_sms.flows import refused_claim
from optus_sms.flows.breaker import Breaker
from optus_sms.flows.pacing import Pacer
from optus_sms.flows.probing import Probing
from optus_sms.flows.receive_callback import CallbackRequest, Receiver
from optus_sms.flows.send_message import QueueRecord, Sender
from optus_sms.gateway.api import Gateway, Outcome, PostResult, Stop
from optus_sms.gateway.credentials import GatewayCredentials
from optus_sms.model.statuses import STATUS_RANK
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.ledger import KEEP_SECONDS, Ledger
from optus_sms.records.messages import Messages
from optus_sms.records.table import Item
from tests.deep.baton import Actor, Baton, CrashError
from tests.support.builders import HANDSET
from tests.support.fakes import FakeClock, FixedCallbackSecret, FixedSecret
from tests.support.health import MemoryHealthRecords

KEY: Final = "message-1"
SHARED_REFERENCE: Final = "costs-42"
FOREIGN_ID: Final = "gw-foreign"
FUNCTION_SECONDS: Final = 60
WRITE_MARGIN_SECONDS: Final = 3  # before its deadline an invocation stops trying to write
VISIBILITY_SECONDS: Final = 120
POST_SECONDS: Final = 10.0
MAX_ATTEMPTS: Final = 4
STATUSES: Final = ("queued", "sent", "submitted", "received")
AUTHORIZATION: Final = "Basic " + base64.b64encode(b"gateway:example").decode()


class BrokenPromiseError(BaseException):
    """What must never happen has happened. No `except Exception` of the code may hide it."""


class StoreFailedError(BaseException):
    """A table failed by itself: a mistake in the test, which must not pass for a promise broken by the code."""


class Stores(Protocol):
    """The two tables, empty, and a look into them."""

    ledger: Ledger
    messages: Messages

    def record(self, key: str) -> LedgerRecord | None:
        """The ledger's record."""

    def row(self, gateway_id: str) -> Item | None:
        """The message row."""


@dataclass(frozen=True)
class Scenario:
    """What a seed makes of the world. ``crowded``: messages are often delivered while somebody has them.

    ``shared`` is the reference with another message of ours, ``foreign`` with one of another system, unseen by us.
    """

    on_unknown: str
    faults: int
    callbacks: bool
    reference: str | None
    shared: bool
    expires_in: int | None
    twin: bool
    crowded: bool
    redrives: int
    foreign: bool

    @classmethod
    def of(cls, rng: random.Random) -> Scenario:
        """One of many."""
        reference = rng.choice((None, None, "order-1", SHARED_REFERENCE))
        return cls(
            on_unknown=rng.choice(("hold", "resend")),
            faults=rng.choice((0, 1, 1, 2, 2, 3, 4)),
            callbacks=rng.random() < 0.7,
            reference=reference,
            shared=reference == SHARED_REFERENCE,
            expires_in=rng.choice((None, None, None, None, None, 30, 300, 1200)),
            twin=rng.random() < 0.2,
            crowded=rng.random() < 0.3,
            redrives=rng.choice((0, 1, 1, 2)),
            foreign=reference is None and rng.random() < 0.3,
        )


@dataclass
class Queued:
    """A message on the outbound queue."""

    name: str
    body: str
    visible_at: float
    receives: int = 0
    receipt: str = ""


@dataclass
class Acceptance:
    """A message that the gateway took; ``told``: statuses whose callbacks were answered 200."""

    gateway_id: str
    told: set[str] = field(default_factory=set)


class World:
    """Everything around the code, and the choices of one seed."""

    def __init__(self, seed: int, stores: Stores) -> None:
        self.rng = random.Random(seed)
        self.scenario = Scenario.of(self.rng)
        self.stores = stores
        self.health = MemoryHealthRecords()
        self.baton = Baton()
        self.time = FakeClock()
        self.calm = False
        self.faults = self.scenario.faults
        self.redrives = self.scenario.redrives
        self.excused = False  # UNKNOWN has a cause
        self.queue: dict[str, Queued] = {}
        self.dead_letters: list[DeadLetter] = []
        self.acceptances: list[Acceptance] = []
        self.posting: dict[object, float] = {}  # exchanges that are not over, and when they will be
        self.late_writes: list[Callable[[], object]] = []
        self.deaf: dict[object, bool] = {}  # actors none of whose writes succeeds; True: done, but without an answer
        self.names = 0
        self.story: list[str] = []
        self.known_id: str | None = None
        self.written = True
        self.last_record: LedgerRecord | None = None
        self.sandboxes: list[Sender | None] = [None, None, None]
        self.heard: set[Actor] = set()  # who read the gateway's yes
        self.paces: dict[Actor, float] = {}
        self.busy: dict[int, float] = {}  # sandboxes at work, and when Lambda should end them
        self.ports = Ports(self)
        self.expires_at = None if self.scenario.expires_in is None else self.now + self.scenario.expires_in

    @property
    def now(self) -> float:
        return self.time.now()

    def new_name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}-{self.names}"

    def tell(self, what: str) -> None:
        self.story.append(f"{self.now - self.time.epoch:7.1f} {what}")

    def record(self) -> LedgerRecord | None:
        """The ledger's record, read again only after a write."""
        if self.written:
            self.last_record, self.written = self.stores.record(KEY), False
        return self.last_record

    # One schedule

    def run(self) -> None:
        """Chaos, then calm, then the check of what is promised; `BrokenPromiseError` if it does not hold."""
        try:
            self._begin()
            for _ in range(self.rng.randrange(30, 120)):
                self._do_something()
                self.check_always()
            self._calm_down()
            self._check_end()
        finally:
            self.baton.end_all()

    def _begin(self) -> None:
        fields: dict[str, Any] = {"destination": HANDSET, "content": "A parcel.", "message_id": KEY}
        if self.scenario.reference:
            fields["reference"] = self.scenario.reference
        if self.scenario.shared:
            ttl = int(self.now) + KEEP_SECONDS
            self.stores.ledger.register_reference(SHARED_REFERENCE, "message-of-others", ttl=ttl)
        if self.expires_at is not None:
            fields["expires_at"] = format_rfc3339(self.expires_at)
        for _ in range(2 if self.scenario.twin else 1):
            self.enqueue(json.dumps(fields))

    def enqueue(self, body: str) -> None:
        name = self.new_name("sqs")
        self.queue[name] = Queued(name, body, self.now)

    def _do_something(self) -> None:
        choices: list[tuple[float, Callable[[], None]]] = [(1.0, self._let_time_pass)]
        choices += [(self._pace(actor), partial(self.baton.go_on, actor)) for actor in self.baton.actors]
        if len(self.busy) < len(self.sandboxes):
            for message in self.queue.values():
                visible = self.scenario.crowded or message.visible_at <= self.now
                choices.append((3.0 if visible else 0.3, partial(self._deliver, message)))
        if self.dead_letters and self.redrives:
            choices.append((0.5, self._redrive))
        if self.late_writes:
            choices.append((1.0, self._late_write))
        if self.scenario.callbacks and (self.acceptances or self.scenario.shared or self.scenario.foreign):
            choices.append((1.5, self._callback))
        weights = [weight for weight, _ in choices]
        self.rng.choices([action for _, action in choices], weights)[0]()

    def _pace(self, actor: Actor) -> float:
        """Some are slow all their life, so that others overtake them."""
        return self.paces.setdefault(actor, self.rng.choice((0.05, 1.0, 4.0, 12.0)))

    def _let_time_pass(self) -> None:
        record = self.record()
        turns = [message.visible_at for message in self.queue.values()]
        turns += [record.lease_until, record.unknown_at + refused_claim.RESEND_AFTER_SECONDS] if record else []
        seconds = self.rng.choice([0.5, 15.0, 95.0] + [turn - self.now for turn in turns if turn > self.now])
        self.tell(f"{seconds} seconds pass")
        self.time.advance(seconds)
        if any(self.now >= deadline - WRITE_MARGIN_SECONDS for deadline in self.busy.values()):
            self.excused = True  # somebody stalls for so long that it cannot write its outcome any more

    def _deliver(self, message: Queued) -> None:
        sandbox = next(i for i in range(len(self.sandboxes)) if i not in self.busy)
        message.receives += 1
        message.receipt = self.new_name("receipt")
        message.visible_at = self.now + VISIBILITY_SECONDS
        record = QueueRecord(message.name, message.receipt, message.body, {}, message.receives, self.now)
        self.busy[sandbox] = deadline = self.now + FUNCTION_SECONDS
        self.tell(f"{message.name} is delivered to sandbox {sandbox}")
        self.baton.start(f"sandbox-{sandbox}", lambda: self._invoke(sandbox, message, record, deadline))

    def _invoke(self, sandbox: int, message: Queued, record: QueueRecord, deadline: float) -> None:
        """One invocation, and then what Lambda does with its answer."""
        try:
            sender = self.sandboxes[sandbox] or self._new_sender()
            self.sandboxes[sandbox] = None  # a crash loses it
            result = sender.send_batch([record], deadline=deadline)
            self.sandboxes[sandbox] = sender
            self._check_heard(acknowledged=not result.failures)
            self.ports.moment("delete", "before")
            if not result.failures:
                self.tell(f"{message.name} is deleted")
                self.queue.pop(message.name, None)
        finally:
            del self.busy[sandbox]

    def _new_sender(self) -> Sender:
        clock = self.time.clock
        return Sender(
            ledger=cast("Ledger", Port(self.stores.ledger, "ledger", self.ports)),
            messages=cast("Messages", Port(self.stores.messages, "messages", self.ports)),
            queues=cast("Any", Port(OutboundQueues(self), "queues", self.ports)),
            gateway=CountingGateway(self),
            secret=FixedSecret(),
            pacer=Pacer(0.0, clock.monotonic, clock.sleep),
            probing=Probing(Breaker(clock.monotonic), self.health, clock),
            clock=clock,
            on_unknown=cast("Any", self.scenario.on_unknown),
            max_attempts=MAX_ATTEMPTS,
            random=random.Random(self.rng.random()),
            new_owner=lambda: self.new_name("owner"),
        )

    def _redrive(self) -> None:
        letter = self.dead_letters.pop(self.rng.randrange(len(self.dead_letters)))
        self.redrives -= 1
        self.tell("a dead letter is redriven")
        self.enqueue(str(letter.body))

    def _late_write(self) -> None:
        self.tell("a write that was on its way arrives")
        self.excused = self.written = True
        self.late_writes.pop()()

    def _callback(self) -> None:
        others = self.scenario.shared or self.scenario.foreign
        if others and (not self.acceptances or self.rng.random() < 0.3):
            self._post_callback(None, "received")
        else:
            self._post_callback(self.rng.choice(self.acceptances), self.rng.choice(STATUSES))

    def _post_callback(self, acceptance: Acceptance | None, status: str) -> None:
        gateway_id = acceptance.gateway_id if acceptance else FOREIGN_ID
        fields = {"message_id": gateway_id, "status": status, "reference": self.scenario.reference or KEY}
        self.tell(f"callback: {gateway_id} is {status}")
        receiver = Receiver(
            ledger=cast("Ledger", Port(self.stores.ledger, "ledger", self.ports)),
            messages=cast("Messages", Port(self.stores.messages, "messages", self.ports)),
            queues=cast("Any", OutboundQueues(self)),
            secret=FixedCallbackSecret(AUTHORIZATION),
            clock=self.time.clock,
        )
        request = CallbackRequest("POST", "/callbacks/status", AUTHORIZATION, json.dumps(fields).encode())

        def receive() -> None:
            if receiver.receive(request).status == 200 and acceptance is not None:
                acceptance.told.add(status)

        self.baton.start(f"callback of {gateway_id}", receive)

    def _calm_down(self) -> None:
        """Nothing fails any more, and whatever is begun or queued comes to its end."""
        self.tell("calm")
        self.calm = True
        self.deaf.clear()
        for _ in range(60):
            while self.baton.actors:
                self.baton.go_on(self.rng.choice(self.baton.actors))
                self.check_always()
            while self.late_writes:
                self._late_write()
            if not self.queue:
                return
            message = min(self.queue.values(), key=lambda message: message.visible_at)
            self.time.advance(max(0.0, message.visible_at - self.now))
            self._deliver(message)
        raise BrokenPromiseError("it never ends")

    # What is promised

    def check_always(self) -> None:
        """After every step."""
        allowed = 1 if self.scenario.on_unknown == "hold" else 2
        if len(self.acceptances) > allowed:
            raise BrokenPromiseError("accepted more often than allowed")
        if self.baton.actors and self.calm:
            return  # the tables are read between the steps of chaos and at the end
        record = self.record()
        self._check_record(record)
        lost = not self.queue and not self.dead_letters
        if lost and (record is None or record.state not in (State.ACCEPTED, State.EXPIRED)):
            raise BrokenPromiseError(f"in no queue, and the ledger says {record and record.state}")

    def _check_record(self, record: LedgerRecord | None) -> None:
        if record is None:
            return
        if self.known_id not in (None, FOREIGN_ID, record.gateway_id):
            raise BrokenPromiseError("the gateway's id has changed")
        self.known_id = record.gateway_id
        ours = {acceptance.gateway_id for acceptance in self.acceptances}
        taken_for_ours = self.scenario.foreign and record.gateway_id == FOREIGN_ID
        is_proved = taken_for_ours or (ours and record.gateway_id in ours | {None})
        if record.state is State.ACCEPTED and not is_proved:
            raise BrokenPromiseError("ACCEPTED, but the gateway never took it")
        if record.state in (State.REJECTED, State.EXPIRED) and ours and not record.unknown_outcomes:
            raise BrokenPromiseError(f"{record.state}, but the gateway took it")
        if record.state is State.UNKNOWN and not self.excused:
            raise BrokenPromiseError("UNKNOWN without a cause")

    def check_may_post(self) -> None:
        """When a first byte is handed over."""
        record = self.record()
        if any(over_at > self.now for over_at in self.posting.values()):
            raise BrokenPromiseError("two POSTs at a time")
        if self.expires_at is not None and self.now >= self.expires_at:
            raise BrokenPromiseError("sent after it expired")
        held = record is not None and record.state is State.SENDING and self.now < record.lease_until
        if not held and not (record is not None and record.state is State.ACCEPTED and self.scenario.callbacks):
            raise BrokenPromiseError(f"sent without holding the record: {record and record.state}")

    def _check_heard(self, *, acknowledged: bool) -> None:
        """Whoever read the gateway's yes and is done has written it."""
        record = self.record()
        if self.baton.current in self.heard and acknowledged and (record is None or record.state is not State.ACCEPTED):
            raise BrokenPromiseError(f"accepted, and the ledger says {record and record.state}")

    def _check_end(self) -> None:
        record = self.record()
        assert record is not None
        if record.state is State.ACCEPTED and not self.acceptances and not self.excused:
            raise BrokenPromiseError("certainly not sent, and taken for sent")
        if record.state in (State.SENDING, State.RETRY) and not self.dead_letters:
            raise BrokenPromiseError(f"ends as {record.state}")
        if record.state in (State.UNKNOWN, State.REJECTED) and not self.dead_letters:
            raise BrokenPromiseError(f"{record.state} without a dead letter")
        if record.gateway_id and not self.dead_letters and not self.scenario.callbacks:
            self._check_joined(record)
        if not self.scenario.callbacks:
            return
        for acceptance in self.acceptances:
            for status in self.rng.sample(STATUSES, len(STATUSES)):
                self._post_callback(acceptance, status)
                while self.baton.actors:
                    self.baton.go_on(self.baton.actors[0])
            row = self.stores.row(acceptance.gateway_id) or {}
            best = max(acceptance.told, key=lambda status: STATUS_RANK[status])
            if row.get("status") != best:
                raise BrokenPromiseError(f"status {row.get('status')} instead of {best}")
        self.check_always()
        record = self.record()
        assert record is not None
        if self.acceptances and not self.scenario.shared:
            if record.state is not State.ACCEPTED:
                raise BrokenPromiseError(f"callbacks prove that it was sent, and the ledger says {record.state}")
            self._check_joined(record)

    def _check_joined(self, record: LedgerRecord) -> None:
        row = self.stores.row(record.gateway_id or "") or {}
        if row.get("message_id") != KEY:
            raise BrokenPromiseError("the message row does not know its message")
        if row.get("destination") != HANDSET and record.gateway_id != FOREIGN_ID:
            raise BrokenPromiseError("the message is in no conversation")


class Ports:
    """Decides at each step whether something goes wrong there."""

    READS: Final = frozenset({"with_reference", "latest_sent_to"})

    def __init__(self, world: World) -> None:
        self.world = world

    def moment(self, step: str, when: str) -> None:
        """Others may go first; and this may be the end."""
        world = self.world
        world.baton.pause()
        if self._fault(0.04):
            world.tell(f"{world.baton.current.name} crashes {when} {step}")
            world.excused = True
            raise CrashError

    def call(self, name: str, operation: Callable[[], Any]) -> Any:
        """One call to a table or a queue."""
        world = self.world
        self.moment(name, "before")
        world.written = True
        actor = world.baton.current
        if (deaf := world.deaf.get(actor)) is not None:
            if deaf:
                operation()
            raise ConnectionError(f"{name}: no answer")
        fault = self._which(name)
        world.tell(f"{actor.name}: {name}" + (f" ({fault})" if fault else ""))
        match fault:
            case "fails":
                raise ConnectionError(f"{name}: not done")
            case "fails from now on" | "is never answered from now on":
                world.deaf[actor] = fault.startswith("is")
                world.excused = True
                if world.deaf[actor]:
                    operation()
                raise ConnectionError(f"{name}: no answer")
            case "is late":
                world.late_writes.append(operation)
                raise ConnectionError(f"{name}: on its way")
        result = operation()
        if fault == "is repeated by the SDK":
            result = operation()
        if fault == "is done, its answer lost":
            world.excused = True
            raise ConnectionError(f"{name}: done")
        if fault == "is repeated later":
            world.late_writes.append(operation)
        self.moment(name, "after")
        return result

    def _which(self, name: str) -> str | None:
        if not self._fault(0.12):
            return None
        kinds = ["fails"]
        if name.split(".")[1] not in self.READS:
            kinds += ["fails from now on", "is never answered from now on", "is done, its answer lost"]
        if name.startswith("ledger.") and name.split(".")[1] not in self.READS:
            kinds += ["is repeated by the SDK"] * 2
        if name == "ledger.claim":
            kinds += ["is repeated by the SDK"] * 4 + ["is late", "is repeated later"]
        return self.world.rng.choice(kinds)

    def _fault(self, chance: float) -> bool:
        world = self.world
        if world.calm or not world.faults or world.rng.random() >= chance:
            return False
        world.faults -= 1
        return True


class Port:
    """A table or a queue as the code sees it: each call goes through `Ports`."""

    def __init__(self, target: object, name: str, ports: Ports) -> None:
        self._target = target
        self._name = name
        self._ports = ports

    def __getattr__(self, method: str) -> Callable[..., Any]:
        operation = getattr(self._target, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._ports.call(f"{self._name}.{method}", lambda: _done(operation, *args, **kwargs))

        return call


def _done(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return operation(*args, **kwargs)
    except Exception as error:
        raise StoreFailedError(repr(error)) from error


class OutboundQueues(Queues):
    """The world's queues; an old receipt still works, as it may in SQS."""

    def __init__(self, world: World) -> None:
        self._world = world

    def give_back(self, receipt_handle: str, *, seconds: int) -> None:
        for message in self._world.queue.values():
            if message.receipt == receipt_handle:
                message.visible_at = self._world.now + seconds

    def dead_letter(self, letter: DeadLetter, *, now: float) -> None:
        self._world.tell(f"dead letter: {letter.reason}")
        self._world.dead_letters.append(letter)


class CountingGateway(Gateway):
    """A gateway as far as a message can tell; it counts what it takes."""

    timeout_seconds = POST_SECONDS

    def __init__(self, world: World) -> None:
        self._world = world

    def post_message(
        self, fields: Mapping[str, Any], credentials: GatewayCredentials, *, start_within: float
    ) -> PostResult:
        world = self._world
        start_by, over_at, exchange = world.now + start_within, world.now + POST_SECONDS, object()
        world.ports.moment("POST", "before")
        if world.now >= min(start_by, over_at):
            return PostResult(Outcome.NOT_SENT, "too_late")
        world.check_may_post()
        world.posting[exchange] = over_at
        outcome = self._answer()
        if world.now >= over_at:
            outcome = PostResult(Outcome.UNKNOWN, "timed_out")
        if outcome.outcome is Outcome.UNKNOWN:
            world.excused = True
        world.tell(f"{world.baton.current.name}: POST {outcome.reason} ({len(world.acceptances)} accepted so far)")
        try:
            world.ports.moment("POST", "after")
        finally:
            del world.posting[exchange]
        if outcome.outcome is Outcome.ACCEPTED and world.now >= over_at:
            world.excused = True
            return PostResult(Outcome.UNKNOWN, "timed_out")
        if outcome.outcome is Outcome.ACCEPTED:
            world.heard.add(world.baton.current)
        return outcome

    def _answer(self) -> PostResult:
        world = self._world
        kinds = ("sent", "no id", "sent, lost", "lost", "not sent", "unreachable", "rejected")
        kind = world.rng.choices(kinds, (5, 1, 3, 2, 3, 1, 1))[0]
        gateway_id = None
        if kind in ("sent", "no id", "sent, lost"):
            gateway_id = f"gw-{len(world.acceptances) + 1}"
            world.acceptances.append(Acceptance(gateway_id))
        match kind:
            case "sent":
                return PostResult(Outcome.ACCEPTED, "accepted", 202, gateway_id)
            case "no id":
                return PostResult(Outcome.ACCEPTED, "accepted", 202, None)
            case "not sent":
                return PostResult(Outcome.NOT_SENT, "send_failed", 500)
            case "unreachable":
                return PostResult(Outcome.NOT_SENT, "connection_refused", stop=Stop.UNREACHABLE)
            case "rejected":
                return PostResult(Outcome.REJECTED, "rejected", 400)
        return PostResult(Outcome.UNKNOWN, "closed_without_response")
