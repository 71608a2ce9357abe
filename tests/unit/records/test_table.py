"""A table's requests to DynamoDB, and the errors it tells apart; the index of due items."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from optus_sms.records.table import SHARDS, DueIndex, Table
from optus_sms.records.updates import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        ({"Count": 0, "LastEvaluatedKey": {}}, SHARDS),  # an empty page is no end
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
    """Its message would be called edited, and become a dead letter, by a fault of every message."""
    client = Client({})
    client.error = ClientError({"Error": {"Code": code, "Message": message}}, "UpdateItem")
    with pytest.raises(ClientError) as raised:
        Table(client, "table", key="pk").update("a", NOTHING.set(state="RETRY"))  # type: ignore[arg-type]
    assert raised.value is client.error
