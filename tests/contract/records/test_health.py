"""Every rule of `optus_sms.records.health.HealthRecords`, in memory and in DynamoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ConnectionClosedError

from optus_sms.model.lanes import Lane
from optus_sms.records.health import PROBES_AFTER_SECONDS, HealthRecords
from optus_sms.records.items import HEALTH_KEY, Doubt, Health, HealthRecord, Pause, PausedBy, PauseReason
from tests.support.aws import create_table
from tests.support.builders import NOW
from tests.support.memory_table import MemoryTable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

AT = "2026-01-01T00:00:00.000Z"  # NOW
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
    tried_version="v2",
    refused_checks=4,
    refused_since=1_767_225_540,
    messages_decide_since=1_767_225_500,
    pause=PAUSE,
    resuming=True,
    operator_commands=2,
    doubt=Doubt(1_767_225_720, 1, 1_767_225_600),
)

WELL = HealthRecord(state=Health.HEALTHY, reason="ok", since=AT, checked_at=AT, checks=1, good_checks=1)


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
        WELL,
        FULL._replace(pause=None),
        FULL._replace(pause=Pause(AT, PauseReason.OUTAGE)),
        FULL._replace(pause=Pause(AT, PauseReason.OUTCOMES_UNKNOWN, probing=True), doubt=None),
        FULL._replace(pause=Pause(AT, None, confirmed=True)),
    ],
)
def test_what_is_written_is_read(store: HealthRecords, record: HealthRecord) -> None:
    assert store.write(record, seen=HealthRecord())
    assert store.read() == record


def test_what_is_over_is_gone(store: HealthRecords) -> None:
    store.write(FULL, seen=HealthRecord())
    calm = FULL._replace(checks=8, pause=None, failing_since=0, refused_since=0)
    assert store.write(calm, seen=FULL)
    assert store.read() == calm


def test_each_check_follows_the_one_before_without_any_command(store: HealthRecords) -> None:
    assert store.write(WELL, seen=HealthRecord())
    assert store.write(WELL._replace(checks=2), seen=WELL)


def test_of_two_writers_one_wins(store: HealthRecords) -> None:
    first = FULL._replace(reason="first")
    assert store.write(first, seen=HealthRecord())
    assert not store.write(FULL._replace(reason="second"), seen=HealthRecord())
    assert not store.write(FULL._replace(checks=9), seen=FULL._replace(checks=8))
    assert store.read() == first


@pytest.mark.parametrize("seen", [HealthRecord(), FULL, FULL._replace(pause=None), WELL])
def test_a_command_of_an_operator_is_always_written_and_makes_a_check_in_flight_fail(
    store: HealthRecords, seen: HealthRecord
) -> None:
    if seen.checks:
        assert store.write(seen, seen=HealthRecord())
    store.pause_by_operator(now=NOW)
    paused = store.read()
    assert paused.pause == Pause(AT, None)
    assert (paused.resuming, paused.operator_commands) == (False, seen.operator_commands + 1)
    assert not store.write(seen._replace(checks=8), seen=seen)
    store.resume_by_operator(now=NOW)
    resumed = store.read()
    assert (resumed.pause, resumed.resuming, resumed.messages_decide_since) == (None, True, int(NOW) + 60)
    assert resumed.operator_commands == seen.operator_commands + 2
    assert not store.write(seen._replace(checks=8), seen=seen)
    assert not store.write(paused._replace(checks=8), seen=paused)
    assert store.write(resumed._replace(checks=8), seen=resumed)


def test_a_pause_of_one_lane_makes_a_check_in_flight_fail(store: HealthRecords) -> None:
    assert store.write(WELL, seen=HealthRecord())
    store.pause_by_operator(Lane.URGENT, now=NOW)
    assert store.read().free == (Lane.ORDINARY,)
    assert not store.write(WELL._replace(checks=8), seen=WELL)


@pytest.mark.parametrize("state", Health)
def test_after_an_operator_resumed_one_message_goes_first_unless_all_is_well(
    store: HealthRecords, state: Health
) -> None:
    assert store.write(FULL._replace(state=state, doubt=None), seen=HealthRecord())
    store.resume_by_operator(now=NOW)
    assert store.read_doubt() == (None if state is Health.HEALTHY else Doubt(int(NOW), 0, int(NOW)))


def test_after_an_operator_resumed_the_next_probe_goes_at_once(store: HealthRecords) -> None:
    assert store.write(FULL, seen=HealthRecord())
    store.resume_by_operator(now=NOW)
    assert FULL.doubt is not None
    assert store.read_doubt() == FULL.doubt._replace(probe_after=int(NOW))


class TestDoubt:
    def test_there_is_none_at_first(self, store: HealthRecords) -> None:
        assert store.read_doubt() is None

    def test_the_first_to_begin_it_decides(self, store: HealthRecords) -> None:
        doubt = store.begin_doubt(now=NOW)
        assert doubt == Doubt(int(NOW) + PROBES_AFTER_SECONDS[0], 0, int(NOW))
        assert store.begin_doubt(now=NOW + 30) == store.read_doubt() == store.read().doubt == doubt

    def test_one_claims_each_probe(self, store: HealthRecords) -> None:
        doubt = store.begin_doubt(now=NOW)
        assert store.claim_probe(doubt, now=NOW) == (False, doubt), "not yet"
        at = float(doubt.probe_after)
        first, claimed = store.claim_probe(doubt, now=at)
        assert (first, claimed) == (True, Doubt(int(at) + PROBES_AFTER_SECONDS[1], 1, int(NOW)))
        assert store.claim_probe(doubt, now=at) == (False, claimed), "another one was faster"

    def test_there_are_at_most_six_probes_in_any_hour(self, store: HealthRecords) -> None:
        doubt, times = store.begin_doubt(now=NOW), []
        for second in range(3 * 3600):
            if second >= doubt.probe_after - NOW:
                claimed, after = store.claim_probe(doubt, now=NOW + second)
                assert claimed
                assert after is not None
                doubt = after
                times.append(second)
        assert times[:5] == [2, 2 + 15, 17 + 60, 77 + 900, 977 + 900]  # as in docs/outages.md
        assert max(sum(start <= time < start + 3600 for time in times) for start in times) == 6

    def test_a_certain_outcome_ends_it_for_all(self, store: HealthRecords) -> None:
        doubt = store.begin_doubt(now=NOW)
        _, claimed = store.claim_probe(doubt, now=NOW + 2)
        assert claimed is not None
        store.end_doubt(claimed)
        assert store.read_doubt() is None
        assert store.claim_probe(doubt, now=NOW + 60) == (False, None)

    def test_what_was_not_sent_costs_no_probe(self, store: HealthRecords) -> None:
        doubt = store.begin_doubt(now=NOW)
        _, claimed = store.claim_probe(doubt, now=NOW + 2)
        assert claimed is not None
        returned = store.return_probe(claimed, now=NOW + 3)
        assert returned == store.read_doubt() == Doubt(int(NOW) + 3, 0, int(NOW))
        assert store.claim_probe(returned, now=NOW + 3)[0]

    def test_a_late_result_changes_no_newer_doubt(self, store: HealthRecords) -> None:
        _, first = store.claim_probe(store.begin_doubt(now=NOW), now=NOW + 2)
        assert first is not None
        _, second = store.claim_probe(first, now=NOW + 100)
        store.end_doubt(first)
        store.return_probe(first, now=NOW + 100)
        assert store.read_doubt() == second

    def test_it_survives_a_check_and_a_check_that_missed_it_writes_nothing(self, store: HealthRecords) -> None:
        seen = store.read()
        store.begin_doubt(now=NOW)
        assert not store.write(seen._replace(checks=1), seen=seen)
        seen = store.read()
        assert store.write(seen._replace(checks=1), seen=seen)
        assert store.read_doubt() == seen.doubt

    def test_an_operator_who_resumes_lets_a_probe_go_at_once(self, store: HealthRecords) -> None:
        _, doubt = store.claim_probe(store.begin_doubt(now=NOW), now=NOW + 2)
        assert doubt is not None
        store.resume_by_operator(now=NOW + 5)
        assert store.read_doubt() == doubt._replace(probe_after=int(NOW) + 5)


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
        assert store.write(seen._replace(checks=8), seen=seen)

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
        assert seen.pause is not None
        assert seen.pause.by is PausedBy.OPERATOR
        assert store.write(seen._replace(checks=8), seen=seen)

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
