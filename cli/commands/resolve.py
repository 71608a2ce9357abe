"""`resolve`: end an unknown outcome by what an operator knows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

import click

from cli.commands.confirmation import ask
from cli.commands.message_lookup import found
from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.output import counted, one_line
from cli.parameters import Name, Since
from cli.unknown_outcomes import Resolved, resolve_not_sent, resolve_sent, unknown_between


@click.command()
@click.argument("key", required=False, type=Name())
@click.option("--sent", is_flag=True, help="It was sent.")
@click.option("--not-sent", is_flag=True, help="It was not; it is queued again if its dead letter is there.")
@click.option("--gateway-id", type=Name(), help="Of --sent: the id that the gateway's portal shows.")
@click.option("--since", type=Since(), help="Instead of KEY: all that became unknown at or after this time or age.")
@click.option("--until", type=Since(), help="With --since: and before this one. [default: now]")
@click.option("--by", type=Name(), metavar="NAME", help="Who knows it. [default: who you are to AWS]")
@click.option("--yes", is_flag=True, help="Don't ask.")
@with_context
def resolve(
    context: CommandContext,
    *,
    key: str | None,
    sent: bool,
    not_sent: bool,
    gateway_id: str | None,
    since: float | None,
    until: float | None,
    by: str | None,
    yes: bool,
) -> None:
    """Resolve whether KEY was sent. The gateway's portal shows it; who resolved it and when is recorded."""
    if sent == not_sent:
        raise click.UsageError("Give either --sent or --not-sent.")
    if (key is None) == (since is None):
        raise click.UsageError("Give either KEY or --since.")
    if gateway_id is not None and (not_sent or key is None):
        raise click.UsageError("--gateway-id goes with KEY and --sent.")
    if until is not None and since is None:
        raise click.UsageError("--until goes with --since.")
    if key is not None:
        keys = [_message_id(context, key)]
    else:
        keys = unknown_between(context.tables, since or 0.0, time.time() if until is None else until)
    if not keys:
        context.out.document([])
        context.out.line("None became unknown in that time.")
        return
    word = "sent" if sent else "not sent, and to be sent now"
    if key is None:
        ask(f"Resolve {counted(len(keys), 'message')} on {context.target.name} as {word}?", yes=yes)
    person = by or context.target.person
    if sent:
        done = [resolve_sent(context.target, each, gateway_id, by=person) for each in keys]
    else:
        context.again = (
            "What was done so far is kept; the same command goes on. One that was resolved and not yet queued again "
            "is `safe` in a `redrive --plan`."
        )
        done = resolve_not_sent(context.target, keys, by=person)
    _report(context, done)


def _message_id(context: CommandContext, name: str) -> str:
    """Of the one message that goes by a name; two are an error, because only one of them was looked up."""
    facts = found(context, name)
    first = facts[0]
    by_reference = name not in (first.key, first.row.get("id"))
    if len(facts) > 1 or (by_reference and context.target.ledger.sender_of(name) is None):
        keys = ", ".join(one.key for one in facts)
        problem = f"Several messages have, or had, this reference: {keys} and perhaps others."
        raise CliError(problem, "Name one by its message id.", Exit.USAGE)
    return first.key


def _report(context: CommandContext, done: Sequence[Resolved]) -> None:
    context.out.document([asdict(one) for one in done])
    for one in done:
        context.out.line(f"{one_line(one.message_id)}: {one_line(one.result)}", "good" if one.resolved else "bad")
    if not all(one.resolved for one in done):
        raise SystemExit(int(Exit.NOT_ALL))
