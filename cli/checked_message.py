"""Check messages as the sender function does, one or a file of JSON lines, and describe their segments."""

import json
import shlex
import time
import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cli.errors import CliError, Exit, not_utf8
from optus_sms.model.errors import InvalidMessageError
from optus_sms.model.queue_body import read_object
from optus_sms.model.queue_message import OutboundMessage, parse_message

_MOST_SHOWN: Final = 20
_LONG_AGO: Final = 1.0  # epoch seconds
MOST_CHARACTERS: Final = 1_048_576
"""The most characters of a line or text that is read: SQS's limit for a message, in bytes."""


@dataclass(frozen=True, slots=True)
class CheckedMessage:
    """A message that breaks no rule, with the body for the queue."""

    message_id: str
    body: str = field(repr=False)
    message: OutboundMessage = field(repr=False)
    group: str | None = None

    @property
    def request(self) -> Any:
        """The request to SQS. ``group``: the MessageGroupId, for SQS's fair queues."""
        return {"MessageBody": self.body, **({"MessageGroupId": self.group} if self.group else {})}


Rules = Callable[[OutboundMessage], None]


def no_rules(_message: OutboundMessage) -> None:
    """Accept every message."""


def new_message_id() -> str:
    """Return a new message_id for a message without one."""
    return f"cli-{uuid.uuid4().hex}"


def check(
    fields: Mapping[str, Any], message_id: str, *, queued: Collection[str] = (), rules: Rules = no_rules
) -> CheckedMessage:
    """Return the message with these fields, and this ``message_id`` if it has none; or raise `InvalidMessageError`.

    ``queued``: message_ids that are on the queue already; their schedule may be past. ``rules``: the stack's,
    `Target.check_rules`.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    body = json.dumps({"message_id": message_id, **given})
    key = given.get("message_id", message_id)
    is_queued = isinstance(key, str) and key in queued
    message = parse_message(body, now=time.time(), queued_at=_LONG_AGO if is_queued else None)
    rules(message)
    return CheckedMessage(message.message_id or message_id, body, message)


def describe(message: OutboundMessage) -> dict[str, Any]:
    """Return the number of segments, the encoding, and the character that makes it UCS-2."""
    segments = message.segments
    described: dict[str, Any] = {
        "characters": len(message.content),
        "segments": segments.count,
        "encoding": segments.encoding,
    }
    if segments.ucs2_at is not None:
        character = message.content[segments.ucs2_at]
        described["ucs2_because"] = {
            "character": character,
            "code_point": f"U+{ord(character):04X}",
            "name": unicodedata.name(character, "a character without a name"),
            "position": segments.ucs2_at + 1,
        }
    return described


def read_lines(
    path: Path,
    message_id_of: Callable[[str, int], str],
    *,
    queued: Collection[str] = (),
    rules: Rules = no_rules,
) -> tuple[list[CheckedMessage], dict[int, str]]:
    """Return the messages of a file of JSON lines, and the invalid lines with their problems, by line number.

    ``message_id_of`` makes a message_id for a line without one, from the line and the number of equal lines before it.
    ``queued`` and ``rules``: as for `check`.
    """
    checked: dict[str, tuple[int, CheckedMessage]] = {}
    invalid: dict[int, str] = {}
    seen: Counter[str] = Counter()
    for number, line in _numbered(path):
        seen[line] += 1
        try:
            found = check(read_object(line), message_id_of(line, seen[line]), queued=queued, rules=rules)
        except InvalidMessageError as error:
            invalid[number] = error.detail
            continue
        earlier = checked.setdefault(found.message_id, (number, found))
        if earlier[1].message != found.message:  # with another expires_at, the first one could be too late
            invalid[number] = f"message_id: is used by line {earlier[0]} with other fields; give each message its own"
    return [found for _, found in checked.values()], invalid


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = iter(lambda: file.readline(MOST_CHARACTERS + 1), "")
            for number, line in enumerate(lines, start=1):
                if len(line) > MOST_CHARACTERS:
                    raise CliError(
                        f"{path}, line {number}: has more than {MOST_CHARACTERS} characters, which SQS refuses.",
                        "Each line must be one JSON object.",
                        Exit.INVALID,
                    )
                if line.strip():
                    yield number, line.strip()
    except OSError as error:
        raise CliError(f"{path} can't be read: {error.strerror}.", "Name another file.", Exit.USAGE) from None
    except UnicodeDecodeError:
        with path.open("rb") as raw:
            beginning = raw.read(2)
        names = shlex.quote(str(path)), shlex.quote(f"{path}.utf8")
        raise not_utf8(str(path), beginning, lambda iconv: f"{iconv} {names[0]} > {names[1]}") from None


def invalid_lines(path: Path, invalid: Mapping[int, str]) -> str:
    """Return the problems of a file, one on each line."""
    lines = [f"{path}, line {number}: {problem}" for number, problem in list(invalid.items())[:_MOST_SHOWN]]
    if len(invalid) > _MOST_SHOWN:
        lines.append(f"… and {len(invalid) - _MOST_SHOWN} more lines")
    return "\n".join(lines)
