"""The entry point of `optus-sms`. It imports little, because Ctrl-C during imports prints a traceback."""

import _signal  # type: ignore[import-not-found] # `signal` and `typing` would import more
import os.path
import sys

# Installed, this folder is the package `optus_sms_cli` (pyproject.toml), whose modules import each other as `cli`. An
# editable installation has only this module there.
if os.path.exists(os.path.join(os.path.dirname(__file__), "main.py")):  # noqa: PTH110, PTH118, PTH120 - imported already
    sys.modules["cli"] = sys.modules[__package__ or "cli"]


def main() -> None:
    """Run the command. SIGTERM and a lost terminal end it as Ctrl-C does, so that no half-written file remains."""
    try:
        for number in (_signal.SIGTERM, _signal.SIGHUP):
            if _signal.getsignal(number) == _signal.SIG_DFL:  # nohup ignores SIGHUP
                _signal.signal(number, _interrupt)
        from cli.main import main as command

        command()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(130)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
