"""The files of `.local/`: readable by their owner only, because they hold passwords and texts, if only local ones."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


def create(path: Path) -> None:
    """Make an empty file, in place of one that is there."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)


@contextlib.contextmanager
def present(path: Path, text: str) -> Iterator[None]:
    """Write the file, and remove it at the end unless another stack has written its own meanwhile."""
    create(path)
    path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            path.unlink()
