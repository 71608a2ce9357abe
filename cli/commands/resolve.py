"""`resolve`: end an unknown outcome by an operator's decision."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

import click

from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.message_lookup import find_messages
from cli.output import counted, one_line
from cli.parameters import Name, Since
from cli.unknown_outcomes import Resolved, moot_dead_letters, resolve_not_sent, resolve_sent, unknown_between
from optus_sms.model.gateway_ids import canonical_id
from optus_sms.records.items import LedgerRecord


@click.command()
@click.argument("id_", metavar="[ID]", required=False, type=Name())
@click.option("--sent", is_flag=True, help="The message was sent.")
@click.option("--not-sent", is_flag=True, help="It was not sent; it is queued again from its dead letter.")
@click.option("--gateway-id", type=Name(), help="With --sent: the gateway ID that the portal shows.")
@click.option(
    "--since", type=Since(), help="Instead of ID: all messages with an unknown outcome since this time or age."
)
@click.option("--until", type=Since(), help="With --since: unknown before this time or age. [default: now]")
@click.option("--by", type=Name(), metavar="NAME", help="Operator to record. [default: your AWS identity]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
def resolve(
    context: CommandContext,
    *,
    id_: str | None,
    sent: bool,
    not_sent: bool,
    gateway_id: str | None,
    since: float | None,
    until: float | None,
    by: str | None,
    yes: bool,
) -> None:
    """Resolve an unknown outcome. The gateway's portal shows whether ID was sent. Records who resolved it, and when.

    With --sent it offers to delete the dead letters that are no longer needed.
    """
    if sent == not_sent:
        raise click.UsageError("Give either --sent or --not-sent.")
    if (id_ is None) == (since is None):
        raise click.UsageError("Give either ID or --since.")
    if gateway_id is not None and (not_sent or id_ is None):
        raise click.UsageError("--gateway-id needs ID and --sent.")
    if until is not None and since is None:
        raise click.UsageError("--until needs --since.")
    if id_ is not None:
        records = [_record(context, id_)]
    else:
        records = unknown_between(context.target, since or 0.0, time.time() if until is None else until)
    if not records:
        context.out.document([])
        context.out.line("No outcome became unknown in that time.")
        return
    word = "sent" if sent else "not sent, and to be sent now"
    if id_ is None:
        context.confirm(f"Resolve {counted(len(records), 'message')} on {context.target.name} as {word}?", yes=yes)
    operator = by or context.target.operator
    if sent:
        gateway_id = gateway_id and canonical_id(gateway_id)
        done = [resolve_sent(context.target, each, gateway_id, by=operator) for each in records]
    else:
        context.if_interrupted = (
            "What was done so far is kept; the same command continues. A message that was resolved and not yet queued "
            "again is `safe` in a `redrive --plan`."
        )
        done = resolve_not_sent(context.target, records, by=operator)
    _report(context, done)
    deleted = _delete_moot(context, [one.message_id for one in done if one.resolved], yes=yes) if sent else 0
    context.out.document([asdict(one) for one in done])
    if deleted:
        context.out.line(f"{counted(deleted, 'dead letter')} deleted")
    if not all(one.resolved for one in done):
        raise SystemExit(int(Exit.NOT_ALL))


def _delete_moot(context: CommandContext, message_ids: Sequence[str], *, yes: bool) -> int:
    """Offer to delete the dead letters of messages that count as sent now, and return how many were deleted."""
    context.if_interrupted = (
        "What was resolved is kept. Its dead letters are not needed; a plan deletes them too (`redrive --plan`)."
    )
    if not message_ids:
        return 0
    if not (yes or sys.stdin.isatty()):
        context.out.note("The dead letters of sent messages are not needed. With --yes this command deletes them.")
        return 0
    with context.target.dead_letter_queue() as queue:
        moot = moot_dead_letters(context.target, queue, message_ids)
        question = f"Delete {counted(len(moot), 'dead letter')} not needed any more?"
        if not moot or not context.agrees(question, yes=yes):
            return 0
        for dead_letter in moot:
            queue.delete(dead_letter)
        return len(moot)


def _record(context: CommandContext, id_: str) -> LedgerRecord:
    """Return the record of the one message that an ID names. Two are an error: the operator looked up only one."""
    facts = find_messages(context.target, id_)
    first = facts[0]
    by_reference = first.message_id != id_ and first.gateway_id != canonical_id(id_)
    if by_reference and len(context.target.ledger.messages_under(id_)) > 1:
        message_ids = ", ".join(one.message_id for one in facts)
        problem = f"Several messages have, or had, this reference: {message_ids}, and perhaps others."
        raise CliError(problem, "Give a message_id.", Exit.USAGE)
    if first.ledger is None:
        raise CliError(f"The ledger has no record of {first.message_id}.", "Nothing to resolve.", Exit.NOT_FOUND)
    return first.ledger


def _report(context: CommandContext, done: Sequence[Resolved]) -> None:
    for one in done:
        context.out.line(f"{one_line(one.message_id)}: {one_line(one.result)}", "good" if one.resolved else "bad")
