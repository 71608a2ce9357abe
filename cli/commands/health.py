"""`pause`, `resume`, `health`, `callback-urls`, `rotate-callback-password`, `doctor`: running a stack."""

from __future__ import annotations

from dataclasses import asdict

import click

from cli.commands.resolve import ask
from cli.context import CommandContext, with_context
from cli.doctor import Check, Result, examine
from cli.errors import Exit
from cli.health import HealthReport, callback_urls, health_of, pause_sending, resume_sending, rotate, rotated_lately
from cli.output import Tone, counted

_RESULT_TONES: dict[Result, Tone] = {"ok": "good", "warning": "unsure", "failed": "bad", "skipped": "dim"}


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


@click.command()
@with_context
def health(context: CommandContext) -> None:
    """How the gateway is, and whether sending is on. Also how many messages wait."""
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


@click.command("rotate-callback-password")
@click.option("--yes", is_flag=True, help="Don't ask.")
@with_context
def rotate_callback_password(context: CommandContext, *, yes: bool) -> None:
    """Make a new password for the callback URLs. Prints the URLs for the gateway's portal.

    The old password counts until the next rotation, so nothing is refused before the portal has the new one.
    """
    if rotated_lately(context.target):
        context.out.note(
            "It was rotated within the last day. The password before the current one ends now: if the portal still "
            "has that one,\nits callbacks are refused until you enter the new URLs.",
            "unsure",
        )
    ask(f"Rotate the callback password of {context.target.name}?", yes=yes)
    context.again = "It may have been rotated: `callback-urls` prints the URLs as they are now. Don't rotate it twice."
    rotate(context.target)
    _show_urls(context)


@click.command("callback-urls")
@with_context
def callback_urls_(context: CommandContext) -> None:
    """Print the URLs for the gateway's portal. They hold the password."""
    _show_urls(context)


def _show_urls(context: CommandContext) -> None:
    urls = callback_urls(context.target)
    context.out.document(urls)
    context.out.line("Enter these in the gateway's portal; they hold the password, so put them nowhere else:", "good")
    for url in urls.values():
        context.out.line(url)


@click.command()
@with_context
def doctor(context: CommandContext) -> None:
    """Check a stack after its deployment. Names the remedy of each failure; sends nothing."""
    checks: list[Check] = []
    for check in examine(context.target):
        checks.append(check)
        context.out.line(f"{check.result:<8} {check.name}: {check.says}", _RESULT_TONES[check.result])
        if check.remedy and check.result in ("failed", "warning"):
            context.out.line(f"         → {check.remedy}")
    context.out.document([asdict(check) for check in checks])
    failed = sum(check.result == "failed" for check in checks)
    if failed:
        context.out.line(f"{failed} failed", "bad")
        raise SystemExit(int(Exit.NOT_ALL))
    warnings = sum(check.result == "warning" for check in checks)
    context.out.line(f"no failure, {counted(warnings, 'warning')}" if warnings else "all well", "good")


COMMANDS = (pause, resume, health, callback_urls_, rotate_callback_password, doctor)
