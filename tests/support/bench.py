"""A `Sender` and a `Receiver` with doubles for everything that they use."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from optus_sms.flows.breaker import Breaker
from optus_sms.flows.opt_out_check import at_once
from optus_sms.flows.probing import Probing
from optus_sms.flows.receive_callback import Receiver
from optus_sms.flows.send_message import QueueRecord, SendBatchResult, Sender
from optus_sms.model.opt_outs import OptOutWords
from optus_sms.records.health import HealthRecords
from optus_sms.records.items import LedgerRecord, State
from optus_sms.runtime.observability import Measurement
from tests.support.builders import basic
from tests.support.fakes import (
    FakeClock,
    FixedCallbackSecret,
    FixedSecret,
    Hook,
    MemoryLedger,
    MemoryMessages,
    MemoryOptOuts,
    Moment,
    RecordingQueues,
    ScriptedGateway,
    no_hook,
    paced,
)

WORDS: Final = OptOutWords(frozenset({"stop", "opt out"}), frozenset({"start"}))


class FaultError(Exception):
    """What an injected fault raises; its text must never be logged."""


@dataclass
class FailAt:
    """A hook that raises at a step, ``times`` times (-1: always) after ``skip`` occurrences."""

    step: str
    moment: Moment = "before"
    times: int = 1
    skip: int = 0
    raised: int = 0

    def __call__(self, step: str, moment: Moment) -> None:
        if (step, moment) != (self.step, self.moment) or self.raised == self.times:
            return
        if self.skip > 0:
            self.skip -= 1
            return
        self.raised += 1
        raise FaultError("c4n4ry")


@dataclass
class Bench:
    """Change the parts that a test is about, then `send` or use `receiver`. A hook applies from when it is set."""

    gateway: ScriptedGateway = field(default_factory=ScriptedGateway)
    secret: FixedSecret = field(default_factory=FixedSecret)
    time: FakeClock = field(default_factory=FakeClock)
    interval: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = MemoryLedger()
        self.messages = MemoryMessages()
        self.opt_outs = MemoryOptOuts()
        self.queues = RecordingQueues()
        self.breaker = Breaker(self.time.monotonic)
        self.health = HealthRecords(self.ledger.table)
        owners = itertools.count(1)
        self.sender = Sender(
            ledger=self.ledger,
            messages=self.messages,
            opt_outs=self.opt_outs,
            beside=at_once,
            queues=self.queues,
            gateway=self.gateway,
            secret=self.secret,
            pacers=paced(self.interval, self.time.clock),
            probing=Probing(self.breaker, self.health, self.time.clock),
            clock=self.time.clock,
            random=random.Random(1),
            new_owner=lambda: f"owner-{next(owners)}",
            **self.options,
        )
        self.receiver = Receiver(
            ledger=self.ledger,
            messages=self.messages,
            opt_outs=self.opt_outs,
            queues=self.queues,
            secret=FixedCallbackSecret(basic()),
            clock=self.time.clock,
            words=WORDS,
        )

    def hook(self, hook: Hook = no_hook) -> None:
        """Call a hook at every step of every double from now on."""
        for double in (self.ledger, self.messages, self.opt_outs, self.queues, self.gateway, self.secret):
            double.hook = hook

    def send(self, *records: QueueRecord, seconds: float = 60.0) -> SendBatchResult:
        """Make one invocation with so much time."""
        return self.sender.send_batch(records, deadline=self.time.now() + seconds)

    def record(self, key: str = "message-1") -> LedgerRecord:
        """The ledger's record, which must be there."""
        return self.ledger.records[key]

    def state(self, key: str = "message-1") -> State:
        """The ledger's state of a message."""
        return self.record(key).state


def totals(measurements: tuple[Measurement, ...]) -> dict[str, float]:
    """Metrics by name."""
    sums: Counter[str] = Counter()
    for name, value in measurements:
        sums[name.value] += value  # type: ignore[assignment] # a Counter counts in floats as well
    return dict(sums)
