"""The daily check of the gateway's API: request, report and storage, in order."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from botocore.exceptions import ClientError

from optus_sms.flows.check_contract import ContractChecker
from optus_sms.gateway.api import Gateway
from optus_sms.gateway.credentials import GatewayCredentials, GatewaySecret
from optus_sms.gateway.transport import Exchange
from optus_sms.model.errors import CredentialsError
from optus_sms.records.contract import ContractRecords
from tests.support.fakes import FakeClock
from tests.support.health import answer

FIRST = b"openapi: 3.0.3\npaths: {}\n"
SECOND = b"openapi: 3.0.3\npaths: {}\nx: 1\ny: 2\n"
HTML = answer(200, b"<html>maintenance</html>")
THROTTLED = ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "AnyCall")


class OneGateway(Gateway):
    """A gateway. ``response``: its `openapi.yaml`."""

    def __init__(self, response: Exchange) -> None:
        self.response = response
        self.asked_with: list[GatewayCredentials | None] = []

    def get_contract(self, credentials: GatewayCredentials | None) -> Exchange:
        self.asked_with.append(credentials)
        return self.response


class OneSecret(GatewaySecret):
    """Credentials, or none that are usable."""

    def __init__(self, credentials: GatewayCredentials | None = None) -> None:
        self._credentials = credentials

    def current(self) -> GatewayCredentials:
        if self._credentials is None:
            raise CredentialsError("GatewaySecret still holds the placeholder")
        return self._credentials


class MemoryContract(ContractRecords):
    """The item in a variable; ``failure`` is raised by `put`."""

    def __init__(self) -> None:
        self.document: str | None = None
        self.puts: list[str] = []
        self.failure: Exception | None = None

    def get(self) -> str | None:
        return self.document

    def put(self, document: str, *, now: float) -> None:
        if self.failure:
            raise self.failure
        self.document = document
        self.puts.append(document)


class Daily:
    """A checker, with its output and log of the last check."""

    def __init__(self, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self.gateway = OneGateway(answer(200, FIRST))
        self.records = MemoryContract()
        self.metrics: dict[str, float] = {}
        self.log: list[tuple[int, str]] = []
        self.extra: dict[str, Any] = {}
        self._checker = ContractChecker(
            self.gateway, OneSecret(GatewayCredentials("a", "p")), self.records, FakeClock().clock
        )
        self._capsys, self._caplog = capsys, caplog

    def check(self, response: Exchange) -> Any:
        self.gateway.response = response
        self._caplog.clear()
        self._capsys.readouterr()
        try:
            return self._checker.check()
        finally:
            self.log = [(record.levelno, record.getMessage()) for record in self._caplog.records]
            self.extra = self._caplog.records[-1].__dict__
            self.metrics = _metrics(self._capsys.readouterr().out)


def _metrics(printed: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for record in filter(lambda record: "_aws" in record, map(json.loads, printed.splitlines())):
        for metric in record["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
            found[metric["Name"]] = sum(record[metric["Name"]])
    return found


@pytest.fixture
def daily(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Daily:
    return Daily(capsys, caplog)


def test_a_document_is_baseline_then_same_then_changed_then_same_again(daily: Daily) -> None:
    assert daily.check(answer(200, FIRST)) == {"contract": "baseline", "differences": [], "reason": ""}
    assert daily.metrics == {"ContractDifferences": 0.0, "ContractUnreadable": 0.0}
    assert daily.log == [(logging.INFO, "gateway contract stored as the baseline")]
    assert daily.extra["lines"] == 2
    assert daily.check(answer(200, FIRST))["contract"] == "same"
    assert daily.metrics == {"ContractDifferences": 0.0, "ContractUnreadable": 0.0}
    assert daily.log == [(logging.INFO, "gateway contract unchanged")]
    changed = daily.check(answer(200, SECOND))
    assert changed["contract"] == "changed"
    assert changed["differences"][-2:] == ["+x: 1", "+y: 2"]
    assert daily.metrics == {"ContractDifferences": 2.0, "ContractUnreadable": 0.0}
    assert daily.log == [(logging.ERROR, "gateway contract changed")]
    assert daily.extra["differences"] == changed["differences"]
    assert daily.check(answer(200, SECOND))["contract"] == "same"
    assert daily.records.puts == [FIRST.decode().strip(), SECOND.decode().strip()]


@pytest.mark.parametrize(
    ("response", "contract"), [(answer(404), "absent"), (answer(500), "unreadable"), (HTML, "unreadable")]
)
@pytest.mark.parametrize("before", [None, FIRST.decode().strip()])
def test_what_is_no_document_is_told_and_never_remembered(
    daily: Daily, response: Exchange, contract: str, before: str | None
) -> None:
    daily.records.document = before
    assert daily.check(response)["contract"] == contract
    assert daily.metrics == {"ContractUnreadable": 1.0}
    assert daily.log == [(logging.WARNING, "gateway contract not compared")]
    assert (daily.records.document, daily.records.puts) == (before, [])


def test_a_change_that_is_not_remembered_is_reported_and_reported_again(daily: Daily) -> None:
    daily.check(answer(200, FIRST))
    daily.records.failure = THROTTLED
    for _ in range(2):
        with pytest.raises(ClientError):
            daily.check(answer(200, SECOND))
        assert daily.log == [(logging.ERROR, "gateway contract changed")]
        assert daily.metrics["ContractDifferences"] == 2.0
    daily.records.failure = None
    assert daily.check(answer(200, SECOND))["contract"] == "changed"
    assert daily.check(answer(200, SECOND))["contract"] == "same"


@pytest.mark.parametrize("credentials", [GatewayCredentials("a", "p"), None])
def test_asks_with_credentials_if_there_are_any(credentials: GatewayCredentials | None) -> None:
    gateway = OneGateway(answer(200, FIRST))
    assert ContractChecker(gateway, OneSecret(credentials), MemoryContract()).check()["contract"] == "baseline"
    assert gateway.asked_with == [credentials]
