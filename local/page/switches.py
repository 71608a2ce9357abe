"""The page's switches, as faults of the simulator. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from local.simulator.faults import Faults

SLOW: Final = "slow"
LONGEST_SECONDS: Final = 60

_NORMAL: Final = Faults().as_dict()
_SETS: Final[Mapping[str, tuple[str, Any]]] = {
    "gateway_down": ("down", "refused"),
    "credentials_refused": ("credentials_refused", True),
    "callbacks_held": ("callbacks", "held"),
    "lost_responses": ("scenario", "lost_response"),
    "lost_then_told": ("scenario", "lost_response_then_callbacks"),
    "too_many_requests": ("scenario", "too_many_requests"),
    "unavailable": ("scenario", "unavailable"),
    "callbacks_doubled": ("callbacks_come", "duplicated"),
    "callbacks_reordered": ("callbacks_come", "reordered"),
    "callbacks_early": ("callbacks_come", "early"),
    "callbacks_late": ("callbacks_come", "late"),
}
"""The fault that each switch sets. Of several switches for the same fault, at most one is on."""


def active(faults: Mapping[str, Any]) -> list[str]:
    """Return the switches that are on."""
    on = [name for name, (fault, value) in _SETS.items() if faults[fault] == value]
    return [*on, SLOW] if faults["response_delay_seconds"] else on


def view(faults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the faults as the page shows them."""
    return {"active": active(faults), "response_delay_seconds": faults["response_delay_seconds"]}


def turned(faults: Mapping[str, Any], name: object, on: object, seconds: object) -> dict[str, Any]:
    """Return the changes of the faults that turn a switch. ``seconds``: of `SLOW`. ValueError names the error."""
    if on is not True and on is not False:
        raise ValueError("on: must be true or false")
    if name == SLOW:
        return {"response_delay_seconds": _seconds(seconds) if on else _NORMAL["response_delay_seconds"]}
    if not isinstance(name, str) or name not in _SETS:
        raise ValueError(f"name: must be one of {', '.join((SLOW, *_SETS))}")
    fault, value = _SETS[name]
    if on:
        return {fault: value}
    return {fault: _NORMAL[fault]} if faults[fault] == value else {}


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LONGEST_SECONDS:
        return value
    raise ValueError(f"value: must be more than 0 and at most {LONGEST_SECONDS} seconds")
