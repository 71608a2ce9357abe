"""Is the gateway there, does it take our credentials, and should messages flow? Asked every minute (docs/outages.md).

One check observes, `note` and `decide` judge (both pure), one write remembers, and the queue is paused or resumed. What
can't be asked is unknown, and unknown is never down: it neither makes the gateway unhealthy nor pauses the queue.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any, Final

from optus_sms.gateway.api import is_from_api, json_object
from optus_sms.model.errors import CredentialsError
from optus_sms.model.times import Clock, format_rfc3339
from optus_sms.records.health import HealthRecords
from optus_sms.records.items import Health, HealthRecord, Pause, PauseReason
from optus_sms.runtime.observability import Measurement, Metric, error_fields, logger

if TYPE_CHECKING:
    from optus_sms.aws.queue_switch import QueueSwitch
    from optus_sms.aws.traffic import SenderMetrics, Traffic
    from optus_sms.gateway.api import Gateway
    from optus_sms.gateway.credentials import GatewaySecret
    from optus_sms.gateway.transport import Exchange

QUIET_SECONDS: Final = 300  # nothing accepted for so long, or since the failures began, means that nothing gets through


@dataclass(frozen=True, slots=True)
class Thresholds:
    """After how many checks in a row the state changes."""

    unhealthy_after: int = 3
    healthy_after: int = 2
    unknown_after: int = 3


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of one look at the gateway, and why."""

    health: Health
    reason: str


class Admission(StrEnum):
    """What the gateway says to our credentials."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    REFUSED_IN_FRONT = "refused_in_front"  # by a proxy or firewall, which says nothing of the credentials
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of the credentials. ``version``: the secret's version id; empty if it has no usable credentials."""

    admission: Admission
    reason: str = ""
    version: str = ""


class Action(StrEnum):
    """What to do with the queue."""

    LEAVE = auto()
    PAUSE = auto()
    RESUME = auto()


def judge_health(response: Exchange) -> Observation | None:
    """`GET /healthz` (gateway-rest-v2.txt): 200 is healthy. None: this gateway offers no such check to us, which says
    nothing of its messages, so the status service has to be asked.
    """
    status = response.status
    if status is None:
        return Observation(Health.UNHEALTHY, response.failure or "no answer")
    if status == 200:
        return Observation(Health.HEALTHY, "ok")
    if status >= 500:
        return Observation(Health.UNHEALTHY, f"status {status}")
    if status in (408, 429):
        return Observation(Health.UNKNOWN, f"not checked: status {status}")
    return None


def judge_service_status(response: Exchange | None) -> Observation:
    """The Health Monitoring API of the platform: ``{"services": {"restv2": {"status": "available"}}}``, or
    `unavailable`, or `unknown`. Its own failure (503, no response, another form) says nothing of the gateway.
    """
    if response is None:
        return Observation(Health.UNKNOWN, "no health check offered")
    if response.status != 200:
        return Observation(
            Health.UNKNOWN, f"service status not known ({response.failure or f'status {response.status}'})"
        )
    states = _service_states(response.body)
    if "unavailable" in states:
        return Observation(Health.UNHEALTHY, "service status: unavailable")
    if states == {"available"}:
        return Observation(Health.HEALTHY, "service status: available")
    return Observation(Health.UNKNOWN, "service status: unknown")


def judge_credentials(response: Exchange) -> Admission:
    """`GET /messages?id=` of an id that no message has: 404 comes only after the credentials were accepted.

    A 404 without a word of the API's own (its errors have ``statusCode``) comes from in front of it and proves nothing.
    """
    if response.status in (401, 403) and is_from_api(response):
        return Admission.REFUSED
    if response.status == 200 or (response.status == 404 and is_from_api(response)):
        return Admission.ACCEPTED
    return Admission.REFUSED_IN_FRONT if response.status in (400, 401, 403, 413, 422) else Admission.UNKNOWN


def note(before: HealthRecord, seen: Observation, trial: Trial, *, now: float, thresholds: Thresholds) -> HealthRecord:
    """The record after one check. The state changes only after several checks in a row; unknown ones don't count as
    either kind, and don't interrupt a row, until they are a row themselves.
    """
    good, bad, unknown = before.good_checks, before.bad_checks, before.unknown_checks
    match seen.health:
        case Health.HEALTHY:
            good, bad, unknown = good + 1, 0, 0
        case Health.UNHEALTHY:
            good, bad, unknown = 0, bad + 1, 0
        case Health.UNKNOWN:
            unknown += 1
    state = before.state
    if good >= thresholds.healthy_after:
        state = Health.HEALTHY
    if bad >= thresholds.unhealthy_after:
        state = Health.UNHEALTHY
    if unknown >= thresholds.unknown_after:
        state, good, bad = Health.UNKNOWN, 0, 0
    refused = {Admission.ACCEPTED: 0, Admission.REFUSED: before.refused_checks + 1}.get(
        trial.admission, before.refused_checks
    )
    changed = state is not before.state or before.checks == 0
    return replace(
        before,
        state=state,
        reason=seen.reason if changed or seen.health is state else before.reason,
        since=format_rfc3339(now) if changed else before.since,
        checked_at=format_rfc3339(now),
        checks=before.checks + 1,
        good_checks=good,
        bad_checks=bad,
        unknown_checks=unknown,
        failing_since=(before.failing_since or int(now)) if bad else 0,
        credentials=trial.admission.value,
        refused_checks=refused,
        refused_since=(before.refused_since or int(now)) if refused else 0,
    )


def failing_since(record: HealthRecord, thresholds: Thresholds) -> int:
    """Since when (epoch seconds) there is a reason to think of a pause; 0 if there is none."""
    if record.state is Health.UNHEALTHY:
        return record.failing_since
    return record.refused_since if record.refused_checks >= thresholds.unhealthy_after else 0


def decide(
    record: HealthRecord,
    trial: Trial,
    *,
    is_on: bool | None,
    traffic: Traffic | None,
    pause_on_outage: bool,
    thresholds: Thresholds,
) -> tuple[Action, HealthRecord]:
    """Whether to pause or resume, and the record with that in it.

    Only the health check's own pause is ever ended. A queue that it did not pause was paused by an operator. One that
    flows although it was paused was resumed by an operator, and is left alone until the trouble is over.
    """
    if is_on is None:
        return Action.LEAVE, record
    if record.pause is None:
        return _decide_to_pause(record, trial, is_on, traffic if pause_on_outage else None, thresholds)
    if not pause_on_outage or _is_over(record.pause, record, trial):
        return Action.LEAVE if is_on else Action.RESUME, replace(record, pause=None)
    if not is_on:
        return Action.LEAVE, replace(record, pause=replace(record.pause, confirmed=True))
    if record.pause.confirmed:
        return Action.LEAVE, replace(record, pause=None, resumed_by_operator=True)
    return Action.PAUSE, record  # the last check meant to, but did not get to it


def _decide_to_pause(
    record: HealthRecord, trial: Trial, is_on: bool, traffic: Traffic | None, thresholds: Thresholds
) -> tuple[Action, HealthRecord]:
    if record.resumed_by_operator:
        is_calm = record.state is Health.HEALTHY and record.refused_checks == 0
        return Action.LEAVE, replace(record, resumed_by_operator=not is_calm)
    if not is_on or traffic is None or traffic.accepted > 0:
        return Action.LEAVE, record
    if record.state is Health.UNHEALTHY:
        reason = PauseReason.OUTAGE
    elif record.refused_checks >= thresholds.unhealthy_after and traffic.refused > 0:
        reason = PauseReason.CREDENTIALS_REFUSED
    else:
        return Action.LEAVE, record
    return Action.PAUSE, replace(record, pause=Pause(record.checked_at, reason, False, trial.version))


def _is_over(pause: Pause, record: HealthRecord, trial: Trial) -> bool:
    """An outage is over when the state is no longer unhealthy: an unknown state is no reason to hold messages back.
    Refused credentials are over when they are accepted, or when there are new ones, which only a message can try if the
    gateway refuses `GET /messages`.
    """
    if pause.reason is PauseReason.OUTAGE:
        return record.state is not Health.UNHEALTHY
    is_new = trial.version not in ("", pause.credentials_version)
    return trial.admission is Admission.ACCEPTED or is_new


@dataclass(frozen=True)
class HealthChecker:
    """One per sandbox."""

    gateway: Gateway
    secret: GatewaySecret
    store: HealthRecords
    switch: QueueSwitch
    sender_metrics: SenderMetrics
    clock: Clock = field(default_factory=Clock)
    thresholds: Thresholds = field(default_factory=Thresholds)
    pause_on_outage: bool = True
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())

    def check(self) -> tuple[Mapping[str, Any], tuple[Measurement, ...]]:
        """Look, judge, remember, act, and report: the result for the caller, and what to publish."""
        response = self.gateway.get_health()
        own = judge_health(response)
        seen = own or judge_service_status(self.gateway.get_service_status())
        trial = Trial(Admission.UNKNOWN) if seen.health is Health.UNHEALTHY else self._try_credentials()
        if own is None and trial.admission is Admission.REFUSED_IN_FRONT:
            # Neither request got through to the API, so no message does: an outage, whoever else is well.
            seen = Observation(Health.UNHEALTHY, f"refused in front of the API: status {response.status}")
        is_on = self._is_on()
        before = self.store.read()
        noted = note(before, seen, trial, now=self.clock.now(), thresholds=self.thresholds)
        action, after = decide(
            noted,
            trial,
            is_on=is_on,
            traffic=self._traffic(noted, is_on=is_on),
            pause_on_outage=self.pause_on_outage,
            thresholds=self.thresholds,
        )
        # In this order a crash between the two leaves a pause that is known to be the health check's, never one that
        # looks like an operator's and would last for ever.
        if action is Action.RESUME and not self._done(self.switch.resume, "queue not resumed"):
            action, after = Action.LEAVE, noted
        if not self.store.write(after, seen=before):
            logger().warning("lost the race to another health check")
            return {"state": before.state.value, "skipped": True}, ()
        if action is Action.PAUSE and not self._done(self.switch.pause, "queue not paused"):
            action = Action.LEAVE
        self._log(before, after, trial, action)
        is_on = {Action.PAUSE: False, Action.RESUME: True}.get(action, is_on)
        result = {
            "state": after.state.value,
            "reason": after.reason,
            "seen": seen.health.value,
            "seen_reason": seen.reason,
            "credentials": trial.admission.value,
            "paused": None if is_on is None else not is_on,
            "paused_by": "health" if after.pause else None,
            "milliseconds": round(response.seconds * 1000),
        }
        return result, _measurements(response, after, trial, is_on=is_on)

    def _try_credentials(self) -> Trial:
        """Without sending anything: ask for a message that does not exist."""
        try:
            self.secret.forget_refused()
            credentials = self.secret.current()
            admission = judge_credentials(self.gateway.get_message(self.new_id(), credentials))
            if admission is Admission.REFUSED and (newer := self.secret.newer_than(credentials)) is not None:
                credentials = newer
                admission = judge_credentials(self.gateway.get_message(self.new_id(), credentials))
        except CredentialsError as error:
            return Trial(Admission.REFUSED, str(error))
        except Exception as error:  # noqa: BLE001 - without the secret no message can be sent
            logger().warning("credentials not read", extra=error_fields(error))
            return Trial(Admission.REFUSED, "GatewaySecret can't be read")
        reason = "the gateway refused them" if admission is Admission.REFUSED else ""
        return Trial(admission, reason, credentials.version)

    def _is_on(self) -> bool | None:
        try:
            return self.switch.is_on()
        except Exception as error:  # noqa: BLE001 - then the queue is left as it is
            logger().warning("event source mapping not read", extra=error_fields(error))
            return None

    def _traffic(self, record: HealthRecord, *, is_on: bool | None) -> Traffic | None:
        """What got through since the failures began, asked only when a pause hangs on it."""
        start = failing_since(record, self.thresholds)
        if not start or not is_on or record.pause or record.resumed_by_operator or not self.pause_on_outage:
            return None
        now = self.clock.now()
        try:
            return self.sender_metrics.between(max(start, now - QUIET_SECONDS), now)
        except Exception as error:  # noqa: BLE001 - not knowing is no reason to pause
            logger().warning("traffic not known", extra=error_fields(error))
            return None

    @staticmethod
    def _done(act: Callable[[], None], failure: str) -> bool:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the next check tries again
            logger().error(failure, extra=error_fields(error))
            return False
        return True

    @staticmethod
    def _log(before: HealthRecord, after: HealthRecord, trial: Trial, action: Action) -> None:
        if before.state is not after.state:
            change = {"state": after.state.value, "before": before.state.value, "reason": after.reason}
            logger().warning("gateway health changed", extra=change)
        if trial.admission is Admission.REFUSED:
            logger().error("credentials refused", extra={"reason": trial.reason})
        if action is Action.PAUSE and after.pause:
            logger().warning("sending paused", extra={"reason": after.pause.reason.value})
        if action is Action.RESUME and before.pause:
            logger().warning("sending resumed", extra={"paused_at": before.pause.at})
        if after.resumed_by_operator and not before.resumed_by_operator:
            logger().warning("an operator has resumed sending; it is not paused again before all is well")


def _measurements(
    response: Exchange, record: HealthRecord, trial: Trial, *, is_on: bool | None
) -> tuple[Measurement, ...]:
    measurements: list[Measurement] = [(Metric.HEALTH_CHECKS, 1.0)]
    if record.state is not Health.UNKNOWN:
        measurements.append((Metric.GATEWAY_HEALTHY, 1.0 if record.state is Health.HEALTHY else 0.0))
    if response.status is not None:
        measurements.append((Metric.GATEWAY_LATENCY, response.seconds * 1000))
    if is_on is not None:
        measurements.append((Metric.SENDING_PAUSED, 0.0 if is_on else 1.0))
    if trial.admission is Admission.REFUSED:
        measurements.append((Metric.CREDENTIALS_REFUSED, 1.0))
    return tuple(measurements)


def _service_states(body: bytes | None) -> set[str]:
    services = json_object(body).get("services")
    if not isinstance(services, dict):
        return set()
    return {str(service.get("status")) if isinstance(service, dict) else "unknown" for service in services.values()}
