"""Every kind of trouble only delays messages. With more messages: tests/deep/test_outages.py."""

from __future__ import annotations

from itertools import product

import pytest

from tests.support.outages import Healthz, Lookup, Scenario, Trouble, World


@pytest.mark.parametrize("trouble", Trouble)
def test_trouble_delays_messages_and_loses_none(trouble: Trouble) -> None:
    broken = {}
    for healthz, lookup in product(Healthz, (Lookup.LIKE_POSTS, Lookup.FINE)):
        with World(Scenario(trouble, healthz, per_minute=1, environments=10, lookup=lookup)) as world:
            broken[healthz, lookup] = world.broken_promises(world.run())
    assert not any(broken.values()), broken


@pytest.mark.parametrize("trouble", [Trouble.TIMEOUTS, Trouble.HTTP_503])
def test_many_messages_and_execution_environments_leave_few_unknown_outcomes(trouble: Trouble) -> None:
    with World(Scenario(trouble, Healthz.WRONG, per_minute=60, environments=10, trouble_minutes=15)) as world:
        figures = world.run()
    assert world.broken_promises(figures) == []
    assert figures.unknown <= 10 + 4, "one of each execution environment, and the probes"


@pytest.mark.parametrize(("per_minute", "metrics_late"), [(0.2, 90), (1, 90), (10, 120)])
def test_a_broken_healthz_stops_no_gateway_that_sends(per_minute: float, metrics_late: float) -> None:
    paused = {}
    for lookup in (Lookup.LIKE_POSTS, Lookup.NOT_OFFERED):
        scenario = Scenario(None, Healthz.WRONG, per_minute, 2, lookup, metrics_late, trouble_minutes=240)
        with World(scenario) as world:
            assert world.broken_promises(world.run()) == []
            paused[lookup] = world.paused_minutes()
    assert paused[Lookup.LIKE_POSTS] == 0
    assert paused[Lookup.NOT_OFFERED] <= 11, "ends by itself, and no message fails afterwards"


def test_without_trouble_nothing_is_paused_or_delayed() -> None:
    for healthz in Healthz:
        with World(Scenario(None, healthz, per_minute=1, environments=2)) as world:
            figures = world.run()
            assert (world.broken_promises(figures), figures.paused_minutes, figures.most_receives) == ([], 0, 1)
