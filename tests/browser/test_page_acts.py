"""Acts on the page: the command first, then its lines; hostile words stay text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.canned_page import CannedPage, act, dead_letter, message

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>"


def _letter(sqs_id: str) -> dict[str, Any]:
    acts = [act("redrive", f"k{HOSTILE}", "Redrive"), act("delete", sqs_id, "Delete")]
    return dead_letter(sqs_id, reason=HOSTILE, detail=HOSTILE, why=HOSTILE, body=HOSTILE, acts=acts)


@pytest.fixture
def canned(canned: CannedPage) -> CannedPage:
    canned.first["dead_letters"] = [_letter("one"), _letter("two")]
    return canned


def test_an_act_shows_its_command_is_posted_once_and_shows_what_was_printed(page: Page, canned: CannedPage) -> None:
    canned.answers["POST", "/api/acts"] = (200, {"command": "x", "lines": ["k: queued", f"1 {HOSTILE}"]})
    page.goto(canned.url + "#/dead-letters")
    shown = page.locator("#list li").first.locator("[data-act=redrive]")
    shown.locator("summary").click()
    assert shown.locator("pre").text_content() == f"optus-sms redrive k{HOSTILE}"
    assert canned.calls == [], "unfolding does nothing"
    shown.get_by_role("button", name="Redrive").click()
    page.locator("#acted.good", has_text="k: queued").wait_for()
    assert page.text_content("#acted") == f"optus-sms redrive k{HOSTILE}\nk: queued\n1 {HOSTILE}"
    assert [call[3] for call in canned.calls] == [{"act": "redrive", "id": f"k{HOSTILE}"}]
    assert page.locator(".side img, .side b").count() == 0


def test_an_act_that_is_drawn_again_before_its_answer_is_not_posted_twice(page: Page, canned: CannedPage) -> None:
    posts: list[Route] = []

    def hold(route: Route) -> None:
        posts.append(route)

    page.route("**/api/acts", hold)
    page.goto(canned.url + "#/dead-letters")
    shown = page.locator("#list li").last.locator("[data-act=delete]")
    shown.locator("summary").click()
    with page.expect_request("**/api/acts"):
        shown.get_by_role("button").click()
    canned.update({"dead_letters": [{**_letter("one"), "detail": "has changed"}, _letter("two")]})
    page.locator("#list li").last.get_by_text("has changed").wait_for()
    shown.get_by_role("button").click()
    posts[0].fulfill(json={"command": "x", "lines": ["deleted"]})
    page.locator("#acted.good", has_text="deleted").wait_for()
    assert len(posts) == 1
    with page.expect_request("**/api/acts"):
        shown.get_by_role("button").click()
    posts[-1].fulfill(json={"command": "x", "lines": ["deleted"]})


def test_a_refusal_is_shown_in_the_words_of_the_command_line(page: Page, canned: CannedPage) -> None:
    canned.answers["GET", "/api/messages?id=c"][1]["acts"] = [act("resolve_sent", "c", "It was sent")]
    canned.answers["POST", "/api/acts"] = (409, {"error": "c: not resolved\nlook it up again"})
    page.goto(canned.url + "#/message/c")
    page.locator("[data-act=resolve_sent] summary").press("Enter")
    page.get_by_role("button", name="It was sent").press("Enter")
    page.locator("#acted.bad", has_text="not resolved").wait_for()
    page.get_by_role("tab", name="Events").click()
    page.wait_for_selector("#acted", state="hidden")


def test_what_is_unfolded_stays_so_with_the_focus_when_another_dead_letter_comes(
    page: Page, canned: CannedPage
) -> None:
    page.goto(canned.url + "#/dead-letters")
    shown = page.locator("#list li").last.locator("[data-act=delete]")
    shown.locator("summary").press("Enter")
    canned.update({"dead_letters": [_letter("one"), _letter("two"), _letter("three")]})
    page.locator("#list li").nth(2).wait_for()
    assert shown.get_attribute("open") is not None
    assert _focused(page) == "SUMMARY"


def test_what_is_unfolded_stays_so_with_the_focus_when_its_dead_letter_changes(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url + "#/dead-letters")
    shown = page.locator("#list li").last.locator("[data-act=delete]")
    shown.locator("summary").press("Enter")
    shown.get_by_role("button").focus()
    canned.update({"dead_letters": [{**_letter("one"), "detail": "has changed"}, _letter("two")]})
    page.locator("#list li").last.get_by_text("has changed").wait_for()
    assert shown.get_attribute("open") is not None
    assert _focused(page) == "BUTTON"


def test_what_is_unfolded_stays_so_with_the_focus_when_its_message_changes(page: Page, canned: CannedPage) -> None:
    life = canned.answers["GET", "/api/messages?id=c"][1]
    life["acts"] = [act("resolve_sent", "c", "It was sent")]
    page.goto(canned.url + "#/message/c")
    shown = page.locator("#timeline [data-act=resolve_sent]")
    shown.locator("summary").press("Enter")
    life["next_step"] = "It changed."
    canned.update({"messages": [message("c", "Lost", "+61491570157", label="changed")]})
    page.locator("#timeline", has_text="It changed.").wait_for()
    assert shown.get_attribute("open") is not None
    assert _focused(page) == "SUMMARY"


def test_another_message_is_shown_folded(page: Page, canned: CannedPage) -> None:
    life = canned.answers["GET", "/api/messages?id=c"][1]
    for key in "ac":
        acts = [act("resolve_sent", key, "It was sent")]
        canned.answers["GET", f"/api/messages?id={key}"] = (200, {**life, "acts": acts})
    page.goto(canned.url + "#/message/c")
    page.locator("[data-act=resolve_sent] summary").click()
    page.goto(canned.url + "#/message/a")
    page.locator("#timeline [data-act=resolve_sent] pre", has_text="resolve_sent a").wait_for(state="attached")
    assert page.locator("#timeline [data-act=resolve_sent]").get_attribute("open") is None


def _focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.tagName"))
