"""A table's requests to DynamoDB, and the errors it tells apart; the index of due items."""

from __future__ import annotations

from collections import Counter
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from optus_sms.records.table import SHARDS, DueIndex, Table, shard, unmarshal
from optus_sms.records.updates import NOTHING
from tests.support.memory_table import MemoryTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Client:
    """Returns the same page for every scan, and no items for every query; counts two items on each of endless pages."""

    def __init__(self, page: dict[str, Any]) -> None:
        self.page = page
        self.queries = 0
        self.error: ClientError | None = None

    def get_item(self, **asked: object) -> dict[str, Any]:
        assert asked == {"TableName": "table", "Key": {"pk": {"S": "a"}}, "ConsistentRead": True}
        return {}

    def update_item(self, **_: object) -> dict[str, Any]:
        assert self.error
        raise self.error

    def scan(self, **asked: object) -> dict[str, Any]:
        assert asked == {"TableName": "table", "IndexName": "index", "Select": "COUNT", "Limit": 1}
        return self.page

    def query(self, **_: object) -> dict[str, Any]:
        self.queries += 1
        return {"Items": []}

    def get_paginator(self, operation: str) -> Client:
        assert operation == "query"
        return self

    def paginate(self, **_: object) -> Iterator[dict[str, Any]]:
        self.queries += 1
        return repeat({"Count": 2})


@pytest.mark.parametrize(
    ("page", "queries"),
    [
        ({"Count": 0}, 0),
        ({"Count": 1, "LastEvaluatedKey": {}}, SHARDS),
        ({"Count": 1}, SHARDS),
        ({"Count": 0, "LastEvaluatedKey": {}}, SHARDS),  # an empty page is not the last one
    ],
)
def test_only_an_index_that_lists_nothing_is_left_alone(page: dict[str, Any], queries: int) -> None:
    client = Client(page)
    index = DueIndex(Table(client, "table", key="pk"), "index", "kind")  # type: ignore[arg-type]
    assert list(index.due("SENDING", now=0, limit=100)) == []
    assert client.queries == queries
    assert index.count("SENDING") == 2 * 2 * queries, "two pages of each partition are counted"


def test_an_item_is_read_consistently() -> None:
    assert Table(Client({}), "table", key="pk").get("a") == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ValidationException", "The provided expression refers to an attribute that does not exist in the item"),
        ("ThrottlingException", "An operand in the update expression has an incorrect data type"),
    ],
)
def test_another_error_is_no_item_that_was_edited_by_hand(code: str, message: str) -> None:
    """Otherwise a fault of every message would count as an edited item, and make each message a dead letter."""
    client = Client({})
    client.error = ClientError({"Error": {"Code": code, "Message": message}}, "UpdateItem")
    with pytest.raises(ClientError) as raised:
        Table(client, "table", key="pk").update("a", NOTHING.set(state="RETRY"))  # type: ignore[arg-type]
    assert raised.value is client.error


class TestDueIndex:
    def index(self, times: Iterable[int]) -> DueIndex:
        """Return an index of one item for each time when it is due; its key is that time."""
        table = MemoryTable(key="pk")
        for time in times:
            table.put({"pk": str(time), "kind": shard("SENDING", str(time)), "look_at": time})
        return DueIndex(table, "index", "kind")

    def test_the_longest_due_come_first_from_whatever_partition(self) -> None:
        index = self.index(range(1040, 1000, -1))
        assert [item["pk"] for item in index.due("SENDING", now=1030.9, limit=1000)] == [
            str(time) for time in range(1001, 1031)
        ]

    @pytest.mark.parametrize(("limit", "of_each"), [(SHARDS * 3, 3), (SHARDS * 2 - 1, 1), (1, 1)])
    def test_each_partition_gives_its_part_of_the_limit_and_at_least_one(self, limit: int, of_each: int) -> None:
        found = [str(item["kind"]) for item in self.index(range(1, 200)).due("SENDING", now=1000, limit=limit)]
        assert Counter(found) == {f"SENDING.{number}": of_each for number in range(SHARDS)}

    def test_every_item_of_a_kind_is_listed_due_or_not(self) -> None:
        index = self.index(range(1, 30))
        assert {item["look_at"] for item in index.listed("SENDING")} == set(range(1, 30))
        assert list(index.listed("UNKNOWN")) == []

    def test_an_item_that_has_changed_since_it_was_listed_is_left_out(self) -> None:
        index = self.index([1, 2])
        index.table.get = lambda key: {"pk": key, "kind": "UNKNOWN.0", "look_at": 1}  # type: ignore[method-assign]
        assert [*index.due("SENDING", now=1000, limit=100), *index.listed("SENDING")] == []


def test_numbers_are_read_as_they_are_stored() -> None:
    numbers = {"0": 0, "-7": -7, "2.5": 2.5, "-0.5": -0.5, "1E2": 100}
    found = unmarshal({name: {"N": name} for name in numbers})
    assert {name: (value, type(value)) for name, value in found.items()} == {
        name: (value, type(value)) for name, value in numbers.items()
    }
