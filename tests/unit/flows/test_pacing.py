"""Slots: never closer than the interval, never later than the caller allows, and held to their end."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from optus_sms.flows.pacing import Pacer
from tests.support.fakes import FakeClock


def pacer(interval: float, time: FakeClock) -> Pacer:
    return Pacer(interval, time.monotonic, time.sleep)


def test_without_an_interval_nobody_waits() -> None:
    time = FakeClock()
    paced = pacer(0.0, time)
    assert all(paced.wait_for_slot(at_most=-5) for _ in range(100))
    paced.hold()
    assert time.sleeps == []


def test_the_first_goes_at_once_the_next_an_interval_later() -> None:
    time = FakeClock()
    paced = pacer(2.0, time)
    begun = []
    for _ in range(3):
        assert paced.wait_for_slot(at_most=60)
        begun.append(time.monotonic() - time.started)
    assert begun == [0, 2, 4]


def test_time_that_passed_counts() -> None:
    time = FakeClock()
    paced = pacer(2.0, time)
    paced.wait_for_slot(at_most=60)
    time.advance(1.5)
    paced.wait_for_slot(at_most=60)
    assert time.sleeps == [0.5]


def test_unused_time_is_not_saved_up() -> None:
    time = FakeClock()
    paced = pacer(2.0, time)
    paced.wait_for_slot(at_most=60)
    time.advance(100)
    for _ in range(2):
        paced.wait_for_slot(at_most=60)
    assert time.sleeps == [2.0]


def test_a_slot_too_far_away_is_not_taken() -> None:
    time = FakeClock()
    paced = pacer(2.0, time)
    assert paced.wait_for_slot(at_most=0)
    assert not paced.wait_for_slot(at_most=1.9)
    assert paced.wait_for_slot(at_most=2.0)
    assert time.sleeps == [2.0]


def test_hold_waits_for_the_end_of_the_last_slot() -> None:
    time = FakeClock()
    paced = pacer(2.0, time)
    paced.wait_for_slot(at_most=60)
    time.advance(1.5)
    paced.hold()
    assert time.sleeps == [0.5]
    paced.hold()
    assert time.sleeps == [0.5]


def test_hold_without_a_slot_does_not_wait() -> None:
    time = FakeClock()
    pacer(2.0, time).hold()
    assert time.sleeps == []


def test_threads_get_slots_of_their_own() -> None:
    waited: list[float] = []
    lock = threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            waited.append(seconds)

    paced = Pacer(0.5, lambda: 100.0, sleep)  # time stands still, so each wait shows the number of its slot
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: paced.wait_for_slot(at_most=60), range(20)))
    assert sorted(waited) == [number * 0.5 for number in range(1, 20)]


@given(st.floats(0.01, 5), st.lists(st.floats(0, 3), min_size=2, max_size=30))
def test_no_window_holds_more_posts_than_its_share(interval: float, pauses: list[float]) -> None:
    time = FakeClock()
    paced = pacer(interval, time)
    begun = []
    for pause in pauses:
        time.advance(pause)
        paced.wait_for_slot(at_most=1e9)
        begun.append(time.monotonic())
    assert all(later - earlier >= interval - 1e-6 for earlier, later in pairwise(begun))
