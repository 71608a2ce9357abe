"""The figures as charts: bars in the terminal, and a picture for the pages."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Final

from tools.charts import COLUMNS, PALETTE, Bars, draw

_TEXT_WIDTH: Final = 60
_WIDTH, _HEIGHT = COLUMNS // 2, 6
_OURS, _OTHERS = PALETTE[0], "#a9b4be"
_BLOCKS: Final = {_OURS: "█", _OTHERS: "░"}


def chart(title: str, unit: str, seconds: Mapping[str, Sequence[float]], *others: str) -> Bars:
    """Return bars of the results of `measure`: medians in ``unit`` (ms or µs), the shortest first, ``others`` gray."""
    scale = {"ms": 1e3, "µs": 1e6}[unit]
    bars = [
        (name, statistics.median(each) * scale, _OTHERS if name in others else _OURS) for name, each in seconds.items()
    ]
    return Bars(f"{title}, {unit}", sorted(bars, key=lambda bar: bar[1]))


def as_text(charts: Sequence[Bars]) -> str:
    """Return the charts for a terminal."""
    lines = []
    for one in charts:
        longest = max(value for _, value, _ in one.bars)
        lines.append(f"\n{one.title}")
        for label, value, color in one.bars:
            lines.append(f"  {label:28}  {value:8,.0f}  {_BLOCKS[color] * round(value / longest * _TEXT_WIDTH)}")
    return "\n".join(lines).lstrip()


def as_svg(charts: Sequence[Bars], subtitle: str) -> str:
    """Return the charts for a page, in two columns."""
    places = [(number % 2 * _WIDTH, number // 2 * _HEIGHT, _WIDTH, _HEIGHT) for number in range(len(charts))]
    return draw("What takes how long", subtitle, list(zip(places, charts, strict=True)))
