"""The promises hold if many clients use the same records: senders that fail in every way, callbacks and operators.

Not on moto, whose conditional write consists of several steps, between which another thread can run.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.ledger import Ledger
from optus_sms.records.table import Item, Refused
from tests.support.aws import create_table
from tests.support.builders import NOW, wanted
from tests.support.fakes import MemoryLedger
from tests.support.memory_table import MemoryTable, holds

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CLIENTS: Final = 32
KEYS: Final = [f"message-{number}" for number in range(100)]
STEPS: Final = 60
SECONDS: Final = 60.0


@dataclass
class Truth:
    """The facts, which no client has: claims and POSTs by message, and the owners that are done."""

    claims: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    posts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    done: set[str] = field(default_factory=set)


@dataclass
class Client:
    """A client. Each step handles one message as far as possible."""

    ledger: Ledger
    truth: Truth
    name: str
    random: random.Random
    steps: int = 0

    def step(self) -> None:
        key, self.steps = self.random.choice(KEYS), self.steps + 1
        owner = f"{self.name}-{self.steps}"
        found = self.ledger.claim(wanted(key, owner=owner), now=NOW)
        if found.state is State.SENDING and found.is_held_by(owner):
            self._post(found)
            self.truth.done.add(owner)
        else:
            self._handle(found)

    def _post(self, claim: LedgerRecord) -> None:
        """POST once; return the result for the client: None if it crashes."""
        key, ledger = claim.message_id, self.ledger
        self.truth.claims[key].append(claim.attempts)
        if self.random.random() < 0.3:
            gateway_id = f"gw-{claim.owner}"
            self.truth.posts[key].append(gateway_id)
            tell: list[Callable[[], object]] = [lambda: ledger.accepted(claim, gateway_id, now=NOW)]
        else:
            tell = [
                lambda: ledger.not_sent(claim, "throttled", now=NOW),
                lambda: ledger.rejected(claim, "rejected", "HTTP 400", now=NOW),
            ]
        tell += [*tell, lambda: ledger.unknown(claim, "timed_out", now=NOW), lambda: None]
        self.random.choice(tell)()

    def _handle(self, found: LedgerRecord) -> None:
        """Treat the lease as over, let a callback come, or let an operator look the message up after its POST."""
        key, posts = found.message_id, self.truth.posts[found.message_id]
        is_over = found.owner in self.truth.done
        match found.state:
            case State.SENDING if is_over or self.random.random() < 0.1:
                self.ledger.unknown(found, "owner_lost", now=NOW)
            case State.UNKNOWN if posts and self.random.random() < 0.5:
                self.ledger.resolve_by_callback(key, posts[0], now=NOW)
            case State.UNKNOWN if posts:
                self.ledger.resolve_sent(found, posts[0], by="operator", now=NOW)
            case State.UNKNOWN if is_over:
                self.ledger.resolve_not_sent(found, by="operator", now=NOW)
            case State.REJECTED if not posts:
                self.ledger.reopen(found, by="operator", now=NOW)


def broken_promises(ledger: Ledger, seed: int) -> list[str]:
    """Run all clients at the same time, and return the broken promises."""
    truth, start = Truth(), threading.Barrier(CLIENTS)

    def run(number: int) -> None:
        client = Client(ledger, truth, f"client-{number}", random.Random(seed * CLIENTS + number))
        start.wait()
        for _ in range(STEPS):
            client.step()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(run, range(CLIENTS)))
    return list(_broken(ledger, truth))


def _broken(ledger: Ledger, truth: Truth) -> Iterator[str]:
    assert sum(map(len, truth.posts.values())) > len(KEYS) / 2
    for key in KEYS:
        posts = truth.posts[key]
        if posts:
            ledger.resolve_by_callback(key, posts[0], now=NOW)  # the gateway's late callback
        record = ledger.read(key)
        assert record is not None
        if len(posts) > 1:
            yield f"{key} was sent {len(posts)} times"
        if sorted(truth.claims[key]) != list(range(1, (record.attempts or 0) + 1)):
            yield f"{key}: attempts {truth.claims[key]}, {record.attempts} recorded"
        if (record.state is State.ACCEPTED, record.gateway_id) != (bool(posts), posts[0] if posts else None):
            yield f"{key}: {record.state} as {record.gateway_id}, POSTs taken: {posts}"


@pytest.mark.parametrize(
    "client",
    [
        "memory",
        pytest.param("emulator", marks=[pytest.mark.deploy, pytest.mark.timeout(300)]),
        pytest.param("dynalite", marks=[pytest.mark.deploy, pytest.mark.timeout(300)]),
    ],
    indirect=True,
)
def test_no_race_sends_twice_or_loses_an_outcome(client: DynamoDBClient | None) -> None:
    if client is None:
        assert broken_promises(MemoryLedger(), seed=0) == []
        return
    end = time.monotonic() + SECONDS
    for seed in itertools.count():
        ledger = Ledger.connect(client, create_table(client, "SendLedgerTable"))
        assert broken_promises(ledger, seed) == [], f"seed {seed}"
        if time.monotonic() > end:
            break


def test_the_promises_need_conditional_writes_in_one_step() -> None:
    """Shows that the test above can fail."""

    class Torn(MemoryTable):
        def update(self, key: str, update: Any, *, returning: Any = "NONE") -> Item | Refused:
            before = self.items.get(key, {})
            if update.condition and not holds(update.condition, before):
                return Refused(dict(before))
            time.sleep(0)  # lets another thread run in between
            return super().update(key, update._replace(condition=None), returning=returning)

    assert broken_promises(Ledger(Torn(key="pk")), seed=0) != []
