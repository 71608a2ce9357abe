"""The stream of a table in the emulator: one shard for each table, read from its beginning."""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError, IncompleteReadError

Record = dict[str, Any]
"""A record of a Lambda event."""


class TableStream:
    """The changes of a table, oldest first. `client`: of DynamoDB Streams."""

    def __init__(self, client: Any, arn: str) -> None:
        self._client, self._arn = client, arn
        self._iterator: str | None = None
        self._last_number = ""
        """Sequence number of the last record that was read."""

    def read(self) -> list[Record]:
        """Return the new changes in one response. Raises botocore's errors."""
        try:
            response = self._get_records()
            records: list[Mapping[str, Any]] = response["Records"]
            self._iterator = response["NextShardIterator"]
            if records:
                self._last_number = records[-1]["dynamodb"]["SequenceNumber"]
        except KeyError:  # the emulator ended during its response
            raise IncompleteReadError(actual_bytes=0, expected_bytes=1) from None
        return [lambda_record(record, self._arn) for record in records]

    def _get_records(self) -> Mapping[str, Any]:
        """Read, if need be with a new iterator: one lasts 15 minutes, and an idle stack reads nothing for longer."""
        try:
            found: Mapping[str, Any] = self._client.get_records(
                ShardIterator=self._iterator or self._new_iterator(), Limit=1000
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ExpiredIteratorException":
                raise
            found = self._client.get_records(ShardIterator=self._new_iterator(), Limit=1000)
        return found

    def _new_iterator(self) -> str:
        (shard,) = self._client.describe_stream(StreamArn=self._arn)["StreamDescription"]["Shards"]
        place = (
            {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": self._last_number}
            if self._last_number
            else {"ShardIteratorType": "TRIM_HORIZON"}
        )
        found = self._client.get_shard_iterator(StreamArn=self._arn, ShardId=shard["ShardId"], **place)
        iterator: str = found["ShardIterator"]
        return iterator


def lambda_record(record: Mapping[str, Any], stream_arn: str) -> Record:
    """Return a record of the streams API as a record of Lambda's event."""
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
