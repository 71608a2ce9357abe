"""The gateway's health as the stack sees it, with sending and the queues at a glance."""

import time
from dataclasses import asdict
from typing import Any, Final

from cli.credentials_trial import trial_of_stack, try_from_here, verdict
from cli.sending import pause_in_words
from cli.target import Target
from optus_sms.records.items import HealthRecord

_TRIAL_SECONDS: Final = 5.0
_COUNTS: Final = {
    "waiting": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}


def health_of(target: Target) -> dict[str, Any]:
    """Return the whole report. ``credentials``: by the trials in ``credentials_tried``, or `untried`."""
    record = target.health.read()
    here, stack = try_from_here(target, seconds=_TRIAL_SECONDS), trial_of_stack(record)
    return {
        "state": record.state.value,
        "reason": record.reason,
        "since": record.since,
        "checked_at": record.checked_at,
        "credentials": verdict(here, stack),
        "credentials_tried": [{**asdict(trial), "text": str(trial)} for trial in (here, stack)],
        **sending_of(target, record),
        **queue_counts(target, "OutboundQueueUrl"),
        "dead_letters": queue_counts(target, "DeadLetterQueueUrl")["waiting"],
    }


def sending_of(target: Target, record: HealthRecord) -> dict[str, str]:
    """Return whether sending is on, paused or changing; who paused it, and in words what ends that; empty if it is on.

    On for one probe, in a pause, is paused.
    """
    is_on = target.switch.is_on()
    if is_on is None:
        return {"sending": "changing", "paused_by": "", "pause": "its event source mapping is changing"}
    if is_on and not (record.pause and record.pause.probing):
        return {"sending": "on", "paused_by": "", "pause": ""}
    by = record.pause.by.value if record.pause else "operator"
    return {"sending": "paused", "paused_by": by, "pause": pause_in_words(record, now=time.time())}


def queue_counts(target: Target, output: str) -> dict[str, int]:
    """Return how many messages of a queue are waiting, in flight and delayed: approximately, as SQS counts."""
    names: Any = list(_COUNTS.values())
    response: Any = target.sqs.get_queue_attributes(QueueUrl=target.outputs[output], AttributeNames=names)
    return {name: int(response["Attributes"].get(attribute, 0)) for name, attribute in _COUNTS.items()}
