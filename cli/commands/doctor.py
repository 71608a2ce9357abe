"""`doctor`: check a stack after its deployment."""

from __future__ import annotations

from dataclasses import asdict

import click

from cli.context import CommandContext, with_context
from cli.doctor import Check, Result, examine
from cli.errors import Exit
from cli.output import Tone, counted

_RESULT_TONES: dict[Result, Tone] = {"ok": "good", "warning": "unsure", "failed": "bad", "skipped": "dim"}


@click.command()
@with_context
def doctor(context: CommandContext) -> None:
    """Check a stack after its deployment. Prints the remedy for each failure; sends nothing."""
    checks: list[Check] = []
    for check in examine(context.target):
        checks.append(check)
        context.out.line(f"{check.result:<8} {check.name}: {check.finding}", _RESULT_TONES[check.result])
        if check.remedy and check.result in ("failed", "warning"):
            context.out.line(f"         → {check.remedy}")
    context.out.document([asdict(check) for check in checks])
    failed = sum(check.result == "failed" for check in checks)
    if failed:
        context.out.line(f"{failed} failed", "bad")
        raise SystemExit(int(Exit.NOT_ALL))
    warnings = sum(check.result == "warning" for check in checks)
    context.out.line(f"no failure, {counted(warnings, 'warning')}" if warnings else "all checks passed", "good")
