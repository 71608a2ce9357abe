"""Faults for all numbers at once, switched while the simulator runs."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from random import Random
from typing import Any

from local.simulator.scenarios import SCENARIOS, Callbacks, Scenario

_MANNERS = ("duplicated", "reordered", "early", "late")


@dataclass(frozen=True)
class Faults:
    """The faults of a gateway; `Faults()` has none. None means as configured.

    - down: "refused" (nothing listens) or "closed" (requests are read, and the connection is closed with none
      accepted).
    - scenario: the row that applies to every message, whatever its number; `next`: only to so many messages (None:
      until cleared); `share`: only to this share of them, chosen by the seed.
    - response_delay_seconds: before each response of the gateway.
    - credentials_refused: 401 for every request.
    - callbacks: "on", "off" (never sent) or "held" (sent when on again).
    - callbacks_come: "duplicated", "reordered", "early" or "late", as in the scenarios of these names; it goes together
      with any scenario that reports its statuses in order.
    - openapi, healthz: "on", "off" (404) or "503".
    """

    down: str | None = None
    scenario: str | None = None
    next: int | None = None
    share: float = 1.0
    response_delay_seconds: float | None = None
    credentials_refused: bool = False
    callbacks: str = "on"
    callbacks_come: str | None = None
    openapi: str | None = None
    healthz: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def applied_to(self, scenario: Scenario) -> Scenario:
        """Return the scenario with callbacks as in `callbacks_come`, unless the scenario itself changes them."""
        if self.callbacks_come is None or scenario.callbacks is not Callbacks.IN_ORDER:
            return scenario
        return replace(scenario, callbacks=Callbacks[self.callbacks_come.upper()])


def _one_of(*allowed: object) -> Callable[[object], bool]:
    return lambda value: (value is None and None in allowed) or (isinstance(value, str) and value in allowed)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_ENDPOINT_STATE = (_one_of(None, "on", "off", "503"), 'null, "on", "off" or "503"')
_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "down": (_one_of(None, "refused", "closed"), 'null, "refused" or "closed"'),
    "scenario": (_one_of(None, *SCENARIOS), "null or the name of a scenario"),
    "next": (lambda value: value is None or (type(value) is int and value > 0), "null or a number of messages"),
    "share": (lambda value: _number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "response_delay_seconds": (lambda value: value is None or (_number(value) and value >= 0), "null or seconds"),
    "credentials_refused": (lambda value: isinstance(value, bool), "true or false"),
    "callbacks": (_one_of("on", "off", "held"), '"on", "off" or "held"'),
    "callbacks_come": (_one_of(None, *_MANNERS), f"null or one of {', '.join(_MANNERS)}"),
    "openapi": _ENDPOINT_STATE,
    "healthz": _ENDPOINT_STATE,
}


def changed(faults: Faults, changes: Mapping[str, Any]) -> Faults:
    """Return the faults with these fields replaced. ValueError names the field and its allowed values."""
    for name, value in changes.items():
        if name not in _RULES:
            raise ValueError(
                f"{name!r} is not a fault; the faults are {', '.join(field.name for field in fields(Faults))}"
            )
        allowed, rule = _RULES[name]
        if not allowed(value):
            raise ValueError(f"{name} must be {rule}")
    if "scenario" in changes:
        # A new scenario does not inherit the limits of the one before.
        faults = replace(faults, next=None, share=1.0)
    return replace(faults, **changes)


class FaultSwitches:
    """The faults of a running simulator."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.current = Faults()

    def set(self, changes: Mapping[str, Any]) -> None:
        with self._lock:
            self.current = changed(self.current, changes)

    def clear(self) -> None:
        with self._lock:
            self.current = Faults()

    def take_scenario(self, random: Random) -> Scenario | None:
        """Return the scenario for the next message, and count that message."""
        with self._lock:
            faults = self.current
            if faults.scenario is None or random.random() >= faults.share:
                return None
            if faults.next is not None:
                left = faults.next - 1
                self.current = changed(faults, {"next": left} if left else {"scenario": None})
            return SCENARIOS[faults.scenario]
