"""A page of another site in the same browser can neither read a secret nor send, by any name of this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from local.simulator.scenarios import SCENARIOS
from tests.support.phone_page import served

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

ATTACK = """async ({ aws, control, gateway, secret, queue, body }) => {
  const read = (url, options) => fetch(url, options).then((answer) => answer.text(), () => null);
  const blind = (url, options) => fetch(url, { mode: "no-cors", method: "POST", ...options }).catch(() => null);
  const call = { "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "secretsmanager.GetSecretValue",
    Authorization: "AWS4-HMAC-SHA256 Credential=a/20260101/ap-southeast-2/secretsmanager/aws4_request" };
  const form = new URLSearchParams({ Action: "SendMessage", QueueUrl: queue, MessageBody: body });
  await blind(aws, { body: form });
  await blind(`${aws}/?${form}`, { method: "GET" });
  await blind(`${control}/faults`, { body: JSON.stringify({ down: "refused" }) });
  return Promise.all([
    read(aws, { method: "POST", headers: call, body: JSON.stringify({ SecretId: secret }) }),
    read(`${gateway}/healthz`), read(control), read(`${control}/faults`, { method: "DELETE" }),
  ]);
}"""


@pytest.fixture
def foreign_url() -> Iterator[str]:
    """A page of another site, under a name that the browser resolves to this machine (conftest.py)."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://evil.example:{server.server_address[1]}/"
        server.shutdown()


def test_a_foreign_page_gets_nothing_and_changes_nothing(page: Page, foreign_url: str) -> None:
    number = SCENARIOS["received"].number
    with served() as (stack, phone_page):
        simulator = stack.simulator
        assert simulator is not None
        sqs, queue = stack.client("sqs"), stack.outputs["OutboundQueueUrl"]
        stack.event_sources["OutboundQueue"].enabled = False
        target: dict[str, Any] = {
            "aws": stack.endpoint_url,
            "control": simulator.control_url,
            "gateway": simulator.url,
            "secret": stack.outputs["GatewaySecretArn"],
            "queue": queue,
            "body": f'{{"destination": "{number}", "content": "by a page"}}',
        }
        page.goto(foreign_url)
        assert page.evaluate(ATTACK, target) == [None] * 4
        counted = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"])
        assert counted["Attributes"]["ApproximateNumberOfMessages"] == "0"
        assert simulator.faults()["down"] is None

        for url in (stack.endpoint_url, simulator.url, simulator.control_url, phone_page.url):
            rebound = page.goto(url.replace(str(urlsplit(url).hostname), "evil.example"))
            assert rebound is not None
            assert rebound.status == 403, url
