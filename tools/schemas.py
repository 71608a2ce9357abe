"""Writes schemas/: JSON Schemas of the queue message and of every event, made from the code that reads and writes them.

python -m tools.schemas            (`make schemas`; a test fails when they are not up to date)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from optus_sms.model.events import EVENT_TYPES, SOURCE, Event
from optus_sms.model.queue_message import MAX_SCHEDULE_DAYS, OutboundMessage
from optus_sms.model.segments import GSM_BASIC, GSM_EXTENSION, MAX_SEGMENTS

FOLDER = Path(__file__).resolve().parent.parent / "schemas"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
_RFC_3339 = r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})$"  # model.times, for ECMA
_MASK = r"^(?=.*[A-Za-z])[A-Za-z0-9-]([A-Za-z0-9 _-]{0,9}[A-Za-z0-9-])?$"  # model.queue_message, whose engine lacks (?=
_NUMBER, _GATEWAY_ID = "+61491570006", "497f6eca-6276-4993-bfeb-53cbbbba6f08"

MESSAGE_EXAMPLES: list[dict[str, Any]] = [
    {"destination": _NUMBER, "content": "Your appointment is tomorrow at 9:30."},
    {
        "message_id": "one-time-code-4711",
        "destination": _NUMBER,
        "content": "Your code is 123456.",
        "expires_at": "2026-12-24T09:05:00+11:00",
        "on_unknown": "resend",
    },
    {
        "message_id": "reminder-4712",
        "destination": _NUMBER,
        "content": "Wir sehen uns am Samstag 🎄",
        "source": "61480000000",
        "class": "mt_message",
        "integration_id": "0f0e4a25-9a8c-4f8b-8a6f-5e217d3a1c62",
        "sms_class": 1,
        "reference": "cost-centre-12",
        "scheduled": "2026-12-24T09:00:00+11:00",
    },
    {"destination": _NUMBER, "content": "No reply possible", "mask": "City Clinic"},
]

DETAIL_EXAMPLES: Mapping[str, dict[str, Any]] = {
    "SMS Accepted": {
        "message_id": "appointment-4711",
        "reference": "appointment-4711",
        "gateway_id": _GATEWAY_ID,
        "segments": 1,
        "attempts": 1,
    },
    "SMS Status Changed": {
        "gateway_id": _GATEWAY_ID,
        "message_id": "appointment-4711",
        "reference": "appointment-4711",
        "status": "received",
        "previous_status": "submitted",
        "final": True,
    },
    "SMS Reply Received": {
        "gateway_id": "7d3a1c62-0f0e-4a25-9a8c-1f8b7a6f5e21",
        "source": _NUMBER,
        "destination": "+61480000000",
        "content": "Yes please",
        "in_reply_to": _GATEWAY_ID,
        "reply_match": "exact",
    },
    "SMS Rejected": {
        "message_id": "appointment-4712",
        "reference": "appointment-4712",
        "reason": "rejected",
        "detail": "rejected (status 400)",
        "attempts": 1,
    },
    "SMS Expired": {"message_id": "one-time-code-4711", "attempts": 0},
    "SMS Outcome Unknown": {
        "message_id": "appointment-4713",
        "reference": "appointment-4713",
        "reason": "closed_without_answer",
        "on_unknown": "hold",
        "unknown_outcomes": 1,
        "attempts": 1,
    },
    "Gateway Health Changed": {"state": "unhealthy", "previous_state": "healthy", "reason": "status 503"},
}


def schemas() -> dict[str, dict[str, Any]]:
    """Every schema by its path below schemas/."""
    events = {f"events/{file_name(event)}.schema.json": event_schema(event) for event in EVENT_TYPES}
    return {"queue-message.schema.json": message_schema(), **events}


def file_name(event: type[Event]) -> str:
    """`SMS Reply Received` as `sms-reply-received`."""
    return event.detail_type.lower().replace(" ", "-")


def message_schema() -> dict[str, Any]:
    """Every rule of the queue message that JSON Schema can say; what it cannot stands in the description."""
    made = OutboundMessage.model_json_schema(by_alias=True)
    properties = {name: _tidy(rule) for name, rule in made["properties"].items()}
    properties["content"] |= {"anyOf": _parts()}
    properties["mask"] |= {"pattern": _MASK}
    for name in ("scheduled", "expires_at"):
        properties[name] |= {"format": "date-time", "pattern": _RFC_3339}
    return {
        "$schema": DRAFT,
        "$id": "urn:optus-sms:queue-message",
        "title": "Queue message",
        "description": "One SMS to one handset: the JSON body of a message on OutboundQueue. Not said here, but "
        "checked: the exact number of SMS parts (^ { } \\ [ ] ~ | and € count two, and no character is split), that a "
        f"date exists, that scheduled is at most {MAX_SCHEDULE_DAYS} days ahead, that expires_at is later.",
        "type": "object",
        "properties": properties,
        "required": made["required"],
        "additionalProperties": False,
        "examples": MESSAGE_EXAMPLES,
    }


def _parts() -> list[dict[str, Any]]:
    """Ten parts at most: 153 characters each of GSM 03.38, otherwise 67."""
    gsm = "".join(re.escape(character) if character.isascii() else character for character in sorted(_GSM))
    return [
        {"pattern": f"^[{_in_ecma(gsm)}]*$", "maxLength": MAX_SEGMENTS * 153},
        {"maxLength": MAX_SEGMENTS * 67},
    ]


_GSM = GSM_BASIC | GSM_EXTENSION


def _in_ecma(escaped: str) -> str:
    """ECMA's regular expressions know fewer escapes than Python's: most marks stand for themselves."""
    unescaped = re.sub(r"\\(.)", lambda m: m[0] if m[1] in r"\]^-[" else m[1], escaped, flags=re.DOTALL)
    return unescaped.replace("\n", "\\n").replace("\r", "\\r").replace("\f", "\\f")


def event_schema(event: type[Event]) -> dict[str, Any]:
    """An event as a rule's target gets it: EventBridge's envelope, and our detail."""
    made = TypeAdapter(event).json_schema()
    properties = {name: _without_null(_tidy(rule)) for name, rule in made["properties"].items()}
    properties["occurred_at"] |= {"format": "date-time"}
    version = {"version": properties["version"] | {"type": "string"}}
    common = {"version": "1", "event_id": "3820dc5fd739c7d70d41e83c3ee13fce", "occurred_at": "2026-01-01T00:00:01.000Z"}
    return {
        "$schema": DRAFT,
        "$id": f"urn:optus-sms:event:{file_name(event)}:1",
        "title": event.detail_type,
        "description": event.__doc__,
        "type": "object",
        "properties": {
            "source": {"const": SOURCE},
            "detail-type": {"const": event.detail_type},
            "detail": {
                "type": "object",
                "properties": properties | version,
                "required": ["version", *made["required"]],
            },
        },
        "required": ["source", "detail-type", "detail"],
        "examples": [
            {
                "version": "0",
                "id": "8f5c1b9e-6f0a-4f0e-9a53-2f3f2f0d7c11",
                "detail-type": event.detail_type,
                "source": SOURCE,
                "account": "123456789012",
                "time": "2026-01-01T00:00:01Z",
                "region": "ap-southeast-2",
                "resources": [],
                "detail": common | DETAIL_EXAMPLES[event.detail_type],
            }
        ],
    }


def _tidy(rule: Mapping[str, Any]) -> dict[str, Any]:
    """pydantic's form of a field without its titles, and with alternatives folded into one list of types."""
    tidy = {name: value for name, value in rule.items() if name not in ("title", "default", "anyOf")}
    alternatives = rule.get("anyOf", [])
    for alternative in alternatives:
        tidy |= {name: value for name, value in alternative.items() if name != "type"}
    if alternatives:
        tidy["type"] = [alternative["type"] for alternative in alternatives]
    if "enum" in tidy and "null" in tidy["type"]:
        tidy["enum"] = [*tidy["enum"], None]
    return tidy


def _without_null(rule: Mapping[str, Any]) -> dict[str, Any]:
    """An event leaves out what it does not have."""
    if not isinstance(rule.get("type"), list):
        return dict(rule)
    (kind,) = [name for name in rule["type"] if name != "null"]
    changed = {**rule, "type": kind}
    if "enum" in changed:
        changed["enum"] = [value for value in changed["enum"] if value is not None]
    return changed


def as_text(schema: Mapping[str, Any]) -> str:
    """As it stands in its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every file."""
    for path, schema in schemas().items():
        (FOLDER / path).parent.mkdir(exist_ok=True)
        (FOLDER / path).write_text(as_text(schema), encoding="utf-8")
        print(f"schemas/{path}")


if __name__ == "__main__":
    main()
