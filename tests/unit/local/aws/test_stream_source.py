"""Lambda's rules for DynamoDB streams in the local stack."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import pytest

from local.aws.function import FunctionError, Invocation
from local.aws.stream_source import StreamSource, StreamSourceConfig, records_to_repeat, wants

CONFIG = StreamSourceConfig(
    stream_arn="arn:aws:dynamodb:ap-southeast-2:123456789012:table/t/stream/1",
    batch_size=100,
    filters=(),
    report_batch_item_failures=True,
    bisect=False,
    max_retries=2,
    on_failure_queue_url="https://sqs.example/notes",
)


def records(count: int) -> list[dict[str, Any]]:
    return [{"dynamodb": {"SequenceNumber": str(n)}} for n in range(count)]


def failed(*names: object) -> Invocation:
    return Invocation("id", {"batchItemFailures": [{"itemIdentifier": name} for name in names]})


@pytest.mark.parametrize(
    ("invocation", "first"),
    [
        (Invocation("id", None), 4),
        (Invocation("id", {}), 4),
        (Invocation("id", {"batchItemFailures": []}), 4),
        (failed("2"), 2),
        (failed("3", "1"), 1),
        (failed("9"), 0),
        (failed(None), 0),
        (Invocation("id", ["x"]), 0),
        (Invocation("id", error=FunctionError("E", "m")), 0),
    ],
)
def test_what_comes_again(invocation: Invocation, first: int) -> None:
    assert records_to_repeat(records(4), invocation, CONFIG) == records(4)[first:]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ({"eventName": ["INSERT", "MODIFY"]}, True),
        ({"eventName": ["REMOVE"]}, False),
        ({"dynamodb": {"NewImage": {"state": {"S": ["ACCEPTED"]}}}}, True),
        ({"dynamodb": {"NewImage": {"state": {"S": [{"anything-but": ["ACCEPTED"]}]}}}}, False),
        ({"dynamodb": {"NewImage": {"status": {"S": [{"anything-but": ["x"]}]}}}}, False),
        ({"dynamodb": {"NewImage": {"state": {"S": [{"prefix": "ACC"}]}}}}, True),
        ({"dynamodb": {"NewImage": {"state": {"S": [{"prefix": "REJ"}]}}}}, False),
        ({"dynamodb": {"NewImage": {"status": {"S": [{"prefix": ""}]}}}}, False),
        ({"eventName": ["INSERT"], "dynamodb": {"NewImage": {"state": {"S": ["REJECTED"]}}}}, False),
    ],
)
def test_filters(pattern: dict[str, Any], wanted: bool) -> None:
    record = {"eventName": "INSERT", "dynamodb": {"NewImage": {"state": {"S": "ACCEPTED"}}}}

    assert wants([pattern], record) is wanted


def test_an_unknown_filter_rule_is_an_error() -> None:
    with pytest.raises(ValueError, match="suffix"):
        wants([{"eventName": [{"suffix": "IN"}]}], {"eventName": "INSERT"})


def test_an_unknown_property_is_an_error() -> None:
    with pytest.raises(ValueError, match="TumblingWindowInSeconds"):
        StreamSourceConfig.from_properties({"EventSourceArn": "arn", "TumblingWindowInSeconds": 5}, {})


class Queue:
    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []

    def send_message(self, **message: str) -> None:
        self.notes.append(json.loads(message["MessageBody"]))


def deliver(config: StreamSourceConfig, count: int, broken: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    """Deliver to a function that fails while its batch has one record; return its batches and the notes."""
    monkeypatch.setattr("local.aws.stream_source.PAUSE_BEFORE_RETRY_SECONDS", 0.0)
    batches, queue = [], Queue()

    def invoke(event: dict[str, Any]) -> Invocation:
        batches.append([record["dynamodb"]["SequenceNumber"] for record in event["Records"]])
        return Invocation("id", error=FunctionError("E", "m") if broken in batches[-1] else None)

    StreamSource(config, invoke, streams=None, sqs=cast("Any", queue))._deliver(records(count))
    return batches, queue.notes


def test_what_fails_for_good_is_noted_and_stops_nobody_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    batches, notes = deliver(CONFIG, 2, "1", monkeypatch)

    assert batches == [["0", "1"]] * 3
    assert [note["DDBStreamBatchInfo"]["startSequenceNumber"] for note in notes] == ["0"]


def test_bisecting_finds_the_one_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, bisect=True, max_retries=5)
    batches, notes = deliver(config, 4, "2", monkeypatch)

    assert ["0", "1"] in batches
    assert ["3"] in batches
    (note,) = notes
    assert (note["DDBStreamBatchInfo"]["startSequenceNumber"], note["DDBStreamBatchInfo"]["batchSize"]) == ("2", 1)
