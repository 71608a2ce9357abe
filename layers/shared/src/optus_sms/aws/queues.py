"""The queues: give a message back for later, and keep what needs a person."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from optus_sms.model.times import format_rfc3339

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

# SQS refuses what ends more than 12 hours after the receive; by then the message was ours for the queue's visibility
# timeout at most.
MAX_VISIBILITY_SECONDS: Final = 43_200 - 360
_MAX_ATTRIBUTE: Final = 1000
# What an SQS body and attribute may not hold: all but "#x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to
# #x10FFFF" (SendMessage). The few that are forbidden: a set of nearly all others takes ten times as long to compile.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class DeadLetterReason(StrEnum):
    """Why a person is needed (design: public names)."""

    INVALID = "invalid"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    UNKNOWN_OUTCOME = "unknown_outcome"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    UNREADABLE_CALLBACK = "unreadable_callback"
    UNPUBLISHED_EVENT = "unpublished_event"  # in UnpublishedEventsQueue


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message or callback that needs a person. ``message_id`` is the key it was handled under."""

    body: str | bytes
    reason: DeadLetterReason
    detail: str
    message_id: str


class Queues:
    """The two queues of a function. Only the sender has an outbound queue: ``outbound_queue_url`` may be empty."""

    def __init__(self, client: SQSClient, *, dead_letter_queue_url: str, outbound_queue_url: str = "") -> None:
        self._client = client
        self._dead_letter_queue_url = dead_letter_queue_url
        self._outbound_queue_url = outbound_queue_url

    def give_back(self, receipt_handle: str, *, seconds: int) -> None:
        """Show the message again in that many seconds."""
        self._client.change_message_visibility(
            QueueUrl=self._outbound_queue_url,
            ReceiptHandle=receipt_handle,
            VisibilityTimeout=min(max(seconds, 0), MAX_VISIBILITY_SECONDS),
        )

    def dead_letter(self, letter: DeadLetter, *, now: float) -> None:
        """Put a copy on the dead-letter queue, its body unchanged, the reason in its attributes.

        A body that SQS can't hold is kept as base64, and its attributes say so.
        """
        body, encoding = _storable(letter.body)
        attributes = {
            "reason": letter.reason.value,
            "detail": letter.detail,
            "message_id": letter.message_id,
            "time": format_rfc3339(now),
        }
        if encoding:
            attributes["body_encoding"] = encoding
        self._client.send_message(
            QueueUrl=self._dead_letter_queue_url,
            MessageBody=body,
            MessageAttributes={name: _string(value) for name, value in attributes.items()},
        )


def _storable(body: str | bytes) -> tuple[str, str | None]:
    """A body that SQS accepts, and how it had to be encoded."""
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
    """An attribute that SQS accepts: neither empty nor with characters that it can't hold."""
    return {"DataType": "String", "StringValue": _FORBIDDEN.sub("?", value)[:_MAX_ATTRIBUTE] or "-"}
