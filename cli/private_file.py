"""Creates files that only the user can read, and opens files without trusting what they are."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

_CAREFULLY: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def create(path: Path) -> int:
    """Make a file that only its user can read, and return its descriptor; FileExistsError if the path exists."""
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _CAREFULLY, 0o600)


def open_regular(path: Path, flags: int) -> int:
    """Open a regular file and return its descriptor; OSError for a link, a device, a pipe."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link")
    descriptor = os.open(path, flags | _CAREFULLY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor
