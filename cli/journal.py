"""Messages on their way to the queue: checked as the sender will check them, each under a key, in batches of ten.

A file of JSON lines has a journal beside it, so that it can be resumed: what was queued is not queued again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import time
import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from pydantic import TypeAdapter, ValidationError

from cli.errors import CliError, Exit
from optus_sms.model.errors import InvalidMessageError
from optus_sms.model.queue_message import OutboundMessage, parse_message

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

BATCH: Final = 10  # SQS's most
SQS_COUNTS_AFTER_SECONDS: Final = 60
"""SQS's counts of a queue are right a minute after the last message was sent to it (its API reference says so)."""
_ENTRY: Final = TypeAdapter(dict[Literal["queueing", "queued", "found"], frozenset[str]])
"""A line of a journal after the first."""
_TRIES: Final = 5  # of what SQS did not take from a batch through no fault of the message
_MOST_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Ready:
    """A message that breaks no rule, with the body as it goes on the queue."""

    key: str
    body: str = field(repr=False)
    message: OutboundMessage = field(repr=False)


def new_key() -> str:
    """For a message that has no message_id of its own."""
    return f"cli-{uuid.uuid4().hex}"


def check(fields: Mapping[str, Any], key: str) -> Ready:
    """A message by its fields, None left out; ``key`` if it has none. `InvalidMessageError` names fields and rules."""
    given = {name: value for name, value in fields.items() if value is not None}
    body = json.dumps({"message_id": key, **given})
    message = parse_message(body, now=time.time())
    return Ready(message.message_id or key, body, message)


def describe(message: OutboundMessage) -> dict[str, Any]:
    """What becomes of the text: parts, encoding, and which character made it UCS-2."""
    segments = message.segments
    described: dict[str, Any] = {
        "characters": len(message.content),
        "parts": segments.count,
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


class Journal:
    """Beside a file, what of it is on the queue: a line before each batch and a line after it.

    Keys of lines without one come from the journal's own random run and the line's text. So the same file, resumed,
    makes the same keys, and the same file next week, with a new journal, makes others. A context manager; only one
    process at a time has it.
    """

    def __init__(self, path: Path, stack_id: str) -> None:
        self.path, self._stack_id = path, stack_id
        self.run = ""
        self.idle_seconds = 0.0
        """Since somebody wrote to it before."""
        self._began = False
        self.queued: set[str] = set()
        self.uncertain: set[str] = set()

    def __enter__(self) -> Self:
        try:
            self._file = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            raise CliError(
                f"{self.path} can't be written: {error.strerror}.", "Name another with --journal.", Exit.USAGE
            ) from None
        if not self._is_ours():
            self._file.close()
            raise CliError(
                f"Another process is queueing this file ({self.path} is locked).", "Wait for its end.", Exit.USAGE
            )
        try:
            self.idle_seconds = time.time() - self.path.stat().st_mtime
            self._load()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._began:  # a file that was refused leaves nothing behind
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _is_ours(self) -> bool:
        """Nobody else has it, or has removed it meanwhile: what we write then would be found by nobody."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return os.fstat(self._file.fileno()).st_nlink > 0

    def key_of(self, line: str, occurrence: int) -> str:
        """The key of a line that has none: the same whenever this journal goes on."""
        return f"{self.run}-{hashlib.sha256(f'{occurrence}:{line}'.encode()).hexdigest()[:32]}"

    def queueing(self, keys: Sequence[str]) -> None:
        """Written before a batch: from now on nobody knows, until `done`."""
        self._began = True
        self._append({"queueing": list(keys)})

    def done(self, keys: Sequence[str]) -> None:
        """Written after a batch: these are on the queue. What SQS did not take is not."""
        self._append({"queued": list(keys)})
        self.queued |= set(keys)

    def found(self, keys: Sequence[str]) -> None:
        """Of batches that nobody knows about, these are on the queue after all; the others stay uncertain."""
        self._append({"found": list(keys)})
        self.queued |= set(keys)

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _load(self) -> None:
        self._file.seek(0)
        try:
            text = self._file.read()
        except UnicodeDecodeError:
            raise self._is_none() from None
        head, *lines = text.splitlines() or [""]
        if not head.strip():
            self.run = f"file-{uuid.uuid4().hex[:10]}"
            self._append({"journal": 1, "stack": self._stack_id, "run": self.run})
            return
        self.run, self._began = self._run_of(head), bool(lines)
        pending: frozenset[str] = frozenset()
        for what, keys in self._entries(lines):
            # A batch ends with its line "queued"; one without it is of a process that was killed.
            if what == "queueing":
                self.uncertain |= pending
                pending = keys
            else:
                self.queued |= keys
                pending = frozenset() if what == "queued" else pending
        self.uncertain = (self.uncertain | pending) - self.queued
        if not text.endswith("\n"):
            self._file.write("\n")

    def _entries(self, lines: Iterable[str]) -> Iterator[tuple[str, frozenset[str]]]:
        for line in lines:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue  # the last line of a process that was killed while writing it
            try:
                yield from _ENTRY.validate_python(entry).items()
            except ValidationError:
                raise self._is_none() from None

    def _is_none(self) -> CliError:
        return CliError(f"{self.path} is not a journal of this command.", "Name another with --journal.", Exit.INVALID)

    def _run_of(self, head: str) -> str:
        try:
            header = json.loads(head)
            journal, stack, run = header["journal"], header["stack"], str(header["run"])
        except (ValueError, KeyError, TypeError, RecursionError):
            journal, stack, run = None, "", ""
        if journal != 1 or not run:
            raise self._is_none()
        if stack != self._stack_id:
            raise CliError(
                f"{self.path} belongs to another stack.",
                "Name that stack, or another journal with --journal.",
                Exit.INVALID,
            )
        return run


def queue_one(sqs: SQSClient, url: str, ready: Ready) -> None:
    """Put one message on the queue."""
    sqs.send_message(QueueUrl=url, MessageBody=ready.body)


@contextlib.contextmanager
def stopping_between_batches() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C, SIGTERM or the end of the terminal has come: not obeyed within a batch, or nobody would know
    what of it was queued.
    """
    asked: list[int] = []
    every = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signals = [number for number in every if signal.getsignal(number) is not signal.SIG_IGN]  # as nohup wants it
    before = [signal.signal(number, lambda number, _frame: asked.append(number)) for number in signals]
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def queue_all(
    sqs: SQSClient,
    url: str,
    waiting: Iterable[Ready],
    journal: Journal,
    *,
    progress: Callable[[int], None],
    stop: Callable[[], bool],
) -> list[str]:
    """Put all of them on the queue, ten at a time; the keys that SQS would not take. KeyboardInterrupt to ``stop``."""
    refused: list[str] = []
    for batch in _batches(waiting):
        if stop():
            raise KeyboardInterrupt
        keys = [ready.key for ready in batch]
        journal.queueing(keys)
        taken = _queue_batch(sqs, url, batch)
        journal.done(taken)
        refused += [key for key in keys if key not in taken]
        progress(len(batch))
    return refused


def _batches(waiting: Iterable[Ready]) -> Iterator[list[Ready]]:
    batch: list[Ready] = []
    for ready in waiting:
        batch.append(ready)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _queue_batch(sqs: SQSClient, url: str, batch: Sequence[Ready]) -> list[str]:
    """The keys that were taken; those that failed at SQS's end are tried again."""
    left = {str(number): ready for number, ready in enumerate(batch)}
    taken: list[str] = []
    for again in range(_TRIES):
        entries: Any = [{"Id": number, "MessageBody": ready.body} for number, ready in left.items()]
        answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
        taken += [left.pop(entry["Id"]).key for entry in answer.get("Successful", [])]
        if not any(not failed.get("SenderFault", False) for failed in answer.get("Failed", [])):
            break
        time.sleep(0.2 * 2**again)
    return taken
