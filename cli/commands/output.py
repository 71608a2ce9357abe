"""`output`: an output of the stack, for other commands."""

import click

from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.parameters import Name


@click.command()
@click.argument("name", type=Name())
@with_context
def output(context: CommandContext, *, name: str) -> None:
    """Print an output of the stack. NAME is an output of the template, such as OutboundQueueUrl."""
    outputs = context.target.outputs
    if name not in outputs:
        raise CliError(f"This stack has no output {name}.", f"Its outputs: {', '.join(sorted(outputs))}", Exit.USAGE)
    value = outputs[name]
    context.out.document({name: value})
    context.out.line(value)
