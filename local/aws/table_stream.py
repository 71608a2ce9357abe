"""The stream of one table, as moto has it: one shard for each table, read from its beginning."""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import IncompleteReadError

Record = dict[str, Any]
"""Of a Lambda event."""


class TableStream:
    """The changes of a table, oldest first. `client`: of DynamoDB's streams."""

    def __init__(self, client: Any, arn: str) -> None:
        self._client, self._arn = client, arn
        self._iterator: str | None = None

    def read(self) -> list[Record]:
        """The new changes, as many as one request gives. Raises botocore's errors."""
        try:
            iterator = self._iterator or self._from_the_beginning()
            response = self._client.get_records(ShardIterator=iterator, Limit=1000)
            records: list[Mapping[str, Any]] = response["Records"]
            # moto keeps every iterator for ever, so the one of an empty look is used again.
            self._iterator = response["NextShardIterator"] if records else iterator
        except KeyError:  # moto ended in the middle of its response
            raise IncompleteReadError(actual_bytes=0, expected_bytes=1) from None
        return [lambda_record(record, self._arn) for record in records]

    def _from_the_beginning(self) -> str:
        (shard,) = self._client.describe_stream(StreamArn=self._arn)["StreamDescription"]["Shards"]
        iterator: str = self._client.get_shard_iterator(
            StreamArn=self._arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        return iterator


def lambda_record(record: Mapping[str, Any], stream_arn: str) -> Record:
    """A record as the streams API gives it, as the record of Lambda's event."""
    images = dict(record["dynamodb"])
    images["ApproximateCreationDateTime"] = images["ApproximateCreationDateTime"].timestamp()
    return {
        "eventID": record["eventID"],
        "eventName": record["eventName"],
        "eventVersion": record["eventVersion"],
        "eventSource": "aws:dynamodb",
        "awsRegion": record["awsRegion"],
        "dynamodb": images,
        "eventSourceARN": stream_arn,
    }
