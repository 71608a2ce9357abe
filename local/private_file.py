"""The files of `.local/`: readable by their owner only, because they hold passwords and texts, if only local ones."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from cli import private_file


class FolderInUseError(Exception):
    """Another run works in the folder; the text says what to do."""


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keep other runs out of the folder, by a lock that ends with the process. Raises FolderInUseError."""
    folder.mkdir(exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "end that one with Ctrl-C, or run this one in another checkout with a PORT=… of its own"
            raise FolderInUseError(
                f"another `make run` runs in this folder ({folder.resolve().parent}): {fix}"
            ) from None
        yield
    finally:
        os.close(lock)


def _lock(descriptor: int, how: int) -> None:
    """Lock what is open; BlockingIOError if another process has the lock. A file system can be without locks."""
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        raise
    except OSError:
        return


def create(path: Path) -> None:
    """Make an empty file, in place of one that is there."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.close(private_file.create(path))


@contextlib.contextmanager
def present(path: Path, text: str) -> Iterator[None]:
    """Write the file, and remove it at the end unless another stack has written its own meanwhile.

    It appears whole, for those who wait for it, and is locked until the end: the command line takes an unlocked one for
    that of an earlier run.
    """
    draft = path.with_name(f"{path.name}.draft")
    try:
        create(draft)
        with draft.open("w", encoding="utf-8") as file:
            _lock(file.fileno(), fcntl.LOCK_EX)
            file.write(text)
            file.flush()
            draft.replace(path)
            yield
    finally:
        draft.unlink(missing_ok=True)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            path.unlink()
