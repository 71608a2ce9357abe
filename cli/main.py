"""The command `optus-sms`."""

import io
import sys
from typing import Any

import click

from cli.commands import health, resolve, send
from cli.commands import list as list_


class _OnAnyTerminal(click.Group):
    """Where the character set lacks a character, a question mark stands for it: no reason to end in the middle."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click calls it."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        return super().main(*args, **kwargs)


@click.group(cls=_OnAnyTerminal, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="optus-sms")
def main() -> None:
    """Send SMS, follow them, find out what became of them, and resolve what needs a person.

    Works on the stack that --stack names, else on the local stack of this folder (`make run`). KEY is a message's
    message_id, the gateway's id, or a reference. Exit codes: docs/cli.md.
    """


for module in (send, list_, resolve, health):
    for command in module.COMMANDS:
        main.add_command(command)
