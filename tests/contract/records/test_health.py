"""Every rule of `optus_sms.records.health.HealthRecords`, for the in-memory store and for the one in DynamoDB alike."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ConnectionClosedError

from optus_sms.records.health import HealthRecords
from optus_sms.records.items import HEALTH_KEY, Health, HealthRecord, Pause, PauseReason
from tests.support.aws import create_table
from tests.support.memory_table import MemoryTable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

AT = "2026-01-01T00:00:00.000Z"
PAUSE = Pause(AT, PauseReason.CREDENTIALS_REFUSED, confirmed=True, credentials_version="v1")
FULL = HealthRecord(
    state=Health.UNHEALTHY,
    reason="status 503",
    since=AT,
    checked_at=AT,
    checks=7,
    good_checks=0,
    bad_checks=3,
    unknown_checks=1,
    failing_since=1_767_225_600,
    credentials="refused",
    refused_checks=4,
    refused_since=1_767_225_540,
    pause=PAUSE,
    resumed_by_operator=False,
)


@pytest.fixture
def store(client: DynamoDBClient | None) -> HealthRecords:
    if client is None:
        return HealthRecords(MemoryTable(key="pk"))
    return HealthRecords.connect(client, create_table(client, "SendLedgerTable"))


def test_there_is_a_record_before_the_first_check(store: HealthRecords) -> None:
    assert store.read() == HealthRecord()


@pytest.mark.parametrize(
    "record",
    [
        FULL,
        HealthRecord(state=Health.HEALTHY, reason="ok", since=AT, checked_at=AT, checks=1, good_checks=1),
        replace(FULL, pause=None, resumed_by_operator=True),
        replace(FULL, pause=Pause(AT, PauseReason.OUTAGE)),
    ],
)
def test_what_is_written_is_read(store: HealthRecords, record: HealthRecord) -> None:
    assert store.write(record, seen=HealthRecord())
    assert store.read() == record


def test_what_is_over_is_gone(store: HealthRecords) -> None:
    store.write(FULL, seen=HealthRecord())
    calm = replace(FULL, checks=8, pause=None, failing_since=0, refused_since=0)
    assert store.write(calm, seen=FULL)
    assert store.read() == calm


def test_of_two_writers_one_wins(store: HealthRecords) -> None:
    first = replace(FULL, reason="first")
    assert store.write(first, seen=HealthRecord())
    assert not store.write(replace(FULL, reason="second"), seen=HealthRecord())
    assert not store.write(replace(FULL, checks=9), seen=replace(FULL, checks=8))
    assert store.read() == first


def test_a_pause_that_somebody_took_over_meanwhile_is_not_written_back(store: HealthRecords) -> None:
    store.write(FULL, seen=HealthRecord())
    assert store.write(replace(FULL, pause=None), seen=FULL)  # the same check, as an operator's hand would leave it
    assert not store.write(replace(FULL, checks=8), seen=FULL)
    assert store.read().pause is None


class TestDynamoDb:
    @pytest.fixture
    def table(self, dynamodb: DynamoDBClient) -> str:
        return create_table(dynamodb, "SendLedgerTable")

    def test_an_operator_takes_a_pause_over_by_removing_one_attribute(
        self, dynamodb: DynamoDBClient, table: str
    ) -> None:
        store = HealthRecords.connect(dynamodb, table)
        store.write(FULL, seen=HealthRecord())
        dynamodb.update_item(TableName=table, Key={"pk": {"S": HEALTH_KEY}}, UpdateExpression="REMOVE paused_by")
        seen = store.read()
        assert seen.pause is None
        assert store.write(replace(seen, checks=8), seen=seen)

    def test_a_name_of_theirs_is_no_pause_of_ours(self, dynamodb: DynamoDBClient, table: str) -> None:
        store = HealthRecords.connect(dynamodb, table)
        store.write(FULL, seen=HealthRecord())
        dynamodb.update_item(
            TableName=table,
            Key={"pk": {"S": HEALTH_KEY}},
            UpdateExpression="SET paused_by = :me",
            ExpressionAttributeValues={":me": {"S": "somebody"}},
        )
        seen = store.read()
        assert seen.pause is None
        assert store.write(replace(seen, checks=8), seen=seen)

    def test_a_write_whose_answer_was_lost_was_done(
        self, dynamodb: DynamoDBClient, table: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The SDK repeats it, and the condition refuses the repetition."""
        store, put = HealthRecords.connect(dynamodb, table), dynamodb.put_item

        def twice(**arguments: object) -> object:
            put(**arguments)  # type: ignore[arg-type]
            return put(**arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(dynamodb, "put_item", twice)
        assert store.write(FULL, seen=HealthRecord())

    def test_another_failure_is_not_hidden(
        self, dynamodb: DynamoDBClient, table: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(**_arguments: object) -> object:
            raise ConnectionClosedError(endpoint_url="https://dynamodb")

        monkeypatch.setattr(dynamodb, "put_item", failing)
        with pytest.raises(ConnectionClosedError):
            HealthRecords.connect(dynamodb, table).write(FULL, seen=HealthRecord())
