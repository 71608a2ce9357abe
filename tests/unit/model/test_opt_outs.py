"""Which texts opt out and in."""

from __future__ import annotations

import pytest

from optus_sms.model.opt_outs import OptOutWords, parse_words
from tests.support.aws import template_source

DEFAULTS = {name: template_source()["Parameters"][name]["Default"] for name in ("OptOutWords", "OptInWords")}
WORDS = OptOutWords(parse_words(DEFAULTS["OptOutWords"]), parse_words(DEFAULTS["OptInWords"]))


@pytest.mark.parametrize(
    "text",
    [
        *("STOP", "stop", "Stop.", " STOP!\r\n", "stop .", "\u00a0Stop\u00a0", "STOP\uff01", "STOPALL", "Unsubscribe"),
        *("end", "quit", "OptOut", "opt out", "Opt Out."),
        *("STOP\0", "\ufeffSTOP", "\u200bStop\u200b.\u200b", "\u2068STOP\u2069"),
    ],
)
def test_the_whole_text_opts_out(text: str) -> None:
    assert WORDS.decision(text) is True


@pytest.mark.parametrize("text", ["START", "unstop.", " Start "])
def test_the_whole_text_opts_back_in(text: str) -> None:
    assert WORDS.decision(text) is False


@pytest.mark.parametrize(
    "text",
    [
        *("STOP 12345", "please stop by at nine", "don't stop", "STOP!!", ".STOP", "S TOP", "STOPPED", "Yes please"),
        *("", " ", ".", None, "optout out", "\U0001f6d1"),
        *("STOP \uf8ff", "STOP \U0001faff", "STOP \u0378"),
    ],
)
def test_any_other_text_is_a_reply_like_any_other(text: str | None) -> None:
    assert WORDS.decision(text) is None


def test_case_is_folded_in_every_script() -> None:
    words = OptOutWords(parse_words("STRASSE, \u0421\u0422\u041e\u041f ,"))
    assert [words.decision(text) for text in ("straße", "\u0441\u0442\u043e\u043f!", "")] == [True, True, None]


def test_without_words_no_reply_decides() -> None:
    assert parse_words("") == frozenset()
    assert OptOutWords().decision("STOP") is None


def test_a_word_of_both_lists_opts_out() -> None:
    assert OptOutWords(parse_words("OFF"), parse_words("OFF")).decision("off") is True
