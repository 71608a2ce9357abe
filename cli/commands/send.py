"""`send`: one message or a file of them, with a dry run, and following one to its end."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from cli.commands.list import exit_code
from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.health import queue_counts
from cli.journal import (
    SQS_COUNTS_AFTER_SECONDS,
    Journal,
    Ready,
    check,
    describe,
    new_key,
    queue_all,
    queue_one,
    read_lines,
    stopping_between_batches,
    wrong_lines,
)
from cli.output import counted, one_line
from cli.timeline import TONES, Facts, is_sent_once_more, next_step, stage_of, timeline
from optus_sms.model.errors import InvalidMessageError
from optus_sms.model.times import format_rfc3339

_LOOK_EVERY_SECONDS: Final = 0.5
_BETWEEN_PROBLEMS: Final = re.compile(r"; (?=[a-z_']+: )")


@click.command()
@click.argument("to", required=False)
@click.argument("text", required=False)
@click.option("--file", "path", type=click.Path(path_type=Path), help="JSON lines instead: a message in each.")
@click.option("--journal", type=click.Path(path_type=Path), help="Of --file: what is queued. [default: FILE.journal]")
@click.option("--skip-invalid", is_flag=True, help="Of --file: queue the valid lines although others are not.")
@click.option("--queue-uncertain", is_flag=True, help="Of --file: also what may be on the queue after a kill.")
@click.option("--dry-run", is_flag=True, help="Only check, and show parts, encoding and what would be queued.")
@click.option("--follow", is_flag=True, help="Show what happens to it until its final status.")
@click.option("--timeout", type=click.IntRange(min=0), default=300, show_default=True, help="Seconds to --follow.")
@click.option("--message-id", metavar="KEY", help="Your key; the same key is sent once. [default: a new one]")
@click.option("--reference", help="Comes back with each status. [default: the message id]")
@click.option("--mask", help="Registered sender name, at most 11 characters; nobody can reply.")
@click.option("--source", help="A number or short code of your account.")
@click.option("--class", "class_", help="A routing class of your account.")
@click.option("--sms-class", type=click.IntRange(0, 3), help="0 shows at once on the handset.")
@click.option("--integration-id", metavar="UUID", help="Passed to the gateway.")
@click.option("--scheduled", metavar="TIME", help="RFC 3339 with offset; the gateway keeps it until then.")
@click.option("--expires-at", metavar="TIME", help="RFC 3339 with offset; not sent at or after it.")
@click.option("--on-unknown", type=click.Choice(["hold", "resend"]), help="If the gateway's answer is lost.")
@with_context
def send(
    context: CommandContext,
    *,
    to: str | None,
    text: str | None,
    path: Path | None,
    journal: Path | None,
    skip_invalid: bool,
    queue_uncertain: bool,
    dry_run: bool,
    follow: bool,
    timeout: int,
    class_: str | None,
    **fields: Any,
) -> None:
    """Put TEXT for the handset TO on the queue. `-` as TEXT reads it from stdin."""
    fields["class"] = class_
    if dry_run and follow:
        raise click.UsageError("--dry-run queues nothing that could be followed.")
    if path is not None:
        given = [name for name, value in fields.items() if value is not None]
        if to is not None or given or follow:
            raise click.UsageError("--file takes all fields from its lines, and can't be followed.")
        journal = journal or path.with_name(path.name + ".journal")
        _send_file(context, path, journal, dry_run, skip_invalid=skip_invalid, queue_uncertain=queue_uncertain)
        return
    if journal is not None or skip_invalid or queue_uncertain:
        raise click.UsageError("--journal, --skip-invalid and --queue-uncertain go with --file.")
    if to is None or text is None:
        raise click.UsageError("Give TO and TEXT, or --file.")
    content = _from_stdin() if text == "-" else text
    ready = _checked({"destination": to, "content": content, **fields})
    if dry_run:
        _show_dry_run(context, ready)
        return
    _queue(context, ready, follow=follow, timeout=timeout)


def _from_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise CliError("The text on stdin is not UTF-8.", "Convert it: iconv -t UTF-8.", Exit.INVALID) from None


def _queue(context: CommandContext, ready: Ready, *, follow: bool, timeout: int) -> None:
    sqs, url, key = context.target.sqs, context.url("OutboundQueueUrl"), ready.key
    queued_at = format_rfc3339(time.time())
    # The same command once more would make another key, and so another SMS.
    context.again = f"It may be on the queue as {key}. Repeat it only with --message-id {key}, so that it is sent once."
    queue_one(sqs, url, ready)
    context.again = f"It is queued as {key}; don't send it again. `explain {key}` tells what becomes of it."
    context.out.line(f"queued as {key}", "good")
    if follow:
        raise SystemExit(int(_follow(context, key, queued_at, timeout)))
    context.out.document({"message_id": key, "queued_at": queued_at})


def _checked(fields: dict[str, Any]) -> Ready:
    try:
        return check(fields, new_key())
    except InvalidMessageError as error:
        problems = _BETWEEN_PROBLEMS.sub("\n  ", error.detail)
        raise CliError(f"The message breaks a rule:\n  {problems}", "Nothing was queued.", Exit.INVALID) from None


def _show_dry_run(context: CommandContext, ready: Ready) -> None:
    described = describe(ready.message)
    out = context.out
    out.document({"valid": True, **described, "would_queue": json.loads(ready.body)})
    parts, characters = counted(described["parts"], "part"), counted(described["characters"], "character")
    out.line(f"{parts}, {described['encoding']}, {characters}")
    if because := described.get("ucs2_because"):
        out.line(
            f"UCS-2 because of “{one_line(because['character'])}” ({because['code_point']} {because['name']}), "
            f"character {because['position']}; without such characters a part holds more than twice as much",
            "unsure",
        )
    out.line("would queue: " + one_line(json.dumps(json.loads(ready.body), ensure_ascii=False)))


def _send_file(
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


def _follow(context: CommandContext, key: str, queued_at: str, timeout: int) -> Exit:
    """Print what happens as it happens, until the last word or the end of the time."""
    end = time.monotonic() + timeout
    told: set[tuple[str, str]] = set()
    while True:
        facts = _facts(context, key, queued_at)
        for line in timeline(facts):
            if (line.at, line.text) not in told:
                told.add((line.at, line.text))
                context.out.entry({"message_id": key, "at": line.at, "text": str(line)})
                context.out.line(f"{line.at:<24}  {one_line(str(line))}", line.tone)
        code = exit_code(facts)
        if code is not Exit.ON_ITS_WAY and not is_sent_once_more(facts):
            return _ended(context, facts, code)
        if time.monotonic() >= end:
            context.out.note(f"Still {stage_of(facts)} after {timeout} s; `explain {key}` tells more later.", "unsure")
            return _ended(context, facts, Exit.ON_ITS_WAY)
        time.sleep(_LOOK_EVERY_SECONDS)


def _facts(context: CommandContext, key: str, queued_at: str) -> Facts:
    found = context.tables.facts(key)
    return Facts(found.key, found.ledger, found.row, found.replies, queued_at)


def _ended(context: CommandContext, facts: Facts, code: Exit) -> Exit:
    stands = stage_of(facts)
    context.out.line(f"{facts.key}: {stands}", TONES[stands])
    if code not in (Exit.OK, Exit.ON_ITS_WAY):
        context.out.line(next_step(facts))
    context.out.entry(
        {"message_id": facts.key, "standing": stands, "status": facts.row.get("status"), "next": next_step(facts)}
    )
    return code


COMMANDS = (send,)
