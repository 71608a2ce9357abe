"""`send`: one message, with a dry run, and following it to its end."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from cli.checked_message import Ready, check, describe, new_key
from cli.commands.message_lookup import exit_code
from cli.commands.send_file import send_file
from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.output import counted, one_line
from cli.queueing import queue_one
from cli.stage import TONES, Facts, is_sent_once_more, next_step, stage_of
from cli.timeline import timeline
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
        send_file(context, path, journal, dry_run, skip_invalid=skip_invalid, queue_uncertain=queue_uncertain)
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
