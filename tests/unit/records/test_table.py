"""The index of what is due: an empty one is asked once, one that may list something is asked by partition."""

from __future__ import annotations

from typing import Any

import pytest

from optus_sms.records.table import SHARDS, DueIndex, Table


class Client:
    """Answers every scan with the same page, and every query with none."""

    def __init__(self, page: dict[str, Any]) -> None:
        self.page = page
        self.queries = 0

    def scan(self, **asked: object) -> dict[str, Any]:
        assert asked == {"TableName": "table", "IndexName": "index", "Select": "COUNT", "Limit": 1}
        return self.page

    def query(self, **_: object) -> dict[str, Any]:
        self.queries += 1
        return {"Items": []}

    def get_paginator(self, operation: str) -> Client:
        assert operation == "query"
        return self

    def paginate(self, **_: object) -> list[dict[str, Any]]:
        self.queries += 1
        return [{"Count": 2}]


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
    assert index.count("SENDING") == 2 * queries
