"""`list`: messages by stage."""

import heapq
from collections.abc import Iterable
from typing import Final

import click

from cli.context import CommandContext, with_context
from cli.long_reads import shown
from cli.message_lookup import message_json, without_phone_numbers
from cli.parameters import Since
from cli.stage import Facts, stage_of
from cli.timeline import why
from optus_sms.model.statuses import FAILURE_STATUSES
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import State

_SCAN_COST: Final = "This reads the whole table, at half a read unit for each 4 KB; a large one takes minutes."

_CAN_BE_LISTED: Final = """Choose what to list:
  list --unknown             messages with an unknown outcome
  list --undelivered         messages not known to be received
  list --since 2h            messages that the gateway accepted since then
Others: `dead-letters`, `conversation +61…`, `find ID`."""


@click.command("list")
@click.option("--unknown", is_flag=True, help="Messages with an unknown outcome.")
@click.option("--undelivered", is_flag=True, help="Messages not known to be received. Reads the whole table.")
@click.option("--since", type=Since(), help="Not older than this time, or age like 2h or 7d.")
@click.option("--scan", is_flag=True, help="With --unknown: include those that reconciliation has given up.")
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
    """List messages by stage. In time order; if there are more than --limit, the latest.

    --undelivered, and --since alone, read a whole table; the command warns of the cost.
    """
    if unknown and undelivered:
        raise click.UsageError("--unknown and --undelivered can't be combined.")
    if scan and not unknown:
        raise click.UsageError("--scan needs --unknown.")
    if not unknown and not undelivered and since is None:
        raise click.UsageError(_CAN_BE_LISTED)
    after = format_rfc3339(since) if since is not None else ""
    chosen = _unknown(context, after, scan=scan) if unknown else _sent(context, after, undelivered=undelivered)
    count, latest = _latest(chosen, limit)
    listed = [facts if show_numbers else without_phone_numbers(facts) for facts in latest]
    context.out.document([message_json(facts) for facts in listed])
    if listed:
        context.out.table(("since", "message_id", "destination", "stage", "reason"), [_line(facts) for facts in listed])
    else:
        context.out.line("none", "good")
    if count > limit:
        context.out.note(f"These are the latest {limit} of {count}; --limit shows more.", "unsure")


def _latest(facts: Iterable[Facts], limit: int) -> tuple[int, list[Facts]]:
    """Return the number of messages, and the latest of them in time order. A table is read in no order."""
    heap: list[tuple[str, int, Facts]] = []
    count = 0
    for count, each in enumerate(facts, start=1):
        push = heapq.heappush if len(heap) < limit else heapq.heappushpop
        push(heap, (each.since, count, each))
    return count, [each for _, _, each in sorted(heap, key=lambda entry: entry[:2])]


def _unknown(context: CommandContext, after: str, *, scan: bool) -> Iterable[Facts]:
    if scan:
        context.out.note(_SCAN_COST, "unsure")
        ledger = shown(context.target.ledger.scan(), "ledger records")
    else:
        ledger = shown(context.target.ledger.undecided(State.UNKNOWN), "undecided messages")
        context.out.note("Messages no longer reconciled, after more than a week, are listed with --scan.")
    unknown = (Facts(record.message_id, record) for record in ledger if record.state is State.UNKNOWN)
    return (facts for facts in unknown if facts.since >= after)


def _sent(context: CommandContext, after: str, *, undelivered: bool) -> Iterable[Facts]:
    context.out.note(_SCAN_COST, "unsure")
    for message in shown(context.target.messages.scan(), "messages"):
        facts = Facts(message.message_id or message.id, message=message)
        is_wanted = not undelivered or message.status in FAILURE_STATUSES or "received" not in message.times
        if is_wanted and facts.since >= after:
            yield facts


def _line(facts: Facts) -> tuple[str, ...]:
    reason = why(facts.ledger.reason) if facts.ledger and facts.ledger.reason else "-"
    since, number = facts.since or "-", facts.destination or "-"
    return (since, facts.message_id, number, stage_of(facts).value, facts.status or reason)
