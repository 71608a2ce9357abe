"""No log, metric or response ever has a message text, whole phone number or credential.

Each case has marked values in every place where a caller, the gateway or AWS could put them. The function's output,
logs (also botocore's and urllib3's, from INFO on) and response are searched for them.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError

from optus_sms.flows.breaker import Breaker
from optus_sms.flows.probing import Probing
from optus_sms.flows.publish_events import event_of
from optus_sms.flows.send_message import Sender
from optus_sms.gateway.api import Outcome, PostResult, Stop
from optus_sms.gateway.credentials import GatewayCredentials
from optus_sms.records.changes import Change, read_item
from optus_sms.records.table import Item
from optus_sms.runtime.observability import error_fields, publish
from tests.support.bench import Bench
from tests.support.builders import (
    CALLBACK_PASSWORD,
    api_event,
    basic,
    message_body,
    queue_record,
    reply_event,
    status_event,
    wanted,
)
from tests.support.callback_stack import CallbackStack
from tests.support.fakes import (
    FakeClock,
    FixedSecret,
    MemoryLedger,
    MemoryMessages,
    MemoryOptOuts,
    Moment,
    RecordingQueues,
    ScriptedGateway,
    unpaced,
)
from tests.support.health import MemoryHealthRecords

NUMBER = "+61491570156"
SPACED = "0491 570 156"
TEXT = "canary-text"
PASSWORD = "canary-password"
MASKED_PASSWORD = base64.b64encode(f"gateway:{PASSWORD}".encode()).decode()
CANARIES = (
    NUMBER.removeprefix("+"),
    NUMBER.removeprefix("+61"),
    SPACED,
    TEXT,
    base64.b64encode(TEXT.encode()).decode(),
    PASSWORD,
    MASKED_PASSWORD,
    CALLBACK_PASSWORD,
    basic().removeprefix("Basic "),
)
EVERYTHING = f"{TEXT} {NUMBER} {SPACED} {PASSWORD} {CALLBACK_PASSWORD}"


def assert_silent(*outputs: str) -> None:
    for output in outputs:
        for canary in CANARIES:
            assert canary not in output


@pytest.fixture
def other_logs() -> Iterator[io.StringIO]:
    """Return the libraries' logs, as Lambda's root handler would print them."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


# ----------------------------------------------------------------------------------------------------------- callbacks


@pytest.fixture(scope="module")
def shared_stack() -> Iterator[CallbackStack]:
    with CallbackStack() as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: CallbackStack) -> CallbackStack:
    return shared_stack.clean()


EVERY_FIELD = {
    "detail": EVERYTHING,
    "reference": EVERYTHING,
    "source": NUMBER,
    "destination": NUMBER,
    "operator": EVERYTHING,
    "hello": EVERYTHING,
}
CALLBACKS: dict[str, Any] = {
    "status": status_event({"id": "a-1", "status": "received", **EVERY_FIELD}),
    "status, stale": status_event({"id": "a-1", "status": "sent", **EVERY_FIELD}),
    "status, unknown": status_event({"id": "a-1", "status": EVERYTHING, **EVERY_FIELD}),
    "status, number as status": status_event({"id": "a-1", "status": NUMBER}),
    "status, number as id": status_event({"id": NUMBER, "status": "sent"}),
    "status, digits as id": status_event({"id": int(NUMBER), "status": "sent"}),
    "status, number in an id": status_event({"id": f"to:{NUMBER[1:]}", "status": "sent"}),
    "status, text as id": status_event({"id": TEXT + " " * 3 + NUMBER, "status": "sent"}),
    "reply": reply_event({"id": "b-1", "content": TEXT, **EVERY_FIELD}),
    "reply, again": reply_event({"id": "b-1", "content": TEXT, **EVERY_FIELD}),
    "reply, exact": reply_event({"id": "b-2", "content": TEXT, "reply_to": EVERYTHING, **EVERY_FIELD}),
    "reply, base64": reply_event(
        {"id": "b-3", "content": base64.b64encode(TEXT.encode()).decode(), "encoding": "base64"}
    ),
    "reply, broken base64": reply_event({"id": "b-4", "content": TEXT, "encoding": f"base64 {NUMBER}"}),
    "reply, objects for texts": reply_event({"id": "b-5", "content": {TEXT: NUMBER}, "reply_to": {TEXT: NUMBER}}),
    "no id": status_event({"status": "sent", **EVERY_FIELD}),
    "id of another type": status_event({"id": {TEXT: NUMBER}, "status": "sent"}),
    "not JSON": status_event(EVERYTHING),
    "cut": status_event('{"id": "' + EVERYTHING),
    "a list": status_event(json.dumps([EVERYTHING])),
    "a text": status_event(json.dumps(EVERYTHING)),
    "half a character": status_event(f'{{"id": "1", "detail": "{EVERYTHING} \\ud83d"}}'),
    "too deep": status_event(f'{{"{EVERYTHING}": ' + "[" * 5000),
    "bytes": status_event(EVERYTHING.encode() + b"\xff"),
    "too large": status_event(EVERYTHING * 5000),
    "id of a reply": status_event({"id": "b-1", "status": "sent", **EVERY_FIELD}),
    "id of a message": reply_event({"id": "a-1", "content": TEXT, **EVERY_FIELD}),
    "wrong path": api_event(f"/callbacks/{TEXT}/{NUMBER}", EVERYTHING),
    "wrong method": status_event(EVERYTHING, method=TEXT),
    "no credentials": status_event(EVERYTHING, authorization=None),
    "wrong credentials": status_event(EVERYTHING, authorization=f"Basic {MASKED_PASSWORD}"),
    "credentials not encoded": status_event(EVERYTHING, authorization=f"Basic gateway:{PASSWORD}"),
    "another scheme": status_event(EVERYTHING, authorization=f"Bearer {PASSWORD}"),
    "no ASCII": status_event(EVERYTHING, authorization=f"Basic {PASSWORD}å\ud83d"),
    "query": status_event({"id": "a-2"}) | {"queryStringParameters": {TEXT: NUMBER}},
}


def quoting() -> dict[str, Exception]:
    """Return errors of all kinds whose messages quote their input."""
    response: Any = {"Error": {"Code": "ValidationException", "Message": EVERYTHING}, "Item": {"content": {"S": TEXT}}}
    return {
        "client error": ClientError(response, "UpdateItem"),
        "unreachable": EndpointConnectionError(endpoint_url=f"https://{PASSWORD}@dynamodb/{NUMBER}", error=EVERYTHING),
        "parameters": ParamValidationError(report=EVERYTHING),
        "a bug": ValueError(EVERYTHING),
        "a bug in a bug": _chained(),
        "too deep": RecursionError(EVERYTHING),
    }


def _chained() -> Exception:
    try:
        try:
            raise KeyError(EVERYTHING)
        except KeyError as inner:
            raise RuntimeError(EVERYTHING) from inner
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_leaves_no_trace_of_what_is_in_it(
    stack: CallbackStack, other_logs: io.StringIO, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    # The message of the reply, and the item that a status contradicts, exist already.
    for before in ("status", "reply"):
        stack.handle(CALLBACKS[before])
    answer = stack.handle(CALLBACKS[name])
    assert answer.status < 500
    assert_silent(
        answer.output, answer.body, json.dumps(dict(answer.headers)), other_logs.getvalue(), *capfd.readouterr()
    )


CALLS = ("dynamodb.UpdateItem", "dynamodb.PutItem", "dynamodb.Query", "dynamodb.GetItem", "sqs.SendMessage")


@pytest.mark.parametrize("error", quoting().values(), ids=quoting())
def test_nor_does_an_exception_of_storage(
    stack: CallbackStack, other_logs: io.StringIO, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    stack.fail(*CALLS, error=error)
    for name in ("status", "status, unknown", "reply", "reply, exact", "not JSON", "no id"):
        answer = stack.handle(CALLBACKS[name])
        assert answer.status == 503, name
        assert answer.log, name
        assert_silent(answer.output, answer.body, json.dumps(dict(answer.headers)))
    assert_silent(other_logs.getvalue(), *capfd.readouterr())


@pytest.mark.parametrize("error", quoting().values(), ids=quoting())
def test_nor_does_an_exception_of_the_secret(stack: CallbackStack, other_logs: io.StringIO, error: Exception) -> None:
    stack.fail("secretsmanager.GetSecretValue", error=error)
    stack.new_execution_environment()
    for event in (CALLBACKS["status"], CALLBACKS["wrong credentials"]):
        answer = stack.handle(event)
        assert answer.status == 503
        assert_silent(answer.output, answer.body, other_logs.getvalue())
    stack.mend()
    stack.clock.advance(60)


def test_nor_does_a_secret_that_holds_the_wrong_thing(stack: CallbackStack, other_logs: io.StringIO) -> None:
    for content in (EVERYTHING, json.dumps([EVERYTHING]), json.dumps({"user": EVERYTHING})):
        for _ in range(2):
            stack.secrets_manager.put_secret_value(SecretId=stack.secret_id, SecretString=content)
        stack.new_execution_environment()
        answer = stack.handle(CALLBACKS["status"])
        assert answer.status == 503
        assert_silent(answer.output, answer.body, other_logs.getvalue())
    for _ in range(2):
        stack.rotate("gateway", CALLBACK_PASSWORD)
    stack.new_execution_environment()


def test_resolving_an_outcome_names_the_message_by_its_key_only(stack: CallbackStack) -> None:
    at = stack.clock.now()
    stack.ledger.claim(wanted("order-1", destination=NUMBER, owner="me", lease_until=int(at) + 90), now=at)
    answer = stack.handle(status_event({"id": "a-9", "status": "sent", "reference": "order-1"}))
    assert stack.row("a-9")["destination"] == NUMBER
    assert '"message_id":"order-1"' in answer.output
    assert_silent(answer.output)


def test_the_canaries_would_be_found() -> None:
    for canary in CANARIES:
        with pytest.raises(AssertionError):
            assert_silent(f'{{"message": "so it {canary} is"}}')


# -------------------------------------------------------------------------------------------------------------- sender

OUTCOMES: dict[str, PostResult] = {
    outcome.name: PostResult(outcome, "reason", 500, "a-1" if outcome is Outcome.ACCEPTED else None, seconds=0.25)
    for outcome in Outcome
} | {
    f"accepted as {name}": PostResult(Outcome.ACCEPTED, "accepted", 202, name) for name in (NUMBER, SPACED, EVERYTHING)
}
STEPS = (
    "ledger.claim", "opt_outs.read", "ledger.register_reference", "ledger.accepted", "messages.record_sent",
    "queues.dead_letter", "queues.give_back", "gateway.post_message", "secret.current",
)  # fmt: skip


def run_sender(outcome: PostResult, body: str, failing: str | None = None, error: Exception | None = None) -> str:
    """Return the output for one record; ``failing``: the step that raises ``error``."""

    def hook(step: str, moment: Moment) -> None:
        if step == failing and moment == "before" and error is not None:
            raise error

    clock = FakeClock()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        sender = Sender(
            ledger=MemoryLedger(hook),
            messages=MemoryMessages(hook=hook),
            opt_outs=MemoryOptOuts(hook),
            queues=RecordingQueues(hook),
            gateway=ScriptedGateway([outcome] * 3, hook=hook),
            secret=FixedSecret(GatewayCredentials("app", PASSWORD), hook=hook),
            pacers=unpaced(clock.clock),
            probing=Probing(Breaker(clock.monotonic), MemoryHealthRecords(), clock.clock),
            clock=clock.clock,
            on_unknown="hold",
            require_message_id=False,
            max_attempts=1,
        )
        result = sender.send_batch([queue_record(body)], deadline=clock.now() + 60)
        publish(result.measurements)
    return printed.getvalue()


def outbound(**changes: Any) -> str:
    return message_body(destination=NUMBER, content=TEXT, **changes)


BODIES: dict[str, str] = {
    "valid": outbound(),
    "with a reference": outbound(reference="order-1"),
    "unknown field": outbound(**{TEXT: NUMBER}),
    "bad number": message_body(destination=f"{NUMBER}x", content=TEXT),
    "content of another type": message_body(destination=NUMBER, content=[TEXT]),
    "bad schedule": outbound(scheduled=TEXT),
    "bad key": outbound(message_id=f"{TEXT} {NUMBER}"),
    "not JSON": EVERYTHING,
    "a list": json.dumps([EVERYTHING]),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
def test_a_message_leaves_no_trace_of_what_is_in_it(
    monkeypatch: pytest.MonkeyPatch, other_logs: io.StringIO, outcome: PostResult, body: str
) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "send_message")
    output = run_sender(outcome, body)
    assert '"level"' in output
    assert_silent(output, other_logs.getvalue())


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", quoting().values(), ids=quoting())
def test_nor_does_an_exception_of_any_step_of_sending(
    monkeypatch: pytest.MonkeyPatch, other_logs: io.StringIO, step: str, error: Exception
) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "send_message")
    outputs = [
        run_sender(OUTCOMES[name], body, step, error) for name in OUTCOMES for body in (BODIES["valid"], EVERYTHING)
    ]
    assert any(outputs)
    assert_silent(*outputs, other_logs.getvalue())


def test_nor_do_the_ids_of_a_message_that_was_accepted_twice(capsys: pytest.CaptureFixture[str]) -> None:
    run = Bench(gateway=ScriptedGateway([OUTCOMES[f"accepted as {NUMBER}"]]))

    def other(step: str, moment: Moment) -> None:
        if (step, moment) == ("ledger.accepted", "before"):
            run.hook()
            run.ledger.resolve_by_callback("message-1", SPACED, now=run.time.now())

    run.hook(other)
    run.send(queue_record(message_body(message_id="message-1")))
    output = capsys.readouterr().out
    assert "accepted twice" in output
    assert_silent(output)


# -------------------------------------------------------------------------------------------------------------- events

ITEMS: dict[str, Item] = {
    "a status": {"id": "a-1", "direction": "MT", "message_id": "k", "status": "rejected", "detail": EVERYTHING},
    "a refusal": {"pk": "msg#k", "state": "REJECTED", "reason": "rejected", "detail": EVERYTHING},
    "health": {"pk": "health#gateway", "state": "unhealthy", "reason": "status 503"},
}


@pytest.mark.parametrize("name", ITEMS)
def test_no_number_leaves_in_an_event(name: str) -> None:
    record = read_item(ITEMS[name] | {"destination": NUMBER, "handset": NUMBER, "content": TEXT})
    assert record is not None
    event = event_of(Change(None, record, "2026"))
    assert event is not None
    told = json.dumps(event.to_detail(), ensure_ascii=False)
    assert not [number for number in CANARIES[:3] if number in told]


# ----------------------------------------------------------------------------------------------------------- in common


def test_the_fields_of_an_error_never_hold_its_message() -> None:
    for error in quoting().values():
        fields = error_fields(error)
        assert fields["error"] == type(error).__name__
        assert_silent(json.dumps(fields))


def test_credentials_do_not_show_themselves() -> None:
    assert_silent(repr(GatewayCredentials("app", PASSWORD)), str(GatewayCredentials(PASSWORD, PASSWORD)))
    assert Stop.CREDENTIALS_REFUSED.name in repr(PostResult(Outcome.NOT_SENT, "x", stop=Stop.CREDENTIALS_REFUSED))
