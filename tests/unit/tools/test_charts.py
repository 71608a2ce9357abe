"""The pictures are whole and repeatable. Skipped where matplotlib is not installed (`make dashboard` installs it)."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest

from tools.charts import Bars, Lines, Place, Series, draw

pytest.importorskip("matplotlib")


def texts(svg: str) -> set[str]:
    return {"".join(element.itertext()) for element in ET.fromstring(svg).iter() if element.tag.endswith("text")}


def a_picture(points: Sequence[tuple[float, float]], *, stacked: bool) -> str:
    series = [Series("<one>", points, "#111111"), Series("two", points, "#222222", right=not stacked)]
    bars = Bars("Totals at 0.14 CPU", [("first", 7.0, "#333333"), ("second", 1234.0, "#444444")])
    panels: list[tuple[Place, Bars | Lines]] = [
        ((0, 0, 12, 6), Lines("Over time", series, stacked)),
        ((12, 0, 12, 6), bars),
    ]
    return draw("Dashboard", "of a test", panels, 10.0)


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("points", [[], [(1.0, 5.0)], [(1.0, 5.0), (3.0, 0.0)]])
def test_everything_is_drawn(points: Sequence[tuple[float, float]], stacked: bool) -> None:
    svg = a_picture(points, stacked=stacked)

    shown = texts(svg)
    assert {"Dashboard", "of a test", "Over time", "<one>", "two"} <= shown
    assert {"Totals at 0.14 CPU", "first", "7", "second", "1,234"} <= shown
    for color in ("#111111", "#222222", "#333333", "#444444"):
        assert color in svg
    assert "nan" not in svg.lower()


def test_the_same_figures_make_the_same_picture_without_a_date() -> None:
    once, again = (a_picture([(1.0, 5.0), (3.0, 0.0)], stacked=True) for _ in range(2))

    assert once == again
    assert re.search(r"20\d\d-\d\d", once) is None


def test_every_panel_lies_within_the_picture() -> None:
    root = ET.fromstring(a_picture([(1.0, 5.0), (3.0, 0.0)], stacked=False))
    width, height = map(float, root.attrib["viewBox"].split()[2:])

    places = [element for element in root.iter() if element.tag.endswith("text")]
    assert len(places) > 10
    for element in places:
        assert 0 <= float(element.attrib["x"]) <= width
        assert 0 <= float(element.attrib["y"]) <= height
