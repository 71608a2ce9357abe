"""Runs the command line in the test's own process; returns its output and exit code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
from click.testing import CliRunner

from cli.main import main


@dataclass(frozen=True)
class Ran:
    """``exit_code``: docs/cli.md."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The JSON on stdout."""
        assert self.stdout, f"exit code {self.exit_code}: {self.stderr}"
        return json.loads(self.stdout)

    @property
    def entries(self) -> list[Any]:
        """The JSON lines on stdout."""
        return [json.loads(line) for line in self.stdout.splitlines()]


def optus_sms(*arguments: object, stdin: str | bytes | None = None) -> Ran:
    """Run `optus-sms` with these arguments. Unexpected errors are raised."""
    result = CliRunner(mix_stderr=False).invoke(main, [str(argument) for argument in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def commands() -> dict[str, click.Command]:
    """Return every command of `optus-sms`, by name."""
    context = click.Context(main)
    found = {name: main.get_command(context, name) for name in main.list_commands(context)}
    return {name: command for name, command in found.items() if command}


@contextmanager
def umask_of_anybody() -> Iterator[None]:
    """Set a umask that keeps the modes that the code requests."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)
