"""`replay-callbacks`: post unreadable callbacks again, after the cause was corrected."""

from collections import Counter
from dataclasses import asdict

import click

from cli.callback_replay import Replayed, replay
from cli.commands.dead_letters import note_hidden
from cli.context import CommandContext, with_context
from cli.errors import Exit
from cli.output import counted
from optus_sms.aws.queues import DeadLetterReason


@click.command("replay-callbacks")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
def replay_callbacks(context: CommandContext, *, yes: bool) -> None:
    """Post unreadable callbacks again. Deploy a release that can read them first.

    Callbacks that are stored leave the dead-letter queue; the others stay. Can be interrupted and repeated, because a
    repeated callback changes nothing.
    """
    done: list[Replayed] = []
    with context.target.dead_letter_queue() as queue:
        hidden = queue.hidden()
        callbacks = queue.hold(lambda each: each.reason == DeadLetterReason.UNREADABLE_CALLBACK)
        note_hidden(context, hidden + queue.lost)
        if callbacks:
            context.confirm(f"Post {counted(len(callbacks), 'callback')} again to {context.target.name}?", yes=yes)
        for one in replay(context.target, sorted(callbacks, key=lambda each: each.since), queue):
            done.append(one)
            words = f"{one.since}  {one.sqs_id}: {one.result}" + (f" ({one.why})" if one.why else "")
            context.out.line(words, "good" if one.result == "stored" else "bad")
    _report(context, done, left=len(callbacks) - len(done))


def _report(context: CommandContext, done: list[Replayed], *, left: int) -> None:
    results = Counter(one.result for one in done)
    context.out.document([asdict(one) for one in done])
    context.out.line(", ".join(f"{count} {result}" for result, count in sorted(results.items())) or "none")
    if left:
        context.out.note(f"{left} more were not posted, because the callback URL does not respond.", "unsure")
    if results.keys() - {"stored"}:
        context.out.note("`dead-letters --body ID` shows one whole.", "unsure")
        raise SystemExit(int(Exit.NOT_ALL))
