"""Types of arguments and options: invalid values are refused before any look-up."""

import re
import time
from pathlib import Path
from typing import Any, Final

import click

from optus_sms.model.numbers import e164
from optus_sms.model.times import format_rfc3339, parse_rfc3339

FILE: Final = click.Path(path_type=Path)
_AGO: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_NAME: Final = 255


class Text(click.ParamType):
    """A text in the character set that the locale names."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Override click's method."""
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail("must be UTF-8, or in the character set that LC_ALL names", param, ctx)
        return text


class Name(Text):
    """A name or ID: neither empty, such as from an unset shell variable, nor too long for a table's key."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Override click's method."""
        text = super().convert(value, param, ctx)
        if not 0 < len(text) <= _LONGEST_NAME:
            self.fail(f"must be 1 to {_LONGEST_NAME} characters", param, ctx)
        return text


class Group(click.ParamType):
    """A MessageGroupId of SQS: the team or system that a message is from."""

    name = "team"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Override click's method."""
        if not re.fullmatch(r"[!-~]{1,128}", str(value)):
            self.fail("must be 1 to 128 letters, digits and punctuation marks of ASCII", param, ctx)
        return str(value)


class Handset(Name):
    """A number as people write it: with spaces, national or in E.164. Gives E.164; a short code or a name unchanged."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Override click's method."""
        return e164(super().convert(value, param, ctx))


class Since(click.ParamType):
    """A time, as RFC 3339 with offset or as an age: 90s, 15m, 2h, 7d. Gives epoch seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Override click's method."""
        if isinstance(value, float):
            return value
        found = _AGO.fullmatch(value)
        try:
            seconds = time.time() - int(found[1]) * _SECONDS[found[2]] if found else parse_rfc3339(value)
            format_rfc3339(seconds)  # a time before the year 1 or after 9999 can't be formatted
        except (ValueError, OverflowError):
            self.fail("must be a time like 2026-12-24T09:00:00+11:00, or an age like 15m, 2h or 7d", param, ctx)
        return seconds
