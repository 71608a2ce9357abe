"""Pause and resume sending: the event source mapping between queue and sender."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cli.errors import CliError, Exit
from optus_sms.aws.queue_switch import QueueSwitch

if TYPE_CHECKING:
    from cli.target import Target

_MAPPING: Final = "SendMessageFunctionOutboundMessages"  # SAM's name for the event of that function


def pause_sending(target: Target) -> None:
    """Disable the event source mapping, as an operator's pause, which the health check never ends."""
    _switch(target).pause()
    target.health.hand_pause_to_operator()


def resume_sending(target: Target) -> None:
    """Enable the event source mapping; the health check notices that an operator did."""
    _switch(target).resume()


def sending_state(target: Target) -> str:
    """Return on, paused or changing."""
    is_on = _switch(target).is_on()
    return "changing" if is_on is None else "on" if is_on else "paused"


def _switch(target: Target) -> QueueSwitch:
    mapping = target.settings.get("SENDER_MAPPING_ID") if target.local else target.physical_id(_MAPPING)
    if not mapping:
        raise CliError(
            "This stack has no event source mapping between the queue and the sender function.",
            "Deploy the current version.",
            Exit.NO_TARGET,
        )
    return QueueSwitch(target.lambda_, mapping)
