"""`explain`: the life of a message in plain words."""

import click

from cli.context import CommandContext, with_context
from cli.message_lookup import find_messages
from cli.output import one_line
from cli.parameters import Name
from cli.stage import TONES, next_step, stage_of, standing
from cli.timeline import timeline


@click.command()
@click.argument("id_", metavar="ID", type=Name())
@with_context
def explain(context: CommandContext, *, id_: str) -> None:
    """Explain what happened to the message ID. Shows each step, its reason, and what happens next."""
    all_facts = find_messages(context.target, id_)
    context.out.document(
        [
            {
                "message_id": facts.message_id,
                "stage": stage_of(facts).value,
                "timeline": [{"at": line.at, "text": str(line)} for line in timeline(facts)],
                "next": next_step(facts),
            }
            for facts in all_facts
        ]
    )
    for facts in all_facts:
        context.out.line(f"{one_line(facts.message_id)}: {standing(facts)}", TONES[stage_of(facts)])
        for line in timeline(facts):
            context.out.line(f"  {line.at:<24}  {one_line(str(line))}", line.tone)
        context.out.line(f"  next: {next_step(facts)}")
