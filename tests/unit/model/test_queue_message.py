"""The rules of the queue message, one by one, and that each refusal names the field and never quotes it."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optus_sms.model.errors import InvalidMessageError
from optus_sms.model.queue_message import (
    UNREADABLE_KEY,
    OutboundMessage,
    check_allowed,
    choose_key,
    key_of_refused,
    parse_message,
)
from optus_sms.model.redaction import without_numbers
from optus_sms.model.times import format_rfc3339, format_whole_seconds
from tests.support.builders import HANDSET, NOW, message_body, message_fields

UUID = "01234567-89ab-cdef-0123-456789abcdef"
DAY = 86_400


def parse(**changes: Any) -> OutboundMessage:
    return parse_message(message_body(**changes), now=NOW)


def refusal(body: str) -> str:
    with pytest.raises(InvalidMessageError) as caught:
        parse_message(body, now=NOW)
    assert str(caught.value) == without_numbers(caught.value.detail)
    return caught.value.detail


def first_word(detail: str) -> str:
    """Return the field that a refusal names, without punctuation."""
    return re.split(r"\W+", detail.lstrip("`'"))[0]


def message_or_refusal(body: str) -> OutboundMessage | str:
    try:
        return parse_message(body, now=NOW)
    except InvalidMessageError as error:
        return error.detail


def at(seconds_from_now: float) -> str:
    return format_rfc3339(NOW + seconds_from_now)


VALID: dict[str, list[Any]] = {
    "destination": ["+61491570006", "+12025550101", "+8816123456789", "+393212345678"],
    "content": [
        "a",
        "a" * 160,
        "a" * 1530,
        "€" * 760,
        "я" * 670,
        "😀" * 330,
        " a",
        "a\n\r\f",
        "1",
        ".",
        "\u0600",
        "a\u200b",
    ],
    "source": [None, "0491570006", "x" * 255],
    "class_": [None, "bulk", "x" * 255],
    "integration_id": [None, UUID, UUID.upper()],
    "mask": [None, "Optus", "AB", "a-b", "My Shop", "a_b", "12345678901"[:10] + "a", "-a-", "1-2", "1 2", "Verified"],
    "sms_class": [None, 0, 1, 2, 3, 1.0, -0.0],
    "reference": [None, "costs-42", "Grüße 😀", "x" * 50],
    "scheduled": [None, at(60), at(60 * DAY), at(0), at(-60), "2026-01-01T11:00:00+11:00", "2026-01-01t00:00:00z"],
    "message_id": [None, "a", "A-Z_0.9:", "x" * 50],
    "expires_at": [None, at(1), at(-1), at(400 * DAY)],
    "on_unknown": [None, "hold", "resend"],
    "despite_opt_out": [None, True, False],
}
INVALID: dict[str, list[Any]] = {
    "destination": [
        "61491570006", "0491570006", "+", "+0491570006", "+123456", "+1234567890123456", "+61 491 570 006",
        "++61491570006", "+61491570006\n", "+６1491570006", "", 61491570006, True, ["+61491570006"], {},
        " +61491570006", "+610491570006", "+6149157000", "+1234567", "+123456789012345", "+9990000000",
    ],
    "content": [
        "", "a" * 1531, "€" * 766, "я" * 671, "😀" * 336, 1, ["text"], {"text": "x"}, True, " ", "\n\r\f",
        "\u200b\ufeff ",
        "\u3164", "\u2800\u00a0", "\U000e0041", "a\u0000", "a\u001bb", "a\tb", "a\u0085", "a\u007f", "don\u0092t",
    ],
    "source": ["", "x" * 256, 1, [], {}],
    "class_": ["", "x" * 256, 1, []],
    "integration_id": ["", "no-uuid", UUID + "0", UUID.replace("-", ""), f"{{{UUID}}}", 7],
    "mask": [
        "", "123456", "x" * 12, "A", "-", "Unverified", "unVERIFIED", "unverified1", " Shop", "_Shop", "Shop_",
        "Shop ", "Shöp", "a.b", "a\nb", "_a", "€uro", 1,
    ],
    "sms_class": [-1, 4, 1.5, 4.0, 1e300, "1", True, None.__class__.__name__, [1]],
    "reference": ["", "x" * 51, 1, []],
    "scheduled": ["", "tomorrow", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", at(60 * DAY + 1),
        at(-61), "2025-12-24T09:00:00+11:00", "0001-01-01T00:00:00Z", 1],
    "message_id": ["", "x" * 51, "a b", "a/b", "ä", "a\n", 1, "#"],
    "expires_at": ["", "never", "2026-01-01T00:00:00", 1767225600, "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"],
    "on_unknown": ["", "HOLD", "drop", True],
    "despite_opt_out": ["true", 1, 0, ""],
}  # fmt: skip


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}-{n}") for name, values in table.items() for n, value in enumerate(values)
    ]


@pytest.mark.parametrize(("name", "value"), cases(VALID))
def test_accepts(name: str, value: Any) -> None:
    message = parse(**{name: value})
    assert getattr(message, {"class_": "routing_class"}.get(name, name)) == value


@pytest.mark.parametrize(("name", "value"), cases(INVALID))
def test_refuses_naming_the_field_and_the_rule(name: str, value: Any) -> None:
    field = name.rstrip("_")
    detail = refusal(json.dumps(message_fields() | {field: value}))
    assert first_word(detail) == field
    assert len(detail) > len(field) + 10


def test_every_field_of_the_contract_is_covered() -> None:
    fields = {info.alias or name for name, info in OutboundMessage.model_fields.items()}
    assert {name.rstrip("_") for name in VALID} == {name.rstrip("_") for name in INVALID} == fields


def test_an_optional_field_may_be_null() -> None:
    nothing = dict.fromkeys(json.loads(message_body()).keys() - {"destination", "content"})
    assert parse_message(json.dumps(message_fields() | nothing), now=NOW).message_id is None


@pytest.mark.parametrize("field", ["destination", "content"])
def test_what_is_required_and_missing_is_named(field: str) -> None:
    missing = refusal(message_body(**{field: None}))
    assert (first_word(missing), "missing" in missing) == (field, True)
    assert first_word(refusal(json.dumps(message_fields() | {field: None}))) == field


@pytest.mark.parametrize(
    "name", ["schedule", "Content", "routing_class", "destination ", "", "id", "__class__", "ünknown"]
)
def test_an_unknown_field_is_refused_with_the_known_ones(name: str) -> None:
    detail = refusal(json.dumps(message_fields() | {name: "x"}))
    assert f"{name!a}" in detail
    assert "unknown" in detail
    assert {field for field in VALID if field.rstrip("_") not in detail} == set()


def test_a_hostile_field_name_is_cut_and_escaped() -> None:
    detail = refusal(json.dumps(message_fields() | {"\n\u0000" + "x" * 500: "x"}))
    assert detail.isprintable()
    assert "x" * 51 not in detail


def test_all_problems_are_told_at_once() -> None:
    detail = refusal(json.dumps({"destination": "1", "sms_class": 9, "schedule": "x", "on_unknown": "drop"}))
    for field in ("destination", "content", "sms_class", "on_unknown", "'schedule'"):
        assert field in detail


def test_each_problem_stands_alone_whatever_its_rule_says() -> None:
    with pytest.raises(InvalidMessageError) as caught:
        parse_message(json.dumps({"destination": "1", "content": "a" * 1531, "sms_class": 9}), now=NOW)
    assert [first_word(problem) for problem in caught.value.problems] == ["destination", "content", "sms_class"]
    assert ";" in caught.value.problems[1]


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "{",
        "null",
        "[]",
        '"text"',
        "1",
        "[{}]",
        "not json",
        "{'a': 1}",
        "{} {}",
        "NaN",
        '{"a": -Infinity}',
        f'{{"a": {"9" * 5000}}}',
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: str) -> None:
    detail = refusal(body)
    assert (first_word(detail), "JSON" in detail) == ("body", True)


@pytest.mark.parametrize("body", ['{"content": "\\ud800", "destination": "+61491570006"}', "[" * 3000, "\ud800"])
def test_a_hostile_body_is_refused(body: str) -> None:
    assert first_word(refusal(body)) in ("body", "content")


@pytest.mark.parametrize(
    ("changes", "field", "facts"),
    [
        ({"content": "a" * 1531}, "content", {"10"}),
        ({"content": "Dear\tAlex"}, "content", {"0009", "character", "5"}),
        ({"content": " \u200b"}, "content", {"visible"}),
        ({"source": "1234", "class": "bulk"}, "class", {"source", "leave"}),
        ({"content": "€" * 766}, "content", {"11", "10"}),
        ({"content": "я" * 671}, "content", {"11", "10"}),
        ({"destination": "0491 570 006"}, "destination", {"did", "you", "mean", "61491570006"}),
        ({"destination": "+610491570006"}, "destination", {"must", "written", "61491570006"}),
        ({"destination": "+6149157000"}, "destination", {"61", "9", "digits"}),
        ({"scheduled": at(60 * DAY + 1)}, "scheduled", {"60"}),
        ({"scheduled": at(-61)}, "scheduled", {"past", "queued"}),
        ({"scheduled": "0001-01-01T00:00:00Z"}, "scheduled", {"Go", "NET", "leave"}),
        ({"expires_at": "0001-01-01T00:00:00+00:00"}, "expires_at", {"Go", "NET", "leave"}),
        ({"expires_at": "1970-01-01T00:00:00Z"}, "expires_at", {"2000", "leave"}),
        ({"scheduled": at(120), "expires_at": at(120)}, "expires_at", {"scheduled"}),
        ({"scheduled": at(120), "expires_at": at(60)}, "expires_at", {"scheduled"}),
    ],
)
def test_says_what_is_wrong(changes: dict[str, Any], field: str, facts: set[str]) -> None:
    detail = refusal(message_body(**changes))
    assert first_word(detail) == field
    assert facts <= set(re.findall(r"\w+", detail))


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        ({"Type": "Notification", "TopicArn": "arn", "Message": message_body()}, {"SNS", "RawMessageDelivery"}),
        ({"Type": "SubscriptionConfirmation", "TopicArn": "arn", "Token": "x"}, {"SNS", "RawMessageDelivery"}),
        (
            {"version": "0", "detail-type": "t", "source": "s", "detail": message_fields()},
            {"EventBridge", "InputPath", "detail"},
        ),
        ({"Records": [{"eventSource": "aws:s3", "s3": {}}]}, {"S3", "bucket"}),
        ({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}, {"S3", "bucket"}),
        ({"Records": [{"eventSource": "aws:sqs", "body": message_body()}]}, {"AWS", "itself"}),
        (message_body(), {"string", "once"}),
        ([message_fields()], {"array", "object"}),
    ],
)  # fmt: skip
def test_an_envelope_is_named_with_the_way_to_open_it(body: Any, facts: set[str]) -> None:
    detail = refusal(json.dumps(body))
    assert first_word(detail) == "body"
    assert facts <= set(re.findall(r"\w+", detail))
    assert "unknown" not in detail


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse_message("\ufeff" + message_body(), now=NOW) == parse()
    assert first_word(refusal("\ufeff")) == "body"


OTHER = "+61491570156"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (f'{{"destination": "{HANDSET}", "content": "a", "destination": "{OTHER}"}}', "destination"),
        (f'{{"destination": "{HANDSET}", "content": "a", "destination": "{HANDSET}"}}', "destination"),
        (f'{{"destination": "{HANDSET}", "content": "a", "\\u0064estination": "{OTHER}"}}', "destination"),
        (f'{{"destination": "{HANDSET}", "content": "a", "conten\\u0074": null}}', "content"),
        ('{"\\ud83d\\ude00": 1, "😀": 2}', "\\U0001f600"),
        (f'{{"destination": "{HANDSET}", "content": {{"a": 1, "a": 1}}}}', "a"),
        (f'{{"destination": "{HANDSET}", "content": [[{{"b": {{"c": 1, "c": 2}}}}]]}}', "c"),
        ('[{"d": 1, "d": 2}]', "d"),
    ],
)
def test_a_name_given_twice_is_refused(body: str, name: str) -> None:
    detail = refusal(body)
    assert detail.startswith(f"'{name}': is given twice")
    assert OTHER not in detail


def test_a_schedule_may_pass_only_while_the_message_waits() -> None:
    body = message_body(scheduled=at(-DAY))
    assert parse_message(body, now=NOW, queued_at=NOW - DAY - 1).scheduled_epoch == NOW - DAY
    assert parse_message(body, now=NOW, queued_at=NOW - DAY + 60).gateway_fields("key-1", NOW).get("scheduled") is None
    with pytest.raises(InvalidMessageError, match=r"^scheduled: .*past"):
        parse_message(body, now=NOW, queued_at=NOW - DAY + 61)


def test_a_refusal_never_quotes_what_it_was_given() -> None:
    canary = "c4n4ry"
    values = {name.rstrip("_"): f"{canary}\n{'x' * 2000}" for name in VALID}
    assert canary not in refusal(json.dumps(values))
    assert canary not in refusal(f'{{"content": "{canary}" oops')


@given(st.text(max_size=200))
def test_any_text_is_a_message_or_a_refusal(body: str) -> None:
    assert message_or_refusal(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([name.rstrip("_") for name in VALID]), json_values, max_size=6))
def test_any_fields_are_a_message_or_a_refusal(fields: dict[str, Any]) -> None:
    result = message_or_refusal(json.dumps(message_fields() | fields))
    assert isinstance(result, OutboundMessage) or ": " in result


class TestPayload:
    FIELDS = (
        "destination",
        "content",
        "source",
        "class",
        "integration_id",
        "mask",
        "sms_class",
        "reference",
        "scheduled",
    )

    def test_is_the_hash_of_canonical_json_with_null_for_what_is_absent(self) -> None:
        fields = dict.fromkeys(self.FIELDS) | {"destination": HANDSET, "content": "Grüße €", "class": "bulk"}
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        message = parse(content="Grüße €", class_="bulk")
        assert message.payload_sha256 == hashlib.sha256(canonical.encode()).hexdigest()

    def test_does_not_change_between_versions(self) -> None:
        """Messages wait in queues while a new version is deployed: another hash would make them conflicts."""
        assert parse().payload_sha256 == "9b73c2f9f787e8a5983f98649d9adbda9411083e94b823016cba3b3bf6e63fed"

    @pytest.mark.parametrize(
        "changes", [{"message_id": "other"}, {"message_id": None}, {"expires_at": at(60)}, {"despite_opt_out": True}]
    )
    def test_leaves_out_what_is_ours(self, changes: dict[str, Any]) -> None:
        assert parse(**changes).payload_sha256 == parse().payload_sha256

    @pytest.mark.parametrize(
        "changes",
        [
            {"destination": "+61491570156"},
            {"content": "Another text"},
            {"source": "0491570006"},
            {"class_": "bulk"},
            {"integration_id": UUID},
            {"mask": "Shop"},
            {"sms_class": 0},
            {"reference": "message-1"},
            {"scheduled": at(600)},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_has_every_field_of_the_gateway(self, changes: dict[str, Any]) -> None:
        assert parse(**changes).payload_sha256 != parse().payload_sha256

    def test_takes_a_number_as_its_value(self) -> None:
        assert parse(sms_class=1.0).payload_sha256 == parse(sms_class=1).payload_sha256

    def test_takes_a_time_as_the_sender_gave_it(self) -> None:
        one, other = "2026-01-02T00:00:00Z", "2026-01-02T11:00:00+11:00"
        assert parse(scheduled=one).payload_sha256 != parse(scheduled=other).payload_sha256

    def test_does_not_depend_on_the_order_of_fields_or_on_escapes(self) -> None:
        plain = '{"destination": "+61491570006", "content": "é"}'
        other = '{ "content":"\\u00e9", "mask": null,\n"destination":"+61491570006" }'
        assert parse_message(plain, now=NOW).payload_sha256 == parse_message(other, now=NOW).payload_sha256


class TestGatewayFields:
    def test_have_what_was_given_and_our_key_as_the_reference(self) -> None:
        assert parse(sms_class=0).gateway_fields("key-1", NOW) == {
            "destination": HANDSET,
            "content": message_fields()["content"],
            "sms_class": 0,
            "reference": "key-1",
        }

    def test_have_the_senders_own_reference(self) -> None:
        assert parse(reference="costs-42").gateway_fields("key-1", NOW)["reference"] == "costs-42"

    def test_have_the_gateways_names_and_none_of_ours(self) -> None:
        ours = {"expires_at": at(600), "on_unknown": "hold", "despite_opt_out": True}
        fields = parse(class_="bulk", **ours).gateway_fields("key-1", NOW)
        assert fields["class"] == "bulk"
        assert not {"message_id", "routing_class", *ours} & fields.keys()

    @pytest.mark.parametrize(("ahead", "kept"), [(-60, False), (0, False), (59, False), (60, True), (61, True)])
    def test_have_a_schedule_only_if_it_is_a_minute_ahead(self, ahead: int, kept: bool) -> None:
        message = parse(scheduled=at(ahead))
        assert message.gateway_fields("key-1", NOW).get("scheduled") == (
            format_whole_seconds(NOW + ahead) if kept else None
        )

    @pytest.mark.parametrize(
        "spelling",
        [
            "2026-01-02T11:00:00+11:00",
            "2026-01-02t00:00:00z",
            "2026-01-02T00:00:00.0000000001Z",
            "2026-01-01T23:00:00-01:00",
        ],
    )
    def test_have_a_schedule_in_one_form(self, spelling: str) -> None:
        assert parse(scheduled=spelling).gateway_fields("key-1", NOW)["scheduled"] == "2026-01-02T00:00:00Z"

    def test_drop_a_schedule_whose_time_came_while_the_message_waited(self) -> None:
        message = parse(scheduled=at(600))
        assert "scheduled" in message.gateway_fields("key-1", NOW)
        assert "scheduled" not in message.gateway_fields("key-1", NOW + 600)


class TestAllowed:
    @pytest.mark.parametrize("allowed", [(), ("+61",), ("+64", "+614"), ("+61491570006",)])
    def test_is_a_number_with_one_of_the_prefixes_or_any(self, allowed: tuple[str, ...]) -> None:
        check_allowed(parse(), allowed)

    @pytest.mark.parametrize("allowed", [("+64",), ("+612", "+617"), ("+614915700061",)])
    def test_is_no_other(self, allowed: tuple[str, ...]) -> None:
        with pytest.raises(InvalidMessageError) as caught:
            check_allowed(parse(), allowed)
        assert first_word(caught.value.detail) == "destination"
        assert {"AllowedDestinations", allowed[0][1:]} <= set(re.findall(r"\w+", caught.value.detail))


class TestKey:
    @staticmethod
    def key(own: str | None, attributes: dict[str, str | None] | None = None, *, required: bool = False) -> str:
        message = parse(message_id=own, expires_at=at(60))
        return choose_key(message, attributes=attributes or {}, sqs_message_id="sqs-1", required=required)

    def test_is_the_messages_own_or_the_attribute(self) -> None:
        assert self.key("own") == "own"
        assert self.key("own", {"message_id": "own"}) == "own"
        assert self.key(None, {"message_id": "attribute"}) == "attribute"
        assert self.key(None, {"message_id": "attribute"}, required=True) == "attribute"

    def test_is_last_the_sqs_message_id(self) -> None:
        assert self.key(None, {"trace_id": "x", "body": None}) == "sqs-1"

    def test_is_in_the_namespace_of_its_sender(self) -> None:
        for own, attributes, key in (("own", {}, "own"), (None, {"message_id": "a"}, "a"), (None, {}, "sqs-1")):
            message = parse(message_id=own)
            chosen = choose_key(
                message, attributes=attributes, sqs_message_id="sqs-1", required=False, namespace="AROA1"
            )
            assert chosen == f"AROA1/{key}"
            body = json.dumps({"message_id": own} if own else {})
            assert key_of_refused(body, attributes, "sqs-1", namespace="AROA1") == f"AROA1/{key}"

    @pytest.mark.parametrize("key", ["own", "AIDA2/own"])
    @pytest.mark.parametrize("own", ["own", None])
    def test_of_a_redriven_dead_letter_stays(self, key: str, own: str | None) -> None:
        attributes: dict[str, str | None] = {"message_id": key, "queued_at": at(-60)}
        message = parse(message_id=own)
        chosen = choose_key(message, attributes=attributes, sqs_message_id="sqs-1", required=True, namespace="AROA1")
        assert chosen == key
        assert key_of_refused("{}", attributes, "sqs-1", namespace="AROA1") == key

    @pytest.mark.parametrize("key", ["AIDA2/other", "a b/own", "AIDA2/x/own", "/own", "AIDA2/", "AIDA2/own\n"])
    def test_of_a_redriven_dead_letter_has_a_rule(self, key: str) -> None:
        with pytest.raises(InvalidMessageError, match=r"^SQS attribute message_id: "):
            self.key("own", {"message_id": key, "queued_at": at(-60)})

    def test_with_a_namespace_is_only_that_of_a_dead_letter(self) -> None:
        with pytest.raises(InvalidMessageError, match=r"^SQS attribute message_id: "):
            self.key(None, {"message_id": "AIDA2/own"})

    def test_can_be_required(self) -> None:
        with pytest.raises(InvalidMessageError, match=r"message_id.*RequireMessageId"):
            self.key(None, required=True)

    @pytest.mark.parametrize("attribute", ["a b", "x" * 51, "ä", "a\n", "", " "])
    def test_in_an_attribute_has_the_same_rule(self, attribute: str) -> None:
        with pytest.raises(InvalidMessageError, match=r"attribute .?message_id.*\b50\b"):
            self.key(None, {"message_id": attribute})

    @pytest.mark.parametrize("own", [None, "own"])
    def test_that_cannot_be_read_is_not_an_absent_one(self, own: str | None) -> None:
        with pytest.raises(InvalidMessageError, match=r"^SQS attribute message_id: .*String"):
            self.key(own, {"message_id": None})

    @pytest.mark.parametrize("name", ["Message_Id", "messageId", "message-id", "MESSAGE_ID", "MessageID"])
    @pytest.mark.parametrize("own", [None, "own"])
    @pytest.mark.parametrize("value", ["attribute", None])
    def test_in_an_attribute_of_nearly_that_name_is_refused(
        self, name: str, own: str | None, value: str | None
    ) -> None:
        with pytest.raises(InvalidMessageError, match=r"^SQS attribute .*: .*name it message_id"):
            self.key(own, {name: value})
        assert self.key("own", {name: "own"}) == "own"

    def test_that_differs_in_body_and_attribute_is_refused(self) -> None:
        with pytest.raises(InvalidMessageError, match=r"^SQS attribute message_id: differs.*same"):
            self.key("own", {"message_id": "attribute"})

    @pytest.mark.parametrize("name", ["expires_at", "expiresAt", "on_unknown", "On-Unknown", "scheduled", "Scheduled"])
    @pytest.mark.parametrize("value", [at(30), "hold", None])
    def test_no_other_protection_can_be_an_attribute(self, name: str, value: str | None) -> None:
        with pytest.raises(InvalidMessageError, match=r"^SQS attribute .*: is not read; set \w+ in the body"):
            self.key(None, {name: value})
        assert self.key("own", {"expires_at": at(60)}) == "own"

    @pytest.mark.parametrize(
        ("body", "attributes", "key"),
        [
            ("{", {}, "sqs-1"),
            ("{}", {"trace": None}, "sqs-1"),
            ('{"message_id": "own"}', {}, "own"),
            ('{"message_id": "+61 491"}', {}, "sqs-1"),
            ('{"message_id": 1}', {}, "sqs-1"),
            ("{", {"message_id": "attribute"}, "attribute"),
            ('{"message_id": "own"}', {"message_id": "attribute"}, "attribute"),
            ("{}", {"message_id": "a b"}, "a b"),
            ("{}", {"message_id": None}, UNREADABLE_KEY),
            ("{}", {"messageId": "attribute"}, UNREADABLE_KEY),
            ('{"message_id": "own"}', {"messageId": "attribute"}, UNREADABLE_KEY),
            ('{"message_id": "own"}', {"messageId": "own"}, "own"),
        ],
    )
    def test_of_a_refused_message_for_its_dead_letter(
        self, body: str, attributes: dict[str, str | None], key: str
    ) -> None:
        assert key_of_refused(body, attributes, "sqs-1") == key

    @pytest.mark.parametrize("key", [UNREADABLE_KEY, "a b"])
    def test_of_a_dead_letter_that_no_redrive_can_use(self, key: str) -> None:
        with pytest.raises(InvalidMessageError, match="message_id"):
            self.key(None, {"message_id": key})
