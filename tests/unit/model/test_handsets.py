"""One number has one form, however the gateway or a handset writes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optus_sms.model.handsets import e164
from tests.support.builders import HANDSET


@pytest.mark.parametrize(
    "written",
    [
        "+61491570006", "61491570006", "0061491570006", "001161491570006", "0491570006", "491570006", "0491 570 006",
        "+61 491 570 006", " 61491570006 ", "+61 (0)491 570 006", "+610491570006", "(0491) 570-006", "0491.570.006",
        "+61\u00a0491\u2011570\u2011006", "00 61 491 570 006", "0011 61 491 570 006",
    ],
)  # fmt: skip
def test_every_form_of_a_handset_is_the_same_number(written: str) -> None:
    assert e164(written) == HANDSET


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("0298765432", "+61298765432"),
        ("61491570006801", "+61491570006801"),
        ("6421123456", "+6421123456"),
        ("687751234", "+687751234"),
        ("68255123", "+68255123"),
        ("+6834000", "+6834000"),
        ("0068255123", "+68255123"),
        ("12025550123", "+12025550123"),
    ],
)
def test_numbers_of_other_kinds_and_countries_get_their_plus(written: str, number: str) -> None:
    assert e164(written) == number


@pytest.mark.parametrize(
    "other",
    [
        "202", "19941", "199412", "4444444", "19123456", "131234", "1300975707", "1800 123 456", "OptusInfo", "Opt 123",
        "0400", "+0491570006", "++61491570006", "61491570006x", "+614915700068010203", "\u0660491570006", "",
    ],
)  # fmt: skip
def test_what_is_no_number_of_a_handset_stays(other: str) -> None:
    assert e164(other) == other


@given(st.text(st.sampled_from("0123456789+ -()"), max_size=20) | st.text(max_size=20))
def test_the_form_of_a_number_is_its_own_form(text: str) -> None:
    assert e164(e164(text)) == e164(text)
