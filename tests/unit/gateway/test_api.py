"""The classification: every row, their order, and that nothing is called "not sent" or "sent" without its proof."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optus_sms.gateway.api import CLASSIFICATION, Gateway, Outcome, PostResult, Stop, classify, retry_after_seconds
from optus_sms.gateway.credentials import GatewayCredentials
from optus_sms.gateway.transport import Exchange
from tests.support.builders import NOW

NO_BODIES = (None, b"", b"{}", b"null", b"[]", b"<html>", b'{"id": 1', b'"send_failed"', b"\xff")
WITH_ID = b'{"id": "gw-1", "status": "accepted"}'
REJECTED_WORDS = ("invalid_json", "missing_attrib", "invalid_attrib")
UUID_OF_NONE = "00000000-0000-0000-0000-000000000000"
UUID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
WORDS = (None, "send_failed", *REJECTED_WORDS, "something_else")
# docs/guarantees.md, Sending; gateway-rest-v2.txt, POST /messages; RFC 9110, 15.4, for the redirects.
NOT_SENT = {429: "throttled"} | dict.fromkeys([404, 405, 415, 301, 307, 308], "misconfigured")
REFUSED = {400: "rejected", 413: "rejected", 422: "rejected", 401: "credentials_refused", 403: "credentials_refused"}
HTML = b"<html><h1>Bad Request</h1></html>"
FOREIGN = (None, b"", HTML, b"{}", b"[]", b'{"message": "blocked by policy"}', b'{"error": {"code": 400}}', b"null")
SENTENCES = {
    "Could not queue message due to an unknown error": Outcome.NOT_SENT,
    "Could not queue message.": Outcome.NOT_SENT,
    "Invalid JSON data in the request body": Outcome.REJECTED,
    "Missing a required attribute": Outcome.REJECTED,
    "Invalid attribute value": Outcome.REJECTED,
    "Invalid scheduled timestamp (must not be in the past)": Outcome.REJECTED,
}


def answered(status: int, body: bytes | None = None, **more: Any) -> PostResult:
    return classify(Exchange(handed_over=True, status=status, body=body, **more), now=NOW)


def body_of(word: str | None, gateway_id: Any = None, field: str = "error") -> bytes:
    return json.dumps({field: word, "id": gateway_id}).encode()


def expected(status: int, word: str | None, gateway_id: str | None) -> tuple[Outcome, str]:
    """Return the outcome by the promise's plain rules, without the table's order."""
    says_not_queued = word in ("send_failed", *REJECTED_WORDS)
    if status in (200, 201, 202) and gateway_id is None and says_not_queued:
        return Outcome.UNKNOWN, "contradictory"
    if status == 202 or (status in (200, 201) and gateway_id is not None):
        return Outcome.ACCEPTED, "accepted"
    if word == "send_failed":
        return Outcome.NOT_SENT, "send_failed"
    if says_not_queued:
        return Outcome.REJECTED, "rejected"
    if status in REFUSED:
        return Outcome.NOT_SENT, "refused_in_front"
    return (Outcome.NOT_SENT, NOT_SENT[status]) if status in NOT_SENT else (Outcome.UNKNOWN, "server_error")


@pytest.mark.parametrize(("status", "reason"), REFUSED.items())
def test_in_its_own_envelope_the_api_refuses(status: int, reason: str) -> None:
    result = answered(status, json.dumps({"message": "error", "statusCode": status, "error": "why"}).encode())
    assert (result.outcome is Outcome.REJECTED, result.reason) == (reason == "rejected", reason)


@given(st.integers(100, 599), st.sampled_from(FOREIGN) | st.binary(max_size=60))
def test_no_foreign_body_rejects_a_message(status: int, body: bytes | None) -> None:
    assert answered(status, body).outcome is not Outcome.REJECTED


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_what_a_proxy_refuses_was_certainly_not_sent(status: int) -> None:
    results = {(answered(status, body).outcome, answered(status, body).stop) for body in FOREIGN}
    assert results == {(Outcome.NOT_SENT, Stop.REFUSED_IN_FRONT)}


@pytest.mark.parametrize("body", [None, b"", b'{"message": "Unauthorized"}'])
def test_a_401_of_the_authorizer_refuses_the_credentials(body: bytes | None) -> None:
    assert answered(401, body).stop is Stop.CREDENTIALS_REFUSED
    assert answered(401, HTML).stop is Stop.REFUSED_IN_FRONT


@pytest.mark.parametrize("status", range(300, 400))
def test_only_a_redirect_that_repeats_the_request_proves_that_it_was_not_processed(status: int) -> None:
    assert (answered(status).outcome is Outcome.NOT_SENT) == (status in (301, 307, 308))


@pytest.mark.parametrize(("sentence", "outcome"), SENTENCES.items())
@pytest.mark.parametrize("field", ["error", "message", "error-desc"])
def test_the_documented_sentences_count_as_the_codes_do(sentence: str, outcome: Outcome, field: str) -> None:
    assert answered(500, body_of(sentence, field=field)).outcome is outcome


def test_the_success_of_version_1_is_an_acceptance() -> None:
    result = answered(201, b"[1234567890123]")
    assert (result.outcome, result.gateway_id) == (Outcome.ACCEPTED, "1234567890123")
    without_id = (b"[]", b"[1, 2]", b"[null]", b"[0]")
    assert [body for body in without_id if answered(201, body).outcome is Outcome.ACCEPTED] == []


@pytest.mark.parametrize("status", ["blocked", "received", None, ""])
def test_a_202_has_the_status_of_the_message(status: str | None) -> None:
    result = answered(202, json.dumps({"id": "gw-1", "status": status, "detail": "why"}).encode())
    assert (result.message_status, result.message_detail) == (status or None, "why")


def test_every_status_with_every_word() -> None:
    wrong = []
    for status, word, gateway_id in product(range(100, 600), WORDS, (None, "gw-1")):
        outcome = answered(status, body_of(word, gateway_id))
        proved, reason = expected(status, word, gateway_id)
        kept_id = gateway_id if proved is Outcome.ACCEPTED else None
        if (outcome.outcome, outcome.reason, outcome.status, outcome.gateway_id) != (proved, reason, status, kept_id):
            wrong.append((status, word, gateway_id, outcome))
    assert wrong == []


def test_without_a_byte_handed_over_nothing_was_sent() -> None:
    expected = (Outcome.NOT_SENT, "connection_refused", Stop.UNREACHABLE)
    wrong = []
    for status, body in product([None, *range(100, 600)], [*NO_BODIES, WITH_ID, body_of("send_failed")]):
        answer = Exchange(handed_over=False, status=status, body=body, failure="connection_refused")
        outcome = classify(answer, now=NOW)
        if (outcome.outcome, outcome.reason, outcome.stop) != expected:
            wrong.append((status, body, outcome))
    assert wrong == []


def test_too_late_is_not_sent_and_stops_nobody() -> None:
    outcome = classify(Exchange(handed_over=False, failure="too_late"), now=NOW)
    assert (outcome.outcome, outcome.reason, outcome.stop) == (Outcome.NOT_SENT, "too_late", None)


@pytest.mark.parametrize(
    "failure", ["timed_out", "closed_without_response", "connection_lost", "not_http", "too_late", None]
)
def test_with_a_byte_handed_over_and_no_status_it_is_unknown(failure: str | None) -> None:
    outcome = classify(Exchange(handed_over=True, failure=failure), now=NOW)
    assert (outcome.outcome, outcome.reason, outcome.stop) == (Outcome.UNKNOWN, failure or "no_response", None)


@pytest.mark.parametrize("body", NO_BODIES)
def test_202_is_accepted_whatever_its_body(body: bytes | None) -> None:
    outcome = answered(202, body, failure=None if body else "timed_out")
    assert (outcome.outcome, outcome.reason, outcome.gateway_id) == (Outcome.ACCEPTED, "accepted", None)


@pytest.mark.parametrize("status", [200, 201])
def test_200_needs_an_id(status: int) -> None:
    assert [body for body in NO_BODIES if answered(status, body).outcome is not Outcome.UNKNOWN] == []
    assert answered(status, WITH_ID).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("body", NO_BODIES)
def test_a_server_error_without_the_gateways_words_is_unknown(body: bytes | None) -> None:
    assert answered(500, body).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("field", ["error", "code", "message"])
@pytest.mark.parametrize("word", ["send_failed", " SEND_FAILED "])
def test_the_words_count_in_any_documented_field(field: str, word: str) -> None:
    assert answered(500, body_of(word, field=field)).outcome is Outcome.NOT_SENT


@pytest.mark.parametrize(
    "text", ["send_failed: try later", "not send_failed", ["send_failed"], {"code": "send_failed"}]
)
def test_the_words_count_only_by_themselves(text: Any) -> None:
    assert answered(500, json.dumps({"error": text}).encode()).outcome is Outcome.UNKNOWN


def test_rejected_wins_if_a_body_has_both_words() -> None:
    body = json.dumps({"error": "send_failed", "code": "invalid_attrib"}).encode()
    assert answered(500, body).outcome is Outcome.REJECTED


@pytest.mark.parametrize("value", [r'"\ud83d"', "1" * 4400, "[" * 5000 + "]" * 5000], ids=range(3))
@pytest.mark.parametrize("name", ["ignored", "status", "detail"])
def test_what_no_table_can_hold_costs_no_id(name: str, value: str) -> None:
    outcome = answered(202, f'{{"{name}": {value}, "id": "gw-1"}}'.encode())
    assert (outcome.outcome, outcome.gateway_id) == (Outcome.ACCEPTED, "gw-1")
    assert f"{outcome.message_status}{outcome.message_detail}".encode()


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [("gw-1", "gw-1"), (" gw-1 ", "gw-1"), (UUID.upper(), UUID), (77, "77"), ("x" * 255, "x" * 255)],
)
def test_ids(given_id: Any, kept: str) -> None:
    assert answered(202, json.dumps({"id": given_id}).encode()).gateway_id == kept


@pytest.mark.parametrize(
    "given_id", ["", " ", "gw\n1", "x" * 256, None, True, 1.5, [], {}, "\u200b", 0, "0", "null", "None", UUID_OF_NONE]
)
def test_ids_that_are_none(given_id: Any) -> None:
    outcome = answered(202, json.dumps({"id": given_id}).encode())
    assert (outcome.outcome, outcome.gateway_id) == (Outcome.ACCEPTED, None)
    assert answered(200, json.dumps({"id": given_id}).encode()).outcome is Outcome.UNKNOWN


def test_stops_are_those_that_concern_everybody() -> None:
    stops = {row.reason: row.stop for row in CLASSIFICATION if row.stop}
    assert stops == {
        "unreachable": Stop.UNREACHABLE,
        "client_certificate_required": Stop.UNREACHABLE,
        "credentials_refused": Stop.CREDENTIALS_REFUSED,
        "throttled": Stop.THROTTLED,
        "misconfigured": Stop.MISCONFIGURED,
        "refused_in_front": Stop.REFUSED_IN_FRONT,
    }
    assert all(row.outcome is Outcome.NOT_SENT for row in CLASSIFICATION if row.stop)


# A response for each row for which that row is the first that applies.
REACHES = [
    Exchange(handed_over=False, failure="too_late"),
    Exchange(handed_over=False, failure="not_allowed"),
    Exchange(handed_over=False),
    Exchange(handed_over=True, failure="client_certificate_required"),
    Exchange(handed_over=True, status=202, body=body_of("send_failed")),
    Exchange(handed_over=True, status=202),
    Exchange(handed_over=True, status=201, body=WITH_ID),
    Exchange(handed_over=True, status=500, body=body_of("invalid_json")),
    Exchange(handed_over=True, status=500, body=body_of("send_failed")),
    Exchange(handed_over=True, status=422, body=b'{"statusCode": 422}'),
    Exchange(handed_over=True, status=403, body=b'{"statusCode": 403}'),
    Exchange(handed_over=True, status=403, body=HTML),
    Exchange(handed_over=True, status=429),
    Exchange(handed_over=True, status=301),
    Exchange(handed_over=True, status=504),
    Exchange(handed_over=True),
]


@pytest.mark.parametrize("index", range(len(CLASSIFICATION)))
def test_every_row_decides_something(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(REACHES) == len(CLASSIFICATION)
    outcome = classify(REACHES[index], now=NOW)
    row = CLASSIFICATION[index]
    assert (outcome.reason, outcome.outcome, outcome.stop) == (row.reason, row.outcome, row.stop)
    monkeypatch.setattr("optus_sms.gateway.api.CLASSIFICATION", CLASSIFICATION[:index])
    with pytest.raises(StopIteration):  # no row above applies, so this one decided
        classify(REACHES[index], now=NOW)
    assert row.why


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["send_failed", "g-1"]),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "error", "code", "message", "x"]), values, max_size=4)
    ),
)
bodies = st.one_of(
    st.none(),
    st.binary(max_size=100),
    st.sampled_from([WITH_ID, *map(body_of, WORDS)]),
    json_values.map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=300)
@given(
    st.builds(
        Exchange,
        handed_over=st.booleans(),
        status=st.none() | st.integers(100, 999),
        body=bodies,
        headers=st.fixed_dictionaries(
            {},
            optional={
                "retry-after": st.text(max_size=40)
                | st.from_regex(r"\A(Mon, )?\d{1,20} Jan \d{1,5} \d\d:\d\d:\d\d .{0,6}\Z"),
                "date": st.text(max_size=200),
            },
        ),
        failure=st.none() | st.sampled_from(["timed_out", "too_late", "not_http"]),
    )
)
def test_certain_outcomes_have_their_proof(answer: Exchange) -> None:
    outcome = classify(answer, now=NOW)
    if outcome.outcome is Outcome.ACCEPTED:
        assert answer.handed_over
        assert answer.status in (200, 201, 202)
    if not answer.handed_over:
        assert outcome.outcome is Outcome.NOT_SENT
    if outcome.outcome in (Outcome.NOT_SENT, Outcome.REJECTED):
        own_words = any(word and word.encode() in (answer.body or b"") for word in WORDS[:-1])
        assert not answer.handed_over or answer.status in REFUSED | NOT_SENT.keys() or own_words
    assert outcome.retry_after_seconds is None or 0 <= outcome.retry_after_seconds <= 43_200


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            (None, None),
            ("0", 0),
            (" 120 ", 120),
            ("999999999", 43_200),
            ("1" * 400, 43_200),
            ("Thu, 01 Jan 2026 00:01:00 GMT", 60),
            ("Wed, 31 Dec 2025 23:59:00 GMT", 0),
            ("Fri, 01 Jan 2027 00:00:00 GMT", 43_200),
            ("Thu, 01 Jan 2026 11:01:00 +1100", 60),
        ],
    )
    def test_in_either_form(self, header: str | None, seconds: float | None) -> None:
        assert retry_after_seconds(header, now=NOW) == seconds

    @pytest.mark.parametrize(
        "header", ["", "soon", "-5", "1.5", "٣", "Thu, 99 Jan 2026", "Thu, 01 Jan 10000 00:00:00 GMT"]
    )
    def test_that_makes_no_sense_is_ignored(self, header: str) -> None:
        assert retry_after_seconds(header, now=NOW) is None

    @given(st.text(max_size=60))
    def test_any_text_is_seconds_or_nothing(self, header: str) -> None:
        seconds = retry_after_seconds(header, now=NOW)
        assert seconds is None or 0 <= seconds <= 43_200


class TestErrorText:
    def test_is_what_the_documented_fields_say(self) -> None:
        body = json.dumps({"error": "invalid_attrib", "message": "Bad mask", "other": "c4n4ry"}).encode()
        assert answered(400, body).detail == "invalid_attrib: Bad mask"

    def test_has_no_phone_number_and_no_control_characters(self) -> None:
        body = json.dumps({"message": "+61491570006\n is\u0000 not a handset"}).encode()
        assert answered(400, body).detail == "… is not a handset"

    def test_is_short(self) -> None:
        assert len(answered(400, json.dumps({"message": "x" * 9999}).encode()).detail) == 600

    @pytest.mark.parametrize("body", NO_BODIES)
    def test_may_be_empty(self, body: bytes | None) -> None:
        assert answered(400, body).detail == ""


class RecordingTransport:
    """Records the transport's requests."""

    def __init__(self) -> None:
        self.exchanges: list[tuple[str, str, dict[str, Any]]] = []

    def exchange(self, method: str, url: str, **more: Any) -> Exchange:
        self.exchanges.append((method, url, more))
        return Exchange(handed_over=True, status=202, body=WITH_ID, seconds=0.5)


class TestGateway:
    @staticmethod
    def gateway(transport: Any) -> Gateway:
        return Gateway(transport, "https://gateway.example/v2", timeout_seconds=10.0, now=lambda: NOW)

    def test_posts_once_with_basic_credentials(self) -> None:
        transport = RecordingTransport()
        outcome = self.gateway(transport).post_message(
            {"destination": "+61491570006", "content": "Grüße"}, GatewayCredentials("app", "pässword"), start_within=3.5
        )
        ((method, url, more),) = transport.exchanges
        assert (method, url) == ("POST", "https://gateway.example/v2/messages")
        assert more["headers"] == {"Authorization": "Basic YXBwOnDDpHNzd29yZA=="}
        assert json.loads(more["body"]) == {"destination": "+61491570006", "content": "Grüße"}
        assert (more["seconds"], more["start_within"]) == (10.0, 3.5)
        assert (outcome.outcome, outcome.gateway_id, outcome.seconds) == (Outcome.ACCEPTED, "gw-1", 0.5)

    def test_asks_for_health_without_credentials(self) -> None:
        transport = RecordingTransport()
        assert self.gateway(transport).get_health().status == 202
        ((method, url, more),) = transport.exchanges
        assert (method, url) == ("GET", "https://gateway.example/v2/healthz")
        assert not more.get("headers")
