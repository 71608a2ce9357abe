"""The command `optus-sms`."""

import io
import sys
from typing import Any

import click

from cli.commands.callback_urls import callback_urls_
from cli.commands.conversation import conversation
from cli.commands.dead_letters import dead_letters
from cli.commands.doctor import doctor
from cli.commands.explain import explain
from cli.commands.health import health
from cli.commands.list import list_
from cli.commands.pause import pause, resume
from cli.commands.redrive import redrive
from cli.commands.resolve import resolve
from cli.commands.rotate_callback_password import rotate_callback_password
from cli.commands.send import send
from cli.commands.set_gateway_credentials import set_gateway_credentials
from cli.commands.status import status


class _OnAnyTerminal(click.Group):
    """Prints a question mark for a character that the terminal's character set lacks."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click calls it."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        return super().main(*args, **kwargs)


@click.group(cls=_OnAnyTerminal, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="optus-sms")
def main() -> None:
    """Send SMS, follow them, explain what happened to them, and resolve what needs an operator.

    Works on the stack that --stack names, else on the local stack of this folder (`make run`). ID is a message_id, a
    gateway ID or a reference. Exit codes: docs/cli.md.
    """


for command in (
    send, status, explain, conversation, list_, dead_letters, redrive, resolve,
    pause, resume, health, set_gateway_credentials, callback_urls_, rotate_callback_password, doctor,
):  # fmt: skip
    main.add_command(command)
