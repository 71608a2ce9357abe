"""`send --file`: a file of messages, resumable."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from cli.checked_message import Ready, new_key
from cli.context import CommandContext
from cli.errors import CliError, Exit
from cli.journal import Journal
from cli.message_file import read_lines, wrong_lines
from cli.output import counted
from cli.queue_counts import queue_counts
from cli.queueing import SQS_COUNTS_AFTER_SECONDS, queue_all, stopping_between_batches


def send_file(
    context: CommandContext, path: Path, journal_path: Path, dry_run: bool, *, skip_invalid: bool, queue_uncertain: bool
) -> None:
    if dry_run:
        _dry_run_file(context, path, skip_invalid)
        return
    with Journal(journal_path, context.target.stack_id) as journal:
        ready, wrong = read_lines(path, journal.key_of)
        _refuse_wrong(path, wrong, skip_invalid=skip_invalid)
        held = set() if queue_uncertain else _held(context, journal) & {message.key for message in ready}
        waiting = [message for message in ready if message.key not in journal.queued | held]
        earlier = sum(message.key in journal.queued for message in ready)
        if earlier:
            context.out.note(f"{earlier} of {len(ready)} were queued before, by {journal.path}.")
        refused = _queue_with_progress(context, waiting, journal)
    counts = {"queued": len(waiting) - len(refused), "earlier": earlier, "held": len(held)}
    _report_file(context, journal, counts, refused, wrong)


def _dry_run_file(context: CommandContext, path: Path, skip_invalid: bool) -> None:
    ready, wrong = read_lines(path, lambda _line, _occurrence: new_key())
    parts = sum(message.message.segments.count for message in ready)
    ucs2 = sum(message.message.segments.encoding == "UCS-2" for message in ready)
    context.out.document({"valid": len(ready), "parts": parts, "ucs2": ucs2, "invalid": wrong})
    told = f"{counted(len(ready), 'message')} ({ucs2} in UCS-2), {counted(parts, 'part')}; nothing was queued"
    context.out.line(told)
    _refuse_wrong(path, wrong, skip_invalid=skip_invalid)


def _refuse_wrong(path: Path, wrong: dict[int, str], *, skip_invalid: bool) -> None:
    if wrong and not skip_invalid:
        raise CliError(
            wrong_lines(path, wrong),
            f"Lines with a mistake: {len(wrong)}; nothing was queued now. Mend them, or add --skip-invalid. "
            "Each line must be one JSON object.",
            Exit.INVALID,
        )


def _held(context: CommandContext, journal: Journal) -> set[str]:
    """Of a batch during which an earlier run was killed: what may be on the queue, and must not be put there again.

    What the ledger knows was queued; what it doesn't, while the queue is empty, was not.
    """
    if not journal.uncertain:
        return set()
    counts = queue_counts(context.target, context.url("OutboundQueueUrl"))
    nobody_waits = journal.idle_seconds >= SQS_COUNTS_AFTER_SECONDS and not any(counts.values())
    # Read after the counts: whoever took a message from the queue since then has written its record.
    known = [key for key in sorted(journal.uncertain) if context.tables.ledger_item(key)]
    if known:
        journal.found(known)
    return set() if nobody_waits else journal.uncertain - set(known)


def _queue_with_progress(context: CommandContext, waiting: list[Ready], journal: Journal) -> list[str]:
    if not waiting:
        return []
    sqs, url = context.target.sqs, context.url("OutboundQueueUrl")
    progress: Any = click.progressbar(length=len(waiting), label="queueing", file=sys.stderr, show_pos=True)
    with stopping_between_batches() as stop, progress as bar:
        return queue_all(sqs, url, waiting, journal, progress=bar.update, stop=stop)


def _report_file(
    context: CommandContext, journal: Journal, counts: dict[str, int], refused: list[str], wrong: dict[int, str]
) -> None:
    out = context.out
    out.document({**counts, "refused_by_sqs": refused, "invalid": wrong, "journal": str(journal.path)})
    out.line(f"{counts['queued']} queued, {counts['earlier']} before", "good")
    if wrong:
        out.note(f"Invalid lines left out: {len(wrong)}.", "unsure")
    if refused:
        out.note(f"SQS did not take {len(refused)}; the same command tries them again.", "bad")
    if counts["held"]:
        out.note(
            f"{counts['held']} may be on the queue already, because an earlier run ended in the middle of a batch; "
            "they were not queued again. The same command resolves it a minute later, as soon as the queue is empty "
            "(`health`). To queue them at once, under the same message_id, so that each is still sent once, add "
            "--queue-uncertain.",
            "unsure",
        )
    if refused or wrong or counts["held"]:
        raise SystemExit(int(Exit.NOT_ALL))
    if counts["earlier"] and not counts["queued"]:
        out.note(f"To queue all of it once more, as new messages, remove {journal.path}.")
