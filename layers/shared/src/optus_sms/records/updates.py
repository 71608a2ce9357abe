"""The one builder of DynamoDB updates: changes of an item, and the condition under which they are written.

Both are data. `records.table` renders them for DynamoDB, and the tests' table in memory carries out the same objects
(docs/decisions/updates-as-data.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

Value = str | int | float | bool | frozenset[str]  # a fraction only if it was edited by hand
Test = Literal["absent", "exists", "=", "<", ">", "in", "size<", "contains", "and", "or", "not"]


class Condition(NamedTuple):
    """A test of one attribute, or several joined conditions. A comparison with an absent attribute is false."""

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
    """Require that the item lacks this attribute, or that there is no item."""
    return Condition("absent", name)


def exists(name: str) -> Condition:
    """Require that the item has this attribute."""
    return Condition("exists", name)


def equals(**values: Value) -> Condition:
    """Require that every attribute has its value."""
    return _all(Condition("=", name, value) for name, value in values.items())


def one_of(**values: tuple[Value, ...]) -> Condition:
    """Require that every attribute has one of its values."""
    return _all(Condition("in", name, allowed) for name, allowed in values.items())


def less(**values: Value) -> Condition:
    """Require that every attribute is less than its value."""
    return _all(Condition("<", name, value) for name, value in values.items())


def greater(**values: Value) -> Condition:
    """Require that every attribute is greater than its value."""
    return _all(Condition(">", name, value) for name, value in values.items())


def smaller_set(**sizes: int) -> Condition:
    """Require that every attribute is a set with fewer members than its value."""
    return _all(Condition("size<", name, size) for name, size in sizes.items())


def contains(**members: str) -> Condition:
    """Require that every attribute is a set with that member."""
    return _all(Condition("contains", name, member) for name, member in members.items())


def _all(conditions: Iterable[Condition]) -> Condition:
    first, *rest = conditions
    return Condition("and", parts=(first, *rest)) if rest else first


class Update(NamedTuple):
    """Changes of one item. Each method returns a new update with that change added; None values are left out."""

    values: dict[str, Value]
    first_values: dict[str, Value]
    additions: dict[str, Value]
    removed: tuple[str, ...] = ()
    condition: Condition | None = None

    # The methods avoid `dataclasses.replace`, which took a quarter of a write's CPU time.
    def set(self, **values: Value | None) -> Update:
        """Set attributes."""
        return Update(self.values | _given(values), self.first_values, self.additions, self.removed, self.condition)

    def set_first(self, **values: Value | None) -> Update:
        """Set the attributes that the item lacks."""
        return Update(self.values, self.first_values | _given(values), self.additions, self.removed, self.condition)

    def add(self, **values: Value | None) -> Update:
        """Add to numbers and sets; an absent one counts as 0 or empty."""
        return Update(self.values, self.first_values, self.additions | _given(values), self.removed, self.condition)

    def remove(self, *names: str) -> Update:
        """Remove attributes."""
        return Update(self.values, self.first_values, self.additions, self.removed + names, self.condition)

    def only_if(self, condition: Condition) -> Update:
        """Write only if the item meets this condition at that moment; otherwise nothing changes."""
        return Update(self.values, self.first_values, self.additions, self.removed, condition)


NOTHING: Final = Update({}, {}, {})


def _given(values: dict[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None}
