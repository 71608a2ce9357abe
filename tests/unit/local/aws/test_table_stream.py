"""Reading a table's stream beyond the lifetime of an iterator."""

from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from local.aws.table_stream import TableStream


class Streams:
    """A shard of numbered records; an iterator is the index of the next one. ``expired``: the next read meets that."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.expired = False

    def write(self) -> None:
        number = str(len(self.records) + 1)
        images = {"SequenceNumber": number, "ApproximateCreationDateTime": datetime(2026, 11, 26, tzinfo=UTC)}
        self.records.append(
            {"eventID": number, "eventName": "INSERT", "eventVersion": "1", "awsRegion": "here", "dynamodb": images}
        )

    def describe_stream(self, **_: Any) -> dict[str, Any]:
        return {"StreamDescription": {"Shards": [{"ShardId": "one"}]}}

    def get_shard_iterator(self, *, SequenceNumber: str = "0", **_: Any) -> dict[str, Any]:  # noqa: N803
        return {"ShardIterator": SequenceNumber}

    def get_records(self, *, ShardIterator: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        if self.expired:
            self.expired = False
            raise ClientError({"Error": {"Code": "ExpiredIteratorException"}}, "GetRecords")
        return {"Records": self.records[int(ShardIterator) :], "NextShardIterator": str(len(self.records))}


def numbers(stream: TableStream) -> list[str]:
    return [record["dynamodb"]["SequenceNumber"] for record in stream.read()]


def test_each_change_is_read_once_although_iterators_expire() -> None:
    streams = Streams()
    stream = TableStream(streams, "arn")
    assert numbers(stream) == []
    streams.expired = True
    streams.write()
    assert numbers(stream) == ["1"], "nothing was read before: from the beginning"
    streams.write()
    streams.expired = True
    assert numbers(stream) == ["2"], "after the last one that was read"
    assert numbers(stream) == []
