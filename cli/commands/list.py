"""`status`, `explain`, `conversation`, `list`: what became of messages. Nothing here changes anything."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Final

import click

from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.output import masked, one_line, without_numbers
from cli.parameters import Name, Since
from cli.timeline import TONES, Facts, Stage, next_step, stage_of, timeline, why
from optus_sms.model.statuses import FAILURE_STATUSES
from optus_sms.model.times import format_rfc3339
from optus_sms.records.ledger import State
from optus_sms.records.table import Item

_WORST_FIRST: Final = (Exit.UNKNOWN, Exit.NOT_DELIVERED, Exit.ON_ITS_WAY, Exit.OK)


def found(context: CommandContext, name: str) -> list[Facts]:
    """The messages that go by a name; an error if there is none."""
    facts = context.tables.find(name)
    if not facts:
        raise CliError(
            f"Nothing is known of {name!r}: neither a message id, nor a gateway id, nor a reference.",
            "If it was queued just now, it may still wait in the queue (`health` tells how many do). A message that "
            "broke\na rule is in the dead-letter queue: `dead-letters`.",
            Exit.NOT_FOUND,
        )
    return facts


def as_json(facts: Facts, *, show_numbers: bool = True) -> dict[str, Any]:
    """One message for programs; with whole numbers only if asked for."""

    def shown(item: Item) -> Mapping[str, object]:
        return item if show_numbers else {name: _discreet(name, value) for name, value in item.items()}

    return {
        "message_id": facts.key,
        "standing": stage_of(facts).value,
        "ledger": shown(facts.ledger),
        "gateway": shown(facts.row),
    }


def _discreet(name: str, value: object) -> object:
    if name in ("destination", "source", "handset"):
        return masked(str(value))
    return without_numbers(str(value)) if name == "detail" else value


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


def exit_code(facts: Facts) -> Exit:
    """0 received (or a reply), else what it is."""
    match stage_of(facts):
        case Stage.RECEIVED | Stage.REPLY:
            return Exit.OK
        case Stage.UNDELIVERED | Stage.REJECTED | Stage.EXPIRED:
            return Exit.NOT_DELIVERED
        case Stage.UNKNOWN:
            return Exit.UNKNOWN
        case Stage.SENDING | Stage.RETRY | Stage.ACCEPTED | Stage.NOT_SEEN:
            return Exit.ON_ITS_WAY


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


@click.command()
@click.argument("handset", type=Name())
@click.option("--since", type=Since(), help="Not older than that: a time, or an age like 2h or 7d.")
@with_context
def conversation(context: CommandContext, *, handset: str, since: float | None) -> None:
    """Messages to and replies from HANDSET (+61…). In time order; the text of what was sent is not kept."""
    rows = list(context.tables.conversation(handset, since=format_rfc3339(since) if since is not None else ""))
    context.out.document(rows)
    if not rows:
        raise CliError(f"There is nothing with {handset}.", "Give the number as it was sent to: +61…", Exit.NOT_FOUND)
    for row in rows:
        if row.get("direction") == "MO":
            context.out.line(f"{row.get('received_at', '')}  ← {one_line(str(row.get('content', '')))}", "good")
        else:
            name = row.get("message_id", row["id"])
            context.out.line(f"{row.get('created_at', '')}  → {one_line(str(name))}: {row.get('status', '?')}")


@click.command("list")
@click.option("--unknown", is_flag=True, help="Of which nobody knows whether they were sent.")
@click.option("--undelivered", is_flag=True, help="Not received, or not known to be. Reads the whole table.")
@click.option("--since", type=Since(), help="Not older than that: a time, or an age like 2h or 7d.")
@click.option("--scan", is_flag=True, help="Of --unknown: those too that nobody looks for any more.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@click.option("--show-numbers", is_flag=True, help="Whole phone numbers.")
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
    """Messages by what became of them. --undelivered, and --since alone, read a whole table and warn of its cost."""
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
    context.out.document([as_json(facts, show_numbers=show_numbers) for facts in shown])
    rows = [_row(facts, show_numbers=show_numbers) for facts in shown]
    if rows:
        context.out.table(("since", "message id", "to", "stands", "last word"), rows)
    else:
        context.out.line("none", "good")
    if len(some) > limit:
        context.out.note(f"There are more than {limit}; raise --limit.", "unsure")


def _unknown(context: CommandContext, after: str, *, scan: bool) -> Iterable[Facts]:
    if scan:
        _warn_of_scan(context)
    every = context.tables.scan_ledger(State.UNKNOWN) if scan else context.tables.undecided(State.UNKNOWN)
    if not scan:
        context.out.note("Those of more than a week ago, for which nobody looks any more, are listed with --scan.")
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
        "This reads the whole table, which costs half a read unit for each 4 KB of it, and takes its time.",
        "unsure",
    )


def _when(facts: Facts) -> str:
    item = facts.ledger or facts.row
    # Without our own write there is only what callbacks told, and when.
    first_told = min((at for name, at in item.items() if name.endswith("_at") and isinstance(at, str)), default="")
    return str(item.get("unknown_since") or item.get("created_at") or first_told)


def _row(facts: Facts, *, show_numbers: bool) -> tuple[str, ...]:
    both = facts.ledger | facts.row
    words = both.get("status") or (why(str(both["reason"])) if "reason" in both else "-")
    number = masked(str(both.get("destination", "")), show=show_numbers)
    return (_when(facts) or "-", facts.key, number, stage_of(facts).value, str(words))


COMMANDS = (status, explain, conversation, list_)
