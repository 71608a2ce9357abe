"""The gateway's health as the stack sees it, with sending and the queues at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cli.sending_switch import sending_state

if TYPE_CHECKING:
    from cli.target import Target


_WAITING: Final = {
    "waiting": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}


@dataclass(frozen=True, slots=True)
class HealthReport:
    """``sending``: on, paused or changing; ``paused_by``: an operator, or the health check with its reason."""

    state: str
    reason: str
    since: str
    checked_at: str
    credentials: str
    sending: str
    paused_by: str
    waiting: int
    in_flight: int
    delayed: int
    dead_letters: int


def health_of(target: Target) -> HealthReport:
    """Return the whole report."""
    record = target.health.read()
    sending = sending_state(target)
    by = f"the health check ({record.pause.reason.value}) at {record.pause.at}" if record.pause else "an operator"
    return HealthReport(
        state=record.state.value,
        reason=record.reason,
        since=record.since,
        checked_at=record.checked_at,
        credentials=record.credentials,
        sending=sending,
        paused_by=by if sending == "paused" else "",
        dead_letters=queue_counts(target, target.outputs["DeadLetterQueueUrl"])["waiting"],
        **queue_counts(target, target.outputs["OutboundQueueUrl"]),
    )


def queue_counts(target: Target, url: str) -> dict[str, int]:
    """Return how many messages of a queue are waiting, in flight and delayed: approximately, as SQS counts."""
    response: Any = target.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_WAITING.values()))  # type: ignore[arg-type]
    return {name: int(response["Attributes"].get(attribute, 0)) for name, attribute in _WAITING.items()}
