"""Writes schemas/: JSON Schemas of the queue message and of every event, and an AsyncAPI document of queue and bus.

They are made from the code that reads and writes the messages.

python -m tools.schemas            (`make schemas`; a test fails when they are not up to date)
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from optus_sms.flows.publish_events import event_of
from optus_sms.model.events import EVENT_TYPES, SOURCE, Event
from optus_sms.model.queue_message import FIRST_YEAR, MASK, MAX_SCHEDULE_DAYS, OutboundMessage
from optus_sms.model.segments import CONTROLS, GSM_BASIC, GSM_EXTENSION, INVISIBLE, MAX_SEGMENTS
from optus_sms.model.times import RFC_3339
from optus_sms.records.changes import read_change

FOLDER = Path(__file__).resolve().parent.parent / "schemas"
QUEUE_MESSAGE_VERSION = "1"
"""Raise it with each change that senders can notice; a stack shows its own in Parameter Store as `SchemaVersion`."""
DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TIME = f"^(?=[{FIRST_YEAR[0]}-9]){RFC_3339}$"
_END = r"$(?!\n)"  # in Python's engine `$` also matches before a line break at the end
_ESCAPES = str.maketrans({mark: f"\\{mark}" for mark in r"\]^-["} | {"\n": r"\n", "\r": r"\r", "\f": r"\f"})
"""Within the brackets of ECMA's regular expressions."""
_EVENTS = FOLDER.with_name("events")
_STREAM_FILES = (
    "accepted",
    "status_received",
    "reply",
    "rejected",
    "refused",
    "expired",
    "recalled",
    "outcome_unknown",
    "opted_out",
    "health_changed",
)


def _records(file: str) -> list[dict[str, Any]]:
    """Return the records of an event in events/."""
    records: list[dict[str, Any]] = json.loads((_EVENTS / f"{file}.json").read_text(encoding="utf-8"))["Records"]
    return records


MESSAGE_EXAMPLES: list[dict[str, Any]] = [
    json.loads(record["body"]) for name in ("one_message", "every_field") for record in _records(f"sqs/{name}")
]


def schemas() -> dict[str, dict[str, Any]]:
    """Return every schema by its path below schemas/."""
    details = _detail_examples()
    events = {
        f"events/{file_name(event)}.schema.json": event_schema(event, details[event.detail_type])
        for event in EVENT_TYPES
    }
    return {"queue-message.schema.json": message_schema(), **events}


def file_name(event: type[Event]) -> str:
    """Return `sms-reply-received` for `SMS Reply Received`."""
    return event.detail_type.lower().replace(" ", "-")


def message_schema() -> dict[str, Any]:
    """Return the rules of the queue message as JSON Schema; its description lists the rules that it can't express."""
    made = OutboundMessage.model_json_schema(by_alias=True)
    properties = {name: _tidy(rule, nullable=True) for name, rule in made["properties"].items()}
    properties["content"] |= {"pattern": f"[^{INVISIBLE}]", "anyOf": _segments()}
    properties["mask"] |= {"pattern": f"^{MASK}$"}
    for name in ("scheduled", "expires_at"):
        properties[name] |= {"format": "date-time", "pattern": _TIME}
    for rule in properties.values():
        if rule.get("pattern", "").endswith("$"):
            rule["pattern"] = rule["pattern"].removesuffix("$") + _END
    both = {name: {"type": "string"} for name in ("source", "class")}
    return {
        "$schema": DRAFT,
        "$id": f"urn:optus-sms:queue-message:{QUEUE_MESSAGE_VERSION}",
        "title": "Queue message",
        "description": "One SMS to one handset: the JSON body of a message on OutboundQueue. The sender function also "
        "checks rules that this schema can't express: that the number is possible; the exact number of segments (^ { } "
        "\\ [ ] ~ | and € count as two, and no character is split); that a date exists; that scheduled is not past and "
        f"at most {MAX_SCHEDULE_DAYS} days ahead; that expires_at is later than scheduled; that no JSON name is given "
        "twice; that a character beyond U+FFFF is visible.",
        "type": "object",
        "properties": properties,
        "required": made["required"],
        "not": {"properties": both, "required": list(both)},
        "additionalProperties": False,
        "examples": MESSAGE_EXAMPLES,
    }


def _segments() -> list[dict[str, Any]]:
    """Return the limit of ten segments: 153 characters each of GSM 03.38, otherwise 67."""
    gsm = "".join(sorted(GSM_BASIC | GSM_EXTENSION)).translate(_ESCAPES)
    return [
        {"pattern": f"^[{gsm}]*$", "maxLength": MAX_SEGMENTS * 153},
        {"pattern": f"^[^{CONTROLS}]*$", "maxLength": MAX_SEGMENTS * 67},
    ]


def event_schema(event: type[Event], detail_example: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an event as a rule's target receives it: EventBridge's envelope with the detail."""
    made = TypeAdapter(event).json_schema()
    properties = {name: _tidy(rule, nullable=False) for name, rule in made["properties"].items()}
    properties["occurred_at"] |= {"format": "date-time"}
    version = {"version": properties["version"] | {"type": "string"}}
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
                "detail": detail_example,
            }
        ],
    }


def _detail_examples() -> dict[str, dict[str, Any]]:
    """Return examples by the event's name: the publisher's event for the last record of a file in events/."""
    changes = [read_change(_records(f"stream/{name}")[-1]) for name in _STREAM_FILES]
    events = [event_of(change) for change in changes if change]
    return {event.detail_type: event.to_detail() for event in events if event}


def _tidy(rule: Mapping[str, Any], *, nullable: bool) -> dict[str, Any]:
    """Return pydantic's form of a field without its title, and with alternatives folded into one list of types."""
    tidy = {name: value for name, value in rule.items() if name not in ("title", "default", "anyOf")}
    alternatives = [each for each in rule.get("anyOf", []) if nullable or each["type"] != "null"]
    for alternative in alternatives:
        tidy |= {name: value for name, value in alternative.items() if name != "type"}
    types = [alternative["type"] for alternative in alternatives]
    if types:
        tidy["type"] = types if nullable else types[0]
    if "enum" in tidy and "null" in types:
        tidy["enum"] = [*tidy["enum"], None]
    return tidy


def asyncapi() -> dict[str, Any]:
    """Return queue and bus as AsyncAPI 3: what the stack receives, and what it sends."""
    events = {file_name(event): event for event in EVENT_TYPES}
    queue_message = {
        "name": "QueueMessage",
        "title": "Queue message",
        "contentType": "application/json",
        "payload": {"$ref": "./queue-message.schema.json"},
    }
    event_messages = {
        name: {
            "name": event.detail_type,
            "title": event.detail_type,
            "summary": event.__doc__,
            "contentType": "application/json",
            "payload": {"$ref": f"./events/{name}.schema.json"},
        }
        for name, event in events.items()
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "optus-sms",
            "version": QUEUE_MESSAGE_VERSION,
            "description": "SMS through the Optus SMS Suite gateway: messages on a queue, events on a bus.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "outboundQueue": _queue("OutboundQueue", "SQS standard queue", queue_message),
            "urgentQueue": _queue("UrgentQueue", "SQS standard queue of the urgent lane", queue_message),
            "smsEventBus": {
                "address": "{EventBusName}",
                "title": "SmsEventBus",
                "description": "EventBridge bus; the stack's output EventBusName. At least once, in no order.",
                "parameters": {"EventBusName": {"description": "Output of the stack."}},
                "messages": event_messages,
            },
        },
        "operations": {
            "receiveMessage": {"action": "receive", "channel": {"$ref": "#/channels/outboundQueue"}},
            "receiveUrgentMessage": {"action": "receive", "channel": {"$ref": "#/channels/urgentQueue"}},
            "publishEvents": {"action": "send", "channel": {"$ref": "#/channels/smsEventBus"}},
        },
    }


def _queue(name: str, kind: str, message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the channel of a queue. Its address is an output of the stack, so it is a parameter of the channel."""
    output = f"{name}Url"
    return {
        "address": f"{{{output}}}",
        "title": name,
        "description": f"{kind}; the stack's output {output}.",
        "parameters": {output: {"description": "Output of the stack."}},
        "messages": {"queueMessage": message},
    }


def asyncapi_text() -> str:
    """Return the text of `asyncapi.yaml`."""
    text: str = yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=120)
    return text


def as_text(schema: Mapping[str, Any]) -> str:
    """Return the text of a schema's file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every file."""
    (FOLDER / "asyncapi.yaml").write_text(asyncapi_text(), encoding="utf-8")
    for path, schema in schemas().items():
        (FOLDER / path).parent.mkdir(exist_ok=True)
        (FOLDER / path).write_text(as_text(schema), encoding="utf-8")
        print(f"schemas/{path}")


if __name__ == "__main__":
    main()
