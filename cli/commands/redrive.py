"""`redrive`: send one dead letter again, or many by a plan."""

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from cli.commands.dead_letters import ids_of, none_named, note_hidden
from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.output import counted, one_line
from cli.parameters import FILE, Name
from cli.redrive_plan import (
    SENDABLE,
    PlanItem,
    PlanStep,
    apply_plan,
    make_plan,
    plan_items,
    read_plan,
    send_one,
    write_plan,
)


@click.command()
@click.argument("id_", metavar="[ID]", required=False, type=Name())
@click.option("--plan", "plan_path", type=FILE, help="Write a plan, and do nothing else.")
@click.option("--apply", "apply_path", type=FILE, help="Apply a plan.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
def redrive(
    context: CommandContext, *, id_: str | None, plan_path: Path | None, apply_path: Path | None, yes: bool
) -> None:
    """Send dead letters again. One by its ID (message_id or SQS ID), or many by a plan.

    For many: write a plan with --plan FILE, read it and change it where needed, then run --apply FILE.

    Sends only messages that were certainly not sent, each under its own message_id. Can be interrupted and repeated.
    """
    if [id_, plan_path, apply_path].count(None) != 2:
        raise click.UsageError("Give one of ID, --plan FILE and --apply FILE.")
    if id_ is not None:
        _one(context, id_, yes=yes)
    if plan_path is not None:
        _plan(context, plan_path)
    if apply_path is not None:
        _apply(context, apply_path, yes=yes)


def _one(context: CommandContext, id_: str, *, yes: bool) -> None:
    target, ids = context.target, ids_of(context, id_)
    with target.dead_letter_queue() as queue:
        hidden = queue.hidden()
        dead_letters = queue.hold(lambda each: each.is_named(*ids))
        note_hidden(context, hidden + queue.lost)
        if not dead_letters:
            raise none_named(context, id_)
        item = _item_to_send(id_, plan_items(dead_letters, target.ledger, now=time.time()))
        about = f"{item.message_id} to {item.destination} ({item.reason} since {item.since}: {item.why})"
        context.confirm(f"Send {about} on {target.name}?", yes=yes)
        with closing(send_one(item, dead_letters, queue, target)) as steps:
            _report(context, _shown(context, steps))


def _item_to_send(id_: str, items: list[PlanItem]) -> PlanItem:
    """Return the item that may be sent; raise `CliError` if there is none, or more than one."""
    can_be_sent = [item for item in items if item.kind in SENDABLE]
    if not can_be_sent:
        why = "\n".join(f"{item.message_id} is not sent: {item.why}." for item in items)
        raise CliError(why, f"`dead-letters --body {id_}` shows it; docs/cli.md, Redrive: what to do.", Exit.NOT_ALL)
    if len(can_be_sent) > 1:
        problem = f"{len(can_be_sent)} dead letters with different fields have the message_id {id_!r}."
        raise CliError(problem, "Choose one in a plan: `redrive --plan FILE`.", Exit.USAGE)
    return can_be_sent[0]


def _plan(context: CommandContext, path: Path) -> None:
    plan, hidden = make_plan(context.target)
    write_plan(plan, path)
    out = context.out
    out.document({"plan": str(path), "kinds": dict(Counter(item.kind for item in plan.items)), "hidden": hidden})
    for kind, count in Counter((item.kind, item.action) for item in plan.items).items():
        out.line(f"{count:>6}  {kind[0].replace('_', ' '):<14} {kind[1]}", "good" if kind[1] == "send" else "plain")
    if plan.items:
        out.line(f"Written to {path}. Read it, change actions where needed, then: redrive --apply {path}")
    else:
        out.line("none", "good")
    note_hidden(context, hidden)


def _apply(context: CommandContext, path: Path, *, yes: bool) -> None:
    plan = read_plan(path, context.target)
    wanted = Counter(item.action for item in plan.items)
    if not wanted["send"] and not wanted["delete"]:
        context.out.document({"steps": []})
        context.out.line("The plan keeps every item; nothing to do.")
        return
    context.confirm(
        f"Send {counted(wanted['send'], 'message')} and delete {wanted['delete']} on {context.target.name}?", yes=yes
    )
    with closing(apply_plan(plan, context.target)) as steps:
        _report(context, _shown(context, steps))


def _report(context: CommandContext, steps: list[PlanStep]) -> None:
    context.out.document({"steps": [asdict(step) for step in steps]})
    results = Counter(step.result for step in steps)
    context.out.line(", ".join(f"{count} {result}" for result, count in sorted(results.items())))
    if not all(step.done for step in steps):
        context.out.note("A new plan shows what is still in the queue.", "unsure")
        raise SystemExit(int(Exit.NOT_ALL))


def _shown(context: CommandContext, steps: Iterable[PlanStep]) -> list[PlanStep]:
    """Print each step as it happens, and return all steps."""
    done: list[PlanStep] = []
    for step in steps:
        done.append(step)
        words = f"{one_line(step.message_id)}: {step.result}" + (f" ({one_line(step.why)})" if step.why else "")
        context.out.line(words, "good" if step.result == "queued" else "plain" if step.done else "bad")
    return done
