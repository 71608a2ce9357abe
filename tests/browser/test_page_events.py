"""Events grouped by message, and the choices that Compose offers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from optus_sms.model.times import parse_rfc3339
from tests.support.canned_page import CannedPage, message, snapshot

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


def _event(n: int, kind: str, message_id: str, **detail: Any) -> dict[str, Any]:
    at = f"2026-01-01T00:00:{n % 60:02}Z"
    return {"n": n, "at": at, "detail_type": kind, "event": {"detail": {"message_id": message_id, **detail}}}


@pytest.fixture
def canned() -> Iterator[CannedPage]:
    first = snapshot()
    first["meta"]["numbers"] = [
        {"number": "+447700900000", "name": "received", "meaning": "received"},
        {"number": "+447700900101", "name": "rejected_late", "meaning": "the `carrier` rejects it"},
    ]
    first["events"] = [
        _event(1, "SMS Accepted", "a"),
        _event(2, "SMS Accepted", "b"),
        _event(3, "SMS Status Changed", "a", status="sent"),
    ]
    server = CannedPage(first)
    server.answers["POST", "/api/validate"] = (200, {"fields": {}, "segments": 0})
    yield server
    server.close()


def _groups(page: Page) -> list[list[str]]:
    groups = page.locator(".event-group:visible")
    return [
        [
            groups.nth(n).locator("h3").inner_text(),
            *groups.nth(n).locator("li:visible summary > span").all_inner_texts(),
        ]
        for n in range(groups.count())
    ]


def test_events_stand_under_their_message_the_latest_first(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url)
    page.locator(".event-group").first.wait_for()
    assert _groups(page) == [["a", "SMS Accepted", "SMS Status Changed: sent"], ["b", "SMS Accepted"]]
    canned.update({"events": [_event(4, "SMS Status Changed", "b", status="received")]})
    page.locator(".event-group").first.filter(has_text="received").wait_for()
    page.select_option("#event-kind", "SMS Status Changed")
    assert _groups(page) == [["b", "SMS Status Changed: received"], ["a", "SMS Status Changed: sent"]]
    page.locator(".event-group a").first.click()
    page.wait_for_function("() => location.hash === '#/message/b'")


def test_an_event_by_the_gateways_id_alone_stands_under_its_message(page: Page, canned: CannedPage) -> None:
    canned.first["messages"] = [message("a", "Hello")]
    canned.first["events"] = [
        {"n": 1, "at": "", "detail_type": "SMS Status Changed", "event": {"detail": {"gateway_id": "g-a"}}},
        {"n": 2, "at": "", "detail_type": "SMS Refused", "event": {"detail": {"message_id": "", "reason": "invalid"}}},
    ]
    page.goto(canned.url)
    page.locator(".event-group").first.wait_for()
    assert _groups(page) == [["SMS Refused", "SMS Refused: invalid"], ["a", "SMS Status Changed"]]


def test_a_list_that_is_held_still_counts_what_comes(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url)
    page.get_by_role("button", name="Hold still").click()
    canned.update({"events": [_event(4, "SMS Accepted", "c")]})
    page.get_by_role("button", name="Continue (1 new)").wait_for()
    assert [group[0] for group in _groups(page)] == ["a", "b"]
    page.get_by_role("button", name="Continue").click()
    page.locator(".event-group", has_text="c").first.wait_for()
    assert [group[0] for group in _groups(page)] == ["c", "a", "b"]


def test_many_events_keep_the_list_short_and_leave_no_empty_group(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url)
    page.locator(".event-group").first.wait_for()
    canned.update({"events": [_event(n, "SMS Accepted", f"m{n // 2}") for n in range(10, 260)]})
    page.locator(".event-group", has_text="m129").wait_for()
    assert page.locator("#events details").count() == 100
    assert page.locator(".event-group").count() == 50


def test_a_handset_is_picked_by_what_happens_to_its_messages(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url)
    page.select_option("#scenario", label="rejected late: the carrier rejects it")
    assert page.input_value("#field-destination") == "+447700900101"


@pytest.mark.parametrize("zone", ["Australia/Sydney", "America/St_Johns", "UTC"])
def test_times_are_chosen_with_the_offset_of_the_zone(browser: Browser, canned: CannedPage, zone: str) -> None:
    context = browser.new_context(timezone_id=zone)
    page = context.new_page()
    page.clock.set_fixed_time("2026-04-04T03:00:00Z")  # Sydney's clocks go back in the night after
    page.goto(canned.url)
    page.get_by_text("More fields").click()
    chosen = {}
    for label in ("in 5 minutes", "tomorrow 9:00"):
        page.get_by_role("button", name=label).first.click()
        chosen[label] = page.input_value("#field-scheduled")
    assert parse_rfc3339(chosen["in 5 minutes"]) == parse_rfc3339("2026-04-04T03:05:00Z")
    assert "T09:00:00" in chosen["tomorrow 9:00"]
    expected = {"Australia/Sydney": "+10:00", "America/St_Johns": "-02:30", "UTC": "+00:00"}
    assert chosen["tomorrow 9:00"].endswith(expected[zone])
    assert page.locator(".field", has=page.locator("#field-scheduled")).get_by_text(zone).is_visible()
    context.close()
