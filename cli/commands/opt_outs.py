"""`opt-outs`: list, change, import and export opt-outs."""

import csv
import io
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.output import counted, number_in_list
from cli.parameters import Name
from cli.queueing import stopping_between_batches
from optus_sms.model.numbers import did_you_mean
from optus_sms.model.times import format_rfc3339, time_or_none
from optus_sms.records.items import OptOutRecord

_COLUMNS: Final = ("handset", "since", "by")
_MOST_PROBLEMS: Final = 10
_ACTIONS: Final = ("list", "add", "remove", "import", "export")


@click.command("opt-outs")
@click.argument("action", type=click.Choice(_ACTIONS))
@click.argument("what", metavar="[NUMBER…|FILE]", nargs=-1, type=Name())
@click.option("--show-numbers", is_flag=True, help="With list: show whole phone numbers.")
@click.option("--yes", is_flag=True, help="With remove and import: do not ask.")
@with_context
def opt_outs(context: CommandContext, *, action: str, what: tuple[str, ...], show_numbers: bool, yes: bool) -> None:
    """List or change opt-outs. A handset that has opted out gets only messages with despite_opt_out.

    add and remove take NUMBERs in any form. import takes a FILE with a number on each line and, if known, a comma and
    the time of the opt-out. list and export read the whole table.
    """
    if action in ("list", "export") and what:
        raise click.UsageError(f"{action} takes no arguments.")
    if action in ("add", "remove") and not what:
        raise click.UsageError(f"{action} needs a NUMBER.")
    if action == "import" and len(what) != 1:
        raise click.UsageError("import needs one FILE.")
    match action:
        case "list":
            _list(context, show_numbers=show_numbers)
        case "export":
            _export(context)
        case "import":
            _import(context, Path(what[0]), yes=yes)
        case _:
            _decide(context, what, opted_out=action == "add", yes=yes)


def _opted_out(context: CommandContext) -> list[OptOutRecord]:
    found = (record for record in context.target.opt_outs.scan() if record.opted_out)
    return sorted(found, key=lambda record: (record.since, record.handset))


def _list(context: CommandContext, *, show_numbers: bool) -> None:
    found = _opted_out(context)
    rows = [
        (
            number_in_list(each.handset, show=show_numbers),
            each.since or "-",
            each.by,
            each.reply_id or each.operator or "-",
        )
        for each in found
    ]
    context.out.document([dict(zip((*_COLUMNS, "source"), row, strict=True)) for row in rows])
    context.out.table((*_COLUMNS, "reply or operator"), rows)
    context.out.line(f"{counted(len(found), 'handset')} opted out", "plain" if found else "good")


def _export(context: CommandContext) -> None:
    """Write the opt-outs in the form that `import` reads."""
    found = _opted_out(context)
    context.out.document([{name: getattr(each, name) for name in _COLUMNS} for each in found])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([getattr(each, name) for name in _COLUMNS] for each in found)
    context.out.line(text.getvalue().removesuffix("\n"))


def _decide(context: CommandContext, what: tuple[str, ...], *, opted_out: bool, yes: bool) -> None:
    numbers = [_number(text) for text in what]
    target = context.target
    if not opted_out:
        question = f"Send to {counted(len(numbers), 'handset')} on {target.name} again? Only if they asked for it."
        context.confirm(question, yes=yes)
    left: list[OptOutRecord] = []
    for number in numbers:
        since = format_rfc3339(time.time())
        found = target.opt_outs.decide(OptOutRecord(number, opted_out, since, "person", operator=target.operator))
        if found is not None and found.opted_out != opted_out:
            left.append(found)
    context.out.document({"changed": len(numbers) - len(left), "left": [number_in_list(each.handset) for each in left]})
    context.out.line(
        f"{counted(len(numbers) - len(left), 'handset')} opted {'out' if opted_out else 'back in'}", "good"
    )
    for each in left:
        context.out.note(
            f"{number_in_list(each.handset)}: not changed, because of a later decision at {each.since}", "unsure"
        )
    if left:
        raise SystemExit(int(Exit.NOT_ALL))


def _number(text: str) -> str:
    number = did_you_mean(text)
    if number is None:
        raise CliError("NUMBER: must be a possible number.", "Write it in E.164, such as +61491570006.", Exit.INVALID)
    return number


@dataclass(frozen=True, slots=True)
class _Line:
    handset: str
    since: str | None


def _import(context: CommandContext, path: Path, *, yes: bool) -> None:
    """Add a file's handsets that the table lacks, or whose opt-in is older than the file's opt-out.

    Without a time in the file an opt-in stays, because it can be later than the list.
    """
    lines = _read(path)
    target = context.target
    context.confirm(f"Opt {counted(len(lines), 'handset')} out on {target.name}?", yes=yes)
    operator, now = target.operator, format_rfc3339(time.time())
    added, known, back_in = 0, 0, 0
    progress: Any = click.progressbar(lines, label="importing", file=sys.stderr, show_pos=True)
    with stopping_between_batches() as stop, progress as bar:
        for line in bar:
            record = OptOutRecord(line.handset, True, line.since or now, "import", operator=operator)
            found = target.opt_outs.decide(record, only_if_new=True)
            if found and not found.opted_out and line.since and found.decision < record.decision:
                found = target.opt_outs.decide(record)
            added += found is None
            known += found is not None and found.opted_out
            back_in += found is not None and not found.opted_out
            if stop():
                raise KeyboardInterrupt
    context.out.document({"added": added, "known": known, "opted_back_in": back_in})
    context.out.line(f"{added} added, {known} had opted out already", "good")
    if back_in:
        context.out.note(
            f"{counted(back_in, 'handset')} opted back in earlier and were not changed; `opt-outs add` opts one out.",
            "unsure",
        )


def _read(path: Path) -> list[_Line]:
    """Return a file's handsets, each once. If a line has no number, raise `CliError` that lists all such lines."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CliError(f"{path} can't be read: {reason}.", "Name another file.", Exit.USAGE) from None
    found: dict[str, _Line] = {}
    problems: list[str] = []
    for number, row in _rows(path, text):
        handset, at = did_you_mean(row[0]), row[1].strip() if len(row) > 1 else ""
        since = time_or_none(at) if at else None
        if handset is None:
            problems.append(f"{path}, line {number}: handset: must be a possible number; write it as +61…")
        elif at and (since is None or since > time.time()):
            problems.append(f"{path}, line {number}: since: must be a past RFC 3339 time; correct it or leave it out")
        else:
            found.setdefault(handset, _Line(handset, None if since is None else format_rfc3339(since)))
    if problems:
        more = [f"… and {len(problems) - _MOST_PROBLEMS} more lines"] if len(problems) > _MOST_PROBLEMS else []
        listed = "\n".join([*problems[:_MOST_PROBLEMS], *more])
        raise CliError(listed, "Correct the file; nothing was imported.", Exit.INVALID)
    return list(found.values())


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Return the rows with their last lines, without empty ones and the header that `export` writes."""
    reader = csv.reader(io.StringIO(text))
    try:
        for row in reader:
            if any(cell.strip() for cell in row) and row[0].strip() != _COLUMNS[0]:
                yield reader.line_num, row
    except csv.Error as error:
        raise CliError(
            f"{path}, line {reader.line_num}: {error}.", "Correct the file; nothing was imported.", Exit.INVALID
        ) from None
