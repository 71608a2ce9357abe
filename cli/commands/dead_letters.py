"""`dead-letters`: what needs an operator, by reason."""

from __future__ import annotations

from collections import Counter
from typing import Final

import click

from cli.context import CommandContext, with_context
from cli.dead_letter_queue import DeadLetterQueue, ReceivedDeadLetter
from cli.output import number_in_list, shortened
from optus_sms.aws.queues import DeadLetterReason

_REASONS: Final = [
    *(reason.value for reason in DeadLetterReason if reason is not DeadLetterReason.UNPUBLISHED_EVENT),
    "sqs",
]


@click.command("dead-letters")
@click.option("--reason", type=click.Choice(_REASONS), help="Only those; sqs: moved by SQS itself.")
@click.option("--show-numbers", is_flag=True, help="Whole phone numbers.")
@with_context
def dead_letters(context: CommandContext, *, reason: str | None, show_numbers: bool) -> None:
    """What needs a person, by reason. Looking hides them from others for a moment and changes nothing."""
    with DeadLetterQueue(context.target.sqs, context.url("DeadLetterQueueUrl")) as queue:
        letters = [letter for letter in queue.letters() if reason is None or (letter.reason or "sqs") == reason]
        queue.release()
        hidden = queue.hidden()
    letters.sort(key=lambda letter: (letter.reason, letter.since))
    out = context.out
    out.document([_letter_json(letter, show_numbers=show_numbers) for letter in letters])
    for why, count in sorted(Counter(letter.reason or "sqs" for letter in letters).items()):
        out.line(f"{count:>6}  {why}")
    if letters:
        out.line()
        rows = [
            (
                letter.reason or "sqs",
                letter.since,
                letter.key,
                number_in_list(letter.destination, show=show_numbers),
                shortened(letter.detail_for_lists(show_numbers=show_numbers)),
            )
            for letter in letters
        ]
        out.table(("reason", "since", "message id", "to", "detail"), rows)
        out.note("`redrive --plan FILE` says which of them may be sent again.")
    else:
        out.line("none", "good")
    note_hidden(context, hidden)


def _letter_json(letter: ReceivedDeadLetter, *, show_numbers: bool) -> dict[str, str]:
    return {
        "reason": letter.reason or "sqs",
        "since": letter.since,
        "message_id": letter.key,
        "to": number_in_list(letter.destination, show=show_numbers),
        "detail": letter.detail_for_lists(show_numbers=show_numbers) or letter.problem,
        "sqs_id": letter.sqs_id,
    }


def note_hidden(context: CommandContext, hidden: int) -> None:
    if hidden:
        context.out.note(
            f"About {hidden} more can't be seen just now, because somebody else looks at them; try again in a while.",
            "unsure",
        )
