"""Long reads show their progress, and continue after AWS has throttled or failed them for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import boto3
import pytest
from botocore.endpoint import Endpoint
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from cli import long_reads
from cli.long_reads import Patience, shown
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.records.items import State
from tests.support.aws import REGION
from tests.support.builders import message_body
from tests.support.cli import optus_sms
from tests.support.deployed import STACK, DeployedStack

TARGET = ("--stack", STACK, "--region", REGION)
THROTTLED = (400, "ThrottlingException")
BROKEN = (503, "ServiceUnavailable")


class Trouble:
    """Lets some calls of an operation fail without effect."""

    def __init__(self, operation: str, failures: list[Any], *, after: int = 0) -> None:
        self.operation, self.failures, self.after = operation, failures, after

    def failure(self, operation: str) -> Any:
        if operation != self.operation or not self.failures:
            return None
        if self.after:
            self.after -= 1
            return None
        return self.failures.pop(0)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Skip the waits between attempts, and record them."""
    clock = Mock()
    monkeypatch.setattr("botocore.endpoint.time", clock)
    return clock


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes `Trouble`."""
    made: list[Trouble] = []
    respond: Any = Endpoint._do_get_response  # type: ignore[attr-defined]

    def with_trouble(endpoint: Endpoint, request: Any, operation_model: Any, context: Any) -> Any:
        failures = [each.failure(operation_model.name) for each in made]
        failure = next(filter(None, failures), None)
        if failure is None:
            return respond(endpoint, request, operation_model, context)
        if isinstance(failure, Exception):
            return None, failure
        status, code = failure
        parsed = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
        return (Mock(status_code=status, headers={}), parsed), None

    monkeypatch.setattr(Endpoint, "_do_get_response", with_trouble)
    return lambda *arguments, **options: made.append(Trouble(*arguments, **options))


def letters(stack: DeployedStack, count: int) -> None:
    for number in range(count):
        stack.letter(message_body(message_id=f"k{number}"), DeadLetterReason.REJECTED, f"k{number}")


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize(
    "failure", [THROTTLED, BROKEN, ReadTimeoutError(endpoint_url="https://x")], ids=["throttled", "broken", "silent"]
)
class TestPatience:
    def test_a_read_of_dead_letters_goes_on(
        self, stack: DeployedStack, trouble: Callable[..., None], failure: Any
    ) -> None:
        letters(stack, 12)
        trouble("ReceiveMessage", [failure] * 9, after=1)
        ran = optus_sms("dead-letters", "--json", *TARGET)
        assert (ran.exit_code, len(ran.document)) == (0, 12)
        assert "ReceiveMessage" in ran.stderr
        assert "may be hidden" in ran.stderr, "what was in a lost response is hidden for a while"

    @pytest.mark.parametrize("option", ["--scan", "--unknown"])
    def test_a_read_of_a_table_goes_on(
        self, stack: DeployedStack, trouble: Callable[..., None], failure: Any, option: str
    ) -> None:
        stack.bring(State.UNKNOWN, "k")
        for operation in ("Scan", "Query", "GetItem"):
            trouble(operation, [failure] * 9)
        ran = optus_sms("list", "--unknown", option, "--json", *TARGET)
        assert [each["message_id"] for each in ran.document] == ["k"]

    def test_that_the_stack_can_not_be_read_is_reported_soon(
        self, stack: DeployedStack, trouble: Callable[..., None], failure: Any
    ) -> None:
        trouble("DescribeStacks", [failure] * 30)
        ran = optus_sms("dead-letters", *TARGET)
        assert (ran.exit_code, "retrying" in ran.stderr) == (1, False)

    def test_it_ends(self, stack: DeployedStack, trouble: Callable[..., None], failure: Any) -> None:
        letters(stack, 12)
        trouble("ReceiveMessage", [failure] * 60, after=1)
        assert optus_sms("dead-letters", *TARGET).exit_code == 1
        assert stack.dead() == 12, "what was held is released"


def test_a_local_stack_that_has_gone_is_not_waited_for(session: boto3.Session) -> None:
    patience = Patience(session.client("sqs"), attempts=1, local=True)
    gone = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    silent = ReadTimeoutError(endpoint_url="http://127.0.0.1:1")
    waits = [
        patience._wait(response=None, caught_exception=failure, attempts=1, operation=Mock())
        for failure in (gone, silent)
    ]
    assert waits == [None, 1]


class TestProgress:
    @pytest.mark.parametrize(
        "command",
        [("dead-letters",), ("redrive", "--plan", "p"), ("redrive", "k0", "--yes"), ("list", "--unknown"),
         ("list", "--unknown", "--scan"), ("resolve", "k0", "--not-sent"), ("replay-callbacks",)],
        ids=" ".join,
    )  # fmt: skip
    def test_is_shown_on_stderr(
        self, stack: DeployedStack, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
    ) -> None:
        letters(stack, 3)
        stack.bring(State.UNKNOWN, "k0")
        monkeypatch.setattr(long_reads, "_EVERY_SECONDS_IN_A_FILE", 0)
        ran = optus_sms(*command, *TARGET)
        assert "1 read …\n" in ran.stderr
        assert "read …" not in ran.stdout

    def test_on_a_terminal_it_is_one_line_that_goes_away(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(long_reads, "_EVERY_SECONDS", 0)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        assert list(shown("ab", "letters")) == ["a", "b"]
        text = capsys.readouterr().err
        assert text == "letters: 1 read …\rletters: 2 read …\r" + " " * len("letters: 2 read …") + "\r"

    def test_what_is_read_at_once_needs_none(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert list(shown("ab", "letters")) == ["a", "b"]
        assert capsys.readouterr().err == ""
