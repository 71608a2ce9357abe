"""The start of `make run`, which handles signals until `local.run` is imported (that takes a second)."""

import contextlib
import os
import signal
import sys
from types import FrameType

from local.signals import ending_signals


def main() -> int:
    """Return the exit status of `local.run.main`."""
    for number in ending_signals():
        signal.signal(number, _end_at_once)
    from local import run  # noqa: PLC0415 - the signals come first

    return run.main()


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    """Exit at once, as nothing is started yet. An exception amid imports could get lost, or print a traceback."""
    with contextlib.suppress(OSError):
        os.write(1, b"make run: has ended, before it had started anything.\n")
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
