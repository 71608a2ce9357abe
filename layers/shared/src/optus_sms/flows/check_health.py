"""Check the gateway and its credentials every minute, and pause or resume sending (docs/outages.md).

A check makes its requests. Two pure functions, `note` and `decide`, judge the results. One write stores the record,
then sending is paused or resumed, and another write records that as done. A result that proves nothing is unknown.
Unknown never counts as down: it neither makes the gateway unhealthy nor pauses sending.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from optus_sms.flows.pausing import (
    Action,
    Admission,
    Thresholds,
    Trial,
    decide,
    decide_for_all,
    failing_since,
    see_lanes,
)
from optus_sms.gateway.api import is_from_api, json_object
from optus_sms.model.errors import CredentialsError
from optus_sms.model.lanes import Lane
from optus_sms.model.times import Clock, format_rfc3339, time_or_none
from optus_sms.records.health import HealthRecords
from optus_sms.records.items import Health, HealthRecord, Hold
from optus_sms.runtime.observability import Measurement, Metric, error_fields, logger

if TYPE_CHECKING:
    from optus_sms.aws.queue_switch import QueueSwitch
    from optus_sms.aws.traffic import SenderMetrics, Traffic
    from optus_sms.gateway.api import Gateway
    from optus_sms.gateway.credentials import GatewaySecret
    from optus_sms.gateway.transport import Exchange

QUIET_SECONDS: Final = 300  # if nothing was accepted in this time or since the failures began, sending fails


class Observation(NamedTuple):
    """The gateway's health as one check found it, and the reason."""

    health: Health
    reason: str


def judge_health(response: Exchange) -> Observation | None:
    """Judge the response to `GET /healthz` (gateway-rest-v2.txt): HTTP 200 is healthy.

    None: this gateway does not offer the check, which proves nothing about sending. Then the status API decides.
    """
    status = response.status
    if status is None:
        return Observation(Health.UNHEALTHY, response.failure or "no response")
    if status == 200:
        return Observation(Health.HEALTHY, "ok")
    if status >= 500:
        return Observation(Health.UNHEALTHY, f"HTTP {status}")
    if status in (408, 429):
        return Observation(Health.UNKNOWN, f"not checked: HTTP {status}")
    return None


def judge_service_status(response: Exchange | None) -> Observation:
    """Judge the response of the Health Monitoring API: ``{"services": {"restv2": {"status": "available"}}}``.

    The status can also be `unavailable` or `unknown`. A failure of the API itself (HTTP 503, no response, another body)
    proves nothing about the gateway.
    """
    if response is None:
        return Observation(Health.UNKNOWN, "no health check offered")
    if response.status != 200:
        return Observation(
            Health.UNKNOWN, f"service status not known ({response.failure or f'HTTP {response.status}'})"
        )
    states = _service_states(response.body)
    if "unavailable" in states:
        return Observation(Health.UNHEALTHY, "service status: unavailable")
    if states == {"available"}:
        return Observation(Health.HEALTHY, "service status: available")
    return Observation(Health.UNKNOWN, "service status: unknown")


def judge_credentials(response: Exchange) -> Admission:
    """Judge the response to `GET /messages?id=` with a random ID: HTTP 404 means that they are accepted.

    The API's own errors have ``statusCode``. A 404 without it comes from a proxy in front of it and proves nothing.
    """
    if response.status in (401, 403) and is_from_api(response):
        return Admission.REFUSED
    if response.status == 200 or (response.status == 404 and is_from_api(response)):
        return Admission.ACCEPTED
    return Admission.REFUSED_IN_FRONT if response.status in (400, 401, 403, 413, 422) else Admission.UNKNOWN


def judge_response(response: Exchange) -> bool | None:
    """Judge whether the API itself responds: False for HTTP 5xx or no response, None if that is not known."""
    if response.status is None or (response.status >= 500 and response.status != 501):
        return False  # 501: look-ups are not offered, which proves nothing about POSTs
    return True if judge_credentials(response) in (Admission.ACCEPTED, Admission.REFUSED) else None


def weigh(own: Observation | None, seen: Observation, trial: Trial) -> Observation:
    """Weigh what the monitors report against the response to `GET /messages?id=`.

    ``own``: the result of `GET /healthz`; ``seen``: that result or, without one, the status API's.
    A gateway whose API responds is not down. If neither request reached the API, no message does: that is an outage,
    whatever the status API reports.
    """
    if seen.health is Health.UNHEALTHY and trial.responds:
        return Observation(Health.UNKNOWN, f"{seen.reason}, but the API responds")
    if own is None and trial.admission is Admission.REFUSED_IN_FRONT:
        return Observation(Health.UNHEALTHY, f"refused in front of the API: {trial.reason}")
    return seen


def note(before: HealthRecord, seen: Observation, trial: Trial, *, now: float, thresholds: Thresholds) -> HealthRecord:
    """Return the record after one check. The state changes only after several checks in a row.

    An unknown check is neither healthy nor unhealthy. A series of either ends only after enough unknown checks.
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
    return before._replace(
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
        tried_version=trial.version,
        refused_checks=refused,
        refused_since=(before.refused_since or int(now)) if refused else 0,
    )


@dataclass(frozen=True)
class HealthChecker:
    """One per execution environment."""

    gateway: Gateway
    secret: GatewaySecret
    store: HealthRecords
    switch: QueueSwitch
    sender_metrics: SenderMetrics
    clock: Clock = field(default_factory=Clock)
    thresholds: Thresholds = field(default_factory=Thresholds)
    pause_on_outage: bool = True
    seconds_between_checks: int = 30  # a check sooner after the last one does not count
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())

    def check(self) -> tuple[Mapping[str, Any], tuple[Measurement, ...]]:
        """Request, judge, store, act and log; return the result for the caller and the metrics to publish."""
        response = self.gateway.get_health()
        own, trial = judge_health(response), self._try_credentials()
        seen = weigh(own, own or judge_service_status(self.gateway.get_service_status()), trial)
        lanes = self._lanes()  # read before the record, because every change of a lane is recorded before it is made
        before, now = self.store.read(), self.clock.now()
        if self._is_too_soon(before, now):
            return {"state": before.state.value, "skipped": True}, ()
        noted = note(before, seen, trial, now=now, thresholds=self.thresholds)
        noted, is_on = see_lanes(noted, lanes)
        action, after = decide(
            noted,
            trial,
            is_on=is_on,
            traffic=self._traffic(noted, now, is_on=is_on),
            pause_on_outage=self.pause_on_outage,
            thresholds=self.thresholds,
            now=now,
        )
        action, after = decide_for_all(action, after, lanes)
        # The decision is recorded before sending is changed: after a crash in between, the next check makes the change.
        # If an operator's command came first, the record is refused and nothing is changed.
        if not self.store.write(after, seen=before):
            logger().warning("lost the race to another health check or an operator")
            return {"state": before.state.value, "skipped": True}, ()
        if action is not Action.LEAVE and not self._change(action, after):
            action = Action.LEAVE
        elif action is Action.LEAVE and any(lanes[lane] and after.hold(lane) is Hold.RECORDED for lane in Lane):
            self._set(after, is_on=bool(is_on), failure="lane not paused")  # the operator's command was interrupted
        self._log(before, after, trial, action)
        is_on = {Action.PAUSE: False, Action.RESUME: True}.get(action, is_on)
        paused_lanes = _paused_lanes(after, is_on=is_on)
        result = {
            "state": after.state.value,
            "reason": after.reason,
            "seen": seen.health.value,
            "seen_reason": seen.reason,
            "credentials": trial.admission.value,
            "paused": None if is_on is None else not is_on,
            "paused_by": after.pause.by.value if after.pause else None,
            "paused_lanes": paused_lanes,
            "milliseconds": round(response.seconds * 1000),
        }
        return result, _measurements(response, after, trial, paused_lanes=paused_lanes)

    def _try_credentials(self) -> Trial:
        """Try the credentials without sending a message: request one that does not exist."""
        try:
            self.secret.forget_refused()
            credentials = self.secret.current()
            response = self.gateway.get_message(self.new_id(), credentials)
            is_refused = judge_credentials(response) is Admission.REFUSED
            if is_refused and (newer := self.secret.newer_than(credentials)) is not None:
                credentials = newer
                response = self.gateway.get_message(self.new_id(), credentials)
        except Exception as error:  # noqa: BLE001 - without a usable secret no message can be sent
            logger().warning("credentials not usable", extra=error_fields(error))
            is_unusable = isinstance(error, CredentialsError)
            return Trial(Admission.REFUSED, str(error) if is_unusable else "GatewaySecret can't be read")
        admission = judge_credentials(response)
        reason = "the gateway refused them" if admission is Admission.REFUSED else f"status {response.status}"
        return Trial(admission, reason, credentials.version, judge_response(response))

    def _is_too_soon(self, before: HealthRecord, now: float) -> bool:
        """Return whether the last check was just now: a series of checks proves something only if time passes."""
        checked_at = time_or_none(before.checked_at)
        return checked_at is not None and 0 <= now - checked_at < self.seconds_between_checks

    def _change(self, action: Action, recorded: HealthRecord) -> bool:
        """Pause or resume, and record that as done; return whether it was done."""
        is_on = action is Action.RESUME
        return self._set(recorded, is_on=is_on, failure="sending not resumed" if is_on else "sending not paused")

    def _set(self, recorded: HealthRecord, *, is_on: bool, failure: str) -> bool:
        """Pause and resume the lanes as recorded, and record that as done.

        If that record is refused, an operator gave a command in between, perhaps before this change. The operator's
        command is then carried out again, so that it wins.
        """
        on = recorded.free if is_on else ()
        if not self._done(partial(self._turn_on, on), failure):
            return False
        pause = recorded.pause and recorded.pause._replace(confirmed=True)
        if self.store.write(recorded._replace(pause=pause, resuming=False), seen=recorded):
            return True
        found = self.store.read()
        wanted = found.free if found.pause is None or found.pause.probing else ()
        if wanted == on:
            return True
        self._done(partial(self._turn_on, wanted), "an operator's command not done again")
        return False

    def _turn_on(self, lanes: Collection[Lane]) -> None:
        """Resume these lanes, and pause the others."""
        for act, those in (
            (self.switch.resume, list(lanes)),
            (self.switch.pause, [lane for lane in Lane if lane not in lanes]),
        ):
            if those:
                act(those)

    def _lanes(self) -> Mapping[Lane, bool | None]:
        try:
            return self.switch.lanes()
        except Exception as error:  # noqa: BLE001 - the state is unknown, and nothing is changed
            logger().warning("event source mappings not read", extra=error_fields(error))
            return dict.fromkeys(Lane)

    def _traffic(self, record: HealthRecord, now: float, *, is_on: bool | None) -> Traffic | None:
        """Return the traffic since the failures began; None if no pause depends on it or it is unknown."""
        start = failing_since(record, self.thresholds, now)
        if not 0 < start <= now or not is_on or record.pause or not self.pause_on_outage:
            return None
        try:
            return self.sender_metrics.between(max(start, now - QUIET_SECONDS), now)
        except Exception as error:  # noqa: BLE001 - unknown traffic is no reason to pause
            logger().warning("traffic not known", extra=error_fields(error))
            return None

    @staticmethod
    def _done(act: Callable[[], None], failure: str) -> bool:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the next check retries
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
            logger().warning("sending paused", extra={"reason": after.pause.reason or after.pause.by})
        if action is Action.RESUME:
            paused_at = before.pause.at if before.pause else ""
            logger().warning("sending resumed", extra={"paused_at": paused_at, "probing": after.pause is not None})
        if action is Action.LEAVE and after.messages_decide_since > before.messages_decide_since:
            logger().warning("an operator resumed sending by hand; it is paused again if messages fail")


def _measurements(
    response: Exchange, record: HealthRecord, trial: Trial, *, paused_lanes: list[Lane] | None
) -> tuple[Measurement, ...]:
    measurements: list[Measurement] = [(Metric.HEALTH_CHECKS, 1.0)]
    if record.state is not Health.UNKNOWN:
        measurements.append((Metric.GATEWAY_HEALTHY, 1.0 if record.state is Health.HEALTHY else 0.0))
    if response.status is not None:
        measurements.append((Metric.GATEWAY_LATENCY, response.seconds * 1000))
    if paused_lanes is not None:
        measurements.append((Metric.SENDING_PAUSED, 1.0 if paused_lanes else 0.0))
    if trial.admission is Admission.REFUSED:
        measurements.append((Metric.CREDENTIALS_REFUSED, 1.0))
    return tuple(measurements)


def _paused_lanes(record: HealthRecord, *, is_on: bool | None) -> list[Lane] | None:
    """Return the lanes that send nothing; None if that is unknown."""
    if is_on is None:
        return None
    is_flowing = is_on and not (record.pause and record.pause.probing)
    return [lane for lane in Lane if not is_flowing or lane not in record.free]


def _service_states(body: bytes | None) -> set[str]:
    services = json_object(body).get("services")
    if not isinstance(services, dict):
        return set()
    return {str(service.get("status")) if isinstance(service, dict) else "unknown" for service in services.values()}
