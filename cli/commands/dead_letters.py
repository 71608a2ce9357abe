"""`dead-letters`: what needs an operator, by reason."""

from collections import Counter
from typing import Final

import click

from cli.context import CommandContext, with_context
from cli.dead_letter_queue import DeadLetterQueue, ReceivedDeadLetter
from cli.output import number_in_list
from optus_sms.aws.queues import DeadLetterReason

_REASONS: Final = [reason.value for reason in DeadLetterReason if reason is not DeadLetterReason.UNPUBLISHED_EVENT]


@click.command("dead-letters")
@click.option("--reason", type=click.Choice(_REASONS), help="Only this reason; receives_exhausted: moved by SQS.")
@click.option("--show-numbers", is_flag=True, help="Show whole phone numbers.")
@with_context
def dead_letters(context: CommandContext, *, reason: str | None, show_numbers: bool) -> None:
    """List the dead letters by reason. Reading hides them from others for a moment and changes nothing."""
    with DeadLetterQueue(context.target.sqs, context.url("DeadLetterQueueUrl")) as queue:
        hidden = queue.hidden()
        dead_letters = [
            dead_letter for dead_letter in queue.dead_letters() if reason is None or dead_letter.reason == reason
        ]
    dead_letters.sort(key=lambda dead_letter: (dead_letter.reason, dead_letter.since))
    out = context.out
    found = [_as_json(dead_letter, show_numbers=show_numbers) for dead_letter in dead_letters]
    out.document(found)
    for why, count in sorted(Counter(each["reason"] for each in found).items()):
        out.line(f"{count:>6}  {why}")
    if found:
        out.line()
        columns = ("reason", "since", "message_id", "destination", "detail")
        out.table(columns, [[each[name] for name in columns] for each in found])
        out.note("`--json` shows each detail whole; `redrive --plan FILE` lists which of them may be sent again.")
    else:
        out.line("none", "good")
    note_hidden(context, hidden)


def _as_json(dead_letter: ReceivedDeadLetter, *, show_numbers: bool) -> dict[str, str]:
    return {
        "reason": dead_letter.reason,
        "since": dead_letter.since,
        "message_id": dead_letter.message_id,
        "destination": number_in_list(dead_letter.destination, show=show_numbers),
        "detail": dead_letter.detail_for_lists(show_numbers=show_numbers) or dead_letter.problem,
        "evidence": dead_letter.evidence,
        "sqs_id": dead_letter.sqs_id,
    }


def note_hidden(context: CommandContext, hidden: int) -> None:
    if hidden:
        context.out.note(
            f"About {hidden} more may be hidden, because another reader held them a moment ago. Retry in five minutes.",
            "unsure",
        )
