"""Who pauses sending, and who ends a pause: the health check's decision, as a pure function (docs/outages.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum, auto
from typing import TYPE_CHECKING

from optus_sms.records.items import Health, HealthRecord, Pause, PauseReason

if TYPE_CHECKING:
    from optus_sms.aws.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The numbers of checks in a row that change the state."""

    unhealthy_after: int = 3
    healthy_after: int = 2
    unknown_after: int = 3


class Admission(StrEnum):
    """Whether the gateway accepts the credentials."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    REFUSED_IN_FRONT = "refused_in_front"  # by a proxy or firewall, which says nothing of the credentials
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of the credentials. ``version``: the secret's version ID; empty if they are unusable."""

    admission: Admission
    reason: str = ""
    version: str = ""


class Action(StrEnum):
    """What to do about sending."""

    LEAVE = auto()
    PAUSE = auto()
    RESUME = auto()


def failing_since(record: HealthRecord, thresholds: Thresholds) -> int:
    """Return since when there is a reason to pause, in epoch seconds; 0 if there is none."""
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
    """Decide whether to pause or resume sending, and return the record with that decision.

    The health check ends only its own pause; any other pause is an operator's. If sending is on during the health
    check's pause, an operator resumed it, and the health check does not pause again until the gateway has recovered.
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
    return Action.PAUSE, record  # the last check stored the pause, but did not make it


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
    """Return whether the reason of a pause is over.

    An outage is over when the state is no longer unhealthy; an unknown state is no reason to hold messages. Refused
    credentials are over when the gateway accepts them, or when the secret has new ones. The next message tries those,
    because the gateway may allow the credentials to send and not to read.
    """
    if pause.reason is PauseReason.OUTAGE:
        return record.state is not Health.UNHEALTHY
    is_new = trial.version not in ("", pause.credentials_version)
    return trial.admission is Admission.ACCEPTED or is_new
