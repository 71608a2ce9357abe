"""Templates with one deliberate mistake, to show that an invariant notices it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

REMOVED: Final = object()


@dataclass(frozen=True)
class Mistake:
    """One edit of template.yaml as data: `path` leads to it, list items by their number; REMOVED takes it out."""

    path: str
    value: object = REMOVED

    def __str__(self) -> str:
        return f"no {self.path}" if self.value is REMOVED else f"{self.path}={self.value}"


def with_mistake(document: Mapping[str, Any], mistake: Mistake) -> dict[str, Any]:
    """Return a copy of `document` with the mistake. Raise KeyError if the mistake would change nothing."""
    return cast(dict[str, Any], _edited(document, mistake.path.split("/"), mistake.value))


def _edited(node: Any, keys: list[str], value: object) -> Any:
    key: Any = int(keys[0]) if isinstance(node, list) else keys[0]
    copy = list(node) if isinstance(node, list) else dict(node)
    if len(keys) > 1:
        copy[key] = _edited(copy[key], keys[1:], value)
    elif value is REMOVED:
        del copy[key]
    elif not isinstance(node, list) and node.get(key, REMOVED) == value:
        raise KeyError(f"{key} is {value!r} already")
    else:
        copy[key] = value
    return copy
