"""In-memory doubles of everything outside the flows: simple data, with the same decisions as the real ones.

`MemoryLedger` and `MemoryMessages` are the real classes on a table in memory (`memory_table`), which carries out the
same updates and conditions as DynamoDB; tests/contract/records compares the two. All are safe for many threads.

A hook sees each operation twice: ``hook("ledger.claim", "before")`` and, if it was done, ``hook("ledger.claim",
"after")``. It is called outside the lock, so it can block (to schedule threads) or raise (a fault). An error raised
before an operation is a write that never happened; one raised after it is a write whose response was lost.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aws_lambda_powertools.utilities.typing import LambdaContext

from optus_sms.aws.queues import DeadLetter, Queues
from optus_sms.flows.pacing import Pacer
from optus_sms.gateway.api import Gateway, Outcome, PostResult
from optus_sms.gateway.credentials import CallbackSecret, GatewayCredentials, GatewaySecret
from optus_sms.model.lanes import Lane
from optus_sms.model.times import Clock
from optus_sms.records.changes import read_item
from optus_sms.records.items import MESSAGE_PREFIX, LedgerRecord
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from optus_sms.records.opt_outs import OptOuts
from optus_sms.records.table import Item
from tests.support.memory_table import MemoryTable

Moment = Literal["before", "after"]
Hook = Callable[[str, Moment], None]


def no_hook(_step: str, _moment: Moment) -> None:
    """Do nothing."""


class _Steps:
    """One lock for each double, and the hook around each operation."""

    def __init__(self, name: str, hook: Hook) -> None:
        self.hook = hook
        self._name = name
        self._one_at_a_time = threading.RLock()

    @contextmanager
    def _step(self, operation: str) -> Iterator[None]:
        self.hook(f"{self._name}.{operation}", "before")
        with self._one_at_a_time:
            yield
        self.hook(f"{self._name}.{operation}", "after")


def _stepped(operation: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a `_Steps` with calls of the hook around it."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **options: Any) -> Any:
        self.hook(f"{self._name}.{operation}", "before")
        result = method(self, *args, **options)
        if isinstance(result, Iterator):
            result = iter(list(result))
        self.hook(f"{self._name}.{operation}", "after")
        return result

    return run


def _with_steps(kind: type) -> type:
    """Return a class that calls the hook around each public operation of the real class."""
    real = kind.__mro__[2]
    for name, method in vars(real).items():
        if not name.startswith("_") and callable(method) and not isinstance(method, classmethod):
            setattr(kind, name, _stepped(name, method))
    return kind


@_with_steps
class MemoryLedger(_Steps, Ledger):
    """The real ledger on a table in memory. Tests can read and change it while no other thread does."""

    def __init__(self, hook: Hook = no_hook) -> None:
        _Steps.__init__(self, "ledger", hook)
        self.table = MemoryTable(key="pk")
        Ledger.__init__(self, self.table)

    @property
    def records(self) -> dict[str, LedgerRecord]:
        """Every record as it is now, by message id."""
        found = (read_item(item) for item in self.table.items.values())
        return {record.message_id: record for record in found if isinstance(record, LedgerRecord)}

    @property
    def items(self) -> dict[str, Item]:
        """Every message's item, by message id."""
        return {
            key.removeprefix(MESSAGE_PREFIX): item
            for key, item in self.table.items.items()
            if key.startswith(MESSAGE_PREFIX)
        }


@_with_steps
class MemoryMessages(_Steps, Messages):
    """The real messages on a table in memory."""

    def __init__(self, *, retention_days: int = 90, hook: Hook = no_hook) -> None:
        _Steps.__init__(self, "messages", hook)
        self.table = MemoryTable(key="id")
        Messages.__init__(self, self.table, retention_days=retention_days)

    @property
    def items(self) -> dict[str, Item]:
        """Every item by its id; tests may change them."""
        return self.table.items


def paced(interval: float, clock: Clock) -> dict[Lane, Pacer]:
    """A pacer for each lane, with the same interval."""
    return {lane: Pacer(interval, clock.monotonic, clock.sleep) for lane in Lane}


def unpaced(clock: Clock) -> dict[Lane, Pacer]:
    """Pacers that limit nothing."""
    return paced(0.0, clock)


@_with_steps
class MemoryOptOuts(_Steps, OptOuts):
    """The real opt-outs on a table in memory."""

    def __init__(self, hook: Hook = no_hook) -> None:
        _Steps.__init__(self, "opt_outs", hook)
        self.table = MemoryTable(key="handset")
        OptOuts.__init__(self, self.table)


@dataclass(frozen=True, slots=True)
class GivenBack:
    """One change of visibility."""

    receipt_handle: str
    seconds: int
    lane: Lane = Lane.ORDINARY


class RecordingQueues(_Steps, Queues):
    """Records all calls, in order."""

    def __init__(self, hook: Hook = no_hook) -> None:
        super().__init__("queues", hook)
        self.given_back: list[GivenBack] = []
        self.dead_letters: list[DeadLetter] = []

    def give_back(self, receipt_handle: str, *, seconds: int, lane: Lane) -> None:
        with self._step("give_back"):
            self.given_back.append(GivenBack(receipt_handle, seconds, lane))

    def dead_letter(self, letter: DeadLetter, *, now: float) -> None:
        with self._step("dead_letter"):
            self.dead_letters.append(letter)


@dataclass(frozen=True, slots=True)
class Step:
    """The gateway's handling of a POST: the result for the stack, and whether a handset gets an SMS."""

    outcome: PostResult
    accepted: bool


@dataclass(frozen=True, slots=True)
class Post:
    """A POST as the gateway received it."""

    fields: Mapping[str, Any]
    credentials: GatewayCredentials
    start_within: float


Script = Sequence[PostResult | Step] | Callable[[Post], PostResult | Step]


class ScriptedGateway(_Steps, Gateway):
    """A gateway with scripted responses.

    ``script``: outcomes in order, or a function of the POST; when they are used up, everything is accepted. Because the
    order within a batch is open, ``by_reference`` has a separate script for a reference. ``posts`` and ``accepted``
    (how many SMS each reference became) are what the tests count.
    """

    def __init__(
        self,
        script: Script = (),
        *,
        by_reference: Mapping[str, Script] | None = None,
        timeout_seconds: float = 10.0,
        hook: Hook = no_hook,
    ) -> None:
        super().__init__("gateway", hook)
        self.timeout_seconds = timeout_seconds
        self.posts: list[Post] = []
        self.accepted: Counter[str] = Counter()
        self._next = _reader(script)
        self._next_of = {reference: _reader(own) for reference, own in (by_reference or {}).items()}

    def post_message(
        self,
        fields: Mapping[str, Any],
        credentials: GatewayCredentials,
        *,
        start_within: float,
        may_start: Callable[[], bool] = lambda: True,
    ) -> PostResult:
        with self._step("post_message"):
            if not may_start():
                return PostResult(Outcome.NOT_SENT, "not_allowed")
            post = Post(dict(fields), credentials, start_within)
            self.posts.append(post)
            reference = str(fields.get("reference", ""))
            step = self._next_of.get(reference, self._next)(post)
            if step is None:
                step = PostResult(Outcome.ACCEPTED, "accepted", 202, f"gw-{len(self.posts)}", seconds=0.25)
            if not isinstance(step, Step):
                step = Step(step, accepted=step.outcome is Outcome.ACCEPTED)
            if step.accepted:
                self.accepted[reference] += 1
            return step.outcome

    def posts_of(self, reference: str) -> int:
        """How often a message was posted."""
        return sum(post.fields.get("reference") == reference for post in self.posts)


def _reader(script: Script) -> Callable[[Post], PostResult | Step | None]:
    if callable(script):
        return script
    steps = iter(script)
    return lambda _post: next(steps, None)


class FixedSecret(_Steps, GatewaySecret):
    """The versions of a secret, in the order of their rotation.

    The first is current; `newer_than` moves on to the next, if there is one. ``batches`` counts `forget_refused`.
    """

    def __init__(self, *versions: GatewayCredentials, hook: Hook = no_hook) -> None:
        super().__init__("secret", hook)
        self.versions = list(versions or [GatewayCredentials("example-app", "example-password")])
        self.batches = 0

    def current(self) -> GatewayCredentials:
        with self._step("current"):
            return self.versions[0]

    def newer_than(self, refused: GatewayCredentials) -> GatewayCredentials | None:
        with self._step("newer_than"):
            if self.versions[0] == refused and len(self.versions) > 1:
                del self.versions[0]
            return None if self.versions[0] == refused else self.versions[0]

    def forget_refused(self) -> None:
        with self._step("forget_refused"):
            self.batches += 1


class FixedCallbackSecret(_Steps, CallbackSecret):
    """Admits exactly these Authorization headers."""

    def __init__(self, *authorizations: str, hook: Hook = no_hook) -> None:
        super().__init__("secret", hook)
        self._authorizations = frozenset(authorizations)

    def admits(self, authorization: str) -> bool:
        with self._step("admits"):
            return authorization in self._authorizations


@dataclass
class FakeClock:
    """Time that passes only by `sleep` or `advance`; `clock`: the same as `optus_sms.model.times.Clock`."""

    epoch: float = 1_767_225_600.0  # 2026-01-01T00:00:00Z
    started: float = 1_000.0
    sleeps: list[float] = field(default_factory=list)
    _elapsed: float = field(default=0.0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def clock(self) -> Clock:
        return Clock(now=self.now, monotonic=self.monotonic, sleep=self.sleep)

    def now(self) -> float:
        with self._lock:
            return self.epoch + self._elapsed

    def monotonic(self) -> float:
        with self._lock:
            return self.started + self._elapsed

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.sleeps.append(seconds)
            self._elapsed += seconds

    def advance(self, seconds: float) -> None:
        """Let time pass without a sleep."""
        with self._lock:
            self._elapsed += seconds


class FakeLambdaContext(LambdaContext):
    """Lambda's context object; ``remaining_seconds`` stays unchanged."""

    def __init__(self, function_name: str = "optus-sms-function", *, remaining_seconds: float = 60.0) -> None:
        self._function_name = function_name
        self._function_version = "$LATEST"
        self._invoked_function_arn = f"arn:aws:lambda:ap-southeast-2:123456789012:function:{function_name}"
        self._memory_limit_in_mb = 512
        self._aws_request_id = "8f5c1b9e-6f0a-4f0e-9a53-2f3f2f0d7c11"
        self._log_group_name = f"/aws/lambda/{function_name}"
        self._log_stream_name = "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef"
        self._remaining_seconds = remaining_seconds

    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override] # a static method in the typing stub only
        return int(self._remaining_seconds * 1000)
