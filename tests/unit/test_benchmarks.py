"""The benchmarks' arithmetic: arms, ratios, limits, and comparison with the baseline."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from benchmarks.charts import as_svg, as_text, chart
from benchmarks.lanes import CODES, ORDINARY_CODE, REMINDER, ROUND_TRIP_SECONDS, URGENT_CODE, Run, figures
from benchmarks.side_by_side import Arm, Figure, measure, new_baseline, percentile, progress, ratio, table


def test_each_pass_runs_every_arm_once_and_times_only_its_work() -> None:
    clock, ran = [0.0], Counter[str]()

    def take(name: str, seconds: float) -> None:
        ran[name] += 1
        clock[0] += seconds

    arms = [
        Arm("slow", lambda: take("slow", 6.0), prepare=lambda: take("preparing", 100.0), units=3),
        Arm("fast", lambda: take("fast", 1.0)),
    ]
    seconds = measure(arms, passes=4, timer=lambda: clock[0])
    assert seconds == {"slow": [2.0] * 4, "fast": [1.0] * 4}
    assert ran == {"slow": 5, "fast": 5, "preparing": 5}, "one run to warm up"


def test_after_its_time_no_pass_begins_but_the_first_three() -> None:
    assert len(measure([Arm("one", lambda: None)], passes=9, timer=lambda: 0.0, at_most=-1)["one"]) == 3


def test_progress_is_a_line_each_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress("cold starts")
    progress("")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("  cold starts")


def test_the_ratio_is_the_median_of_those_within_a_pass() -> None:
    # The machine was ten times as slow in the second pass, for both.
    assert ratio({"ours": [2.0, 30.0, 4.0], "floor": [1.0, 10.0, 1.0]}, "ours", "floor") == 3.0


def test_a_figure_holds_up_to_its_limit() -> None:
    assert Figure("calls", 3.0, 3.0).holds
    assert not Figure("calls", 3.1, 3.0).holds
    assert Figure("for comparison", 99.0).holds


def test_a_figure_gets_worse_by_its_share_of_the_baseline() -> None:
    baseline = {"one": 1.0, "none": 0.0}
    assert Figure("one", 1.5).worse_by(baseline) == 0.5
    assert Figure("one", 0.75).worse_by(baseline) == -0.25
    assert Figure("new", 9.0).worse_by(baseline) == 0
    assert Figure("none", 0.0).worse_by(baseline) == 0


def test_a_noisy_figure_keeps_to_its_limit_only() -> None:
    figure = Figure("wait", 1.9, 2.0, noisy=True)
    assert figure.holds
    assert figure.worse_by({"wait": 0.5}) == 0
    assert not Figure("wait", 2.1, 2.0, noisy=True).holds


def test_the_percentile_is_one_of_the_values() -> None:
    assert percentile([float(number) for number in range(20, 0, -1)], 95) == 19.0
    assert percentile([float(number) for number in range(21)], 95) == 19.0
    assert percentile([float(number) for number in range(200, 0, -1)], 50) == 100.0
    assert percentile([3.0], 95) == 3.0


def emptied(*, urgent: bool, second: float = 0.02) -> Run:
    """A hundred reminders, so many seconds each, with codes behind them: urgent ones take 30 ms, one of them 90."""
    queued = {
        REMINDER: {f"r{number}": 0.0 for number in range(100)},
        ORDINARY_CODE: {f"o{number}": 1.0 for number in range(CODES)},
    }
    reached = {key: number * second for number, key in enumerate([*queued[REMINDER], *queued[ORDINARY_CODE]])}
    if urgent:
        queued[URGENT_CODE] = {f"u{number}": 0.5 for number in range(CODES)}
        reached |= dict.fromkeys(queued[URGENT_CODE], 0.53) | {"u0": 0.59}
    return Run(queued, reached)


def test_codes_wait_from_their_queue_to_the_gateway_and_cost_the_other_lane_only_themselves() -> None:
    runs = [(emptied(urgent=False, second=s), emptied(urgent=True, second=s)) for s in (0.03, 0.02, 0.05)]
    urgent, ordinary, pace = (each for each in figures(runs) if isinstance(each, Figure))
    assert urgent.value == pytest.approx(0.03 / ROUND_TRIP_SECONDS)
    assert ordinary.value == pytest.approx((118 * 0.02 - 1.0) / ROUND_TRIP_SECONDS)
    assert pace.value == pytest.approx(119 / 139), "as long for the reminders, and twenty more messages"
    assert [each.holds for each in (urgent, ordinary, pace)] == [True, True, True]


def test_a_lane_that_slows_the_other_down_exceeds_the_limit() -> None:
    runs = [(emptied(urgent=False), emptied(urgent=True, second=0.03))]
    *_, pace = (each for each in figures(runs) if isinstance(each, Figure))
    assert pace.value > 1
    assert not pace.holds


def test_a_new_baseline_takes_nothing_that_is_over_its_limit() -> None:
    figures = [Figure("one", 1.2345, 1.3), Figure("two", 1.5, 1.4), Figure("three", 1.5, 1.4), Figure("free", 9.0)]
    assert new_baseline(figures, {"two": 1.35, "gone": 1.0}) == {"one": 1.234, "two": 1.35, "free": 9.0}


def test_a_count_that_was_none_and_is_some_now_is_worse() -> None:
    assert Figure("secret reads", 1.0).worse_by({"secret reads": 0.0}) == 1


def test_the_table_lines_up_and_says_what_exceeds_its_limit() -> None:
    lines = table([Figure("a", 1.2, 1.3), Figure("longer", 1.4, 1.3, "of the floor")], {"a": 1.1}).splitlines()
    assert lines[1].split() == ["a", "1.20", "1.30", "1.10", "holds"]
    assert lines[2].split() == ["longer", "1.40", "1.30", "EXCEEDED", "of", "the", "floor"]
    assert lines[1].index("1.30") == lines[2].index("1.30")


def test_the_bars_show_medians_the_shortest_first_and_what_is_not_ours_apart() -> None:
    one = chart("Cold start", "ms", {"tutorial": [2.0, 1.0, 3.0], "ours": [0.5, 0.1, 0.6]}, "tutorial")
    assert [(label, value) for label, value, _ in one.bars] == [("ours", 500.0), ("tutorial", 2000.0)]
    assert len({color for _, _, color in one.bars}) == 2
    title, ours, tutorial = as_text([one]).splitlines()
    assert title == "Cold start, ms"
    assert ours.split() == ["ours", "500", "█" * 15]
    assert tutorial.split() == ["tutorial", "2,000", "░" * 60]


def test_the_picture_for_the_pages_is_whole_and_says_what_is_measured() -> None:
    pytest.importorskip("matplotlib")
    charts = [chart(f"Chart {number}", "µs", {"a <b>": [1e-6], "other": [2e-6]}, "other") for number in range(3)]
    root = ET.fromstring(as_svg(charts, "medians of one run"))
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"medians of one run", "Chart 0, µs", "Chart 2, µs", "a <b>"} <= set(texts)
    assert float(root.get("height", "0").removesuffix("pt")) > 0
