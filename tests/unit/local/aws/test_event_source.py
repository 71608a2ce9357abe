"""The local event source's own rules: the messages that stay, and the form of a record."""

import pytest

from local.aws.event_source import EventSourceConfig, items_to_keep, record
from local.aws.function import FunctionError, Invocation

QUEUE = "arn:aws:sqs:ap-southeast-2:123456789012:queue"
ALL = frozenset({"a", "b"})


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (None, frozenset()),
        ({}, frozenset()),
        ({"batchItemFailures": []}, frozenset()),
        ({"batchItemFailures": None}, frozenset()),
        ({"batchItemFailures": [{"itemIdentifier": "b"}]}, {"b"}),
        ({"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "b"}]}, ALL),
        ({"batchItemFailures": [{"itemIdentifier": "unknown"}]}, ALL),
        ({"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "unknown"}]}, ALL),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, ALL),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, ALL),
        ({"batchItemFailures": [{"item": "a"}]}, ALL),
        ({"batchItemFailures": "a"}, ALL),
        ("a text", ALL),
    ],
)
def test_a_partial_batch_response_counts_as_in_lambda(result: object, kept: frozenset[str]) -> None:
    assert items_to_keep(["a", "b"], Invocation("1", result=result), report_batch_item_failures=True) == kept


def test_without_partial_batch_responses_the_answer_does_not_matter() -> None:
    answer = Invocation("1", result={"batchItemFailures": [{"itemIdentifier": "a"}]})

    assert items_to_keep(["a", "b"], answer, report_batch_item_failures=False) == frozenset()


@pytest.mark.parametrize("partial", [True, False])
def test_an_error_keeps_the_whole_batch(partial: bool) -> None:
    failed = Invocation("1", error=FunctionError("ValueError", "no"))

    assert items_to_keep(["a", "b"], failed, report_batch_item_failures=partial) == ALL


def test_a_record_has_the_shape_of_lambdas_event() -> None:
    message = {
        "MessageId": "1",
        "ReceiptHandle": "handle",
        "Body": "text",
        "MD5OfBody": "md5",
        "Attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1767225600000"},
        "MessageAttributes": {
            "name": {"DataType": "String", "StringValue": "value"},
            "blob": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        },
    }

    assert record(message, QUEUE) == {
        "messageId": "1",
        "receiptHandle": "handle",
        "body": "text",
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1767225600000"},
        "messageAttributes": {
            "name": {"stringValue": "value", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
            "blob": {"binaryValue": "AP8=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
        },
        "md5OfBody": "md5",
        "eventSource": "aws:sqs",
        "eventSourceARN": QUEUE,
        "awsRegion": "ap-southeast-2",
    }


def test_the_mappings_properties_are_all_used_or_refused() -> None:
    properties = {
        "EventSourceArn": QUEUE,
        "FunctionName": "f",
        "BatchSize": 7,
        "Enabled": False,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "ScalingConfig": {"MaximumConcurrency": "3"},
    }

    assert EventSourceConfig.from_properties(properties, "url") == EventSourceConfig(
        "url", QUEUE, batch_size=7, concurrency=3, report_batch_item_failures=True, enabled=False
    )
    for unknown in ("FilterCriteria", "MaximumBatchingWindowInSeconds"):
        with pytest.raises(ValueError, match=unknown):
            EventSourceConfig.from_properties({**properties, unknown: {}}, "url")
