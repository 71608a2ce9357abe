"""Which replies opt a handset out of messages, or back in."""

import unicodedata
from typing import Final, NamedTuple

# Unicode's categories of spaces, controls and format characters; an unassigned character can be a new emoji.
_INVISIBLE: Final = {"Zs", "Zl", "Zp", "Cc", "Cf"}


def parse_words(text: str) -> frozenset[str]:
    """Return the words of a list such as ``STOP,OPT OUT``, as `_canonical` has them."""
    return frozenset(filter(None, map(_canonical, text.split(","))))


class OptOutWords(NamedTuple):
    """The words that opt a handset out and back in. A word in both lists opts out."""

    opt_out: frozenset[str] = frozenset()
    opt_in: frozenset[str] = frozenset()

    def decision(self, content: str | None) -> bool | None:
        """Return whether a reply opts its handset out (True) or back in (False); None if its whole text is neither."""
        word = _canonical(content or "")
        if word in self.opt_out:
            return True
        return False if word in self.opt_in else None


def _canonical(text: str) -> str:
    """Return a text without the spaces around it, its case and one closing punctuation mark."""
    text = _trimmed(text)
    if text and unicodedata.category(text[-1]).startswith("P"):
        text = _trimmed(text[:-1])
    return text.casefold()


def _trimmed(text: str) -> str:
    """Return a text without the spaces and other invisible characters around it, such as marks of direction."""
    shown = [index for index, character in enumerate(text) if unicodedata.category(character) not in _INVISIBLE]
    return text[shown[0] : shown[-1] + 1] if shown else ""
