"""One DynamoDB table: reads items, and writes `Update`s to DynamoDB."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from botocore.exceptions import ClientError

from optus_sms.records.updates import Condition, Update, Value, equals

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

# A partition of an index accepts about 1,000 writes a second, and a throttled index throttles its table. Eight
# partitions carry thousands of messages a second (docs/decisions/due-time-indexes.md).
SHARDS: Final = 8
_MOST_PAGES_COUNTED: Final = 10  # of 1 MB: about a hundred thousand items

Item = dict[str, Value]
Between = tuple[str, Value, Value]
"""A sort key with its least and its greatest value."""


class Refused(NamedTuple):
    """The item that refused a conditional write; empty if there is none."""

    item: Item


class EditedItemError(Exception):
    """A write failed because an attribute of the item was edited by hand and has a wrong type."""


class Table:
    """A table with the partition key ``key``. It raises botocore's errors, except for a refused condition."""

    def __init__(self, client: DynamoDBClient, name: str, *, key: str) -> None:
        self.key = key
        self._client = client
        self._name = name

    def get(self, key: str) -> Item:
        """Return the item, read consistently; empty if there is none."""
        response = self._client.get_item(TableName=self._name, Key={self.key: {"S": key}}, ConsistentRead=True)
        return unmarshal(response.get("Item", {}))

    def put(self, item: Mapping[str, Value], *, only_if: Condition | None = None) -> Refused | None:
        """Replace the whole item, and return None if that was done."""
        expressions = _Expressions()
        condition: dict[str, Any] = {"ConditionExpression": expressions.condition(only_if)} if only_if else {}
        try:
            self._client.put_item(
                TableName=self._name,
                Item=marshal(item),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **condition,
                **expressions.placeholders(),
            )
        except ClientError as error:
            return _refused(error)
        return None

    def update(
        self, key: str, update: Update, *, returning: Literal["NONE", "ALL_OLD", "ALL_NEW"] = "NONE"
    ) -> Item | Refused:
        """Write, and return the item before or after the write; empty if there was none before, or for `NONE`."""
        expressions = _Expressions()
        changes = expressions.update(update)
        condition: dict[str, Any] = (
            {"ConditionExpression": expressions.condition(update.condition)} if update.condition else {}
        )
        try:
            response = self._client.update_item(
                TableName=self._name,
                Key={self.key: {"S": key}},
                UpdateExpression=changes,
                ReturnValues=returning,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **condition,
                **expressions.placeholders(),
            )
        except ClientError as error:
            return _refused(error)
        return unmarshal(response.get("Attributes", {}))

    def query(
        self,
        index: str,
        only: tuple[str, Value],
        *,
        between: Between | None = None,
        where: Condition | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> Iterator[Item]:
        """Return the items of an index's partition in the order of its sort key; with ``limit`` those of one page."""
        arguments = self._query(index, only, between, where) | {"ScanIndexForward": not newest_first}
        if limit is not None:
            yield from map(unmarshal, self._client.query(**arguments, Limit=limit)["Items"])
            return
        for page in self._client.get_paginator("query").paginate(**arguments):
            yield from map(unmarshal, page["Items"])

    def count(self, index: str, only: tuple[str, Value], *, most_pages: int) -> int:
        """Count the items of an index's partition, in at most `_MOST_PAGES_COUNTED` pages of 1 MB."""
        pages = self._client.get_paginator("query").paginate(**self._query(index, only), Select="COUNT")
        return sum(page["Count"] for _, page in zip(range(most_pages), pages, strict=False))

    def lists_nothing(self, index: str) -> bool:
        """Return whether a sparse index is certainly empty, with one small read."""
        page = self._client.scan(TableName=self._name, IndexName=index, Select="COUNT", Limit=1)
        return not page["Count"] and "LastEvaluatedKey" not in page

    def scan(self) -> Iterator[Item]:
        """Return every item, by reading the whole table."""
        for page in self._client.get_paginator("scan").paginate(TableName=self._name):
            yield from map(unmarshal, page["Items"])

    def _query(
        self, index: str, only: tuple[str, Value], between: Between | None = None, where: Condition | None = None
    ) -> dict[str, Any]:
        expressions = _Expressions()
        keys = expressions.condition(equals(**dict([only])))
        if between:
            keys += f" AND {expressions.between(*between)}"
        filters = {"FilterExpression": expressions.condition(where)} if where else {}
        return {
            "TableName": self._name,
            "IndexName": index,
            "KeyConditionExpression": keys,
            **filters,
            **expressions.placeholders(),
        }


def _refused(error: ClientError) -> Refused:
    """Return the item that refused a conditional write; raise any other error."""
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code == "ValidationException" and "data type" in message:  # "An operand in the update expression has an …"
        raise EditedItemError(message) from error
    if code != "ConditionalCheckFailedException":
        raise error
    response: Mapping[str, Any] = error.response
    return Refused(unmarshal(response.get("Item", {})))


class DueIndex(NamedTuple):
    """A sparse index that lists, by kind, the items to reconcile and when.

    An item is in it while it has ``attribute`` (its kind, by `shard`) and ``look_at`` (epoch seconds).
    """

    table: Table
    name: str
    attribute: str

    def due(self, kind: str, *, now: float, limit: int) -> Iterator[Item]:
        """Return at most ``limit`` due items of a kind, the longest due first; whole items, read consistently.

        A ``limit`` below the number of partitions counts as one item of each. An item whose kind has changed since the
        index listed it is left out.
        """
        due: list[tuple[float, Item, str]] = []
        for partition in self._listed_partitions(kind):
            listed = self.table.query(
                self.name,
                (self.attribute, partition),
                between=("look_at", 0, int(now)),
                limit=max(1, limit // SHARDS),
            )
            due += ((_number(entry.get("look_at")), entry, partition) for entry in listed)
        for _, entry, partition in sorted(due, key=lambda found: found[0]):
            yield from self._as_they_are(iter((entry,)), partition)

    def listed(self, kind: str) -> Iterator[Item]:
        """Return every item of a kind, due or not; whole items, read consistently."""
        for partition in self._listed_partitions(kind):
            yield from self._as_they_are(self.table.query(self.name, (self.attribute, partition)), partition)

    def count(self, kind: str) -> int:
        """Count the items of a kind, up to about a hundred thousand."""
        most_pages = _MOST_PAGES_COUNTED // SHARDS + 1
        return sum(
            self.table.count(self.name, (self.attribute, partition), most_pages=most_pages)
            for partition in self._listed_partitions(kind)
        )

    def _as_they_are(self, listed: Iterator[Item], partition: str) -> Iterator[Item]:
        for entry in listed:
            item = self.table.get(str(entry[self.table.key]))
            if item.get(self.attribute) == partition:
                yield item

    def _listed_partitions(self, kind: str) -> Iterator[str]:
        """Return the partitions of a kind; none if the whole index is empty, which saves their queries."""
        if not self.table.lists_nothing(self.name):
            yield from (f"{kind}.{number}" for number in range(SHARDS))


def _number(value: Value | None) -> float:
    return value if isinstance(value, int | float) else 0


def shard(kind: str, key: str) -> str:
    """Return the partition of a `DueIndex` that lists the item with this key under ``kind``."""
    return f"{kind}.{zlib.crc32(key.encode()) % SHARDS}"


_FORMATS: Final[dict[str, str]] = {
    "absent": "attribute_not_exists({name})",
    "exists": "attribute_exists({name})",
    "=": "{name} = {value}",
    "<": "{name} < {value}",
    ">": "{name} > {value}",
    "size<": "size({name}) < {value}",
    "contains": "contains({name}, {value})",
}


class _Expressions:
    """Renders updates and conditions as DynamoDB expressions; collects their names and values."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._values: dict[str, Value] = {}

    def placeholders(self) -> dict[str, Any]:
        """Return the arguments that define the placeholders; DynamoDB refuses empty ones."""
        arguments: dict[str, Any] = {}
        if self._names:
            arguments["ExpressionAttributeNames"] = self._names
        if self._values:
            arguments["ExpressionAttributeValues"] = marshal(self._values)
        return arguments

    def update(self, update: Update) -> str:
        """Return an UpdateExpression."""
        sets = [f"{self._name(name)} = {self._value(value)}" for name, value in update.values.items()]
        for name, value in update.first_values.items():
            alias = self._name(name)
            sets.append(f"{alias} = if_not_exists({alias}, {self._value(value)})")
        clauses = {
            "SET": sets,
            "REMOVE": [self._name(name) for name in update.removed],
            "ADD": [f"{self._name(name)} {self._value(value)}" for name, value in update.additions.items()],
        }
        return " ".join(f"{verb} {', '.join(changes)}" for verb, changes in clauses.items() if changes)

    def condition(self, condition: Condition) -> str:
        """Return a ConditionExpression, KeyConditionExpression or FilterExpression."""
        match condition.test:
            case "and" | "or":
                return f"({f' {condition.test.upper()} '.join(self.condition(part) for part in condition.parts)})"
            case "not":
                return f"NOT {self.condition(condition.parts[0])}"
            case "in":
                allowed: Any = condition.value
                return f"{self._name(condition.name)} IN ({', '.join(self._value(value) for value in allowed)})"
            case "absent" | "exists":
                return _FORMATS[condition.test].format(name=self._name(condition.name))
        value: Any = condition.value
        return _FORMATS[condition.test].format(name=self._name(condition.name), value=self._value(value))

    def between(self, name: str, least: Value, most: Value) -> str:
        """Return the expression for a range of the sort key."""
        return f"{self._name(name)} BETWEEN {self._value(least)} AND {self._value(most)}"

    def _name(self, name: str) -> str:
        self._names[placeholder := f"#{name}"] = name
        return placeholder

    def _value(self, value: Value) -> str:
        placeholder = f":v{len(self._values)}"
        self._values[placeholder] = value
        return placeholder


def marshal(values: Mapping[str, Value]) -> dict[str, AttributeValueTypeDef]:
    """Return values in the form of boto3's low-level client, for the four types that the tables use.

    boto3's own serializer costs a Decimal and a dozen type checks for each value, and each message makes three writes.
    """
    return {name: _marshal(value) for name, value in values.items()}


def _marshal(value: Value) -> AttributeValueTypeDef:
    match value:
        case bool():
            return {"BOOL": value}
        case int() | float():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case frozenset():
            return {"SS": sorted(value)}


def unmarshal(item: Mapping[str, Any]) -> Item:
    """Return an item as plain values, without attributes of other types."""
    return {name: _READ[kind](value) for name, typed in item.items() for kind, value in typed.items() if kind in _READ}


def _as_is(value: Value) -> Value:
    return value


def _as_stored(number: str) -> int | float:
    """Return a number as DynamoDB has it, so that a condition on it holds later. Only edits by hand make fractions."""
    if number.lstrip("-").isdigit():
        return int(number)
    value = float(number)
    return int(value) if value.is_integer() else value


_READ: Final[Mapping[str, Callable[[Any], Value]]] = {"S": _as_is, "N": _as_stored, "BOOL": _as_is, "SS": frozenset}
