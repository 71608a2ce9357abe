"""The segments of a text, compared with the published alphabets and a slow, obvious implementation."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from optus_sms.model.segments import GSM_BASIC, GSM_EXTENSION, Segments, count_segments

# 3GPP TS 23.038, 6.2.1: code points in the order of the table, 0x00 to 0x7F without 0x1B, the escape.
BASIC_TABLE = [
    0x40, 0xA3, 0x24, 0xA5, 0xE8, 0xE9, 0xF9, 0xEC, 0xF2, 0xC7, 0x0A, 0xD8, 0xF8, 0x0D, 0xC5, 0xE5,
    0x394, 0x5F, 0x3A6, 0x393, 0x39B, 0x3A9, 0x3A0, 0x3A8, 0x3A3, 0x398, 0x39E, 0xC6, 0xE6, 0xDF, 0xC9,
    0x20, 0x21, 0x22, 0x23, 0xA4, *range(0x25, 0x40),
    0xA1, *range(0x41, 0x5B), 0xC4, 0xD6, 0xD1, 0xDC, 0xA7,
    0xBF, *range(0x61, 0x7B), 0xE4, 0xF6, 0xF1, 0xFC, 0xE0,
]  # fmt: skip
EXTENSION_TABLE = [0x0C, 0x5E, 0x7B, 0x7D, 0x5C, 0x5B, 0x7E, 0x5D, 0x7C, 0x20AC]
BASIC = "".join(map(chr, BASIC_TABLE))
EXTENSION = "".join(map(chr, EXTENSION_TABLE))


def parts_of(text: str) -> tuple[str, list[str]]:
    """Return the segments, filled one character after the other."""
    gsm = all(character in BASIC + EXTENSION for character in text)

    def size(part: str) -> int:
        if gsm:
            return sum(2 if character in EXTENSION else 1 for character in part)
        return len(part.encode("utf-16-be", "surrogatepass")) // 2

    alone, each = (160, 153) if gsm else (70, 67)
    if size(text) <= alone:
        return ("GSM-7" if gsm else "UCS-2"), [text]
    parts = [""]
    for character in text:
        if size(parts[-1] + character) > each:
            parts.append("")
        parts[-1] += character
    return ("GSM-7" if gsm else "UCS-2"), parts


def test_alphabet_is_the_published_one() -> None:
    assert len(BASIC_TABLE) == 127
    assert set(BASIC) == GSM_BASIC
    assert set(EXTENSION) == GSM_EXTENSION


@pytest.mark.parametrize(("alphabet", "fit"), [(BASIC, 160), (EXTENSION, 80)], ids=["basic", "extension"])
def test_every_basic_character_counts_one_and_every_other_of_gsm_two(alphabet: str, fit: int) -> None:
    full = {character: count_segments(character * fit) for character in alphabet}
    over = {character: count_segments(character * (fit + 1)) for character in alphabet}
    assert full == dict.fromkeys(alphabet, Segments("GSM-7", 1))
    assert over == dict.fromkeys(alphabet, Segments("GSM-7", 2))


@pytest.mark.parametrize("character", ["ç", "`", "á", "\t", "–", "’", "\u00a0", "你", "\x1b"])
def test_any_other_character_makes_it_ucs_2(character: str) -> None:
    assert count_segments("ab" + character) == Segments("UCS-2", 1, ucs2_at=2)


@pytest.mark.parametrize(
    ("text", "encoding", "count"),
    [
        ("", "GSM-7", 1),
        ("a" * 160, "GSM-7", 1),
        ("a" * 161, "GSM-7", 2),
        ("a" * 306, "GSM-7", 2),
        ("a" * 307, "GSM-7", 3),
        ("a" * 1530, "GSM-7", 10),
        ("a" * 1531, "GSM-7", 11),
        ("я" * 70, "UCS-2", 1),
        ("я" * 71, "UCS-2", 2),
        ("я" * 134, "UCS-2", 2),
        ("я" * 135, "UCS-2", 3),
        ("я" * 670, "UCS-2", 10),
        ("я" * 671, "UCS-2", 11),
        ("😀" * 35, "UCS-2", 1),
        ("😀" * 36, "UCS-2", 2),
    ],
)
def test_limits(text: str, encoding: str, count: int) -> None:
    segments = count_segments(text)
    assert (segments.encoding, segments.count) == (encoding, count)


def test_an_escape_pair_is_never_split() -> None:
    # 306 septets would fit two segments of 153, but the pair at 153 must go whole into the second, so a third is
    # needed.
    assert count_segments("a" * 152 + "€" + "a" * 152).count == 3
    assert count_segments("a" * 151 + "€" + "a" * 153).count == 2


def test_a_surrogate_pair_is_never_split() -> None:
    assert count_segments("я" * 66 + "😀" + "я" * 66).count == 3
    assert count_segments("я" * 65 + "😀" + "я" * 67).count == 2


letters = st.sampled_from(BASIC + EXTENSION * 6)
# Long texts are made of pieces; a list of a thousand single characters would only be slow.
texts = st.one_of(
    st.text(letters, max_size=400),
    st.text(st.sampled_from("яab€😀你"), max_size=200),
    st.text(max_size=200),
    st.builds(
        lambda pieces: "".join(character * times for character, times in pieces),
        st.lists(st.tuples(st.sampled_from("a€яb^😀"), st.integers(1, 160)), max_size=12),
    ),
)


@given(texts)
@example("a" * 152 + "€" + "a" * 152)
@example("😀" * 67)
def test_same_as_the_obvious_implementation(text: str) -> None:
    encoding, parts = parts_of(text)
    segments = count_segments(text)
    assert "".join(parts) == text
    assert (segments.encoding, segments.count) == (encoding, len(parts))


@given(texts)
def test_the_first_character_outside_gsm_is_found(text: str) -> None:
    foreign = [index for index, character in enumerate(text) if character not in BASIC + EXTENSION]
    assert count_segments(text).ucs2_at == (foreign[0] if foreign else None)


@given(texts, texts)
def test_more_text_never_needs_fewer_parts(text: str, more: str) -> None:
    assert count_segments(text + more).count >= count_segments(text).count
