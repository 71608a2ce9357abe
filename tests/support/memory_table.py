"""A table in memory that carries out updates and conditions as DynamoDB does (tests/contract/records compare them)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Literal

from optus_sms.records.table import Between, EditedItemError, Item, Refused, Table, marshal, unmarshal
from optus_sms.records.updates import Condition, Update, Value

_MISSING = object()
_TESTS: Mapping[str, Callable[[Any, Any], bool]] = {
    "absent": lambda found, _: found is _MISSING,
    "exists": lambda found, _: found is not _MISSING,
    "=": lambda found, value: bool(found == value),
    "<": lambda found, value: _is_like(found, value) and found < value,
    ">": lambda found, value: _is_like(found, value) and found > value,
    "in": lambda found, values: found in values,
    "size<": lambda found, size: isinstance(found, str | frozenset) and len(found) < size,
    "contains": lambda found, member: isinstance(found, str | frozenset) and member in found,
}


def _is_like(found: object, value: object) -> bool:
    """Return whether DynamoDB compares these values: only if they have one type."""
    return _type(found) is _type(value)


def _type(value: object) -> type:
    return float if type(value) is int else type(value)


def holds(condition: Condition, item: Item) -> bool:
    """Return whether an item meets a condition."""
    match condition.test:
        case "and":
            return all(holds(part, item) for part in condition.parts)
        case "or":
            return any(holds(part, item) for part in condition.parts)
        case "not":
            return not holds(condition.parts[0], item)
    return _TESTS[condition.test](item.get(condition.name, _MISSING), condition.value)


def changed(item: Item, update: Update) -> Item:
    """Return the item after an update."""
    after = {**update.first_values, **item, **update.values}
    for name, value in update.additions.items():
        after[name] = _sum(after.get(name), value)
    return {name: value for name, value in after.items() if name not in update.removed}


def _sum(before: Value | None, value: Value) -> Value:
    if before is not None and not _is_like(before, value):
        raise EditedItemError("an operand has an incorrect data type")
    if isinstance(value, frozenset):
        return value | before if isinstance(before, frozenset) else value
    assert isinstance(value, int)
    return value + (before if isinstance(before, int | float) else 0)


def _stored(item: Mapping[str, Value]) -> Item:
    """Return the values as DynamoDB returns them."""
    return unmarshal(json.loads(json.dumps(marshal(item))))


class MemoryTable(Table):
    """Items by key. Tests can read and change them while no other thread does."""

    def __init__(self, *, key: str) -> None:
        self.key = key
        self.items: dict[str, Item] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Item:
        return dict(self.items.get(key, {}))

    def put(self, item: Mapping[str, Value], *, only_if: Condition | None = None) -> Refused | None:
        key = str(item[self.key])
        with self._lock:
            before = self.items.get(key, {})
            if only_if and not holds(only_if, before):
                return Refused(dict(before))
            self.items[key] = _stored(item)
            return None

    def update(
        self, key: str, update: Update, *, returning: Literal["NONE", "ALL_OLD", "ALL_NEW"] = "NONE"
    ) -> Item | Refused:
        with self._lock:
            before = self.items.get(key, {})
            if update.condition and not holds(update.condition, before):
                return Refused(dict(before))
            after = _stored(changed({self.key: key} | before, update))
            self.items[key] = after
            return dict({"NONE": {}, "ALL_OLD": before, "ALL_NEW": after}[returning])

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
        name, value = only
        listed = [item for item in list(self.items.values()) if item.get(name) == value]
        if between:
            sort_key, least, most = between
            listed = [item for item in listed if sort_key in item and least <= item[sort_key] <= most]  # type: ignore[operator]
            listed.sort(key=lambda item: str(item[sort_key]).zfill(20), reverse=newest_first)
        found = (dict(item) for item in listed if where is None or holds(where, item))
        return islice(found, limit)

    def count(self, index: str, only: tuple[str, Value], *, most_pages: int) -> int:
        return sum(1 for _ in self.query(index, only))

    def lists_nothing(self, index: str) -> bool:
        return not self.items

    def scan(self) -> Iterator[Item]:
        return (dict(item) for item in list(self.items.values()))
