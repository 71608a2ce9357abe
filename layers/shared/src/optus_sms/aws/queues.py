"""The queues: returns messages for a later attempt, and keeps dead letters for an operator."""

from __future__ import annotations

import base64
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from optus_sms.model.lanes import Lane
from optus_sms.model.times import format_rfc3339

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

# SQS refuses a timeout that ends more than 12 hours after the receive. The function has had the message for at most the
# queue's visibility timeout by then.
MAX_VISIBILITY_SECONDS: Final = 43_200 - 360
_MAX_ATTRIBUTE: Final = 1000
# Characters that an SQS body and attribute can't hold: all but "#x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD |
# #x10000 to #x10FFFF" (SendMessage). The pattern lists the forbidden ones, because one of the allowed ones takes ten
# times as long to compile.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class DeadLetterReason(StrEnum):
    """Why a dead letter needs an operator; public names."""

    INVALID = "invalid"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    UNKNOWN_OUTCOME = "unknown_outcome"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    RECEIVES_EXHAUSTED = "receives_exhausted"  # moved by SQS itself, without attributes: readers use this reason
    UNREADABLE_CALLBACK = "unreadable_callback"
    UNPUBLISHED_EVENT = "unpublished_event"  # in UnpublishedEventsQueue


class DeadLetter(NamedTuple):
    """A message or callback that needs an operator. ``message_id``: `-` if there is none.

    ``evidence``: of the gateway's response to the last attempt, for the gateway's support; can be empty.
    ``queued_at``: epoch seconds, when a message was queued first. ``route`` and ``charset``: the end of a callback's
    URL and the charset of its Content-Type, with which an operator can post it again. ``lane``: of a message; empty for
    a callback.
    """

    body: str | bytes
    reason: DeadLetterReason
    detail: str
    message_id: str
    evidence: str = ""
    queued_at: float | None = None
    route: str = ""
    charset: str = ""
    lane: str = ""


class Queues:
    """The queues of a function. ``outbound_queue_url``, ``urgent_queue_url``: empty for all but the sender function."""

    def __init__(
        self,
        client: SQSClient,
        *,
        dead_letter_queue_url: str,
        outbound_queue_url: str = "",
        urgent_queue_url: str = "",
    ) -> None:
        self._client = client
        self._dead_letter_queue_url = dead_letter_queue_url
        self._url_of = {Lane.ORDINARY: outbound_queue_url, Lane.URGENT: urgent_queue_url}

    def lane_of(self, queue_arn: object) -> Lane:
        """Return the lane of a record by its `eventSourceARN`, which ends with the queue's name as the URL does."""
        name = str(queue_arn).rpartition(":")[2]
        return Lane.URGENT if name == self._url_of[Lane.URGENT].rpartition("/")[2] else Lane.ORDINARY

    def give_back(self, receipt_handle: str, *, seconds: int, lane: Lane) -> None:
        """Return a message to its queue, which delivers it again after ``seconds``."""
        self._client.change_message_visibility(
            QueueUrl=self._url_of[lane],
            ReceiptHandle=receipt_handle,
            VisibilityTimeout=min(max(seconds, 0), MAX_VISIBILITY_SECONDS),
        )

    def dead_letter(self, dead_letter: DeadLetter, *, now: float) -> None:
        """Put a copy on the dead-letter queue: the body unchanged, the reason in the message attributes.

        A body that SQS can't hold is encoded as base64, with the attribute `body_encoding`.
        """
        body, encoding = _storable(dead_letter.body)
        attributes = {
            "reason": dead_letter.reason.value,
            "detail": dead_letter.detail,
            "message_id": dead_letter.message_id,
            "time": format_rfc3339(now),
        }
        for name in ("evidence", "route", "charset", "lane"):
            if value := getattr(dead_letter, name):
                attributes[name] = value
        if dead_letter.queued_at is not None:
            attributes["queued_at"] = format_rfc3339(dead_letter.queued_at)
        if encoding:
            attributes["body_encoding"] = encoding
        self._client.send_message(
            QueueUrl=self._dead_letter_queue_url,
            MessageBody=body,
            MessageAttributes={name: _string(value) for name, value in attributes.items()},
        )


def _storable(body: str | bytes) -> tuple[str, str | None]:
    """Return a body that SQS accepts, and its encoding if it had to be encoded."""
    try:
        text = body.decode() if isinstance(body, bytes) else body
    except UnicodeDecodeError:
        text = None
    if text and not _FORBIDDEN.search(text):
        return text, None
    if not body:
        return "-", "empty"
    raw = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    return base64.b64encode(raw).decode(), "base64"


def _string(value: str) -> MessageAttributeValueTypeDef:
    """Return an attribute that SQS accepts: not empty, and without forbidden characters."""
    return {"DataType": "String", "StringValue": _FORBIDDEN.sub("?", value)[:_MAX_ATTRIBUTE] or "-"}
