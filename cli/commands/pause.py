"""`pause`, `resume`: stop sending, and send again."""

from __future__ import annotations

import click

from cli.context import CommandContext, with_context
from cli.sending_switch import pause_sending, resume_sending


@click.command()
@with_context
def pause(context: CommandContext) -> None:
    """Pause sending. Messages wait in the queue and spend no attempts; only `resume` ends it."""
    pause_sending(context.target)
    context.out.document({"paused": True})
    context.out.line("Paused: messages wait in the queue (up to 10 days). Messages in flight are finished.", "unsure")
    context.out.line("`resume` sends them.")


@click.command()
@with_context
def resume(context: CommandContext) -> None:
    """Resume sending. Ends a pause by the health check too."""
    resume_sending(context.target)
    context.out.document({"paused": False})
    context.out.line("Resumed.", "good")
