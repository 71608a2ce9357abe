"""The gateway simulator over real HTTP: every operation, documented error, row of its table, and control."""

import base64
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import validate

from local.http_server import HttpListener, HttpRequest, HttpResponse, bound_socket
from local.simulator.__main__ import main
from local.simulator.scenarios import SCENARIOS, numbers_table
from local.simulator.server import GatewayConfig, GatewaySimulator
from local.simulator.submissions import read_submission
from optus_sms.gateway.transport import Transport, new_tls_context

ROOT = Path(__file__).parents[2]
OPENAPI: dict[str, Any] = yaml.safe_load((ROOT / "local/simulator/openapi.yaml").read_text(encoding="utf-8"))
AUTH = ("app", "p:ss/word")
HANDSET = "+61491570156"
UNKNOWN_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
WAIT_SECONDS = 20.0
DELIVERED = ["queued", "sent", "submitted", "received"]
QUICK = GatewayConfig(
    application=AUTH[0],
    password=AUTH[1],
    seed=1,
    status_step_seconds=0.005,
    slow_response_seconds=0.05,
    drip_interval_seconds=0.0005,
    late_seconds=0.05,
    retry_interval_seconds=0.01,
    retry_tries=3,
)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.005)


def messages_by_the_description() -> st.SearchStrategy[dict[str, Any]]:
    """Return bodies that are valid by the gateway's own description."""
    operation = schemathesis.openapi.from_dict(OPENAPI)["/messages"]["POST"]
    bodies: st.SearchStrategy[dict[str, Any]] = operation.as_strategy().map(lambda case: case.body)
    return bodies


class Receiver:
    """Receives callbacks. Responds with `answers` first, then with 200."""

    def __init__(self) -> None:
        self.calls: list[HttpRequest] = []
        self.answers: list[HttpResponse] = []
        self._listener = HttpListener(self._handle, bound_socket("127.0.0.1", 0))
        self._listener.open()

    def url(self, path: str, credentials: str = "") -> str:
        return f"http://{credentials}127.0.0.1:{self._listener.port}{path}"

    def close(self) -> None:
        self._listener.close()

    def bodies(self, path: str = "/status") -> list[dict[str, Any]]:
        return [json.loads(call.body) for call in list(self.calls) if call.path == path]

    def statuses(self, message_id: str) -> list[str]:
        return [body["status"] for body in self.bodies() if message_id in {body.get("message_id"), body.get("id")}]

    def _handle(self, request: HttpRequest) -> HttpResponse:
        self.calls.append(request)
        return self.answers.pop(0) if self.answers else HttpResponse(200)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def shared_gateway(receiver: Receiver) -> Iterator[GatewaySimulator]:
    with GatewaySimulator(QUICK) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared_gateway: GatewaySimulator, receiver: Receiver) -> GatewaySimulator:
    """The simulator, shared by all tests and reset for each; QUICK, with callbacks to the receiver."""
    shared_gateway.set_callback_urls(receiver.url("/status"), receiver.url("/reply"))
    shared_gateway.reset()
    receiver.calls.clear()
    receiver.answers.clear()
    return shared_gateway


def post(gateway: GatewaySimulator, *, timeout: float = WAIT_SECONDS, **fields: Any) -> requests.Response:
    message = {"destination": HANDSET, "content": "Hello", **fields}
    return requests.post(f"{gateway.url}/messages", json=message, auth=AUTH, timeout=timeout, allow_redirects=False)


def read(gateway: GatewaySimulator, message_id: str) -> requests.Response:
    return requests.get(f"{gateway.url}/messages", params={"id": message_id}, auth=AUTH, timeout=WAIT_SECONDS)


def control(gateway: GatewaySimulator, method: str, path: str, body: object = None, **kwargs: Any) -> requests.Response:
    return requests.request(method, gateway.control_url + path, json=body, timeout=WAIT_SECONDS, **kwargs)


def delivered(gateway: GatewaySimulator, message_id: str, status: str = "received") -> Callable[[], bool]:
    return lambda: read(gateway, message_id).json()["status"] == status


def conforms(schema: str, value: object) -> bool:
    OAS30Validator(
        {"allOf": [{"$ref": f"#/components/schemas/{schema}"}], "components": OPENAPI["components"]}
    ).validate(value)
    return True


def in_(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


# The API


def test_accepted_message_is_answered_202_with_id_status_and_detail(gateway: GatewaySimulator) -> None:
    answer = post(gateway, reference="order-1")

    assert answer.status_code == 202
    assert answer.headers["Content-Type"] == "application/json"
    assert conforms("StatusCallback", answer.json())
    assert answer.json() == {"id": gateway.taken()[0]["id"], "status": "accepted", "detail": HANDSET}
    assert gateway.taken(reference="order-1")[0]["fields"] == {
        "destination": HANDSET,
        "content": "Hello",
        "reference": "order-1",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"nobody_knows": {"this": "field"}},
        {"source": "202", "class": "mt_message"},
        {"destination": "+1"},
        {"destination": "0491570156"},
        {"destination": "Zürich\n"},
        {"sms_class": 1.0},
        {"destination": "+" + "6" * 30},
        {"content": "x" * 5000},
        {"content": "\U0001f600 ž \ud800"},
        {"reference": "r" * 255},
        {"reference": None, "mask": None},
        {"mask": "m" * 20},
        {"sms_class": 9},
        {"integration_id": UNKNOWN_ID},
        {"id": "ignored"},
        {"scheduled": in_(days=59)},
    ],
)
def test_whatever_the_documentation_does_not_forbid_is_accepted(gateway: GatewaySimulator, fields: Any) -> None:
    assert post(gateway, **fields).status_code == 202
    assert len(gateway.taken()) == 1


@given(messages_by_the_description())
@settings(max_examples=200)
def test_what_the_description_allows_is_accepted(fields: dict[str, Any]) -> None:
    """All but `scheduled`, whose limits move with the clock."""
    body = json.dumps({name: value for name, value in fields.items() if name != "scheduled"}).encode()
    read_submission(HttpRequest("POST", "/rest/sms/v2/messages", {}, Message(), body), datetime.now(UTC))


@pytest.mark.parametrize("destination", ["0491570156", "61491570156", "+61 491 570 156", "Optus", "+"])
def test_a_destination_that_is_no_number_is_rejected_by_the_carrier(
    gateway: GatewaySimulator, receiver: Receiver, destination: str
) -> None:
    message_id = post(gateway, destination=destination).json()["id"]
    wait_until(lambda: "rejected" in receiver.statuses(message_id))
    assert "received" not in receiver.statuses(message_id)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_chunked_message_is_accepted(gateway: GatewaySimulator, size: int) -> None:
    body = json.dumps({"destination": HANDSET, "content": "Hello"}).encode()
    chunks = iter([body[start : start + size] for start in range(0, len(body), size)])
    assert requests.post(f"{gateway.url}/messages", data=chunks, auth=AUTH, timeout=WAIT_SECONDS).status_code == 202
    assert gateway.taken()[0]["fields"]["content"] == "Hello"


@pytest.mark.parametrize("scheme", ["basic", "BASIC", "bAsIc", "Basic ", " Basic"])
def test_basic_is_a_scheme_in_any_case(gateway: GatewaySimulator, scheme: str) -> None:
    token = base64.b64encode(":".join(AUTH).encode()).decode()
    connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=WAIT_SECONDS)
    body = json.dumps({"destination": HANDSET, "content": "Hello"})
    connection.request("POST", "/rest/sms/v2/messages", body, {"Authorization": f"{scheme} {token}"})
    assert connection.getresponse().status == 202
    connection.close()


@pytest.mark.parametrize("accept", [None, "application/vnd.modica.gateway.v1+json", "text/html"])
def test_any_accept_and_content_type_will_do(gateway: GatewaySimulator, accept: str | None) -> None:
    answer = requests.post(
        f"{gateway.url}/messages",
        data=json.dumps({"destination": HANDSET, "content": "Hello"}),
        headers={"Accept": accept or "*/*", "Content-Type": accept or "text/plain"},
        auth=AUTH,
        timeout=WAIT_SECONDS,
    )

    assert answer.status_code == 202


VALID = {"destination": HANDSET, "content": "Hello"}


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b'["a list"]', 400, "invalid_json"),
        ({"content": "Hello"}, 400, "missing_attrib"),
        ({"destination": HANDSET}, 400, "missing_attrib"),
        (VALID | {"content": None}, 400, "missing_attrib"),
        (VALID | {"destination": ""}, 400, "invalid_attrib"),
        (VALID | {"destination": 61491570156}, 400, "invalid_attrib"),
        (VALID | {"destination": "6" * 256}, 400, "invalid_attrib"),
        (VALID | {"content": ""}, 400, "invalid_attrib"),
        (VALID | {"content": "x" * 5001}, 400, "invalid_attrib"),
        (VALID | {"reference": "r" * 256}, 400, "invalid_attrib"),
        (VALID | {"mask": "m" * 21}, 400, "invalid_attrib"),
        (VALID | {"sms_class": "1"}, 400, "invalid_attrib"),
        (VALID | {"sms_class": True}, 400, "invalid_attrib"),
        (VALID | {"sms_class": 1.5}, 400, "invalid_attrib"),
        (VALID | {"integration_id": "one"}, 400, "invalid_attrib"),
        (VALID | {"scheduled": 1}, 400, "invalid_attrib"),
        (VALID | {"scheduled": in_(days=61)}, 400, "invalid_attrib"),
        (VALID | {"scheduled": "tomorrow"}, 400, "Invalid scheduled timestamp must be RFC3339"),
        (VALID | {"scheduled": "2099-01-01T10:00:00"}, 400, "Invalid scheduled timestamp must be RFC3339"),
        (VALID | {"scheduled": "2099-02-30T10:00:00Z"}, 400, "Invalid scheduled timestamp must be RFC3339"),
        (VALID | {"scheduled": "2099-02-03T10:00:00+10:75"}, 400, "Invalid scheduled timestamp must be RFC3339"),
        (VALID | {"scheduled": in_(minutes=-1)}, 422, "Invalid scheduled timestamp must not be in the past"),
        (
            VALID | {"scheduled": "1997-07-16T19:20:30+01:00"},
            422,
            "Invalid scheduled timestamp must not be in the past",
        ),
    ],
)
def test_what_is_wrong_with_a_message_is_said_in_the_documented_words(
    gateway: GatewaySimulator, body: Any, status: int, error: str
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body)
    answer = requests.post(f"{gateway.url}/messages", data=data, auth=AUTH, timeout=WAIT_SECONDS)

    assert answer.status_code == status
    assert conforms("ApiErrorResponse", answer.json())
    assert (answer.json()["statusCode"], answer.json()["error"]) == (status, error)
    assert gateway.taken() == []
    assert gateway.requests() == {
        "posts": 1,
        "taken": 0,
        "outcomes": {error: 1},
        "responses": {str(status): 1},
    }


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic " + base64.b64encode(b"app:wrong").decode(),
        "Basic " + base64.b64encode(b"other:p:ss/word").decode(),
        "Bearer " + base64.b64encode(b"app:p:ss/word").decode(),
        "Basic \xff",
    ],
)
def test_messages_need_the_right_credentials(gateway: GatewaySimulator, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    sent = requests.post(f"{gateway.url}/messages", json=VALID, headers=headers, timeout=WAIT_SECONDS)
    fetched = requests.get(f"{gateway.url}/messages?id={UNKNOWN_ID}", headers=headers, timeout=WAIT_SECONDS)

    for answer in (sent, fetched):
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert conforms("ApiErrorResponse", answer.json())
    assert gateway.taken() == []


def test_a_message_can_be_read_by_its_id(gateway: GatewaySimulator) -> None:
    message_id = post(gateway, reference="order-1").json()["id"]
    wait_until(delivered(gateway, message_id))

    details = read(gateway, message_id)

    assert details.status_code == 200
    assert conforms("MessageDetails", details.json())
    assert details.json() == {
        "id": message_id,
        "direction": "MT",
        "destination": HANDSET,
        "content": "Hello",
        "reference": "order-1",
        "status": "received",
    }


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        (f"?id={UNKNOWN_ID}", 404, "No message matched"),
        ("", 400, "missing_attrib"),
        ("?id=", 400, "missing_attrib"),
        ("?id=12", 400, "invalid_attrib"),
        (f"?id={UNKNOWN_ID.upper()}", 400, "invalid_attrib"),
    ],
)
def test_reading_what_is_not_there(gateway: GatewaySimulator, query: str, status: int, error: str) -> None:
    answer = requests.get(f"{gateway.url}/messages{query}", auth=AUTH, timeout=WAIT_SECONDS)

    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert conforms("ApiErrorResponse", answer.json())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/rest/sms/v2/messages"),
        ("DELETE", "/rest/sms/v2/messages"),
        ("GET", "/rest/sms/v2/messages/1"),
        ("POST", "/rest/sms/v2"),
        ("POST", "/rest/gateway/messages"),
        ("GET", "/control/messages"),
    ],
)
def test_an_unknown_path_is_answered_by_the_edge(gateway: GatewaySimulator, method: str, path: str) -> None:
    origin = gateway.url.removesuffix("/rest/sms/v2")
    answer = requests.request(method, origin + path, auth=AUTH, timeout=WAIT_SECONDS)

    assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})


def test_healthz_and_openapi_need_no_credentials(gateway: GatewaySimulator) -> None:
    healthz = requests.get(f"{gateway.url}/healthz", timeout=WAIT_SECONDS)
    document = requests.get(f"{gateway.url}/openapi.yaml", timeout=WAIT_SECONDS)

    assert (healthz.status_code, healthz.content) == (200, b"")
    assert document.status_code == 200
    assert yaml.safe_load(document.content) == OPENAPI


def test_openapi_document_is_valid_and_has_every_operation(gateway: GatewaySimulator) -> None:
    validate(OPENAPI)
    operations = {(method, path) for path, item in OPENAPI["paths"].items() for method in item}

    assert operations == {
        ("post", "/messages"),
        ("get", "/messages"),
        ("get", "/healthz"),
        ("get", "/openapi.yaml"),
    }
    assert set(OPENAPI["paths"]["/messages"]["post"]["callbacks"]) == {"status", "reply"}


def test_service_status_is_an_api_of_its_own(gateway: GatewaySimulator) -> None:
    services = requests.get(f"{gateway.services_url}/services", timeout=WAIT_SECONDS).json()
    status = f"{gateway.services_url}/status?service=restv2&service=RestV2"

    assert "restv2" in services["services"]
    assert requests.get(f"{gateway.services_url}/status", timeout=WAIT_SECONDS).json() == {"services": {}}
    assert requests.get(status, timeout=WAIT_SECONDS).json() == {
        "services": {"restv2": {"status": "available"}, "RestV2": {"status": "unknown"}}
    }
    gateway.set_faults(down="closed")
    assert requests.get(status, timeout=WAIT_SECONDS).json()["services"]["restv2"] == {"status": "unavailable"}


def test_a_connection_serves_several_requests_and_refuses_bodies_it_cannot_read(gateway: GatewaySimulator) -> None:
    address = gateway.url.removeprefix("http://").partition("/")[0]
    connection = http.client.HTTPConnection(address, timeout=WAIT_SECONDS)
    connection.request("GET", "/rest/sms/v2/healthz")
    connection.getresponse().read()
    used = connection.sock
    connection.request("GET", "/rest/sms/v2/healthz")
    again = connection.getresponse()
    again.read()
    assert (again.status, connection.sock) == (200, used)

    for headers, status in [
        ({"Transfer-Encoding": "gzip"}, 501),
        ({"Content-Length": "many"}, 400),
        ({"Content-Length": "999999999"}, 413),
    ]:
        connection.putrequest("POST", "/rest/sms/v2/messages")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
        connection.close()


def test_scheduled_message_waits_as_queued_until_its_time(gateway: GatewaySimulator, receiver: Receiver) -> None:
    later = post(gateway, scheduled=in_(hours=1)).json()["id"]
    due = datetime.now(UTC) + timedelta(seconds=1)
    soon = post(gateway, scheduled=due.isoformat(), reference="soon").json()["id"]
    wait_until(lambda: receiver.statuses(soon) == DELIVERED)

    assert read(gateway, later).json()["status"] == "queued"
    assert receiver.statuses(later) == []
    first_try = gateway.taken(reference="soon")[0]["callbacks"][0]["tries"][0]["at"]
    assert datetime.fromisoformat(first_try) >= due.replace(microsecond=0)


# Scenarios: number, response (None: the connection is closed), whether it was accepted, and the reported statuses

ROWS: dict[str, tuple[str, int | None, bool, list[str]]] = {
    "received": ("", 202, True, DELIVERED),
    "rejected": ("101", 202, True, ["queued", "sent", "rejected"]),
    "expired": ("102", 202, True, ["queued", "sent", "submitted", "expired"]),
    "failed_then_received": ("103", 202, True, ["queued", "failed", "sent", "submitted", "received"]),
    "failed_then_frozen": ("104", 202, True, ["queued", "failed", "failed", "frozen"]),
    "dead": ("105", 202, True, ["queued", "dead"]),
    "blocked": ("106", 202, True, ["queued", "blocked"]),
    "deficient": ("107", 202, True, ["queued", "deficient"]),
    "submitted_only": ("108", 202, True, ["queued", "sent", "submitted"]),
    "accepted_without_id": ("201", 202, True, DELIVERED),
    "accepted_not_json": ("202", 202, True, DELIVERED),
    "accepted_cut": ("203", None, True, DELIVERED),
    "redirect": ("302", 302, False, []),
    "bad_request": ("400", 400, False, []),
    "unauthorized": ("401", 401, False, []),
    "forbidden": ("403", 403, False, []),
    "too_many_requests": ("429", 429, False, []),
    "server_error": ("500", 500, False, []),
    "send_failed": ("501", 500, False, []),
    "bad_gateway": ("502", 502, False, []),
    "unavailable": ("503", 503, False, []),
    "taken_server_error": ("600", 500, True, DELIVERED),
    "slow_response": ("601", 202, True, DELIVERED),
    "drip_fed_response": ("602", 202, True, DELIVERED),
    "lost_response": ("603", None, True, []),
    "lost_response_then_callbacks": ("604", None, True, DELIVERED),
    "closed_not_taken": ("605", None, False, []),
    "callbacks_none": ("700", 202, True, []),
    "callbacks_duplicated": ("701", 202, True, [status for status in DELIVERED for _ in range(3)]),
    "callbacks_reordered": ("702", 202, True, ["submitted", "queued", "received", "sent"]),
    "callbacks_early": ("703", 202, True, DELIVERED),
    "callbacks_late": ("704", 202, True, DELIVERED),
    "callbacks_other_id_key": ("705", 202, True, DELIVERED),
    "callbacks_upper_case": ("706", 202, True, [status.upper() for status in DELIVERED]),
    "unknown_status": ("707", 202, True, ["queued", "teleported", "sent", "submitted", "received"]),
    "contradiction": ("708", 202, True, [*DELIVERED, "failed"]),
    "reply": ("801", 202, True, DELIVERED),
    "reply_unlinked": ("802", 202, True, DELIVERED),
    "reply_base64": ("803", 202, True, DELIVERED),
    "reply_duplicated": ("804", 202, True, DELIVERED),
    "reply_stop": ("805", 202, True, DELIVERED),
}


def answer_of(gateway: GatewaySimulator, **fields: Any) -> requests.Response | None:
    try:
        return post(gateway, **fields)
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        return None


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_row_does_what_it_says(gateway: GatewaySimulator, receiver: Receiver, name: str) -> None:
    digits, status, taken, told = ROWS[name]
    final = told[-1].lower() if told and name != "callbacks_reordered" else "received"

    number = f"+447700900{digits}" if digits else "+61491570006"

    answer = answer_of(gateway, destination=number, reference=name)

    assert (None if answer is None else answer.status_code) == status
    messages = gateway.taken(reference=name)
    assert [message["scenario"] for message in messages] == [name] * taken
    if taken:
        message_id = messages[0]["id"]
        wait_until(lambda: len(receiver.statuses(message_id)) == len(told))
        wait_until(lambda: gateway.taken(reference=name)[0]["status"] == final)
        assert receiver.statuses(message_id) == told
    assert gateway.requests()["taken"] == int(taken)


def test_every_row_is_tested_here() -> None:
    assert set(ROWS) == set(SCENARIOS)


def test_an_answer_can_say_badly_that_it_was_taken(gateway: GatewaySimulator) -> None:
    no_id = post(gateway, destination=SCENARIOS["accepted_without_id"].number)
    not_json = post(gateway, destination=SCENARIOS["accepted_not_json"].number)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        post(gateway, destination=SCENARIOS["accepted_cut"].number)

    assert no_id.json() == {"status": "accepted"}
    assert not_json.headers["Content-Type"] == "text/plain"
    with pytest.raises(requests.exceptions.JSONDecodeError):
        not_json.json()


@pytest.mark.parametrize(
    "name", ["bad_request", "unauthorized", "forbidden", "server_error", "send_failed", "unavailable"]
)
def test_an_error_row_has_the_documented_body(gateway: GatewaySimulator, name: str) -> None:
    answer = post(gateway, destination=SCENARIOS[name].number)

    assert conforms("ApiErrorResponse", answer.json())
    assert answer.json()["statusCode"] == answer.status_code


def test_html_page_and_redirect(gateway: GatewaySimulator) -> None:
    page = post(gateway, destination=SCENARIOS["bad_gateway"].number)
    redirect = post(gateway, destination=SCENARIOS["redirect"].number)

    assert page.headers["Content-Type"] == "text/html"
    assert page.text.startswith("<html>")
    assert redirect.headers["Location"] == "/rest/sms/v2/messages"


def test_a_throttled_message_is_accepted_at_the_third_try(gateway: GatewaySimulator) -> None:
    number = SCENARIOS["too_many_requests"].number
    first, second, third = (post(gateway, destination=number, reference="a") for _ in range(3))
    other = post(gateway, destination=number, reference="b")

    assert [answer.status_code for answer in (first, second, third, other)] == [429, 429, 202, 429]
    assert first.headers["Retry-After"] == "1"
    assert len(gateway.taken(reference="a")) == 1
    assert gateway.requests()["outcomes"] == {"too_many_requests": 3, "received": 1}


def test_send_failed_once_then_accepted(gateway: GatewaySimulator, receiver: Receiver) -> None:
    number = SCENARIOS["send_failed"].number
    failed, accepted = (post(gateway, destination=number) for _ in range(2))

    assert (failed.status_code, failed.json()["error"]) == (500, "send_failed")
    assert accepted.status_code == 202
    wait_until(lambda: receiver.statuses(accepted.json()["id"]) == DELIVERED)


def test_early_callbacks_are_there_before_the_answer(gateway: GatewaySimulator, receiver: Receiver) -> None:
    message_id = post(gateway, destination=SCENARIOS["callbacks_early"].number).json()["id"]

    assert receiver.statuses(message_id) == DELIVERED


def test_late_callbacks_come_after_the_message_has_long_been_received(
    gateway: GatewaySimulator, receiver: Receiver
) -> None:
    message_id = post(gateway, destination=SCENARIOS["callbacks_late"].number).json()["id"]
    wait_until(lambda: receiver.statuses(message_id) == DELIVERED)

    message = gateway.taken()[0]
    reached = datetime.fromisoformat(message["history"][-1]["at"])
    first_told = datetime.fromisoformat(message["callbacks"][0]["tries"][0]["at"])
    assert first_told - reached >= timedelta(seconds=QUICK.late_seconds) - timedelta(milliseconds=2)


def test_no_row_breaks_a_client_that_waits(gateway: GatewaySimulator) -> None:
    for name in ("slow_response", "drip_fed_response"):
        assert conforms("StatusCallback", post(gateway, destination=SCENARIOS[name].number).json())


def test_a_client_that_does_not_wait_loses_the_answer_of_a_message_that_was_taken(gateway: GatewaySimulator) -> None:
    gateway.set_faults(response_delay_seconds=WAIT_SECONDS)
    with pytest.raises(requests.ReadTimeout):
        post(gateway, reference="lost", timeout=0.2)

    wait_until(lambda: len(gateway.taken(reference="lost")) == 1)


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("reply", {"content": "Yes please", "reply_to": "the message", "reference": "order-1"}),
        ("reply_unlinked", {"content": "Yes please"}),
        (
            "reply_base64",
            {"content": "AAH+/w==", "encoding": "base64", "reply_to": "the message", "reference": "order-1"},
        ),
    ],
)
def test_a_handset_that_answers(gateway: GatewaySimulator, receiver: Receiver, name: str, reply: Any) -> None:
    number = SCENARIOS[name].number
    message_id = post(gateway, destination=number, reference="order-1", source="7777").json()["id"]
    wait_until(lambda: len(receiver.bodies("/reply")) == 1)

    body = receiver.bodies("/reply")[0]
    assert conforms("ReplyCallback", body)
    expected = {"source": number, "destination": "7777", "operator": "Optus", "id": body["id"], **reply}
    if "reply_to" in expected:
        expected["reply_to"] = message_id
    assert body == expected
    wait_until(delivered(gateway, body["id"], "sent"))
    assert conforms("MessageDetails", read(gateway, body["id"]).json())
    assert read(gateway, body["id"]).json()["direction"] == "MO"


def test_a_reply_twice_is_the_same_reply(gateway: GatewaySimulator, receiver: Receiver) -> None:
    post(gateway, destination=SCENARIOS["reply_duplicated"].number)
    wait_until(lambda: len(receiver.bodies("/reply")) == 2)

    first, second = receiver.bodies("/reply")
    assert first == second


# Callbacks


def test_a_status_callback_has_the_message_id_and_the_reference(gateway: GatewaySimulator, receiver: Receiver) -> None:
    message_id = post(gateway, reference="order-1").json()["id"]
    wait_until(lambda: receiver.statuses(message_id) == DELIVERED)

    assert receiver.bodies()[-1] == {
        "message_id": message_id,
        "status": "received",
        "detail": "simulated received",
        "reference": "order-1",
    }
    assert all(conforms("StatusCallback", body) for body in receiver.bodies())
    assert {call.method for call in receiver.calls} == {"POST"}
    assert {call.headers["Content-Type"] for call in receiver.calls} == {"application/json"}
    assert {call.headers["User-Agent"] for call in receiver.calls} == {"sms-gateway-simulator/1"}


def test_the_other_id_key(gateway: GatewaySimulator, receiver: Receiver) -> None:
    message_id = post(gateway, destination=SCENARIOS["callbacks_other_id_key"].number).json()["id"]
    wait_until(lambda: receiver.statuses(message_id) == DELIVERED)

    assert [body["id"] for body in receiver.bodies()] == [message_id] * 4
    assert not any("message_id" in body for body in receiver.bodies())


def test_the_shape_of_the_specification_can_be_configured(receiver: Receiver, gateway: GatewaySimulator) -> None:
    config = replace(QUICK, id_key="id", echo_reference=False, healthz=False, openapi=False)
    with GatewaySimulator(replace(config, status_callback_url=receiver.url("/status"))) as other:
        message_id = post(other, reference="order-1").json()["id"]
        wait_until(lambda: receiver.statuses(message_id) == DELIVERED)

        assert receiver.bodies()[0] == {"id": message_id, "status": "queued", "detail": "simulated queued"}
        assert "reference" not in read(other, message_id).json()
        for path in ("/healthz", "/openapi.yaml"):
            answer = requests.get(other.url + path, timeout=WAIT_SECONDS)
            assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})


CREDENTIALS = "us%40er:p%3Ass%2Fw%C3%B6rd@"
BASIC = "Basic " + base64.b64encode("us@er:p:ss/wörd".encode()).decode()


def test_credentials_of_the_callback_url_are_sent_at_once(gateway: GatewaySimulator, receiver: Receiver) -> None:
    gateway.set_callback_urls(receiver.url("/status?a=b", CREDENTIALS), receiver.url("/reply", CREDENTIALS))
    message_id = post(gateway, destination=SCENARIOS["reply"].number).json()["id"]
    wait_until(lambda: len(receiver.calls) == 5)

    assert receiver.statuses(message_id) == DELIVERED
    assert receiver.calls[0].query == {"a": ["b"]}
    assert {call.headers["Authorization"] for call in receiver.calls} == {BASIC}
    assert CREDENTIALS not in json.dumps(gateway.state())


def test_credentials_only_after_a_challenge(gateway: GatewaySimulator, receiver: Receiver) -> None:
    config = replace(QUICK, callback_auth="challenge", status_callback_url=receiver.url("/status", CREDENTIALS))
    challenge = HttpResponse(401, headers=(("WWW-Authenticate", 'Basic realm="callbacks"'),))
    receiver.answers = [challenge, HttpResponse(200), HttpResponse(200), HttpResponse(401)]
    with GatewaySimulator(config) as other:
        other.set_faults(scenario="blocked")
        post(other)
        wait_until(lambda: [len(c["tries"]) for c in other.taken()[0]["callbacks"]] == [1, 1])
        post(other)
        wait_until(lambda: [len(c["tries"]) for m in other.taken() for c in m["callbacks"]] == [1, 1, 2, 1])

    # Credentials are sent after a challenge, and not without one; a 401 without a challenge is a failed attempt.
    assert [call.headers["Authorization"] for call in receiver.calls] == [None, BASIC, None, None, None, None]


def test_a_callback_is_tried_again_until_it_is_answered_200(gateway: GatewaySimulator, receiver: Receiver) -> None:
    receiver.answers = [HttpResponse(204), HttpResponse(503), HttpResponse(200)]
    gateway.set_faults(scenario="blocked")
    post(gateway)
    wait_until(lambda: sum(len(c["tries"]) for c in gateway.taken()[0]["callbacks"]) == 4)

    queued, blocked = gateway.taken()[0]["callbacks"]
    answers = [[attempt["response"] for attempt in callback["tries"]] for callback in (queued, blocked)]
    assert sorted(answer for tries in answers for answer in tries) == [200, 200, 204, 503]
    assert answers[0][0] == 204
    assert [tries[-1] for tries in answers] == [200, 200]


def test_a_callback_that_nobody_takes_is_given_up_and_holds_up_nothing(
    gateway: GatewaySimulator, receiver: Receiver
) -> None:
    closed = Receiver()
    closed.close()
    gateway.set_callback_urls(closed.url("/status"), closed.url("/reply"))
    post(gateway, destination=SCENARIOS["reply"].number)
    wait_until(lambda: bool(control(gateway, "GET", "/messages?direction=MO&status=frozen").json()["messages"]))
    wait_until(lambda: all(len(c["tries"]) == QUICK.retry_tries for c in gateway.taken()[0]["callbacks"]))

    assert [entry["status"] for entry in gateway.taken()[0]["history"]] == ["accepted", *DELIVERED]
    tries = [attempt["response"] for callback in gateway.taken()[0]["callbacks"] for attempt in callback["tries"]]
    assert tries == ["ConnectionRefusedError"] * 4 * QUICK.retry_tries


# The seed


def first_choices(config: GatewayConfig, receiver: Receiver) -> tuple[list[str], list[list[str]]]:
    with GatewaySimulator(config) as gateway:
        gateway.set_callback_urls(receiver.url("/status"), None)
        gateway.set_faults(scenario="callbacks_reordered")
        ids = [post(gateway).json()["id"] for _ in range(6)]
        wait_until(lambda: all(len(receiver.statuses(message_id)) == 4 for message_id in ids))
        orders = [receiver.statuses(message_id) for message_id in ids]
        receiver.calls.clear()
        return ids, orders


def test_the_same_seed_repeats_ids_and_orders(receiver: Receiver) -> None:
    first, again = (first_choices(replace(QUICK, seed=42), receiver) for _ in range(2))
    other = first_choices(replace(QUICK, seed=43), receiver)

    assert first == again
    assert set(first[0]).isdisjoint(other[0])
    assert DELIVERED not in first[1] + other[1]
    assert len({tuple(order) for order in first[1]}) > 1


def test_without_a_seed_one_is_chosen_and_told() -> None:
    config = replace(QUICK, seed=None)
    with GatewaySimulator(config) as one, GatewaySimulator(config) as other:
        assert one.seed != other.seed
        assert control(one, "GET", "").json()["seed"] == one.seed
        chosen, seed = post(one).json()["id"], one.seed
    with GatewaySimulator(replace(config, seed=seed)) as again:
        assert post(again).json()["id"] == chosen


# The control endpoint


def test_control_shows_state_and_scenarios(gateway: GatewaySimulator, receiver: Receiver) -> None:
    state = control(gateway, "GET", "").json()
    scenarios = control(gateway, "GET", "/scenarios").json()["scenarios"]

    assert (state["url"], state["seed"]) == (gateway.url, 1)
    assert state["callback_urls"] == {"status": receiver.url("/status"), "reply": receiver.url("/reply")}
    assert {row["name"]: row["number"] for row in scenarios} == {row.name: row.number for row in SCENARIOS.values()}


def test_control_lists_messages_and_what_changed_since(gateway: GatewaySimulator, receiver: Receiver) -> None:
    gateway.set_faults(callbacks="off")
    ids = [post(gateway, reference=reference).json()["id"] for reference in "abc"]
    wait_until(lambda: len(gateway.taken(status="received")) == 3)

    listing = control(gateway, "GET", "/messages").json()
    assert Counter(message["id"] for message in listing["messages"]) == Counter(ids)
    assert [m["id"] for m in control(gateway, "GET", "/messages?reference=b").json()["messages"]] == [ids[1]]
    assert control(gateway, "GET", f"/messages?destination=%2B{HANDSET[1:]}&status=dead").json()["messages"] == []
    since = f"/messages?since={listing['revision']}"
    assert control(gateway, "GET", since).json() == {"revision": listing["revision"], "messages": []}
    gateway.send_status(ids[0], "failed")
    assert [m["id"] for m in control(gateway, "GET", since).json()["messages"]] == [ids[0]]


def test_control_lists_in_pages(gateway: GatewaySimulator) -> None:
    gateway.set_faults(callbacks="off")
    ids = [post(gateway, reference=str(number)).json()["id"] for number in range(5)]
    wait_until(lambda: len(gateway.taken(status="received")) == 5)

    seen, revision = [], 0
    while page := control(gateway, "GET", f"/messages?limit=2&since={revision}").json():
        if not page["messages"]:
            break
        seen += [message["id"] for message in page["messages"]]
        revision = page["revision"]
    assert Counter(seen) == Counter(ids)


def test_control_counts_requests(gateway: GatewaySimulator) -> None:
    for name in ("received", "server_error", "lost_response", "closed_not_taken"):
        answer_of(gateway, destination=SCENARIOS[name].number)
    gateway.set_faults(down="closed")
    answer_of(gateway)

    counts = control(gateway, "GET", "/requests?arrivals").json()
    arrivals = counts.pop("arrivals")
    assert counts == {
        "posts": 5,
        "taken": 2,
        "outcomes": {"received": 1, "server_error": 1, "lost_response": 1, "closed_not_taken": 1, "down": 1},
        "responses": {"202": 1, "500": 1, "none": 3},
    }
    assert len(arrivals) == 5
    assert arrivals == sorted(arrivals)
    assert "arrivals" not in control(gateway, "GET", "/requests").json()


def test_a_scenario_for_the_next_messages_whatever_their_number(gateway: GatewaySimulator) -> None:
    assert control(gateway, "POST", "/faults", {"scenario": "unavailable", "next": 2}).json()["next"] == 2

    assert [post(gateway).status_code for _ in range(3)] == [503, 503, 202]
    assert control(gateway, "GET", "/faults").json()["scenario"] is None


def test_a_scenario_until_it_is_cleared(gateway: GatewaySimulator) -> None:
    control(gateway, "POST", "/faults", {"scenario": "server_error"})
    assert [post(gateway, destination=SCENARIOS["reply"].number).status_code for _ in range(3)] == [500] * 3

    control(gateway, "DELETE", "/faults")
    assert post(gateway).status_code == 202


def test_a_scenario_for_a_share_of_the_messages_is_chosen_by_the_seed(gateway: GatewaySimulator) -> None:
    def answers() -> list[int]:
        gateway.reset()
        gateway.set_faults(scenario="unavailable", share=0.5)
        return [post(gateway).status_code for _ in range(30)]

    first, again = answers(), answers()

    assert set(first) == {202, 503}
    assert first == again
    gateway.set_faults(scenario="unavailable", share=0)
    assert post(gateway).status_code == 202


def test_gateway_that_refuses_connections_and_comes_back_at_the_same_address(gateway: GatewaySimulator) -> None:
    session = requests.Session()
    with session:
        assert session.get(f"{gateway.url}/healthz", timeout=WAIT_SECONDS).status_code == 200
        control(gateway, "POST", "/faults", {"down": "refused"})
        for _ in range(2):
            with pytest.raises(requests.ConnectionError, match="refused"):
                session.get(f"{gateway.url}/healthz", timeout=WAIT_SECONDS)
    assert control(gateway, "GET", "/requests").json()["posts"] == 0

    control(gateway, "DELETE", "/faults")
    assert post(gateway).status_code == 202


def test_gateway_that_closes_connections_takes_nothing(gateway: GatewaySimulator) -> None:
    control(gateway, "POST", "/faults", {"down": "closed"})
    with pytest.raises(requests.ConnectionError, match="without response"):
        post(gateway)
    with pytest.raises(requests.ConnectionError, match="without response"):
        requests.get(f"{gateway.url}/healthz", timeout=WAIT_SECONDS)

    assert gateway.taken() == []


def test_credentials_can_be_refused(gateway: GatewaySimulator) -> None:
    control(gateway, "POST", "/faults", {"credentials_refused": True})
    assert (post(gateway).status_code, read(gateway, UNKNOWN_ID).status_code) == (401, 401)

    control(gateway, "POST", "/faults", {"credentials_refused": False})
    assert (post(gateway).status_code, read(gateway, UNKNOWN_ID).status_code) == (202, 404)


@pytest.mark.parametrize("path", ["healthz", "openapi"])
def test_healthz_and_openapi_can_be_switched(gateway: GatewaySimulator, path: str) -> None:
    url = f"{gateway.url}/{path}{'.yaml' if path == 'openapi' else ''}"
    answers = {}
    for state in ("off", "503", "on", None):
        control(gateway, "POST", "/faults", {path: state})
        answers[state] = requests.get(url, timeout=WAIT_SECONDS)

    assert [answer.status_code for answer in answers.values()] == [404, 503, 200, 200]
    assert answers["off"].json() == {"message": "Not Found"}
    assert conforms("ApiErrorResponse", answers["503"].json())


def test_callbacks_can_be_switched_off_and_held(gateway: GatewaySimulator, receiver: Receiver) -> None:
    control(gateway, "POST", "/faults", {"callbacks": "off"})
    lost = post(gateway).json()["id"]
    wait_until(delivered(gateway, lost))
    control(gateway, "POST", "/faults", {"callbacks": "held"})
    held = post(gateway).json()["id"]
    wait_until(lambda: len(gateway.taken()[-1]["callbacks"]) == 4)
    assert receiver.calls == []

    control(gateway, "POST", "/faults", {"callbacks": "on"})
    wait_until(lambda: sorted(receiver.statuses(held)) == sorted(DELIVERED))
    assert receiver.statuses(lost) == []


@pytest.mark.parametrize("manner", ["duplicated", "reordered", "early", "late"])
def test_callbacks_come_otherwise_whatever_becomes_of_the_message(
    gateway: GatewaySimulator, receiver: Receiver, manner: str
) -> None:
    control(gateway, "POST", "/faults", {"callbacks_come": manner})
    message_id = post(gateway, destination=SCENARIOS["rejected"].number).json()["id"]
    told_before_the_answer = receiver.statuses(message_id)
    in_order = ["queued", "sent", "rejected"]
    expected = [status for status in in_order for _ in range(3)] if manner == "duplicated" else in_order
    wait_until(lambda: len(receiver.statuses(message_id)) == len(expected))

    told = receiver.statuses(message_id)
    assert sorted(told) == sorted(expected)
    assert (told == expected) is (manner != "reordered")
    assert manner != "early" or told_before_the_answer == in_order
    assert gateway.taken()[0]["status"] == "rejected"


def test_callbacks_that_come_otherwise_go_together_with_another_fault_and_leave_a_rows_own_manner(
    gateway: GatewaySimulator, receiver: Receiver
) -> None:
    gateway.set_faults(scenario="accepted_without_id", callbacks_come="duplicated")
    assert "id" not in post(gateway).json()
    gateway.set_faults(scenario=None)
    post(gateway, destination=SCENARIOS["callbacks_upper_case"].number)
    ids = [message["id"] for message in sorted(gateway.taken(), key=lambda message: message["number"])]
    wait_until(lambda: [len(receiver.statuses(each)) for each in ids] == [12, 4])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"scenario": "nonsense"}, "scenario"),
        ({"down": True}, "down"),
        ({"next": 0}, "next"),
        ({"next": True}, "next"),
        ({"share": 1.5}, "share"),
        ({"response_delay_seconds": -1}, "response_delay_seconds"),
        ({"credentials_refused": 1}, "credentials_refused"),
        ({"callbacks": None}, "callbacks"),
        ({"callbacks_come": "never"}, "callbacks_come"),
        ({"healthz": 503}, "healthz"),
        ({"openapi": "maybe"}, "openapi"),
        ({"typo": 1}, "typo"),
    ],
)
def test_a_fault_that_makes_no_sense_changes_nothing(gateway: GatewaySimulator, changes: Any, named: str) -> None:
    before = gateway.faults()
    answer = control(gateway, "POST", "/faults", {"credentials_refused": True, **changes})

    assert answer.status_code == 400
    assert named in answer.json()["error"]
    assert gateway.faults() == before


def test_a_new_scenario_does_not_inherit_limits(gateway: GatewaySimulator) -> None:
    gateway.set_faults(scenario="unavailable", next=5, share=0.5)
    faults = gateway.set_faults(scenario="server_error")

    assert (faults["next"], faults["share"]) == (None, 1.0)


def test_a_reply_by_hand(gateway: GatewaySimulator, receiver: Receiver) -> None:
    message_id = post(gateway, reference="order-1").json()["id"]
    reply = {"source": HANDSET, "content": "STOP", "reply_to": message_id}
    reply_id = control(gateway, "POST", "/replies", reply).json()["id"]
    wait_until(lambda: len(receiver.bodies("/reply")) == 1)

    assert receiver.bodies("/reply") == [
        {**reply, "id": reply_id, "destination": "202", "operator": "Optus", "reference": "order-1"}
    ]
    plain = control(gateway, "POST", "/replies", {"source": HANDSET, "content": "Hi", "destination": "7777"})
    wait_until(lambda: len(receiver.bodies("/reply")) == 2)
    assert receiver.bodies("/reply")[1] == {
        "id": plain.json()["id"],
        "source": HANDSET,
        "destination": "7777",
        "content": "Hi",
        "operator": "Optus",
    }


def test_half_a_surrogate_pair_stops_no_callback(gateway: GatewaySimulator, receiver: Receiver) -> None:
    for _ in range(QUICK.callback_workers + 1):
        control(gateway, "POST", "/replies", data=b'{"source": "+61491570006", "content": "half \\ud83c"}')
    wait_until(lambda: len(receiver.bodies("/reply")) == QUICK.callback_workers + 1)
    assert {body["content"] for body in receiver.bodies("/reply")} == {"half ?"}


def test_a_status_by_hand(gateway: GatewaySimulator, receiver: Receiver) -> None:
    gateway.set_faults(scenario="callbacks_none")
    message_id = post(gateway, reference="order-1").json()["id"]
    wait_until(delivered(gateway, message_id))
    control(gateway, "POST", "/statuses", {"id": message_id, "status": "dead", "detail": "by hand"})
    wait_until(lambda: len(receiver.calls) == 1)

    assert receiver.bodies() == [
        {"message_id": message_id, "status": "dead", "detail": "by hand", "reference": "order-1"}
    ]
    assert read(gateway, message_id).json()["status"] == "dead"


def test_callback_urls_can_be_changed(gateway: GatewaySimulator, receiver: Receiver) -> None:
    state = control(gateway, "POST", "/callback-urls", {"status": receiver.url("/elsewhere", "a:b@"), "reply": None})
    assert state.json()["callback_urls"] == {"status": receiver.url("/elsewhere"), "reply": None}

    post(gateway, destination=SCENARIOS["reply"].number)
    wait_until(lambda: bool(control(gateway, "GET", "/messages?direction=MO").json()["messages"]))
    assert [body["status"] for body in receiver.bodies("/elsewhere")] == DELIVERED
    assert {call.path for call in receiver.calls} == {"/elsewhere"}


def test_reset_forgets_everything_but_the_callback_urls(gateway: GatewaySimulator, receiver: Receiver) -> None:
    first = post(gateway, scheduled=in_(hours=1)).json()["id"]
    gateway.set_faults(scenario="unavailable")
    state = control(gateway, "POST", "/reset").json()

    assert gateway.taken() == []
    assert gateway.requests()["posts"] == 0
    assert state["faults"]["scenario"] is None
    assert state["callback_urls"]["status"] == receiver.url("/status")
    assert post(gateway).json()["id"] == first


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "named"),
    [
        ("GET", "/nothing", None, 404, "no such control"),
        ("PUT", "/faults", {}, 404, "no such control"),
        ("GET", "/messages?limit=x", None, 400, "limit"),
        ("POST", "/faults", None, 400, "JSON"),
        ("POST", "/faults", ["down"], 400, "object"),
        ("POST", "/replies", {"source": HANDSET}, 400, "content"),
        ("POST", "/replies", {"source": HANDSET, "content": 1}, 400, "content"),
        ("POST", "/replies", {"source": HANDSET, "content": "x", "to": "y"}, 400, "to"),
        ("POST", "/statuses", {"id": UNKNOWN_ID, "status": "dead"}, 404, "id"),
        ("POST", "/statuses", {"status": "dead"}, 400, "id"),
        ("POST", "/callback-urls", {"status": None}, 400, "reply"),
        ("POST", "/callback-urls", {"status": "ftp://u:secret@x/", "reply": None}, 400, "callback URL"),
        ("POST", "/callback-urls", {"status": "http://u:secret@x:port/", "reply": None}, 400, "callback URL"),
    ],
)
def test_control_says_what_is_wrong(
    gateway: GatewaySimulator, method: str, path: str, body: Any, status: int, named: str
) -> None:
    answer = control(gateway, method, path, body)

    assert answer.status_code == status
    assert named in answer.json()["error"]
    assert "secret" not in answer.text


@pytest.mark.parametrize("headers", [{"Origin": "https://example.com"}, {"Host": "evil.example.com"}])
def test_control_is_closed_to_web_pages(gateway: GatewaySimulator, headers: dict[str, str]) -> None:
    assert control(gateway, "POST", "/reset", headers=headers).status_code == 403


# Load, and the program


def test_a_thousand_messages_run_to_their_end_with_few_threads(gateway: GatewaySimulator, receiver: Receiver) -> None:
    def send(numbers: range) -> None:
        with requests.Session() as session:
            session.auth = AUTH
            for number in numbers:
                message = {"destination": HANDSET, "content": "Hello", "reference": f"load-{number}"}
                session.post(f"{gateway.url}/messages", json=message, timeout=WAIT_SECONDS)

    threads_before = threading.active_count()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, [range(start, start + 250) for start in range(0, 1000, 250)]))
        assert threading.active_count() < threads_before + 40
    wait_until(lambda: len(receiver.calls) == 4000)

    told = Counter((body["reference"], body["status"]) for body in receiver.bodies())
    assert told == {(f"load-{number}", status): 1 for number in range(1000) for status in DELIVERED}
    assert gateway.requests()["taken"] == 1000


def test_no_more_messages_are_kept_than_asked_for() -> None:
    with GatewaySimulator(replace(QUICK, keep_messages=2)) as gateway:
        for reference in "abc":
            post(gateway, reference=reference, scheduled=in_(hours=1))

        assert [message["fields"]["reference"] for message in gateway.taken()] == ["b", "c"]
        assert gateway.requests()["taken"] == 3


def test_stop_ends_what_waits() -> None:
    with ThreadPoolExecutor(1) as pool, GatewaySimulator(replace(QUICK, slow_response_seconds=3600)) as gateway:
        waiting = pool.submit(answer_of, gateway, destination=SCENARIOS["slow_response"].number, timeout=3600)
        wait_until(lambda: len(gateway.taken()) == 1)
        gateway.stop()
        assert waiting.result() is None


def test_program_serves_until_it_is_told_to_end_and_needs_nothing_but_python() -> None:
    """Isolated and without site-packages: it can import neither a library nor the code under test."""
    path = f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[0] = 'gateway'"
    run = f"{path}; runpy.run_module('local.simulator', run_name='__main__')"
    command = [sys.executable, "-I", "-S", "-c", run, "--port", "0", "--control-port", "0", "--seed", "7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline().split() for _ in range(3)]
        assert [line[0] for line in lines] == ["gateway", "control", "seed"]
        assert requests.get(f"{lines[0][1]}/healthz", timeout=WAIT_SECONDS).status_code == 200
        assert requests.get(lines[1][1], timeout=WAIT_SECONDS).json()["seed"] == 7
        program.send_signal(signal.SIGTERM)
        assert program.wait(WAIT_SECONDS) == 0


def test_tls_with_an_authority_of_its_own(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    with GatewaySimulator(replace(QUICK, tls_hosts=("127.0.0.1", "localhost"))) as gateway:
        authority.write_text(gateway.ca_certificate)
        with requests.Session() as session:
            session.verify = str(authority)
            for host in ("127.0.0.1", "localhost"):
                url = gateway.url.replace("127.0.0.1", host)
                assert session.get(f"{url}/healthz", timeout=WAIT_SECONDS).status_code == 200
            gateway.set_faults(down="refused")
            with pytest.raises(requests.ConnectionError):
                requests.get(f"{gateway.url}/healthz", verify=str(authority), timeout=WAIT_SECONDS)
            gateway.clear_faults()
            assert session.get(f"{gateway.url}/healthz", timeout=WAIT_SECONDS).status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(f"{gateway.url}/healthz", timeout=WAIT_SECONDS)
        with pytest.raises(requests.ConnectionError):
            requests.get(gateway.url.replace("https", "http"), timeout=WAIT_SECONDS)


def test_program_writes_the_authority_to_trust(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    command = [sys.executable, "-m", "local.simulator", "--port", "0", "--control-port", "0", "--tls", str(authority)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url = program.stdout.readline().split()[1]
        assert requests.get(f"{url}/healthz", verify=str(authority), timeout=WAIT_SECONDS).status_code == 200
        program.send_signal(signal.SIGTERM)
        assert program.wait(WAIT_SECONDS) == 0


def test_tls_makes_no_response_look_like_an_error_of_tls() -> None:
    """A server that closes says so, and the client can tell a lost response from a broken connection."""
    with GatewaySimulator(replace(QUICK, tls_hosts=("127.0.0.1",))) as gateway:
        gateway.set_faults(down="closed")
        client = Transport(tls=new_tls_context(gateway.ca_certificate))
        exchange = client.exchange("GET", f"{gateway.url}/healthz", seconds=WAIT_SECONDS)
        client.close()
    assert (exchange.handed_over, exchange.failure) == (True, "closed_without_response")


def test_program_prints_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--numbers"]) == 0
    assert capsys.readouterr().out.strip() == numbers_table()
    assert all(row.number in numbers_table() and row.name in numbers_table() for row in SCENARIOS.values())


def test_program_says_what_keeps_it_from_starting(
    gateway: GatewaySimulator, capsys: pytest.CaptureFixture[str]
) -> None:
    port = gateway.url.rsplit(":", 1)[1].partition("/")[0]
    assert main(["--port", port, "--control-port", "0"]) == 1
    assert port in capsys.readouterr().err
    assert main(["--port", "0", "--control-port", "0", "--status-url", "nonsense"]) == 1
    assert "callback URL" in capsys.readouterr().err


def test_the_document_has_the_table_of_the_code() -> None:
    document = (ROOT / "docs/gateway-simulator.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\+\d+)` \| `(\w+)` \| (.+) \|$", document, re.MULTILINE)

    assert rows == [(row.number, row.name, row.meaning) for row in SCENARIOS.values()]


def test_numbers_are_distinct_fictitious_and_valid() -> None:
    numbers = [row.number for row in SCENARIOS.values()]

    assert len(set(numbers)) == len(numbers)
    assert all(re.fullmatch(r"\+61491570006|\+447700900[0-9]{3}", number) for number in numbers)
