"""A new user's view: examples marked and folded away, a message to send at one click, three first steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.canned_page import CannedPage, dead_letter, message, snapshot

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

NUMBER = "+61491570006"
EXAMPLE = "+61491570156"


def _after_the_examples() -> dict[str, Any]:
    first = snapshot(message("example", "From a file", EXAMPLE, example=True))
    first["meta"]["numbers"] = [{"number": NUMBER, "name": "received", "meaning": "received"}]
    first["dead_letters"] = [dead_letter("1", body="of an example", example=True)]
    first["strip"] |= {"accepted": 1, "dead_letters": 1, "dead_letters_of_examples": 1}
    return first


@pytest.fixture
def canned() -> Iterator[CannedPage]:
    server = CannedPage(_after_the_examples())
    server.answers["POST", "/api/validate"] = (200, {"fields": {}, "segments": 0})
    server.answers["POST", "/api/send"] = (200, {"message_id": "own"})
    server.answers["POST", "/api/faults"] = (200, {"active": ["gateway_down"], "response_delay_seconds": None})
    server.answers["DELETE", "/api/faults"] = (200, {"active": [], "response_delay_seconds": None})
    yield server
    server.close()


def test_examples_are_folded_away_and_marked_when_they_are_shown(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url)
    page.get_by_role("button", name="Show the examples of make run (1 handset)").click()
    assert "example" in (page.get_by_label(f"Handset {EXAMPLE}").locator(".who").text_content() or "")
    page.get_by_role("button", name="Fold away the examples").click()
    assert page.locator(".phone").count() == 0
    dead = page.get_by_role("button", name=re.compile("1 dead letters.* all of the examples"))
    assert "bad" not in (dead.get_attribute("class") or "").split()
    dead.click()
    page.locator("#of-examples-says", has_text="1 dead letter of the examples").wait_for()
    assert not page.get_by_text("of an example", exact=True).is_visible()

    strip = canned.first["strip"] | {"dead_letters": 2}
    canned.update(
        {"dead_letters": [*canned.first["dead_letters"], dead_letter("2", body="own", example=False)], "strip": strip}
    )
    page.locator("#list .dead-letter", has_text="own").wait_for()
    page.locator("[data-group=dead_letters].bad", has_text="2 dead letters").wait_for()


def test_the_first_message_goes_at_one_click_and_the_steps_are_ticked_off(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url)
    done = page.locator("#tour-steps .done")
    page.get_by_role("button", name="Send your first message").click()
    page.locator("#compose-says", has_text="On the queue as").wait_for()
    (sent,) = [call[3] for call in canned.calls if call[1] == "/api/send"]
    assert sent["destination"] == NUMBER
    assert sent["content"]
    canned.update({"messages": [message("own", sent["content"], NUMBER)]})
    done.nth(0).filter(has_text="Send a message").wait_for()

    page.get_by_role("button", name="Go to the handset").click()
    page.locator(".phone:focus").wait_for()
    reply = {"id": "r", "from": NUMBER, "text": "Yes", "at": "", "message_id": "own", "match": "exact", "binary": False}
    canned.update({"replies": [reply]})
    done.nth(1).filter(has_text="Reply to it").wait_for()

    page.get_by_role("button", name="Make it fail").click()
    canned.update({"faults": {"active": ["gateway_down"], "response_delay_seconds": None}})
    page.get_by_role("button", name="End the fault").click()
    canned.update({"faults": {"active": [], "response_delay_seconds": None}})
    done.nth(2).filter(has_text="Make the gateway fail").wait_for()


@pytest.mark.parametrize("is_mended", [True, False])
def test_a_new_start_opens_every_step_again(page: Page, canned: CannedPage, is_mended: bool) -> None:
    canned.first["meta"]["run_id"] = "first"
    page.goto(canned.url)
    page.get_by_role("button", name="Make it fail").wait_for()
    canned.update({"faults": {"active": ["gateway_down"], "response_delay_seconds": None}})
    page.get_by_role("button", name="End the fault").wait_for()
    if is_mended:
        canned.update({"faults": {"active": [], "response_delay_seconds": None}})
        page.locator("#tour-steps .done", has_text="Make the gateway fail").wait_for()
    canned.first["meta"]["run_id"] = "second"
    canned.drop_streams()
    page.get_by_text("make run was started again").wait_for()
    page.get_by_role("button", name="Make it fail").wait_for()
    assert page.locator("#tour-steps .done").count() == 0


def test_the_first_steps_are_dismissed_for_good(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url)
    page.get_by_role("button", name="Do not show again").click()
    page.wait_for_selector("#tour", state="hidden")
    page.reload()
    page.wait_for_selector("#health.good")
    assert page.locator("#tour").is_hidden()


def test_nothing_is_filled_in_over_what_a_person_has_sent_or_where_it_may_cost_money(
    page: Page, canned: CannedPage
) -> None:
    canned.first["messages"].append(message("own", "Mine", NUMBER))
    page.goto(canned.url)
    page.wait_for_selector(".phone")
    assert page.input_value("#field-content") == ""
    canned.first = snapshot()
    canned.first["meta"] = {"simulator": False, "far": True, "gateway": "https://gateway.example", "numbers": []}
    page.reload()
    page.locator("#far", has_text="it may cost money").wait_for()
    assert page.input_value("#field-content") == ""
    assert page.locator("#tour").is_hidden()
