"""`conversation`: messages to and replies from one handset."""

from __future__ import annotations

import click

from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.output import one_line
from cli.parameters import Name, Since
from optus_sms.model.times import format_rfc3339


@click.command()
@click.argument("handset", type=Name())
@click.option("--since", type=Since(), help="Not older than this time, or age like 2h or 7d.")
@with_context
def conversation(context: CommandContext, *, handset: str, since: float | None) -> None:
    """List one conversation. HANDSET is +61…; in time order, without the text of messages, which is not kept."""
    rows = list(context.tables.conversation(handset, since=format_rfc3339(since) if since is not None else ""))
    context.out.document(rows)
    if not rows:
        raise CliError(
            f"No message or reply has the handset {handset}.", "Give the number as it was sent to: +61…", Exit.NOT_FOUND
        )
    for row in rows:
        if row.get("direction") == "MO":
            context.out.line(f"{row.get('received_at', '')}  ← {one_line(str(row.get('content', '')))}", "good")
        else:
            name = row.get("message_id", row["id"])
            context.out.line(f"{row.get('created_at', '')}  → {one_line(str(name))}: {row.get('status', '?')}")
