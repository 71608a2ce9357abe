"""Callbacks need valid credentials, whatever the request, and unauthenticated callers cost nothing."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st

from optus_sms.gateway import credentials
from optus_sms.gateway.credentials import CallbackSecret
from tests.support.builders import CALLBACK_PASSWORD, CALLBACK_USERNAME, basic, reply_event, status_event
from tests.support.callback_stack import Answer, CallbackStack

SECRET = "secretsmanager.GetSecretValue"
BODY = {"id": "497f6eca-6276-4993-bfeb-53cbbbba6f08", "status": "sent"}


@pytest.fixture(scope="module")
def shared_stack() -> Iterator[CallbackStack]:
    with CallbackStack() as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: CallbackStack) -> Iterator[CallbackStack]:
    """A stack with a warm execution environment; the secret is restored afterwards."""
    before = shared_stack.secret_versions()
    yield shared_stack.clean()
    shared_stack.mend()
    if shared_stack.secret_versions() != before:
        for _ in range(2):
            shared_stack.rotate(CALLBACK_USERNAME, CALLBACK_PASSWORD)
    shared_stack.clock.advance(1_000)  # so that the secret is read again


def attempt(stack: CallbackStack, authorization: str | None) -> Answer:
    return stack.handle(status_event(BODY, authorization=authorization))


def assert_refused(answer: Answer) -> None:
    assert (answer.status, answer.body) == (401, '{"message": "Unauthorized"}')
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="callbacks"'
    assert answer.metrics == {"CallbacksRefused": 1}


def encoded(credential: str | bytes) -> str:
    return base64.b64encode(credential if isinstance(credential, bytes) else credential.encode()).decode()


GOOD = f"{CALLBACK_USERNAME}:{CALLBACK_PASSWORD}"
WRONG: dict[str, str | None] = {
    "none": None,
    "empty": "",
    "blank": " ",
    "scheme only": "Basic",
    "scheme and blank": "Basic ",
    "another scheme": f"Bearer {encoded(GOOD)}",
    "no scheme": encoded(GOOD),
    "not encoded": f"Basic {GOOD}",
    "wrong password": basic(password="wrong"),
    "wrong user": basic(username="wrong"),
    "upper-case password": basic(password=CALLBACK_PASSWORD.upper()),
    "password cut": f"Basic {encoded(GOOD[:-1])}",
    "password and more": f"Basic {encoded(GOOD + 'x')}",
    "no colon": f"Basic {encoded(CALLBACK_USERNAME + CALLBACK_PASSWORD)}",
    "empty credentials": f"Basic {encoded(':')}",
    "lenient base64": f"Basic {encoded(GOOD)[:4]}!!{encoded(GOOD)[4:]}",
    "url-safe base64": "Basic -_-_",
    "padding cut": f"Basic {encoded(GOOD).rstrip('=')}x",
    "not UTF-8": f"Basic {encoded(bytes([0xFF, 0xFE, 0x3A, 0x80]))}",
    "not ASCII": "Basic gåteway:påssword",
    "half a character": "Basic \ud83d",
    "zero bytes": f"Basic {encoded(bytes(20))}",
    "a line end": f"Basic {encoded(GOOD)}\r\nX: 1",
    "two of them": f"{basic()}, {basic()}",
    "very long": f"Basic {encoded('x' * 100_000)}",
    "digest": 'Digest username="gateway", realm="callbacks"',
}


@pytest.mark.parametrize("authorization", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("make", [status_event, reply_event], ids=["status", "reply"])
def test_wrong_credentials_are_all_refused_alike(
    stack: CallbackStack, make: Callable[..., dict[str, Any]], authorization: str | None
) -> None:
    answer, calls = stack.counted(make(BODY, authorization=authorization))
    assert_refused(answer)
    assert set(calls) <= {SECRET}
    assert stack.everything() == ([], [])


@pytest.mark.parametrize(
    "authorization",
    [
        basic(),
        basic().replace("Basic", "basic"),
        basic().replace("Basic", "BASIC"),
        basic().replace(" ", "   "),
        f"  {basic()}  ",
    ],
)
def test_right_credentials_in_every_spelling_of_the_standard(stack: CallbackStack, authorization: str) -> None:
    assert attempt(stack, authorization).status == 200


@pytest.mark.parametrize("name", ["authorization", "AUTHORIZATION", "AuThOrIzAtIoN"])
def test_the_headers_name_has_any_case(stack: CallbackStack, name: str) -> None:
    event = status_event(BODY, authorization=None)
    event["headers"][name] = basic()
    assert stack.handle(event).status == 200


@pytest.mark.parametrize("headers", [None, {}, [], {"Authorization": None}, {"Authorization": ["Basic x"]}], ids=repr)
def test_headers_that_are_none_are_no_credentials(stack: CallbackStack, headers: object) -> None:
    assert_refused(stack.handle(status_event(BODY) | {"headers": headers}))


def test_a_body_too_large_is_not_even_measured_for_strangers(stack: CallbackStack) -> None:
    assert_refused(stack.handle(status_event("x" * 100_000, authorization=basic(password="wrong"))))


def test_any_user_and_password_that_the_secret_holds_will_do(stack: CallbackStack) -> None:
    for username, password in [("gåteway", "pass:word: ½ 👋"), ("g", "p"), ("us er", " ")]:
        stack.rotate(username, password)
        stack.new_execution_environment()
        assert attempt(stack, basic(username, password)).status == 200
        assert_refused(attempt(stack, basic(username, password + "x")))


# ------------------------------------------------------------------------------------------------------ constant time


def test_wrong_credentials_are_compared_as_bytes_with_every_version_and_without_an_early_exit(
    stack: CallbackStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def spy(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return hmac.compare_digest(left, right)

    stack.rotate(CALLBACK_USERNAME, "the-next-password")
    stack.new_execution_environment()
    monkeypatch.setattr(credentials, "hmac", type("Spy", (), {"compare_digest": staticmethod(spy)}))
    for authorization in (v for v in WRONG.values() if v is not None):
        compared.clear()
        assert_refused(attempt(stack, authorization))
        # Twice: before and after the check for a rotated secret.
        assert len(compared) == 4, authorization
        assert all(type(side) is bytes and len(side) == 32 for pair in compared for side in pair)
    for password in (CALLBACK_PASSWORD, "the-next-password"):
        compared.clear()
        assert attempt(stack, basic(password=password)).status == 200
        assert len(compared) == 2


# ----------------------------------------------------------------------------------------------------------- rotation


def test_both_versions_are_valid_until_the_next_rotation(stack: CallbackStack) -> None:
    first, second, third = (basic(password=password) for password in (CALLBACK_PASSWORD, "second", "third"))
    assert attempt(stack, first).status == 200
    assert_refused(attempt(stack, second))

    stack.rotate(CALLBACK_USERNAME, "second")
    stack.clock.advance(CallbackSecret.REFRESH_SECONDS)
    assert attempt(stack, second).status == 200
    assert attempt(stack, first).status == 200

    stack.rotate(CALLBACK_USERNAME, "third")
    stack.clock.advance(CallbackSecret.KEEP_SECONDS)
    assert attempt(stack, third).status == 200
    assert attempt(stack, second).status == 200
    assert_refused(attempt(stack, first))


def test_the_same_secret_put_twice_ends_the_old_one(stack: CallbackStack) -> None:
    for _ in range(2):
        stack.rotate(CALLBACK_USERNAME, "second")
    stack.clock.advance(CallbackSecret.KEEP_SECONDS)
    assert_refused(attempt(stack, basic()))
    assert attempt(stack, basic(password="second")).status == 200


def test_a_new_password_is_seen_within_a_minute_though_strangers_keep_trying(stack: CallbackStack) -> None:
    assert_refused(attempt(stack, basic(password="stranger")))
    stack.rotate(CALLBACK_USERNAME, "second")
    for _ in range(6):
        stack.clock.advance(10)
        attempt(stack, basic(password="stranger"))
    assert attempt(stack, basic(password="second")).status == 200


@pytest.mark.parametrize(
    "broken", ["{", "[]", "null", '"text"', "{}", '{"username": "gateway"}', '{"username": 1, "password": 2}']
)
def test_a_broken_new_version_leaves_the_old_one_valid(stack: CallbackStack, broken: str) -> None:
    stack.secrets_manager.put_secret_value(SecretId=stack.secret_id, SecretString=broken)
    stack.new_execution_environment()
    assert attempt(stack, basic()).status == 200
    assert attempt(stack, basic(password="perhaps the new one")).status == 503


def test_a_secret_without_any_usable_version_lets_nobody_in_and_loses_nothing(stack: CallbackStack) -> None:
    for _ in range(2):
        stack.secrets_manager.put_secret_value(SecretId=stack.secret_id, SecretString='{"password": ""}')
    stack.new_execution_environment()
    for authorization in (basic(), basic(username="", password=""), "Basic Og=="):
        answer = attempt(stack, authorization)
        assert (answer.status, answer.metrics) == (503, {"CallbacksNotStored": 1})
        assert [record["error"] for record in answer.log] == ["CredentialsError"]
    assert stack.everything() == ([], [])


# ------------------------------------------------------------------------------- unauthenticated callers and calls to
# Secrets Manager

DOWN: dict[str, Exception] = {
    "unreachable": EndpointConnectionError(endpoint_url="https://secretsmanager"),
    "throttled": ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow"}}, "GetSecretValue"),
    "deleted": ClientError({"Error": {"Code": "InvalidRequestException", "Message": "deleted"}}, "GetSecretValue"),
}


@pytest.mark.parametrize("error", DOWN.values(), ids=DOWN)
def test_while_the_secret_cannot_be_read_what_is_known_still_counts(stack: CallbackStack, error: Exception) -> None:
    stack.fail(SECRET, error=error)
    stack.clock.advance(10_000)
    is_revoked = error is DOWN["deleted"]
    assert attempt(stack, basic()).status == (503 if is_revoked else 200)

    # It can be the password of a rotation, and after a refusal this callback might not come again.
    answer = attempt(stack, basic(password="perhaps-new"))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "60")

    stack.mend()
    stack.clock.advance(CallbackSecret.RETRY_SECONDS)
    assert_refused(attempt(stack, basic(password="perhaps-new")))


@pytest.mark.parametrize("error", DOWN.values(), ids=DOWN)
def test_a_cold_start_without_the_secret_asks_for_another_delivery(stack: CallbackStack, error: Exception) -> None:
    stack.fail(SECRET, error=error)
    stack.new_execution_environment()
    assert attempt(stack, basic()).status == 503
    assert stack.everything() == ([], [])
    stack.mend()
    stack.clock.advance(CallbackSecret.RETRY_SECONDS)
    assert attempt(stack, basic()).status == 200


def test_a_failing_secrets_manager_is_asked_every_five_seconds_at_most(stack: CallbackStack) -> None:
    stack.fail(SECRET, error=DOWN["throttled"])
    stack.new_execution_environment()
    before = len(stack.calls)
    for _ in range(300):  # 30 seconds of unauthenticated requests
        assert attempt(stack, basic(password="wrong")).status == 503
        stack.clock.advance(0.1)
    assert len(stack.calls) - before <= 7


HEADERS = st.one_of(
    st.text(max_size=80),
    st.text(max_size=40).map(lambda text: f"Basic {text}"),
    st.binary(max_size=60).map(lambda raw: f"Basic {base64.b64encode(raw).decode()}"),
    st.text(max_size=40).map(lambda text: f"Basic {encoded(f'{CALLBACK_USERNAME}:{text}'.encode('utf-8', 'replace'))}"),
    st.integers(0, len(encoded(GOOD))).map(lambda cut: f"Basic {encoded(GOOD)[:cut]}").filter(lambda h: h != basic()),
)  # fmt: skip


@given(headers=st.lists(HEADERS, min_size=40, max_size=40))
@settings(max_examples=10)
def test_hundreds_of_strangers_cost_two_calls_a_minute(shared_stack: CallbackStack, headers: list[str]) -> None:
    stack = shared_stack.clean()
    for header in headers:
        assert_refused(attempt(stack, header))
        stack.clock.advance(3)
    # Two minutes: two versions are read at most three times, and nothing else is called.
    assert set(stack.calls) <= {SECRET}
    assert len(stack.calls) <= 6


def test_the_secret_is_read_again_every_five_minutes_and_not_before(stack: CallbackStack) -> None:
    stack.new_execution_environment()
    attempt(stack, basic())
    stack.calls.clear()
    for _ in range(59):
        stack.clock.advance(CallbackSecret.KEEP_SECONDS / 60)
        attempt(stack, basic())
    assert SECRET not in stack.calls
    stack.clock.advance(CallbackSecret.KEEP_SECONDS / 60)
    attempt(stack, basic())
    assert stack.calls.count(SECRET) == 2


def test_the_body_of_a_refusal_depends_on_nothing(stack: CallbackStack) -> None:
    answers = {
        (answer.status, json.dumps(dict(answer.headers), sort_keys=True), answer.body)
        for header in WRONG.values()
        for answer in [attempt(stack, header)]
    }
    assert len(answers) == 1
