"""The journal beside a file of messages: it notes which are on the queue, so that `send --file` can be resumed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from pydantic import TypeAdapter, ValidationError

from cli.errors import CliError, Exit

_ENTRY: Final = TypeAdapter(dict[Literal["queueing", "queued", "found"], frozenset[str]])
"""A line of a journal after the first."""


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
