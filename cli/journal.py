"""The journal beside a file of messages: records which messages are on the queue, so that `send --file` can resume."""

import contextlib
import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self, TextIO

from pydantic import TypeAdapter, ValidationError

from cli.errors import CliError, Exit
from cli.private_file import create, open_regular

_LONGEST_HEAD: Final = 4096
_ENTRY: Final = TypeAdapter(dict[Literal["queueing", "queued", "found"], frozenset[str]])
"""A line of a journal after the first."""


class Journal:
    """Records which messages of a file are on the queue, with a line before each batch and a line after it.

    A line without a message_id gets one, made from a random part of the journal and the line's text. So it stays the
    same when the file is resumed, and differs next week with a new journal. A context manager; one process at a time
    can have it.
    """

    def __init__(self, path: Path, stack_id: str) -> None:
        self.path, self._stack_id = path, stack_id
        self.run = ""
        self.idle_seconds = 0.0
        """Since the last write of an earlier run."""
        self._began = False
        self._is_new = False
        self.queued: set[str] = set()
        self.uncertain: set[str] = set()

    def __enter__(self) -> Self:
        self._file = self._opened()
        try:
            self._lock()
            self.idle_seconds = time.time() - os.fstat(self._file.fileno()).st_mtime
            self._load()
        except BaseException:
            self._close(remove=self._is_new)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close(remove=not self._began)  # after a file that was refused, no journal remains

    def _close(self, *, remove: bool) -> None:
        """Close the journal. ``remove``: delete it too, if this run made it or it begins as a journal does."""
        if remove and self._is_in_place():
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _opened(self) -> TextIO:
        """Make or open the journal. An empty one belongs to the run that has just made it; no other writes to it."""
        try:
            try:
                descriptor = create(self.path)
                self._is_new = True
            except FileExistsError:
                descriptor = open_regular(self.path, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise CliError(
                f"{self.path} can't be written: {error.strerror}.", "Name another with --journal.", Exit.USAGE
            ) from None
        return os.fdopen(descriptor, "a+", encoding="utf-8")

    def _lock(self) -> None:
        """Lock the file; `CliError` if another process has it, or has removed it so that no later run would find it."""
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._file, fcntl.LOCK_EX if self._is_new else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._file.fileno()).st_nlink > 0:
                return
        raise CliError(
            f"Another process is queueing this file ({self.path} is locked).", "Wait until it ends.", Exit.USAGE
        )

    def _is_in_place(self) -> bool:
        """Return whether the path still leads to the open file, not to one that replaced it."""
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def message_id_of(self, line: str, occurrence: int) -> str:
        """Return the message_id for a line without one: the same in every run with this journal."""
        return f"{self.run}-{hashlib.sha256(f'{occurrence}:{line}'.encode()).hexdigest()[:32]}"

    def queueing(self, message_ids: Sequence[str]) -> None:
        """Record a batch before it is queued: its messages are uncertain until `done`."""
        self._began = True
        self._append({"queueing": list(message_ids)})

    def done(self, message_ids: Sequence[str]) -> None:
        """Record after a batch which of its messages are on the queue: those that SQS accepted."""
        self._append({"queued": list(message_ids)})
        self.queued |= set(message_ids)

    def found(self, message_ids: Sequence[str]) -> None:
        """Record that these uncertain messages are on the queue after all; the others stay uncertain."""
        self._append({"found": list(message_ids)})
        self.queued |= set(message_ids)

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _load(self) -> None:
        if self._is_new:
            self.run = f"file-{uuid.uuid4().hex[:10]}"
            self._append({"journal": 1, "stack": self._stack_id, "run": self.run})
            return
        self._file.seek(0)
        try:
            head = self._file.readline(_LONGEST_HEAD)
            self.run = self._run_of(head)  # read no further unless the file is a journal
            text = self._file.read()
        except UnicodeDecodeError:
            raise self._is_none() from None
        lines = text.splitlines()
        self._began = bool(lines)
        pending: frozenset[str] = frozenset()
        for what, message_ids in self._entries(lines):
            # A batch ends with the line "queued"; without that line, the process was killed.
            if what == "queueing":
                self.uncertain |= pending
                pending = message_ids
            else:
                self.queued |= message_ids
                pending = frozenset() if what == "queued" else pending
        self.uncertain = (self.uncertain | pending) - self.queued
        if not (head + text).endswith("\n"):
            self._file.write("\n")

    def _entries(self, lines: Iterable[str]) -> Iterator[tuple[str, frozenset[str]]]:
        for line in lines:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue  # the last line, if the process was killed while writing it
            try:
                yield from _ENTRY.validate_python(entry).items()
            except ValidationError:
                raise self._is_none() from None

    def _is_none(self) -> CliError:
        return CliError(
            f"{self.path} is not a journal of this command; it was left as it is.",
            "Name another with --journal.",
            Exit.INVALID,
        )

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
