"""`erase`: remove what identifies a person."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

import click

from cli.context import CommandContext, with_context
from cli.erasing import Erased, erase
from cli.errors import CliError, Exit
from cli.output import counted
from cli.parameters import Name
from cli.queueing import stopping_between_batches
from optus_sms.model.numbers import did_you_mean
from optus_sms.model.redaction import partly_hidden

_ELSEWHERE: Final = (
    "Not reached: backups of the tables (35 days; erase again after a restore), targets of the event bus, the systems "
    "that queued the messages, and the gateway (docs/privacy.md)."
)


@click.command("erase")
@click.argument("handset", type=Name())
@click.option("--dry-run", is_flag=True, help="Only list what would be erased.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
def erase_(context: CommandContext, *, handset: str, dry_run: bool, yes: bool) -> None:
    """Erase a person's number, messages and replies. HANDSET is +61…; message_ids stay, so that none is sent again.

    Recalls what waits to be sent to it: `pause` first, or the queue is not searched. Can be interrupted and repeated.
    """
    number = did_you_mean(handset)
    if number is None:
        raise CliError("HANDSET: is no possible number.", "Give it as it was sent to: +61…", Exit.INVALID)
    is_paused = context.target.switch.is_on() is False
    if dry_run or not yes:
        found = _done(erase(context.target, number, is_paused=is_paused, dry_run=True), "searching")
        if dry_run:
            _report(context, found, is_paused=is_paused, dry_run=True)
            return
        _list(context, found, "Would be erased:")
        name = f"{partly_hidden(number)} on {context.target.name}"
        context.confirm(f"Erase {counted(len(found), 'item')} of {name}? It can't be undone.", yes=yes)
    done = _done(erase(context.target, number, is_paused=is_paused, dry_run=False), "erasing")
    _report(context, done, is_paused=is_paused, dry_run=False)


def _done(steps: Iterator[Erased | None], label: str) -> list[Erased]:
    """Take all steps, with progress. Ctrl-C, SIGTERM and a lost terminal end them between two."""
    progress: Any = click.progressbar(steps, label=label, file=sys.stderr, show_pos=True, update_min_steps=100)
    found: list[Erased] = []
    with stopping_between_batches() as stop, progress as bar:
        for step in bar:
            if step is not None:
                found.append(step)
            if stop():
                raise KeyboardInterrupt
    return found


def _report(context: CommandContext, found: list[Erased], *, is_paused: bool, dry_run: bool) -> None:
    context.out.document({"dry_run": dry_run, "queue_read": is_paused, "items": [asdict(each) for each in found]})
    _list(context, found, "Would be erased:" if dry_run else "Erased:")
    if not is_paused:
        unread = (
            "The queue was not searched, since sending is not paused: what waits there is sent. `pause`, then repeat."
        )
        context.out.note(unread, "unsure")
    context.out.note(_ELSEWHERE)
    if not is_paused or any(each.left for each in found):
        raise SystemExit(int(Exit.NOT_ALL))


def _list(context: CommandContext, found: list[Erased], title: str) -> None:
    erased = Counter(each.place for each in found if not each.left)
    context.out.line(title)
    for place, count in erased.items():
        context.out.line(f"{count:>6}  {place}", "good")
    if not erased:
        context.out.line("  none")
    if left := [(each.place, each.id, each.left) for each in found if each.left]:
        context.out.table(("left in", "message_id", "why"), left)
