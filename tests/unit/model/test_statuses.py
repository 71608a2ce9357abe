"""The order of statuses, as the public contract has it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optus_sms.model.statuses import FAILURE_STATUSES, FINAL_STATUSES, STATUS_RANK, contradicts, normalized

ORDER = [
    "accepted", "queued", "sent", "failed", "submitted", "frozen", "deficient", "blocked", "expired", "rejected",
    "dead", "received",
]  # fmt: skip


def test_order_is_total_and_the_public_one() -> None:
    assert list(STATUS_RANK) == ORDER
    assert all(STATUS_RANK[lower] < STATUS_RANK[higher] for lower, higher in pairwise(ORDER))


def test_finals_rank_above_everything_that_may_still_change() -> None:
    open_ones = set(ORDER) - FINAL_STATUSES
    assert open_ones == {"accepted", "queued", "sent", "failed", "submitted"}
    assert max(STATUS_RANK[name] for name in open_ones) < min(STATUS_RANK[name] for name in FINAL_STATUSES)
    assert FINAL_STATUSES - {"received"} == FAILURE_STATUSES


@pytest.mark.parametrize(("given_text", "status"), [("received", "received"), (" SENT\n", "sent"), ("Dead", "dead")])
def test_spelling_is_normalized(given_text: str, status: str) -> None:
    assert normalized(given_text) == status


@given(st.sets(st.sampled_from(ORDER)))
def test_only_a_final_failure_contradicts_received(seen: set[str]) -> None:
    assert contradicts(seen) == ("received" in seen and bool(seen & FAILURE_STATUSES))
    assert not contradicts(seen - {"received"})
    assert not contradicts(seen - FAILURE_STATUSES)
