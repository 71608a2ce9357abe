"""The gateway's health as the stack sees it, with sending and the queues at a glance."""

from typing import Any, Final

from cli.target import Target

_COUNTS: Final = {
    "waiting": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}


def health_of(target: Target) -> dict[str, Any]:
    """Return the whole report. ``sending``: on, paused or changing; ``paused_by``: an operator, or the health check."""
    record = target.health.read()
    is_on = target.switch.is_on()
    by = "an operator"
    if record.pause and record.pause.reason:
        by = f"the health check ({record.pause.reason.value}) at {record.pause.at}"
    elif record.pause:
        by = f"an operator at {record.pause.at}"
    return {
        "state": record.state.value,
        "reason": record.reason,
        "since": record.since,
        "checked_at": record.checked_at,
        "credentials": record.credentials,
        "sending": "changing" if is_on is None else "on" if is_on else "paused",
        "paused_by": by if is_on is False else "",
        **queue_counts(target, "OutboundQueueUrl"),
        "dead_letters": queue_counts(target, "DeadLetterQueueUrl")["waiting"],
    }


def queue_counts(target: Target, output: str) -> dict[str, int]:
    """Return how many messages of a queue are waiting, in flight and delayed: approximately, as SQS counts."""
    names: Any = list(_COUNTS.values())
    response: Any = target.sqs.get_queue_attributes(QueueUrl=target.outputs[output], AttributeNames=names)
    return {name: int(response["Attributes"].get(attribute, 0)) for name, attribute in _COUNTS.items()}
