"""`pause`, `resume`: stop sending, and send again."""

import click

from cli.context import CommandContext, with_context


@click.command()
@with_context
def pause(context: CommandContext) -> None:
    """Pause sending. Messages wait in the queue and spend no attempts; only `resume` ends it."""
    context.target.pause_sending()
    context.out.document({"paused": True})
    context.out.line("Paused: messages wait in the queue (up to 10 days). Messages in flight are finished.", "unsure")
    context.out.line("`resume` sends them.")


@click.command()
@with_context
def resume(context: CommandContext) -> None:
    """Resume sending. Ends a pause by the health check too."""
    context.target.resume_sending()
    context.out.document({"paused": False})
    context.out.line("Resumed.", "good")
