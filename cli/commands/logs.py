"""`logs`: the functions' log records."""

import json
import time

import click

from cli.context import CommandContext, with_context
from cli.logs import ACCESS, FUNCTIONS, FieldCondition, records
from cli.output import one_line
from cli.parameters import Since


class _Where(click.ParamType):
    name = "condition"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> FieldCondition:
        try:
            return value if isinstance(value, FieldCondition) else FieldCondition.parse(str(value))
        except ValueError:
            self.fail("must be FIELD=VALUE, FIELD=VALUE,VALUE or FIELD!=VALUE", param, ctx)


@click.command()
@click.argument("name", required=False, type=click.Choice([*FUNCTIONS, ACCESS]))
@click.option(
    "--where",
    "conditions",
    type=_Where(),
    multiple=True,
    help="FIELD=VALUE[,VALUE …] or FIELD!=VALUE; * matches any characters.",
)
@click.option("--failed", is_flag=True, help="Errors, timeouts and crashes only.")
@click.option("--since", type=Since(), help="RFC 3339 with offset, or an age like 15m. [default: 1h]")
@with_context
def logs(
    context: CommandContext,
    *,
    name: str | None,
    conditions: tuple[FieldCondition, ...],
    failed: bool,
    since: float | None,
) -> None:
    """Show the log records of one function or all. They have no message text and no whole number."""
    if name == ACCESS and context.target.local:
        context.out.note("The local callback API keeps no access log.")
        return
    since = time.time() - 3600 if since is None else since
    for each, text in records(context.target, [name] if name else FUNCTIONS, conditions, since=since, failed=failed):
        try:
            context.out.entry({"log": each, "record": json.loads(text)})
        except ValueError:
            context.out.entry({"log": each, "record": text})
        context.out.line(one_line(text) if name else f"{each} {one_line(text)}")
