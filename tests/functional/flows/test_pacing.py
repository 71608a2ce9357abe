"""In any second the gateway gets at most the rate plus one message for each execution environment, however they run."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from optus_sms.flows.breaker import Breaker
from optus_sms.flows.pacing import Pacer
from optus_sms.flows.probing import Probing
from optus_sms.flows.send_message import Sender
from optus_sms.gateway.api import PostResult
from optus_sms.gateway.credentials import GatewayCredentials
from tests.support.builders import credentials_refused, queue_record, send_failed, sent
from tests.support.fakes import (
    FakeClock,
    FixedSecret,
    MemoryLedger,
    MemoryMessages,
    MemoryOptOuts,
    RecordingQueues,
    ScriptedGateway,
    paced,
)
from tests.support.fakes import Post as SeenPost
from tests.support.health import MemoryHealthRecords

# Messages per second, concurrent execution environments, records in a batch.
SETTINGS = [(1, 2, 1), (3, 2, 10), (5, 2, 10), (10, 5, 5), (10, 2, 1), (30, 3, 10), (50, 10, 10), (100, 7, 3)]
INVOCATIONS = 40


@dataclass
class Sandboxes:
    """A slot of the function's concurrency: an execution environment and its successors, each with its own time."""

    interval: float
    now: float
    rng: random.Random
    posts: list[float] = field(default_factory=list)
    new_pacer: type[Pacer] = Pacer

    def run(self, batch: int) -> None:
        """Run invocations one after the other, at once or after a pause, sometimes in a new execution environment."""
        pacer = self._pacer()
        for _ in range(INVOCATIONS):
            self._invoke(pacer, self.rng.randint(1, batch))
            if self.rng.random() < 0.3:
                pacer = self._pacer()
            if self.rng.random() < 0.3:
                self.now += self.rng.uniform(0, 3 * self.interval)

    def _pacer(self) -> Pacer:
        return self.new_pacer(self.interval, lambda: self.now, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept = seconds

    def _invoke(self, pacer: Pacer, records: int) -> None:
        """Invoke once. The threads wait in parallel, so all of them begin at the same time."""
        ends = [self.now]
        for _ in range(records):
            self.slept = 0.0
            assert pacer.wait_for_slot(at_most=1_000)
            self.posts.append(self.now + self.slept)
            ends.append(self.posts[-1] + self.rng.uniform(0, 0.5))
        self.now = max(ends)
        self.slept = 0.0
        pacer.hold()
        self.now += self.slept


def worst(posts: Sequence[float], seconds: float = 1.0) -> int:
    """Return the most POSTs in any window of that length, without its end."""
    times, first, most = sorted(posts), 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds - 1e-9:
            first += 1
        most = max(most, last - first + 1)
    return most


def simulate(rate: int, sandboxes: int, batch: int, seed: int, pacer: type[Pacer] = Pacer) -> list[float]:
    """Return the times of all POSTs, from execution environments that start at any time."""
    rng = random.Random(seed)
    places = [Sandboxes(sandboxes / rate, rng.uniform(0, 2), rng, new_pacer=pacer) for _ in range(sandboxes)]
    for place in places:
        place.run(batch)
    return [at for place in places for at in place.posts]


@pytest.mark.parametrize(("rate", "sandboxes", "batch"), SETTINGS)
def test_no_second_exceeds_the_rate_by_more_than_one_per_sandbox(rate: int, sandboxes: int, batch: int) -> None:
    worst_seconds = [worst(simulate(rate, sandboxes, batch, seed)) for seed in range(20)]
    assert max(worst_seconds) <= rate + sandboxes


@pytest.mark.parametrize(("rate", "sandboxes", "batch"), SETTINGS)
def test_the_rate_is_used(rate: int, sandboxes: int, batch: int) -> None:
    """No POST waits longer than it must: a busy execution environment uses every slot."""
    waits: list[float] = []
    pacer = Pacer(sandboxes / rate, lambda: 0.0, waits.append)
    for _ in range(batch + 1):
        pacer.wait_for_slot(at_most=1_000)
    assert waits == pytest.approx([(n + 1) * sandboxes / rate for n in range(batch)])


class _WithoutHold(Pacer):
    def hold(self) -> None:
        """Hold nothing: the invocation ends with its last POST."""


class _WithoutSlots(Pacer):
    def wait_for_slot(self, *, at_most: float) -> bool:
        return True


@pytest.mark.parametrize("broken", [_WithoutHold, _WithoutSlots])
def test_hold_and_slots_are_needed(broken: type[Pacer]) -> None:
    assert any(
        worst(simulate(rate, sandboxes, batch, seed=0, pacer=broken)) > rate + sandboxes
        for rate, sandboxes, batch in SETTINGS
    )


def test_a_second_try_takes_a_slot_too() -> None:
    """With new credentials the same message is posted again: one interval later."""
    time_, times = FakeClock(), list[float]()
    outcomes = iter([credentials_refused(), sent()])

    def answer(_: SeenPost) -> PostResult:
        times.append(time_.now())
        return next(outcomes)

    assert _send(time_, answer, "1").acknowledged
    assert [after - before for before, after in pairwise(times)] == pytest.approx([2.0])


def test_the_invocation_ends_with_its_last_slot() -> None:
    """Also after a message that was not sent, because it used its slot."""
    time_ = FakeClock()
    started = time_.now()
    assert not _send(time_, lambda _: send_failed(), "1").acknowledged
    assert time_.now() - started == pytest.approx(2.0)


@dataclass(frozen=True)
class _Sent:
    acknowledged: bool


def _send(time_: FakeClock, answer: Callable[[SeenPost], PostResult], name: str) -> _Sent:
    """Send a message by the real sender, with one POST in two seconds."""
    clock = time_.clock
    sender = Sender(
        ledger=MemoryLedger(),
        messages=MemoryMessages(),
        opt_outs=MemoryOptOuts(),
        queues=RecordingQueues(),
        gateway=ScriptedGateway(answer),
        secret=FixedSecret(GatewayCredentials("app", "old"), GatewayCredentials("app", "new")),
        pacers=paced(2.0, clock),
        probing=Probing(Breaker(clock.monotonic), MemoryHealthRecords(), clock),
        clock=clock,
    )
    return _Sent(not sender.send_batch([queue_record(name=name)], deadline=time_.now() + 60).failures)


@pytest.mark.deep
def test_real_threads_in_real_time_keep_the_rate() -> None:
    """A thread can wake up late, never early, so the window is shorter by the longest delay."""
    rate, sandboxes, batch = 40, 4, 5
    posts: list[tuple[float, float]] = []  # time and delay

    def post(pacer: Pacer, meant: threading.local) -> None:
        meant.slot = time.monotonic()
        pacer.wait_for_slot(at_most=60)
        at = time.monotonic()
        posts.append((at, at - meant.slot))

    def run() -> None:
        meant = threading.local()

        def sleep(seconds: float) -> None:
            meant.slot = time.monotonic() + seconds
            time.sleep(seconds)

        for _ in range(10):
            pacer = Pacer(sandboxes / rate, time.monotonic, sleep)  # a new execution environment for each invocation
            with ThreadPoolExecutor(batch) as pool:
                for _ in range(batch):
                    pool.submit(post, pacer, meant)
            pacer.hold()

    threads = [threading.Thread(target=run) for _ in range(sandboxes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(posts) == sandboxes * batch * 10
    latest = max(late for _, late in posts) + 0.01
    if latest >= 0.5:
        pytest.skip("this machine is too busy to tell")
    assert worst([at for at, _ in posts], 1.0 - latest) <= rate + sandboxes
