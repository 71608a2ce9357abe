"""The one builder of DynamoDB updates: what to write, and the condition under which it is written.

Both are data. `records.table` sends them to DynamoDB; the tests' table in memory carries them out by itself, so the
conditions of the real table and of its double are the same objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

Value = str | int | bool | frozenset[str]
Test = Literal["absent", "exists", "=", "<", ">", "in", "size<", "contains", "and", "or", "not"]


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of one attribute, or several conditions joined. A comparison with an absent attribute is false."""

    test: Test
    name: str = ""
    value: Value | tuple[Value, ...] = ""
    parts: tuple[Condition, ...] = ()

    def __and__(self, other: Condition) -> Condition:
        return Condition("and", parts=(self, other))

    def __or__(self, other: Condition) -> Condition:
        return Condition("or", parts=(self, other))

    def __invert__(self) -> Condition:
        return Condition("not", parts=(self,))


def absent(name: str) -> Condition:
    """The item has no such attribute, or there is no item."""
    return Condition("absent", name)


def exists(name: str) -> Condition:
    """The item has this attribute."""
    return Condition("exists", name)


def equals(**values: Value) -> Condition:
    """Every attribute has its value."""
    return _all(Condition("=", name, value) for name, value in values.items())


def one_of(**values: tuple[Value, ...]) -> Condition:
    """Every attribute has one of its values."""
    return _all(Condition("in", name, allowed) for name, allowed in values.items())


def less(**values: Value) -> Condition:
    """Every attribute is less than its value."""
    return _all(Condition("<", name, value) for name, value in values.items())


def greater(**values: Value) -> Condition:
    """Every attribute is greater than its value."""
    return _all(Condition(">", name, value) for name, value in values.items())


def smaller_set(**sizes: int) -> Condition:
    """Every attribute is a set with fewer members than that."""
    return _all(Condition("size<", name, size) for name, size in sizes.items())


def contains(**members: str) -> Condition:
    """Every attribute is a set with that member."""
    return _all(Condition("contains", name, member) for name, member in members.items())


def _all(conditions: Iterable[Condition]) -> Condition:
    first, *rest = conditions
    return Condition("and", parts=(first, *rest)) if rest else first


@dataclass(frozen=True, slots=True)
class Update:
    """Changes of one item. Each method returns another update with that change; None values are left out."""

    values: dict[str, Value]
    first_values: dict[str, Value]
    additions: dict[str, Value]
    removed: tuple[str, ...] = ()
    condition: Condition | None = None

    def set(self, **values: Value | None) -> Update:
        """Set attributes."""
        return replace(self, values=self.values | _given(values))

    def set_first(self, **values: Value | None) -> Update:
        """Set those attributes that the item does not have yet."""
        return replace(self, first_values=self.first_values | _given(values))

    def add(self, **values: Value | None) -> Update:
        """Add to numbers and sets; an absent one counts as 0 or empty."""
        return replace(self, additions=self.additions | _given(values))

    def remove(self, *names: str) -> Update:
        """Remove attributes."""
        return replace(self, removed=self.removed + names)

    def only_if(self, condition: Condition) -> Update:
        """Write only if the item, as it is then, fulfills this; otherwise nothing changes."""
        return replace(self, condition=condition)


NOTHING: Final = Update({}, {}, {})


def _given(values: dict[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None}
