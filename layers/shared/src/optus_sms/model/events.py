"""The events on `SmsEventBus`: their names and fields. `make schemas` writes schemas/events/ from them.

Plain dataclasses, because importing pydantic would slow down the publisher's cold start
(docs/decisions/events-from-streams.md). A field that is None is left out of the event. Only `SmsReplyReceived` and
`SmsOptOutChanged` have a phone number, only the first a text.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, Literal

SOURCE: Final = "optus.sms"


def _is(description: str) -> dict[str, str]:
    return {"description": description}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The fields of every event. `detail_type`: its name on the bus; `flows.publish_events` makes its ``event_id``."""

    detail_type: ClassVar[str]

    version: Literal["1"] = field(
        default="1", metadata=_is("schema version; fields may be added, never changed or removed")
    )
    event_id: str = field(metadata=_is("unchanged when the same event is delivered again"))
    occurred_at: str = field(metadata=_is("RFC 3339, UTC: when it happened, or when the stack recorded it"))

    def to_detail(self) -> dict[str, Any]:
        """Return the event's `detail`, without the fields that are None."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        whole = {name: int(value) for name, value in values.items() if isinstance(value, float)}  # edited by hand
        return {name: value for name, value in (values | whole).items() if value is not None}


_MESSAGE_ID: Final = _is(
    "the sender's idempotency key; if the sender gave none, the SQS message ID. "
    "With SeparateSenders the sender's ID and a slash come before it"
)
_REFERENCE: Final = _is(
    "the reference sent to the gateway: the sender's; if there is none, the message_id "
    "(with SeparateSenders one made from it)"
)
_GATEWAY_ID: Final = _is("the gateway's ID of the message, key of MessagesTable")
_ATTEMPTS: Final = _is("number of attempts to send it")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsAccepted(Event):
    """The gateway accepted a message. It is never sent again."""

    detail_type = "SMS Accepted"

    message_id: str = field(metadata=_MESSAGE_ID)
    reference: str = field(metadata=_REFERENCE)
    gateway_id: str | None = field(
        default=None, metadata=_is("the gateway's ID, key of MessagesTable; absent if its response had none")
    )
    segments: int | None = field(default=None, metadata=_is("number of segments, counted by the GSM standard"))
    attempts: int = field(metadata=_ATTEMPTS)
    resolved_by: str | None = field(
        default=None, metadata=_is("what proved acceptance, if not the gateway's response: `callback` or `operator`")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsStatusChanged(Event):
    """The status of a message changed. Repeated with `message_id` if the status came before the message was known."""

    detail_type = "SMS Status Changed"

    gateway_id: str = field(metadata=_GATEWAY_ID)
    message_id: str | None = field(
        default=None, metadata=_is("the sender's idempotency key; absent until the message is known")
    )
    reference: str | None = field(default=None, metadata=_REFERENCE)
    status: str = field(metadata=_is("one of the statuses in docs/events.md"))
    previous_status: str | None = field(default=None, metadata=_is("the status before, if there was one"))
    final: bool = field(metadata=_is("whether the status is final; a late `received` still replaces it"))
    detail: str | None = field(default=None, metadata=_is("the gateway's explanation, phone numbers redacted"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsReplyReceived(Event):
    """A handset sent a reply."""

    detail_type = "SMS Reply Received"

    gateway_id: str = field(metadata=_is("the gateway's ID of the reply, key of MessagesTable"))
    source: str | None = field(default=None, metadata=_is("the phone number of the handset"))
    destination: str | None = field(default=None, metadata=_is("the phone number that the reply was sent to"))
    content: str | None = field(
        default=None, metadata=_is("the text; absent if the stack's parameter ReplyTextInEvents is false")
    )
    encoding: str | None = field(default=None, metadata=_is("the encoding named by the gateway; absent for plain text"))
    in_reply_to: str | None = field(default=None, metadata=_is("the gateway's ID of the message replied to"))
    reply_match: Literal["exact", "inferred"] | None = field(
        default=None, metadata=_is("exact: the gateway named the message; inferred: the latest one to that handset")
    )
    reference: str | None = field(default=None, metadata=_is("the reference in the reply callback"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsRejected(Event):
    """A message will not be sent: the gateway rejected it, its attempts or days ended, or its handset opted out."""

    detail_type = "SMS Rejected"

    message_id: str = field(metadata=_MESSAGE_ID)
    reference: str = field(metadata=_REFERENCE)
    reason: str = field(
        metadata=_is("`rejected` or `attempts_exhausted`, as in the dead letter, or `opted_out`, without one")
    )
    detail: str | None = field(default=None, metadata=_is("the reason and the HTTP status of the gateway's response"))
    attempts: int = field(metadata=_ATTEMPTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsRefused(Event):
    """A message was not sent: it broke a rule, or reused a `message_id`. Its sender must correct it."""

    detail_type = "SMS Refused"

    message_id: str = field(metadata=_is("idempotency key of the message, or its SQS message ID if it has none"))
    reason: str = field(metadata=_is("`invalid` or `conflict`, as in the dead letter"))
    detail: str = field(metadata=_is("each broken field with its rule and the fix; never a value"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsExpired(Event):
    """A message was not sent, because it could not be sent before `expires_at`."""

    detail_type = "SMS Expired"

    message_id: str = field(metadata=_MESSAGE_ID)
    attempts: int = field(metadata=_ATTEMPTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsRecalled(Event):
    """An operator recalled a message that was not sent. It is never sent under this `message_id`."""

    detail_type = "SMS Recalled"

    message_id: str = field(metadata=_MESSAGE_ID)
    attempts: int = field(metadata=_ATTEMPTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsOutcomeUnknown(Event):
    """It is unknown whether a message was sent. `SMS Accepted` follows if it is resolved as sent."""

    detail_type = "SMS Outcome Unknown"

    message_id: str = field(metadata=_MESSAGE_ID)
    reference: str = field(metadata=_REFERENCE)
    reason: str = field(metadata=_is("why the outcome is unknown"))
    on_unknown: Literal["hold", "resend"] = field(
        metadata=_is("hold: not sent again without proof; resend: sent again after the first unknown outcome")
    )
    unknown_outcomes: int = field(metadata=_is("number of unknown outcomes of this message"))
    attempts: int = field(metadata=_ATTEMPTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsOptOutChanged(Event):
    """A handset opted out of messages, or back in: by a reply, or by an operator."""

    detail_type = "SMS Opt-Out Changed"

    handset: str = field(metadata=_is("the phone number of the handset"))
    opted_out: bool = field(metadata=_is("true: opted out; false: opted back in"))
    by: str = field(metadata=_is("`reply`, `person` (an operator) or `import` (from a file)"))
    gateway_id: str | None = field(default=None, metadata=_is("the gateway's ID of the reply, if it was one"))


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayHealthChanged(Event):
    """The gateway's health state changed."""

    detail_type = "Gateway Health Changed"

    state: str = field(metadata=_is("healthy, unhealthy or unknown"))
    previous_state: str | None = field(default=None, metadata=_is("the state before, if there was one"))
    reason: str | None = field(default=None, metadata=_is("the result of the check"))


EVENT_TYPES: Final[tuple[type[Event], ...]] = (
    SmsAccepted,
    SmsStatusChanged,
    SmsReplyReceived,
    SmsRejected,
    SmsRefused,
    SmsExpired,
    SmsRecalled,
    SmsOutcomeUnknown,
    SmsOptOutChanged,
    GatewayHealthChanged,
)
