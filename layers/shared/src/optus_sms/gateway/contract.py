"""Compares the gateway's `openapi.yaml` with the version stored before: a pure comparison of two texts.

Every change is reported, and an operator decides whether it matters. An absent or unreadable document proves nothing
about the API, and has a result of its own.
"""

from __future__ import annotations

import json
import re
from difflib import unified_diff
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from optus_sms.model.redaction import printable, without_numbers

if TYPE_CHECKING:
    from optus_sms.gateway.transport import Exchange

_MOST_LINES: Final = 100
_LONGEST_LINE: Final = 200
_OPENAPI_3_IN_YAML: Final = re.compile(r"""^["']?openapi["']?[ ]*:[ ]*["']?3\.""", re.MULTILINE)
_PHONE_NUMBER_DIGITS: Final = 7  # in an example; a limit such as 65535 stays


class Contract(StrEnum):
    """The result of one comparison."""

    BASELINE = "baseline"  # the first document of this stack
    SAME = "same"
    CHANGED = "changed"
    ABSENT = "absent"  # HTTP 404: this gateway does not offer it, or not to this account
    UNREADABLE = "unreadable"


class Comparison(NamedTuple):
    """A comparison's result. ``document``: normalized, empty if there is none.

    ``differences``: lines of a unified diff, safe for a log. ``changed_lines``: the number of changed lines, including
    those beyond the listed ones. ``reason``: why nothing was compared.
    """

    contract: Contract
    document: str = ""
    differences: tuple[str, ...] = ()
    changed_lines: int = 0
    reason: str = ""


def compare(response: Exchange, before: str | None) -> Comparison:
    """Compare the response to `GET /openapi.yaml` with the document stored before; None if there is none."""
    if response.status == 404:
        return Comparison(Contract.ABSENT, reason="HTTP 404")
    if response.status != 200 or response.body is None:
        return Comparison(Contract.UNREADABLE, reason=response.failure or f"HTTP {response.status}")
    document = _normalised(response.body)
    if document is None:
        return Comparison(Contract.UNREADABLE, reason="not an OpenAPI 3 document")
    if before is None:
        return Comparison(Contract.BASELINE, document)
    diff = list(unified_diff(before.split("\n"), document.split("\n"), lineterm=""))[2:]  # without the two file names
    if not diff:
        return Comparison(Contract.SAME, document)
    changed_lines = sum(line.startswith(("+", "-")) for line in diff)
    return Comparison(Contract.CHANGED, document, _listed(diff), changed_lines)


def _normalised(body: bytes) -> str | None:
    """Return the document with uniform line ends and JSON layout, and no spaces at line ends.

    None if it is not an OpenAPI 3 document, such as an HTML page or an error from a proxy in front of the gateway.
    """
    try:
        text = body.decode("utf-8-sig")
        if text.lstrip().startswith("{"):
            return _normalised_json(text)
    except (ValueError, RecursionError):
        return None
    lines = "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
    return lines if _OPENAPI_3_IN_YAML.search(lines) and not lines.lstrip().startswith("<") else None


def _normalised_json(text: str) -> str | None:
    """Return JSON with a line for each value, so that a diff shows it, and no indentation, which can be huge."""
    document = json.loads(text)
    return json.dumps(document, indent=0, sort_keys=True) if str(document.get("openapi")).startswith("3.") else None


def _listed(diff: list[str]) -> tuple[str, ...]:
    left_out = len(diff) - _MOST_LINES
    more = (f"… and {left_out} more lines",) if left_out > 0 else ()
    return (*(_loggable(line) for line in diff[:_MOST_LINES]), *more)


def _loggable(line: str) -> str:
    return printable(without_numbers(line, least_digits=_PHONE_NUMBER_DIGITS), _LONGEST_LINE)
