"""The dead-letter queue: read it without losing anything."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import unquote

from cli.long_reads import shown
from cli.queueing import BATCH, in_batches
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.flows.send_message import QueueRecord
from optus_sms.model.errors import InvalidMessageError
from optus_sms.model.lanes import Lane
from optus_sms.model.queue_body import read_object
from optus_sms.model.queue_message import OutboundMessage, is_message_id
from optus_sms.model.redaction import without_numbers, without_text
from optus_sms.model.times import format_rfc3339

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_SAME_DIGITS: Final = 9
_HOLD_SECONDS: Final = 300  # while a dead letter is read, others can't see it; reading thousands takes far less
_MOVED_BY_SQS: Final = "SQS moved it, because the sender function ended no receive of it; its log has the errors"
_ESCAPE: Final = re.compile(r"\\+u([0-9A-Fa-f]{4})")
_WAIT_SECONDS: Final = 1  # of a receive, unless the caller sets another time


@dataclass(frozen=True, slots=True)
class ReceivedDeadLetter:
    """A dead letter as it was received. ``problem``: why it is not a message, or empty; ``since``: RFC 3339.

    ``reason``: `receives_exhausted` if SQS itself moved it, because SQS gives no reason. ``queued_at``: RFC 3339, when
    it was queued first. ``encoding``: of a body that SQS could not hold unchanged. ``route`` and ``charset``: of a
    callback. ``group``: its MessageGroupId. ``lane``: of a message.
    """

    sqs_id: str
    body: str = field(repr=False)
    reason: str
    detail: str
    since: str
    message_id: str
    message: OutboundMessage | None = field(repr=False)
    problem: str = ""
    evidence: str = ""
    queued_at: str = ""
    encoding: str = ""
    route: str = ""
    charset: str = ""
    group: str = ""
    lane: Lane = Lane.ORDINARY

    @property
    def body_sha256(self) -> str:
        """The SHA-256 of the unchanged body."""
        return hashlib.sha256(self.body.encode("utf-8", "surrogatepass")).hexdigest()

    def is_named(self, *ids: str) -> bool:
        """Return whether its message_id or SQS ID is in ``ids``."""
        return self.message_id in ids or self.sqs_id in ids

    @property
    def destination(self) -> str | None:
        """The number, if the dead letter is a message."""
        return self.message.destination if self.message else None

    def detail_for_lists(self, *, show_numbers: bool = False) -> str:
        """Return the detail without the text that it may quote, and without numbers unless ``show_numbers``."""
        detail = without_text(self.detail, self._content)
        return detail if show_numbers else without_numbers(detail)

    @property
    def _content(self) -> str:
        """The text of a valid or invalid message; empty if there is none."""
        with contextlib.suppress(InvalidMessageError):
            content = self.message.content if self.message else read_object(self.body).get("content")
            return content if isinstance(content, str) else ""
        return ""


def readings(body: str) -> list[str]:
    """Return a body that is not a message in several readings: without escapes of JSON or URLs, decoded from base64."""
    texts = [body]
    with contextlib.suppress(ValueError):
        texts.append(base64.b64decode(body, validate=True).decode("utf-8", "replace"))
    return [unquote(_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)) for text in texts]


def last_digits(number: str) -> str:
    """Return the last digits of an E.164 number, equal in every way to write it; of a short number all digits."""
    return number[1:][-_SAME_DIGITS:]


def read_dead_letter(
    raw: Mapping[str, Any], *, now: float, separate_senders: bool = False, urgent_queue: str = ""
) -> ReceivedDeadLetter:
    """Return the dead letter in a message that ReceiveMessage returned. ``urgent_queue``: the name of that queue."""
    given = raw.get("MessageAttributes", {})
    attributes = {name: str(value.get("StringValue", "")) for name, value in given.items()}
    reason, message_id = attributes.get("reason", ""), attributes.get("message_id", "")
    is_ours = reason in set(DeadLetterReason)  # if SQS moved the message, the attributes are its sender's
    if not is_message_id(message_id):
        message_id = raw["MessageId"]  # a refused message_id can be a phone number or a text
    system = raw.get("Attributes", {})
    sent = int(system.get("SentTimestamp", 0)) / 1000  # SQS keeps it when it moves a message here
    texts = {name: value.get("StringValue") for name, value in given.items()}
    record = QueueRecord(
        raw["MessageId"], "", raw["Body"], texts, receive_count=1, sent_at=sent, sender_id=system.get("SenderId", "")
    )
    message, problem = None, ""
    if "body_encoding" in attributes:
        problem = "its body could not be kept as it was"
    elif reason != DeadLetterReason.UNREADABLE_CALLBACK:
        try:
            message, message_id = record.read(now=now, separate_senders=separate_senders)
        except InvalidMessageError as error:
            message, problem = None, without_numbers(error.detail)  # the detail can quote a field's name
    return ReceivedDeadLetter(
        sqs_id=raw["MessageId"],
        body=raw["Body"],
        reason=reason if is_ours else DeadLetterReason.RECEIVES_EXHAUSTED,
        detail=attributes.get("detail", "").strip() if is_ours else _MOVED_BY_SQS,
        since=(is_ours and attributes.get("time")) or format_rfc3339(sent),
        message_id=message_id,
        message=message,
        problem=problem,
        evidence=attributes.get("evidence", "") if is_ours else "",
        queued_at=format_rfc3339(record.queued_at or sent),
        encoding=attributes.get("body_encoding", ""),
        route=attributes.get("route", ""),
        charset=attributes.get("charset", ""),
        group=system.get("MessageGroupId", ""),
        lane=_lane(attributes.get("lane") if is_ours else None, system, urgent_queue),
    )


def _lane(named: str | None, system: Mapping[str, str], urgent_queue: str) -> Lane:
    """Return a dead letter's lane: as the sender function recorded it, else by the queue from which SQS moved it."""
    source = system.get("DeadLetterQueueSourceArn", "").rpartition(":")[2]
    return Lane.URGENT if named == Lane.URGENT or (urgent_queue and source == urgent_queue) else Lane.ORDINARY


@dataclass
class DeadLetterQueue:
    """The queue, as a context manager: at its end every dead letter that was not deleted is visible again.

    ``what``: the name of its messages for the progress; empty: no progress. The class can read other queues too.
    """

    sqs: SQSClient
    url: str
    wait_seconds: int | None = None
    what: str = "dead letters"
    separate_senders: bool = False
    urgent_queue: str = ""
    held: dict[str, str] = field(default_factory=dict)
    lost: int = 0
    """The most dead letters that can be in lost responses; they stay hidden for some minutes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def dead_letters(self) -> Iterator[ReceivedDeadLetter]:
        """Yield each dead letter that no other reader holds, once."""
        return shown(self._dead_letters(), self.what) if self.what else self._dead_letters()

    def _dead_letters(self) -> Iterator[ReceivedDeadLetter]:
        seen: set[str] = set()
        again = 0
        # A receive that waits asks all of SQS's servers, so an empty one is the end. A message that comes a second time
        # was held too long; that is the end only if the whole batch came before.
        while (received := self._receive()) and again <= len(seen):
            for message in received:
                if message["MessageId"] in seen:
                    again += 1
                    continue
                again = 0
                seen.add(message["MessageId"])
                yield read_dead_letter(
                    message,
                    now=time.time(),
                    separate_senders=self.separate_senders,
                    urgent_queue=self.urgent_queue,
                )

    def hold(self, is_wanted: Callable[[ReceivedDeadLetter], bool]) -> list[ReceivedDeadLetter]:
        """Return the wanted dead letters and make the others visible again."""
        wanted = [each for each in self.dead_letters() if is_wanted(each)]
        self.release(keep={each.sqs_id for each in wanted})
        return wanted

    def delete(self, dead_letter: ReceivedDeadLetter) -> None:
        """Delete a dead letter for good."""
        self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=self.held[dead_letter.sqs_id])
        del self.held[dead_letter.sqs_id]

    def release(self, *, keep: Collection[str] = ()) -> None:
        """Make each dead letter that is still held visible, except those with SQS IDs in ``keep``.

        Without this, SQS does so within minutes.
        """
        handles = [self.held.pop(sqs_id) for sqs_id in list(self.held) if sqs_id not in keep]
        for batch in in_batches(handles):
            entries: Any = [
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for number, handle in enumerate(batch)
            ]
            self.sqs.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)

    def hidden(self) -> int:
        """Return about how many dead letters other readers hold; call it before reading.

        SQS's counts lag by up to a minute, so after a release they would still include what was held here.
        """
        name = "ApproximateNumberOfMessagesNotVisible"
        response = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])  # type: ignore[list-item]
        return int(response["Attributes"][name])  # type: ignore[index]

    def _receive(self) -> list[Any]:
        response = self.sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=BATCH,
            VisibilityTimeout=_HOLD_SECONDS,
            WaitTimeSeconds=_WAIT_SECONDS if self.wait_seconds is None else self.wait_seconds,
            MessageSystemAttributeNames=["SentTimestamp", "SenderId", "MessageGroupId", "DeadLetterQueueSourceArn"],
            MessageAttributeNames=["All"],
        )
        self.lost += response.get("ResponseMetadata", {}).get("RetryAttempts", 0) * BATCH
        messages: list[Any] = list(response.get("Messages", []))
        self.held |= {message["MessageId"]: message["ReceiptHandle"] for message in messages}
        return messages


def put_back(sqs: SQSClient, queue_url: str, dead_letter: ReceivedDeadLetter) -> None:
    """Queue a copy of a dead letter. Attributes keep its message_id and first time, because SQS gives it new ones."""
    stamps = {"message_id": dead_letter.message_id, "queued_at": dead_letter.queued_at}
    group: Any = {"MessageGroupId": dead_letter.group} if dead_letter.group else {}
    sqs.send_message(
        QueueUrl=queue_url,
        MessageBody=dead_letter.body,
        MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in stamps.items()},
        **group,
    )
