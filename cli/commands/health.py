"""`health`: the gateway's health as the stack has recorded it, and whether sending is on."""

import click

from cli.context import CommandContext, with_context
from cli.health import health_of
from cli.output import Tone
from cli.target import QUEUE_NAMES
from optus_sms.model.lanes import Lane


@click.command()
@with_context
def health(context: CommandContext) -> None:
    """Show the gateway's health. Also shows whether sending is on and how many messages wait. Tries the credentials."""
    out, found = context.out, health_of(context.target)
    out.document(found)
    tones: dict[str, Tone] = {"healthy": "good", "unhealthy": "bad"}
    since = f" since {found['since']}" if found["since"] else ""
    out.line(f"gateway      {found['state']}{since}: {found['reason']}", tones.get(found["state"], "unsure"))
    out.line(f"checked at   {found['checked_at'] or 'never'}")
    credentials = found["credentials"]
    out.line(f"credentials  {credentials}", "bad" if credentials == "refused" else "plain")
    for trial in found["credentials_tried"]:
        out.line(f"             {trial['text']}")
    out.line(f"sending      {found['pause'] or found['sending']}", "unsure" if found["pause"] else "good")
    for lane, counts in ((Lane.ORDINARY, found), (Lane.URGENT, found["urgent"])):
        name = QUEUE_NAMES[lane]
        out.line(
            f"{name:<12} {counts['waiting']} waiting, {counts['in_flight']} in flight, {counts['delayed']} delayed"
        )
    out.line(f"dead letters {found['dead_letters']}", "bad" if found["dead_letters"] else "plain")
