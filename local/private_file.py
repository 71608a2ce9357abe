"""The files of `.local/`, which only their owner can read, because they hold (local) passwords and texts."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from cli import private_file


class FolderInUseError(Exception):
    """Another run uses the folder; the text has the fix."""


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Lock the folder against other runs until the process ends. Raises FolderInUseError."""
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
    """Lock an open file; BlockingIOError if another process has the lock. File systems without locks are ignored."""
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        raise
    except OSError:
        return


def create(path: Path) -> None:
    """Make an empty file, in place of an existing one."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.close(private_file.create(path))


@contextlib.contextmanager
def present(path: Path, text: str) -> Iterator[None]:
    """Write the file, and remove it after the block, unless another stack has replaced it.

    The file appears complete, for programs that wait for it. It is locked until the end, because the command line
    treats an unlocked one as an earlier run's.
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
