"""Publish the changes in the tables' streams as events on `SmsEventBus`, so that a write and its event cannot disagree.

Each change of an item causes at most one event (`event_of`). Deletions cause none, by TTL or by hand. Events can
repeat, because Lambda delivers records again after a failure. `event_id` is a hash of the fact, so repeats agree.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

from optus_sms.aws.event_bus import EventBus, Put
from optus_sms.aws.queues import DeadLetter, DeadLetterReason, Queues
from optus_sms.model.events import (
    Event,
    GatewayHealthChanged,
    SmsAccepted,
    SmsExpired,
    SmsOptOutChanged,
    SmsOutcomeUnknown,
    SmsRecalled,
    SmsRefused,
    SmsRejected,
    SmsReplyReceived,
    SmsStatusChanged,
)
from optus_sms.model.redaction import loggable_id, without_numbers
from optus_sms.model.statuses import FINAL_STATUSES
from optus_sms.model.times import Clock, time_or_none
from optus_sms.records.changes import Change, read_change, subject_of
from optus_sms.records.items import (
    Health,
    HealthRecord,
    LedgerRecord,
    MessageRecord,
    OptOutRecord,
    RefusedRecord,
    ReplyRecord,
    State,
)
from optus_sms.runtime.observability import Measurement, Metric, error_fields, logger


class PublishBatchResult(NamedTuple):
    """The result of a batch. ``failed_from``: sequence number of the first record to be delivered again."""

    failed_from: str | None
    measurements: tuple[Measurement, ...]


def event_of(change: Change, *, reply_text: bool = True) -> Event | None:  # noqa: PLR0911 - one line for each record
    """Return the event of a change, if it has one; without ``reply_text`` a reply's content is left out."""
    match change.before, change.after:
        case LedgerRecord() | None as before, LedgerRecord() as after:
            return _of_state(before, after, change.at)
        case None, RefusedRecord() as after:
            return _of_refused(after, change.at)
        case HealthRecord() | None as before, HealthRecord() as after:
            return _of_health(before, after, change.at)
        case MessageRecord() | None as before, MessageRecord() as after:
            return _of_status(before, after, change.at)
        case OptOutRecord() | None as before, OptOutRecord() as after:
            return _of_opt_out(before, after, change.at)
        case ReplyRecord(), ReplyRecord():
            return None
        case _, ReplyRecord() as after:
            return _of_reply(after, change.at, with_text=reply_text)
    return None


def _of_state(before: LedgerRecord | None, after: LedgerRecord, at: str) -> Event | None:  # noqa: PLR0911 - one line for each state
    """Return the event of a new state. ``at``: the stream's time, for an item edited by hand without its own."""
    if before and after.state is before.state:
        return None
    match after.state:
        case State.ACCEPTED:
            return _accepted(before, after, _time(after.accepted_at, at))
        case State.REJECTED:
            return _rejected(after, _time(after.rejected_at, at))
        case State.EXPIRED:
            return _expired(after, _time(after.expired_at, at))
        case State.RECALLED:
            return _recalled(after, _time(after.recalled_at, at))
        case State.UNKNOWN:
            return _outcome_unknown(after, _time(after.unknown_since, at))
        case State.SENDING | State.RETRY:
            return None


def _accepted(before: LedgerRecord | None, after: LedgerRecord, at: str) -> Event:
    return SmsAccepted(
        event_id=_id(SmsAccepted, after.message_id, at),
        occurred_at=at,
        message_id=after.message_id,
        reference=after.effective_reference,
        gateway_id=after.gateway_id,
        # The write that makes an outcome certain removes `segments` from the item.
        segments=after.segments or (before.segments if before else None),
        attempts=after.attempts,
        resolved_by=after.resolved_by,
    )


def _rejected(after: LedgerRecord, at: str) -> Event:
    return SmsRejected(
        event_id=_id(SmsRejected, after.message_id, at, after.attempts),
        occurred_at=at,
        message_id=after.message_id,
        reference=after.effective_reference,
        reason=after.reason or "rejected",
        detail=without_numbers(after.detail) or None,
        attempts=after.attempts,
    )


def _expired(after: LedgerRecord, at: str) -> Event:
    event_id = _id(SmsExpired, after.message_id, at)
    return SmsExpired(event_id=event_id, occurred_at=at, message_id=after.message_id, attempts=after.attempts)


def _recalled(after: LedgerRecord, at: str) -> Event:
    event_id = _id(SmsRecalled, after.message_id, at)
    return SmsRecalled(event_id=event_id, occurred_at=at, message_id=after.message_id, attempts=after.attempts)


def _of_refused(refused: RefusedRecord, at: str) -> Event:
    at = _time(refused.refused_at, at)
    return SmsRefused(
        event_id=_id(SmsRefused, refused.message_id, at, refused.detail),
        occurred_at=at,
        message_id=refused.message_id,
        reason=refused.reason,
        detail=without_numbers(refused.detail),
    )


def _outcome_unknown(after: LedgerRecord, at: str) -> Event:
    return SmsOutcomeUnknown(
        event_id=_id(SmsOutcomeUnknown, after.message_id, at, after.attempts),
        occurred_at=at,
        message_id=after.message_id,
        reference=after.effective_reference,
        reason=after.reason,
        on_unknown=after.on_unknown,
        unknown_outcomes=after.unknown_outcomes or 1,
        attempts=after.attempts,
    )


def _of_health(before: HealthRecord | None, after: HealthRecord, at: str) -> Event | None:
    if before is None and after.state is not Health.UNHEALTHY:
        return None  # a new stack's first check is not a change
    if before and after.state is before.state:
        return None
    return GatewayHealthChanged(
        event_id=_id(GatewayHealthChanged, after.state, at),
        occurred_at=at,
        state=after.state.value,
        previous_state=before.state.value if before else None,
        reason=after.reason,
    )


def _of_opt_out(before: OptOutRecord | None, after: OptOutRecord, at: str) -> Event | None:
    if after.opted_out == (before is not None and before.opted_out):
        return None
    at = _time(after.since, at)
    return SmsOptOutChanged(
        event_id=_id(SmsOptOutChanged, after.handset, after.decision, at),
        occurred_at=at,
        handset=after.handset,
        opted_out=after.opted_out,
        by=after.by,
        gateway_id=after.reply_id,
    )


def _of_reply(reply: ReplyRecord, at: str, *, with_text: bool) -> Event:
    at = _time(reply.received_at, at)
    return SmsReplyReceived(
        event_id=_id(SmsReplyReceived, reply.id, at),
        occurred_at=at,
        gateway_id=reply.id,
        source=reply.source,
        destination=reply.destination,
        content=reply.content if with_text else None,
        encoding=reply.encoding,
        in_reply_to=reply.in_reply_to,
        reply_match=reply.reply_match,
        reference=reply.reference,
    )


def _of_status(before: MessageRecord | None, after: MessageRecord, at: str) -> Event | None:
    """Return the event of a new status. `accepted` has none, because `SMS Accepted` is published.

    A status that came before the sender function's write is published again, with its `message_id`.
    """
    status, previous = after.status, before.status if before else None
    known_now = after.message_id is not None and (before is None or before.message_id is None)
    if status is None or status == "accepted" or (status == previous and not known_now):
        return None
    at = _time(after.times.get(status), at)
    return SmsStatusChanged(
        event_id=_id(SmsStatusChanged, after.id, status, at, after.message_id),
        occurred_at=at,
        gateway_id=after.id,
        message_id=after.message_id,
        reference=after.reference,
        status=status,
        previous_status=previous if previous != status else None,
        final=status in FINAL_STATUSES,
        detail=after.detail and without_numbers(after.detail),
    )


def _time(text: str | None, otherwise: str) -> str:
    """Return the time of an item, or the stream's if the item has none or was edited by hand."""
    return text if text and time_or_none(text) is not None else otherwise


def _id(kind: type[Event], *fact: object) -> str:
    return hashlib.sha256(json.dumps([kind.detail_type, *fact]).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Publisher:
    """One per execution environment. ``queues``: its dead letters are the changes that can never be published."""

    bus: EventBus
    queues: Queues
    clock: Clock = field(default_factory=Clock)
    reply_text: bool = True

    def publish_batch(self, records: Sequence[Mapping[str, Any]]) -> PublishBatchResult:
        """Publish the events of a batch of one shard, in order. Never raises for a record.

        A record that can never be published becomes a dead letter and holds up no other. From the first record that can
        succeed later, all records are delivered again, so that an item's events keep their order.
        """
        read = [self._read(record) for record in records]
        put = iter(self._put([event for event in read if isinstance(event, Event)]))
        published = kept = recalled = 0
        failed_from = None
        for record, event in zip(records, read, strict=True):
            result = next(put) if isinstance(event, Event) else event
            if result is Put.TAKEN:
                published += 1
                recalled += isinstance(event, SmsRecalled)
                _log_published(cast("Event", event))
            elif result is Put.REFUSED and self._keep(record):
                kept += 1
            elif result is not None:
                failed_from = str(record["dynamodb"]["SequenceNumber"])
                break
        counts = {
            Metric.EVENTS_PUBLISHED: published,
            Metric.EVENTS_NOT_PUBLISHED: kept,
            Metric.MESSAGES_RECALLED: recalled,
        }
        return PublishBatchResult(
            failed_from, tuple((metric, float(count)) for metric, count in counts.items() if count)
        )

    def _read(self, record: Mapping[str, Any]) -> Event | Literal[Put.REFUSED] | None:
        """Read the event of a record, if it has one; `Put.REFUSED` if the record can't be read."""
        try:
            change = read_change(record)
            return event_of(change, reply_text=self.reply_text) if change else None
        except Exception as error:  # noqa: BLE001 - any error: a retry would fail in the same way
            logger().error("stream record unreadable", extra=_loggable_subject(record) | error_fields(error))
            return Put.REFUSED

    def _put(self, events: Sequence[Event]) -> list[Put]:
        try:
            return self.bus.put(events)
        except Exception as error:  # noqa: BLE001 - none counts as published, so all are delivered again
            logger().error("events not published", extra=error_fields(error))
            return [Put.FAILED] * len(events)

    def _keep(self, record: Mapping[str, Any]) -> bool:
        """Keep a dead letter for an operator, and return whether that worked.

        It leaves out the images of the item, which hold text and numbers.
        """
        note = {
            "eventID": record.get("eventID"),
            "eventSourceARN": record.get("eventSourceARN"),
            "SequenceNumber": record.get("dynamodb", {}).get("SequenceNumber"),
            "Keys": record.get("dynamodb", {}).get("Keys"),
        }
        if "handset" in (note["Keys"] or {}):  # the key of `OptOutTable` is a number
            note["Keys"] = None
        dead_letter = DeadLetter(
            json.dumps(note),
            DeadLetterReason.UNPUBLISHED_EVENT,
            "this change of the table could not be made an event, or the bus refused it",
            subject_of(record).get("message_id") or "-",
        )
        try:
            self.queues.dead_letter(dead_letter, now=self.clock.now())
        except Exception as error:  # noqa: BLE001 - not kept, so it is delivered again
            logger().error("unpublished event not kept", extra=error_fields(error))
            return False
        return True


def _loggable_subject(record: Mapping[str, Any]) -> dict[str, str]:
    subject = subject_of(record)
    return {name: loggable_id(value) if name == "gateway_id" else value for name, value in subject.items()}


def _log_published(event: Event) -> None:
    """Log a line for each event, so that a message can be followed by its `message_id`."""
    detail, named = event.to_detail(), ("message_id", "status", "state", "event_id")
    followed: dict[str, Any] = {name: value for name, value in detail.items() if name in named}
    if "gateway_id" in detail:
        followed["gateway_id"] = loggable_id(detail["gateway_id"])
    logger().info("event published", extra={"event": event.detail_type, **followed})
