"""Draws the widgets of a CloudWatch dashboard as one SVG; nothing but text is needed for that.

Knows what the dashboard of template.yaml uses: `bar` and `timeSeries`, stacked or not, with a second axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

CELL_WIDTH, CELL_HEIGHT = 54, 41
"""Pixels of one of a dashboard's 24 columns, and of one row."""
GAP, HEADER = 10, 54
PALETTE = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#17becf", "#bcbd22")
_LEFT, _RIGHT, _TOP = 42, 36, 34
_LEGEND_LINE, _AXIS = 15, 18
_LETTER_WIDTH = 6.4
_MARGIN = 8.0  # left of the longest label

Points = Sequence[tuple[float, float]]
"""Seconds since the start, and the value; in order of time."""


@dataclass(frozen=True)
class Series:
    """One line, area or bar. ``right``: it belongs to the axis on the right."""

    label: str
    points: Points
    colour: str
    right: bool = False


@dataclass(frozen=True)
class Panel:
    """One widget, its place in columns and rows. ``total``: what `bar` shows of each series."""

    title: str
    kind: str
    stacked: bool
    x: int
    y: int
    width: int
    height: int
    series: Sequence[Series]
    totals: Sequence[float] = ()


def draw(title: str, subtitle: str, panels: Sequence[Panel], seconds: float) -> str:
    """The whole picture; time runs from 0 to ``seconds``."""
    width = 24 * CELL_WIDTH + GAP
    height = max(panel.y + panel.height for panel in panels) * CELL_HEIGHT + HEADER + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#eef1f4"/>',
        _text(GAP + 4, 24, title, size=17, weight="600"),
        _text(GAP + 4, 43, subtitle, colour="#56606b", size=12),
    ]
    for panel in panels:
        parts += _panel(panel, seconds)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, seconds: float) -> Iterator[str]:
    left, top = panel.x * CELL_WIDTH + GAP, panel.y * CELL_HEIGHT + HEADER
    width, height = panel.width * CELL_WIDTH - GAP, panel.height * CELL_HEIGHT - GAP
    yield f'<g transform="translate({left} {top})">'
    yield f'<rect width="{width}" height="{height}" rx="5" fill="#fff" stroke="#d5dbe1"/>'
    yield _text(12, 21, panel.title, size=13, weight="600")
    if panel.kind == "bar":
        yield from _bars(panel, width, height)
    else:
        yield from _lines(panel, width, height, seconds)
    yield "</g>"


def _bars(panel: Panel, width: float, height: float) -> Iterator[str]:
    most = max([*panel.totals, 1.0])
    step = (height - _TOP - 10) / max(len(panel.totals), 1)
    left = max(80.0, _MARGIN + _LETTER_WIDTH * max((len(series.label) for series in panel.series), default=0))
    room = width - left - 6 - 56
    for index, (series, total) in enumerate(zip(panel.series, panel.totals, strict=True)):
        y = _TOP + 6 + index * step
        long = max(room * total / most, 1.0)
        yield _text(left, y + step / 2, series.label, anchor="end", colour="#333b44")
        size = f'width="{long:.1f}" height="{step - 9:.1f}"'
        yield f'<rect x="{left + 6:.0f}" y="{y + 1:.1f}" {size} rx="2" fill="{series.colour}"/>'
        yield _text(left + long + 12, y + step / 2, f"{total:,.0f}", weight="600")


def _lines(panel: Panel, width: float, height: float, seconds: float) -> Iterator[str]:
    legend_lines = math.ceil(len(panel.series) / 2)
    bottom = height - 10 - legend_lines * _LEGEND_LINE - _AXIS
    has_right = any(series.right for series in panel.series)
    right = width - (_RIGHT if has_right else 14)
    stacks = _stacked(panel.series) if panel.stacked else [(series, series.points, ()) for series in panel.series]
    tops = {
        side: _nice(
            max((value for series, points, _ in stacks if series.right is side for _, value in points), default=0)
        )
        for side in (False, True)
    }

    def place(point: tuple[float, float], side: bool) -> str:
        x = _LEFT + (right - _LEFT) * point[0] / seconds
        return f"{x:.1f},{bottom - (bottom - _TOP) * point[1] / tops[side]:.1f}"

    for share in (0, 0.5, 1):
        y = bottom - (bottom - _TOP) * share
        yield f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e6eaee"/>'
        yield _text(_LEFT - 5, y + 4, _number(tops[False] * share), anchor="end", colour="#7a858f", size=10)
        if has_right:
            yield _text(right + 5, y + 4, _number(tops[True] * share), colour="#7a858f", size=10)
    for tick in range(0, int(seconds) + 1, _tick(seconds)):
        x = _LEFT + (right - _LEFT) * tick / seconds
        yield _text(x, bottom + 13, f"{tick} s", anchor="middle", colour="#7a858f", size=10)
    for series, points, floor in reversed(stacks):
        if not points:
            continue
        path = " ".join(place(point, series.right) for point in points)
        if panel.stacked:
            back = " ".join(place(point, series.right) for point in reversed(floor))
            yield f'<polygon points="{path} {back}" fill="{series.colour}" fill-opacity="0.75"/>'
        elif len(points) == 1:
            across, down = path.split(",")
            yield f'<circle cx="{across}" cy="{down}" r="2" fill="{series.colour}"/>'
        else:
            yield f'<polyline points="{path}" fill="none" stroke="{series.colour}" stroke-width="1.6"/>'
    yield from _legend(panel.series, bottom + _AXIS + 6, width)


def _stacked(all_series: Sequence[Series]) -> list[tuple[Series, Points, Points]]:
    """Each series on top of those before it, with the line it stands on."""
    times = sorted({at for series in all_series for at, _ in series.points})
    floor: Points = [(at, 0.0) for at in times]
    stacked: list[tuple[Series, Points, Points]] = []
    for series in all_series:
        own = dict(series.points)
        top = [(at, below + own.get(at, 0.0)) for at, below in floor]
        stacked.append((series, top, floor))
        floor = top
    return stacked


def _legend(all_series: Sequence[Series], top: float, width: float) -> Iterator[str]:
    for index, series in enumerate(all_series):
        x, y = 12 + (index % 2) * (width / 2 - 6), top + (index // 2) * _LEGEND_LINE
        yield f'<rect x="{x:.0f}" y="{y:.0f}" width="9" height="9" rx="2" fill="{series.colour}"/>'
        yield _text(x + 13, y + 8.5, series.label, colour="#333b44", size=10)


def _nice(value: float) -> float:
    """The end of an axis: 1, 2 or 5 times a power of ten, at least 1."""
    if value <= 1:
        return 1
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value)


def _tick(seconds: float) -> int:
    return next((step for step in (5, 10, 20, 30, 60) if seconds / step <= 6), 120)


def _number(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def _text(
    x: float, y: float, text: str, *, size: float = 11, colour: str = "#1c242c", anchor: str = "", weight: str = ""
) -> str:
    more: Mapping[str, str] = {"text-anchor": anchor, "font-weight": weight}
    attributes = "".join(f' {name}="{value}"' for name, value in more.items() if value)
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}"{attributes}>{escape(text)}</text>'
