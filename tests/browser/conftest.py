"""A real browser; without one the tests are skipped, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.canned_page import CannedPage, everything_shown
from tools import browser as browser_here

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = browser_here.find()
    if path is None:
        pytest.skip(browser_here.MISSING)
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: make test-browser installs it")
    with playwright.sync_playwright() as driver:
        # A foreign name that resolves to this machine.
        names = "--host-resolver-rules=MAP evil.example 127.0.0.1"
        started = driver.chromium.launch(executable_path=path, args=[*browser_here.FLAGS, names])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; the test fails after an error of a script or a violation of the content policy."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda line: problems.append(line.text) if "Content Security Policy" in line.text else None)
    yield opened
    context.close()
    assert problems == []


@pytest.fixture
def canned() -> Iterator[CannedPage]:
    """A scripted server whose page shows an example of each kind."""
    server = everything_shown()
    yield server
    server.close()
