"""`send --file`: queue a file of messages; can be resumed."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from cli.checked_message import CheckedMessage, invalid_lines, new_message_id, read_lines
from cli.context import CommandContext
from cli.errors import CliError, Exit
from cli.health import waiting_counts
from cli.journal import Journal
from cli.output import counted
from cli.queueing import SQS_COUNTS_AFTER_SECONDS, queue_all, stopping_between_batches
from cli.target import QUEUES
from optus_sms.model.lanes import Lane


def send_file(
    context: CommandContext,
    path: Path,
    journal_path: Path,
    dry_run: bool,
    *,
    skip_invalid: bool,
    queue_uncertain: bool,
    group: str | None,
    lane: Lane,
) -> None:
    if dry_run:
        _dry_run_file(context, path, skip_invalid)
        return
    rules = context.target.check_rules
    with Journal(journal_path, context.target.stack_id) as journal:
        checked, invalid = read_lines(path, journal.message_id_of, queued=journal.queued, rules=rules)
        _refuse_invalid(path, invalid, skip_invalid=skip_invalid)
        held = set() if queue_uncertain else _held(context, journal) & {message.message_id for message in checked}
        left = [message for message in checked if message.message_id not in journal.queued | held]
        waiting = [replace(message, group=group) for message in left]
        earlier = sum(message.message_id in journal.queued for message in checked)
        if earlier:
            context.out.note(f"{earlier} of {len(checked)} were queued before, according to {journal.path}.")
        refused = _queue_with_progress(context, waiting, journal, lane)
    counts = {"queued": len(waiting) - len(refused), "earlier": earlier, "held": len(held)}
    _report_file(context, journal, counts, refused, invalid)


def _dry_run_file(context: CommandContext, path: Path, skip_invalid: bool) -> None:
    checked, invalid = read_lines(path, lambda _line, _occurrence: new_message_id())
    segments = sum(message.message.segments.count for message in checked)
    ucs2 = sum(message.message.segments.encoding == "UCS-2" for message in checked)
    context.out.document({"valid": len(checked), "segments": segments, "ucs2": ucs2, "invalid": invalid})
    summary = f"{counted(len(checked), 'message')} ({ucs2} UCS-2), {counted(segments, 'segment')}; nothing was queued"
    context.out.line(summary)
    _refuse_invalid(path, invalid, skip_invalid=skip_invalid)


def _refuse_invalid(path: Path, invalid: dict[int, str], *, skip_invalid: bool) -> None:
    if invalid and not skip_invalid:
        raise CliError(
            invalid_lines(path, invalid),
            f"Invalid lines: {len(invalid)}; nothing was queued now. Correct them, or add --skip-invalid. "
            "Each line must be one JSON object.",
            Exit.INVALID,
        )


def _held(context: CommandContext, journal: Journal) -> set[str]:
    """Return the messages that may be on the queue, because an earlier run was killed during their batch.

    A message with a ledger record was queued. A message without one was not queued if the queue is empty.
    """
    if not journal.uncertain:
        return set()
    counts = waiting_counts(context.target)
    is_queue_empty = journal.idle_seconds >= SQS_COUNTS_AFTER_SECONDS and not any(counts.values())
    # Read after the counts: if the sender function has taken a message in between, its record is written.
    target = context.target
    known = [each for each in sorted(journal.uncertain) if target.ledger.read(target.id_of(each))]
    if known:
        journal.found(known)
    return set() if is_queue_empty else journal.uncertain - set(known)


def _queue_with_progress(
    context: CommandContext, waiting: list[CheckedMessage], journal: Journal, lane: Lane
) -> list[str]:
    if not waiting:
        return []
    sqs, url = context.target.sqs, context.url(QUEUES[lane])
    progress: Any = click.progressbar(length=len(waiting), label="queueing", file=sys.stderr, show_pos=True)
    with stopping_between_batches() as stop, progress as bar:
        return queue_all(sqs, url, waiting, journal, progress=bar.update, stop=stop)


def _report_file(
    context: CommandContext, journal: Journal, counts: dict[str, int], refused: list[str], invalid: dict[int, str]
) -> None:
    out = context.out
    out.document({**counts, "refused_by_sqs": refused, "invalid": invalid, "journal": str(journal.path)})
    out.line(f"{counts['queued']} queued, {counts['earlier']} before", "good")
    if invalid:
        out.note(f"Invalid lines left out: {len(invalid)}.", "unsure")
    if refused:
        out.note(f"SQS did not accept {len(refused)}; the same command queues them.", "bad")
    if counts["held"]:
        out.note(
            f"{counts['held']} may be on the queue already, because an earlier run was killed in a batch. They were "
            "not queued. Run the same command a minute later, when the queue is empty (`health`). Or add "
            "--queue-uncertain: it queues them now, under the same message_id, and each is still sent once.",
            "unsure",
        )
    if refused or invalid or counts["held"]:
        raise SystemExit(int(Exit.NOT_ALL))
    if counts["earlier"] and not counts["queued"]:
        out.note(f"To queue the file again, as new messages, remove {journal.path}.")
