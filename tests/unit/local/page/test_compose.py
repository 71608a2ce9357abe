"""The form's view of a message while it is typed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.page.compose import counted, look
from optus_sms.model.queue_message import OutboundMessage
from optus_sms.model.segments import GSM_BASIC, GSM_EXTENSION, count_segments

TEXT = st.text(min_size=1, max_size=400) | st.text(st.sampled_from(sorted(GSM_BASIC | GSM_EXTENSION)), min_size=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"segments": 0}),
        ("Hello", {"segments": 1, "encoding": "GSM-7", "units": 5, "left_in_segment": 155, "culprits": []}),
        ("€" * 80, {"segments": 1, "encoding": "GSM-7", "units": 160, "left_in_segment": 0, "culprits": []}),
        ("a" * 161, {"segments": 2, "encoding": "GSM-7", "units": 161, "left_in_segment": 145, "culprits": []}),
        # No escape pair is split: the first part ends one unit early.
        ("a" * 152 + "€" + "a" * 7, {"segments": 2, "units": 161, "left_in_segment": 144}),
        ("я" * 70, {"segments": 1, "encoding": "UCS-2", "units": 70, "left_in_segment": 0}),
        ("😀" * 36, {"segments": 2, "units": 72, "left_in_segment": 61}),
    ],
)
def test_segments_units_and_what_is_left(text: str, expected: dict[str, Any]) -> None:
    assert expected.items() <= counted(text).items()


@given(TEXT)
def test_what_is_left_is_exactly_what_fits(text: str) -> None:
    told = counted(text)
    assert count_segments(text + "a" * told["left_in_segment"]).count == told["segments"]
    assert count_segments(text + "a" * (told["left_in_segment"] + 1)).count == told["segments"] + 1


@given(TEXT)
def test_without_its_culprits_a_text_is_gsm(text: str) -> None:
    told = counted(text)
    culprits = {culprit["char"] for culprit in told["culprits"]}
    assert all(text[culprit["at"]] == culprit["char"] for culprit in told["culprits"])
    assert (told["encoding"] == "UCS-2") is bool(culprits)
    assert count_segments("".join(character for character in text if character not in culprits)).encoding == "GSM-7"


def test_a_culprit_is_named_once_where_it_first_stands() -> None:
    assert counted("it’s ‘here’ \u0007")["culprits"] == [
        {"char": "’", "at": 2, "name": "RIGHT SINGLE QUOTATION MARK"},
        {"char": "‘", "at": 5, "name": "LEFT SINGLE QUOTATION MARK"},
        {"char": "\u0007", "at": 12, "name": "U+0007"},
    ]


def test_half_a_surrogate_pair_is_told_and_breaks_nothing() -> None:
    told = look({"destination": "+61491570006", "content": "half \ud83c"})
    assert told["fields"].keys() == {"content"}
    assert told["encoding"] == "UCS-2"


def test_each_broken_rule_stands_with_its_field_in_the_words_of_the_schema() -> None:
    rules = OutboundMessage.model_fields
    told = look({"destination": "12", "content": "a" * 1531, "mask": "!", "sms_class": 9})
    assert told["fields"].keys() == {"destination", "content", "mask", "sms_class"}
    assert told["fields"]["destination"] == rules["destination"].description
    assert told["fields"]["mask"] == rules["mask"].description
    assert told["segments"] == 11


def test_what_is_missing_and_what_contradicts_is_told() -> None:
    earlier, later = "2026-12-24T09:00:00+11:00", "2026-12-24T09:05:00+11:00"
    fields = look({"scheduled": later, "expires_at": earlier})["fields"]
    assert fields["destination"].startswith("is missing; must be an E.164 number")
    fields = look({"destination": "+61491570006", "content": "a", "scheduled": later, "expires_at": earlier})["fields"]
    assert fields == {"expires_at": "must be later than scheduled"}


@pytest.mark.parametrize("content", [None, 5, ["a"], {"a": "b"}])
def test_a_text_that_is_none_has_no_segments(content: object) -> None:
    told = look({"content": content})
    assert told["segments"] == 0
    assert "content" in told["fields"]
