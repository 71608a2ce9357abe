"""Doubles of everything that the health check uses, and a world in which minutes pass between checks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optus_sms.aws.queue_switch import QueueSwitch
from optus_sms.aws.traffic import SenderMetrics, Traffic
from optus_sms.flows.check_health import HealthChecker
from optus_sms.flows.pausing import Thresholds
from optus_sms.gateway.api import Gateway
from optus_sms.gateway.credentials import GatewayCredentials, GatewaySecret
from optus_sms.gateway.transport import Exchange
from optus_sms.model.errors import CredentialsError
from optus_sms.model.lanes import Lane
from optus_sms.records.health import HealthRecords
from optus_sms.records.items import HealthRecord
from optus_sms.runtime.observability import Metric
from tests.support.fakes import FakeClock
from tests.support.memory_table import MemoryTable

NO_MESSAGE = {"message": "SMS Gateway Service V2 error", "statusCode": 404, "error": "No message matched"}
NO_PATH = {"message": "Not Found"}


def answer(status: int | None, body: object = b"", failure: str | None = None) -> Exchange:
    """Return a response of the gateway; a mapping becomes JSON."""
    raw = json.dumps(body).encode() if isinstance(body, Mapping) else body
    return Exchange(True, status, raw if isinstance(raw, bytes) else None, {}, failure, 0.25)


def no_response(failure: str = "connection_refused") -> Exchange:
    """Return the result of a refused connection."""
    return Exchange(False, failure=failure)


def service_status(status: str) -> Exchange:
    """Return the status API's response for restv2."""
    return answer(200, {"services": {"restv2": {"status": status}}})


@dataclass
class FakeGateway(Gateway):
    """A gateway whose responses are attributes. ``tried``: the credentials that it received."""

    health: Exchange = field(default_factory=lambda: answer(200))
    service: Exchange | None = None
    message: Exchange = field(default_factory=lambda: answer(404, NO_MESSAGE))
    valid: frozenset[str] | None = None
    """The accepted passwords; None accepts all."""
    tried: list[GatewayCredentials] = field(default_factory=list)

    def get_health(self) -> Exchange:
        return self.health

    def get_service_status(self) -> Exchange | None:
        return self.service

    def get_message(self, gateway_id: str, credentials: GatewayCredentials) -> Exchange:
        self.tried.append(credentials)
        if self.valid is not None and credentials.password not in self.valid:
            return answer(401, {"message": "Unauthorized"})
        return self.message


@dataclass
class FakeSecret(GatewaySecret):
    """A secret with the caching of `GatewaySecret`: read once, and again after it was refused."""

    stored: GatewayCredentials | Exception = field(default_factory=lambda: GatewayCredentials("app", "right", "v1"))
    _cached: GatewayCredentials | None = None
    _refused: GatewayCredentials | None = None

    def store(self, password: str, version: str) -> None:
        self.stored = GatewayCredentials("app", password, version)

    def break_(self) -> None:
        self.stored = CredentialsError("GatewaySecret still holds the placeholder")
        self._cached = None

    def current(self) -> GatewayCredentials:
        if self._cached is None:
            if isinstance(self.stored, Exception):
                raise self.stored
            self._cached = self.stored
        return self._cached

    def newer_than(self, refused: GatewayCredentials) -> GatewayCredentials | None:
        self._cached, self._refused = None, refused
        newer = self.current()
        return None if newer == refused else newer

    def forget_refused(self) -> None:
        if self._refused is not None and self._refused == self._cached:
            self._cached = None
        self._refused = None


class MemoryHealthRecords(HealthRecords):
    """The real records on a table in memory; tests may replace the record. ``writes``: those that succeeded."""

    def __init__(self) -> None:
        super().__init__(MemoryTable(key="pk"))
        self.writes = 0

    @property
    def record(self) -> HealthRecord:
        return self.read()

    @record.setter
    def record(self, record: HealthRecord) -> None:
        self._table.put(record.to_item())

    def write(self, record: HealthRecord, *, seen: HealthRecord) -> bool:
        written = super().write(record, seen=seen)
        self.writes += written
        return written


@dataclass
class FakeSwitch(QueueSwitch):
    """A switch of sending. ``on`` can be changed at any time; None is a state in between."""

    on: bool | None = True
    read_failure: Exception | None = None
    change_failure: Exception | None = None
    calls: list[str] = field(default_factory=list)

    own: dict[Lane, bool | None] = field(default_factory=dict)
    """The state of a lane that differs from ``on``."""

    def lanes(self) -> dict[Lane, bool | None]:
        if self.read_failure:
            raise self.read_failure
        return {lane: self.own.get(lane, self.on) for lane in Lane}

    def pause(self, lanes: Iterable[Lane] = Lane) -> None:
        self._change("pause", list(lanes), on=False)

    def resume(self, lanes: Iterable[Lane] = Lane) -> None:
        self._change("resume", list(lanes), on=True)

    def _change(self, call: str, lanes: list[Lane], *, on: bool) -> None:
        if self.change_failure:
            raise self.change_failure
        self.calls.append(call if len(lanes) == len(Lane) else f"{call} {' '.join(lanes)}")
        self.own |= dict.fromkeys(lanes, on)
        if {self.own.get(lane, self.on) for lane in Lane} == {on}:
            self.own, self.on = {}, on


@dataclass
class FakeSenderMetrics(SenderMetrics):
    """``traffic`` or an exception; ``at``: when it was, if not at all times; ``asked`` are the intervals."""

    traffic: Traffic | Exception = field(default_factory=lambda: Traffic(0, 0))
    at: float | None = None
    asked: list[tuple[float, float]] = field(default_factory=list)

    def between(self, start: float, end: float) -> Traffic:
        self.asked.append((start, end))
        if isinstance(self.traffic, Exception):
            raise self.traffic
        return self.traffic if self.at is None or start <= self.at <= end else Traffic(0, 0)


@dataclass
class World:
    """Everything around a checker; `minutes` lets checks happen, one a minute."""

    gateway: FakeGateway = field(default_factory=FakeGateway)
    secret: FakeSecret = field(default_factory=FakeSecret)
    store: MemoryHealthRecords = field(default_factory=MemoryHealthRecords)
    switch: FakeSwitch = field(default_factory=FakeSwitch)
    sender_metrics: FakeSenderMetrics = field(default_factory=FakeSenderMetrics)
    clock: FakeClock = field(default_factory=FakeClock)
    thresholds: Thresholds = field(default_factory=Thresholds)
    pause_on_outage: bool = True
    results: list[Mapping[str, Any]] = field(default_factory=list)
    metrics: list[dict[Metric, float]] = field(default_factory=list)

    @property
    def record(self) -> HealthRecord:
        return self.store.record

    def minutes(self, count: int) -> HealthRecord:
        for _ in range(count):
            checker = HealthChecker(
                self.gateway,
                self.secret,
                self.store,
                self.switch,
                self.sender_metrics,
                self.clock.clock,
                self.thresholds,
                self.pause_on_outage,
            )
            result, measurements = checker.check()
            self.results.append(result)
            self.metrics.append(dict(measurements))
            self.clock.advance(60)
        return self.record

    def healthy(self) -> World:
        self.minutes(2)
        return self

    def go_down(self) -> None:
        self.gateway.health = self.gateway.message = no_response()

    def come_back(self) -> None:
        self.gateway.health, self.gateway.message = answer(200), answer(404, NO_MESSAGE)
