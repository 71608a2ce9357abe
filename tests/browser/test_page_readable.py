"""Everything on the page can be read: contrast in light and dark, names for a screen reader, any width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import pytest

from tests.support.canned_page import CannedPage, snapshot

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

# WCAG 2.2, 1.4.3: 4.5 for text, 3 for large text. Colors are blended over what is behind them.
_TOO_FAINT: Final = """() => {
  const rgba = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = ([r, g, b, a], below) => [r, g, b].map((c, i) => c * a + below[i] * (1 - a));
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const style = (node) => getComputedStyle(node);
  const behind = (node) => node ? over(rgba(style(node).backgroundColor), behind(node.parentElement)) : [255, 255, 255];
  const opacity = (node) => node ? Number(style(node).opacity) * opacity(node.parentElement) : 1;
  const hasText = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  const ignored = ".away, .skip, noscript, option, :disabled";
  const faint = [];
  for (const node of document.querySelectorAll("body *")) {
    if (!hasText(node) || !node.checkVisibility() || node.closest(ignored)) continue;
    const [r, g, b, a] = rgba(style(node).color), below = behind(node);
    const pair = [light(over([r, g, b, a * opacity(node)], below)), light(below)];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    const size = parseFloat(style(node).fontSize), bold = Number(style(node).fontWeight) >= 700;
    const limit = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    if (ratio < limit) faint.push(`${node.className} "${node.textContent.slice(0, 30)}" ${ratio.toFixed(2)}`);
  }
  return faint;
}"""
_WITHOUT_NAME: Final = """() => {
  const named = (node) => node.labels?.length || node.getAttribute("aria-label") || node.textContent.trim();
  return [...document.querySelectorAll("button, input, select, textarea, summary, [role=tab], [role=region]")]
    .filter((node) => node.checkVisibility() && !named(node)).map((node) => node.outerHTML.slice(0, 120));
}"""


def open_everything(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url)
    page.wait_for_selector("#health.bad")
    page.fill("#field-destination", "1")
    page.fill("#field-content", "\u2019")
    page.locator("#error-destination", has_text="must be").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_text_is_too_faint(page: Page, canned: CannedPage, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    open_everything(page, canned)
    seen = page.evaluate(_TOO_FAINT)
    page.locator(".bubble.unsure .status").click()
    page.locator("#timeline .life").wait_for()
    seen += page.evaluate(_TOO_FAINT)
    page.locator("[data-group=dead_letters]").click()
    page.locator(".dead-letter").wait_for()
    seen += page.evaluate(_TOO_FAINT)
    page.locator("[data-group=unknown]").click()
    seen += page.evaluate(_TOO_FAINT)
    assert seen == []


def test_whatever_can_be_used_has_a_name(page: Page, canned: CannedPage) -> None:
    open_everything(page, canned)
    page.locator("details summary").first.click()
    assert page.evaluate(_WITHOUT_NAME) == []


@pytest.mark.parametrize("width", [320, 360, 800, 1100, 1440, 2200])
def test_no_width_needs_sideways_scrolling(page: Page, canned: CannedPage, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    open_everything(page, canned)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [780, 820, 1100])
def test_the_title_keeps_its_line_beside_a_state_with_much_to_say(page: Page, width: int) -> None:
    gone = CannedPage({**snapshot(), "faults": {"active": ["slow"], "response_delay_seconds": 2}})
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(gone.url)
    page.wait_for_selector("#health.good")
    gone.close()
    page.get_by_text("gateway: no connection").wait_for()
    assert (
        page.evaluate(
            "() => { const r = document.createRange(); r.selectNodeContents(document.querySelector('h1'));"
            " return r.getClientRects().length; }"
        )
        == 1
    )


def test_an_empty_page_says_what_to_do(page: Page, canned: CannedPage) -> None:
    canned.first = snapshot()
    page.goto(canned.url)
    page.wait_for_selector("#health.good")
    assert "Write one under Compose and press Send" in (page.locator("#no-phones").text_content() or "")
    assert page.locator("#no-events").is_visible()


def test_without_the_simulator_the_page_says_so_and_offers_neither_faults_nor_answers(
    page: Page, canned: CannedPage
) -> None:
    canned.first["meta"] = {"simulator": False, "far": True, "gateway": "https://gateway.example", "numbers": []}
    page.goto(canned.url)
    page.locator("#far", has_text="it may cost money").wait_for()
    assert page.get_by_label("Reply from").count() == 0
    assert page.locator("#switches").is_hidden()
    assert page.locator("#no-faults").is_visible()
    assert page.locator("#load-go").is_disabled()
    assert page.locator("#field-destination").input_value() == ""
