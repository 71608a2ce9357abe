"""Who pauses sending, and who ends a pause: the health check's decision, as a pure function (docs/outages.md)."""

from __future__ import annotations

from enum import StrEnum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from optus_sms.model.lanes import Lane
from optus_sms.model.times import time_or_none
from optus_sms.records.items import Doubt, Health, HealthRecord, Hold, Pause, PauseReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optus_sms.aws.traffic import Traffic

PROBE_PAUSE_SECONDS: Final = 600  # after so long, one message probes a pause whose reason nothing else can test
DOUBT_SECONDS: Final = 180  # only unknown outcomes for so long, and so many failed probes: a reason to pause
FAILED_PROBES: Final = 2


class Thresholds(NamedTuple):
    """The numbers of checks in a row that change the state."""

    unhealthy_after: int = 3
    healthy_after: int = 2
    unknown_after: int = 3


class Admission(StrEnum):
    """Whether the gateway accepts the credentials."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    REFUSED_IN_FRONT = "refused_in_front"  # by a proxy or firewall, which proves nothing about the credentials
    UNKNOWN = "unknown"


class Trial(NamedTuple):
    """One trial of the credentials. ``version``: the secret's version ID; empty if they are unusable.

    ``responds``: True if the API itself responded, so the gateway is not down; False for HTTP 5xx or no response; None
    if that is not known.
    """

    admission: Admission
    reason: str = ""
    version: str = ""
    responds: bool | None = None


class Action(StrEnum):
    """What to do about sending."""

    LEAVE = auto()
    PAUSE = auto()
    RESUME = auto()


def failing_since(record: HealthRecord, thresholds: Thresholds, now: float) -> int:
    """Return the time since which failing messages are a reason to pause (epoch seconds); 0 if they are no reason."""
    if not _is_in_trouble(record, thresholds, now):
        return 0
    since = record.doubt.since if record.doubt else 0
    if record.refused_checks >= thresholds.unhealthy_after:
        since = record.refused_since
    if record.state is Health.UNHEALTHY:
        since = record.failing_since
    return max(since, record.messages_decide_since)


def _is_in_trouble(record: HealthRecord, thresholds: Thresholds, now: float) -> bool:
    is_refused = record.refused_checks >= thresholds.unhealthy_after
    is_doubted = record.doubt is not None and _is_lasting(record.doubt, now)
    return record.state is Health.UNHEALTHY or is_refused or is_doubted


def see_lanes(record: HealthRecord, lanes: Mapping[Lane, bool | None]) -> tuple[HealthRecord, bool | None]:
    """Return the record, updated with the pauses of single lanes, and whether sending is on in the other lanes.

    ``lanes``: whether each is on; None: another state. A lane that was paused or resumed by hand counts as an
    operator's decision. During a pause of both lanes, and until it has ended, a change of one lane does not count:
    sending is on only when both lanes are.
    """
    for lane, is_lane_on in lanes.items():
        if record.hold(lane) is Hold.RECORDED and is_lane_on is False:
            record = record.with_hold(lane, Hold.CONFIRMED)
        elif record.hold(lane) is Hold.CONFIRMED and is_lane_on:
            record = record.with_hold(lane, Hold.NONE)
    free = {lane: lanes[lane] for lane in record.free or Lane}
    if None in free.values():
        return record, None
    if any(free.values()) and record.pause is None and not record.resuming:
        for lane in (lane for lane, is_lane_on in free.items() if not is_lane_on):
            record = record.with_hold(lane, Hold.CONFIRMED)
        return record, True
    return record, all(free.values())


def decide_for_all(
    action: Action, record: HealthRecord, lanes: Mapping[Lane, bool | None]
) -> tuple[Action, HealthRecord]:
    """Pause a lane that is still on in a pause of both: a deployment just made it, or the pause was interrupted."""
    is_one_on = any(lanes[lane] for lane in record.free) and not all(lanes[lane] for lane in record.free)
    if action is Action.LEAVE and is_one_on and record.pause and not record.pause.probing:
        return Action.PAUSE, record._replace(pause=record.pause._replace(confirmed=False))
    return action, record


def decide(
    record: HealthRecord,
    trial: Trial,
    *,
    is_on: bool | None,
    traffic: Traffic | None,
    pause_on_outage: bool,
    thresholds: Thresholds,
    now: float,
) -> tuple[Action, HealthRecord]:
    """Decide whether to pause or resume sending, and return the record with that decision.

    The record is written before sending is changed. So a check first completes a change that was recorded and not made.
    It ends only the health check's own pause; any other pause is an operator's. If sending is on although an earlier
    check saw it paused, an operator resumed it by hand. From then on messages decide: the health check pauses again if
    they fail.
    """
    if is_on is None:
        return Action.LEAVE, record
    if not _is_in_trouble(record, thresholds, now):
        record = record._replace(messages_decide_since=0)
    if record.pause is None and is_on:
        traffic = traffic if pause_on_outage else None
        return _decide_to_pause(record._replace(resuming=False), trial, traffic, thresholds, now)
    if record.pause is None:
        return (Action.RESUME, record) if record.resuming else (Action.LEAVE, _paused_by_hand(record))
    if record.pause.reason is not None:
        if not pause_on_outage or _is_over(record.pause, record, trial):
            return _resume(record, is_on, now)
        if record.pause.probing or (not is_on and _may_probe(record.pause, record, trial, now)):
            return _decide_by_probe(record, record.pause, trial, is_on, now)
    return _keep(record, record.pause, is_on, now)


def _paused_by_hand(record: HealthRecord) -> HealthRecord:
    return record._replace(pause=Pause(record.checked_at, None, confirmed=True))


def _keep(record: HealthRecord, pause: Pause, is_on: bool, now: float) -> tuple[Action, HealthRecord]:
    if not is_on:
        return Action.LEAVE, record._replace(pause=pause._replace(confirmed=True))
    if pause.confirmed:
        return Action.LEAVE, record._replace(pause=None, messages_decide_since=int(now))
    return Action.PAUSE, record  # the pause was recorded, but not made


def _resume(record: HealthRecord, is_on: bool, now: float) -> tuple[Action, HealthRecord]:
    """Resume sending. One message goes first, as a probe, because messages can fail although the checks succeed."""
    if is_on:
        return Action.LEAVE, record._replace(pause=None)
    doubt = record.doubt or Doubt(int(now), 0, int(now))
    return Action.RESUME, record._replace(pause=None, resuming=True, doubt=doubt)


def _decide_to_pause(
    record: HealthRecord, trial: Trial, traffic: Traffic | None, thresholds: Thresholds, now: float
) -> tuple[Action, HealthRecord]:
    if traffic is None or traffic.accepted > 0:
        return Action.LEAVE, record
    reason = _reason_to_pause(record, traffic, thresholds, now)
    if reason is None:
        return Action.LEAVE, record
    return Action.PAUSE, record._replace(pause=Pause(record.checked_at, reason, False, trial.version))


def _reason_to_pause(record: HealthRecord, traffic: Traffic, thresholds: Thresholds, now: float) -> PauseReason | None:
    """Return why to pause, if the gateway accepts nothing."""
    messages_fail = traffic.failed > 0 or traffic.refused > 0
    if record.state is Health.UNHEALTHY and (messages_fail or not record.messages_decide_since):
        return PauseReason.OUTAGE
    if record.refused_checks >= thresholds.unhealthy_after and traffic.refused > 0:
        return PauseReason.CREDENTIALS_REFUSED
    if record.doubt and _is_lasting(record.doubt, now) and traffic.unknown > 0:
        return PauseReason.OUTCOMES_UNKNOWN
    return None


def _is_lasting(doubt: Doubt, now: float) -> bool:
    return doubt.probes >= FAILED_PROBES and now - doubt.since >= DOUBT_SECONDS


def _is_over(pause: Pause, record: HealthRecord, trial: Trial) -> bool:
    """Return whether the reason of a pause is over.

    An outage is over when the state is no longer unhealthy; an unknown state is no reason to hold messages. Refused
    credentials are over when the gateway accepts them, or when the secret has new ones. The next message tests new
    credentials, because the gateway can allow them to send and not to read. Unknown outcomes are over when the outcome
    of a message was certain: other requests don't show it.
    """
    match pause.reason:
        case PauseReason.OUTAGE | None:
            return record.state is not Health.UNHEALTHY
        case PauseReason.CREDENTIALS_REFUSED:
            return trial.admission is Admission.ACCEPTED or trial.version not in ("", pause.credentials_version)
        case PauseReason.OUTCOMES_UNKNOWN:
            return record.doubt is None


def _may_probe(pause: Pause, record: HealthRecord, trial: Trial, now: float) -> bool:
    """Return whether a message may probe if the reason of a pause is over: not while the gateway is surely down."""
    if now - (time_or_none(pause.at) or 0.0) < PROBE_PAUSE_SECONDS:
        return False
    match pause.reason:
        case PauseReason.OUTAGE:
            return trial.responds is None
        case PauseReason.OUTCOMES_UNKNOWN:
            is_down = record.state is Health.UNHEALTHY and trial.responds is False
            return not is_down and (record.doubt is None or record.doubt.probe_after <= now)
    return False


def _decide_by_probe(
    record: HealthRecord, pause: Pause, trial: Trial, is_on: bool, now: float
) -> tuple[Action, HealthRecord]:
    """Let a message show whether a pause must last.

    If only `/healthz` still reports an outage, the pause ends, and messages decide about the next one. A pause for
    unknown outcomes stays recorded while sending is on for one probe.
    """
    if pause.reason is PauseReason.OUTAGE:
        return _resume(record._replace(messages_decide_since=int(now)), is_on, now)
    if not is_on:
        if pause.probing and pause.confirmed:
            return Action.LEAVE, _paused_by_hand(record)
        return Action.RESUME, record._replace(pause=pause._replace(probing=True, confirmed=False))
    if _may_probe(pause, record, trial, now):
        return Action.LEAVE, record._replace(pause=pause._replace(confirmed=True))  # no message came yet
    return Action.PAUSE, record._replace(pause=pause._replace(probing=False, confirmed=False))
