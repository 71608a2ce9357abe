"""Trouble of every kind, with few and many messages and execution environments, in virtual time.

`--junit-xml` has the figures of each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import product

import pytest

from tests.support.outages import Healthz, Lookup, Scenario, Trouble, World

pytestmark = [pytest.mark.deep, pytest.mark.timeout(300)]

# `OUTAGES=all` combines everything. Otherwise few messages are combined with few environments, and other look-ups with
# one /healthz.
ALL = os.environ.get("OUTAGES") == "all"
SCENARIOS = [
    Scenario(*parts)
    for parts in product(Trouble, Healthz, (1, 60), (2, 10), Lookup)
    if (parts[-1] is Lookup.LIKE_POSTS and (ALL or parts[2:4] != (1, 10)))
    or (parts[2:4] == (60, 10) and (ALL or parts[1] is next(iter(Healthz))))
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_trouble_delays_messages_and_loses_none(
    scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    with World(scenario) as world:
        figures = world.run()
    record_property("figures", str(figures))
    assert world.broken_promises(figures) == []
