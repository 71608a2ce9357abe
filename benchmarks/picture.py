"""The same figures to look at: bars in the terminal, and as a file for the pages."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tools.charts import PALETTE, Panel, Series, draw

_WIDTH: Final = 60
_PANEL_WIDTH, _ROW_HEIGHT = 12, 6
_OTHERS_COLOUR: Final = "#a9b4be"


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
    return draw("What takes how long", subtitle, [_panel(one, place) for place, one in enumerate(charts)], 1.0)


def _panel(one: Chart, place: int) -> Panel:
    row, column = divmod(place, 2)
    colours = [_OTHERS_COLOUR if label in one.others else PALETTE[0] for label, _ in one.bars]
    return Panel(
        title=f"{one.title}, {one.unit}",
        kind="bar",
        stacked=False,
        x=column * _PANEL_WIDTH,
        y=row * _ROW_HEIGHT,
        width=_PANEL_WIDTH,
        height=_ROW_HEIGHT,
        series=[Series(label, (), colour) for (label, _), colour in zip(one.bars, colours, strict=True)],
        totals=[value for _, value in one.bars],
    )
