"""What the tables' streams tell, put on `SmsEventBus`: a write and its event cannot disagree.

Each change of an item makes at most one event (`event_of`). Deletions make none, by TTL or by hand. Events may repeat,
since a stream gives a batch again when any of it failed; `event_id` is made of the fact itself, so that repeats agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from optus_sms.aws.event_bus import EventBus, Put
from optus_sms.aws.queues import DeadLetter, DeadLetterReason, Queues
from optus_sms.model.events import (
    Event,
    GatewayHealthChanged,
    SmsAccepted,
    SmsExpired,
    SmsOutcomeUnknown,
    SmsRejected,
    SmsReplyReceived,
    SmsStatusChanged,
)
from optus_sms.model.redaction import loggable_id, without_numbers
from optus_sms.model.statuses import FINAL_STATUSES
from optus_sms.model.times import Clock, format_rfc3339
from optus_sms.records.ledger import State
from optus_sms.records.table import Item, unmarshal
from optus_sms.runtime.observability import Measurement, Metric, error_fields, logger

_MESSAGE: Final = "msg#"
_HEALTH: Final = "health#gateway"  # optus_sms.records.health; not imported, since it brings more than its key


@dataclass(frozen=True, slots=True)
class Change:
    """One write to an item. ``before`` is empty if there was none; ``at``: RFC 3339, when the stream saw it."""

    before: Item
    after: Item
    at: str


@dataclass(frozen=True, slots=True)
class PublishBatchResult:
    """``failed_from``: sequence number of the first record that must come again, with all after it."""

    failed_from: str | None
    measurements: tuple[Measurement, ...]


def read_change(record: Mapping[str, Any]) -> Change | None:
    """The change in a record of Lambda's DynamoDB event, None for a deletion. Raises what a malformed record causes."""
    images = record["dynamodb"]
    if record["eventName"] == "REMOVE":
        return None
    at = format_rfc3339(float(images["ApproximateCreationDateTime"]))
    return Change(unmarshal(images.get("OldImage", {})), unmarshal(images["NewImage"]), at)


def event_of(change: Change, *, reply_text: bool = True) -> Event | None:
    """The event that a change of either table makes, if any; without ``reply_text`` a reply's content is left out."""
    key = str(change.after.get("pk", ""))
    if key.startswith(_MESSAGE):
        return _of_state(change, key.removeprefix(_MESSAGE))
    if key == _HEALTH:
        return _of_health(change)
    if "id" not in change.after:
        return None
    if change.after.get("direction") == "MO":
        return _of_reply(change, with_text=reply_text)
    return _of_status(change)


def _of_state(change: Change, message_id: str) -> Event | None:
    state = _text(change.after, "state")
    if state is None or state == change.before.get("state") or state not in _STATE_EVENTS:
        return None
    return _STATE_EVENTS[State(state)](change, message_id)


def _accepted(change: Change, message_id: str) -> Event:
    at = _time(change, "accepted_at")
    return SmsAccepted(
        event_id=_id(SmsAccepted, message_id, at),
        occurred_at=at,
        message_id=message_id,
        reference=_reference(change, message_id),
        gateway_id=_text(change.after, "gateway_id"),
        # The write that makes an outcome certain removes what was kept for it.
        segments=_number(change.after, "segments") or _number(change.before, "segments"),
        attempts=_number(change.after, "attempts") or 0,
        resolved_by=_text(change.after, "resolved_by"),
    )


def _rejected(change: Change, message_id: str) -> Event:
    at, attempts = _time(change, "rejected_at"), _number(change.after, "attempts") or 0
    return SmsRejected(
        event_id=_id(SmsRejected, message_id, at, attempts),
        occurred_at=at,
        message_id=message_id,
        reference=_reference(change, message_id),
        reason=_text(change.after, "reason") or "rejected",
        detail=_without_numbers(_text(change.after, "detail")),
        attempts=attempts,
    )


def _expired(change: Change, message_id: str) -> Event:
    at, attempts = _time(change, "expired_at"), _number(change.after, "attempts") or 0
    return SmsExpired(
        event_id=_id(SmsExpired, message_id, at), occurred_at=at, message_id=message_id, attempts=attempts
    )


def _outcome_unknown(change: Change, message_id: str) -> Event:
    at, attempts = _time(change, "unknown_since"), _number(change.after, "attempts") or 0
    return SmsOutcomeUnknown(
        event_id=_id(SmsOutcomeUnknown, message_id, at, attempts),
        occurred_at=at,
        message_id=message_id,
        reference=_reference(change, message_id),
        reason=_text(change.after, "reason") or "",
        on_unknown="resend" if change.after.get("on_unknown") == "resend" else "hold",
        unknown_outcomes=_number(change.after, "unknown_outcomes") or 1,
        attempts=attempts,
    )


_STATE_EVENTS: Final[Mapping[State, Callable[[Change, str], Event]]] = {
    State.ACCEPTED: _accepted,
    State.REJECTED: _rejected,
    State.EXPIRED: _expired,
    State.UNKNOWN: _outcome_unknown,
}


def _of_health(change: Change) -> Event | None:
    state, before = _text(change.after, "state"), _text(change.before, "state")
    if state is None or state == before or (before is None and state != "unhealthy"):
        return None  # that a new stack finds the gateway well is no news
    return GatewayHealthChanged(
        event_id=_id(GatewayHealthChanged, state, change.at),
        occurred_at=change.at,
        state=state,
        previous_state=before,
        reason=_text(change.after, "reason"),
    )


def _of_reply(change: Change, *, with_text: bool) -> Event | None:
    if change.before.get("direction") == "MO":
        return None
    row = change.after
    gateway_id, at = str(row["id"]), _time(change, "received_at")
    return SmsReplyReceived(
        event_id=_id(SmsReplyReceived, gateway_id, at),
        occurred_at=at,
        gateway_id=gateway_id,
        source=_text(row, "source"),
        destination=_text(row, "destination"),
        content=_text(row, "content") if with_text else None,
        encoding=_text(row, "encoding"),
        in_reply_to=_text(row, "in_reply_to"),
        reply_match=cast("Literal['exact', 'inferred'] | None", _text(row, "reply_match")),
        reference=_text(row, "reference"),
    )


def _of_status(change: Change) -> Event | None:
    """`accepted` makes none, since `SMS Accepted` says it. A status before our own write comes again with its key."""
    row, before = change.after, change.before
    status, message_id = _text(row, "status"), _text(row, "message_id")
    known_now = message_id is not None and "message_id" not in before
    if status is None or status == "accepted" or (status == before.get("status") and not known_now):
        return None
    gateway_id, at = str(row["id"]), _time(change, f"{status}_at")
    previous = _text(before, "status")
    return SmsStatusChanged(
        event_id=_id(SmsStatusChanged, gateway_id, status, at, message_id),
        occurred_at=at,
        gateway_id=gateway_id,
        message_id=message_id,
        reference=_text(row, "reference"),
        status=status,
        previous_status=previous if previous != status else None,
        final=status in FINAL_STATUSES,
        detail=_without_numbers(_text(row, "detail")),
    )


def _without_numbers(text: str | None) -> str | None:
    """What could be a phone number is no business of a rule's; the row has it whole."""
    return None if text is None else without_numbers(text)


def _id(kind: type[Event], *fact: object) -> str:
    return hashlib.sha256(json.dumps([kind.detail_type, *fact]).encode()).hexdigest()[:32]


def _time(change: Change, name: str) -> str:
    """The item's own time, else the stream's: an item edited by hand may lack its own."""
    return _text(change.after, name) or change.at


def _reference(change: Change, message_id: str) -> str:
    return _text(change.after, "reference") or message_id


def _text(item: Item, name: str) -> str | None:
    value = item.get(name)
    return value if isinstance(value, str) else None


def _number(item: Item, name: str) -> int | None:
    value = item.get(name)
    return value if isinstance(value, int) else None


@dataclass(frozen=True)
class Publisher:
    """One per sandbox. ``queues``: its dead letters are what can never be published."""

    bus: EventBus
    queues: Queues
    clock: Clock = field(default_factory=Clock)
    reply_text: bool = True

    def publish_batch(self, records: Sequence[Mapping[str, Any]]) -> PublishBatchResult:
        """Publish what a batch of one shard tells, in its order. Raises nothing for a record.

        A record that can never be published is kept for a person and stops nobody. From the first one on that may
        succeed later all come again, so that the events of an item keep their order.
        """
        told = [self._read(record) for record in records]
        put = iter(self._put([event for event in told if isinstance(event, Event)]))
        published = kept = 0
        failed_from = None
        for record, event in zip(records, told, strict=True):
            result = next(put) if isinstance(event, Event) else event
            if result is Put.TAKEN:
                published += 1
                _log_published(cast("Event", event))
            elif result is Put.REFUSED and self._keep(record):
                kept += 1
            elif result is not None:
                failed_from = str(record["dynamodb"]["SequenceNumber"])
                break
        counts = ((Metric.EVENTS_PUBLISHED, float(published)), (Metric.EVENTS_NOT_PUBLISHED, float(kept)))
        return PublishBatchResult(failed_from, tuple(count for count in counts if count[1]))

    def _read(self, record: Mapping[str, Any]) -> Event | Literal[Put.REFUSED] | None:
        """What a record tells; refused, if nobody can tell."""
        try:
            change = read_change(record)
            return event_of(change, reply_text=self.reply_text) if change else None
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, trying again will not mend it
            logger().error("stream record unreadable", extra=_keys(record) | error_fields(error))
            return Put.REFUSED

    def _put(self, events: Sequence[Event]) -> list[Put]:
        try:
            return self.bus.put(events)
        except Exception as error:  # noqa: BLE001 - none of them counts as published, so all come again
            logger().error("events not published", extra=error_fields(error))
            return [Put.FAILED] * len(events)

    def _keep(self, record: Mapping[str, Any]) -> bool:
        """Leave a note for a person, without the images: they hold text and numbers. Whether that worked."""
        note = {
            "eventID": record.get("eventID"),
            "eventSourceARN": record.get("eventSourceARN"),
            "SequenceNumber": record.get("dynamodb", {}).get("SequenceNumber"),
            "Keys": record.get("dynamodb", {}).get("Keys"),
        }
        letter = DeadLetter(
            json.dumps(note),
            DeadLetterReason.UNPUBLISHED_EVENT,
            "this change of the table could not be made an event, or the bus refused it",
            _keys(record).get("message_id") or "-",
        )
        try:
            self.queues.dead_letter(letter, now=self.clock.now())
        except Exception as error:  # noqa: BLE001 - not kept, so it comes again
            logger().error("unpublished event not kept", extra=error_fields(error))
            return False
        return True


def _keys(record: Mapping[str, Any]) -> dict[str, str]:
    """What a record is about, for the log and for a person; empty if it does not say."""
    try:
        keys = unmarshal(record["dynamodb"]["Keys"])
    except (KeyError, TypeError, AttributeError):
        return {}
    if "id" in keys:
        return {"gateway_id": loggable_id(str(keys["id"]))}
    return {"message_id": str(keys["pk"]).removeprefix(_MESSAGE)} if "pk" in keys else {}


def _log_published(event: Event) -> None:
    """One line for each event, so that a message can be followed by its key."""
    detail, named = event.to_detail(), ("message_id", "status", "state", "event_id")
    followed: dict[str, Any] = {name: value for name, value in detail.items() if name in named}
    if "gateway_id" in detail:
        followed["gateway_id"] = loggable_id(detail["gateway_id"])
    logger().info("event published", extra={"event": event.detail_type, **followed})
