"""`find`: a message wherever it is."""

from dataclasses import asdict

import click

from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.finding import Sought, find
from cli.health import waiting_counts
from cli.output import number_in_list
from cli.parameters import Name


@click.command("find")
@click.argument("what", type=Name())
@click.option(
    "--queue", is_flag=True, help="Read the waiting messages of the queue too, which delays them for a moment."
)
@click.option("--show-numbers", is_flag=True, help="Show whole phone numbers.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
def find_(context: CommandContext, *, what: str, queue: bool, show_numbers: bool, yes: bool) -> None:
    """Find a message wherever it is. WHAT: a phone number in any form, a message_id, a gateway ID or a reference.

    Searches the ledger, MessagesTable and the dead letters, with --queue also the queues. Lists the places that it
    can't search.
    """
    out, target = context.out, context.target
    if queue and target.switch.is_on() is not False and (waiting := waiting_counts(target)["waiting"]):
        question = f"Sending is on, and reading delays about {waiting} messages, at most by five minutes. Read them?"
        context.confirm(question, yes=yes)
    search = find(target, Sought.of(what), queue=queue)
    found = [
        {**asdict(each), "destination": number_in_list(each.destination, show=show_numbers)}
        for each in sorted(search.found, key=lambda each: each.since)
    ]
    out.document({"found": found, "looked": search.looked, "not_looked": search.not_looked})
    if found:
        columns = ("where", "since", "message_id", "destination", "state")
        out.table(columns, [[each[name] or "-" for name in columns] for each in found])
    for line in search.looked:
        out.line(f"looked at   {line}", "dim")
    for line in search.not_looked:
        out.line(f"not at      {line}", "unsure")
    if not found:
        raise CliError("Nothing was found there.", code=Exit.NOT_FOUND)
    out.note("`explain MESSAGE_ID` shows what happened; `dead-letters --body MESSAGE_ID` shows a dead letter whole.")
