"""schemas/callbacks.openapi.yaml is true: the handler responds as it documents, whatever is sent."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from local.simulator.config import GatewayConfig
from optus_sms.model.statuses import STATUS_RANK
from tests.support.aws import default_template
from tests.support.builders import CALLBACK_USERNAME, api_event, basic
from tests.support.callback_stack import CallbackStack

PATH = Path(__file__).parents[3] / "schemas" / "callbacks.openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
# Not `negative_data_rejection`: an authenticated, unreadable callback is kept, with HTTP 200.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    positive_data_acceptance,
    ignored_auth,
]


@pytest.fixture(scope="module")
def stack() -> Iterator[CallbackStack]:
    """A stack with the password of `events/api`, and the builders' password as the previous version."""
    with CallbackStack() as stack:
        stack.rotate(CALLBACK_USERNAME, "example-password-for-local-use")
        yield stack


@pytest.fixture(autouse=True)
def _clean(stack: CallbackStack) -> None:
    stack.clean()


def wsgi(stack: CallbackStack) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """Return the handler as a WSGI application, which gets bodies in base64 as from API Gateway."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ.get("wsgi.input", io.BytesIO()).read(int(environ.get("CONTENT_LENGTH") or 0))
        event = api_event(
            environ["PATH_INFO"],
            body or None,
            method=environ["REQUEST_METHOD"],
            authorization=environ.get("HTTP_AUTHORIZATION"),
        )
        answer = stack.handle(event)
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", list(answer.headers.items()))
        return [answer.body.encode()]

    return application


def fuzzed(stack: CallbackStack, path: str, mode: GenerationMode) -> st.SearchStrategy[schemathesis.Case]:
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.app = wsgi(stack)
    strategy: st.SearchStrategy[schemathesis.Case] = schema[path]["POST"].as_strategy(generation_mode=mode)
    return strategy


every_kind = pytest.mark.parametrize(
    ("path", "mode"), [(path, mode) for path in DOCUMENT["paths"] for mode in GenerationMode], ids=str
)


@every_kind
def test_valid_and_invalid_callbacks_are_answered_as_described(
    stack: CallbackStack, path: str, mode: GenerationMode
) -> None:
    @given(case=fuzzed(stack, path, mode))
    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(headers={"Authorization": basic()}, checks=CHECKS)

    check()
    # An invalid callback is stored if it can be read.
    assert stack.rows() if mode is GenerationMode.POSITIVE else stack.rows() or stack.dead_letters()


@every_kind
def test_without_the_right_credentials_nothing_is_stored(stack: CallbackStack, path: str, mode: GenerationMode) -> None:
    @given(case=fuzzed(stack, path, mode))
    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    def check(case: schemathesis.Case) -> None:
        assert case.call(headers={"Authorization": basic(password="wrong")}).status_code == 401

    check()
    assert stack.everything() == ([], [])
    assert stack.dead_letters() == []


def test_the_document_is_valid_openapi() -> None:
    validate(DOCUMENT)


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        yield path, methods["post"]


def test_every_example_is_stored(stack: CallbackStack) -> None:
    for path, operation in operations():
        for name, example in operation["requestBody"]["content"]["application/json"]["examples"].items():
            answer = stack.handle(api_event(path, example["value"]))
            assert (answer.status, answer.body) == (200, '{"message": "Stored"}'), name


def test_it_describes_the_templates_paths_and_answers_and_no_others() -> None:
    body = default_template().resources["CallbackApi"].properties["Body"]
    assert set(DOCUMENT["paths"]) == set(body["paths"])
    by_api_gateway = {each.get("statusCode", "503") for each in body["x-amazon-apigateway-gateway-responses"].values()}
    for _, operation in operations():
        # 404 (another path or method) and 415 (no proxy integration refuses a media type) belong to no operation; 403
        # needs a firewall.
        assert by_api_gateway - {"403", "404", "415"} <= set(operation["responses"])


def test_it_lists_the_statuses_in_the_order_in_which_they_win() -> None:
    known = DOCUMENT["components"]["schemas"]["StatusCallback"]["properties"]["status"]["x-known-values"]
    assert known == sorted(STATUS_RANK, key=lambda status: STATUS_RANK[status])
    assert len(known) == 12


def test_what_the_simulator_sends_is_described() -> None:
    fields = DOCUMENT["components"]["schemas"]["StatusCallback"]["properties"]
    assert GatewayConfig().id_key in fields
    assert {"status", "detail", "reference"} <= set(fields)


@pytest.mark.parametrize(
    "path", sorted((PATH.parents[1] / "events" / "api").glob("*.json")), ids=lambda path: path.stem
)
def test_the_examples_of_events_are_answered_as_described(stack: CallbackStack, path: Path) -> None:
    event = json.loads(path.read_text(encoding="utf-8"))
    answer = stack.handle(event)
    expected = {
        "no_credentials": 401,
        "wrong_credentials": 401,
        "other_scheme": 401,
        "wrong_method": 404,
        "wrong_path": 404,
    }
    assert answer.status == expected.get(path.stem, 200)
