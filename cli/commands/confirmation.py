"""Ask before something is done."""

from __future__ import annotations

import sys

import click

from cli.errors import CliError, Exit


def ask(question: str, *, yes: bool) -> None:
    """Ask for confirmation, unless --yes was given; raise `CliError` if it is refused."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError(
            "Nothing was done: this command asks first, and stdin is not a terminal.", "Add --yes.", Exit.USAGE
        )
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        raise CliError("Nothing was done.", code=Exit.INTERRUPTED) from None
    if not agreed:
        raise CliError("Nothing was done.", code=Exit.USAGE)
