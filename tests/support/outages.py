"""The real sender, breaker, probing and health check around a gateway in trouble, in virtual time.

Execution environments, the health check and the requests take turns by a clock that jumps to the next event, so that
hours pass in seconds and every run is the same. The doubles are the gateway, the queue with its visibility timeouts,
CloudWatch with its delay and the event source mapping.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final, Self
from unittest import mock

from optus_sms.aws.queue_switch import QueueSwitch
from optus_sms.aws.queues import DeadLetter, DeadLetterReason, Queues
from optus_sms.aws.traffic import SenderMetrics, Traffic
from optus_sms.flows import send_message
from optus_sms.flows.breaker import Breaker
from optus_sms.flows.check_health import HealthChecker
from optus_sms.flows.opt_out_check import at_once
from optus_sms.flows.probing import Probing
from optus_sms.flows.send_message import QueueRecord, Sender
from optus_sms.gateway.api import Gateway, Outcome, PostResult, classify
from optus_sms.gateway.credentials import GatewayCredentials, GatewaySecret
from optus_sms.gateway.transport import Exchange
from optus_sms.model.errors import CredentialsError
from optus_sms.model.lanes import Lane
from optus_sms.model.times import Clock
from optus_sms.records.health import PROBE_SECONDS, PROBES_AFTER_SECONDS, HealthRecords
from optus_sms.records.items import PauseReason
from optus_sms.runtime.observability import Measurement, Metric, logger
from tests.deep.baton import Actor, Baton
from tests.support.builders import NOW, message_body, sqs_record
from tests.support.fakes import MemoryLedger, MemoryMessages, MemoryOptOuts, unpaced
from tests.support.health import NO_MESSAGE, NO_PATH, answer, no_response

MINUTE: Final = 60.0
HOUR: Final = 3600.0
BATCH: Final = 10
FUNCTION_SECONDS: Final = 60.0
SWITCH_SECONDS: Final = 20.0  # a disabled mapping still delivers for so long, and an enabled one starts as late
LONGEST_MINUTES: Final = 45.0  # half an hour of backoff, and a quarter for the probe that goes first
UNAUTHORIZED: Final = answer(401, {"message": "Unauthorized"})


class Trouble(StrEnum):
    """The fate of every POST."""

    REFUSED = "refused"
    TIMEOUTS = "timeouts"
    HTTP_503 = "503"
    HTML_400 = "html 400"
    HTML_403 = "html 403"
    HTTP_401 = "401"
    NO_SECRET = "secret unreadable"
    NO_DNS = "dns dead"


class Healthz(StrEnum):
    """The response of `GET /healthz`: true, false or none, before, during and after the trouble."""

    RIGHT = "right"
    WRONG = "wrong"
    SILENT = "silent"


class Lookup(StrEnum):
    """The response of `GET /messages?id=`: as for the POSTs, always from the API, or useless."""

    LIKE_POSTS = "like posts"
    FINE = "fine"
    NOT_OFFERED = "not offered"


_POSTS: Final = {
    Trouble.REFUSED: (no_response(), 0.0),
    Trouble.TIMEOUTS: (Exchange(True, None, None, {}, "timed_out", 10.0), 10.0),
    Trouble.HTTP_503: (answer(503), 0.25),
    Trouble.HTML_400: (answer(400, b"<h1>400 Bad Request</h1>"), 0.25),
    Trouble.HTML_403: (answer(403, b"<html>Forbidden"), 0.25),
    Trouble.HTTP_401: (UNAUTHORIZED, 0.25),
    Trouble.NO_DNS: (no_response("name_not_resolved"), 0.0),
}


@dataclass(frozen=True)
class Scenario:
    """One kind of trouble. ``per_minute``: messages; ``metrics_late``: the delay of CloudWatch in seconds."""

    trouble: Trouble | None
    healthz: Healthz
    per_minute: float
    environments: int
    lookup: Lookup = Lookup.LIKE_POSTS
    metrics_late: float = 120.0
    calm_minutes: float = 10.0
    trouble_minutes: float = 60.0


class VirtualTime:
    """Actors that run one at a time, each until it sleeps. The clock jumps to the next one that wakes."""

    def __init__(self) -> None:
        self.now = NOW
        self._baton = Baton()
        self._numbers = itertools.count()
        self._waking: list[tuple[float, int, Actor | Callable[[], None]]] = []

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, monotonic=lambda: self.now, sleep=self.sleep)

    def start(self, name: str, run: Callable[[], None], *, after: float = 0.0) -> None:
        self._wake(self._baton.start(name, run), after)

    def call(self, run: Callable[[], None], *, after: float) -> None:
        """Call a function that does not sleep."""
        self._wake(run, after)

    def sleep(self, seconds: float) -> None:
        self._wake(self._baton.current, seconds)
        self._baton.pause()

    def run_until(self, end: float, is_over: Callable[[], bool] = lambda: False) -> None:
        while self._waking and self._waking[0][0] <= end and not is_over():
            self.now, _, waking = heapq.heappop(self._waking)
            if isinstance(waking, Actor):
                self._baton.go_on(waking)
            else:
                waking()

    def close(self) -> None:
        self._baton.end_all()

    @contextmanager
    def pool(self, max_workers: int) -> Iterator[VirtualTime]:
        """Return a stand-in for a ThreadPoolExecutor."""
        yield self

    def map(self, function: Callable[[Any], Any], arguments: Iterable[Any]) -> list[Any]:
        """Run one actor for each argument, side by side."""
        caller, items = self._baton.current, list(arguments)
        results: dict[int, Any] = {}

        def run(number: int) -> None:
            results[number] = function(items[number])
            if len(results) == len(items):
                self._wake(caller, 0.0)

        for number in range(len(items)):
            self.start(f"record {number}", partial(run, number))
        self._baton.pause()
        return [results[number] for number in range(len(items))]

    def _wake(self, waking: Actor | Callable[[], None], seconds: float) -> None:
        heapq.heappush(self._waking, (self.now + seconds, next(self._numbers), waking))


@dataclass
class Queued:
    """A message on the queue."""

    key: str
    sent_at: float
    visible_at: float
    receives: int = 0
    in_flight: bool = False


@dataclass
class Environment:
    """An execution environment of the sender function. ``blind``: POSTs begun before it had an unknown outcome."""

    sender: Sender
    blind: int = 0
    knows: bool = False
    free_since: float = 0.0
    busy: bool = False


class _Secret(GatewaySecret):
    def __init__(self, world: World) -> None:
        self._world = world

    def current(self) -> GatewayCredentials:
        if self._world.is_in_trouble and self._world.scenario.trouble is Trouble.NO_SECRET:
            raise CredentialsError("GatewaySecret still holds the placeholder")
        return GatewayCredentials("app", "right", "v1")

    def newer_than(self, refused: GatewayCredentials) -> GatewayCredentials | None:
        return None

    def forget_refused(self) -> None:
        pass


class _Posts(Gateway):
    """The gateway for an execution environment."""

    timeout_seconds = 10.0

    def __init__(self, world: World, number: int) -> None:
        self._world, self._number = world, number

    def post_message(self, fields: Mapping[str, Any], credentials: GatewayCredentials, **_: Any) -> PostResult:
        world = self._world
        exchange, seconds, accepted = world.respond_to_post()
        world.posts += world.is_in_trouble
        environment = world.environments[self._number]
        environment.blind += world.is_in_trouble and not environment.knows
        if accepted:
            world.accepted[str(fields["reference"])] += 1
        world.time.sleep(seconds)
        result = classify(exchange, now=world.time.now)
        environment.knows = environment.knows or result.outcome is Outcome.UNKNOWN
        return result


class _Checks(Gateway):
    """The gateway for the health check."""

    timeout_seconds = 5.0

    def __init__(self, world: World) -> None:
        self._world = world

    def get_health(self) -> Exchange:
        return self._world.take(self._world.respond_to_healthz())

    def get_service_status(self) -> Exchange | None:
        return None

    def get_message(self, gateway_id: str, credentials: GatewayCredentials) -> Exchange:
        return self._world.take(self._world.respond_to_lookup())


class _Queues(Queues):
    def __init__(self, world: World) -> None:
        self._world = world

    def give_back(self, receipt_handle: str, *, seconds: int, lane: Lane) -> None:
        self._world.queue[receipt_handle].visible_at = self._world.time.now + seconds
        self._world.time.call(self._world.deliver, after=seconds)

    def dead_letter(self, letter: DeadLetter, *, now: float) -> None:
        self._world.dead_letters.append(letter)


class _Switch(QueueSwitch):
    def __init__(self, world: World) -> None:
        self._world = world
        self.on = True

    def lanes(self) -> dict[Lane, bool | None]:
        return dict.fromkeys(Lane, self.on)

    def pause(self, lanes: Iterable[Lane] = Lane) -> None:
        self._change(on=False)

    def resume(self, lanes: Iterable[Lane] = Lane) -> None:
        self._change(on=True)

    def _change(self, *, on: bool) -> None:
        self.on = on
        self._world.switched.append((self._world.time.now, on))
        self._world.time.call(partial(self._world.switch_to, on), after=SWITCH_SECONDS)


class _Metrics(SenderMetrics):
    """Metrics appear late, and the start is rounded down to a minute."""

    def __init__(self, world: World) -> None:
        self._world = world

    def between(self, start: float, end: float) -> Traffic:
        sums: Counter[Metric] = Counter()
        latest = min(end, self._world.time.now - self._world.scenario.metrics_late)
        for at, (metric, value) in self._world.measured:
            if start // MINUTE * MINUTE <= at <= latest:
                sums[metric] += round(value)
        return Traffic(
            sums[Metric.MESSAGES_ACCEPTED],
            sums[Metric.CREDENTIALS_REFUSED],
            sums[Metric.OUTCOMES_UNKNOWN],
            sums[Metric.GATEWAY_ERRORS],
        )


@dataclass(frozen=True)
class Figures:
    """The cost of a trouble. ``delivered_after``: minutes from its end until every message was delivered."""

    messages: int
    unknown: int
    allowed_unknown: int
    posts: int
    paused_minutes: float
    delivered_after: float
    most_receives: int


class World:
    """One scenario; use it as a context manager."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.time = VirtualTime()
        self.trouble_from = NOW + scenario.calm_minutes * MINUTE
        self.trouble_to = self.trouble_from + scenario.trouble_minutes * MINUTE
        self.queue: dict[str, Queued] = {}
        self.accepted: Counter[str] = Counter()
        self.dead_letters: list[DeadLetter] = []
        self.measured: list[tuple[float, Measurement]] = []
        self.switched: list[tuple[float, bool]] = []
        self.posts = 0
        self.lost_responses = 0
        self.messages = 0
        self.most_receives = 0
        self.delivers = True
        self.ledger = MemoryLedger()
        self.health = HealthRecords(self.ledger.table)
        self.switch = _Switch(self)
        self.reasons: Counter[PauseReason | None] = Counter()
        self.environments = [Environment(self._sender(number)) for number in range(scenario.environments)]
        self.checker = HealthChecker(
            _Checks(self), _Secret(self), self.health, self.switch, _Metrics(self), self.time.clock
        )

    def __enter__(self) -> Self:
        self._level = logger().log_level
        logger().setLevel(logging.CRITICAL)
        self._patch = mock.patch.object(send_message, "ThreadPoolExecutor", self.time.pool)
        self._patch.start()
        self.time.start("senders", self._queue_messages)
        self.time.start("checks", self._check, after=1.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.time.close()
        self._patch.stop()
        logger().setLevel(self._level)

    def run(self, *, hours: float = 6.0) -> Figures:
        """Run until every message is delivered or a dead letter, or so many hours after the trouble."""
        self.time.run_until(self.trouble_to)
        end = self.trouble_to + hours * HOUR
        self.time.run_until(end, is_over=lambda: not self.queue and self.time.now > self.trouble_to + MINUTE)
        unknown = sum(letter.reason is DeadLetterReason.UNKNOWN_OUTCOME for letter in self.dead_letters)
        return Figures(
            self.messages,
            unknown,
            self._allowed_unknown(),
            self.posts,
            self.paused_minutes(),
            (self.time.now - self.trouble_to) / MINUTE,
            self.most_receives,
        )

    def broken_promises(self, figures: Figures) -> list[str]:
        """Return the promises that the outage broke."""
        kept = {letter.message_id for letter in self.dead_letters}
        keys = {f"message-{number}" for number in range(1, self.messages + 1)}
        reasons = {letter.reason for letter in self.dead_letters} - {DeadLetterReason.UNKNOWN_OUTCOME}
        broken = {
            "messages are left in the queue": bool(self.queue),
            "lost": any(not self.accepted[key] for key in keys - kept),
            "sent twice": any(count > 1 for count in self.accepted.values()),
            f"dead letters: {reasons}": bool(reasons),
            "too many unknown outcomes": figures.unknown > figures.allowed_unknown,
            "delivered too late": figures.delivered_after > LONGEST_MINUTES,
        }
        return [promise for promise, is_broken in broken.items() if is_broken]

    def _allowed_unknown(self) -> int:
        """What each execution environment had on the wire before it learned of the trouble, and the probes."""
        if self.scenario.trouble not in (Trouble.TIMEOUTS, Trouble.HTTP_503):
            return 0
        blind = sum(environment.blind for environment in self.environments if environment.knows)
        return blind + probes_in(self.scenario.trouble_minutes * MINUTE)

    def paused_minutes(self) -> float:
        """Return the minutes for which sending was paused."""
        moments = [*self.switched, (self.time.now, True)]
        return sum((end - start) / MINUTE for (start, on), (end, _) in itertools.pairwise(moments) if not on)

    # The gateway

    @property
    def is_in_trouble(self) -> bool:
        return self.scenario.trouble is not None and self.trouble_from <= self.time.now < self.trouble_to

    def respond_to_post(self) -> tuple[Exchange, float, bool]:
        """The response, the seconds until it comes, and whether the gateway accepts the message."""
        if not self.is_in_trouble or self.scenario.trouble is Trouble.NO_SECRET:
            return answer(202, {"id": f"gw-{sum(self.accepted.values())}"}), 0.25, True
        assert self.scenario.trouble is not None
        exchange, seconds = _POSTS[self.scenario.trouble]
        is_unknown = exchange.handed_over and exchange.status in (None, 503)
        self.lost_responses += is_unknown
        return exchange, seconds, is_unknown and self.lost_responses % 2 == 0  # some are sent all the same

    def respond_to_healthz(self) -> Exchange:
        gateway_is_well = not self.is_in_trouble or self.scenario.trouble in (Trouble.HTTP_401, Trouble.NO_SECRET)
        match self.scenario.healthz:
            case Healthz.SILENT:
                return no_response("timed_out")
            case Healthz.RIGHT if not gateway_is_well and self._nothing_responds():
                return no_response("timed_out")
            case Healthz.RIGHT:
                return answer(200 if gateway_is_well else 503)
            case Healthz.WRONG:
                return answer(503 if gateway_is_well else 200)

    def respond_to_lookup(self) -> Exchange:
        if self.scenario.lookup is Lookup.NOT_OFFERED:
            return no_response("timed_out") if self.is_in_trouble and self._nothing_responds() else answer(404, NO_PATH)
        trouble = self.scenario.trouble
        if self.scenario.lookup is Lookup.FINE or not self.is_in_trouble or trouble in (None, Trouble.NO_SECRET):
            return answer(404, NO_MESSAGE)
        return _POSTS[trouble][0]

    def _nothing_responds(self) -> bool:
        return self.scenario.trouble in (Trouble.REFUSED, Trouble.TIMEOUTS, Trouble.NO_DNS)

    def take(self, exchange: Exchange) -> Exchange:
        """Let the time of a request of the health check pass."""
        self.time.sleep(5.0 if exchange.failure == "timed_out" else 0.25)
        return exchange

    # AWS

    def _sender(self, number: int) -> Sender:
        clock = self.time.clock
        owners = itertools.count(1)
        return Sender(
            ledger=self.ledger,
            messages=MemoryMessages(),
            opt_outs=MemoryOptOuts(),
            beside=at_once,
            queues=_Queues(self),
            gateway=_Posts(self, number),
            secret=_Secret(self),
            pacers=unpaced(clock),
            probing=Probing(Breaker(clock.monotonic), self.health, clock),
            clock=clock,
            random=random.Random(number),
            new_owner=lambda: f"owner-{number}-{next(owners)}",
        )

    def _queue_messages(self) -> None:
        while self.time.now < self.trouble_to:
            self.messages += 1
            key = f"message-{self.messages}"
            self.queue[f"receipt-{key}"] = Queued(key, self.time.now, self.time.now)
            self.deliver()
            self.time.sleep(MINUTE / self.scenario.per_minute)

    def _check(self) -> None:
        while True:
            began = self.time.now
            self.checker.check()
            pause = self.health.read().pause
            if pause and not self.switch.on:
                self.reasons[pause.reason] += 1
            self.time.sleep(MINUTE - (self.time.now - began))

    def switch_to(self, on: bool) -> None:
        """The mapping has changed, unless it was changed again meanwhile."""
        if self.switch.on is on:
            self.delivers = on
            self.deliver()

    def deliver(self) -> None:
        """Give visible messages to idle execution environments, the one that was idle longest first."""
        while self.delivers:
            idle = [environment for environment in self.environments if not environment.busy]
            if not idle:
                return
            now = self.time.now
            waiting = (m for m in self.queue.values() if m.visible_at <= now and not m.in_flight)
            visible = list(itertools.islice(waiting, BATCH))
            if not visible:
                return
            environment = min(idle, key=lambda one: one.free_since)
            environment.busy = True
            for message in visible:
                message.in_flight, message.receives = True, message.receives + 1
                self.most_receives = max(self.most_receives, message.receives)
            self.time.start("invocation", partial(self._invoke, environment, visible))

    def _invoke(self, environment: Environment, messages: list[Queued]) -> None:
        records = [
            QueueRecord.from_event(
                sqs_record(
                    message_body(message_id=message.key),
                    name=message.key,
                    receive_count=message.receives,
                    sent_at=message.sent_at,
                )
            )
            for message in messages
        ]
        result = environment.sender.send_batch(records, deadline=self.time.now + FUNCTION_SECONDS)
        self.measured += [(self.time.now, measurement) for measurement in result.measurements]
        for message, record in zip(messages, records, strict=True):
            message.in_flight = False
            if record.sqs_message_id not in result.failures:
                del self.queue[f"receipt-{message.key}"]
        environment.busy, environment.free_since = False, self.time.now
        self.deliver()


def probes_in(seconds: float) -> int:
    """The number of probes that the stack may send in so much time after an unknown outcome."""
    times = itertools.accumulate(itertools.chain(PROBES_AFTER_SECONDS, itertools.repeat(PROBE_SECONDS)))
    return sum(1 for _ in itertools.takewhile(lambda at: at < seconds, times))
