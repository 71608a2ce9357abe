"""Where a browser is on this machine, and how to start it without a screen; for the tests and the picture."""

from __future__ import annotations

import shutil
from typing import Final

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING: Final = "no Chromium or Chrome on this machine: apt-get install chromium"
FLAGS: Final = (
    # A container's root may not make the sandbox, and nothing but our own page is ever opened.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find() -> str | None:
    """The path of Chromium or Chrome; None if there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)
