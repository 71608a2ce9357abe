"""The state of sending in words: who paused it, what ends the pause, what speaks against resuming. Pure functions."""

from collections.abc import Mapping
from typing import Final

from optus_sms.flows.pausing import Admission
from optus_sms.model.times import time_or_none
from optus_sms.records.items import Health, HealthRecord, PausedBy, PauseReason

_CHECKED_LATELY_SECONDS: Final = 600
_ENDS: Final[Mapping[PauseReason, str]] = {
    PauseReason.OUTAGE: "when the gateway is no longer unhealthy",
    PauseReason.CREDENTIALS_REFUSED: "when the gateway accepts the credentials or others are stored",
    PauseReason.OUTCOMES_UNKNOWN: "when the outcome of a probe is certain; one goes every 15 minutes",
}


def is_checked_lately(record: HealthRecord, *, now: float) -> bool:
    """Return whether the stack's health check is running, by the time of its last result."""
    return now - (time_or_none(record.checked_at) or 0.0) <= _CHECKED_LATELY_SECONDS


def is_paused_by_health_check(record: HealthRecord) -> bool:
    """Return whether the health check made this pause, and so will end it."""
    return record.pause is not None and record.pause.by is PausedBy.HEALTH


def pause_in_words(record: HealthRecord, *, now: float) -> str:
    """Return who paused sending, since when, and what ends that."""
    pause = record.pause
    if pause is None:
        return "paused by hand, and not recorded yet; only `resume` ends it"
    if pause.reason is None:
        return f"paused by an operator since {pause.at}; only `resume` ends it"
    paused = f"paused by the health check since {pause.at} ({pause.reason.value})"
    if not is_checked_lately(record, now=now):
        return (
            f"{paused}; it can't resume automatically, because the health check has not run since {record.checked_at}"
        )
    return f"{paused}; it resumes automatically {_ENDS[pause.reason]}"


def trouble_in_words(record: HealthRecord) -> str:
    """Return why messages would fail if sending were resumed, by the last health check; empty for no known reason."""
    if record.state is Health.UNHEALTHY:
        return f"The gateway has been unhealthy since {record.since}: {record.reason} (checked at {record.checked_at})."
    if record.credentials == Admission.REFUSED:
        return f"The gateway refuses the credentials (checked at {record.checked_at})."
    if record.pause and record.pause.reason is PauseReason.OUTCOMES_UNKNOWN:
        return f"Until {record.pause.at} all POSTs left unknown outcomes."
    return ""
