"""Any header and body: never HTTP 5xx, no write for unauthenticated callers, no authenticated callback lost.

A few hundred cases in `make test`, the same each time; 12,000 new ones in `make test-deep`, which print their seed.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from optus_sms.model.statuses import STATUS_RANK
from tests.support.builders import CALLBACK_PASSWORD, CALLBACK_USERNAME, HANDSET, api_event, basic
from tests.support.callback_stack import CallbackStack

SEED = int(os.environ.get("FUZZ_SEED") or secrets.randbelow(2**32))
EVENTS = sorted((Path(__file__).parents[2] / "events" / "api").glob("*.json"))
SECRET = "secretsmanager.GetSecretValue"
STORED = {"dynamodb.UpdateItem", "dynamodb.PutItem"}
KEPT = "sqs.SendMessage"

# ----------------------------------------------------------------------------------------------------------- requests

any_text = st.text(st.characters(), max_size=60)  # half characters (lone surrogates) too: an event's JSON can hold them
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
ids = st.uuids().map(str) | st.integers() | st.sampled_from(["1", " 1 ", "", "x" * 255, "x" * 256, "ä" * 255, "\0"])
statuses = st.sampled_from([*STATUS_RANK, *map(str.upper, STATUS_RANK), "teleported", ""])
texts = any_text | st.just("") | st.binary(max_size=40).map(lambda raw: base64.b64encode(raw).decode())
fields = st.fixed_dictionaries(
    {},
    optional={
        "id": ids | any_json,
        "message_id": ids | any_json,
        "status": statuses | any_json,
        "detail": any_json,
        "reference": any_json,
        "source": st.just(HANDSET) | any_json,
        "destination": any_json,
        "content": texts | any_json,
        "operator": any_json,
        "reply_to": ids | any_json,
        "encoding": st.sampled_from(["base64", "BASE64", "gsm"]) | any_json,
        "hello": any_json,
    },
)
examples = st.sampled_from([json.loads(path.read_text(encoding="utf-8"))["body"] or "" for path in EVENTS])
cuts = st.tuples(st.integers(0, 120), st.integers(0, 120))
cut_examples = st.builds(lambda text, cut, more: text[: cut[0]] + more + text[cut[1] :], examples, cuts, any_text)
large = st.builds(
    lambda unit, size: unit * size, st.sampled_from(["x", "ä", "{", "[", '{"id":']), st.integers(1, 70_000)
)
texts_as_body = (
    fields.map(json.dumps)
    | fields.map(lambda value: json.dumps(value, ensure_ascii=False))
    | any_json.map(json.dumps)
    | cut_examples
    | any_text
)
bodies = (
    st.none() | texts_as_body | large | st.binary(max_size=200) | fields.map(lambda value: json.dumps(value).encode())
)
paths = st.sampled_from(["/callbacks/status", "/callbacks/reply"])

GOOD = base64.b64encode(f"{CALLBACK_USERNAME}:{CALLBACK_PASSWORD}".encode()).decode()
headers = (
    st.none()
    | st.text(st.characters(), max_size=80)
    | st.sampled_from(["Basic", "basic", "BASIC ", "Bearer", "Digest", ""]).flatmap(
        lambda scheme: st.text(st.characters(), max_size=60).map(lambda text: f"{scheme} {text}")
    )
    | st.binary(max_size=80).map(lambda raw: "Basic " + base64.b64encode(raw).decode())
    | st.builds(
        lambda a, b, more: f"Basic {GOOD[:a]}{more}{GOOD[b:]}", st.integers(0, 60), st.integers(0, 60), any_text
    )
    | st.text(max_size=30).map(
        lambda word: "Basic " + base64.b64encode(f"{CALLBACK_USERNAME}:{word}".encode()).decode()
    )
    | st.builds(lambda size: "Basic " + "A" * size, st.integers(0, 100_000))
)


def is_valid(header: str | None) -> bool:
    """Return whether the header has the right credentials, by another algorithm than the code's."""
    scheme, _, rest = (header or "").strip().partition(" ")
    return scheme.lower() == "basic" and rest.strip() == GOOD


strangers = headers.filter(lambda header: not is_valid(header))


# --------------------------------------------------------------------------------------------------------------- tests


@pytest.fixture(scope="module")
def shared_stack() -> Iterator[CallbackStack]:
    with CallbackStack() as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: CallbackStack) -> CallbackStack:
    return shared_stack.clean()


def check_authenticated(stack: CallbackStack, decorate: Callable[[Any], Any]) -> None:
    numbers = itertools.count(1)

    @decorate
    @given(path=paths, body=bodies)
    def check(path: str, body: str | bytes | None) -> None:
        if next(numbers) % 50 == 0:
            stack.clean()  # moto gets slow with hundreds of messages in a queue
        answer, calls = stack.counted(api_event(path, body, authorization=basic()))
        written = [call for call in calls if call != SECRET]
        match (answer.status, answer.body):
            case (200, '{"message": "Stored"}'):
                assert STORED & set(written)
                assert KEPT not in written
            case (200, '{"message": "Kept for an operator"}'):
                assert written[-1] == KEPT
            case (413, '{"message": "Too large"}'):
                raw = body if isinstance(body, bytes) else (body or "").encode("utf-8", "surrogatepass")
                assert len(raw) > 65_536
                assert written == []
            case unexpected:
                pytest.fail(f"answered {unexpected}")

    check()


def check_strangers(stack: CallbackStack, decorate: Callable[[Any], Any]) -> None:
    started = stack.clock.monotonic()

    @decorate
    @given(path=paths, body=bodies, header=strangers)
    def check(path: str, body: str | bytes | None, header: str | None) -> None:
        stack.clock.advance(0.05)
        event: dict[str, Any] = api_event(path, body, authorization=header)
        answer, calls = stack.counted(event)
        assert (answer.status, answer.body) == (401, '{"message": "Unauthorized"}')
        assert set(calls) <= {SECRET}

    check()
    assert stack.everything() == ([], [])
    assert stack.dead_letters() == []
    minutes = (stack.clock.monotonic() - started) / 60
    assert len(stack.calls) <= 2 * (minutes + 2)


FEW = settings(max_examples=150, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=6_000, suppress_health_check=list(HealthCheck), derandomize=False)


def many(function: Any) -> Any:
    print(f"to see the same cases again: FUZZ_SEED={SEED}")  # noqa: T201 - pytest shows it when the test fails
    return seed(SEED)(MANY(function))


def test_whatever_is_authenticated_is_stored_kept_or_too_large(stack: CallbackStack) -> None:
    check_authenticated(stack, FEW)


def test_whatever_strangers_send_is_refused_and_leaves_nothing(stack: CallbackStack) -> None:
    check_strangers(stack, FEW)


@pytest.mark.deep
@pytest.mark.timeout(1200)
def test_whatever_is_authenticated_is_stored_kept_or_too_large_6000_times(stack: CallbackStack) -> None:
    check_authenticated(stack, many)


@pytest.mark.deep
@pytest.mark.timeout(1200)
def test_whatever_strangers_send_is_refused_and_leaves_nothing_6000_times(stack: CallbackStack) -> None:
    check_strangers(stack, many)
