"""The dead-letter queue: read it without losing anything."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from optus_sms.aws.queues import DeadLetterReason
from optus_sms.model.errors import InvalidMessageError
from optus_sms.model.queue_message import KEY_PATTERN, OutboundMessage, choose_key, parse_message
from optus_sms.model.redaction import without_numbers, without_text
from optus_sms.model.times import format_rfc3339

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_HOLD_SECONDS: Final = 300  # others don't see a letter while we look at it; far longer than reading thousands takes
_WAIT_SECONDS: Final = 1
_BATCH: Final = 10


@dataclass(frozen=True, slots=True)
class ReceivedDeadLetter:
    """One message of the dead-letter queue. ``reason`` is empty if SQS itself moved it there.

    ``key``: what it is sent once under; ``problem``: why it is no message, or empty; ``since``: RFC 3339.
    """

    sqs_id: str
    body: str = field(repr=False)
    reason: str
    detail: str
    since: str
    key: str
    message: OutboundMessage | None = field(repr=False)
    problem: str = ""

    @property
    def body_sha256(self) -> str:
        """Of the body as it is."""
        return hashlib.sha256(self.body.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def destination(self) -> str | None:
        """The handset, if it is a message."""
        return self.message.destination if self.message else None

    def detail_for_lists(self, *, show_numbers: bool = False) -> str:
        """The detail without what the gateway may have quoted in it: the text, and unless asked for, numbers."""
        detail = without_text(self.detail, self.message.content) if self.message else self.detail
        return detail if show_numbers else without_numbers(detail)


def read_letter(raw: Mapping[str, Any], *, now: float) -> ReceivedDeadLetter:
    """From what ReceiveMessage gives."""
    given = raw.get("MessageAttributes", {})
    attributes = {name: str(value.get("StringValue", "")) for name, value in given.items()}
    reason, key = attributes.get("reason", ""), attributes.get("message_id", "")
    if not re.fullmatch(KEY_PATTERN, key):
        key = raw["MessageId"]  # what was refused as a message_id may be a number or a text
    message, problem = None, ""
    if "body_encoding" in attributes:
        problem = "its body could not be kept as it was"
    elif reason != DeadLetterReason.UNREADABLE_CALLBACK:
        try:
            message = parse_message(raw["Body"], now=now)
            key = choose_key(
                message,
                attribute=attributes.get("message_id") or None,
                sqs_message_id=raw["MessageId"],  # SQS keeps it when it moves a message here
                required=False,
            )
        except InvalidMessageError as error:
            message, problem = None, without_numbers(error.detail)  # it may quote the name of a field
    sent = int(raw.get("Attributes", {}).get("SentTimestamp", 0)) / 1000
    return ReceivedDeadLetter(
        sqs_id=raw["MessageId"],
        body=raw["Body"],
        reason=reason,
        detail=attributes.get("detail", "").strip(),
        since=attributes.get("time") or format_rfc3339(sent),
        key=key,
        message=message,
        problem=problem,
    )


@dataclass
class DeadLetterQueue:
    """The queue, as a context manager: what was received and not deleted is visible again at its end."""

    sqs: SQSClient
    url: str
    held: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def letters(self) -> Iterator[ReceivedDeadLetter]:
        """Every letter that nobody else holds just now, once each."""
        seen: set[str] = set()
        again = 0
        # A receive that waits asks all of SQS's servers, so an empty one is the end. What comes again was held too long
        # and is no end, unless it all came again.
        while (received := self._receive()) and again <= len(seen):
            for message in received:
                if message["MessageId"] in seen:
                    again += 1
                    continue
                again = 0
                seen.add(message["MessageId"])
                yield read_letter(message, now=time.time())

    def delete(self, letter: ReceivedDeadLetter) -> None:
        """Take a letter out for good."""
        self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=self.held[letter.sqs_id])
        del self.held[letter.sqs_id]

    def release(self) -> None:
        """Let others see again what is still held. What can't be released appears by itself within minutes."""
        handles = list(self.held.values())
        self.held.clear()
        for start in range(0, len(handles), _BATCH):
            self.sqs.change_message_visibility_batch(
                QueueUrl=self.url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                    for number, handle in enumerate(handles[start : start + _BATCH])
                ],
            )

    def hidden(self) -> int:
        """About how many letters somebody else looks at just now; call it when none is held here."""
        name = "ApproximateNumberOfMessagesNotVisible"
        answer = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])  # type: ignore[list-item]
        return int(answer["Attributes"][name])  # type: ignore[index]

    def _receive(self) -> list[Any]:
        answer = self.sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=_BATCH,
            VisibilityTimeout=_HOLD_SECONDS,
            WaitTimeSeconds=_WAIT_SECONDS,
            AttributeNames=["SentTimestamp"],
            MessageAttributeNames=["All"],
        )
        messages: list[Any] = list(answer.get("Messages", []))
        self.held |= {message["MessageId"]: message["ReceiptHandle"] for message in messages}
        return messages


def put_back(sqs: SQSClient, outbound_queue_url: str, letter: ReceivedDeadLetter) -> None:
    """Queue a copy of a letter with its key stamped on it, because SQS gives the copy a new id."""
    sqs.send_message(
        QueueUrl=outbound_queue_url,
        MessageBody=letter.body,
        MessageAttributes={"message_id": {"DataType": "String", "StringValue": letter.key}},
    )
