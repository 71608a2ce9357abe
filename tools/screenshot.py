"""Takes the picture of the phone page at work: a few messages, each with a different outcome, on the local stack.

    python -m tools.screenshot          (`make screenshot`; docs/images/page.png)

The same messages under the same message_ids and the same seed each time; only the times differ.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import sync_playwright

from local.aws.stack import LocalStack, StackConfig
from local.demo.watcher import Seen, Watcher
from local.page.server import PhonePage
from local.simulator.scenarios import SCENARIOS
from local.simulator.server import GatewayConfig
from tools import browser

PATH: Final = Path(__file__).resolve().parent.parent / "docs" / "images" / "page.png"
LONGEST_SECONDS: Final = 120.0
SCHEDULE_SPEED: Final = 60.0
"""The gateway is healthy after two checks, which take two minutes at their normal rate."""

_ASKED, _REPLIED_TO = "+61491570159", "appointment-4711"
_MESSAGES: Final = (
    ("parcel-207", "+61491570156", "Your parcel arrives today between 2 and 4 pm."),
    ("code-118", SCENARIOS["lost_response_then_callbacks"].number, "Your code is 123456. It is good for 5 minutes."),
    ("bill-1042", SCENARIOS["rejected"].number, "Invoice 1042 is ready."),
    ("greeting-31", "+61491570158", "Wir freuen uns – bis Samstag"),
    ("alert-9", SCENARIOS["lost_response"].number, "Pump 3 has stopped. Call the control room."),
    (_REPLIED_TO, _ASKED, "Your appointment is tomorrow at 9:30. Will you come?"),
)
_ENDS: Final = {"alert-9": "UNKNOWN", "bill-1042": "rejected"}


def main(path: Path = PATH) -> None:
    """Send, wait, and take the picture."""
    executable = browser.find()
    if executable is None:
        sys.exit(f"make screenshot: {browser.MISSING}")
    simulator = GatewayConfig(seed=7, status_step_seconds=0.1)
    with LocalStack(StackConfig(simulator=simulator, schedule_speed=SCHEDULE_SPEED)) as stack:
        watcher = Watcher(stack)
        with PhonePage(stack, watcher) as page, watcher, sync_playwright() as driver:
            _send(stack, watcher)
            started = driver.chromium.launch(executable_path=executable, args=list(browser.FLAGS))
            opened = started.new_page(viewport={"width": 1400, "height": 880}, color_scheme="light")
            opened.goto(page.url)
            _show(opened)
            opened.screenshot(path=path)
            started.close()
    print(f"{path}: {path.stat().st_size // 1024} KB")


def _send(stack: LocalStack, watcher: Watcher) -> None:
    """Send one message after another, so that the phones have the same order each time."""
    simulator, sqs = stack.simulator, stack.client("sqs")
    if simulator is None:
        raise ValueError("the picture needs the simulator")
    for message_id, number, content in _MESSAGES:
        body = json.dumps({"message_id": message_id, "destination": number, "content": content})
        sqs.send_message(QueueUrl=stack.outputs["OutboundQueueUrl"], MessageBody=body)
        _until(watcher, lambda seen, message_id=message_id: _ended(seen, message_id))  # type: ignore[misc]
    gateway_id = watcher.seen.ledger[_REPLIED_TO].gateway_id or ""
    simulator.send_reply(_ASKED, "Yes, see you then", reply_to=gateway_id)
    _until(watcher, lambda seen: bool(seen.replies_to(gateway_id)))


def _ended(seen: Seen, message_id: str) -> bool:
    facts = seen.facts(message_id)
    return _ENDS.get(message_id, "received") in (facts.ledger and facts.ledger.state, facts.status)


def _until(watcher: Watcher, reached: Callable[[Seen], bool]) -> None:
    if not watcher.wait_until(reached, LONGEST_SECONDS, LONGEST_SECONDS):
        raise TimeoutError("a message of the picture did not reach its end")


def _show(page: Any) -> None:
    """Fill in the form, open the timeline of an unknown outcome, and wait until everything is drawn."""
    page.locator("#health.good").wait_for()
    page.locator(".bubble.out").wait_for()
    page.locator("#tour-dismiss").click()
    page.fill("#field-destination", "+61491570157")
    page.fill("#field-content", "Don’t forget: 9:30 tomorrow")
    page.locator(".culprit").wait_for()
    page.locator("[data-message=code-118] .status").click()
    page.locator("#timeline .life .good").wait_for()
    page.locator("h1").click()  # moves the mouse away from the page's controls
    page.evaluate("() => scrollTo(0, 0)")
    time.sleep(0.5)


if __name__ == "__main__":
    main()
