"""Measures two or more ways to do something in turn, so that noise of the machine affects all of them alike."""

import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_LEAST_PASSES: Final = 3


@dataclass(frozen=True)
class Arm:
    """One way. ``work`` is timed; ``prepare``, before it, is not. ``units``: messages or callbacks in one run."""

    name: str
    work: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    units: int = 1


def measure(
    arms: Sequence[Arm], *, passes: int, timer: Callable[[], float], at_most: float = math.inf
) -> dict[str, list[float]]:
    """Return seconds per unit of each arm in each pass: all arms once, in random order. One run of each warms up.

    ``at_most``: seconds after which no pass begins but the first three.
    """
    until = time.monotonic() + at_most
    order, seconds = random.Random(1), {arm.name: list[float]() for arm in arms}
    for arm in arms:
        arm.prepare()
        arm.work()
    for number in range(passes):
        if number >= _LEAST_PASSES and time.monotonic() > until:
            break
        for arm in order.sample(arms, len(arms)):
            arm.prepare()
            start = timer()
            arm.work()
            seconds[arm.name].append((timer() - start) / arm.units)
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], of: str, to: str) -> float:
    """Return the median of the ratio ``of`` / ``to`` over all passes, each from the times of one pass."""
    return statistics.median(one / other for one, other in zip(seconds[of], seconds[to], strict=True))


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the least of the values that at least ``percent`` in a hundred of them do not exceed."""
    return sorted(values)[math.ceil(percent * len(values) / 100) - 1]


def progress(what: str) -> None:
    """Show the progress: on a terminal in one line that is rewritten, else in a line each."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)
    elif what:
        print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr, flush=True)


class NotMeasuredError(Exception):
    """A figure can't be measured on this machine; the text has the reason."""


@dataclass(frozen=True)
class Figure:
    """A ratio or count, and its limit; ``limit`` None: for comparison only.

    ``noisy``: so short a time that the machine decides it; only its limit counts, not the baseline.
    """

    name: str
    value: float
    limit: float | None = None
    note: str = ""
    noisy: bool = False

    @property
    def holds(self) -> bool:
        """Whether the value is within its limit."""
        return self.limit is None or self.value <= self.limit

    def worse_by(self, baseline: Mapping[str, float]) -> float:
        """Return how much worse the value is than in the baseline (0.1: a tenth); negative if it is better."""
        before = self.value if self.noisy else baseline.get(self.name, self.value)
        return self.value / before - 1 if before else float(self.value > 0)


def new_baseline(figures: Sequence[Figure], baseline: Mapping[str, float]) -> dict[str, float]:
    """Return this run's values as a baseline; a figure over its limit keeps its old value, if any."""
    measured = {
        figure.name: round(figure.value, 3) if figure.holds else baseline.get(figure.name) for figure in figures
    }
    return {name: value for name, value in measured.items() if value is not None}


def table(figures: Sequence[Figure], baseline: Mapping[str, float]) -> str:
    """Return the figures as aligned text."""
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'':{width}}  {'now':>7}  {'limit':>6}  {'baseline':>8}"]
    for figure in figures:
        limit = "" if figure.limit is None else f"{figure.limit:.2f}"
        before = f"{baseline[figure.name]:.2f}" if figure.name in baseline else ""
        outcome = "" if figure.limit is None else "holds" if figure.holds else "EXCEEDED"
        line = f"{figure.name:{width}}  {figure.value:7.2f}  {limit:>6}  {before:>8}  {outcome:<8}  {figure.note}"
        lines.append(line.rstrip())
    return "\n".join(lines)
