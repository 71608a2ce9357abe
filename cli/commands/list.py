"""`list`: messages by what became of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import click

from cli.commands.message_lookup import message_json
from cli.context import CommandContext, with_context
from cli.output import number_in_list
from cli.parameters import Since
from cli.stage import Facts, stage_of
from cli.timeline import why
from optus_sms.model.statuses import FAILURE_STATUSES
from optus_sms.model.times import format_rfc3339
from optus_sms.records.ledger import State


@click.command("list")
@click.option("--unknown", is_flag=True, help="Messages with an unknown outcome.")
@click.option("--undelivered", is_flag=True, help="Messages not known to be received. Reads the whole table.")
@click.option("--since", type=Since(), help="Not older than this time, or age like 2h or 7d.")
@click.option("--scan", is_flag=True, help="With --unknown: include those that are no longer reconciled.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most this many.")
@click.option("--show-numbers", is_flag=True, help="Show whole phone numbers.")
@with_context
def list_(
    context: CommandContext,
    *,
    unknown: bool,
    undelivered: bool,
    since: float | None,
    scan: bool,
    limit: int,
    show_numbers: bool,
) -> None:
    """List messages by where they stand. --undelivered, and --since alone, read a whole table and warn of its cost."""
    if unknown and undelivered:
        raise click.UsageError("--unknown and --undelivered exclude each other.")
    if scan and not unknown:
        raise click.UsageError("--scan goes with --unknown.")
    if not unknown and not undelivered and since is None:
        raise click.UsageError("Give --unknown, --undelivered or --since.")
    after = format_rfc3339(since) if since is not None else ""
    chosen = _unknown(context, after, scan=scan) if unknown else _sent(context, after, undelivered=undelivered)
    some = list(itertools.islice(chosen, limit + 1))
    shown = sorted(some[:limit], key=_when)
    context.out.document([message_json(facts, show_numbers=show_numbers) for facts in shown])
    rows = [_row(facts, show_numbers=show_numbers) for facts in shown]
    if rows:
        context.out.table(("since", "message_id", "destination", "stage", "reason"), rows)
    else:
        context.out.line("none", "good")
    if len(some) > limit:
        context.out.note(f"There are more than {limit}; raise --limit.", "unsure")


def _unknown(context: CommandContext, after: str, *, scan: bool) -> Iterable[Facts]:
    if scan:
        _warn_of_scan(context)
    every = context.tables.scan_ledger(State.UNKNOWN) if scan else context.tables.undecided(State.UNKNOWN)
    if not scan:
        context.out.note("Messages no longer reconciled, after more than a week, are listed with --scan.")
    return (facts for facts in every if _when(facts) >= after)


def _sent(context: CommandContext, after: str, *, undelivered: bool) -> Iterable[Facts]:
    _warn_of_scan(context)
    for row in context.tables.scan_messages():
        facts = Facts(str(row.get("message_id", row["id"])), {}, row)
        is_wanted = not undelivered or row.get("status") in FAILURE_STATUSES or "received_at" not in row
        if is_wanted and _when(facts) >= after:
            yield facts


def _warn_of_scan(context: CommandContext) -> None:
    context.out.note(
        "This reads the whole table, at half a read unit for each 4 KB; a large one takes minutes.",
        "unsure",
    )


def _when(facts: Facts) -> str:
    item = facts.ledger or facts.row
    # A row without the sender's own write has only the times of its callbacks.
    first_at = min((at for name, at in item.items() if name.endswith("_at") and isinstance(at, str)), default="")
    return str(item.get("unknown_since") or item.get("created_at") or first_at)


def _row(facts: Facts, *, show_numbers: bool) -> tuple[str, ...]:
    both = facts.ledger | facts.row
    words = both.get("status") or (why(str(both["reason"])) if "reason" in both else "-")
    number = number_in_list(str(both.get("destination", "")), show=show_numbers)
    return (_when(facts) or "-", facts.key, number, stage_of(facts).value, str(words))
