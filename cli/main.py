"""The command `optus-sms`. It imports only the called command: importing AWS's client takes longer than using it."""

import importlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from cli.errors import CliError, Exit
from cli.output import discard_stdout

# Each command's place in `cli.commands`, and the first sentence of its help.
_COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "send": ("send:send", "Queue the message TEXT to DESTINATION, a number in any form."),
    "status": ("status:status", "Show the stage of the message ID."),
    "explain": ("explain:explain", "Explain what happened to the message ID."),
    "find": ("find:find_", "Find a message wherever it is."),
    "conversation": ("conversation:conversation", "List the messages to a handset, and its replies."),
    "list": ("list:list_", "List messages by stage."),
    "dead-letters": ("dead_letters:dead_letters", "List the dead letters, newest first."),
    "redrive": ("redrive:redrive", "Send dead letters again."),
    "recall": ("recall:recall", "Recall messages that were not sent."),
    "erase": ("erase:erase_", "Erase a person's number, messages and replies."),
    "opt-outs": ("opt_outs:opt_outs", "List or change opt-outs."),
    "resolve": ("resolve:resolve", "Resolve an unknown outcome."),
    "replay-callbacks": ("replay_callbacks:replay_callbacks", "Post unreadable callbacks again."),
    "pause": ("pause:pause", "Pause sending."),
    "resume": ("pause:resume", "Resume sending."),
    "health": ("health:health", "Show the gateway's health."),
    "logs": ("logs:logs", "Show the log records of one function or all."),
    "output": ("output:output", "Print an output of the stack."),
    "set-gateway-credentials": ("set_gateway_credentials:set_gateway_credentials", "Store the gateway's credentials."),
    "callback-urls": ("callback_urls:callback_urls_", "Print the URLs for the gateway's portal."),
    "rotate-callback-password": (
        "rotate_callback_password:rotate_callback_password", "Rotate the password of the callback URLs.",
    ),
    "doctor": ("doctor:doctor", "Check a stack after its deployment."),
}  # fmt: skip


class _Commands(click.Group):
    """The commands. If the terminal's character set lacks a character, a question mark is printed."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Override click's method."""
        sys.stdin = sys.stdin or io.TextIOWrapper(io.BytesIO())  # None if the shell closed it
        sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as it runs
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # from click's own output, such as --help
            discard_stdout()
            click.echo(f"Error: The output can't be written: {error.strerror}.", err=True)
            sys.exit(int(Exit.FAILED))

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Override click's method."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Override click's method."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"cli.commands.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Override click's method: if a command's option is before the command, the error names the right place."""
        given = tuple(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = next((word for word in given if word in _COMMANDS), "")
            command = self.get_command(ctx, name)
            options = command.params if command else ()
            option = next((each for each in options if error.option_name in each.opts), None)
            if option is None:
                raise
            value = f" {option.make_metavar()}" if getattr(option, "is_flag", True) is False else ""
            usage = f"optus-sms {name} {error.option_name}{value}"
            raise click.UsageError(f"{error.option_name} goes after the command: {usage}", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Override click's method; it handles Ctrl-C also while a command is imported."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise CliError("Interrupted.", code=Exit.INTERRUPTED) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="optus-sms")
def main() -> None:
    """Send SMS, follow them, explain what happened to them, and handle those that need an operator.

    Works on the stack that --stack names; without --stack, on the local stack of this folder (`make run`). ID is a
    message_id, a gateway ID or a reference. Exit codes: docs/cli.md.
    """
