"""The gateway's health as the stack has recorded it, with the state of sending and the queues."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final, TypedDict

from cli.credentials_trial import trial_of_stack, try_from_here, verdict
from cli.sending import pause_in_words
from cli.target import QUEUES, Target
from optus_sms.model.lanes import Lane
from optus_sms.records.items import HealthRecord

_TRIAL_SECONDS: Final = 5.0
_COUNTS: Final = {
    "waiting": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}


class Sending(TypedDict):
    """The state of sending: `on`, `paused` or `changing`. ``pause``: in words what ends the pause; empty without one.

    Sending is on if one lane is.
    """

    sending: str
    paused_lanes: list[Lane]
    paused_by: str
    pause: str


def health_of(target: Target) -> dict[str, Any]:
    """Return the whole report. ``credentials``: the result of the trials in ``credentials_tried``, or `untried`."""
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
        **queue_counts(target, QUEUES[Lane.ORDINARY]),
        "urgent": queue_counts(target, QUEUES[Lane.URGENT]),
        "dead_letters": queue_counts(target, "DeadLetterQueueUrl")["waiting"],
    }


def sending_of(target: Target, record: HealthRecord) -> Sending:
    """Return whether sending is on. Sending that is on for one probe during a pause counts as paused."""
    lanes = target.switch.lanes()
    if None in lanes.values():
        return _sending("changing", pause="an event source mapping is changing")
    if record.pause and record.pause.probing:
        lanes = dict.fromkeys(lanes, False)
    paused = [lane for lane, is_on in lanes.items() if not is_on]
    if not paused:
        return _sending("on")
    if len(paused) < len(lanes):
        return _sending("on", paused, "operator", f"on, but {paused[0]} messages are paused; only `resume` ends it")
    by = record.pause.by.value if record.pause else "operator"
    return _sending("paused", paused, by, pause_in_words(record, now=time.time()))


def _sending(sending: str, lanes: Sequence[Lane] = (), by: str = "", pause: str = "") -> Sending:
    return {"sending": sending, "paused_lanes": list(lanes), "paused_by": by, "pause": pause}


def waiting_counts(target: Target) -> dict[str, int]:
    """Return the counts of both lanes' queues together."""
    counts = [queue_counts(target, output) for output in QUEUES.values()]
    return {name: sum(each[name] for each in counts) for name in _COUNTS}


def queue_counts(target: Target, output: str) -> dict[str, int]:
    """Return about how many messages of a queue are waiting, in flight and delayed (SQS counts approximately)."""
    names: Any = list(_COUNTS.values())
    response: Any = target.sqs.get_queue_attributes(QueueUrl=target.outputs[output], AttributeNames=names)
    return {name: int(response["Attributes"].get(attribute, 0)) for name, attribute in _COUNTS.items()}
