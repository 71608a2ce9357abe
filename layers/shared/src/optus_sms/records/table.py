"""Items of the low-level DynamoDB client, for the few types we store.

boto3's own serializer goes through Decimal and a dozen type checks for each value; these are the hot path's writes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

# A partition of an index takes about 1000 writes a second, and a throttled index throttles its table; eight carry
# thousands of messages a second (docs/decisions/due-time-indexes.md).
SHARDS: Final = 8
DUE: Final = "look_at"
_MOST_PAGES_COUNTED: Final = 10  # of 1 MB: a hundred thousand items or so

Value = str | int | bool | frozenset[str]
Item = dict[str, Value]


def marshal(values: Mapping[str, Value | None]) -> dict[str, AttributeValueTypeDef]:
    """Attribute values; None is left out."""
    return {name: _marshal(value) for name, value in values.items() if value is not None}


def unmarshal(item: Mapping[str, Any]) -> Item:
    """An item as plain values; types that we never store are ignored."""
    values: Item = {}
    for name, typed in item.items():
        match typed:
            case {"S": text}:
                values[name] = text
            case {"N": number}:
                values[name] = int(number)
            case {"BOOL": flag}:
                values[name] = flag
            case {"SS": texts}:
                values[name] = frozenset(texts)
    return values


def refused_item(error: ClientError) -> Item | None:
    """The item that refused a conditional write (empty if there was none); None if the error is another one."""
    if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
        return None
    response: Mapping[str, Any] = error.response
    return unmarshal(response.get("Item", {}))


def shard(kind: str, key: str) -> str:
    """The partition of a `DueIndex` that lists the item with this key under ``kind``."""
    return f"{kind}.{zlib.crc32(key.encode()) % SHARDS}"


@dataclass(frozen=True)
class DueIndex:
    """A sparse index that lists, by kind, the items that somebody has to look at again, and when.

    An item is in it while it has ``attribute`` (its kind, by `shard`) and `DUE` (epoch seconds); ``key``: the table's.
    """

    client: DynamoDBClient
    table_name: str
    index_name: str
    attribute: str
    key: str

    def due(self, kind: str, *, now: float, limit: int) -> Iterator[Item]:
        """The items of a kind whose time has come, read whole and consistently; at most ``limit``, oldest of each shard
        first. An item may have changed since it was listed.
        """
        for partition in self._listed_partitions(kind):
            answer = self.client.query(
                TableName=self.table_name,
                IndexName=self.index_name,
                KeyConditionExpression="#kind = :kind AND #due <= :now",
                ExpressionAttributeNames={"#kind": self.attribute, "#due": DUE},
                ExpressionAttributeValues=marshal({":kind": partition, ":now": int(now)}),
                Limit=max(1, limit // SHARDS),
            )
            for listed in answer["Items"]:
                found = self.client.get_item(
                    TableName=self.table_name, Key={self.key: listed[self.key]}, ConsistentRead=True
                )
                item = unmarshal(found.get("Item", {}))
                if item.get(self.attribute) == partition:
                    yield item

    def count(self, kind: str) -> int:
        """How many items are listed under a kind; of very many only the first hundred thousand or so are counted."""
        total = 0
        for partition in self._listed_partitions(kind):
            pages = self.client.get_paginator("query").paginate(
                TableName=self.table_name,
                IndexName=self.index_name,
                Select="COUNT",
                KeyConditionExpression="#kind = :kind",
                ExpressionAttributeNames={"#kind": self.attribute},
                ExpressionAttributeValues=marshal({":kind": partition}),
            )
            for number, page in enumerate(pages, start=1):
                total += page["Count"]
                if number >= _MOST_PAGES_COUNTED // SHARDS + 1:
                    break
        return total

    def _listed_partitions(self, kind: str) -> Iterator[str]:
        """The partitions of a kind; none if the index lists nothing at all, as it does most of a quiet day."""
        page = self.client.scan(TableName=self.table_name, IndexName=self.index_name, Select="COUNT", Limit=1)
        if page["Count"] or "LastEvaluatedKey" in page:
            yield from (f"{kind}.{number}" for number in range(SHARDS))


def _marshal(value: Value) -> AttributeValueTypeDef:
    match value:
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case frozenset():
            return {"SS": sorted(value)}
