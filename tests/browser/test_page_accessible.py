"""The page can be used without a mouse and with a screen reader: axe in every state, targets, the Tab key."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

from tests.support.canned_page import CannedPage, message, snapshot
from tests.support.node import TESTS, needs_packages

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

_AXE: Final = TESTS / "support" / "axe"
# The rule that an accessible name begins with its label is off by default.
_VIOLATIONS: Final = """async () => {
  const found = await axe.run(document, { rules: { "label-content-name-mismatch": { enabled: true } } });
  return found.violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 120)}`));
}"""
# WCAG 2.2, 2.5.8: 24 by 24 CSS pixels; a label is part of the target of its box.
_TOO_SMALL: Final = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
  .filter((node) => node.checkVisibility())
  .map((node) => [node, (node.closest("label") ?? node).getBoundingClientRect()])
  .filter(([, { width, height }]) => width < 24 || height < 24).map(([node]) => node.outerHTML.slice(0, 120))"""


def _open(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url)
    page.wait_for_selector("#health.pill")
    page.wait_for_selector(".phone, #no-phones:not([hidden])")


def _unfold(page: Page) -> None:
    page.evaluate("() => { for (const each of document.querySelectorAll('details')) each.open = true; }")


@needs_packages(_AXE)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_axe_finds_nothing_in_any_state(
    page: Page, canned: CannedPage, width: int, scheme: Literal["light", "dark"]
) -> None:
    axe, found = (_AXE / "node_modules" / "axe-core" / "axe.min.js").read_text(), dict[str, Any]()

    def look(state: str) -> None:
        page.evaluate(axe)
        if violations := page.evaluate(_VIOLATIONS):
            found[state] = violations

    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    busy, canned.first = canned.first, snapshot()
    _open(page, canned)
    look("empty")
    canned.first = busy
    _open(page, canned)
    page.fill("#field-content", "\u2019")
    page.locator(".culprit").wait_for()
    _unfold(page)
    look("busy")
    page.locator(".bubble.unsure .status").click()
    page.locator("#timeline .life").wait_for()
    _unfold(page)
    look("timeline")
    page.locator("[data-group=dead_letters]").click()
    page.locator(".dead-letter").wait_for()
    _unfold(page)
    look("dead letters")
    page.locator("[data-group=unknown]").click()
    look("messages")
    page.context.set_offline(True)
    canned.drop_streams()
    page.wait_for_selector("#banner:not([hidden])")
    look("gone")
    assert found == {}


def test_every_target_is_large_enough(page: Page, canned: CannedPage) -> None:
    _open(page, canned)
    _unfold(page)
    small = page.evaluate(_TOO_SMALL)
    page.locator("[data-group=dead_letters]").click()
    page.locator(".dead-letter").wait_for()
    _unfold(page)
    assert small + page.evaluate(_TOO_SMALL) == []


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_the_destination_is_within_three_tabs(page: Page, canned: CannedPage, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    _open(page, canned)
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") == "field-destination"


def test_the_numbers_are_one_stop_of_the_tab_key_and_the_arrows_move_inside(page: Page, canned: CannedPage) -> None:
    _open(page, canned)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    visited = []
    for _ in range(page.locator("#bar button:visible, #bar summary:visible").count()):
        visited.append(page.evaluate("() => document.activeElement.dataset.group ?? document.activeElement.id"))
        page.keyboard.press("ArrowRight")
    assert visited[:3] == ["faults-on", "health", "pause"]
    assert visited[3:] == page.locator("#strip button").evaluate_all("all => all.map((each) => each.dataset.group)")
    assert page.evaluate("() => document.activeElement.id") == "faults-on"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.locator(".dead-letter").wait_for()


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_tab_goes_in_the_order_in_which_the_parts_are_seen(page: Page, canned: CannedPage, width: int) -> None:
    """Each part is to the right of the one before it, or below."""
    page.set_viewport_size({"width": width, "height": 900})
    _open(page, canned)
    parts = page.locator("#state, #strip, .left, main, .side").evaluate_all(
        "all => all.map((each) => each.getBoundingClientRect())"
    )
    assert len(parts) == 5
    for before, after in pairwise(parts):
        assert after["left"] >= before["right"] or after["top"] >= before["bottom"]


def test_why_the_gateway_is_unhealthy_is_shown_by_keyboard(page: Page, canned: CannedPage) -> None:
    canned.first["strip"] |= {"health_reason": "it refused the connection", "checked_at": "2026-01-01T00:00:00Z"}
    _open(page, canned)
    page.locator("#health").focus()
    page.keyboard.press("Enter")
    page.locator("#health-why:visible", has_text="it refused the connection").wait_for()


def test_marks_piled_on_a_letter_stay_within_their_text(page: Page, canned: CannedPage) -> None:
    canned.first = snapshot(message("a", "z" + "\u0300\u0316" * 40))
    _open(page, canned)
    for selector in (".words", ".message-button span"):
        page.locator("[data-group=accepted]").click()
        assert page.locator(selector).first.evaluate("node => getComputedStyle(node).overflowY") == "clip"


def test_back_ticks_of_the_command_line_are_shown_as_code(page: Page, canned: CannedPage) -> None:
    canned.answers["GET", "/api/messages?id=c"][1]["next_step"] = "Look it up, then `resolve c --sent` or `--not-sent`."
    _open(page, canned)
    page.locator(".bubble.unsure .status").click()
    page.locator(".next code").first.wait_for()
    assert page.locator(".next code").all_text_contents() == ["resolve c --sent", "--not-sent"]
    assert "`" not in (page.text_content(".next") or "")
