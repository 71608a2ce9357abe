"""`dead-letters`: messages and callbacks that need an operator, newest first; one of them whole on request."""

from collections import Counter
from typing import Final

import click

from cli.context import CommandContext, with_context
from cli.dead_letter_queue import ReceivedDeadLetter
from cli.errors import CliError, Exit
from cli.message_lookup import whose
from cli.output import counted, number_in_list, one_line
from cli.parameters import Name
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.model.redaction import without_numbers

_REASONS: Final = [reason.value for reason in DeadLetterReason if reason is not DeadLetterReason.UNPUBLISHED_EVENT]


@click.command("dead-letters")
@click.option("--reason", type=click.Choice(_REASONS), help="Only with this reason. receives_exhausted: moved by SQS.")
@click.option(
    "--body", "id_", type=Name(), metavar="ID", help="Show this one with text and number: message_id or SQS ID."
)
@click.option(
    "--delete", "delete_id", type=Name(), metavar="ID", help="Delete this one without sending it: message_id or SQS ID."
)
@click.option("--show-numbers", is_flag=True, help="Show whole phone numbers.")
@click.option("--yes", is_flag=True, help="With --delete: do not ask.")
@with_context
def dead_letters(
    context: CommandContext,
    *,
    reason: str | None,
    id_: str | None,
    delete_id: str | None,
    show_numbers: bool,
    yes: bool,
) -> None:
    """List the dead letters, newest first. Changes nothing, but hides them from other readers for a moment."""
    if delete_id is not None:
        if reason is not None or id_ is not None or show_numbers:
            raise click.UsageError("--delete can be combined only with --yes.")
        _delete(context, delete_id, yes=yes)
        return
    ids = () if id_ is None else ids_of(context, id_)
    with context.target.dead_letter_queue() as queue:
        hidden = queue.hidden()
        dead_letters = [
            dead_letter
            for dead_letter in queue.dead_letters()
            if reason in (None, dead_letter.reason) and (id_ is None or dead_letter.is_named(*ids))
        ]
        hidden += queue.lost
    dead_letters.sort(key=lambda dead_letter: dead_letter.since, reverse=True)
    if id_ is None:
        _list(context, dead_letters, show_numbers=show_numbers)
    elif dead_letters:
        _show(context, dead_letters)
    note_hidden(context, hidden)
    if id_ is not None and not dead_letters:
        raise none_named(context, id_)


def _delete(context: CommandContext, id_: str, *, yes: bool) -> None:
    """Delete the dead letters with this ID. The message's record in the ledger stays."""
    ids = ids_of(context, id_)
    with context.target.dead_letter_queue() as queue:
        hidden = queue.hidden()
        found = queue.hold(lambda each: each.is_named(*ids))
        note_hidden(context, hidden + queue.lost)
        if not found:
            raise none_named(context, id_)
        what = f"{counted(len(found), 'dead letter')} of {id_}"
        context.confirm(f"Delete {what} on {context.target.name}? It can't be undone.", yes=yes)
        for dead_letter in found:
            queue.delete(dead_letter)
    context.out.document({"deleted": [each.sqs_id for each in found]})
    context.out.line(f"{counted(len(found), 'dead letter')} deleted", "good")


def _show(context: CommandContext, dead_letters: list[ReceivedDeadLetter]) -> None:
    """Show dead letters whole, because their ID was named. This is the command's only way to show a text."""
    found = [
        _as_json(each, show_numbers=True)
        | {"detail": each.detail, "problem": each.problem, "body": each.body, "body_encoding": each.encoding}
        for each in dead_letters
    ]
    context.out.document(found)
    for each in found:
        for name, value in each.items():
            if value:
                context.out.line(f"{name:<13} {one_line(value)}")
        context.out.line()


def _list(context: CommandContext, dead_letters: list[ReceivedDeadLetter], *, show_numbers: bool) -> None:
    out = context.out
    found = [_as_json(dead_letter, show_numbers=show_numbers) for dead_letter in dead_letters]
    out.document(found)
    for why, count in sorted(Counter(each["reason"] for each in found).items()):
        out.line(f"{count:>6}  {why}")
    if found:
        out.line()
        columns = ("since", "reason", "message_id", "destination", "detail")
        out.table(columns, [[each[name] for name in columns] for each in found])
        out.note("`--body ID` shows one whole; `redrive --plan FILE` lists which of them may be sent again.")
    else:
        out.line("none", "good")


def _as_json(dead_letter: ReceivedDeadLetter, *, show_numbers: bool) -> dict[str, str]:
    return {
        "since": dead_letter.since,
        "queued_at": dead_letter.queued_at,
        "reason": dead_letter.reason,
        "message_id": dead_letter.message_id,
        "destination": number_in_list(dead_letter.destination, show=show_numbers),
        "detail": dead_letter.detail_for_lists(show_numbers=show_numbers) or dead_letter.problem,
        "evidence": dead_letter.evidence if show_numbers else without_numbers(dead_letter.evidence),
        "lane": "" if dead_letter.reason == DeadLetterReason.UNREADABLE_CALLBACK else dead_letter.lane.value,
        "sqs_id": dead_letter.sqs_id,
    }


def ids_of(context: CommandContext, id_: str) -> tuple[str, str]:
    """Return the IDs that the operator can mean: the ID itself, or the `message_id` of the operator's own key."""
    return id_, context.target.id_of(id_)


def none_named(context: CommandContext, id_: str) -> CliError:
    problem = f"No dead letter has the message_id or SQS ID {id_!r}."
    return CliError(problem, f"`find {id_}` searches other places.{whose(context.target)}", Exit.NOT_FOUND)


def note_hidden(context: CommandContext, hidden: int) -> None:
    if hidden:
        context.out.note(
            f"About {hidden} more may be hidden, because another reader held them a moment ago or a response was lost. "
            "Retry in five minutes.",
            "unsure",
        )
