"""The picture shows the widgets of the template with what was measured."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from tests.support.aws import default_template
from tools.charts import Panel, Series, draw
from tools.dashboard import PERIOD_SECONDS, Measured, numbers, panels


def dashboard_body() -> str:
    template = default_template()
    attributes = {name: {"Ref": name, "QueueName": name, "Arn": name} for name in template.resources}
    body: str = template.resolve(template.resources["Dashboard"].properties["DashboardBody"], attributes)
    return body


def measured(monkeypatch: pytest.MonkeyPatch, *values: tuple[float, str, str, str, float]) -> Measured:
    clock = iter([value[0] for value in values])
    monkeypatch.setattr("tools.dashboard.time.time", lambda: next(clock))
    found = Measured(started=0.0)
    for _, *rest in values:
        found.add(*rest)  # type: ignore[arg-type] # namespace, metric, of, value
    return found


def texts(svg: str) -> set[str]:
    return {element.text or "" for element in ET.fromstring(svg).iter() if element.tag.endswith("text")}


def test_every_widget_with_every_metric_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    some = measured(
        monkeypatch,
        (1.0, "OptusSms", "MessagesAccepted", "send_message", 3.0),
        (5.0, "OptusSms", "MessagesAccepted", "send_message", 4.0),
    )
    body = dashboard_body()

    shown = texts(draw("Dashboard", "of a test", panels(body, some, 10.0), 10.0))

    for widget in json.loads(body)["widgets"]:
        labels = {row[-1]["label"] for row in widget["properties"]["metrics"]}
        assert {widget["properties"]["title"], *labels} <= shown
    assert {"Dashboard", "of a test", "7"} <= shown


def test_sums_have_every_period_and_others_only_those_with_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    some = measured(monkeypatch, *[(at, "n", "m", "of", value) for at, value in ((0.5, 1.0), (1.5, 2.0), (5.0, 5.0))])
    key = ("n", "m", "of")

    assert some.points(key, "Sum", 6.0) == [(1.0, 3.0), (3.0, 0.0), (5.0, 5.0)]
    assert some.points(key, "Maximum", 6.0) == [(1.0, 2.0), (5.0, 5.0)]
    assert some.points(key, "Minimum", 6.0) == [(1.0, 1.0), (5.0, 5.0)]
    assert some.total(key) == 8.0
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

    assert some.total(("OptusSms", "MessagesAccepted", "send_message")) == 2.0
    assert some.acknowledged == {"m1"}


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("points", [[], [(1.0, 5.0)], [(1.0, 5.0), (3.0, 0.0)]])
def test_lines_stay_inside_their_panel(points: Any, stacked: bool) -> None:
    series = [Series("<one>", points, "#111111"), Series("two", points, "#222222", right=not stacked)]
    svg = draw("t", "s", [Panel("p", "timeSeries", stacked, 0, 0, 6, 6, series)], 10.0)

    assert "<one>" in texts(svg)
    for element in ET.fromstring(svg).iter():
        for point in element.get("points", "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 6 * 54
            assert 0 <= y <= 6 * 41


def test_the_run_is_the_same_each_time() -> None:
    first, again = numbers(7), numbers(7)

    assert [next(first) for _ in range(50)] == [next(again) for _ in range(50)]
