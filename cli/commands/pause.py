"""`pause`, `resume`: stop sending, and send again."""

from __future__ import annotations

import click

from cli.context import CommandContext, with_context
from cli.sending_switch import pause_sending, resume_sending


@click.command()
@with_context
def pause(context: CommandContext) -> None:
    """Stop sending; messages wait in the queue. They spend no tries; only `resume` ends it."""
    pause_sending(context.target)
    context.out.document({"paused": True})
    context.out.line("Paused: messages wait in the queue (up to 10 days). What is being sent now ends.", "unsure")
    context.out.line("`resume` lets them go.")


@click.command()
@with_context
def resume(context: CommandContext) -> None:
    """Send again, also if the health check had paused."""
    resume_sending(context.target)
    context.out.document({"paused": False})
    context.out.line("Sending again.", "good")
