"""`recall`: prevent messages from being sent."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from cli.checked_message import CheckedMessage, invalid_lines, read_lines
from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.health import waiting_counts
from cli.journal import Journal
from cli.output import counted
from cli.parameters import FILE, Name, Since
from cli.queueing import stopping_between_batches
from cli.recalling import IS_RECALLED, Recalled, Result, Wanted, of_message, recall_all, recall_waiting, sent_already
from cli.target import Target
from optus_sms.model.queue_message import is_message_id
from optus_sms.model.sender_namespaces import namespace_of
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import LedgerRecord

_SHOWN: Final = 20
_INCOMPLETE: Final = (Result.SENT, Result.MAYBE_SENT, Result.ANOTHER)


@click.command()
@click.argument("message_ids", metavar="[MESSAGE_ID]…", nargs=-1, type=Name())
@click.option("--file", "path", type=FILE, help="The messages of a file that `send --file` queued.")
@click.option("--journal", type=FILE, help="With --file: its journal. [default: FILE.journal]")
@click.option("--reference", type=Name(), help="Waiting messages with this reference. Needs a pause.")
@click.option("--since", type=Since(), help="Waiting messages queued at or after this time or age. Needs a pause.")
@click.option("--until", type=Since(), help="With --since: queued before this time or age. [default: now]")
@click.option("--scan", is_flag=True, help="With --reference or --since: also list sent messages. Reads a whole table.")
@click.option("--dry-run", is_flag=True, help="Only list what would be recalled.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
def recall(
    context: CommandContext,
    *,
    message_ids: tuple[str, ...],
    path: Path | None,
    journal: Path | None,
    reference: str | None,
    since: float | None,
    until: float | None,
    scan: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Recall messages that were not sent. They are never sent under their message_ids. `pause` first.

    Lists messages that were sent already, or may have been. Can be interrupted and repeated, but not undone.
    """
    waits = reference is not None or since is not None
    if [bool(message_ids), path is not None, waits].count(True) != 1:
        raise click.UsageError("Give either MESSAGE_IDs, --file, or --reference and --since.")
    if (journal is not None and path is None) or (until is not None and since is None) or (scan and not waits):
        raise click.UsageError("--journal needs --file, --until needs --since, --scan needs --reference or --since.")
    if path is not None:
        _recall_file(context, path, journal or path.with_name(path.name + ".journal"), dry_run=dry_run, yes=yes)
    elif waits:
        wanted = Wanted(reference, since, time.time() if until is None else until)
        _recall_waiting(context, wanted, scan=scan, dry_run=dry_run, yes=yes)
    else:
        for message_id in message_ids:
            if not is_message_id(message_id):
                raise click.UsageError(f"{message_id} is not a message_id.")
        records = [LedgerRecord(_whole_id(context.target, message_id)) for message_id in message_ids]
        _recall_keys(context, records, dry_run=dry_run, yes=yes)


def _whole_id(target: Target, message_id: str) -> str:
    """Return the `message_id` that the operator means: one in the ledger, else the operator's own key of that name."""
    is_key = target.separate_senders and not namespace_of(message_id)
    return target.id_of(message_id) if is_key and target.ledger.read(message_id) is None else message_id


def _recall_keys(context: CommandContext, records: list[LedgerRecord], *, dry_run: bool, yes: bool) -> None:
    if not dry_run:
        question = f"Recall {counted(len(records), 'message')} on {context.target.name}? It can't be undone."
        context.confirm(question, yes=yes)
    _report(
        context, _done(context, len(records), recall_all(context.target, records, dry_run=dry_run)), dry_run=dry_run
    )


def _recall_file(context: CommandContext, path: Path, journal_path: Path, *, dry_run: bool, yes: bool) -> None:
    """Recall the lines that were or may have been queued. Without a journal: the lines that have a message_id."""
    if not journal_path.exists():
        checked, invalid = read_lines(path, lambda _line, _occurrence: "")
        if invalid:
            raise CliError(
                invalid_lines(path, invalid),
                f"There is no journal {journal_path}, so each line must be valid and name its message_id. "
                "Name the journal that `send --file` made with --journal.",
                Exit.INVALID,
            )
        _recall_lines(context, checked, dry_run=dry_run, yes=yes)
        return
    with Journal(journal_path, context.target.stack_id) as journal:
        queued = journal.queued | journal.uncertain
        checked, _ = read_lines(path, journal.message_id_of, queued=queued)
        found = [message for message in checked if message.message_id in queued]
        if len(found) < len(queued):
            missing = len(queued) - len(found)
            context.out.note(f"{missing} in the journal are not in the file, which was changed.", "unsure")
        _recall_lines(context, found, dry_run=dry_run, yes=yes)


def _recall_lines(context: CommandContext, lines: list[CheckedMessage], *, dry_run: bool, yes: bool) -> None:
    target = context.target
    if target.separate_senders:
        whose = f"The keys are taken as those of your own ID ({namespace_of(target.id_of('-'))}; SeparateSenders)"
        context.out.note(f"{whose}. If another sender queued the file, recall by --since or --reference.", "unsure")
    records = [of_message(target.id_of(line.message_id), line.message) for line in lines]
    _recall_keys(context, records, dry_run=dry_run, yes=yes)


def _recall_waiting(context: CommandContext, wanted: Wanted, *, scan: bool, dry_run: bool, yes: bool) -> None:
    target = context.target
    if target.switch.is_on() is not False:
        raise CliError("Sending is not paused.", "`pause`, then this command; then `resume`.", Exit.USAGE)
    if not dry_run:
        which = [f"has the reference {wanted.reference}"] if wanted.reference else []
        if wanted.since is not None:
            which.append(f"was queued from {format_rfc3339(wanted.since)} until {format_rfc3339(wanted.until)}")
        question = f"Recall every message that waits on {target.name} and {' and '.join(which)}? It can't be undone."
        context.confirm(question, yes=yes)
    counts = waiting_counts(target)
    done = _done(context, counts["waiting"], recall_waiting(target, wanted, dry_run=dry_run))
    if scan:
        context.out.note("Reading the whole ledger, at half a read unit for each 4 KB.", "unsure")
        known = {each.message_id for each in done}
        done += [each for each in _done(context, 0, sent_already(target, wanted)) if each.message_id not in known]
    else:
        context.out.note("Messages sent already are in no queue; --scan lists them, by reading the whole ledger.")
    if hidden := counts["in_flight"]:
        context.out.note(
            f"About {hidden} were in flight a moment ago and could not be read. Repeat the command in a few minutes.",
            "unsure",
        )
    _report(context, done, dry_run=dry_run)


def _done(context: CommandContext, length: int, batches: Iterable[list[Recalled]]) -> list[Recalled]:
    """Recall all batches and show progress. Ctrl-C, SIGTERM and a lost terminal stop it between two batches."""
    progress: Any = click.progressbar(length=length, label="recalling", file=context.out.progress, show_pos=True)
    done: list[Recalled] = []
    with stopping_between_batches() as stop, progress as bar:
        for batch in _until(stop, batches):
            done += batch
            bar.update(len(batch))
    return done


def _until(stop: Any, batches: Iterable[list[Recalled]]) -> Iterator[list[Recalled]]:
    for batch in batches:
        yield batch
        if stop():
            raise KeyboardInterrupt


def _report(context: CommandContext, done: list[Recalled], *, dry_run: bool) -> None:
    out, counts = context.out, Counter(each.result for each in done)
    out.document({"dry_run": dry_run, "counts": dict(counts), "messages": [asdict(each) for each in done]})
    if dry_run:
        out.line("Nothing was recalled. The command would have found:")
    for result in Result:
        if result in counts:
            out.line(f"{counts[result]:>6}  {result}", "good" if result in IS_RECALLED else "unsure")
    if not done:
        out.line("none", "good")
    listed = [each for each in done if each.result not in IS_RECALLED or each.why]
    if listed:
        out.table(("message_id", "result", "why"), [(e.message_id, e.result, e.why or "-") for e in listed[:_SHOWN]])
    if len(listed) > _SHOWN:
        out.note(f"{len(listed) - _SHOWN} more are in the output of --json.")
    if any(counts[result] for result in _INCOMPLETE):
        raise SystemExit(int(Exit.NOT_ALL))
