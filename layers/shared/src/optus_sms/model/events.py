"""The events on `SmsEventBus`: their names and fields. The JSON Schemas in schemas/events/ are made from here.

Plain dataclasses, because the publisher's cold start should not pay for pydantic (docs/decisions). A field that is None
is left out of the event. Nobody's number and no text but in `SmsReplyReceived`, where they are the point.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, Literal

SOURCE: Final = "optus.sms"


def _is(description: str) -> dict[str, str]:
    return {"description": description}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event has. `detail_type` is its name on the bus."""

    detail_type: ClassVar[str]

    version: Literal["1"] = field(
        default="1", metadata=_is("of this form of detail; new fields may come, none changes or goes")
    )
    event_id: str = field(metadata=_is("the same when the same event comes again"))
    occurred_at: str = field(metadata=_is("RFC 3339, UTC: when it happened, as far as the stack knows"))

    def to_detail(self) -> dict[str, Any]:
        """The event's `detail`, without what is None."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


_MESSAGE_ID: Final = _is("the sender's key, or what stood in for it")
_REFERENCE: Final = _is("what the gateway knows the message by: the sender's reference, else message_id")
_GATEWAY_ID: Final = _is("the gateway's id, key of MessagesTable")
_ATTEMPTS: Final = _is("how often sending was begun")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsAccepted(Event):
    """The gateway accepted a message: it was sent, and is never sent again."""

    detail_type = "SMS Accepted"

    message_id: str = field(metadata=_MESSAGE_ID)
    reference: str = field(metadata=_REFERENCE)
    gateway_id: str | None = field(
        default=None, metadata=_is("the gateway's id, key of MessagesTable; absent if its answer had none")
    )
    segments: int | None = field(default=None, metadata=_is("SMS parts, as counted by the standard"))
    attempts: int = field(metadata=_ATTEMPTS)
    resolved_by: str | None = field(
        default=None, metadata=_is("what proved it, if not the gateway's response: `callback` or `operator`")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsStatusChanged(Event):
    """The status of a message changed. Comes again when the message of an early status becomes known."""

    detail_type = "SMS Status Changed"

    gateway_id: str = field(metadata=_GATEWAY_ID)
    message_id: str | None = field(
        default=None, metadata=_is("the sender's key; absent as long as the message is not known")
    )
    reference: str | None = field(default=None, metadata=_REFERENCE)
    status: str = field(metadata=_is("one of the statuses in docs/events.md"))
    previous_status: str | None = field(default=None, metadata=_is("what it was before, if anything"))
    final: bool = field(metadata=_is("whether nothing better is expected; a late `received` still wins"))
    detail: str | None = field(default=None, metadata=_is("the gateway's own words, numbers redacted"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsReplyReceived(Event):
    """A handset wrote."""

    detail_type = "SMS Reply Received"

    gateway_id: str = field(metadata=_is("the gateway's id of the reply, key of MessagesTable"))
    source: str | None = field(default=None, metadata=_is("the number that wrote"))
    destination: str | None = field(default=None, metadata=_is("the number it wrote to"))
    content: str | None = field(
        default=None, metadata=_is("the text; absent if the stack's parameter ReplyTextInEvents is false")
    )
    encoding: str | None = field(default=None, metadata=_is("as the gateway named it; absent for plain text"))
    in_reply_to: str | None = field(default=None, metadata=_is("the gateway's id of the message it answers"))
    reply_match: Literal["exact", "inferred"] | None = field(
        default=None, metadata=_is("exact: the gateway said so; inferred: the latest message to that number")
    )
    reference: str | None = field(default=None, metadata=_is("as the gateway gave it"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsRejected(Event):
    """A message will not be sent: the gateway refused it, or every attempt certainly failed."""

    detail_type = "SMS Rejected"

    message_id: str = field(metadata=_MESSAGE_ID)
    reference: str = field(metadata=_REFERENCE)
    reason: str = field(metadata=_is("`rejected` or `attempts_exhausted`, as in the dead-letter queue"))
    detail: str | None = field(default=None, metadata=_is("what the gateway answered, as a word and a status"))
    attempts: int = field(metadata=_ATTEMPTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsExpired(Event):
    """A message was not sent, because its turn came at or after `expires_at`."""

    detail_type = "SMS Expired"

    message_id: str = field(metadata=_MESSAGE_ID)
    attempts: int = field(metadata=_ATTEMPTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsOutcomeUnknown(Event):
    """Nobody can know whether a message was sent. `SMS Accepted` follows if a callback proves it."""

    detail_type = "SMS Outcome Unknown"

    message_id: str = field(metadata=_MESSAGE_ID)
    reference: str = field(metadata=_REFERENCE)
    reason: str = field(metadata=_is("what happened to the gateway's answer"))
    on_unknown: Literal["hold", "resend"] = field(
        metadata=_is("hold: never sent again without proof; resend: sent again after the first unknown outcome")
    )
    unknown_outcomes: int = field(metadata=_is("how often that happened to this message"))
    attempts: int = field(metadata=_ATTEMPTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayHealthChanged(Event):
    """The gateway's health, as checked every minute, is another one."""

    detail_type = "Gateway Health Changed"

    state: str = field(metadata=_is("healthy, unhealthy or unknown"))
    previous_state: str | None = field(default=None, metadata=_is("what it was before, if anything"))
    reason: str | None = field(default=None, metadata=_is("what the check saw"))


EVENT_TYPES: Final[tuple[type[Event], ...]] = (
    SmsAccepted,
    SmsStatusChanged,
    SmsReplyReceived,
    SmsRejected,
    SmsExpired,
    SmsOutcomeUnknown,
    GatewayHealthChanged,
)
