"""`erase`: remove a person's data."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import click

from cli.context import CommandContext, with_context
from cli.erasing import Erased, erase
from cli.errors import CliError, Exit
from cli.health import queue_counts
from cli.output import counted
from cli.parameters import Name
from cli.queueing import stopping_between_batches
from cli.target import QUEUE_NAMES, QUEUES, Target
from optus_sms.model.numbers import did_you_mean
from optus_sms.model.redaction import partly_hidden

_ELSEWHERE: Final = (
    "Not reached: backups of the tables (35 days; erase again after a restore), targets of the event bus, the systems "
    "that queued the messages, and the gateway (docs/privacy.md)."
)
_OPT_OUT_KEPT: Final = (
    "Its opt-out was kept, because without it messages would be sent again. --with-opt-out erases it too."
)
_REPEAT: Final = "Repeat the command in half an hour, when every reader has returned or deleted its messages."


@click.command("erase")
@click.argument("handset", type=Name())
@click.option("--with-opt-out", is_flag=True, help="Erase the handset's opt-out too: messages can be sent to it again.")
@click.option("--dry-run", is_flag=True, help="Only list what would be erased.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
def erase_(context: CommandContext, *, handset: str, with_opt_out: bool, dry_run: bool, yes: bool) -> None:
    """Erase a person's number, messages and replies. HANDSET is a number in any form.

    Recalls messages that wait to be sent to it. `pause` first; otherwise the queue is not searched. message_ids stay,
    so that no message is sent twice. Can be interrupted and repeated.
    """
    number = did_you_mean(handset)
    if number is None:
        raise CliError(
            "HANDSET: is not a possible number.",
            "Give the number with its country code, like +61491570006.",
            Exit.INVALID,
        )
    is_paused = context.target.switch.is_on() is False
    run = partial(erase, context.target, number, is_paused=is_paused, with_opt_out=with_opt_out)
    held = _held(context.target, is_paused=is_paused)
    if dry_run or not yes:
        found = _done(run(dry_run=True), "searching")
        if dry_run:
            _report(context, found, held, is_paused=is_paused, dry_run=True)
            return
        _list(context, found, "Would be erased:")
        name = f"{partly_hidden(number)} on {context.target.name}"
        context.confirm(f"Erase {counted(len(found), 'item')} of {name}? It can't be undone.", yes=yes)
    done = _done(run(dry_run=False), "erasing")
    if context.target.opt_outs.read(number):
        context.out.note(_OPT_OUT_KEPT, "unsure")
    _report(context, done, held, is_paused=is_paused, dry_run=False)


def _held(target: Target, *, is_paused: bool) -> dict[str, int]:
    """Return about how many messages other readers hold, by place. Call it before reading, because SQS's counts lag."""
    outputs = {QUEUE_NAMES[lane]: output for lane, output in QUEUES.items()} if is_paused else {}
    outputs["dead letters"] = "DeadLetterQueueUrl"
    counts = {place: queue_counts(target, output)["in_flight"] for place, output in outputs.items()}
    return {place: count for place, count in counts.items() if count}


def _done(steps: Iterator[Erased | None], label: str) -> list[Erased]:
    """Take all steps and show progress. Ctrl-C, SIGTERM and a lost terminal stop it between two steps."""
    progress: Any = click.progressbar(steps, label=label, file=sys.stderr, show_pos=True, update_min_steps=100)
    found: list[Erased] = []
    with stopping_between_batches() as stop, progress as bar:
        for step in bar:
            if step is not None:
                found.append(step)
            if stop():
                raise KeyboardInterrupt
    return found


def _report(
    context: CommandContext, found: list[Erased], held: Mapping[str, int], *, is_paused: bool, dry_run: bool
) -> None:
    items = [asdict(each) for each in found]
    context.out.document({"dry_run": dry_run, "queue_read": is_paused, "not_searched": held, "items": items})
    _list(context, found, "Would be erased:" if dry_run else "Erased:")
    if not is_paused:
        unread = "The queue was not searched, because sending is on; its messages will be sent. `pause`, then repeat."
        context.out.note(unread, "unsure")
    for place, count in held.items():
        context.out.note(f"About {count} in the {place} not searched: in flight a moment ago. {_REPEAT}", "unsure")
    context.out.note(_ELSEWHERE)
    if not is_paused or held or any(each.left for each in found):
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
