"""The browser side with a scripted server: hostile text, many messages, refusals, a lost stream, an old token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.canned_page import CannedPage, message, snapshot

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)></p><b>\u202egnp.exe\u202c \u0007\u200b & \U0001f468\u200d\U0001f469"


@pytest.fixture
def canned() -> Iterator[CannedPage]:
    server = CannedPage(snapshot())
    yield server
    server.close()


def _open(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url)
    page.wait_for_selector("#health.good")


def test_hostile_text_is_shown_as_text_with_what_is_invisible_named(page: Page, canned: CannedPage) -> None:
    canned.first = snapshot(message("a", HOSTILE))
    _open(page, canned)
    words = page.locator(".words")
    assert words.text_content() == HOSTILE.replace("\u202e", "RLO").replace("\u202c", "PDF").replace(
        "\u0007", "BEL"
    ).replace("\u200b", "ZWSP")
    assert page.locator("main img, main b").count() == 0
    assert words.get_attribute("dir") == "auto"


def test_a_failure_shows_the_gateways_word(page: Page, canned: CannedPage) -> None:
    canned.first = snapshot(message("a", "Hello"))
    _open(page, canned)
    canned.update(
        {"messages": [message("a", "Hello", tone="bad", label="not delivered", problem="rejected", status="rejected")]}
    )
    page.wait_for_selector(".bubble.bad")
    assert "not delivered: rejected" in (page.locator(".bubble .status").text_content() or "")


def test_a_thousand_messages_keep_the_page_small_and_the_newest_in_sight(page: Page, canned: CannedPage) -> None:
    canned.first = snapshot(*(message(f"m{n}", f"Message {n}") for n in range(1000)))
    _open(page, canned)
    assert page.locator(".bubble").last.locator(".words").text_content() == "Message 999"
    assert page.locator(".bubble").count() < 20
    page.get_by_role("button", name="Show earlier (992)").click()
    page.wait_for_selector("[data-message=m980]")


def test_a_refusal_stands_beside_its_field(page: Page, canned: CannedPage) -> None:
    problem = "must be an E.164 number with a leading +, like +61491570006"
    canned.answers["POST", "/api/validate"] = (200, {"ok": False, "fields": {"destination": problem}})
    canned.answers["POST", "/api/send"] = (422, {"error": "Not queued.", "fields": {"destination": problem}})
    _open(page, canned)
    page.fill("#field-destination", "12")
    page.get_by_role("button", name="Send", exact=True).click()
    page.wait_for_selector("#error-destination:not([hidden])")
    assert page.text_content("#error-destination") == problem
    assert page.get_attribute("#field-destination", "aria-invalid") == "true"


def test_the_character_that_makes_it_ucs2_is_selected_though_an_emoji_stands_before_it(
    page: Page, canned: CannedPage
) -> None:
    culprit = {"char": "\u2019", "at": 1, "name": "RIGHT SINGLE QUOTATION MARK"}
    answer = {
        "ok": True,
        "fields": {},
        "segments": 1,
        "encoding": "UCS-2",
        "units": 3,
        "left_in_segment": 67,
        "culprits": [culprit],
    }
    canned.answers["POST", "/api/validate"] = (200, answer)
    _open(page, canned)
    page.fill("#field-content", "\U0001f384\u2019")
    page.locator(".culprit").click()
    assert page.locator("#field-content").evaluate("area => [area.selectionStart, area.selectionEnd]") == [2, 3]


def test_an_answer_goes_out_from_its_handset_and_names_the_message_only_if_told(page: Page, canned: CannedPage) -> None:
    canned.first = snapshot(message("a", "Hello"))
    canned.answers["POST", "/api/reply"] = (202, {"id": "r"})
    _open(page, canned)
    words = page.get_by_label("Reply from +61491570006", exact=True)
    for text in ("STOP", "Yes"):
        words.fill(text)
        with page.expect_response("**/api/reply"):
            words.press("Enter")
        page.get_by_label("say which message it replies to").check()
    first, second = (call[3] for call in canned.calls)
    assert first == {"handset": "+61491570006", "to": "61480000000", "content": "STOP"}
    assert second["in_reply_to"] == "g-a"


def test_a_lost_stream_is_said_and_found_again(page: Page, canned: CannedPage) -> None:
    _open(page, canned)
    canned.first = snapshot(message("later", "After the restart"))
    canned.drop_streams()
    page.wait_for_selector("#banner:not([hidden])")
    page.wait_for_selector("[data-message=later]")
    page.wait_for_selector("#banner", state="hidden")


def test_while_make_run_is_gone_nothing_claims_to_be_healthy(page: Page, canned: CannedPage) -> None:
    _open(page, canned)
    page.context.set_offline(True)
    canned.drop_streams()
    page.wait_for_selector("#banner:not([hidden])")
    assert page.locator("#state .good").count() == 0
    assert "healthy" not in (page.text_content("#state") or "")
    assert page.get_by_role("button", name="Pause").is_disabled()


def test_a_new_start_is_told_once_and_nothing_of_the_earlier_one_stays(page: Page, canned: CannedPage) -> None:
    load = {"total": 5, "queued": 5, "accepted": 5, "finished": 4, "done": False}
    faults = {"active": ["slow"], "response_delay_seconds": 2}
    canned.first = {**snapshot(message("a", "Hello")), "load": load, "faults": faults}
    canned.first["meta"]["run_id"] = "first"
    canned.answers["POST", "/api/send"] = (200, {"message_id": "b"})
    _open(page, canned)
    page.context.set_offline(True)
    canned.drop_streams()
    page.wait_for_selector("#banner:not([hidden])")
    page.fill("#field-content", "Hello")
    page.get_by_role("button", name="Send", exact=True).click()
    page.wait_for_function("() => document.getElementById('compose-says').textContent.includes('make run')")

    canned.first = snapshot()
    canned.first["meta"]["run_id"] = "second"
    del canned.first["faults"]
    page.context.set_offline(False)
    page.locator("#banner", has_text="started again").wait_for()
    page.wait_for_selector("#health.good")
    assert page.locator(".banner:visible, .notice:visible").count() == 1
    assert page.text_content("#compose-says") == page.text_content("#load-says") == ""
    assert page.locator("#load-bar:visible, #load-stop:visible, #faults-on:visible, .phone").count() == 0
    assert "Clear the search" not in (page.text_content("#no-phones") or "")
    page.get_by_role("button", name="Dismiss").click()
    page.wait_for_selector("#banner", state="hidden")


def test_one_window_too_many_says_what_to_do(page: Page, canned: CannedPage) -> None:
    canned.is_full = True
    page.goto(canned.url)
    page.locator("#banner", has_text="Close it in one").wait_for()
    canned.is_full = False
    page.wait_for_selector("#health.good")
    page.wait_for_selector("#banner", state="hidden")


def test_many_windows_in_sight_share_one_stream_and_another_takes_over(page: Page, canned: CannedPage) -> None:
    """A browser has six connections to a server: without sharing, the seventh window would not load."""
    windows = [page, *(page.context.new_page() for _ in range(8))]
    for window in windows:
        _open(window, canned)
    canned.update({"messages": [message("for-all", "Hello")]})
    for window in windows:
        window.wait_for_selector("[data-message=for-all]")
    canned.first = snapshot(message("after", "Told by the window that took over"))
    page.close()
    for window in windows[1:]:
        window.wait_for_selector("[data-message=after]")
    page.context.set_offline(True)
    canned.drop_streams()
    for window in windows[1:]:
        window.wait_for_selector("#banner:not([hidden])")


def test_a_page_opened_out_of_sight_takes_no_stream(page: Page, canned: CannedPage) -> None:
    page.add_init_script("Object.defineProperty(document, 'hidden', { configurable: true, get: () => true })")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(canned.url, wait_until="networkidle")
    assert not [url for url in asked if url.endswith("/api/stream")]
    page.evaluate("() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); }")
    page.wait_for_selector("#health.good")


def test_an_older_page_fetches_the_token_of_the_new_start(page: Page, canned: CannedPage) -> None:
    canned.answers["DELETE", "/api/faults"] = (200, {"active": [], "response_delay_seconds": None})
    _open(page, canned)
    canned.token = "second"
    with page.expect_response(lambda response: response.url.endswith("/api/faults") and response.ok):
        page.get_by_role("button", name="Back to normal").click()
    assert [call[2] for call in canned.calls] == ["first", "second"]


def test_a_narrow_screen_needs_no_sideways_scrolling(page: Page, canned: CannedPage) -> None:
    canned.first = snapshot(message("a", "x" * 200))
    page.set_viewport_size({"width": 360, "height": 740})
    _open(page, canned)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


def test_an_opt_out_is_shown_with_its_cause_and_time_in_words_and_spoken(page: Page, canned: CannedPage) -> None:
    number, unnamed = "+61491570006", "+61491570156"
    canned.first = snapshot(message("a", "Hello", number), message("b", "Hello", unnamed))
    canned.first["opt_outs"] = [{"handset": unnamed, "opted_out": True, "since": "", "by": "<b>"}]
    page.clock.install()
    _open(page, canned)
    badges = {each: page.get_by_label(f"Handset {each}", exact=True).locator(".opt-out") for each in (number, unnamed)}
    assert badges[unnamed].text_content() == "Opted out by hand"
    assert badges[number].is_hidden()
    since = "2026-01-01T12:00:00Z"
    for by, words in (("import", "by an imported list"), ("person", "by an operator"), ("reply", "by its own reply")):
        canned.update({"opt_outs": [{"handset": number, "opted_out": True, "since": since, "by": by}]})
        badges[number].filter(has_text=f"Opted out {words}, 1 Jan 2026").wait_for()
    page.clock.run_for(4000)
    page.locator("#spoken", has_text="3 handsets opted out").wait_for(state="attached")
    canned.update({"opt_outs": [{"handset": number, "opted_out": False, "since": since, "by": "reply"}]})
    badges[number].wait_for(state="hidden")


def test_a_pause_of_one_lane_is_shown_and_ended(page: Page, canned: CannedPage) -> None:
    canned.first["strip"] |= {"paused_lanes": ["urgent"], "depths": {"ordinary": 0, "urgent": 3}}
    canned.answers["POST", "/api/resume"] = (200, {})
    _open(page, canned)
    page.locator("#paused.unsure", has_text="urgent lane paused").wait_for()
    page.locator("#depths", has_text="queue 0, urgent 3").wait_for()
    page.get_by_role("button", name="Resume", exact=True).click()
    canned.update({"strip": canned.first["strip"] | {"paused_lanes": []}})
    page.get_by_role("button", name="Pause", exact=True).wait_for()
    assert [path for _, path, _, _ in canned.calls if path.startswith("/api/resume")] == ["/api/resume"]
