"""The signals that end `make run`. Imported before anything that takes time."""

import signal


def ending_signals() -> list[signal.Signals]:
    """Return them: without a hangup if it is ignored, as by `nohup`, which outlives its terminal.

    A shell ignores SIGINT for what it starts in the background; a SIGINT that comes all the same is meant.
    """
    is_deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if is_deaf else [signal.SIGHUP])]
