"""The picture shows the template's widgets with measured values."""

from __future__ import annotations

import json

import pytest

from tools.charts import Bars, Lines
from tools.dashboard import PERIOD_SECONDS, Measured, dashboard_body, panels


def measured(monkeypatch: pytest.MonkeyPatch, *values: tuple[float, str, str, str, float]) -> Measured:
    clock = iter([value[0] for value in values])
    monkeypatch.setattr("tools.dashboard.time.time", lambda: next(clock))
    found = Measured(started=0.0)
    for _, *rest in values:
        found.add(*rest)  # type: ignore[arg-type] # namespace, metric, of, value
    return found


def test_every_widget_is_there_with_every_metric_in_its_place_and_color(monkeypatch: pytest.MonkeyPatch) -> None:
    some = measured(
        monkeypatch,
        (1.0, "OptusSms", "MessagesAccepted", "send_message", 3.0),
        (5.0, "OptusSms", "MessagesAccepted", "send_message", 4.0),
    )
    body = dashboard_body()

    found = panels(body, some, 10.0)

    widgets = json.loads(body)["widgets"]
    assert [place for place, _ in found] == [tuple(w[side] for side in ("x", "y", "width", "height")) for w in widgets]
    for (_, panel), widget in zip(found, widgets, strict=True):
        properties = widget["properties"]
        assert isinstance(panel, Bars) is (properties["view"] == "bar")
        shown = panel.bars if isinstance(panel, Bars) else [(one.label, one.points, one.color) for one in panel.series]
        assert [label for label, _, _ in shown] == [row[-1]["label"] for row in properties["metrics"]]
        for (_, _, color), row in zip(shown, properties["metrics"], strict=True):
            assert row[-1].get("color", color) == color
        assert len({color for _, _, color in shown}) == len(shown)
        if isinstance(panel, Lines):
            assert panel.stacked is properties["stacked"]
            is_right = [row[-1].get("yAxis") == "right" for row in properties["metrics"]]
            assert [one.right for one in panel.series] == is_right
    totals = next(panel for _, panel in found if isinstance(panel, Bars))
    assert {label: value for label, value, _ in totals.bars}["accepted"] == 7.0
    going_out = next(panel for _, panel in found if isinstance(panel, Lines))
    accepted = next(series for series in going_out.series if series.label == "accepted")
    assert accepted.points == [(1.0, 3.0), (3.0, 0.0), (5.0, 4.0), (7.0, 0.0), (9.0, 0.0)]


def test_sums_have_every_period_and_others_only_those_with_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    some = measured(monkeypatch, *[(at, "n", "m", "of", value) for at, value in ((0.5, 1.0), (1.5, 2.0), (5.0, 5.0))])
    key = ("n", "m", "of")

    assert some.points(key, "Sum", 6.0) == [(1.0, 3.0), (3.0, 0.0), (5.0, 5.0)]
    assert some.points(key, "Maximum", 6.0) == [(1.0, 2.0), (5.0, 5.0)]
    assert some.points(key, "Minimum", 6.0) == [(1.0, 1.0), (5.0, 5.0)]
    assert PERIOD_SECONDS == 2


def test_percentiles(monkeypatch: pytest.MonkeyPatch) -> None:
    some = measured(monkeypatch, *[(0.5, "n", "m", "of", float(value)) for value in range(1, 101)])

    assert some.points(("n", "m", "of"), "p50", 2.0) == [(1.0, 51.0)]
    assert some.points(("n", "m", "of"), "p95", 2.0) == [(1.0, 96.0)]


def test_a_statistic_that_is_not_known_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    some = measured(monkeypatch, (0.5, "n", "m", "of", 1.0))

    with pytest.raises(ValueError, match="IQM"):
        some.points(("n", "m", "of"), "IQM", 2.0)


def test_metrics_come_from_the_log() -> None:
    some = Measured()
    line = {
        "_aws": {
            "Timestamp": 1767225600000,
            "CloudWatchMetrics": [
                {
                    "Namespace": "OptusSms",
                    "Dimensions": [["stack", "service"]],
                    "Metrics": [{"Name": "MessagesAccepted", "Unit": "Count"}],
                }
            ],
        },
        "stack": "local",
        "service": "send_message",
        "MessagesAccepted": [1.0, 1.0],
    }
    some.take_log("SendMessageFunction", json.dumps(line))
    some.take_log("SendMessageFunction", '{"message":"accepted","message_id":"m1","acknowledged":true}')
    some.take_log("SendMessageFunction", "no JSON at all")

    assert [sample[0] for sample in some.samples] == [("OptusSms", "MessagesAccepted", "send_message")]
    assert some.samples[0][2] == 2.0
