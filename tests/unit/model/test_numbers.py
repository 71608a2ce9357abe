"""Numbers that no handset can have, compared with `phonenumbers`, and corrections of common notations."""

from __future__ import annotations

import re
from typing import Any

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneMetadata, PhoneNumberFormat, PhoneNumberType, ValidationResult

from local.simulator.scenarios import SCENARIOS
from optus_sms.model.numbering_plans import PLANS
from optus_sms.model.numbers import did_you_mean, e164, problem_of
from tests.support.builders import HANDSET
from tools.numbering_plans import PATH, text


def test_the_plans_are_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == text(), "run: make numbers"


@pytest.mark.parametrize(
    "number",
    [
        "+61491570006", "+61212345678", "+642712345678", "+12025550101", "+447700900603", "+8816123456789",
        "+393212345678", "+493012345678", "+3197012345678", "+611300123456", "+5491123456789", "+80012345678",
        *(row.number for row in SCENARIOS.values()),
    ],
)  # fmt: skip
def test_what_may_be_a_handset(number: str) -> None:
    assert problem_of(number) is None


@pytest.mark.parametrize(
    ("number", "facts"),
    [
        ("+610491570006", "must be written +61491570006"),
        ("+4407700900603", "must be written +447700900603"),
        ("+6149157000", "+61 is followed by 9 digits"),
        ("+614915700060", "+61 is followed by 9 digits"),
        ("+61080012345", "+61 is followed by 9 digits"),
        ("+44770090060", "+44 is followed by 10 digits"),
        ("+9990000000", "no country code"),
    ],
)
def test_what_can_be_none_says_why(number: str, facts: str) -> None:
    assert facts in (problem_of(number) or "")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("0491 570 006", "+61491570006"),
        ("61491570006", "+61491570006"),
        ("+61 491 570 006", "+61491570006"),
        ("+61 (0) 491-570-006", "+61491570006"),
        ("0011 61 491 570 006", "+61491570006"),
        ("491570006", "+61491570006"),
        ("+610491570006", "+61491570006"),
        ("+61\u00a0491\u200b570\u2011006", "+61491570006"),
        ("＋６１４９１５７０００６", "+61491570006"),
        ("0044 7700 900603", "+447700900603"),
        ("+1 (202) 555-0101", "+12025550101"),
        ("+6149157000", None),
        ("12", None),
        ("", None),
        ("+", None),
        ("Alice", None),
        ("0491 570 006 ext 4", None),
        ("+61²", None),
    ],
)
def test_what_a_text_probably_means(typed: str, meant: str | None) -> None:
    assert did_you_mean(typed) == meant


@pytest.mark.parametrize(
    "written",
    [
        "+61491570006", "61491570006", "0061491570006", "001161491570006", "0491570006", "491570006", "0491 570 006",
        "+61 491 570 006", " 61491570006 ", "+61 (0)491 570 006", "+610491570006", "(0491) 570-006", "0491.570.006",
        "+61\u00a0491\u2011570\u2011006", "00 61 491 570 006", "+0491570006", "0011 61 491 570 006",
    ],
)  # fmt: skip
def test_every_form_of_a_handset_is_the_same_number(written: str) -> None:
    assert e164(written) == HANDSET


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("0298765432", "+61298765432"),
        ("447700900801", "+447700900801"),
        ("6421123456", "+6421123456"),
        ("687751234", "+687751234"),
        ("68255123", "+68255123"),
        ("+6834000", "+6834000"),
        ("+49 1308986", "+491308986"),
        ("+862181101", "+862181101"),
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
        "0400", "++61491570006", "61491570006x", "+614915700068010203", "\u0660491570006", "",
    ],
)  # fmt: skip
def test_what_is_no_number_of_a_handset_stays(other: str) -> None:
    assert e164(other) == other


@given(st.text(st.sampled_from("0123456789+ -()"), max_size=20) | st.text(max_size=20))
def test_the_form_of_a_number_is_its_own_form(text: str) -> None:
    assert e164(e164(text)) == e164(text)


def metadata_of(code: int | None) -> Any:
    """Return the metadata of a code's main country."""
    assert code is not None
    return PhoneMetadata.metadata_for_region_or_calling_code(code, phonenumbers.region_code_for_country_code(code))


def by_the_library(number: str) -> str | None:
    """Return the number by `phonenumbers`; None if no handset can have it."""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return None
    mobile = metadata_of(parsed.country_code).mobile
    has_mobile = mobile is not None and max(mobile.possible_length) > 0
    kind = PhoneNumberType.MOBILE if has_mobile else PhoneNumberType.UNKNOWN
    if has_mobile:
        result = phonenumbers.is_possible_number_for_type_with_reason(parsed, kind)
    else:
        result = phonenumbers.is_possible_number_with_reason(parsed)
    national = phonenumbers.national_significant_number(parsed)
    pattern = metadata_of(parsed.country_code).general_desc.national_number_pattern
    is_possible = result == ValidationResult.IS_POSSIBLE or re.fullmatch(pattern, national)
    return phonenumbers.format_number(parsed, PhoneNumberFormat.E164) if is_possible else None


_digits = st.text("0123456789", min_size=4, max_size=13)


@st.composite
def _near(draw: st.DrawFn, code: str) -> str:
    """Draw a number near its plan's example: with or without the national prefix, whole or a digit short or long."""
    metadata = metadata_of(int(code))
    example: str = (metadata.mobile and metadata.mobile.example_number) or "12345678"
    prefix: str = draw(st.sampled_from(["", metadata.national_prefix or "0"]))
    return prefix + draw(st.sampled_from([example, example[:-1], example + "5", example[3:]]))


@settings(max_examples=2000)
@given(st.sampled_from(sorted(PLANS)).flatmap(lambda code: (_digits | _near(code)).map(lambda rest: f"+{code}{rest}")))
def test_the_library_says_the_same(number: str) -> None:
    if not 8 <= len(number) <= 16:
        return
    written = by_the_library(number)
    problem = problem_of(number)
    if written is None:
        assert problem is not None
        assert "written" not in problem
    else:
        assert problem == (None if written == number else f"must be written {written}")
