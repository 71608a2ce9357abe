"""The queue message: the JSON that senders put on `OutboundQueue`, its rules, and the fields that go to the gateway."""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from optus_sms.model.errors import InvalidMessageError
from optus_sms.model.numbers import E164, did_you_mean, problem_of
from optus_sms.model.queue_body import read_object
from optus_sms.model.segments import CONTROLS, INVISIBLE, INVISIBLE_BEYOND, MAX_SEGMENTS, Segments, count_segments
from optus_sms.model.sender_namespaces import in_namespace, is_made_reference, key_of, redriven_id
from optus_sms.model.times import format_whole_seconds, parse_rfc3339

_KEY: Final = r"[A-Za-z0-9._:-]{1,50}"
MAX_SCHEDULE_DAYS: Final = 60  # gateway-rest-v2.txt, SingleMessage: "an upper limit of 60 days"
SEND_NOW_SECONDS: Final = 60  # the gateway returns HTTP 422 for a time in the past, and a POST takes some seconds
PAST_SECONDS: Final = 60  # clocks can differ: a schedule that is past by no more than this counts as now
FIRST_YEAR: Final = "2000"
"""An earlier time means that the sender never set the field: Go and .NET write year 1, others 1601, 1900 or 1970."""

_MESSAGE_ID = re.compile(rf"(?:[A-Za-z0-9]+/)?{_KEY}")
# ACMA's register of sender IDs (2 to 11 characters, not digits only, no space or underscore at an end, no "Unverified"
# in any case) and the gateway's page (no symbol but hyphen, space and underscore). For each rule the stricter source
# applies: the gateway refuses what breaks its own, and handsets show "Unverified" for what breaks the register's.
MASK: Final = r"(?=.*[^0-9])(?!.*[Uu][Nn][Vv][Ee][Rr][Ii][Ff][Ii][Ee][Dd])[A-Za-z0-9-][A-Za-z0-9 _-]{0,9}[A-Za-z0-9-]"
_CONTROL = re.compile(f"[{CONTROLS}]")
_VISIBLE = re.compile(f"[^{INVISIBLE}{INVISIBLE_BEYOND}]")
# Fields of the gateway's SingleMessage (gateway-rest-v2.txt), plus `integration_id` of its OpenAPI file.
_GATEWAY_FIELDS: Final = (
    "destination", "content", "source", "class", "integration_id", "mask", "sms_class", "reference", "scheduled",
)  # fmt: skip
_PROTECTIONS: Final = {name.replace("_", ""): name for name in ("message_id", "expires_at", "on_unknown", "scheduled")}
UNREADABLE_KEY: Final = "unreadable message_id"  # breaks the rule of a key
_DESTINATION: Final = "must be an E.164 number with a leading +, like +61491570006"
_OURS: Final = frozenset({"message_id", "expires_at", "on_unknown", "despite_opt_out"})


def _rule(text: str) -> PydanticCustomError:
    """Return an error with a text of its own; all other errors are reported with the field's description."""
    return PydanticCustomError("rule", "{text}", {"text": text})


def _check_destination(text: str) -> str:
    if not re.fullmatch(E164, text):
        meant = did_you_mean(text)
        raise _rule(f"{_DESTINATION}; did you mean {meant}?" if meant else _DESTINATION)
    if problem := problem_of(text):
        raise _rule(problem)
    return text


def _check_content(content: str) -> str:
    if control := _CONTROL.search(content):
        raise _rule(
            f"has the control character U+{ord(control[0]):04X} as character {control.start() + 1}, which no SMS can "
            "carry; remove it, or use a space or a line break"
        )
    if not _VISIBLE.search(content):
        raise _rule("has no visible character, so the handset would show nothing; set the text")
    segments = count_segments(content).count
    if segments > MAX_SEGMENTS:
        raise _rule(
            f"has {segments} segments, at most {MAX_SEGMENTS} are allowed; shorten it or send it as several messages"
        )
    return content


def _check_mask(mask: str) -> str:
    if not re.fullmatch(MASK, mask):
        raise ValueError
    return mask


def _check_time(text: str) -> str:
    parse_rfc3339(text)
    if text < FIRST_YEAR:
        raise _rule(
            f"is before {FIRST_YEAR}: probably the zero time of Go or .NET, for a field that was not set; leave it out"
        )
    return text


def _whole(number: object) -> object:
    """Return 1 for 1.0, because JSON has one type of number, as has the JSON Schema."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


_Optional = Annotated[str | None, Field(min_length=1, max_length=255)]
_Time = Annotated[str, AfterValidator(_check_time), Field(json_schema_extra={"format": "date-time"})]


class OutboundMessage(BaseModel):
    """One text to one handset: the body of an SQS message. Field descriptions are the rules and the error texts."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        title="Queue message",
        ignored_types=(cached_property,),
    )

    destination: Annotated[str, AfterValidator(_check_destination)] = Field(
        description=_DESTINATION, json_schema_extra={"pattern": f"^{E164}$"}
    )
    content: Annotated[str, AfterValidator(_check_content)] = Field(
        min_length=1,
        max_length=MAX_SEGMENTS * 153,
        description="must be text of 1 to 10 segments: 160 GSM 03.38 characters (153 per segment if longer; "
        "^ { } \\ [ ] ~ | and € count as two), or 70 (67 per segment) with any other character. "
        "At least one must be visible; control characters are not allowed, except line breaks and the form feed",
    )
    source: _Optional = Field(
        None,
        description="must be text of 1 to 255 characters: a number or short code of your account; not with `class`",
    )
    routing_class: _Optional = Field(
        None,
        alias="class",
        description="must be text of 1 to 255 characters: a routing class of your account; not with `source`",
    )
    integration_id: str | None = Field(
        None,
        pattern=r"^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$",
        description="must be a UUID",
    )
    mask: Annotated[str, AfterValidator(_check_mask)] | None = Field(
        None,
        min_length=2,
        max_length=11,
        description="must be a registered sender ID of 2 to 11 letters, digits, hyphens, and inner spaces or "
        "underscores, not digits only and without the word Unverified; handsets can't reply to it",
    )
    sms_class: Annotated[int | None, BeforeValidator(_whole)] = Field(
        None, ge=0, le=3, description="must be a whole number from 0 to 3"
    )
    reference: str | None = Field(
        None,
        min_length=1,
        max_length=50,
        description="must be text of 1 to 50 characters; default: the message_id",
    )
    scheduled: _Time | None = Field(
        None,
        description="must be an RFC 3339 time with offset, like 2026-12-24T09:00:00+11:00, at most 60 days ahead and "
        "not past when the message is queued",
    )
    message_id: str | None = Field(
        None, pattern=f"^{_KEY}$", description="must be 1 to 50 of the characters A-Z a-z 0-9 . _ : -"
    )
    expires_at: _Time | None = Field(
        None, description="must be an RFC 3339 time with offset, later than `scheduled`; not sent at or after this time"
    )
    on_unknown: Literal["hold", "resend"] | None = Field(None, description="must be hold or resend")

    despite_opt_out: bool | None = Field(
        None, description="must be true or false; true: sent even if the handset has opted out, such as a one-time code"
    )

    @model_validator(mode="after")
    def _source_or_class(self) -> Self:
        # Version 1 of the gateway's page: "If the source parameter is used then class must not be included".
        if self.source is not None and self.routing_class is not None:
            raise _rule("class: can't go with source, which selects the route already; leave one of them out")
        return self

    @model_validator(mode="after")
    def _expires_after_schedule(self) -> Self:
        if (
            self.expires_epoch is not None
            and self.scheduled_epoch is not None
            and self.expires_epoch <= self.scheduled_epoch
        ):
            raise _rule("expires_at: must be later than scheduled")
        return self

    @cached_property
    def scheduled_epoch(self) -> float | None:
        """Return `scheduled` in epoch seconds."""
        return None if self.scheduled is None else parse_rfc3339(self.scheduled)

    @cached_property
    def expires_epoch(self) -> float | None:
        """Return `expires_at` in epoch seconds."""
        return None if self.expires_at is None else parse_rfc3339(self.expires_at)

    @cached_property
    def segments(self) -> Segments:
        """Return the number and encoding of the segments of `content`."""
        return count_segments(self.content)

    @cached_property
    def payload_sha256(self) -> str:
        """Return the hash by which messages with one `message_id` are compared.

        It covers the gateway fields as the sender gave them; an absent field counts as null.
        """
        given = self.model_dump(by_alias=True)
        canonical = {field: given[field] for field in _GATEWAY_FIELDS}
        text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def gateway_fields(self, reference: str, now: float) -> dict[str, Any]:
        """Return the body of the POST, without absent fields. ``reference``: for a message without its own.

        A `scheduled` less than a minute ahead, or past by now, is left out, because the gateway returns HTTP 422 for a
        time in the past. It always has one form, because parsers differ in the rarer forms of RFC 3339.
        """
        fields = self.model_dump(by_alias=True, exclude={*_OURS, "scheduled"}, exclude_none=True)
        fields.setdefault("reference", reference)
        if self.scheduled_epoch is not None and self.scheduled_epoch >= now + SEND_NOW_SECONDS:
            fields["scheduled"] = format_whole_seconds(self.scheduled_epoch)
        return fields


def parse_message(body: str, *, now: float, queued_at: float | None = None) -> OutboundMessage:
    """Parse the message in an SQS body; `InvalidMessageError` names every broken field and its rule.

    ``queued_at``: epoch seconds; now, if it is not known. A message whose schedule has passed since then is sent at
    once. A schedule that was past already is a mistake, such as a wrong year.
    """
    # Not model_validate_json: it accepts a name given twice, and ignores a field's Python name where only the alias is
    # allowed (pydantic 2.13).
    fields = read_object(body)
    try:
        message = OutboundMessage.model_validate(fields)
    except ValidationError as error:
        raise InvalidMessageError(*_problems(error)) from None
    if message.scheduled_epoch is not None and message.scheduled_epoch > now + MAX_SCHEDULE_DAYS * 86_400:
        raise InvalidMessageError("scheduled: must be at most 60 days ahead")
    if message.scheduled_epoch is not None and message.scheduled_epoch < (queued_at or now) - PAST_SECONDS:
        raise InvalidMessageError(
            "scheduled: was past when the message was queued; correct the time, or leave it out to send at once"
        )
    return message


def check_allowed(message: OutboundMessage, allowed: tuple[str, ...]) -> None:
    """Refuse a destination with none of these prefixes; without prefixes every destination is allowed."""
    if allowed and not message.destination.startswith(allowed):
        raise InvalidMessageError(
            f"destination: begins with no prefix that this stack allows ({', '.join(allowed)}); "
            "add its prefix to the stack's AllowedDestinations"
        )


def check_despite_opt_out(message: OutboundMessage, *, allowed: bool) -> None:
    """Refuse a message that has `despite_opt_out`, unless the stack allows such messages."""
    if message.despite_opt_out and not allowed:
        raise InvalidMessageError(
            "despite_opt_out: is not allowed by this stack (AllowDespiteOptOut=false); leave it out, and the message "
            "goes to handsets that have not opted out"
        )


def check_reference(message: OutboundMessage) -> None:
    """With separate senders, refuse a reference that can be another message's."""
    if message.reference is not None and is_made_reference(message.reference):
        raise InvalidMessageError(
            "reference: has the form of references that this stack makes (SeparateSenders=true): some characters, a "
            "slash and 20 hexadecimal digits; use another"
        )


def is_key(text: str) -> bool:
    """Return whether a text can be the `message_id` that a sender gives."""
    return re.fullmatch(_KEY, text) is not None


def is_message_id(text: str) -> bool:
    """Return whether a text can be the `message_id` of the ledger: a key, or a namespace and a key."""
    return _MESSAGE_ID.fullmatch(text) is not None


def choose_key(
    message: OutboundMessage,
    *,
    attributes: Mapping[str, str | None],
    sqs_message_id: str,
    required: bool,
    namespace: str = "",
) -> str:
    """Return the idempotency key of a message: its `message_id`, else the SQS attribute, else the SQS message ID.

    ``attributes``: the SQS message attributes; None for one that is not text. With ``required`` the SQS message ID is
    refused, because a redrive in the SQS console assigns a new one. ``namespace``: the sender's. A redriven dead letter
    keeps its key and its namespace.
    """
    _check_attributes(message, attributes)
    if (redriven := redriven_id(attributes)) is not None:
        return redriven
    key = message.message_id or attributes.get("message_id")
    if key is not None:
        return in_namespace(namespace, key)
    if required:
        raise InvalidMessageError(
            "message_id: is required by this stack (RequireMessageId=true); set it in the body or as an SQS attribute"
        )
    return in_namespace(namespace, sqs_message_id)


def key_of_refused(body: str, attributes: Mapping[str, str | None], sqs_message_id: str, *, namespace: str = "") -> str:
    """Return the key that the dead letter of an invalid message gets, so that a redrive does not change it.

    A key that can't be read stays an invalid key, because under another one the message could be sent twice.
    """
    if (redriven := redriven_id(attributes)) is not None:
        return redriven
    try:
        own = read_object(body).get("message_id")
    except InvalidMessageError:
        own = None
    own = own if isinstance(own, str) and is_key(own) else None
    given = {name: value for name, value in attributes.items() if _meant_by(name) == "message_id"}
    if not given:
        return in_namespace(namespace, own or sqs_message_id)
    key = given.get("message_id") or (own if own and own in given.values() else None)
    return in_namespace(namespace, key) if key else UNREADABLE_KEY


def _check_attributes(message: OutboundMessage, attributes: Mapping[str, str | None]) -> None:
    """Refuse an attribute that the sender probably meant as a field: with a wrong name or type it is not read."""
    is_redriven = redriven_id(attributes) is not None
    for name, value in attributes.items():
        field = _meant_by(name)
        if field is None or (value is not None and value == getattr(message, field)):
            continue
        if field != "message_id":
            raise InvalidMessageError(f"SQS attribute {name}: is not read; set {field} in the body")
        if name != "message_id":
            raise InvalidMessageError(f"SQS attribute {name}: is not read; name it message_id")
        if value is None:
            raise InvalidMessageError("SQS attribute message_id: must be of DataType String; this one can't be read")
        if not (is_message_id if is_redriven else is_key)(value):
            raise InvalidMessageError(f"SQS attribute message_id: {_description('message_id')}")
        if message.message_id not in (None, key_of(value)):
            raise InvalidMessageError(
                "SQS attribute message_id: differs from message_id in the body; set one of them, or both to the same"
            )


def _meant_by(attribute: str) -> str | None:
    """Return the protective field that this attribute's name means, exactly or nearly; None for any other."""
    return _PROTECTIONS.get(re.sub(r"[^a-z0-9]", "", attribute.lower()))


def _description(field: str) -> str:
    name = "routing_class" if field == "class" else field
    return OutboundMessage.model_fields[name].description or ""


def _problems(error: ValidationError) -> list[str]:
    """Return each problem as ``field: rule``; values are never quoted."""
    problems: list[str] = []
    unknown: list[str] = []
    for problem in error.errors(include_url=False, include_input=False):
        field = str(problem["loc"][0]) if problem["loc"] else ""
        match problem["type"]:
            case "missing":
                problems.append(f"{field}: is missing; {_description(field)}")
            case "extra_forbidden":
                unknown.append(ascii(field[:50]))
            case "rule":
                problems.append(f"{field}: {problem['msg']}" if field else problem["msg"])
            case _:
                problems.append(f"{field}: {_description(field)}")
    if unknown:
        known = ", ".join(sorted({*_GATEWAY_FIELDS, *_OURS}))
        problems.append(f"{', '.join(unknown)}: unknown field; the fields are {known}")
    return list(dict.fromkeys(problems))
