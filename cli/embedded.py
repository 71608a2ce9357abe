"""Run a command inside another program, such as the phone page: on a given stack, without questions."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

import click

from cli.errors import CliError, Exit
from cli.main import main
from cli.output import Output, Tone
from cli.target import Target


@dataclass(frozen=True)
class KeptOutput(Output):
    """Keeps the command's output: lines with their tone."""

    lines: list[tuple[str, Tone]] = field(default_factory=list)

    def line(self, text: str = "", tone: Tone = "plain") -> None:
        """Keep a line."""
        if text:
            self.lines.append((text, tone))

    def note(self, text: str, tone: Tone = "dim") -> None:
        """Keep a note."""
        self.lines.append((text, tone))

    @property
    def progress(self) -> TextIO:
        """Do nothing, because no user sees it."""
        return io.StringIO()


@dataclass(frozen=True)
class Embedding:
    """The click object of the command: its stack and its output."""

    target: Target
    out: KeptOutput = field(default_factory=KeptOutput)


@dataclass(frozen=True)
class Ran:
    """How a command ended; ``exit_code``: docs/cli.md."""

    exit_code: int
    lines: Sequence[tuple[str, Tone]]


def run(arguments: Sequence[str], target: Target) -> Ran:
    """Run a command with its arguments. Include --yes, because the command can't ask."""
    name, *rest = arguments
    command = main.get_command(click.Context(main), name)
    if command is None:
        raise ValueError(f"{name}: no such command")
    embedding = Embedding(target)
    lines = embedding.out.lines
    try:
        ended = command.main(rest, prog_name=f"optus-sms {name}", standalone_mode=False, obj=embedding)
        return Ran(ended if isinstance(ended, int) else Exit.OK, lines)
    except CliError as error:
        words = [each for each in (error.problem, error.next_step) if each]
        return Ran(error.exit_code, [*lines, *((each, "bad") for each in words)])
    except click.ClickException as error:
        return Ran(error.exit_code, [*lines, (error.format_message(), "bad")])
    except SystemExit as end:
        return Ran(end.code if isinstance(end.code, int) else Exit.FAILED, lines)
