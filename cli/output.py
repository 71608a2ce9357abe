"""The command's output: lines for people, or one JSON document for programs. Colors only on a terminal."""

import codecs
import contextlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TextIO

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
# Characters that a terminal or an editor acts on: DEL and C1, those that change the direction of text (UAX #9) or end a
# line.
_ACTS: Final = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f"
_CONTROL: Final = re.compile(f"[\x00-\x1f{_ACTS}]")
_RAW_IN_JSON: Final = re.compile(f"[{_ACTS}\ud800-\udfff]")
"""Characters that `json` does not escape in a string, and those that UTF-8 can't encode."""
_SHOWN: Final = 60
"""The most characters of a text in a table; `--json` has the whole text."""


@dataclass(frozen=True)
class Output:
    """Lines go to stdout, notes to stderr. With ``as_json`` only `document` and `entry` write to stdout."""

    as_json: bool = False

    @property
    def progress(self) -> TextIO:
        """Where a command shows its progress."""
        return sys.stderr

    def line(self, text: str = "", tone: Tone = "plain") -> None:
        """Write a line for people; with --json write nothing."""
        if not self.as_json:
            click.secho(_harmless(text), **_COLOURS[tone])

    def note(self, text: str, tone: Tone = "dim") -> None:
        """Write a note to stderr, also with --json."""
        click.secho(_harmless(text), err=True, **_COLOURS[tone])

    def document(self, value: object) -> None:
        """Write the whole result, with --json."""
        if self.as_json:
            click.echo(json_text(value, indent=2, ascii_only=_is_stdout_ascii()))

    def entry(self, value: object) -> None:
        """Write one result of several on its own line, with --json."""
        if self.as_json:
            click.echo(json_text(value, ascii_only=_is_stdout_ascii()))

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Write aligned columns, for people."""
        cells = [[shortened(one_line(str(cell))) for cell in row] for row in rows]
        widths = [max(len(line[column]) for line in [list(headers), *cells]) for column in range(len(headers))]
        self.line(_columns(headers, widths), "dim")
        for row in cells:
            self.line(_columns(row, widths))


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def one_line(text: str) -> str:
    """Return an untrusted text that is safe for a terminal: without control characters or line ends."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\n", " ⏎ "))


def _harmless(text: str) -> str:
    """Return lines that contain untrusted texts, without control characters."""
    return "\n".join(map(one_line, text.split("\n")))


def shortened(text: str) -> str:
    """Return the beginning of a text, with a mark if the rest is cut."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: 1 segment, 2 segments."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def number_in_list(number: str | None, *, show: bool = False) -> str:
    """Return a phone number as lists show it: partly hidden, unless ``show``; a dash if there is none."""
    if not number:
        return "-"
    return one_line(number) if show else partly_hidden(number)


def json_text(value: object, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """Return readable JSON that is safe for a terminal: characters that a terminal acts on are escaped, not lost."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only, default=_jsonable)
    return _RAW_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def discard_stdout() -> None:
    """Drop stdout's buffer after a failed write; otherwise the interpreter reports the same error when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_stdout_ascii() -> bool:
    """Return whether characters beyond ASCII must be escaped, because the character set may lack them."""
    return codecs.lookup(sys.stdout.encoding).name != "utf-8"


def _jsonable(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset | set) else str(value)
