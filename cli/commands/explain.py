"""`explain`: the life of a message in plain words."""

from __future__ import annotations

import click

from cli.commands.message_lookup import found
from cli.context import CommandContext, with_context
from cli.output import one_line
from cli.parameters import Name
from cli.stage import TONES, next_step, stage_of
from cli.timeline import timeline


@click.command()
@click.argument("key", type=Name())
@with_context
def explain(context: CommandContext, *, key: str) -> None:
    """The life of the message KEY in plain words. What happened, why, and what happens next."""
    all_facts = found(context, key)
    context.out.document(
        [
            {
                "message_id": facts.key,
                "standing": stage_of(facts).value,
                "timeline": [{"at": line.at, "text": str(line)} for line in timeline(facts)],
                "next": next_step(facts),
            }
            for facts in all_facts
        ]
    )
    for facts in all_facts:
        stands = stage_of(facts)
        context.out.line(f"{one_line(facts.key)}: {stands}", TONES[stands])
        for line in timeline(facts):
            context.out.line(f"  {line.at:<24}  {one_line(str(line))}", line.tone)
        context.out.line(f"  next: {next_step(facts)}")
