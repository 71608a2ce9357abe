"""`status`: the stage of a message."""

from collections.abc import Iterator
from typing import Final

import click

from cli.context import CommandContext, with_context
from cli.errors import Exit
from cli.message_lookup import exit_code, find_messages, message_json
from cli.output import one_line
from cli.parameters import Name
from cli.stage import TONES, Facts, stage_of, standing
from cli.timeline import why
from optus_sms.records.items import State, attributes

_WORST_FIRST: Final = (Exit.UNKNOWN, Exit.NOT_DELIVERED, Exit.ON_ITS_WAY, Exit.OK)


@click.command()
@click.argument("id_", metavar="ID", type=Name())
@with_context
def status(context: CommandContext, *, id_: str) -> None:
    """Show the stage of the message ID. The exit code is that of `send --follow`, for several messages the worst."""
    all_facts = find_messages(context.target, id_)
    context.out.document(
        [message_json(facts) | {"replies": [attributes(reply) for reply in facts.replies]} for facts in all_facts]
    )
    for facts in all_facts:
        _show_status(context, facts)
    if len(all_facts) > 1:
        context.out.note("Several messages have this reference; the ledger keeps two of them.", "unsure")
    raise SystemExit(int(min((exit_code(facts) for facts in all_facts), key=_WORST_FIRST.index)))


def _show_status(context: CommandContext, facts: Facts) -> None:
    stage, out = stage_of(facts), context.out
    out.line(f"{one_line(facts.message_id)}: {standing(facts)}", TONES[stage])
    for label, value in _shown(facts):
        if value is not None:
            out.line(f"  {label:<11} {one_line(str(value))}")
    for reply in facts.replies:
        out.line(f"  {'reply':<11} {one_line(reply.content or '')}", "good")


def _shown(facts: Facts) -> Iterator[tuple[str, object]]:
    """Yield each fact with its label; None for an unknown fact."""
    ledger, message, reply = facts.ledger, facts.message, facts.reply
    yield "to", facts.destination
    yield "from", reply and reply.source
    yield "gateway ID", facts.gateway_id
    yield "reference", next((one.reference for one in (message, reply, ledger) if one and one.reference), None)
    yield "status", facts.status
    yield "detail", (message and message.detail) or (ledger and ledger.detail) or None
    yield "segments", facts.segments
    yield "attempts", ledger and ledger.attempts
    if ledger and ledger.reason and ledger.state is not State.ACCEPTED:
        yield "reason", why(ledger.reason)
    if ledger and not ledger.gateway_id:
        yield "evidence", ledger.last_evidence or None
    if facts.id_taken_by:
        yield "problem", f"the gateway had given its ID to {facts.id_taken_by} before"
