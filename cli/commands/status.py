"""`status`: what became of a message."""

from __future__ import annotations

from typing import Final

import click

from cli.commands.message_lookup import exit_code, find_messages, message_json
from cli.context import CommandContext, with_context
from cli.errors import Exit
from cli.output import one_line
from cli.parameters import Name
from cli.stage import TONES, Facts, stage_of
from cli.timeline import why
from optus_sms.records.ledger import State

_WORST_FIRST: Final = (Exit.UNKNOWN, Exit.NOT_DELIVERED, Exit.ON_ITS_WAY, Exit.OK)


@click.command()
@click.argument("id_", metavar="ID", type=Name())
@with_context
def status(context: CommandContext, *, id_: str) -> None:
    """Show where the message ID stands. Exits as `send --follow` does; for several messages, with the worst code."""
    all_facts = find_messages(context, id_)
    context.out.document([message_json(facts) | {"replies": facts.replies} for facts in all_facts])
    for facts in all_facts:
        _show_status(context, facts)
    if len(all_facts) > 1:
        context.out.note("Several messages have this reference; the ledger keeps two of them.", "unsure")
    raise SystemExit(int(min((exit_code(facts) for facts in all_facts), key=_WORST_FIRST.index)))


def _show_status(context: CommandContext, facts: Facts) -> None:
    stage, out = stage_of(facts), context.out
    out.line(f"{one_line(facts.key)}: {stage}", TONES[stage])
    both = facts.ledger | facts.row
    for label, name in (
        ("to", "destination"), ("from", "source"), ("gateway ID", "gateway_id"), ("reference", "reference"),
        ("status", "status"), ("detail", "detail"), ("segments", "segments"), ("attempts", "attempts"),
    ):  # fmt: skip
        if name in both:
            out.line(f"  {label:<11} {one_line(str(both[name]))}")
    if "reason" in facts.ledger and facts.ledger.get("state") != State.ACCEPTED:
        out.line(f"  {'reason':<11} {why(str(facts.ledger['reason']))}")
    for reply in facts.replies:
        out.line(f"  {'reply':<11} {one_line(str(reply.get('content', '')))}", "good")
