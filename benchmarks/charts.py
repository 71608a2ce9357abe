"""The same figures to look at: bars in the terminal, and as a file for the pages."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tools.charts import COLUMNS, PALETTE, Bars, Place, draw

_WIDTH: Final = 60
_PANEL_WIDTH, _ROW_HEIGHT = COLUMNS // 2, 6
_OTHERS_COLOR: Final = "#a9b4be"


@dataclass(frozen=True)
class Chart:
    """How long each way took in one run, in ``unit``. ``others``: those that are not ours, to compare with."""

    title: str
    unit: str
    bars: Sequence[tuple[str, float]]
    others: frozenset[str]


def chart(title: str, unit: str, seconds: Mapping[str, Sequence[float]], *others: str) -> Chart:
    """Of what `measure` gave: medians in ``unit`` (ms or µs), the shortest first."""
    scale = {"ms": 1e3, "µs": 1e6}[unit]
    bars = [(name, statistics.median(each) * scale) for name, each in seconds.items()]
    return Chart(title, unit, sorted(bars, key=lambda bar: bar[1]), frozenset(others))


def as_text(charts: Sequence[Chart]) -> str:
    """For a terminal."""
    width = max(len(label) for one in charts for label, _ in one.bars)
    return "\n\n".join("\n".join(_lines(one, width)) for one in charts)


def _lines(one: Chart, width: int) -> list[str]:
    longest = max(value for _, value in one.bars)
    return [f"{one.title}, {one.unit}"] + [
        f"  {label:{width}}  {value:8,.0f}  {('░' if label in one.others else '█') * round(value / longest * _WIDTH)}"
        for label, value in one.bars
    ]


def as_svg(charts: Sequence[Chart], subtitle: str) -> str:
    """For a page: two columns."""
    placed = [(_place(number), _panel(one)) for number, one in enumerate(charts)]
    return draw("What takes how long", subtitle, placed)


def _place(number: int) -> Place:
    row, column = divmod(number, 2)
    return column * _PANEL_WIDTH, row * _ROW_HEIGHT, _PANEL_WIDTH, _ROW_HEIGHT


def _panel(one: Chart) -> Bars:
    bars = [(label, value, _OTHERS_COLOR if label in one.others else PALETTE[0]) for label, value in one.bars]
    return Bars(f"{one.title}, {one.unit}", bars)
