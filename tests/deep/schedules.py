"""The real functions and command line in a world where a seed decides which actor runs next and which faults happen.

Sender, receiver, reconciler, publisher and operators (`resolve`, `redrive`, `recall`, `pause`) work at the same time on
one message, which waits in the ordinary queue, the urgent one or both. Every call to a table, a queue, the bus or the
gateway is a step. Before and after it other actors can run, time can pass (beyond leases too), and the process can
crash. The call can fail, be repeated by the SDK after other calls, arrive up to a minute late, or be done with its
response lost. The clocks of execution environments differ. Messages are delivered again, even twice at the same time,
moved to the dead letters by SQS, and redriven. Callbacks come in any order, repeatedly or not at all. After a time of
chaos nothing fails any more, then twenty days pass, and then the promises are checked.
"""

from __future__ import annotations

import base64
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol, cast

from botocore.exceptions import BotoCoreError

from optus_sms.aws.event_bus import EventBus, Put
from optus_sms.aws.queues import Queues
from optus_sms.flows import refused_claim
from optus_sms.flows.breaker import Breaker
from optus_sms.flows.opt_out_check import at_once
from optus_sms.flows.probing import Probing
from optus_sms.flows.publish_events import Publisher, event_of
from optus_sms.flows.receive_callback import CallbackRequest, Receiver
from optus_sms.flows.reconcile_messages import Reconciler
from optus_sms.flows.send_message import QueueRecord, Sender
from optus_sms.gateway.api import Gateway, Outcome, PostResult, Stop
from optus_sms.gateway.credentials import GatewayCredentials
from optus_sms.gateway.transport import Exchange
from optus_sms.model.events import Event
from optus_sms.model.lanes import Lane
from optus_sms.model.opt_outs import OptOutWords
from optus_sms.model.statuses import STATUS_RANK
from optus_sms.model.times import Clock, format_rfc3339
from optus_sms.records.changes import read_change
from optus_sms.records.items import OPTED_OUT, LedgerRecord, State
from optus_sms.records.ledger import KEEP_SECONDS, Ledger
from optus_sms.records.messages import Messages
from optus_sms.records.opt_outs import OptOuts
from optus_sms.records.table import Item, Refused, Table, marshal
from tests.deep.baton import Actor, Baton, CrashError
from tests.deep.operators import DEAD_LETTERS, URL_OF, Letter, Operator, WorldSqs
from tests.support.builders import HANDSET
from tests.support.fakes import FakeClock, FixedCallbackSecret, FixedSecret, unpaced
from tests.support.health import NO_MESSAGE, MemoryHealthRecords, answer

KEY: Final = "message-1"
SHARED_REFERENCE: Final = "costs-42"
FOREIGN_ID: Final = "gw-foreign"
FUNCTION_SECONDS: Final = 60
WRITE_MARGIN_SECONDS: Final = 3  # before the deadline: then an invocation stops retrying writes
VISIBILITY_SECONDS: Final = 120
POST_SECONDS: Final = 10.0
MAX_ATTEMPTS: Final = 4
STATUSES: Final = ("queued", "sent", "submitted", "received")
DAY_SECONDS: Final = 86_400
LATE_SECONDS: Final = 60.0  # at most, until a write is stored for which the caller got an error
SKEW_SECONDS: Final = 150.0  # at most, of the clock of an execution environment
DAYS_OF_CHAOS: Final = 9  # less than the queue keeps a message
DAYS_TO_DECIDE: Final = 20
LANES: Final = ((Lane.ORDINARY,), (Lane.URGENT,), (Lane.ORDINARY, Lane.URGENT))
AUTHORIZATION: Final = "Basic " + base64.b64encode(b"gateway:example").decode()


class BrokenPromiseError(BaseException):
    """A promise was broken. No `except Exception` of the code may hide it."""


class StoreFailedError(BaseException):
    """A table failed without an injected fault: a mistake in the test, not a promise broken by the code."""


class LostError(BotoCoreError):
    """A call to AWS without a response."""

    fmt = "no response"


class Stores(Protocol):
    """The two tables, empty at first, with access to their items."""

    ledger_table: Table
    messages_table: Table
    opt_out_table: Table

    def record(self, key: str) -> LedgerRecord | None:
        """The ledger's record."""

    def row(self, gateway_id: str) -> Item | None:
        """The message row."""


@dataclass(frozen=True)
class Scenario:
    """The world that a seed chooses. ``crowded``: messages are often delivered while another actor has them.

    ``shared``: another message of the stack has the reference; ``foreign``: another system's, unseen by the stack.
    ``lossy``: some callbacks never come. ``most_receives``: after these SQS moves the message to the dead letters.
    ``skews``: of the clocks of the sender's execution environments, the receiver and the reconciler. ``in_attribute``:
    the ``message_id`` is not a field but an SQS attribute. ``victim``: the beginning of the names of actors that get
    faults. ``lanes``: those in which the message is queued.
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
    lossy: bool
    operators: bool
    most_receives: int
    skews: tuple[float, ...]
    in_attribute: bool
    victim: str
    recalls: bool
    opts_out: bool
    lanes: tuple[Lane, ...]

    @classmethod
    def of(cls, rng: random.Random, *, recalls: bool, opts_out: bool, lanes: tuple[Lane, ...]) -> Scenario:
        """Return a random scenario."""
        reference = rng.choice((None, None, "order-1", SHARED_REFERENCE))
        skew = rng.choice((0.0, 0.0, SKEW_SECONDS))
        return cls(
            on_unknown=rng.choice(("hold", "resend")),
            faults=rng.choice((0, 1, 1, 2, 2, 3, 4, 6)),
            callbacks=rng.random() < 0.7,
            reference=reference,
            shared=reference == SHARED_REFERENCE,
            expires_in=rng.choice((None, None, None, None, None, 30, 300, 1200)),
            twin=rng.random() < 0.2,
            crowded=rng.random() < 0.3,
            redrives=rng.choice((0, 1, 1, 2)),
            foreign=reference is None and rng.random() < 0.3,
            lossy=rng.random() < 0.3,
            operators=rng.random() < 0.5,
            most_receives=rng.choice((3, 6, 1000, 1000)),
            skews=tuple(rng.uniform(-skew, skew) for _ in range(5)),
            in_attribute=rng.random() < 0.2,
            victim=rng.choice(("", "", "", "sandbox", "callback", "operator", "reconciler", "publisher")),
            recalls=recalls,
            opts_out=opts_out,
            lanes=lanes,
        )


@dataclass
class Queued:
    """A message on the queue of a lane."""

    name: str
    lane: Lane
    body: str
    visible_at: float
    sent_at: float
    attributes: Mapping[str, str]
    receives: int = 0
    receipt: str = ""


@dataclass
class Acceptance:
    """A message that the gateway accepted. ``told``: statuses whose callbacks got HTTP 200."""

    gateway_id: str
    told: set[str] = field(default_factory=set)
    owed: set[str] = field(default_factory=set)  # begun, and repeated until they get HTTP 200


class World:
    """The surroundings of the code, and the choices of one seed."""

    def __init__(self, seed: int, stores: Stores) -> None:
        self.rng = random.Random(seed)
        lanes = LANES[seed % len(LANES)]
        self.scenario = Scenario.of(self.rng, recalls=seed % 4 == 3, opts_out=seed % 4 == 1, lanes=lanes)
        self.stores = stores
        self.health = MemoryHealthRecords()
        self.baton = Baton()
        self.time = FakeClock()
        self.calm = False
        self.faults = self.scenario.faults
        self.redrives = self.scenario.redrives
        self.excused = any(self.scenario.skews)  # whether UNKNOWN is allowed
        self.queue: dict[str, Queued] = {}
        self.dead_letters: list[Letter] = []
        self.paused: set[Lane] = set()
        self.operators_paused: set[Lane] = set()  # at any time
        self.acceptances: list[Acceptance] = []
        self.posting: dict[object, float] = {}  # running exchanges, and their ends
        self.late_writes: list[tuple[float, Callable[[], object]]] = []  # with the time at which they are stored
        self.deaf: dict[object, bool] = {}  # actors whose writes all fail; True: done, but without a response
        self.names = 0
        self.story: list[str] = []
        self.known_id: str | None = None
        self.was_recalled = False
        self.is_opted_out = False
        self.claimed_after_opt_out: set[str] = set()  # owners
        self.written = True
        self.last_record: LedgerRecord | None = None
        self.sandboxes: list[Sender | None] = [None, None, None]
        self.heard: set[Actor] = set()  # actors that read an acceptance
        self.paces: dict[Actor, float] = {}
        self.busy: dict[int, float] = {}  # busy execution environments, and when Lambda ends them
        self.ports = Ports(self)
        self.crashed: set[Actor] = set()
        self.ends: dict[Actor, float] = {}  # when Lambda ends an invocation of the sender function
        self.stream: list[dict[str, Any]] = []
        self.unpublished_from = 0
        self.published: dict[str, Event] = {}
        self.working: set[str] = set()  # actors of which only one runs at a time
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
        """Run chaos, then calm, then the checks; raise `BrokenPromiseError` if a promise is broken."""
        try:
            self._begin()
            for _ in range(self.rng.randrange(30, 120)):
                self._do_something()
                self.check_always()
            self._calm_down()
            self._check_settled()
            if self.rng.random() < 0.3:
                self._live_on()  # callbacks come only after that
            if self.scenario.callbacks:
                self._end_callbacks()
            self._live_on()
            self._check_end()
        finally:
            self.baton.end_all()

    def _begin(self) -> None:
        fields: dict[str, Any] = {"destination": HANDSET, "content": "A parcel.", "message_id": KEY}
        if self.scenario.reference:
            fields["reference"] = self.scenario.reference
        attributes = {"message_id": fields.pop("message_id")} if self.scenario.in_attribute else {}
        if self.scenario.shared:
            ttl = int(self.now) + KEEP_SECONDS
            Ledger(self.stores.ledger_table).register_reference(SHARED_REFERENCE, "message-of-others", ttl=ttl)
        if self.expires_at is not None:
            fields["expires_at"] = format_rfc3339(self.expires_at)
        for lane in self.scenario.lanes * (2 if self.scenario.twin else 1):
            self.enqueue(json.dumps(fields), attributes, lane)

    # The queues, and the switch of each

    def enqueue(self, body: str, attributes: Mapping[str, str], lane: Lane) -> None:
        if lane not in self.scenario.lanes:
            raise BrokenPromiseError("redriven into another lane")
        name = self.new_name("sqs")
        self.queue[name] = Queued(name, lane, body, self.now, self.now, attributes)

    def waiting(self, lane: Lane, handle: str) -> Queued | None:
        """The message with this receipt, which SQS finds only in its own queue."""
        found = next((each for each in self.queue.values() if handle in (each.receipt, each.name)), None)
        if found is not None and found.lane is not lane:
            raise BrokenPromiseError("returned to, or deleted from, another lane")
        return found

    def switch(self, lane: Lane, *, is_on: bool) -> None:
        if not is_on and lane not in self.operators_paused:
            raise BrokenPromiseError("a lane is paused that nobody paused")
        (self.paused.discard if is_on else self.paused.add)(lane)

    def queues(self) -> Queues:
        """The queues as an execution environment has them: each call is a step."""
        sqs: Any = WorldSqs(self)
        return Queues(
            sqs,
            dead_letter_queue_url=DEAD_LETTERS,
            outbound_queue_url=URL_OF[Lane.ORDINARY],
            urgent_queue_url=URL_OF[Lane.URGENT],
        )

    # What an execution environment has

    def ledger(self) -> Ledger:
        """Return an execution environment's ledger, each call of which is a step."""
        return Ledger(SteppedTable(self.stores.ledger_table, "ledger", self.ports))

    def messages(self) -> Messages:
        """Return an execution environment's `Messages`."""
        return Messages(SteppedTable(self.stores.messages_table, "messages", self.ports), retention_days=90)

    def opt_outs(self) -> OptOuts:
        """Return an execution environment's `OptOuts`."""
        return OptOuts(SteppedTable(self.stores.opt_out_table, "opt_outs", self.ports))

    def clock(self, environment: int) -> Clock:
        """Return an execution environment's clock: intervals are right, the time of day can be wrong."""
        skew = self.scenario.skews[environment]
        return Clock(now=lambda: self.now + skew, monotonic=self.time.monotonic, sleep=self.time.sleep)

    def _do_something(self) -> None:
        choices: list[tuple[float, Callable[[], None]]] = [(1.0, self._let_time_pass)]
        choices += [(self._pace(actor), partial(self.baton.go_on, actor)) for actor in self.baton.actors]
        if len(self.busy) < len(self.sandboxes):
            for message in (each for each in self.queue.values() if each.lane not in self.paused):
                visible = self.scenario.crowded or message.visible_at <= self.now
                choices.append((3.0 if visible else 0.3, partial(self._deliver, message)))
        if self.dead_letters and self.redrives:
            choices.append((0.5, self._redrive))
        if self.scenario.operators and (self.dead_letters or self.acceptances):
            choices += [(0.6, partial(self._alone, f"operator-{number}", self._operate)) for number in (1, 2)]
        if self.scenario.recalls and self.queue:
            choices.append((1.5, partial(self._alone, "operator-3", self._recall)))
        if self.scenario.opts_out:
            choices.append((0.5, partial(self._alone, "reply", self._text_stop)))
        if len(self.scenario.lanes) > 1:
            choices.append((0.3, partial(self._alone, "operator-4", self._switch_a_lane)))
        choices.append((0.3, partial(self._alone, "reconciler", self._reconcile)))
        if self.unpublished_from < len(self.stream):
            choices.append((0.3, partial(self._alone, "publisher", self._publish)))
        if self.late_writes:
            choices.append((1.0, self._late_write))
        if self.scenario.callbacks and (self.acceptances or self.scenario.shared or self.scenario.foreign):
            choices.append((1.5, self._callback))
        weights = [weight for weight, _ in choices]
        self.rng.choices([action for _, action in choices], weights)[0]()

    def _pace(self, actor: Actor) -> float:
        """Return an actor's pace. Some are always slow, so that others overtake them."""
        return self.paces.setdefault(actor, self.rng.choice((0.05, 1.0, 4.0, 12.0)))

    def _let_time_pass(self) -> None:
        record = self.record()
        turns = [message.visible_at for message in self.queue.values()]
        turns += [record.lease_until, record.unknown_at + refused_claim.RESEND_AFTER_SECONDS] if record else []
        turns += [record.look_at or 0] if record else []
        last = self.time.epoch + DAYS_OF_CHAOS * DAY_SECONDS
        steps = [0.5, 15.0, 95.0, 700.0] + [turn - self.now for turn in turns if self.now < turn < last]
        if self.busy and self.rng.random() < 0.8:  # most invocations end before Lambda ends them
            steps = [0.5, 15.0, 40.0]
        seconds = self.rng.choice(steps)
        self.tell(f"{seconds} seconds pass")
        self._advance(seconds)
        if any(self.now >= deadline - WRITE_MARGIN_SECONDS for deadline in self.busy.values()):
            self.excused = True  # an actor stalls for so long that it can't write its outcome

    def _advance(self, seconds: float) -> None:
        """Let time pass, and store late writes at their times."""
        until = self.now + seconds
        while (arriving := min(self.late_writes, key=lambda late: late[0], default=None)) and arriving[0] <= until:
            self.time.advance(max(0.0, arriving[0] - self.now))
            self._store_late(arriving)
        self.time.advance(max(0.0, until - self.now))

    def _store_late(self, arriving: tuple[float, Callable[[], object]]) -> None:
        self.tell("a write that was on its way is stored")
        self.late_writes.remove(arriving)
        self.excused = True
        arriving[1]()

    def _alone(self, name: str, run: Callable[[], None]) -> None:
        """Start an actor of which only one runs at a time."""
        if name in self.working:
            return
        self.working.add(name)
        self.tell(f"{name} begins")

        def work() -> None:
            try:
                run()
            finally:
                self.working.discard(name)

        self.baton.start(name, work)

    def _deliver(self, message: Queued) -> None:
        if message.receives >= self.scenario.most_receives:
            self.tell(f"{message.name} is moved to the dead letters by SQS")
            del self.queue[message.name]
            letter = Letter(message.name, message.body, message.attributes, source=URL_OF[message.lane])
            self.dead_letters.append(letter)
            return
        sandbox = next(i for i in range(len(self.sandboxes)) if i not in self.busy)
        message.receives += 1
        message.receipt = self.new_name("receipt")
        message.visible_at = self.now + VISIBILITY_SECONDS
        record = QueueRecord(
            message.name,
            message.receipt,
            message.body,
            dict(message.attributes),
            message.receives,
            message.sent_at,
            lane=message.lane,
        )
        self.busy[sandbox] = self.now + FUNCTION_SECONDS
        deadline = self.clock(sandbox).now() + FUNCTION_SECONDS
        self.tell(f"{message.name} is delivered to sandbox {sandbox}")
        actor = self.baton.start(f"sandbox-{sandbox}", lambda: self._invoke(sandbox, message, record, deadline))
        self.ends[actor] = self.busy[sandbox]

    def _invoke(self, sandbox: int, message: Queued, record: QueueRecord, deadline: float) -> None:
        """Invoke the function, and do what Lambda does with the response."""
        try:
            sender = self.sandboxes[sandbox] or self._new_sender(sandbox)
            self.sandboxes[sandbox] = None  # a crash loses the execution environment
            result = sender.send_batch([record], deadline=deadline)
            self.sandboxes[sandbox] = sender
            self._check_heard(acknowledged=not result.failures)
            self.ports.moment("delete", "before")
            if not result.failures:
                self.tell(f"{message.name} is deleted")
                self.queue.pop(message.name, None)
        finally:
            del self.busy[sandbox]

    def _new_sender(self, sandbox: int) -> Sender:
        clock = self.clock(sandbox)
        return Sender(
            ledger=self.ledger(),
            messages=self.messages(),
            opt_outs=self.opt_outs(),
            beside=at_once,
            queues=self.queues(),
            gateway=CountingGateway(self),
            secret=FixedSecret(),
            pacers=unpaced(clock),
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
        self.enqueue(letter.body, letter.attributes, letter.lane)

    def _late_write(self) -> None:
        self._store_late(self.rng.choice(self.late_writes))

    def _operate(self) -> None:
        """Run an operator, who sees accepted messages in the gateway's portal."""
        Operator(self, self.ledger(), self.messages(), KEY).work()

    def _recall(self) -> None:
        Operator(self, self.ledger(), self.messages(), KEY).recall()

    def _switch_a_lane(self) -> None:
        """An operator pauses a lane, or resumes it."""
        lane = self.rng.choice(self.scenario.lanes)
        operator = Operator(self, self.ledger(), self.messages(), KEY)
        if lane in self.paused:
            operator.resume(lane)
        else:
            self.operators_paused.add(lane)
            operator.pause(lane)
        self.tell(f"paused: {sorted(self.paused)}")

    def _reconcile(self) -> None:
        clock = self.clock(4)
        gateway = CountingGateway(self)
        Reconciler(self.ledger(), self.messages(), gateway, FixedSecret(), clock).run(deadline=clock.now() + 120)

    def _publish(self) -> None:
        """Publish a batch of the stream. Lambda delivers it again from the failed record on."""
        bus = cast("Any", Port(WorldBus(self), "bus", self.ports))
        records = self.stream[self.unpublished_from :][:5]
        publisher = Publisher(bus, self.queues(), self.time.clock)
        failed_from = publisher.publish_batch(records).failed_from
        self.unpublished_from = int(failed_from) if failed_from else self.unpublished_from + len(records)

    def _callback(self) -> None:
        others = self.scenario.shared or self.scenario.foreign
        if others and (not self.acceptances or self.rng.random() < 0.3):
            self._post_callback(None, "received")
        else:
            self._post_callback(self.rng.choice(self.acceptances), self.rng.choice(STATUSES))

    def _text_stop(self) -> None:
        """The handset's reply, which the gateway delivers again and again."""
        fields = {"id": "mo-stop", "source": HANDSET, "content": "Stop."}
        receiver = replace(self._receiver(), words=OptOutWords(frozenset({"stop"})))
        receiver.receive(CallbackRequest("POST", "/callbacks/reply", AUTHORIZATION, json.dumps(fields).encode()))

    def _receiver(self) -> Receiver:
        return Receiver(
            ledger=self.ledger(),
            messages=self.messages(),
            opt_outs=self.opt_outs(),
            queues=self.queues(),
            secret=FixedCallbackSecret(AUTHORIZATION),
            clock=self.clock(3),
        )

    def _post_callback(self, acceptance: Acceptance | None, status: str) -> None:
        gateway_id = acceptance.gateway_id if acceptance else FOREIGN_ID
        fields = {"message_id": gateway_id, "status": status, "reference": self.scenario.reference or KEY}
        self.tell(f"callback: {gateway_id} is {status}")
        receiver = self._receiver()
        request = CallbackRequest("POST", "/callbacks/status", AUTHORIZATION, json.dumps(fields).encode())
        if acceptance is not None:
            acceptance.owed.add(status)

        def receive() -> None:
            if receiver.receive(request).status == 200 and acceptance is not None:
                acceptance.told.add(status)
                acceptance.owed.discard(status)

        self.baton.start(f"callback of {gateway_id}", receive)

    def _calm_down(self) -> None:
        """Stop all faults, and let everything that is begun or queued end."""
        self.tell("calm")
        self.calm = True
        self.deaf.clear()
        for _ in range(60):
            self._finish()
            self.paused.clear()
            if not self.queue:
                return
            message = min(self.queue.values(), key=lambda message: message.visible_at)
            self.time.advance(max(0.0, message.visible_at - self.now))
            self._deliver(message)
        raise BrokenPromiseError("it never ends")

    def _finish(self) -> None:
        """Let all running actors end."""
        while self.baton.actors:
            self.baton.go_on(self.rng.choice(self.baton.actors))
            self.check_always()
        while self.late_writes:
            self._late_write()

    def _end_callbacks(self) -> None:
        """Repeat each callback until it is stored; if none is lost, all statuses come."""
        for acceptance in self.acceptances:
            statuses = sorted(acceptance.owed) if self.scenario.lossy else list(STATUSES)
            for status in self.rng.sample(statuses, len(statuses)):
                self._post_callback(acceptance, status)
                self._finish()

    def _live_on(self) -> None:
        """Let twenty days pass, with a run of the reconciler whenever it has something to do."""
        self.tell("twenty days pass")
        until = self.now + DAYS_TO_DECIDE * DAY_SECONDS
        while due := self._undecided():
            at = max(self.now + 300, min(due))
            if at > until:
                break
            # But not every five minutes for requests that get no response.
            self.time.advance(max(at - self.now, DAY_SECONDS / 4 if at == self.now + 300 else 0))
            self._alone("reconciler", self._reconcile)
            self._finish()
        self.time.advance(max(0.0, until - self.now))
        while self.unpublished_from < len(self.stream):
            self._alone("publisher", self._publish)
            self._finish()

    def _undecided(self) -> list[float]:
        """Return when each waiting item is due."""
        items = [*self.stores.ledger_table.scan(), *self.stores.messages_table.scan()]
        waiting = [item for item in items if "undecided" in item or "awaiting" in item]
        return [float(cast("int", item.get("look_at", 0))) for item in waiting]

    # The promises

    def check_always(self) -> None:
        """Check after every step."""
        allowed = 1 if self.scenario.on_unknown == "hold" else 2
        if len(self.acceptances) > allowed:
            raise BrokenPromiseError("accepted more often than allowed")
        if self.baton.actors and self.calm:
            return  # the tables are read between the steps of chaos and at the end
        record = self.record()
        self._check_record(record)
        lost = not self.queue and not self.dead_letters
        if lost and (record is None or not _needs_no_dead_letter(record)):
            raise BrokenPromiseError(f"in no queue, and the ledger says {record and record.state}")

    def _check_record(self, record: LedgerRecord | None) -> None:
        if record is None:
            return
        if self.known_id not in (None, FOREIGN_ID, record.gateway_id):
            raise BrokenPromiseError("the gateway's id has changed")
        self.known_id = record.gateway_id
        self.was_recalled = self.was_recalled or record.state is State.RECALLED
        if self.was_recalled and record.state not in (State.RECALLED, State.ACCEPTED):
            raise BrokenPromiseError(f"{record.state} after it was recalled")
        ours = {acceptance.gateway_id for acceptance in self.acceptances}
        taken_for_ours = self.scenario.foreign and record.gateway_id == FOREIGN_ID
        is_proved = taken_for_ours or (ours and record.gateway_id in ours | {None})
        if record.state is State.ACCEPTED and not is_proved:
            raise BrokenPromiseError("ACCEPTED, but the gateway never took it")
        ended = (State.REJECTED, State.EXPIRED, State.RECALLED)
        if record.state in ended and ours and not record.unknown_outcomes:
            raise BrokenPromiseError(f"{record.state}, but the gateway took it")
        if record.state is State.UNKNOWN and not self.excused:
            raise BrokenPromiseError("UNKNOWN without a cause")

    def check_may_post(self) -> None:
        """Check when a first byte is handed over."""
        record = self.record()
        if self.expires_at is not None and self.now + min(self.scenario.skews) >= self.expires_at:
            raise BrokenPromiseError("sent after it expired")
        if self.now + POST_SECONDS > self.ends[self.baton.current]:
            raise BrokenPromiseError("begun when it could not end any more")
        if any(self.scenario.skews):
            return  # by another clock its lease can be over, which makes its outcome unknown
        if any(over_at > self.now for over_at in self.posting.values()):
            raise BrokenPromiseError("two POSTs at a time")
        if record is not None and record.owner in self.claimed_after_opt_out:
            raise BrokenPromiseError("a claim made after the opt-out led to a POST")
        held = record is not None and record.state is State.SENDING and self.now < record.lease_until
        if not held and not (record is not None and record.state is State.ACCEPTED and self.scenario.callbacks):
            raise BrokenPromiseError(f"sent without holding the record: {record and record.state}")

    def _check_heard(self, *, acknowledged: bool) -> None:
        """Check that each ended actor that read an acceptance has written it."""
        record = self.record()
        if self.baton.current in self.heard and acknowledged and (record is None or record.state is not State.ACCEPTED):
            raise BrokenPromiseError(f"accepted, and the ledger says {record and record.state}")

    def _check_settled(self) -> None:
        """Check when the queue is empty."""
        record = self.record()
        assert record is not None or self.dead_letters
        if record is None:
            return
        if record.state is State.ACCEPTED and not self.acceptances and not self.excused:
            raise BrokenPromiseError("certainly not sent, and taken for sent")
        if not _needs_no_dead_letter(record) and not self.dead_letters:
            raise BrokenPromiseError(f"{record.state} without a dead letter")
        if record.gateway_id and not self.dead_letters and not self.scenario.callbacks:
            self._check_joined(record)

    def _check_end(self) -> None:
        """Check twenty days later."""
        self.check_always()
        if self._undecided():
            raise BrokenPromiseError("undecided after twenty days")
        self._check_published()
        record = self.record()
        if record is None:
            return
        if record.state is State.SENDING:
            raise BrokenPromiseError("ends as SENDING")
        for acceptance in self.acceptances:
            row = self.stores.row(acceptance.gateway_id) or {}
            best = max(acceptance.told, key=lambda status: STATUS_RANK[status], default=None)
            if best and row.get("status") != best:
                raise BrokenPromiseError(f"status {row.get('status')} instead of {best}")
        named = self.stores.row(record.gateway_id) if record.gateway_id else None
        # A dead letter that is redriven links the row, if SQS took the message before its second write was repeated.
        if named and not self.dead_letters and named.get("message_id") != KEY:
            raise BrokenPromiseError("the message row does not know its message")
        if any(acceptance.told for acceptance in self.acceptances) and not self.scenario.shared:
            if record.state is not State.ACCEPTED:
                raise BrokenPromiseError(f"callbacks prove that it was sent, and the ledger says {record.state}")
            if not self.dead_letters:
                self._check_joined(record)

    def _check_published(self) -> None:
        for record in self.stream:
            change = read_change(record)
            event = event_of(change) if change else None
            if event is not None and event.event_id not in self.published:
                raise BrokenPromiseError(f"{event.detail_type} was never published")

    def _check_joined(self, record: LedgerRecord) -> None:
        row = self.stores.row(record.gateway_id or "") or {}
        if row.get("message_id") != KEY:
            raise BrokenPromiseError("the message row does not know its message")
        if row.get("destination") != HANDSET and record.gateway_id != FOREIGN_ID:
            raise BrokenPromiseError("the message is in no conversation")


def _needs_no_dead_letter(record: LedgerRecord) -> bool:
    opted_out = record.state is State.REJECTED and record.reason == OPTED_OUT
    return opted_out or record.state in (State.ACCEPTED, State.EXPIRED, State.RECALLED)


class Ports:
    """Decides at each step whether a fault happens."""

    def __init__(self, world: World) -> None:
        self.world = world

    def moment(self, step: str, when: str, *, chance: float = 0.04) -> None:
        """Let others go first, or end the actor here."""
        world = self.world
        actor = world.baton.current
        if actor not in world.crashed:
            world.baton.pause()
            is_over = world.now >= world.ends.get(actor, math.inf)
            if not is_over and not self._fault(chance):
                return
            world.tell(f"{actor.name} {'is ended by Lambda' if is_over else 'crashes'} {when} {step}")
            world.excused = True
            world.crashed.add(actor)
        raise CrashError

    def read(self, name: str, operation: Callable[[], Any]) -> Any:
        """Make a call that changes nothing."""
        self.moment(name, "before", chance=0.01)
        # Whether a message waits then shows only if the handset has opted out.
        if self._fault(0.3 if self.world.is_opted_out and name == "opt_outs.get" else 0.03):
            self.world.tell(f"{self.world.baton.current.name}: {name} (fails)")
            raise LostError
        return operation()

    def write(self, name: str, operation: Callable[[], Any]) -> Any:
        """Make a call to a table, a queue or the bus that changes something."""
        world = self.world
        actor = world.baton.current
        if actor not in world.deaf:
            self.moment(name, "before")
        if (deaf := world.deaf.get(actor)) is not None:
            if deaf:
                operation()
            raise LostError
        rarely_called = name.startswith(("sqs", "bus", "lambda"))
        fault = world.rng.choice(FAULTS) if self._fault(0.3 if rarely_called else 0.12) else None
        world.tell(f"{actor.name}: {name}" + (f" ({fault})" if fault else ""))
        match fault:
            case "fails":
                raise LostError
            case "fails from now on" | "is never answered from now on":
                world.deaf[actor] = fault.startswith("is")
                world.excused = True
                if world.deaf[actor]:
                    operation()
                raise LostError
            case "is late" | "is stored now and later":
                world.late_writes.append((world.now + world.rng.uniform(0.0, LATE_SECONDS), operation))
                world.excused = True
                if fault == "is late":
                    raise LostError
        result = operation()
        if fault == "is repeated by the SDK":
            self.moment(name, "between two requests of")
            result = operation()
        if fault == "is done, its response lost":
            world.excused = True
            raise LostError
        self.moment(name, "after")
        return result

    def _fault(self, chance: float) -> bool:
        world, victim = self.world, self.world.scenario.victim
        if world.calm or not world.faults or not world.baton.current.name.startswith(victim):
            return False
        if world.rng.random() >= (chance * 2 if victim else chance):
            return False
        world.faults -= 1
        return True


FAULTS: Final = (
    "fails",
    "fails from now on",
    "is never answered from now on",
    "is done, its response lost",
    "is repeated by the SDK",
    "is repeated by the SDK",
    "is late",
    "is stored now and later",
)


class SteppedTable(Table):
    """The table of the code: each call goes through `Ports`, and each change into the stream."""

    def __init__(self, table: Table, name: str, ports: Ports) -> None:
        self.key = table.key
        self._table = table
        self._name = name
        self._ports = ports

    def get(self, key: str) -> Item:
        return cast("Item", self._ports.read(f"{self._name}.get", partial(_done, self._table.get, key)))

    def update(self, key: str, *args: Any, **more: Any) -> Item | Refused:
        store = partial(_done, self._store, key, *args, **more)
        return cast("Item | Refused", self._ports.write(f"{self._name}.update {key}", store))

    def _store(self, key: str, *args: Any, **more: Any) -> Item | Refused:
        world = self._ports.world
        world.written = True
        before = self._table.get(key)
        result = self._table.update(key, *args, **more)
        after = self._table.get(key)
        if self._name == "opt_outs":
            world.is_opted_out = bool(after.get("opted_out"))
        if world.is_opted_out and after.get("state") == State.SENDING and after.get("owner") != before.get("owner"):
            world.claimed_after_opt_out.add(str(after["owner"]))
        if after != before:
            images = {"NewImage": marshal(after), **({"OldImage": marshal(before)} if before else {})}
            numbered = {"SequenceNumber": str(len(world.stream)), "ApproximateCreationDateTime": world.now}
            keys = {"Keys": marshal({self.key: key})}
            world.stream.append({"eventName": "MODIFY", "dynamodb": images | numbered | keys})
        return result

    def query(self, *args: Any, **more: Any) -> Iterator[Item]:
        found = _done(lambda: list(self._table.query(*args, **more)))
        # Reads of an empty partition (a hundred in a run) are no steps.
        return iter(self._ports.read(f"{self._name}.query", lambda: found) if found else ())

    def count(self, *args: Any, **more: Any) -> int:
        return 0

    def lists_nothing(self, index: str) -> bool:
        return False


class Port:
    """The bus of the code: each call goes through `Ports`."""

    def __init__(self, target: object, name: str, ports: Ports) -> None:
        self._target = target
        self._name = name
        self._ports = ports

    def __getattr__(self, method: str) -> Callable[..., Any]:
        operation = getattr(self._target, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._ports.write(f"{self._name}.{method}", partial(_done, operation, *args, **kwargs))

        return call


def _done(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return operation(*args, **kwargs)
    except Exception as error:
        raise StoreFailedError(repr(error)) from error


class WorldBus(EventBus):
    """The bus, which keeps all events."""

    def __init__(self, world: World) -> None:
        self._world = world

    def put(self, events: Sequence[Event]) -> list[Put]:
        self._world.published |= {event.event_id: event for event in events}
        return [Put.TAKEN] * len(events)


class CountingGateway(Gateway):
    """The gateway of the messages, which counts those that it accepts."""

    timeout_seconds = POST_SECONDS

    def __init__(self, world: World) -> None:
        self._world = world

    def post_message(
        self,
        fields: Mapping[str, Any],
        credentials: GatewayCredentials,
        *,
        start_within: float,
        may_start: Callable[[], bool] = lambda: True,
    ) -> PostResult:
        world = self._world
        start_by, over_at, exchange = world.now + start_within, world.now + POST_SECONDS, object()
        world.ports.moment("POST", "before")
        if world.now >= min(start_by, over_at):
            return PostResult(Outcome.NOT_SENT, "too_late")
        if not may_start():
            return PostResult(Outcome.NOT_SENT, "not_allowed")
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

    def get_message(self, gateway_id: str, credentials: GatewayCredentials) -> Exchange:
        """Return a message only after the chaos."""
        world = self._world
        taken = [acceptance for acceptance in world.acceptances if acceptance.gateway_id == gateway_id]
        if not world.calm or not taken or world.rng.random() < 0.5:
            return answer(404, NO_MESSAGE)
        status = world.rng.choice(STATUSES)
        taken[0].told.add(status)
        return answer(200, {"id": gateway_id, "direction": "MT", "status": status})

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
