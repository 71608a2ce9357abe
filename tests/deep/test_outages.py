"""Trouble of every kind, with few and many messages and execution environments, in virtual time.

`--junit-xml` has the figures of each.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.outages import Healthz, Lookup, Scenario, Trouble, World

pytestmark = [pytest.mark.deep, pytest.mark.timeout(300)]


@pytest.mark.parametrize("lookup", Lookup)
@pytest.mark.parametrize("environments", [2, 10])
@pytest.mark.parametrize("per_minute", [1, 60])
@pytest.mark.parametrize("healthz", Healthz)
@pytest.mark.parametrize("trouble", Trouble)
def test_trouble_delays_messages_and_loses_none(
    trouble: Trouble,
    healthz: Healthz,
    per_minute: int,
    environments: int,
    lookup: Lookup,
    record_property: Callable[[str, object], None],
) -> None:
    scenario = Scenario(trouble, healthz, per_minute, environments, lookup)
    with World(scenario) as world:
        figures = world.run()
    record_property("figures", figures)
    assert world.broken_promises(figures) == []
