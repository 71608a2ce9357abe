"""The files of `.local/`: readable by their owner only, because they hold passwords and texts, if only local ones."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from cli import private_file


def create(path: Path) -> None:
    """Make an empty file, in place of one that is there."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.close(private_file.create(path))


@contextlib.contextmanager
def present(path: Path, text: str) -> Iterator[None]:
    """Write the file, and remove it at the end unless another stack has written its own meanwhile.

    Locked until then: the command line takes an unlocked one for that of an earlier run.
    """
    create(path)
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(text)
        file.flush()
        try:
            yield
        finally:
            if path.exists() and path.read_text(encoding="utf-8") == text:
                path.unlink()
