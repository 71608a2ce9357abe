"""Acts on the page: the command first, then its lines; hostile words stay text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.canned_page import CannedPage, everything_shown

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>"


def _act(name: str, id_: str, label: str) -> dict[str, str]:
    return {"name": name, "id": id_, "label": label, "does": "Does `it`.", "command": f"optus-sms {name} {id_}"}


def _letter(sqs_id: str, **more: Any) -> dict[str, Any]:
    acts = [_act("redrive", f"k{HOSTILE}", "Redrive"), _act("delete", sqs_id, "Delete")]
    return {
        "sqs_id": sqs_id, "since": "2026-01-01T00:00:00Z", "reason": HOSTILE, "detail": HOSTILE, "why": HOSTILE,
        "message_id": None, "to": None, "body": HOSTILE, "acts": acts, **more,
    }  # fmt: skip


@pytest.fixture
def canned() -> Iterator[CannedPage]:
    server = everything_shown()
    server.first["dead_letters"] = [_letter("one"), _letter("two")]
    yield server
    server.close()


def test_an_act_shows_its_command_is_posted_once_and_shows_what_was_printed(page: Page, canned: CannedPage) -> None:
    canned.answers["POST", "/api/acts"] = (200, {"command": "x", "lines": ["k: queued", f"1 {HOSTILE}"]})
    page.goto(canned.url + "#/dead-letters")
    act = page.locator("#list li").first.locator("[data-act=redrive]")
    act.locator("summary").click()
    assert act.locator("pre").text_content() == f"optus-sms redrive k{HOSTILE}"
    assert canned.calls == [], "unfolding does nothing"
    act.get_by_role("button", name="Redrive").click()
    page.locator("#acted.good", has_text="k: queued").wait_for()
    assert page.text_content("#acted") == f"optus-sms redrive k{HOSTILE}\nk: queued\n1 {HOSTILE}"
    assert [call[3] for call in canned.calls] == [{"act": "redrive", "id": f"k{HOSTILE}"}]
    assert page.locator(".side img, .side b").count() == 0


def test_a_refusal_is_shown_in_the_words_of_the_command_line(page: Page, canned: CannedPage) -> None:
    canned.answers["GET", "/api/messages?id=c"][1]["acts"] = [_act("resolve_sent", "c", "It was sent")]
    canned.answers["POST", "/api/acts"] = (409, {"error": "c: not resolved\nlook it up again"})
    page.goto(canned.url + "#/message/c")
    page.locator("[data-act=resolve_sent] summary").press("Enter")
    page.get_by_role("button", name="It was sent").press("Enter")
    page.locator("#acted.bad", has_text="not resolved").wait_for()
    page.get_by_role("tab", name="Events").click()
    page.wait_for_selector("#acted", state="hidden")


def test_what_is_unfolded_stays_so_when_another_dead_letter_comes(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url + "#/dead-letters")
    page.locator("#list li").last.locator("[data-act=delete] summary").click()
    canned.update({"dead_letters": [_letter("one"), _letter("two"), _letter("three")]})
    page.locator("#list li").nth(2).wait_for()
    assert page.locator("#list li").last.locator("[data-act=delete]").get_attribute("open") is not None
