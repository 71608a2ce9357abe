"""Draws panels of bars and lines as one SVG, with matplotlib, in CloudWatch's layout of a dashboard."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

PALETTE: Final = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#17becf", "#bcbd22")
COLUMNS: Final = 24
_CELL_INCHES: Final = (0.55, 0.45)
_STYLE: Final[Mapping[str, Any]] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 8,
    "grid.color": "#e6eaee",
    "legend.borderaxespad": 0,
    "legend.columnspacing": 1.0,
    "legend.fontsize": 7,
    "legend.handlelength": 1.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "optus-sms",  # the same figures give the same file, byte by byte
}
_INVISIBLE: Final = re.compile(r'\n *<g id="\w+"/>| transform="rotate\(-0 [^"]*"|(?<=\n) +| (?=\n)|(?<=\.\d)\d{3,}')
"""Invisible parts, a third of the file: empty groups, rotations by zero, hundredths of a point."""

Place = tuple[int, int, int, int]
"""Column, row, width and height on a grid of 24 columns."""


@dataclass(frozen=True)
class Bars:
    """A bar for each label, with a value and a color."""

    title: str
    bars: Sequence[tuple[str, float, str]]


@dataclass(frozen=True)
class Series:
    """One line or area: seconds since the start and values. ``right``: it belongs to the axis on the right."""

    label: str
    points: Sequence[tuple[float, float]]
    color: str
    right: bool = False


@dataclass(frozen=True)
class Lines:
    """Lines over time, or areas on top of each other, which all have the same times."""

    title: str
    series: Sequence[Series]
    stacked: bool = False


def draw(title: str, subtitle: str, panels: Sequence[tuple[Place, Bars | Lines]], seconds: float = 1.0) -> str:
    """Return the whole picture; time runs from 0 to ``seconds``."""
    from matplotlib import style  # noqa: PLC0415 - installed for pictures only
    from matplotlib.figure import Figure  # noqa: PLC0415

    rows = max(row + height for (_, row, _, height), _ in panels)
    width_inches, height_inches = _CELL_INCHES
    with style.context(["seaborn-v0_8-whitegrid", dict(_STYLE)]):
        figure = Figure(figsize=(COLUMNS * width_inches, (rows + 1) * height_inches), layout="constrained")
        figure.suptitle(title, x=0.01, horizontalalignment="left", size=14, weight="bold")
        figure.supxlabel(subtitle, x=0.01, horizontalalignment="left", size=9)
        grid = figure.add_gridspec(rows, COLUMNS)
        for (column, row, width, height), panel in panels:
            axes = figure.add_subplot(grid[row : row + height, column : column + width])
            axes.set_title(panel.title)
            _draw_bars(axes, panel) if isinstance(panel, Bars) else _draw_lines(axes, panel, seconds)
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Creator": None, "Date": None})
    return _INVISIBLE.sub("", svg.getvalue())


def _draw_bars(axes: Any, panel: Bars) -> None:
    labels, values, colors = zip(*panel.bars, strict=True)
    axes.bar_label(axes.barh(labels, values, color=colors), fmt="{:,.0f}", padding=4, weight="bold")
    axes.margins(x=0.15)
    axes.invert_yaxis()  # the first bar on top
    axes.spines[:].set_visible(False)
    axes.xaxis.set_visible(False)
    axes.grid(visible=False)


def _draw_lines(axes: Any, panel: Lines, seconds: float) -> None:
    right = axes.twinx() if any(series.right for series in panel.series) else axes
    coordinates = [list(zip(*series.points, strict=True)) or [(), ()] for series in panel.series]
    if panel.stacked:
        colors, labels = [series.color for series in panel.series], [series.label for series in panel.series]
        axes.stackplot(coordinates[0][0], *[values for _, values in coordinates], colors=colors, labels=labels)
    for series, (times, values) in () if panel.stacked else zip(panel.series, coordinates, strict=True):
        marker = "." if len(times) == 1 else ""
        (right if series.right else axes).plot(times, values, color=series.color, label=series.label, marker=marker)
    for side in {axes, right}:
        side.grid(visible=False, axis="x" if side is axes else "both")
        side.set_ylim(0, max(1, side.get_ylim()[1]))
        side.locator_params(axis="y", nbins=4, integer=True)
        side.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(0, seconds)
    axes.xaxis.set_major_formatter("{x:g} s")
    handles = [handle for side in dict.fromkeys((axes, right)) for handle in side.get_legend_handles_labels()[0]]
    axes.legend(handles=handles, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.1))
