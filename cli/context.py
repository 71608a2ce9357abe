"""The options that all commands share: the stack, the output, and errors with exit codes."""

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from cli import target as targets
from cli.errors import CliError, Exit, aws_errors, from_aws
from cli.output import Output, discard_stdout, json_text
from cli.parameters import Name
from cli.target import Target

R = TypeVar("R")

_CONTINUES: Final = "What was done so far is kept; the same command continues."


@dataclass
class CommandContext:
    """The options that all commands share. The stack is looked up when it is first needed."""

    stack: str | None
    local: bool
    region: str | None
    profile: str | None
    out: Output = field(default_factory=Output)
    given: Target | None = None
    """The stack of a program that runs the command in its own process (`cli.embedded`)."""
    if_interrupted: str = ""
    """The advice after an interruption, if repeating the command would do more than continue it."""

    @cached_property
    def target(self) -> Target:
        """The stack. Without an option the local stack, and a note names it."""
        if self.given is not None:
            return self.given
        found = targets.choose(stack=self.stack, local=self.local, region=self.region, profile=self.profile)
        if found.local and not self.local:
            self.out.note("On the local stack (.local/endpoints.env exists; --stack NAME selects a deployed one).")
        return found

    def url(self, output: str) -> str:
        """Return an output of the stack."""
        return self.target.outputs[output]

    def agrees(self, question: str, *, yes: bool) -> bool:
        """Ask whether to take an optional step. Return False if stdin is not a terminal, so that it can't ask."""
        try:
            return yes or (sys.stdin.isatty() and click.confirm(question, err=True))
        except click.Abort:
            return False

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask for confirmation, unless --yes was given; raise `CliError` if it is refused."""
        if yes:
            return
        if not sys.stdin.isatty():
            problem = "Nothing was done: this command asks first, and stdin is not a terminal."
            raise CliError(problem, "Add --yes.", Exit.USAGE)
        try:
            agreed = click.confirm(question, err=True)
        except click.Abort:
            raise CliError("Nothing was done.", code=Exit.INTERRUPTED) from None
        if not agreed:
            raise CliError("Nothing was done.", code=Exit.USAGE)


_OPTIONS = (
    click.option("--stack", type=Name(), envvar="OPTUS_SMS_STACK", metavar="NAME", help="Name of a deployed stack."),
    click.option("--local", is_flag=True, help="The local stack of `make run` in this folder."),
    click.option("--region", type=Name(), metavar="NAME", help="AWS region. [default: that of your AWS settings]"),
    click.option("--profile", type=Name(), metavar="NAME", help="AWS profile."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


def with_context(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the shared options as a `CommandContext`, and turn AWS's errors into `CliError`."""

    @functools.wraps(command)
    def run(
        stack: str | None, local: bool, region: str | None, profile: str | None, as_json: bool, **options: Any
    ) -> R:
        current = click.get_current_context()
        if os.environ.get("NO_COLOR"):
            current.color = False
        if local and current.get_parameter_source("stack") is ParameterSource.ENVIRONMENT:
            stack = None  # an option has precedence over an environment variable
        embedding = current.obj
        out = embedding.out if embedding else Output(as_json)
        context = CommandContext(stack, local, region, profile, out, given=embedding and embedding.target)
        try:
            return _translated(context, command, options)
        except CliError as error:
            if as_json:
                click.echo(json_text({"error": error.problem, "next": error.next_step}, ascii_only=True), err=True)
                current.exit(error.exit_code)
            raise

    wrapped: Callable[..., R] = run
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _edited_item_error() -> type[Exception]:
    """Import and return the error of an item that was edited by hand; no command without an error needs the import."""
    from optus_sms.records.table import EditedItemError

    return EditedItemError


def _translated(context: CommandContext, command: Callable[..., R], options: dict[str, Any]) -> R:
    try:
        return command(context, **options)
    except KeyboardInterrupt:
        raise CliError("Interrupted.", context.if_interrupted or _CONTINUES, Exit.INTERRUPTED) from None
    except aws_errors() as error:  # before OSError, because botocore's timeouts and TLS errors are subclasses of it
        is_local = "target" in context.__dict__ and context.target.local
        translated = from_aws(error, local=is_local, profile=context.profile)
        steps = "\n".join(step for step in (translated.next_step, context.if_interrupted) if step)
        raise CliError(translated.problem, steps, Exit(translated.exit_code)) from error
    except _edited_item_error() as error:
        raise CliError(
            "An item of this message was edited by hand: an attribute has a wrong type.",
            f"Correct the item in the table: {error}. What was done so far is kept.",
        ) from None
    except OSError as error:
        discard_stdout()
        what = f"{error.filename}: " if error.filename else "The output can't be written: "
        raise CliError(f"{what}{error.strerror or error}.", context.if_interrupted or _CONTINUES) from None
