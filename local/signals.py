"""The signals that end `make run`. Imported before modules that take time to import."""

import signal


def ending_signals() -> list[signal.Signals]:
    """Return the signals; without SIGHUP if it is ignored, as by `nohup`.

    SIGINT always counts: a shell lets its background processes ignore it, but one that is sent anyway is intended.
    """
    is_deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if is_deaf else [signal.SIGHUP])]
