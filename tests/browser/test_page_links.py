"""The page's addresses, and the texts to copy, each of which queues the message in the form."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from click.testing import CliRunner

from cli.main import main
from tests.support.canned_page import CannedPage, snapshot

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

HOSTILE: Final = 'It\'s "$HOME" `id` \\ END\n${x} \u2028 \U0001f384 -- <b>&amp;'
FIELDS: Final = {
    "destination": "+61491570006", "content": HOSTILE, "sms_class": 1, "reference": "it's $1", "message_id": "true",
}  # fmt: skip


def _at(page: Page) -> str:
    return str(page.evaluate("() => location.hash"))


# Addresses


def test_each_view_has_an_address_and_back_and_forward_go_through_them(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url)
    page.locator("[data-message=c] .status").click()
    page.locator("#timeline .life").wait_for()
    assert _at(page) == "#/message/c"
    page.locator("[data-group=dead_letters]").click()
    page.locator(".dead-letter").wait_for()
    assert _at(page) == "#/dead-letters"
    page.locator("[data-group=unknown]").click()
    page.wait_for_function("() => location.hash === '#/messages/unknown'")
    page.get_by_role("tab", name="Events").click()
    page.locator("#panel-events").wait_for()
    page.go_back()
    page.wait_for_function("() => document.getElementById('group').value === 'unknown'")
    page.go_back()
    page.locator(".dead-letter").wait_for()
    page.go_back()
    page.locator("#timeline .life").wait_for()
    page.go_forward()
    page.locator(".dead-letter").wait_for()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("#/message/c", "#timeline .life"), ("#/dead-letters", ".dead-letter"),
        ("#/messages/unknown", "#panel-messages"), ("#/messages/x", "#panel-messages"),
        ("#/handset/+61491570158", ".phone:focus"), ("#/handset/%2B61491570158", ".phone:focus"),
        ("#/constructor", "#panel-events"), ("#phones", "#panel-events"),
        ("#/message/%E0%A4%A", "#timeline .error"),
        ("#/message/<img src=x onerror=alert(1)>", "#timeline .error"),
    ],
)  # fmt: skip
def test_a_page_that_is_opened_by_an_address_shows_it(page: Page, canned: CannedPage, address: str, shown: str) -> None:
    page.goto(canned.url + address)
    page.locator(shown).wait_for()


@pytest.mark.parametrize("address", ["#/message", "#/message/", "#/handset", "#/handset/"])
def test_an_address_that_names_nothing_claims_nothing_of_it(page: Page, canned: CannedPage, address: str) -> None:
    page.goto(canned.url + address)
    page.locator(".phone").first.wait_for()
    assert (page.locator("#notice").is_visible(), page.locator("#timeline .error").count()) == (False, 0)


def test_a_handset_that_is_not_there_is_told_and_found_when_it_comes(page: Page, canned: CannedPage) -> None:
    busy, canned.first = canned.first, snapshot()
    page.goto(canned.url + "#/handset/+61491570158")
    page.locator("#notice", has_text="+61491570158").wait_for()
    canned.update({"messages": busy["messages"]})
    page.locator(".phone:focus").wait_for()
    page.wait_for_selector("#notice", state="hidden")


def test_a_link_to_what_is_open_already_leads_there_again(page: Page, canned: CannedPage) -> None:
    page.goto(canned.url + "#/handset/+61491570158")
    page.locator(".phone:focus").wait_for()
    page.locator("#field-content").focus()
    page.get_by_label("Handset +61491570158").get_by_role("link", name="+61491570158").click()
    page.locator(".phone:focus, .phone :focus").wait_for()


# Texts to copy


def _copied(page: Page, canned: CannedPage, form: str) -> str:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(canned.url)
    page.get_by_text("More fields").click()
    page.get_by_text("What goes on the queue").click()
    for name, value in FIELDS.items():
        field = page.locator(f"#field-{name}")
        if name == "sms_class":
            field.select_option(str(value))
        else:
            field.fill(str(value))
    page.select_option("#form", form)
    page.get_by_role("button", name="Copy").click()
    page.locator("#copy-says", has_text="Copied").wait_for()
    return str(page.evaluate("() => navigator.clipboard.readText()"))


def test_json(page: Page, canned: CannedPage) -> None:
    assert json.loads(_copied(page, canned, "JSON")) == FIELDS


def test_the_command_line(page: Page, canned: CannedPage) -> None:
    command, send, *words = shlex.split(_copied(page, canned, "optus-sms"))
    assert (command, send) == (".venv/bin/optus-sms", "send")
    done = CliRunner().invoke(main, [send, "--dry-run", "--json", *words])
    assert json.loads(done.output)["would_queue"] == FIELDS


def test_curl(page: Page, canned: CannedPage, tmp_path: Path) -> None:
    (tmp_path / ".local").mkdir()
    variables = {name: name.lower() for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "OUTBOUND_QUEUE_URL")}
    exports = "".join(f"export {name}={value}\n" for name, value in variables.items())
    (tmp_path / ".local" / "endpoints.env").write_text(exports)
    curl = tmp_path / "curl"
    curl.write_text("#!/bin/sh\ncat\n")
    curl.chmod(0o755)
    text = _copied(page, canned, "curl")
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", text], cwd=tmp_path, env={"PATH": path}, capture_output=True, check=True)
    request = json.loads(done.stdout)
    assert (request["QueueUrl"], json.loads(request["MessageBody"])) == ("outbound_queue_url", FIELDS)


def test_boto3(page: Page, canned: CannedPage, tmp_path: Path) -> None:
    (tmp_path / "boto3.py").write_text(
        "class client:\n"
        "    def __init__(self, name): assert name == 'sqs'\n"
        "    def send_message(self, QueueUrl, MessageBody): print(MessageBody)\n"
    )
    (tmp_path / "sender.py").write_text(_copied(page, canned, "boto3"))
    environment = {"OUTBOUND_QUEUE_URL": "here", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "sender.py"], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert json.loads(done.stdout) == FIELDS


def test_node(page: Page, canned: CannedPage) -> None:
    """The program in the browser, with an SDK that keeps the request."""
    _, program = _copied(page, canned, "Node").split("\n", 1)
    request: dict[str, Any] = page.evaluate(
        """program => {
          let kept;
          class SendMessageCommand { constructor(request) { kept = request; } }
          class SQSClient { async send() {} }
          const process = { env: { OUTBOUND_QUEUE_URL: "here" } };
          const run = Object.getPrototypeOf(async () => {}).constructor;
          const start = run("SendMessageCommand", "SQSClient", "process", program);
          return start(SendMessageCommand, SQSClient, process).then(() => kept);
        }""",
        program,
    )
    assert (request["QueueUrl"], json.loads(request["MessageBody"])) == ("here", FIELDS)
