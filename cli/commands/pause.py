"""`pause`, `resume`: stop sending, and send again."""

import time
from typing import Final

import click

from cli.context import CommandContext, with_context
from cli.health import sending_of
from cli.sending import is_paused_by_health_check, pause_in_words, trouble_in_words
from optus_sms.model.lanes import Lane

_WHAT_HAPPENS: Final = (
    "If you resume now, one message goes first, as a probe. Messages that fail return to the queue with a growing "
    "delay; one whose response is lost gets an unknown outcome."
)
_DECIDES: Final = "If messages fail and none is accepted, the health check pauses sending again within minutes."
_DOES_NOT_PAUSE: Final = "The health check does not pause sending again: PauseOnOutage is false."


_LANE: Final = click.option(
    "--lane", type=click.Choice([lane.value for lane in Lane]), help="Only this lane. [default: both]"
)


@click.command()
@_LANE
@with_context
def pause(context: CommandContext, *, lane: str | None) -> None:
    """Pause sending. Messages wait in the queue and use up no attempts. Only `resume` ends the pause."""
    if lane is not None:
        context.target.pause_sending(Lane(lane))
        context.out.document({"paused": True, "lane": lane})
        context.out.line(f"Paused: {lane} messages wait in their queue (up to 10 days).", "unsure")
        context.out.line(f"`resume --lane {lane}` sends them.")
        return
    was_automatic = is_paused_by_health_check(context.target.health.read())
    context.target.pause_sending()
    context.out.document({"paused": True})
    context.out.line("Paused: messages wait in the queue (up to 10 days). Messages in flight are finished.", "unsure")
    if was_automatic:
        context.out.line("The health check had paused already. This pause is yours now: it does not end automatically.")
    context.out.line("`resume` sends them.")


@click.command()
@_LANE
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
def resume(context: CommandContext, *, lane: str | None, yes: bool) -> None:
    """Resume sending. Asks first if the gateway is unhealthy or refuses the credentials.

    The health check ends its own pauses automatically, so they need no resume.

    Afterwards the health check decides: it pauses again if messages fail and none is accepted.
    """
    record = context.target.health.read()
    was = sending_of(context.target, record)
    is_on = was["sending"] == "on"
    paused = {*was["paused_lanes"], *(each for each in Lane if each not in record.free)}
    if is_on and record.pause is None and not paused & ({lane} if lane else set(Lane)):
        # If it were recorded, the health check would take it for a resume, and would pause later in an outage.
        context.out.document({"paused": False})
        context.out.line("Sending is on. Nothing was changed.", "good")
        if trouble := trouble_in_words(record):
            context.out.note(trouble, "unsure")
        return
    trouble = "" if is_on else trouble_in_words(record)
    decides = _DOES_NOT_PAUSE if context.target.settings.get("PauseOnOutage") == "false" else _DECIDES
    if trouble:
        is_now = f"Sending is {pause_in_words(record, now=time.time())}."
        for line in (trouble, is_now, _WHAT_HAPPENS, decides):
            context.out.note(line, "unsure")
        context.confirm(f"Resume sending on {context.target.name} anyway?", yes=yes)
    context.target.resume_sending(Lane(lane) if lane else None)
    context.out.document({"paused": False, **({"lane": lane} if lane else {})})
    context.out.line("Resumed.", "good")
    if lane and was["paused_lanes"] not in ([], [lane]):
        context.out.line("The other lane stays paused until you resume it too.", "unsure")
    if trouble:
        context.out.line(decides)
