"""`health`: the gateway as the stack sees it, and whether sending is on."""

from __future__ import annotations

from dataclasses import asdict

import click

from cli.context import CommandContext, with_context
from cli.health import HealthReport, health_of
from cli.output import Tone


@click.command()
@with_context
def health(context: CommandContext) -> None:
    """Show the gateway's health. Also whether sending is on, and how many messages wait."""
    found = health_of(context.target)
    context.out.document(asdict(found))
    _show_health(context, found)


def _show_health(context: CommandContext, found: HealthReport) -> None:
    out = context.out
    tones: dict[str, Tone] = {"healthy": "good", "unhealthy": "bad"}
    since = f" since {found.since}" if found.since else ""
    out.line(f"gateway      {found.state}{since}: {found.reason}", tones.get(found.state, "unsure"))
    out.line(f"checked at   {found.checked_at or 'never'}")
    out.line(f"credentials  {found.credentials}", "bad" if found.credentials == "refused" else "plain")
    if found.sending == "paused":
        out.line(f"sending      paused, by {found.paused_by}", "unsure")
    else:
        out.line(f"sending      {found.sending}", "good" if found.sending == "on" else "unsure")
    out.line(f"queue        {found.waiting} waiting, {found.in_flight} in flight, {found.delayed} delayed")
    out.line(f"dead letters {found.dead_letters}", "bad" if found.dead_letters else "plain")
