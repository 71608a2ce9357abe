"""The page's switches and the simulator's faults, in both directions and any order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.page.switches import SLOW, active, turned
from local.simulator.faults import Faults, changed

ONE_OF = {
    "answers": {"lost_responses", "lost_then_told", "too_many_requests", "unavailable"},
    "callbacks": {"callbacks_doubled", "callbacks_reordered", "callbacks_early", "callbacks_late"},
}
ALL = ["gateway_down", "credentials_refused", "callbacks_held", SLOW, *sorted(set().union(*ONE_OF.values()))]


def turn(faults: Faults, name: str, *, on: bool) -> Faults:
    return changed(faults, turned(faults.as_dict(), name, on, 2))


@pytest.mark.parametrize("name", ALL)
def test_a_switch_turns_on_and_off_again(name: str) -> None:
    on = turn(Faults(), name, on=True)
    assert active(on.as_dict()) == [name]
    assert turn(on, name, on=False) == Faults()


@given(st.lists(st.tuples(st.sampled_from(ALL), st.booleans()), max_size=12))
def test_whatever_is_turned_the_last_one_counts_and_others_of_another_kind_stay(turns: list[tuple[str, bool]]) -> None:
    faults, expected = Faults(), set[str]()
    for name, on in turns:
        faults = turn(faults, name, on=on)
        kind = next((names for names in ONE_OF.values() if name in names), {name})
        expected = (expected - kind) | {name} if on else expected - {name}
    assert set(active(faults.as_dict())) == expected


def test_no_switch_is_on_in_a_normal_gateway() -> None:
    assert active(Faults().as_dict()) == []


@pytest.mark.parametrize(
    ("name", "on", "seconds", "named"),
    [
        ("no such switch", True, None, "name"),
        (["gateway_down"], True, None, "name"),
        (None, True, None, "name"),
        ("gateway_down", 1, None, "on"),
        ("gateway_down", None, None, "on"),
        (SLOW, True, None, "value"),
        (SLOW, True, 0, "value"),
        (SLOW, True, 61, "value"),
        (SLOW, True, float("nan"), "value"),
        (SLOW, True, True, "value"),
        (SLOW, True, "2", "value"),
    ],
)
def test_what_makes_no_sense_is_named(name: Any, on: Any, seconds: Any, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}: must be "):
        turned(Faults().as_dict(), name, on, seconds)
