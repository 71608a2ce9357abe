"""The published schemas are up to date, and agree with the code."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from optus_sms.flows.publish_events import event_of
from optus_sms.model.errors import InvalidMessageError
from optus_sms.model.events import EVENT_TYPES
from optus_sms.model.queue_message import parse_message
from optus_sms.records.changes import read_change
from tests.support.builders import NOW, message_fields
from tests.support.node import needs_packages
from tools.schemas import FOLDER, MESSAGE_EXAMPLES, as_text, asyncapi, asyncapi_text, file_name, schemas

ROOT: Final = Path(__file__).parents[2]
SCHEMAS: Final = schemas()
MESSAGE: Final = Draft202012Validator(
    SCHEMAS["queue-message.schema.json"], format_checker=Draft202012Validator.FORMAT_CHECKER
)


def is_taken(fields: Any) -> bool:
    try:
        parse_message(json.dumps(fields), now=NOW)
    except InvalidMessageError:
        return False
    return True


@pytest.mark.parametrize("path", SCHEMAS)
def test_the_file_is_up_to_date(path: str) -> None:
    assert (FOLDER / path).read_text(encoding="utf-8") == as_text(SCHEMAS[path]), "run: make schemas"


def test_the_asyncapi_document_is_up_to_date() -> None:
    assert (FOLDER / "asyncapi.yaml").read_text(encoding="utf-8") == asyncapi_text(), "run: make schemas"


def test_the_asyncapi_document_has_every_message_and_every_file_that_it_names() -> None:
    document = asyncapi()
    payloads = {
        message["payload"]["$ref"].removeprefix("./")
        for channel in document["channels"].values()
        for message in channel["messages"].values()
    }
    assert payloads == set(SCHEMAS)


_VALIDATOR = Path(__file__).parents[1] / "support" / "asyncapi"


def validated(path: Path) -> dict[str, Any]:
    command = ["node", str(_VALIDATOR / "validate.mjs"), str(path)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@needs_packages(_VALIDATOR)
def test_the_asyncapi_parser_finds_nothing_wrong(tmp_path: Path) -> None:
    by_channel = len(SCHEMAS) + 1  # the queue message has two channels, the queues of both lanes
    assert validated(FOLDER / "asyncapi.yaml") == {"problems": [], "messages": by_channel}
    wrong = tmp_path / "asyncapi.yaml"
    wrong.write_text(asyncapi_text().replace("action: receive", "action: get"))
    assert validated(wrong)["problems"]


def test_no_file_is_left_over() -> None:
    assert {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.schema.json")} == set(SCHEMAS)


@pytest.mark.parametrize("path", SCHEMAS)
def test_it_is_a_schema_whose_examples_validate(path: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[path])
    examples = SCHEMAS[path]["examples"]

    assert examples
    assert [
        error.message for example in examples for error in Draft202012Validator(SCHEMAS[path]).iter_errors(example)
    ] == []


# The queue message


@pytest.mark.parametrize("example", MESSAGE_EXAMPLES)
def test_the_examples_are_messages(example: dict[str, Any]) -> None:
    fields = {name: value for name, value in example.items() if name not in ("scheduled", "expires_at")}

    assert is_taken(fields)


@pytest.mark.parametrize("file", sorted((ROOT / "events" / "sqs").glob("*.json")), ids=lambda path: path.stem)
def test_the_schema_and_the_sender_agree_on_every_event_file(file: Path) -> None:
    for record in json.loads(file.read_text())["Records"]:
        try:
            fields = json.loads(record["body"])
        except ValueError:
            continue
        too_far = isinstance(fields, dict) and fields.get("message_id") in ("mixed-schedule-too-far", "scheduled")
        assert MESSAGE.is_valid(fields) is (is_taken(fields) or too_far), record["body"]


BAD: Final[list[dict[str, Any]]] = [
    {"destination": None},
    {"destination": "0491570006"},
    {"destination": "+0491570006"},
    {"destination": "+61 491 570 006"},
    {"destination": "+6149157000612345678"},
    {"destination": 61491570006},
    {"content": None},
    {"content": ""},
    {"content": "x" * 1531},
    {"content": "я" * 671},
    {"content": "€" * 1531},
    {"content": ["text"]},
    {"content": " \u200b\n"},
    {"content": "a\tb"},
    {"content": "я\u001b"},
    {"mask": "A"},
    {"mask": "unverified"},
    {"source": "1234", "class": "bulk"},
    {"mask": "TwelveLetters"},
    {"mask": "12345"},
    {"mask": " Clinic"},
    {"mask": "Clinic!"},
    {"mask": ""},
    {"sms_class": 4},
    {"sms_class": -1},
    {"sms_class": "1"},
    {"sms_class": True},
    {"sms_class": 1.5},
    {"reference": ""},
    {"reference": "x" * 51},
    {"scheduled": "2026-01-02 09:00:00Z"},
    {"scheduled": "2026-01-02T09:00:00"},
    {"scheduled": "tomorrow"},
    {"scheduled": "2026-01-02T09:00:00+10:75"},
    {"scheduled": "2026-02-30T09:00:00Z"},
    {"scheduled": "2026-01-02T09:00:00Z\n"},
    {"scheduled": "0001-01-01T00:00:00Z"},
    {"expires_at": "0001-01-01T00:00:00Z"},
    {"scheduled": 1767225600},
    {"expires_at": "2026-01-02"},
    {"message_id": ""},
    {"message_id": "with space"},
    {"message_id": "x" * 51},
    {"on_unknown": "retry"},
    {"source": ""},
    {"source": "x" * 256},
    {"class": ""},
    {"integration_id": "none"},
    {"schedule": "2026-01-02T09:00:00Z"},
    {"routing_class": "mt_message"},
]


@pytest.mark.parametrize("change", BAD, ids=str)
def test_what_breaks_a_rule_is_refused_before_it_is_queued(change: dict[str, Any]) -> None:
    fields = message_fields(**change)

    assert not MESSAGE.is_valid(fields)
    assert not is_taken(fields)


@pytest.mark.parametrize("fields", [[], "text", 1, None, {}])
def test_what_is_no_message_at_all_is_refused(fields: Any) -> None:
    assert not MESSAGE.is_valid(fields)
    assert not is_taken(fields)


# The rules that the schema can't express, by its description.
@pytest.mark.parametrize(
    "change",
    [
        {"content": "€" * 766},
        {"content": "🎄" * 400},
        {"scheduled": "2026-06-01T09:00:00Z"},
        {"scheduled": "2026-01-03T09:00:00Z", "expires_at": "2026-01-02T09:00:00Z"},
    ],
    ids=str,
)
def test_what_a_schema_cannot_say_only_the_sender_refuses(change: dict[str, Any]) -> None:
    fields = message_fields(**change)

    assert MESSAGE.is_valid(fields)
    assert not is_taken(fields)


# The rules that the schema's description leaves to the sender function.
_UNSAYABLE: Final = re.compile(
    r"content: has \d+ segments|destination: (is not a possible|must be written|has no country code)"
    r"|scheduled: (was past|must be at most)|expires_at: must be later"
)


def do_they_agree(fields: Any) -> bool:
    """Return whether schema and sender function agree about a document, by the rules that the schema has."""
    is_valid = bool(MESSAGE.is_valid(fields))
    try:
        parse_message(json.dumps(fields), now=NOW)
    except InvalidMessageError as error:
        return not is_valid or all(_UNSAYABLE.match(problem) for problem in error.problems)
    return is_valid


def _of(*parts: str) -> st.SearchStrategy[str]:
    """Texts made of one choice from each part. Choices are separated by spaces; _ is no text."""
    return st.tuples(*(st.sampled_from([c.replace("_", "") for c in part.split(" ")]) for part in parts)).map("".join)


_time = _of(
    "2026 2026 2026 2000 1999 0001 0000 9999 202 ٢٠٢٦", "-", "01 01 02 02 12 00 13", "-", "01 02 02 28 29 30 31 32 00",
    "T T T t \x20 _", "00 00 09 23 24", ":", "00 00 30 59 60", ":", "00 00 30 59 60 61",
    "_ _ .5 .123456789 .1234567890 . ,5",
    "Z Z z +11:00 -00:00 +23:59 +24:00 +10:75 +10:60 +1000 _", "_ _ _ _ _ \n \x20",
)  # fmt: skip
_text = st.text(st.characters(codec="utf-8"), max_size=60)
_any_value = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 5), st.floats(allow_nan=False, allow_infinity=False), _text,
    st.lists(_text, max_size=1), st.dictionaries(_text, _text, max_size=1),
)  # fmt: skip
_values = {
    "destination": _of("+ + + + _ ++ \x20+", "61 61 61 610 0 ６1 999", "491570006 491570156", "_ _ _ \n \x20 123456"),
    "content": _text
    | st.sampled_from(
        [
            "x" * 1530,
            "x" * 1531,
            "я" * 670,
            "я" * 671,
            "{}[]~|^\\€\n\r\f",
            "a\n",
            "\n",
            "\u200b",
            "\u00a0\u3164",
            "a\t",
            "\u001b",
            "a\u0085b",
        ]
    ),
    "source": _text | st.sampled_from(["x" * 255, "x" * 256]),
    "class": _text,
    "integration_id": st.uuids().map(str)
    | st.uuids().map(lambda uuid: f"{uuid}\n")
    | st.uuids().map(lambda uuid: uuid.hex),
    "mask": _of("_ A 1 - \x20 _ .", "Shop A 1 11 é", "_ \x20 - . \n", "_ _ Clinic Name 1", "_ _ \n \x20"),
    "sms_class": st.sampled_from([0, 3, 4, -1, 1.0, 3.0, 4.0, 1.5, -0.0, True, "1"]),
    "reference": st.text(st.characters(codec="utf-8"), max_size=51) | st.sampled_from(["x" * 50, "x" * 51, "😀" * 50]),
    "scheduled": _time,
    "message_id": _of("_ k A-Z_0.9: ä a/", "_ 1 \x20", "_ _ \n") | st.sampled_from(["x" * 50, "x" * 51]),
    "expires_at": _time,
    "on_unknown": st.sampled_from(["hold", "resend", "HOLD", "hold\n", ""]),
}


@settings(max_examples=400)
@given(
    st.fixed_dictionaries(
        {name: _values[name] for name in ("destination", "content")},
        optional={name: values for name, values in _values.items() if name not in ("destination", "content")},
    ).flatmap(
        lambda fields: st.just(fields)
        | st.builds(
            lambda name, value: fields | {name: value}, st.sampled_from([*_values, "other"]), _any_value
        )
    )
)  # fmt: skip
def test_the_schema_and_the_sender_agree_on_every_document(fields: dict[str, Any]) -> None:
    assert do_they_agree(fields)


@settings(max_examples=400)
@given(
    st.sampled_from([*_values, "other"]).flatmap(
        lambda name: st.tuples(st.just(name), _values.get(name, _text) | _any_value)
    )
)
def test_the_schema_and_the_sender_agree_on_every_value(change: tuple[str, Any]) -> None:
    fields = message_fields() | dict([change])
    assert do_they_agree(fields)


# Events


@pytest.mark.parametrize("file", sorted((ROOT / "events" / "stream").glob("*.json")), ids=lambda path: path.stem)
def test_every_event_that_is_published_validates(file: Path) -> None:
    for record in json.loads(file.read_text())["Records"]:
        try:
            change = read_change(record)
        except ValueError:
            assert file.stem == "unreadable_record"
            continue
        event = event_of(change) if change else None
        if event is None:
            continue
        schema = SCHEMAS[f"events/{file_name(type(event))}.schema.json"]
        whole: dict[str, Any] = {"source": "optus.sms", "detail-type": event.detail_type, "detail": event.to_detail()}
        assert [error.message for error in Draft202012Validator(schema).iter_errors(whole)] == []
        assert whole["detail"].keys() <= schema["properties"]["detail"]["properties"].keys()


def test_every_event_has_a_schema_that_only_it_fulfils() -> None:
    for path, schema in SCHEMAS.items():
        if path.startswith("events/"):
            fulfilled = [
                name
                for name, other in SCHEMAS.items()
                if name.startswith("events/") and Draft202012Validator(other).is_valid(schema["examples"][0])
            ]
            assert fulfilled == [path]
    assert len(SCHEMAS) == len(EVENT_TYPES) + 1


@pytest.mark.parametrize("event", EVENT_TYPES)
def test_an_event_without_what_it_must_have_is_refused(event: Any) -> None:
    schema = SCHEMAS[f"events/{file_name(event)}.schema.json"]
    example = schema["examples"][0]
    for name in schema["properties"]["detail"]["required"]:
        detail = {field: value for field, value in example["detail"].items() if field != name}
        assert not Draft202012Validator(schema).is_valid(example | {"detail": detail}), name
