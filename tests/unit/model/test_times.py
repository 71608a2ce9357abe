"""RFC 3339 in and out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optus_sms.model.times import format_rfc3339, format_whole_seconds, parse_rfc3339, time_or_none


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-01T00:00:00Z", 1_767_225_600),
        ("2026-01-01T11:00:00+11:00", 1_767_225_600),
        ("2025-12-31t19:00:00-05:00", 1_767_225_600),
        ("2026-01-01T00:00:00.5z", 1_767_225_600.5),
        ("2026-01-01T00:00:00.123456789Z", 1_767_225_600.123456),
        ("2026-01-01T00:00:00.1234567891Z", 1_767_225_600.123456),
        ("2026-01-01T00:00:00." + "5" * 400 + "Z", 1_767_225_600.555555),
        ("2025-12-31T00:00:01-23:59", 1_767_225_541),
        ("2026-01-01T00:00:00-00:00", 1_767_225_600),
        ("2028-02-29T00:00:00Z", 1_835_395_200),
    ],
)
def test_parses(text: str, epoch: float) -> None:
    assert parse_rfc3339(text) == epoch


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01 00:00:00Z", "2026-01-01T00:00Z", "20260101T000000Z",
        "2026-13-01T00:00:00Z", "2027-02-29T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:00+1100", "2026-01-01T00:00:00+11", "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+10:75", "2026-01-01T00:00:00+10:60", "2026-01-01T00:00:60Z", "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00,5Z", "2026-01-01T00:00:00+1:00", "2026-01-01T00:00:00 +10:00", "2026-W01-1T00:00:00Z",
        "2026-01-01T00:00:00Z ", "2026-01-01T00:00:00Z\n", "٢٠٢٦-01-01T00:00:00Z", "1767225600",
    ],
)  # fmt: skip
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rfc3339(text)


@pytest.mark.parametrize("epoch", [1_767_225_600, 1_767_225_600.999])
def test_formats_whole_seconds(epoch: float) -> None:
    assert format_whole_seconds(epoch) == "2026-01-01T00:00:00Z"


def test_formats_in_utc_with_milliseconds() -> None:
    assert format_rfc3339(1_767_225_600) == "2026-01-01T00:00:00.000Z"
    assert format_rfc3339(1_767_225_600.25) == "2026-01-01T00:00:00.250Z"


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "then", None])
def test_a_time_from_outside_that_has_no_form_in_utc_is_none(text: str | None) -> None:
    assert time_or_none(text) is None


whole_milliseconds = st.integers(0, 4_102_444_800_000)


@given(whole_milliseconds)
def test_reads_what_it_writes(milliseconds: int) -> None:
    assert round(parse_rfc3339(format_rfc3339(milliseconds / 1000)) * 1000) == pytest.approx(milliseconds, abs=1)


@given(whole_milliseconds, whole_milliseconds)
def test_sorts_as_text_in_time_order(one: int, other: int) -> None:
    earlier, later = sorted((one, other))
    assert format_rfc3339(earlier / 1000) <= format_rfc3339(later / 1000)
