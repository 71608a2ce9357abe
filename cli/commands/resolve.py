"""`dead-letters`, `redrive`, `resolve`: what needs a person."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from cli.commands.list import found
from cli.context import CommandContext, with_context
from cli.dead_letter_queue import DeadLetterQueue, ReceivedDeadLetter
from cli.errors import CliError, Exit
from cli.output import counted, masked, one_line, shortened
from cli.parameters import Name, Since
from cli.redrive_plan import Plan, PlanStep, apply_plan, make_plan, read_plan, write_plan
from cli.unknown_outcomes import Resolved, resolve_not_sent, resolve_sent, unknown_between
from optus_sms.aws.queues import DeadLetterReason

_REASONS: Final = [
    *(reason.value for reason in DeadLetterReason if reason is not DeadLetterReason.UNPUBLISHED_EVENT),
    "sqs",
]


def ask(question: str, *, yes: bool) -> None:
    """Go on only if a person says so, or has said so by --yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError("Nothing was done: this asks first, and nobody is there to answer.", "Add --yes.", Exit.USAGE)
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        raise CliError("Nothing was done.", code=Exit.INTERRUPTED) from None
    if not agreed:
        raise CliError("Nothing was done.", code=Exit.USAGE)


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
                masked(letter.destination, show=show_numbers),
                shortened(letter.detail_for_lists(show_numbers=show_numbers)),
            )
            for letter in letters
        ]
        out.table(("reason", "since", "message id", "to", "detail"), rows)
        out.note("`redrive --plan FILE` says which of them may be sent again.")
    else:
        out.line("none", "good")
    _note_hidden(context, hidden)


def _letter_json(letter: ReceivedDeadLetter, *, show_numbers: bool) -> dict[str, str]:
    return {
        "reason": letter.reason or "sqs",
        "since": letter.since,
        "message_id": letter.key,
        "to": masked(letter.destination, show=show_numbers),
        "detail": letter.detail_for_lists(show_numbers=show_numbers) or letter.problem,
        "sqs_id": letter.sqs_id,
    }


def _note_hidden(context: CommandContext, hidden: int) -> None:
    if hidden:
        context.out.note(
            f"About {hidden} more can't be seen just now, because somebody else looks at them; try again in a while.",
            "unsure",
        )


@click.command()
@click.option("--plan", "plan_path", type=click.Path(path_type=Path), help="Write a plan; nothing else is done.")
@click.option("--apply", "apply_path", type=click.Path(path_type=Path), help="Do what a plan says.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@with_context
def redrive(context: CommandContext, *, plan_path: Path | None, apply_path: Path | None, yes: bool) -> None:
    """Replay dead letters by a plan. First --plan FILE, which you read and may change, then --apply FILE.

    Only what is certainly unsent is sent, each under its own key. Can be interrupted and repeated.
    """
    if (plan_path is None) == (apply_path is None):
        raise click.UsageError("Give either --plan FILE or --apply FILE.")
    if plan_path is not None:
        _plan(context, plan_path)
    if apply_path is not None:
        _apply(context, apply_path, yes=yes)


def _plan(context: CommandContext, path: Path) -> None:
    plan, hidden = make_plan(context.target)
    write_plan(plan, path)
    out = context.out
    out.document({"plan": str(path), "kinds": dict(Counter(item.kind for item in plan.items)), "hidden": hidden})
    for kind, count in Counter((item.kind, item.action) for item in plan.items).items():
        out.line(f"{count:>6}  {kind[0].replace('_', ' '):<14} {kind[1]}", "good" if kind[1] == "send" else "plain")
    if plan.items:
        out.line(f"Written to {path}. Read it, change actions where you know better, then: redrive --apply {path}")
    else:
        out.line("none", "good")
    _note_hidden(context, hidden)


def _apply(context: CommandContext, path: Path, *, yes: bool) -> None:
    plan = read_plan(path, context.target)
    wanted = Counter(item.action for item in plan.items)
    if not wanted["send"] and not wanted["delete"]:
        context.out.document({"steps": []})
        context.out.line("The plan keeps everything; nothing to do.")
        return
    ask(f"Send {counted(wanted['send'], 'message')} and delete {wanted['delete']} on {context.target.name}?", yes=yes)
    steps = _applied(context, plan)
    context.out.document({"steps": [asdict(step) for step in steps]})
    results = Counter(step.result for step in steps)
    context.out.line(", ".join(f"{count} {result}" for result, count in sorted(results.items())))
    if not all(step.done for step in steps):
        context.out.note("What was refused is in the queue as before; make a new plan to see it.", "unsure")
        raise SystemExit(int(Exit.NOT_ALL))


def _applied(context: CommandContext, plan: Plan) -> list[PlanStep]:
    steps: list[PlanStep] = []
    with closing(apply_plan(plan, context.target)) as applied:
        for step in applied:
            steps.append(step)
            words = f"{one_line(step.message_id)}: {step.result}" + (f" ({one_line(step.why)})" if step.why else "")
            context.out.line(words, "good" if step.result == "queued" else "plain" if step.done else "bad")
    return steps


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


COMMANDS = (dead_letters, redrive, resolve)
