"""Numbers, texts and IDs as they may be shown, in whatever spelling they come."""

from __future__ import annotations

import html
import json
import re
import sys
import unicodedata
from collections.abc import Callable
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optus_sms.model.redaction import (
    loggable_id,
    partly_hidden,
    printable,
    without_numbers,
    without_text,
    without_words,
)

SPELLINGS = (
    "+61491570006", "61491570006", "0491570006", "0491 570 006", "(04) 9157 0006", "+61 (0) 491 570 006",
    "+61-491-570-006", "0491.570.006", "04/9157/0006", "0491\u00a0570\u00a0006", "0491\u2013570\u2212006",
    "61,491,570,006", "0491_570_006", "0491 - 570 - 006", "04\n91570\n006", "[04] 9157 {0006}",
    "０４９１５７０００６", "＋６１４９１５７０００６", "٠٤٩١٥٧٠٠٠٦",
    "0\u200b4\u200b9\u200b1\u200b5\u200b7\u200b0\u200b0\u200b0\u200b6",
    "0491\u2060570\ufeff006", "0\u0301491570006", "𝟎𝟒𝟗𝟏𝟓𝟕𝟎𝟎𝟎𝟔", "0491+570+006", "0491%20570%20006", "%2B61491570006",
    "0491&nbsp;570&nbsp;006", "0\ufe0f\u20e34\ufe0f\u20e39\ufe0f\u20e31\ufe0f\u20e35\ufe0f\u20e37\ufe0f\u20e3",
)  # fmt: skip
WRAPPINGS: dict[str, Callable[[str], str]] = {
    "alone": str,
    "in a sentence": "no such number: {}, sorry".format,
    "in JSON": lambda number: json.dumps({"to": number}, ensure_ascii=False),
    "in escaped JSON": lambda number: json.dumps({"to": number}),
    "in JSON in JSON": lambda number: json.dumps({"body": json.dumps({"to": number})}),
    "in quotes": "“{}”".format,
    "after a letter": "tel{}x".format,
}
# Every script's ten decimal digits.
DIGITS = [
    "".join(map(chr, range(zero, zero + 10)))
    for zero in range(sys.maxunicode - 8)
    if unicodedata.category(chr(zero)) == "Nd" and unicodedata.decimal(chr(zero)) == 0
]
BETWEEN = [*"-./ \t'*~|", "", ") ", " (", *"\u00a0\u202f\u2011\u2013\u200b\u200d\u2060\u2027\u2215\u30fb"]
ESCAPES: dict[str, Callable[[str], str]] = {
    "none": str,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "a program": lambda text: "".join(
        f"\\x{ord(each):02x}" if each < "\x7f" else f"\\U{ord(each):08x}" for each in text
    ),
    "a URL": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "a URL's spaces": quote,
    "a URL twice": lambda text: quote(quote(text)),
    "HTML": lambda text: "".join(f"&#{ord(each)};" for each in text),
    "HTML, hexadecimal": lambda text: "".join(f"&#x{ord(each):X};" for each in text),
    "HTML twice": lambda text: "".join(f"&amp;#{ord(each)};" for each in text),
}


def digits_left(text: str) -> int:
    """How many digits of any script a text holds, escaped ones too."""
    for _ in range(2):
        text = html.unescape(unquote(re.sub(r"\\+(?=[uUx])", r"\\", text)))
        text = re.sub(
            r"\\(?:u(.{4})|U(.{8})|x(..))", lambda found: chr(int(found[1] or found[2] or found[3], 16)), text
        )
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return sum(character.isdigit() for character in joined)


@st.composite
def spelled_numbers(draw: st.DrawFn) -> str:
    """A phone number of five digits or more, in some script, with something between its digits, escaped somehow."""
    number = draw(st.text("0123456789", min_size=5, max_size=15))
    script = draw(st.sampled_from(DIGITS))
    between = draw(st.lists(st.sampled_from(BETWEEN), min_size=len(number), max_size=len(number)))
    prefix = draw(st.sampled_from(("", "+", "(", "(+")))
    spelled = prefix + "".join(script[int(digit)] + gap for digit, gap in zip(number, between, strict=True))
    return ESCAPES[draw(st.sampled_from(sorted(ESCAPES)))](spelled)


@pytest.mark.parametrize("wrapping", WRAPPINGS.values(), ids=WRAPPINGS)
def test_no_spelling_of_a_number_is_left(wrapping: Callable[[str], str]) -> None:
    left = [spelling for spelling in SPELLINGS if digits_left(without_numbers(wrapping(spelling)))]
    assert left == []


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
def test_no_script_and_no_escape_of_a_number_is_left(escape: Callable[[str], str]) -> None:
    numbers = [escape("".join(script[int(digit)] for digit in "0491570006")) for script in DIGITS]
    assert [number for number in numbers if digits_left(without_numbers(number))] == []
    assert len(numbers) > 60


@given(spelled_numbers(), st.sampled_from(sorted(WRAPPINGS)))
def test_no_digit_of_a_spelled_number_is_left(number: str, wrapping: str) -> None:
    assert digits_left(without_numbers(WRAPPINGS[wrapping](number))) == 0


@given(st.text())
def test_removing_numbers_twice_is_removing_them_once(text: str) -> None:
    once = without_numbers(text)
    assert without_numbers(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "the gateway refused it with status 400: Bad Request",
        "scheduled: must be at most 60 days ahead",
        "must be an RFC 3339 time with offset, like 2026-12-24T09:00:00+11:00, at most 60 days ahead",
        "2026-12-24T09:00:00.123Z received",
        "content: has 12 SMS parts, at most 10 are allowed",
        "160 characters of GSM 03.38, or 153 in each of several parts; 70, or 67",
        "HTTP 429; retry in 30 s",
        "",
    ],
)
def test_what_holds_no_number_stays_as_it_is(text: str) -> None:
    assert without_numbers(text) == text


def test_what_stands_around_a_number_stays() -> None:
    assert without_numbers("a +61491570006, b 0491 570 006 c") == "a …, b … c"
    assert without_numbers("2026-12-24T09:00Z to +61491570006.") == "2026-12-24T09:00Z to …."


@pytest.mark.parametrize(
    ("number", "expected"), [("+61491570006", "…006"), ("1234567", "…567"), ("123456", "…"), ("", "…")]
)
def test_a_partly_hidden_number_has_three_digits_at_most(number: str, expected: str) -> None:
    assert partly_hidden(number) == expected


CONTENT = "Your code is 1234. Never tell it to anybody, whoever asks."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"“{CONTENT}” is bad", "“…” is bad"),
        (f"bad: {CONTENT[:30]}", "bad: …"),
        (f"bad: {CONTENT[20:]}", "bad: …"),
        (f"“{CONTENT}”, “{CONTENT[:20]}”", "“…”, “…”"),
        ("Your message is bad", "Your message is bad"),
    ],
)
def test_what_a_text_quotes_of_a_message_is_removed(text: str, expected: str) -> None:
    assert without_text(text, CONTENT) == expected


def test_a_short_text_is_removed_where_it_is_a_word() -> None:
    assert without_text("“a” is a bad text", "a") == "“…” is … bad text"
    assert without_text("nothing", "") == "nothing"


@given(st.text(min_size=12), st.text())
def test_no_twelve_characters_of_a_message_are_left(content: str, around: str) -> None:
    assert content[:12] not in without_text(around + content + around, content) or "…" in content[:12]


@pytest.mark.parametrize(
    "gateway_id",
    ["497f6eca-6276-4993-bfeb-53cbbbba6f08", "497f6eca62764993bfeb53cbbbba6f08", "gw-1", "a:b_c".replace("_", ".")],
)
def test_an_id_is_logged_whole(gateway_id: str) -> None:
    assert loggable_id(gateway_id) == gateway_id


@pytest.mark.parametrize(
    "gateway_id", ["+61491570006", "61491570006", "to:0491570006", "0491-570-006x", "Your code", "x" * 65, ""]
)
def test_what_may_be_a_number_or_a_text_is_logged_partly_hidden(gateway_id: str) -> None:
    assert loggable_id(gateway_id) == partly_hidden(gateway_id) != gateway_id


def test_printable_text_is_cut_after_what_cannot_be_printed_is_gone() -> None:
    assert printable("a\x00\u200bb\nc" + "d" * 10, 5) == "abcdd"


@pytest.mark.parametrize(
    "spell",
    [
        str,
        str.upper,
        json.dumps,
        lambda text: json.dumps(json.dumps(text)),
        lambda text: text.replace(" ", "%20"),
        lambda text: quote(text, safe=""),
        lambda text: "".join(f"&#{ord(each)};" for each in text),
        lambda text: "".join(f"&#x{ord(each):X};" for each in text),
        lambda text: text.replace(" ", ""),
        lambda text: text[:-3],
        lambda text: text.replace(" ", "_"),
    ],
)
@pytest.mark.parametrize(
    "content", ["Dear Ann, your code is 4711 today", "Привет Анна, ваш код 4711", "ご予約は明日の九時です"]
)
def test_no_word_of_a_message_is_left_however_it_is_spelled(content: str, spell: Callable[[str], str]) -> None:
    left = without_words(f"<p>Blocked: {spell(content)}</p>", content).casefold()
    assert not [word for word in re.findall(r"[^\W_]{3,}", content.casefold()) if word in left]
    assert left.startswith("<p>blocked: ")


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_without_the_words(text: str, content: str) -> None:
    left = without_words(text, content)
    words = [word.casefold() for word in re.findall(r"[^\W_]{3,}", content)]
    assert not [found for found in re.findall(r"[^\W_]{3,}", left) if found.casefold() in words]
