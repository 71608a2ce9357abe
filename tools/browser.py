"""Finds a browser on this machine, and starts it without a screen; for the tests and the screenshot."""

import shutil
from typing import Final

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING: Final = "no Chromium or Chrome on this machine: apt-get install chromium"
FLAGS: Final = (
    # Chromium's sandbox can't start as root in a container. It is not needed, because only the phone page is opened.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find() -> str | None:
    """Return the path of Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, _NAMES)), None)
