"""`.local/endpoints.env`, which names the stack to use. Trusted only if this checkout's running stack wrote it.

A folder from elsewhere can have such a file too, and the port of an earlier run can belong to another program by now.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

from cli.errors import CliError, Exit
from cli.private_file import open_regular

CHECKOUT: Final = Path(__file__).resolve().parent.parent
ENDPOINTS: Final = Path(".local/endpoints.env")
_START: Final = "Start it with `make run` in another terminal, and call this from the repository's folder."
_MOST_BYTES: Final = 1_000_000


def read_endpoints() -> str:
    """Return the file of this folder; `CliError` unless the running stack of this checkout wrote it."""
    try:
        descriptor = open_regular(ENDPOINTS, os.O_RDONLY)
    except FileNotFoundError:
        problem = f"The local stack is not running: there is no {ENDPOINTS} in this folder."
        raise CliError(problem, _START, Exit.NO_TARGET) from None
    except OSError as error:
        raise _not_trusted(f"it can't be opened: {error.strerror}") from None
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
        found = os.fstat(descriptor)
        if not _is_of_this_checkout(found):
            raise _not_trusted(f"this optus-sms is that of {CHECKOUT}")
        if found.st_uid != os.geteuid():
            raise _not_trusted("it belongs to another user")
        if found.st_mode & 0o022:
            raise _not_trusted("other users can write to it")
        if not _is_locked(descriptor):
            problem = f"The local stack is not running; {ENDPOINTS} is from an earlier run."
            raise CliError(problem, _START, Exit.NO_TARGET)
        return file.read(_MOST_BYTES)


def _not_trusted(why: str) -> CliError:
    return CliError(
        f"{ENDPOINTS} of this folder is not trusted: {why}. Nothing was done.",
        "Call .venv/bin/optus-sms in the folder of the checkout whose `make run` is running, or name a deployed stack\n"
        "with --stack.",
        Exit.NO_TARGET,
    )


def _is_of_this_checkout(found: os.stat_result) -> bool:
    try:
        return os.path.samestat(found, (CHECKOUT / ENDPOINTS).stat())
    except OSError:
        return False


def _is_locked(descriptor: int) -> bool:
    """Return whether a running stack has the file. The stack holds the lock until it ends, even by a crash."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        raise _not_trusted("its file system has no locks, so it can be from an earlier run") from None
    return False
