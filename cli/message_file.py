"""Read a file of JSON lines with a message in each, and report each line that breaks a rule."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from cli.checked_message import Ready, check
from cli.errors import CliError, Exit
from optus_sms.model.errors import InvalidMessageError

_MOST_SHOWN: Final = 20


def read_lines(path: Path, key_of: Callable[[str, int], str]) -> tuple[list[Ready], dict[int, str]]:
    """The messages of a file of JSON lines, and what is wrong by line number.

    ``key_of`` makes the key of a line without one, from the line and how often the same line came before.
    """
    ready: dict[str, tuple[int, Ready]] = {}
    wrong: dict[int, str] = {}
    seen: Counter[str] = Counter()
    for number, line in _numbered(path):
        seen[line] += 1
        try:
            found = check(_object(line), key_of(line, seen[line]))
        except ValueError as error:
            wrong[number] = f"must be JSON; {error}"
            continue
        except InvalidMessageError as error:
            wrong[number] = error.detail
            continue
        earlier = ready.setdefault(found.key, (number, found))
        if earlier[1].message.payload_sha256 != found.message.payload_sha256:
            wrong[number] = f"message_id: line {earlier[0]} has the same with other fields"
    return [found for _, found in ready.values()], wrong


def _object(line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except RecursionError:
        raise InvalidMessageError("body: must be JSON; nested too deeply") from None
    if not isinstance(fields, dict):
        raise InvalidMessageError("body: must be a JSON object")
    return fields


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.strip()
    except OSError as error:
        raise CliError(f"{path} can't be read: {error.strerror}.", "Name another file.", Exit.USAGE) from None
    except UnicodeDecodeError:
        raise CliError(f"{path} is not UTF-8.", "Convert it: iconv -t UTF-8.", Exit.INVALID) from None


def wrong_lines(path: Path, wrong: Mapping[int, str]) -> str:
    """What is wrong with a file, for people."""
    lines = [f"{path}, line {number}: {problem}" for number, problem in list(wrong.items())[:_MOST_SHOWN]]
    if len(wrong) > _MOST_SHOWN:
        lines.append(f"… and {len(wrong) - _MOST_SHOWN} more lines")
    return "\n".join(lines)
