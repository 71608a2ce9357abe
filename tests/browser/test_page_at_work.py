"""The page in a real browser on the real local stack: it shows the simulator's effects and acts as the user asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from cli.embedded import run
from cli.target import local_target
from local import endpoints
from local.aws.stack import LocalStack
from local.page.server import PhonePage
from local.simulator.scenarios import SCENARIOS
from tests.support.phone_page import PageClient, served
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

HOSTILE = '<img src=x onerror="document.title=1"></p><script>document.title=2</script>\u202eevil\u202c \u0007 & {{7*7}}'
LONG_MS = 90_000
"""How long one message may take on a machine that many share."""


@dataclass
class Site:
    stack: LocalStack
    page: PhonePage


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with served() as (stack, page):
        yield Site(stack, page)


@pytest.fixture
def at_work(page: Page, site: Site) -> Iterator[Page]:
    page.set_default_timeout(LONG_MS)
    page.goto(site.page.url)
    page.wait_for_selector("#paused.pill")
    yield page
    assert site.stack.simulator is not None
    site.stack.simulator.clear_faults()


def send(page: Page, number: str, text: str) -> Locator:
    """Send through the form, as a user does, and return the message's bubble."""
    page.fill("#field-destination", number)
    page.fill("#field-content", text)
    page.get_by_role("button", name="Send", exact=True).click()
    bubble = page.get_by_label(f"Handset {number}", exact=True).locator(".bubble.in").last
    bubble.filter(has_text=text[:10]).wait_for()
    return bubble


def test_a_message_is_sent_watched_until_it_is_delivered_and_answered(at_work: Page) -> None:
    number, text = "+61491570156", f"Will you come? {uuid4().hex[:6]}"
    bubble = send(at_work, number, text)
    bubble.locator(".status", has_text="received").wait_for()
    steps = bubble.locator(".steps li span")
    whole_way = ["put on the queue", "accepted", "queued", "sent", "submitted", "received"]
    eventually(lambda: steps.all_text_contents() == whole_way, "every step is shown")

    phone = at_work.get_by_label(f"Handset {number}", exact=True)
    answer = phone.get_by_label(f"Reply from {number}", exact=True)
    for words, match, linked in (("No", "inferred", False), ("Yes", "exact", True)):
        phone.get_by_label("say which message it replies to").set_checked(linked)
        answer.fill(words)
        answer.press("Enter")
        reply = phone.locator(".bubble.out", has_text=words)
        reply.filter(has_text=f"replies to ({match})").filter(has_text="Will you come?").wait_for()


def test_a_handset_that_opts_out_says_so_until_it_is_back_in(at_work: Page, site: Site) -> None:
    number = "+61491570110"
    send(at_work, number, "Sale on Friday").locator(".status", has_text="received").wait_for()
    phone = at_work.get_by_label(f"Handset {number}", exact=True)
    badge = phone.locator(".opt-out")
    assert badge.is_hidden()

    def reply(text: str) -> None:
        phone.get_by_label(f"Reply from {number}", exact=True).fill(text)
        phone.get_by_label(f"Reply from {number}", exact=True).press("Enter")

    reply("Please stop by at nine.")
    phone.locator(".bubble.out", has_text="stop by").wait_for()
    reply("stop!")
    badge.filter(has_text="Opted out by its own reply, ").wait_for()
    refused = send(at_work, number, "Sale on Saturday")
    refused.locator(".status", has_text="not sent: the handset has opted out, by its own reply").wait_for()
    refused.locator(".steps li", has_text="not sent: opted out").wait_for()
    refused.locator(".status").click()
    at_work.locator("#timeline .life", has_text="the handset has opted out, by its own reply").wait_for()
    assert at_work.locator("#timeline .act").count() == 0

    at_work.locator("#compose .more-fields").first.locator("summary").click()
    at_work.select_option("#field-despite_opt_out", "true")
    code = send(at_work, number, "Your code is 204811")
    code.locator(".marks", has_text="despite an opt-out").wait_for()
    code.locator(".status", has_text="received").wait_for()
    code.locator(".status").click()
    at_work.locator("#timeline .life", has_text="even if the handset has opted out").wait_for()

    assert run(["opt-outs", "remove", number, "--yes"], local_target(endpoints.variables(site.stack))).exit_code == 0
    badge.wait_for(state="hidden")


def test_hostile_text_is_text_both_ways(at_work: Page) -> None:
    number = "+61491570157"
    sent = HOSTILE.replace("\u0007 ", "")  # a message can't have controls, but a reply can
    bubble = send(at_work, number, sent)
    bubble.locator(".status", has_text="received").wait_for()
    phone = at_work.get_by_label(f"Handset {number}", exact=True)
    phone.get_by_label(f"Reply from {number}", exact=True).fill(HOSTILE)
    phone.get_by_label(f"Reply from {number}", exact=True).press("Enter")
    reply = phone.locator(".bubble.out")
    reply.wait_for()
    for words, text in ((bubble, sent), (reply, HOSTILE)):
        shown = text.replace("\u202e", "RLO").replace("\u202c", "PDF").replace("\u0007", "BEL")
        assert words.locator(".words").text_content() == shown
    bubble.locator(".status").click()
    at_work.locator("#timeline .life", has_text="the handset replied").wait_for()
    assert at_work.locator("main img, main script, #timeline img, #timeline script").count() == 0
    assert at_work.title() == "SMS at work"


def test_a_failure_shows_the_gateways_word_and_its_timeline_the_words_of_explain(at_work: Page, site: Site) -> None:
    bubble = send(at_work, SCENARIOS["rejected"].number, "The carrier says no")
    bubble.locator(".status", has_text="not delivered: rejected (simulated rejected)").wait_for()
    bubble.locator(".status").click()
    at_work.locator("#timeline .pill.bad", has_text="not delivered").wait_for()
    key = bubble.get_attribute("data-message") or ""

    def as_explained() -> bool:
        life = site.page.board.life(key)
        assert life is not None
        shown: list[str] = at_work.locator("#timeline .life span").all_text_contents()
        return shown == [line["text"] for line in life["timeline"]]

    eventually(as_explained, "the page's timeline is that of explain")


def test_a_gateway_that_is_down_and_its_recovery(at_work: Page) -> None:
    at_work.get_by_label("Gateway down").check()
    at_work.locator("#faults-on", has_text="1 fault on").wait_for()
    bubble = send(at_work, "+61491570158", "Waits for the gateway")
    bubble.locator(".status", has_text="waits for another attempt: the gateway refused the connection").wait_for()
    at_work.locator("#faults-on").click()
    bubble.locator(".status", has_text="received").wait_for()
    at_work.locator("#faults-on").wait_for(state="hidden")
    assert not at_work.get_by_label("Gateway down").is_checked()
    bubble.locator(".steps li", has_text="attempt 1 not sent").wait_for()


def test_an_unknown_outcome_and_its_settlement(at_work: Page) -> None:
    at_work.get_by_label("Lost, then resolved").check()
    at_work.get_by_label("Callbacks held").check()
    bubble = send(at_work, "+61491570159", "Lost, then found")
    bubble.locator(".status", has_text="unknown whether it was sent").wait_for()
    at_work.get_by_label("Callbacks held").uncheck()
    bubble.locator(".status", has_text="received").wait_for()
    bubble.locator(".steps li", has_text="as a callback proved").wait_for()


def test_paused_messages_wait_and_go_on(at_work: Page, site: Site) -> None:
    at_work.get_by_role("button", name="Pause", exact=True).click()
    at_work.locator("#paused", has_text="paused: by hand").wait_for()
    eventually(lambda: site.stack.event_sources["OutboundQueue"].is_idle, "nothing is taken any more")
    bubble = send(at_work, "+61491570156", "Waits for a person")
    bubble.locator(".status", has_text="waits in the queue").wait_for()
    at_work.get_by_role("button", name="1 queued", exact=True).click()
    at_work.locator("#list .message-button", has_text="Waits for a person").wait_for()
    at_work.get_by_role("button", name="Resume", exact=True).click()
    bubble.locator(".status", has_text="received").wait_for()


def test_every_event_of_the_bus_is_shown_with_its_json(at_work: Page) -> None:
    bubble = send(at_work, "+61491570156", "With events")
    bubble.locator(".status", has_text="received").wait_for()
    key = bubble.get_attribute("data-message") or ""
    row = at_work.locator("#events .event-group", has_text=key).locator("details", has_text="SMS Accepted")
    row.locator("summary").click()
    row.locator("pre", has_text=f'"message_id": "{key}"').wait_for()


def test_a_page_out_of_sight_leaves_and_catches_up_when_it_is_back(at_work: Page, site: Site) -> None:
    def turn(*, hidden: bool) -> None:
        at_work.evaluate(
            """hidden => {
                Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            hidden,
        )

    def nobody_looks() -> bool:
        """Change something: only a failed write shows the server that the browser is gone."""
        site.page.board.event({"detail-type": "something", "time": "", "detail": {}})
        return site.page.pages_open == 0

    at_work.clock.install()
    turn(hidden=True)
    at_work.clock.run_for(20_000)
    turn(hidden=False)
    turn(hidden=True)
    at_work.clock.run_for(20_000)
    assert site.page.pages_open >= 1, "a glance at another tab ends nothing"
    at_work.clock.run_for(20_000)
    eventually(nobody_looks, "the page has left")
    with PageClient(site.page.url) as other:
        key = other.send("+61491570158", "Meanwhile")
        other.until(key, lambda message: message["status"] == "received", "received")
    turn(hidden=False)
    at_work.locator(f".bubble[data-message={key}].good").wait_for()


def test_two_windows_of_a_browser_have_one_stream(at_work: Page, site: Site) -> None:
    other = at_work.context.new_page()
    other.goto(site.page.url)
    other.wait_for_selector("#paused.pill")
    bubble = send(at_work, "+61491570157", "For both windows")
    bubble.locator(".status", has_text="received").wait_for()
    other.locator(f".bubble.good[data-message={bubble.get_attribute('data-message')}]").wait_for(timeout=LONG_MS)
    eventually(lambda: site.page.pages_open == 1, "one stream is open")


def test_all_of_it_by_keyboard(at_work: Page) -> None:
    keyboard = at_work.keyboard
    keyboard.press("Tab")
    assert at_work.evaluate("() => document.activeElement.className") == "skip"

    def tab_to(selector: str) -> None:
        for _ in range(80):
            if at_work.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
            keyboard.press("Tab")
        pytest.fail(f"Tab never comes to {selector}")

    tab_to("#field-destination")
    keyboard.press("ControlOrMeta+a")
    keyboard.type(SCENARIOS["reply"].number)
    tab_to("#field-content")
    keyboard.press("ControlOrMeta+a")
    keyboard.type("By keyboard")
    keyboard.press("ControlOrMeta+Enter")
    phone = at_work.get_by_label(f"Handset {SCENARIOS['reply'].number}", exact=True)
    phone.locator(".bubble.out", has_text="Yes please").wait_for()
    tab_to(f".phone[aria-label='Handset {SCENARIOS['reply'].number}'] .status")
    keyboard.press("Enter")
    at_work.locator("#timeline .life", has_text="the handset replied").wait_for()
    tab_to("[role=tab][aria-selected=true]")
    keyboard.press("ArrowLeft")
    assert at_work.evaluate("() => document.activeElement.id") == "tab-messages"
    tab_to(".message-button")
    keyboard.press("Enter")
    at_work.locator("#panel-timeline").wait_for()


@pytest.mark.timeout(1800)
def test_a_thousand_messages_while_the_page_stays_quick(at_work: Page, site: Site) -> None:
    at_work.fill("#load-count", "1000")
    at_work.get_by_role("button", name="Send 1000", exact=True).click()
    at_work.locator("#load-says", has_text="queued").wait_for()
    own = send(at_work, SCENARIOS["reply"].number, "In the middle of it")
    own.locator(".status", has_text="received").wait_for(timeout=10 * LONG_MS)
    at_work.locator("#load-says", has_text="1000 finished of 1000").wait_for(timeout=15 * LONG_MS)

    with PageClient(site.page.url) as later:
        told = later.told.messages
        eventually(lambda: sum(each["text"].startswith("Message ") for each in list(told.values())) == 1000, "all told")
        delivered = f"{sum('delivered' in message['group'] for message in told.values()):,}"
    figure = at_work.locator("#strip [data-group=delivered] .figure")
    eventually(lambda: figure.text_content() == delivered, "all are counted")
    assert at_work.locator(".bubble").count() < 150, "what nobody sees is not drawn"
    figure.click()
    assert at_work.locator(".message-button").count() == 100
    at_work.select_option("#group", "")
    at_work.fill("#find-message", "Message 77 of 1000")
    assert at_work.locator(".message-button").count() == 1
