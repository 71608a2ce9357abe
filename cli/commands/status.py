"""`status`: what became of a message."""

from __future__ import annotations

from typing import Final

import click

from cli.commands.message_lookup import as_json, exit_code, found
from cli.context import CommandContext, with_context
from cli.errors import Exit
from cli.output import one_line
from cli.parameters import Name
from cli.stage import TONES, Facts, stage_of
from cli.timeline import why
from optus_sms.records.ledger import State

_WORST_FIRST: Final = (Exit.UNKNOWN, Exit.NOT_DELIVERED, Exit.ON_ITS_WAY, Exit.OK)


@click.command()
@click.argument("key", type=Name())
@with_context
def status(context: CommandContext, *, key: str) -> None:
    """What became of the message KEY. Exit code as of `send --follow`; of several messages the worst."""
    all_facts = found(context, key)
    context.out.document([as_json(facts) | {"replies": facts.replies} for facts in all_facts])
    for facts in all_facts:
        _show_status(context, facts)
    if len(all_facts) > 1:
        context.out.note("Several messages have this reference; the ledger names two of them.", "unsure")
    raise SystemExit(int(min((exit_code(facts) for facts in all_facts), key=_WORST_FIRST.index)))


def _show_status(context: CommandContext, facts: Facts) -> None:
    stands, out = stage_of(facts), context.out
    out.line(f"{one_line(facts.key)}: {stands}", TONES[stands])
    both = facts.ledger | facts.row
    for label, name in (
        ("to", "destination"), ("from", "source"), ("gateway id", "gateway_id"), ("reference", "reference"),
        ("status", "status"), ("detail", "detail"), ("parts", "segments"), ("tries", "attempts"),
    ):  # fmt: skip
        if name in both:
            out.line(f"  {label:<11} {one_line(str(both[name]))}")
    if "reason" in facts.ledger and facts.ledger.get("state") != State.ACCEPTED:
        out.line(f"  {'last word':<11} {why(str(facts.ledger['reason']))}")
    for reply in facts.replies:
        out.line(f"  {'reply':<11} {one_line(str(reply.get('content', '')))}", "good")
