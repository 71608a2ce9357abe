"""`send`: queue one message, or check it with a dry run, and follow it to its final status."""

import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from cli.checked_message import MOST_CHARACTERS, CheckedMessage, Rules, check, describe, new_message_id, no_rules
from cli.commands.send_file import send_file
from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit, not_utf8
from cli.message_lookup import exit_code, facts_of
from cli.output import counted, one_line
from cli.parameters import FILE, Group, Text
from cli.queueing import queue_one
from cli.stage import TONES, Facts, next_step, stage_of
from cli.target import QUEUES
from cli.timeline import timeline
from optus_sms.model.errors import InvalidMessageError
from optus_sms.model.lanes import Lane
from optus_sms.model.numbers import e164
from optus_sms.model.times import format_rfc3339

_LOOK_EVERY_SECONDS: Final = 0.5
_BETWEEN_PROBLEMS: Final = re.compile(r"; (?=[a-z_']+: )")


@click.command()
@click.argument("destination", required=False)
@click.argument("text", required=False, type=Text())
@click.option("--file", "path", type=FILE, help="Queue a file instead: a message in each line of JSON.")
@click.option("--journal", type=FILE, help="With --file: where queued lines are noted. [default: FILE.journal]")
@click.option("--skip-invalid", is_flag=True, help="With --file: queue the valid lines, leave out the others.")
@click.option(
    "--queue-uncertain", is_flag=True, help="With --file: queue also lines that a killed run may have queued."
)
@click.option("--dry-run", is_flag=True, help="Only check, and show segments, encoding and what would be queued.")
@click.option("--follow", is_flag=True, help="Show each step until the final status.")
@click.option("--timeout", type=click.IntRange(min=0), default=300, show_default=True, help="Seconds to --follow.")
@click.option("--group", type=Group(), help="Your team or system: SQS lets quiet groups overtake busy ones.")
@click.option("--urgent", is_flag=True, help="Use the urgent queue, where it does not wait behind other messages.")
@click.option("--message-id", metavar="ID", help="Idempotency key; one SMS for each. [default: a new one]")
@click.option("--reference", help="Returned with each status. [default: the message_id]")
@click.option("--mask", help="Registered sender ID, 2 to 11 characters; handsets can't reply.")
@click.option("--source", help="A number or short code of your account.")
@click.option("--class", help="A routing class of your account.")
@click.option("--sms-class", type=click.IntRange(0, 3), help="0: the handset shows the text at once.")
@click.option("--integration-id", metavar="UUID", help="Passed to the gateway.")
@click.option("--scheduled", metavar="TIME", help="RFC 3339 with offset; the gateway holds it until then.")
@click.option("--expires-at", metavar="TIME", help="RFC 3339 with offset; not sent at or after this time.")
@click.option("--on-unknown", type=click.Choice(["hold", "resend"]), help="What to do if the send outcome is unknown.")
@click.option("--despite-opt-out", is_flag=True, default=None, help="Send even if the handset has opted out.")
@with_context
def send(
    context: CommandContext,
    *,
    destination: str | None,
    text: str | None,
    path: Path | None,
    journal: Path | None,
    skip_invalid: bool,
    queue_uncertain: bool,
    dry_run: bool,
    follow: bool,
    timeout: int,
    group: str | None,
    urgent: bool,
    **fields: Any,
) -> None:
    """Queue the message TEXT to DESTINATION, a number in any form. If TEXT is -, stdin is read."""
    lane = Lane.URGENT if urgent else Lane.ORDINARY
    if dry_run and follow:
        raise click.UsageError("--dry-run queues nothing, so it can't be combined with --follow.")
    if path is not None:
        given = [name for name, value in fields.items() if value is not None]
        if destination is not None or given or follow:
            raise click.UsageError("--file reads all fields from its lines, and can't be combined with --follow.")
        journal = journal or path.with_name(path.name + ".journal")
        send_file(
            context,
            path,
            journal,
            dry_run,
            skip_invalid=skip_invalid,
            queue_uncertain=queue_uncertain,
            group=group,
            lane=lane,
        )
        return
    if journal is not None or skip_invalid or queue_uncertain:
        raise click.UsageError("--journal, --skip-invalid and --queue-uncertain need --file.")
    if destination is None or text is None:
        raise click.UsageError("Give DESTINATION and TEXT, or --file.")
    content = _from_stdin() if text == "-" else text
    if (number := e164(destination)) != destination:
        context.out.note(f"The destination is {number}.")
    message = {"destination": number, "content": content, **fields}
    checked = _checked(message)
    if dry_run:
        _show_dry_run(context, checked)
        return
    checked = _checked(message, rules=context.target.check_rules)
    _queue(context, replace(checked, group=group), lane, follow=follow, timeout=timeout)


def _from_stdin() -> str:
    """Return the text on stdin, without a byte order mark and without a last line break. CR LF becomes LF."""
    given = sys.stdin.buffer.read(MOST_CHARACTERS + 1)
    if len(given) > MOST_CHARACTERS:
        raise CliError(f"stdin: has more than {MOST_CHARACTERS} bytes.", "Shorten the text.", Exit.INVALID)
    try:
        return given.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n")
    except UnicodeDecodeError:
        raise not_utf8("stdin", given, lambda iconv: f"… | {iconv} | optus-sms send …") from None


def _queue(context: CommandContext, checked: CheckedMessage, lane: Lane, *, follow: bool, timeout: int) -> None:
    sqs, url, message_id = context.target.sqs, context.url(QUEUES[lane]), context.target.id_of(checked.message_id)
    queued_at = format_rfc3339(time.time())
    # Without --message-id, a repeated command makes another message_id and so another SMS.
    context.if_interrupted = (
        f"The message may be on the queue. Retry with --message-id {checked.message_id}; otherwise a second SMS "
        "goes out."
    )
    queue_one(sqs, url, checked)
    context.if_interrupted = (
        f"The message is queued as {message_id}; do not send it again. `explain {message_id}` shows its progress."
    )
    context.out.line(f"queued as {message_id}", "good")
    if follow:
        raise SystemExit(int(_follow(context, message_id, queued_at, timeout)))
    context.out.document({"message_id": message_id, "queued_at": queued_at})


def _checked(fields: dict[str, Any], rules: Rules = no_rules) -> CheckedMessage:
    try:
        return check(fields, new_message_id(), rules=rules)
    except InvalidMessageError as error:
        problems = _BETWEEN_PROBLEMS.sub("\n  ", error.detail)
        raise CliError(f"The message breaks a rule:\n  {problems}", "Nothing was queued.", Exit.INVALID) from None


def _show_dry_run(context: CommandContext, checked: CheckedMessage) -> None:
    described = describe(checked.message)
    out = context.out
    out.document({"valid": True, **described, "would_queue": json.loads(checked.body)})
    segments, characters = counted(described["segments"], "segment"), counted(described["characters"], "character")
    out.line(f"{segments}, {described['encoding']}, {characters}")
    if because := described.get("ucs2_because"):
        out.line(
            f"UCS-2 because of “{one_line(because['character'])}” ({because['code_point']} {because['name']}), "
            f"character {because['position']}; without such characters a segment holds more than twice as much",
            "unsure",
        )
    out.line("would queue: " + one_line(json.dumps(json.loads(checked.body), ensure_ascii=False)))


def _follow(context: CommandContext, message_id: str, queued_at: str, timeout: int) -> Exit:
    """Print each step as it happens, until the final status or the timeout."""
    end = time.monotonic() + timeout
    printed: set[tuple[str, str]] = set()
    while True:
        facts = replace(facts_of(context.target, message_id), queued_at=queued_at)
        for line in timeline(facts):
            if (line.at, line.text) not in printed:
                printed.add((line.at, line.text))
                context.out.entry({"message_id": message_id, "at": line.at, "text": str(line)})
                context.out.line(f"{line.at:<24}  {one_line(str(line))}", line.tone)
        code = exit_code(facts)
        if code is not Exit.ON_ITS_WAY and not facts.is_sent_once_more:
            return _ended(context, facts, code)
        if time.monotonic() >= end:
            context.out.note(
                f"Still {stage_of(facts)} after {timeout} s; `explain {message_id}` shows more later.", "unsure"
            )
            return _ended(context, facts, Exit.ON_ITS_WAY)
        time.sleep(_LOOK_EVERY_SECONDS)


def _ended(context: CommandContext, facts: Facts, code: Exit) -> Exit:
    stage = stage_of(facts)
    context.out.line(f"{facts.message_id}: {stage}", TONES[stage])
    if code not in (Exit.OK, Exit.ON_ITS_WAY):
        context.out.line(next_step(facts))
    context.out.entry(
        {"message_id": facts.message_id, "stage": stage, "status": facts.status, "next": next_step(facts)}
    )
    return code
