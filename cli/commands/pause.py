"""`pause`, `resume`: stop sending, and send again."""

import time
from typing import Final

import click

from cli.context import CommandContext, with_context
from cli.health import sending_of
from cli.sending import is_paused_by_health_check, pause_in_words, trouble_in_words

_WHAT_HAPPENS: Final = (
    "If you resume now, one message goes first, as a probe. Messages that fail return to the queue for a growing time; "
    "one whose response is lost gets an unknown outcome."
)
_DECIDES: Final = "If messages fail and none is accepted, the health check pauses sending again within minutes."
_DOES_NOT_PAUSE: Final = "The health check does not pause sending again: PauseOnOutage is false."


@click.command()
@with_context
def pause(context: CommandContext) -> None:
    """Pause sending. Messages wait in the queue and use up no attempts. Only `resume` ends the pause."""
    was_automatic = is_paused_by_health_check(context.target.health.read())
    context.target.pause_sending()
    context.out.document({"paused": True})
    context.out.line("Paused: messages wait in the queue (up to 10 days). Messages in flight are finished.", "unsure")
    if was_automatic:
        context.out.line("The health check had paused already. This pause is yours now: it does not end by itself.")
    context.out.line("`resume` sends them.")


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
def resume(context: CommandContext, *, yes: bool) -> None:
    """Resume sending. Asks first if the gateway is unhealthy or refuses the credentials.

    You need not end a pause by the health check; it ends automatically.

    Afterwards the health check decides: it pauses again if messages fail and none is accepted.
    """
    record = context.target.health.read()
    is_on = sending_of(context.target, record)["sending"] == "on"
    if is_on and record.pause is None:
        # Recorded, it would count as a resume: the health check would wait longer before it pauses in an outage.
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
        context.confirm(f"Resume sending on {context.target.name} all the same?", yes=yes)
    context.target.resume_sending()
    context.out.document({"paused": False})
    context.out.line("Resumed.", "good")
    if trouble:
        context.out.line(decides)
