"""Log records of the functions and of the callback API, from CloudWatch or from the local stack's file."""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Self

from cli.endpoints_file import ENDPOINTS
from cli.errors import CliError, Exit
from cli.target import Target

FUNCTIONS: Final = ("SendMessage", "ReceiveCallback", "CheckHealth", "ReconcileMessages", "PublishEvents")
ACCESS: Final = "CallbackAccess"
_LOCAL_LOG: Final = ENDPOINTS.with_name("functions.log")
# A function's error, or Lambda's report of a timeout or a crash.
_FAILED: Final = '($.level = "ERROR" || ($.type = "platform.report" && $.record.status != "success"))'
_CONDITION: Final = re.compile(r"([a-z_]+)(!?=)(.+)")


@dataclass(frozen=True)
class FieldCondition:
    """A field has one of these values (with ``negated``: none of them); `*` in a value means any characters."""

    field: str
    values: tuple[str, ...]
    negated: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the condition in `field=value,value` or `field!=value`; raise ValueError for any other text."""
        found = _CONDITION.fullmatch(text)
        if not found:
            raise ValueError(text)
        return cls(found[1], tuple(found[3].split(",")), found[2] == "!=")

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record meets the condition. An absent field has no value."""
        if self.field not in record:
            return False
        return any(fnmatchcase(str(record[self.field]), value) for value in self.values) is not self.negated

    def __str__(self) -> str:
        """Return the condition in the syntax of CloudWatch's filter patterns."""
        operator, joint = ("!=", " && ") if self.negated else ("=", " || ")
        quoted = (value if value == "*" else json.dumps(value) for value in self.values)
        return "(" + joint.join(f"$.{self.field} {operator} {value}" for value in quoted) + ")"


def records(
    target: Target, names: Sequence[str], conditions: Sequence[FieldCondition], *, since: float, failed: bool
) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each record that meets all conditions."""
    if target.local:
        yield from _of_local_stack(names, conditions, since=since, failed=failed)
        return
    conjunction = " && ".join([*map(str, conditions), *([_FAILED] if failed else [])])
    pattern = {"filterPattern": f"{{ {conjunction} }}"} if conjunction else {}
    pages = target.client("logs").get_paginator("filter_log_events")
    for name in names:
        group = target.physical_id(f"{name}LogGroup")
        if group is None:
            raise CliError(f"This stack has no {name}LogGroup.", "Deploy the current version.", Exit.NO_TARGET)
        for page in pages.paginate(logGroupName=group, startTime=int(since * 1000), **pattern):
            yield from ((name, event["message"].rstrip("\n")) for event in page["events"])


def _of_local_stack(
    names: Sequence[str], conditions: Sequence[FieldCondition], *, since: float, failed: bool
) -> Iterator[tuple[str, str]]:
    """Yield the records in the latest `make run`'s file, which has no access log and no reports of Lambda."""
    oldest = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since))
    for line in _LOCAL_LOG.read_text(encoding="utf-8").splitlines():
        function, _, text = line.partition(" ")
        name = function.removesuffix("Function")
        try:
            record = json.loads(text)
        except ValueError:
            record = {"level": "ERROR"}  # the line that the runtime prints when a process ends
        is_wanted = name in names and all(condition.holds(record) for condition in conditions)
        if is_wanted and record.get("timestamp", oldest) >= oldest and (not failed or record.get("level") == "ERROR"):
            yield name, text
