"""`conversation`: messages to and replies from one handset."""

import click

from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.output import one_line
from cli.parameters import Name, Since
from optus_sms.model.numbers import did_you_mean
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import ReplyRecord, attributes


@click.command()
@click.argument("handset", type=Name())
@click.option("--since", type=Since(), help="Not older than this time, or age like 2h or 7d.")
@with_context
def conversation(context: CommandContext, *, handset: str, since: float | None) -> None:
    """List one conversation. HANDSET is +61…; in time order, without the text of messages, which is not kept."""
    found = list(context.target.messages.conversation(handset, since=format_rfc3339(since or 0)))
    context.out.document([attributes(one) for one in found])
    if not found:
        meant = did_you_mean(handset)
        hint = f"Did you mean {meant}?" if meant not in (None, handset) else "Give the number as it was sent to: +61…"
        raise CliError(f"No message or reply has the handset {handset}.", hint, Exit.NOT_FOUND)
    for one in found:
        if isinstance(one, ReplyRecord):
            context.out.line(f"{one.received_at or ''}  ← {one_line(one.content or '')}", "good")
        else:
            context.out.line(f"{one.created_at or ''}  → {one_line(one.message_id or one.id)}: {one.status or '?'}")
