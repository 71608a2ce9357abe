"""`doctor`: check a stack after its deployment."""

from collections import Counter

import click

from cli.context import CommandContext, with_context
from cli.doctor import Result, examine
from cli.errors import Exit
from cli.output import Tone, counted

_RESULT_TONES: dict[Result, Tone] = {"ok": "good", "warning": "unsure", "failed": "bad", "skipped": "dim"}


@click.command()
@with_context
def doctor(context: CommandContext) -> None:
    """Check a stack after its deployment. Prints a remedy for each failure. Sends no message."""
    out, document = context.out, []
    for name, check in examine(context.target):
        document.append({"name": name, **check._asdict()})
        out.line(f"{check.result:<8} {name}: {check.finding}", _RESULT_TONES[check.result])
        if check.remedy:
            out.line(f"         → {check.remedy}")
    out.document(document)
    count = Counter(check["result"] for check in document)
    if count["failed"]:
        out.line(f"{count['failed']} failed", "bad")
        raise SystemExit(int(Exit.NOT_ALL))
    warnings = count["warning"]
    out.line(f"no failure, {counted(warnings, 'warning')}" if warnings else "all checks passed", "good")
