"""`conversation`: messages to and replies from one handset."""

import click

from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.output import one_line
from cli.parameters import Handset, Since
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import ReplyRecord, attributes


@click.command()
@click.argument("handset", type=Handset())
@click.option("--since", type=Since(), help="Not older than this time, or age like 2h or 7d.")
@with_context
def conversation(context: CommandContext, *, handset: str, since: float | None) -> None:
    """List the messages to a handset, and its replies. In time order; only messages that the gateway accepted.

    HANDSET is a number in any form. The text of messages is not kept, so only replies have their text.
    """
    found = list(context.target.messages.conversation(handset, since=format_rfc3339(since or 0)))
    context.out.document([attributes(one) for one in found])
    if not found:
        problem = f"The gateway accepted no message to {handset}, and it sent no reply."
        raise CliError(problem, f"`find {handset}` looks for messages that were not accepted.", Exit.NOT_FOUND)
    for one in found:
        if isinstance(one, ReplyRecord):
            context.out.line(f"{one.received_at or ''}  ← {one_line(one.content or '')}", "good")
        else:
            context.out.line(f"{one.created_at or ''}  → {one_line(one.message_id or one.id)}: {one.status or '?'}")
    context.out.note(f"`find {handset}` also finds messages that the gateway did not accept, or not yet.")
