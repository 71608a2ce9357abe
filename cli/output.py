"""What the command prints: lines for people, or one JSON document for programs. Colours only on a terminal."""

import codecs
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import click

from optus_sms.model.redaction import partly_hidden

Tone = Literal["good", "bad", "unsure", "dim", "plain"]
_COLOURS: Final[Mapping[str, dict[str, Any]]] = {
    "good": {"fg": "green"},
    "bad": {"fg": "red"},
    "unsure": {"fg": "yellow"},
    "dim": {"dim": True},
    "plain": {},
}
# Everything that a terminal would act on, for texts that strangers wrote; right-to-left overrides among them.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_SHOWN: Final = 60
"""Characters of a text in a table; `--json` has all of it."""


@dataclass(frozen=True)
class Output:
    """Lines go to stdout, notes to stderr. With ``as_json`` only `document` and `entry` write to stdout."""

    as_json: bool = False

    def line(self, text: str = "", tone: Tone = "plain") -> None:
        """Write a line for people; nothing with --json."""
        if not self.as_json:
            click.secho(text, **_COLOURS[tone])

    def note(self, text: str, tone: Tone = "dim") -> None:
        """Write a note to stderr, for people and with --json alike."""
        click.secho(text, err=True, **_COLOURS[tone])

    def document(self, value: object) -> None:
        """Write the whole result, with --json."""
        if self.as_json:
            click.echo(_json(value, indent=2))

    def entry(self, value: object) -> None:
        """Write one result of several on its own line, with --json."""
        if self.as_json:
            click.echo(_json(value))

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Write aligned columns, for people."""
        cells = [[one_line(str(cell)) for cell in row] for row in rows]
        widths = [max(len(line[column]) for line in [list(headers), *cells]) for column in range(len(headers))]
        self.line(_columns(headers, widths), "dim")
        for row in cells:
            self.line(_columns(row, widths))


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def one_line(text: str) -> str:
    """Return an untrusted text fit for a terminal: without control characters or line ends."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\n", " ⏎ "))


def shortened(text: str) -> str:
    """Return the beginning of a text for a table's last column, with a mark where some is left out."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: 1 segment, 2 segments."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def number_in_list(number: str | None, *, show: bool = False) -> str:
    """Return a phone number as lists show it: partly hidden, unless ``show``; a dash if there is none."""
    if not number:
        return "-"
    return one_line(number) if show else partly_hidden(number)


def _json(value: object, *, indent: int | None = None) -> str:
    """Readable where it can be; escaped, and as true, where the character set is not UTF-8."""
    is_utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
    return json.dumps(value, indent=indent, ensure_ascii=not is_utf8, default=_jsonable)


def _jsonable(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset | set) else str(value)
