"""How many messages a queue holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cli.target import Target

_WAITING: Final = {
    "waiting": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}


def queue_counts(target: Target, url: str) -> dict[str, int]:
    """Return how many messages of a queue are waiting, in flight and delayed: approximately, as SQS counts."""
    response: Any = target.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_WAITING.values()))  # type: ignore[arg-type]
    return {name: int(response["Attributes"].get(attribute, 0)) for name, attribute in _WAITING.items()}
