"""`redrive`: redrive dead letters by a plan."""

from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from cli.commands.dead_letters import note_hidden
from cli.context import CommandContext, with_context
from cli.errors import Exit
from cli.output import counted, one_line
from cli.parameters import FILE
from cli.redrive_plan import Plan, PlanStep, apply_plan, make_plan, read_plan, write_plan


@click.command()
@click.option("--plan", "plan_path", type=FILE, help="Write a plan, and do nothing else.")
@click.option("--apply", "apply_path", type=FILE, help="Apply a plan.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
def redrive(context: CommandContext, *, plan_path: Path | None, apply_path: Path | None, yes: bool) -> None:
    """Redrive dead letters by a plan. First --plan FILE, which you read and can change, then --apply FILE.

    Only messages that were certainly not sent are sent, each under its own message_id. Can be interrupted and repeated.
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
    steps = _applied(context, plan)
    context.out.document({"steps": [asdict(step) for step in steps]})
    results = Counter(step.result for step in steps)
    context.out.line(", ".join(f"{count} {result}" for result, count in sorted(results.items())))
    if not all(step.done for step in steps):
        context.out.note("A new plan shows what is still in the queue.", "unsure")
        raise SystemExit(int(Exit.NOT_ALL))


def _applied(context: CommandContext, plan: Plan) -> list[PlanStep]:
    steps: list[PlanStep] = []
    with closing(apply_plan(plan, context.target)) as applied:
        for step in applied:
            steps.append(step)
            words = f"{one_line(step.message_id)}: {step.result}" + (f" ({one_line(step.why)})" if step.why else "")
            context.out.line(words, "good" if step.result == "queued" else "plain" if step.done else "bad")
    return steps
