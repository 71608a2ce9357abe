"""Both callbacks in every shape that the gateway's documents show, and in shapes that nobody has documented."""

from __future__ import annotations

import base64
import encodings
import gzip
import json
import pkgutil
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from optus_sms.model.callbacks import Callback, ReplyCallback, StatusCallback, parse_callbacks
from optus_sms.model.errors import UnreadableCallbackError
from tests.support.builders import HANDSET


def one_callback(body: bytes, *, expect_reply: bool, charset: str = "") -> Callback:
    (callback,) = parse_callbacks(body, charset=charset, expect_reply=expect_reply)
    if isinstance(callback, UnreadableCallbackError):
        raise callback
    return callback


def parse_status(fields: Any) -> StatusCallback:
    callback = one_callback(json.dumps(fields).encode(), expect_reply=False)
    assert isinstance(callback, StatusCallback)
    return callback


def parse_reply(fields: Any) -> ReplyCallback:
    callback = one_callback(json.dumps(fields).encode(), expect_reply=True)
    assert isinstance(callback, ReplyCallback)
    return callback


def refusal(body: bytes, *, expect_reply: bool = False) -> str:
    with pytest.raises(UnreadableCallbackError) as caught:
        one_callback(body, expect_reply=expect_reply)
    return caught.value.detail


def storable(callback: Callback) -> None:
    """Every value can be stored as UTF-8, and none is empty."""
    for name, value in callback._asdict().items():
        assert value is None or isinstance(value, bool) or value.encode() or name == "gateway_id"


class TestStatus:
    def test_of_the_api_page(self) -> None:
        assert parse_status({"message_id": "gw-1", "status": "received", "detail": "On the handset"}) == StatusCallback(
            "gw-1", "received", "On the handset", None
        )

    def test_with_every_known_field_and_more(self) -> None:
        fields = {"id": "gw-1", "status": "sent", "detail": "", "reference": "message-1", "new": {"field": [1]}}
        assert parse_status(fields) == StatusCallback("gw-1", "sent", None, "message-1")

    def test_with_nothing_but_an_id(self) -> None:
        assert parse_status({"id": "gw-1"}) == StatusCallback("gw-1")

    def test_message_id_goes_before_id(self) -> None:
        assert parse_status({"id": "callback-7", "message_id": "gw-1", "status": "sent"}).gateway_id == "gw-1"

    NO_IDS: tuple[Any, ...] = (
        "",
        " ",
        None,
        True,
        False,
        0,
        1.5,
        [],
        {},
        "x" * 256,
        "null",
        "None",
        "0",
        "{}",
        "\ud800",
        10**300,
        "\0",
    )

    @staticmethod
    def name_of(value: Any) -> str:
        return "long" if isinstance(value, int) and value > 9 else repr(value)[:12]

    @pytest.mark.parametrize("unusable", NO_IDS, ids=name_of)
    def test_the_other_id_is_taken_if_one_is_unusable(self, unusable: Any) -> None:
        assert parse_status({"message_id": unusable, "id": "gw-1"}).gateway_id == "gw-1"

    def test_a_whole_number_is_an_id(self) -> None:
        """Version 1 of the API has such ids."""
        assert parse_status({"id": 12345678901234567890}).gateway_id == "12345678901234567890"

    @pytest.mark.parametrize(
        ("written", "stored"),
        [
            ("497F6ECA-6276-4993-BFEB-53CBBBBA6F08", "497f6eca-6276-4993-bfeb-53cbbbba6f08"),
            ("497f6eca-6276-4993-bfeb-53cbbbba6f08", "497f6eca-6276-4993-bfeb-53cbbbba6f08"),
            ("GW-1", "GW-1"),
            ("497F6ECA62764993BFEB53CBBBBA6F08", "497F6ECA62764993BFEB53CBBBBA6F08"),
        ],
    )
    def test_a_uuid_is_one_id_in_any_case_and_no_other_text_is(self, written: str, stored: str) -> None:
        assert parse_status({"id": written}).gateway_id == stored
        assert parse_reply({"id": written, "reply_to": written}).reply_to == stored

    def test_a_reference_can_stand_for_the_id(self) -> None:
        assert parse_status({"status": "sent", "reference": "order-1"}) == StatusCallback("", "sent", None, "order-1")

    @pytest.mark.parametrize(
        ("status", "expected"),
        [("RECEIVED", "received"), (" Sent ", "sent"), ("flying", "flying"), ("", None), (" ", None)],
    )
    def test_status_is_normalised(self, status: str, expected: str | None) -> None:
        assert parse_status({"id": "gw-1", "status": status}).status == expected

    @pytest.mark.parametrize(("value", "text"), [(7, "7"), ({"a": 1}, '{"a": 1}'), (["x"], '["x"]'), (True, "true")])
    def test_what_should_be_text_is_kept_as_json(self, value: Any, text: str) -> None:
        callback = parse_status({"id": "gw-1", "status": value, "detail": value, "reference": value})
        assert (callback.status, callback.detail, callback.reference) == (text, text, text)

    def test_long_texts_are_cut(self) -> None:
        callback = parse_status({"id": "gw-1", "status": "s" * 5000, "detail": "d" * 5000, "reference": "r" * 5000})
        assert (len(callback.status or ""), len(callback.detail or ""), len(callback.reference or "")) == (
            255,
            1000,
            255,
        )


class TestReply:
    def test_of_the_api_page(self) -> None:
        fields = {
            "id": "mo-1",
            "source": "61491570006",
            "destination": "0400000000",
            "content": "Yes please",
            "operator": "Optus",
        }
        assert parse_reply(fields) == ReplyCallback(
            "mo-1", source="61491570006", destination="0400000000", content="Yes please", operator="Optus"
        )

    def test_with_every_known_field(self) -> None:
        fields = {"id": "mo-1", "content": "x", "reply_to": "gw-1", "reference": "message-1", "encoding": "utf-8"}
        assert parse_reply(fields) == ReplyCallback(
            "mo-1", content="x", reply_to="gw-1", reference="message-1", encoding="utf-8"
        )

    @pytest.mark.parametrize("none", TestStatus.NO_IDS, ids=TestStatus.name_of)
    def test_reply_to_that_names_no_message_is_none(self, none: Any) -> None:
        assert parse_reply({"id": "mo-1", "content": "x", "reply_to": none}).reply_to is None

    def test_id_goes_before_message_id(self) -> None:
        assert parse_reply({"id": "mo-1", "message_id": "gw-1", "content": "x"}).gateway_id == "mo-1"

    @pytest.mark.parametrize("encoding", ["base64", "BASE64"])
    def test_base64_is_decoded(self, encoding: str) -> None:
        content = base64.b64encode("Grüße 😀".encode()).decode()
        reply = parse_reply({"id": "mo-1", "content": content, "encoding": encoding})
        assert (reply.content, reply.decoded, reply.encoding) == ("Grüße 😀", True, encoding)

    @pytest.mark.parametrize(
        "content", ["not base64!", "abc", base64.b64encode(b"\xff\xfe\x00").decode(), "R3LDvMOfZQ", "R3J1ZSE=\n"]
    )
    def test_base64_that_is_none_is_kept_as_it_came(self, content: str) -> None:
        reply = parse_reply({"id": "mo-1", "content": content, "encoding": "base64"})
        assert (reply.content, reply.decoded) == (content, False)

    @pytest.mark.parametrize("encoding", [None, "", "utf-8", "gsm"])
    def test_other_encodings_are_kept_as_they_came(self, encoding: str | None) -> None:
        reply = parse_reply({"id": "mo-1", "content": "R3JpZA==", "encoding": encoding})
        assert (reply.content, reply.decoded, reply.encoding) == ("R3JpZA==", False, encoding or None)

    def test_content_is_never_cut(self) -> None:
        assert parse_reply({"id": "mo-1", "content": "x" * 60_000}).content == "x" * 60_000

    @pytest.mark.parametrize(
        ("source", "handset"),
        [("61491570006", HANDSET), (" 0491 570 006 ", HANDSET), ("OptusInfo", "OptusInfo"), ("  ", None), (None, None)],
    )
    def test_handset_has_the_form_of_our_destinations_and_source_is_as_it_came(
        self, source: str | None, handset: str | None
    ) -> None:
        reply = parse_reply({"id": "mo-1", "content": "x", "source": source})
        assert (reply.handset, reply.source) == (handset, source or None)


class TestWhichOfTheTwo:
    @pytest.mark.parametrize("expect_reply", [True, False])
    def test_is_told_by_the_fields(self, expect_reply: bool) -> None:
        status = one_callback(b'{"id": "1", "status": "sent"}', expect_reply=expect_reply)
        reply = one_callback(b'{"id": "1", "content": "hi"}', expect_reply=expect_reply)
        nulls = one_callback(b'{"id": "1", "content": null, "status": "sent"}', expect_reply=expect_reply)
        assert isinstance(status, StatusCallback)
        assert isinstance(reply, ReplyCallback)
        assert isinstance(nulls, StatusCallback)

    @pytest.mark.parametrize("body", [b'{"id": "1"}', b'{"id": "1", "status": "sent", "content": "hi"}'])
    def test_is_told_by_the_url_otherwise(self, body: bytes) -> None:
        assert isinstance(one_callback(body, expect_reply=True), ReplyCallback)
        assert isinstance(one_callback(body, expect_reply=False), StatusCallback)


HOSTILE = {
    "half a surrogate pair": r'"\ud83d"',
    "a long number": "1" * 4400,
    "a large number": "1e999",
    "no number": "NaN",
    "too deep": "[" * 5000 + "]" * 5000,
    "deep objects": '{"a":' * 5000 + "1" + "}" * 5000,
    "brackets in text": '["[[[[", "]]", {"\\\\": "{{{\\""}, [' + "[" * 90 + "1" + "]" * 90 + "]]",
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
class TestWhatNoTableCanHold:
    """Such a value loses no callback, in an ignored field or in a stored one."""

    @pytest.mark.parametrize("name", ["ignored", "detail", "reference", "operator", "reply_to"])
    def test_in_one_field_leaves_the_others(self, value: str, name: str) -> None:
        body = f'{{"{name}": {value}, "id": "gw-1", "status": "sent"}}'.encode()
        status = one_callback(body, expect_reply=False)
        assert isinstance(status, StatusCallback)
        assert (status.gateway_id, status.status) == ("gw-1", "sent")
        storable(status)

    def test_in_the_text_of_a_reply_is_replaced(self, value: str) -> None:
        reply = one_callback(f'{{"id": "mo-1", "content": {value}}}'.encode(), expect_reply=True)
        assert isinstance(reply, ReplyCallback)
        assert reply.content
        storable(reply)


def test_only_the_half_character_of_a_text_is_replaced() -> None:
    reply = one_callback(rb'{"id": "mo-1", "content": "Yes \ud83d\ude00 \ud83d!"}', expect_reply=True)
    assert isinstance(reply, ReplyCallback)
    assert reply.content == "Yes \U0001f600 \ufffd!"


class TestEncoding:
    TEXT = "Café ä£ 😀"
    CODECS = frozenset(module.name for module in pkgutil.iter_modules(encodings.__path__))

    @pytest.mark.parametrize(
        ("charset", "encoding"),
        [
            ("", "utf-8"), ("", "utf-8-sig"), ("", "utf-16"), ("", "utf-16-be"), ("", "utf-32-le"),
            ("utf-16", "utf-16-be"), ("UTF-8", "utf-8-sig"), ("utf-16le", "utf-16-le"), ("us-ascii", "utf-8"),
            ("no-such", "utf-8"), ("rot13", "utf-8"), ("\0", "utf-8"),
        ],
    )  # fmt: skip
    def test_is_the_declared_one_else_unicode(self, charset: str, encoding: str) -> None:
        body = json.dumps({"id": "mo-1", "content": self.TEXT}, ensure_ascii=False).encode(encoding)
        assert one_callback(body, charset=charset, expect_reply=True) == ReplyCallback("mo-1", content=self.TEXT)

    @pytest.mark.parametrize("charset", ["iso-8859-1", "ISO-8859-15", "windows-1252"])
    def test_of_eight_bits_must_be_declared(self, charset: str) -> None:
        body = json.dumps({"id": "mo-1", "content": "Café ä"}, ensure_ascii=False).encode(charset)
        assert one_callback(body, charset=charset, expect_reply=True) == ReplyCallback("mo-1", content="Café ä")
        with pytest.raises(UnreadableCallbackError, match="UTF-8"):
            one_callback(body, expect_reply=True)

    @pytest.mark.parametrize("charset", sorted(CODECS - {"shift_jis_2004", "shift_jisx0213"}))  # there \ is a yen sign
    def test_no_codec_reads_more_than_characters(self, charset: str) -> None:
        body = rb'{"id": "mo-1", "content": "\u005cn .xn--caf-dma."}'
        reply = one_callback(body, charset=charset, expect_reply=True)
        assert reply == ReplyCallback("mo-1", content=r"\n .xn--caf-dma.")
        with pytest.raises(UnreadableCallbackError):
            one_callback(body + b"-", charset=charset, expect_reply=True)

    def test_of_an_ignored_field_does_not_matter(self) -> None:
        body = '{"id": "gw-1", "status": "sent", "ignored": "Café"}'.encode("latin-1")
        assert one_callback(body, expect_reply=False) == StatusCallback("gw-1", "sent")


class TestArray:
    def test_each_element_is_read_by_itself(self) -> None:
        nested = '[{"id": "gw-2"}]'
        body = (
            f'[{{"id": "gw-1", "status": "sent"}}, 7, {{"id": "mo-1", "content": "Yes"}}, {{"status": "x"}}, {nested}]'
        )
        status, number, reply, nameless, array = parse_callbacks(body.encode(), expect_reply=False)
        assert (status, reply) == (StatusCallback("gw-1", "sent"), ReplyCallback("mo-1", content="Yes"))
        assert all(isinstance(each, UnreadableCallbackError) for each in (number, nameless, array))

    def test_undecodable_bytes_cost_only_their_element(self) -> None:
        body = '[{"id": "mo-1", "content": "Café"}, {"id": "gw-1", "status": "sent"}]'.encode("latin-1")
        reply, status = parse_callbacks(body, expect_reply=False)
        assert isinstance(reply, UnreadableCallbackError)
        assert status == StatusCallback("gw-1", "sent")


@pytest.mark.parametrize("expect_reply", [True, False])
class TestUnreadable:
    @pytest.mark.parametrize(
        "body",
        [
            b"", b" ", b"{", b"id=1&status=sent", b"<xml/>", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000,
            b'"' * 60_000 + b"[" * 100, b"]" * 100 + b"[" * 100,
            gzip.compress(b'{"id": "1", "status": "sent"}', mtime=0),
        ],
        ids=range(11),
    )  # fmt: skip
    def test_is_what_is_no_json(self, body: bytes, expect_reply: bool) -> None:
        assert "JSON" in refusal(body, expect_reply=expect_reply)

    @pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"1", b"true", b'[[{"id": "1"}]]', b"1" * 5000])
    def test_is_what_is_no_object(self, body: bytes, expect_reply: bool) -> None:
        assert "JSON object" in refusal(body, expect_reply=expect_reply)

    @pytest.mark.parametrize("identity", [{}, {"id": ""}, {"id": None}, {"id": True}, {"id": {}}, {"ID": "1"}])
    def test_is_what_has_no_id(self, identity: dict[str, Any], expect_reply: bool) -> None:
        detail = refusal(json.dumps(identity | {"detail": "c4n4ry"}).encode(), expect_reply=expect_reply)
        assert "message_id" in detail
        assert "c4n4ry" not in detail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
field_names = st.sampled_from(
    ["id", "message_id", "status", "detail", "reference", "reply_to", "content", "encoding", "source", "operator", "x"]
)


def callback_or_refusal(body: bytes, expect_reply: bool) -> StatusCallback | ReplyCallback | str:
    try:
        return one_callback(body, expect_reply=expect_reply)
    except UnreadableCallbackError as error:
        return error.detail


@given(st.dictionaries(field_names, json_values | st.just("base64"), max_size=8), st.booleans())
@example({"id": "1", "detail": float("inf")}, False)
def test_any_object_is_a_callback_that_can_be_stored_or_unreadable(fields: dict[str, Any], expect_reply: bool) -> None:
    result = callback_or_refusal(json.dumps(fields).encode(), expect_reply)
    if isinstance(result, str):
        assert result
    else:
        assert 0 < len(result.gateway_id or result.reference or "") <= 255
        storable(result)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_callback_or_unreadable(body: bytes, expect_reply: bool) -> None:
    assert callback_or_refusal(body, expect_reply)
