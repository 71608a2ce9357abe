"""The phone page's server on the local stack: requests of a browser, and requests that it must refuse."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import requests

from cli.embedded import run
from cli.message_lookup import find_messages
from cli.stage import Stage
from cli.target import local_target
from cli.timeline import timeline
from local import endpoints
from local.aws.stack import ExternalGateway, LocalStack, StackConfig, StackError, listen
from local.demo.watcher import Watcher
from local.page.counts import MOST_PAGES
from local.page.server import PhonePage
from local.simulator.scenarios import SCENARIOS
from tests.support.phone_page import PageClient, connected, served
from tests.support.waiting import eventually

HANDSET = SCENARIOS["received"].number
HOSTILE = '<script>alert(1)</script>\u202e\u0000\u0007\r\n\ndata: x\n\n{"a": 1}\u2028'


@dataclass
class Served:
    stack: LocalStack
    page: PhonePage

    def queue(self, body: str, **attributes: str) -> str:
        """Queue a message as another system does; return the SQS message ID."""
        answer = self.stack.client("sqs").send_message(
            QueueUrl=self.stack.outputs["OutboundQueueUrl"],
            MessageBody=body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        )
        return str(answer["MessageId"])


@pytest.fixture(scope="module")
def site() -> Iterator[Served]:
    with served() as (stack, page):
        yield Served(stack, page)


@pytest.fixture
def client(site: Served) -> Iterator[PageClient]:
    with PageClient(site.page.url) as client:
        yield client
        client.ask("DELETE", "/api/faults")


def raw(site: Served, request: bytes) -> bytes:
    """Return the whole response to a request that no library would send."""
    with socket.create_connection(("127.0.0.1", int(site.page.url.rsplit(":", 1)[1].strip("/"))), timeout=30) as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
        return answer


# The view


def test_a_message_is_watched_from_the_form_to_the_handset(client: PageClient) -> None:
    key = client.send(HANDSET, "Hello €")
    message = client.until(key, lambda m: m["status"] == "received", "received")

    assert (message["text"], message["to"], message["segments"], message["encoding"]) == (
        "Hello €",
        HANDSET,
        1,
        "GSM-7",
    )
    _, *statuses = (step["name"] for step in message["steps"])
    assert statuses == ["accepted", "queued", "sent", "submitted", "received"]
    assert message["group"] == ["accepted", "delivered"]
    eventually(
        lambda: (
            {"SMS Accepted", "SMS Status Changed"}
            <= {e["detail_type"] for e in client.told.events if e["event"]["detail"].get("message_id") == key}
        ),
        "its events",
    )


def test_what_other_systems_queue_has_its_text_too_whatever_names_it(site: Served, client: PageClient) -> None:
    own = f"own-{uuid4().hex}"
    site.queue(json.dumps({"message_id": own, "destination": HANDSET, "content": "by its own key"}))
    attribute = f"attribute-{uuid4().hex}"
    site.queue(json.dumps({"destination": HANDSET, "content": "by an attribute"}), message_id=attribute)
    sqs_id = site.queue(json.dumps({"destination": HANDSET, "content": "by SQS"}))

    for key, text in ((own, "by its own key"), (attribute, "by an attribute"), (sqs_id, "by SQS")):
        assert client.until(key, lambda m: m["status"] == "received", "received")["text"] == text


def test_the_numbers_lead_to_the_messages(client: PageClient) -> None:
    client.until(client.send(HANDSET, "one"), lambda m: m["status"] == "received", "received")
    client.until(client.send(SCENARIOS["rejected"].number, "two"), lambda m: m["tone"] == "bad", "rejected")

    def counted() -> bool:
        strip = client.told.rest["strip"]
        return all(
            strip[name] == sum(name in message["group"] for message in client.told.messages.values())
            for name in ("queued", "in_flight", "accepted", "delivered", "undelivered", "unknown", "rejected")
        )

    eventually(counted, "each number is that of its messages")
    assert client.told.rest["strip"]["undelivered"] >= 1


def test_failures_carry_the_gateways_word(client: PageClient) -> None:
    carrier = client.send(SCENARIOS["rejected"].number, "refused by the carrier")
    gateway = client.send(SCENARIOS["bad_request"].number, "refused by the gateway")
    assert "simulated rejected" in client.until(carrier, lambda m: m["tone"] == "bad", "rejected")["problem"]
    assert "400" in client.until(gateway, lambda m: m["tone"] == "bad", "rejected")["problem"]


def test_the_timeline_is_that_of_explain(site: Served, client: PageClient) -> None:
    key = client.send(SCENARIOS["reply"].number, "Will you come?")
    eventually(lambda: [r for r in client.told.replies.values() if r["message_id"] == key], "the reply")
    client.until(key, lambda m: m["status"] == "received", "received")

    (facts,) = find_messages(local_target(endpoints.variables(site.stack)), key)
    life = client.ask("GET", f"/api/messages?id={key}").json()
    assert [(line["at"], line["text"]) for line in life["timeline"]] == [(ln.at, str(ln)) for ln in timeline(facts)]
    assert life["next_step"] == "Nothing; this is final."


def test_an_opt_out_is_told_until_it_ends_and_what_it_stopped_says_so(site: Served, client: PageClient) -> None:
    number = "+61491570110"

    def opt_out() -> dict[str, Any]:
        return client.told.opt_outs.get(number, {})

    client.until(client.send(number, "Sale on Friday"), lambda m: m["status"] == "received", "received")
    client.post("/api/reply", {"handset": number, "content": "stop!"})
    assert eventually(opt_out, "opted out")["by"] == "reply"
    assert opt_out()["opted_out"]
    refused = client.until(client.send(number, "Sale on Saturday"), lambda m: m["tone"] == "bad", "not sent")
    assert (refused["stage"], refused["group"]) == (Stage.REJECTED, ["rejected"])
    assert refused["problem"] == "the handset has opted out, by its own reply"
    assert client.ask("GET", f"/api/messages?id={refused['message_id']}").json()["acts"] == []

    code = client.send(number, "Your code is 204811", despite_opt_out=True, urgent=True)
    sent = client.until(code, lambda m: m["status"] == "received", "received")
    assert (sent["despite_opt_out"], sent["urgent"]) == (True, True)
    timeline_of_code = client.ask("GET", f"/api/messages?id={code}").json()["timeline"]
    assert any("even if the handset has opted out" in line["text"] for line in timeline_of_code)

    client.post("/api/reply", {"handset": number, "content": "Start"})
    eventually(lambda: not opt_out()["opted_out"], "opted back in by a reply")
    assert command(site, "opt-outs", "add", number) == 0
    eventually(lambda: (opt_out()["opted_out"], opt_out()["by"]) == (True, "person"), "opted out by a person")
    assert command(site, "opt-outs", "remove", number, "--yes") == 0
    eventually(lambda: not opt_out()["opted_out"], "opted back in by a person")
    assert command(site, "opt-outs", "add", number) == 0
    eventually(lambda: opt_out()["opted_out"], "opted out once more")
    command(site, "erase", number, "--with-opt-out", "--yes")
    client.send(HANDSET, "something happens")
    eventually(lambda: not opt_out()["opted_out"], "its opt-out was erased")


def command(site: Served, *arguments: str) -> int:
    return run(arguments, local_target(endpoints.variables(site.stack))).exit_code


def test_a_lane_that_is_paused_alone_is_told(site: Served, client: PageClient) -> None:
    assert command(site, "pause", "--lane", "urgent") == 0
    eventually(lambda: client.told.rest["strip"]["paused_lanes"] == ["urgent"], "paused")
    eventually(lambda: site.stack.event_sources["UrgentQueue"].is_idle, "nothing urgent is taken any more")
    assert client.told.rest["strip"]["paused"] is False
    key = client.send(HANDSET, "Waits", urgent=True)
    client.until(client.send(HANDSET, "Goes"), lambda m: m["status"] == "received", "received")
    eventually(lambda: client.told.rest["strip"]["depths"]["urgent"] == 1, "counted")
    client.post("/api/resume")
    client.until(key, lambda m: m["status"] == "received", "received")
    eventually(lambda: client.told.rest["strip"]["paused_lanes"] == [], "resumed")


def test_an_answer_is_tied_to_its_message_exactly_or_by_inference(client: PageClient) -> None:
    number = "+61491570158"
    key = client.send(number, "Will you come?")
    sent = client.until(key, lambda m: m["status"] == "received", "received")
    exact = client.post("/api/reply", {"handset": number, "content": "No", "in_reply_to": sent["gateway_id"]})
    inferred = client.post("/api/reply", {"handset": number, "content": HOSTILE, "to": "61480000000"})

    for answer, match, text in ((exact, "exact", "No"), (inferred, "inferred", HOSTILE)):
        reply = eventually(lambda a=answer: client.told.replies.get(a.json()["id"], {}), "the reply is stored")  # type: ignore[misc]
        assert (reply["match"], reply["message_id"], reply["text"], reply["from"]) == (match, key, text, number)


def test_hostile_text_is_carried_as_text(client: PageClient) -> None:
    text = HOSTILE.replace("\u0000\u0007", "")  # a message can't have controls, but a reply can
    key = client.send(HANDSET, text)
    assert client.until(key, lambda m: m["status"] == "received", "received")["text"] == text


def test_a_dead_letter_comes_with_its_reason_and_goes_when_somebody_takes_it_out(
    site: Served, client: PageClient
) -> None:
    body = f"not JSON {uuid4()}"
    site.queue(body)

    def found() -> list[dict[str, Any]]:
        return [each for each in client.told.rest.get("dead_letters", []) if each["body"] == body]

    (dead_letter,) = eventually(found, "the dead letter")
    assert (dead_letter["reason"], dead_letter["message_id"]) == ("invalid", None)
    before = client.told.rest["strip"]["dead_letters"]
    sqs, url = site.stack.client("sqs"), site.stack.outputs["DeadLetterQueueUrl"]
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)["Messages"]
    handle = next(message["ReceiptHandle"] for message in messages if message["Body"] == body)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
    client.send(HANDSET, "something happens")
    eventually(lambda: not found(), "it is gone")
    assert client.told.rest["strip"]["dead_letters"] == before - 1


# The user's actions


def test_an_unknown_outcome_is_resolved_by_a_late_callback(client: PageClient) -> None:
    for name in ("lost_then_told", "callbacks_held"):
        client.post("/api/faults", {"name": name, "on": True})
    key = client.send(HANDSET, "Lost, then found")
    unknown = client.until(key, lambda m: m["stage"] == Stage.UNKNOWN, "unknown")
    assert (unknown["tone"], unknown["group"]) == ("unsure", ["unknown"])
    client.post("/api/faults", {"name": "callbacks_held", "on": False})
    resolved = client.until(key, lambda m: m["status"] == "received", "resolved")
    assert [step["name"] for step in resolved["steps"] if "accepted" in step["name"] and "callback" in step["name"]]


@pytest.mark.parametrize("name", ["callbacks_doubled", "callbacks_reordered", "callbacks_early", "callbacks_late"])
def test_callbacks_that_come_otherwise_end_the_same(client: PageClient, name: str) -> None:
    client.post("/api/faults", {"name": name, "on": True})
    key = client.send(SCENARIOS["rejected"].number, name)
    message = client.until(key, lambda m: m["tone"] == "bad", "rejected")
    assert (message["status"], message["stage"]) == ("rejected", Stage.UNDELIVERED)


def test_a_gateway_that_is_down_takes_nothing_until_it_is_back(site: Served, client: PageClient) -> None:
    client.post("/api/faults", {"name": "gateway_down", "on": True})
    key = client.send(HANDSET, "Waits")
    waiting = client.until(key, lambda m: m["stage"] == Stage.RETRY, "not taken")
    assert waiting["group"] == ["in_flight"]
    assert client.ask("DELETE", "/api/faults").json()["active"] == []
    client.until(key, lambda m: m["status"] == "received", "received")
    assert site.stack.simulator is not None
    assert len(site.stack.simulator.taken(reference=key)) == 1


def test_a_fault_that_somebody_else_sets_shows_too(site: Served, client: PageClient) -> None:
    assert site.stack.simulator is not None
    site.stack.simulator.set_faults(response_delay_seconds=0.5, scenario="unavailable")
    eventually(lambda: client.told.rest["faults"]["active"] == ["unavailable", "slow"], "the switches turn")
    client.post("/api/faults", {"name": "unavailable", "on": False})
    eventually(lambda: client.told.rest["faults"] == {"active": ["slow"], "response_delay_seconds": 0.5}, "one is off")


def test_paused_messages_wait_in_the_queue_and_are_counted(site: Served, client: PageClient) -> None:
    assert client.post("/api/pause").status_code == 200
    sources = site.stack.event_sources.values()
    eventually(lambda: all(each.is_idle for each in sources) and client.told.rest["strip"]["paused"], "paused")
    key = client.send(HANDSET, "Waits", urgent=True)
    other = site.queue(json.dumps({"destination": HANDSET, "content": "of another system"}))
    try:
        eventually(lambda: client.told.rest["strip"]["queued"] == 2, "both are counted")
        assert client.told.rest["strip"]["depths"] == {"ordinary": 1, "urgent": 1}
        assert client.told.messages[key]["stage"] == Stage.NOT_SEEN
        assert other not in client.told.messages
    finally:
        client.post("/api/resume")
    for each in (key, other):
        client.until(each, lambda m: m["status"] == "received", "received")
    eventually(lambda: client.told.rest["strip"]["queued"] == 0, "none waits any more")
    assert client.told.rest["strip"]["paused"] is False


def test_load_goes_with_progress_one_at_a_time_and_stops(client: PageClient) -> None:
    def load() -> dict[str, Any]:
        found: dict[str, Any] = client.told.rest.get("load", {})
        return found

    client.post("/api/faults", {"name": "callbacks_held", "on": True})
    assert client.post("/api/load", {"count": 5}).status_code == 200
    assert client.post("/api/load", {"count": 5}).status_code == 409
    eventually(lambda: load().get("queued") == 5, "queued")
    assert client.post("/api/load/stop").status_code == 200
    eventually(lambda: load().get("done"), "stopped")
    assert load()["problem"]
    client.ask("DELETE", "/api/faults")
    assert client.post("/api/load", {"count": 5}).status_code == 200
    eventually(lambda: load() | {"seconds": 0} == {
        "total": 5, "queued": 5, "decided": 5, "accepted": 5, "received": 5, "finished": 5, "seconds": 0,
        "done": True, "problem": None,
    }, "all five", 60)  # fmt: skip


@pytest.mark.parametrize("count", [0, -1, 5001, 1.5, "10", True, None, [1], 10**400])
def test_a_load_that_makes_no_sense_is_refused(client: PageClient, count: Any) -> None:
    answer = client.post("/api/load", {"count": count})
    assert answer.status_code == 422
    assert "count" in answer.json()["error"]


def test_a_refused_message_names_each_field_and_is_not_queued(site: Served, client: PageClient) -> None:
    answer = client.post("/api/send", {"destination": "12", "content": "", "typo": 1})
    assert answer.status_code == 422
    assert answer.json()["fields"].keys() == {"destination", "content", "'typo'"}
    assert client.post("/api/validate", {"destination": "12", "content": "a"}).json()["fields"].keys() == {
        "destination"
    }


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"content": "a"}, "handset"), ({"handset": HANDSET}, "content"),
        ({"handset": HANDSET, "content": ""}, "content"),
        ({"handset": HANDSET, "content": "a" * 1531}, "content"), ({"handset": ["a"], "content": "a"}, "handset"),
        ({"handset": HANDSET, "content": "a", "to": None}, "to"),
        ({"handset": HANDSET, "content": "a", "in_reply_to": {}}, "in_reply_to"),
        ({"handset": HANDSET, "content": "a", "id": "x"}, "'id'"),
    ],
)  # fmt: skip
def test_an_answer_that_makes_no_sense_names_the_field(client: PageClient, body: Any, named: str) -> None:
    answer = client.post("/api/reply", body)
    assert answer.status_code == 422
    assert named in answer.json()["error"]


# An operator's acts


def _acted(client: PageClient, act: str, id_: str) -> list[str]:
    answer = client.post("/api/acts", {"act": act, "id": id_})
    assert answer.status_code == 200, answer.text
    lines: list[str] = answer.json()["lines"]
    return lines


def _dead_letter(client: PageClient, **has: Any) -> dict[str, Any]:
    def found() -> dict[str, Any]:
        letters = client.told.rest.get("dead_letters", [])
        return next((each for each in letters if has.items() <= each.items()), {})

    return eventually(found, f"the dead letter {has}", 120)  # the watcher reads a slow queue seldom


def test_an_unknown_outcome_is_resolved_in_the_words_of_the_command_line(client: PageClient) -> None:
    key = client.send(SCENARIOS["lost_response"].number, "Lost")
    client.until(key, lambda m: m["stage"] == Stage.UNKNOWN, "unknown")
    _dead_letter(client, message_id=key, kind="unknown")
    offered = {act["name"]: act for act in client.ask("GET", f"/api/messages?id={key}").json()["acts"]}
    assert offered["resolve_sent"]["command"] == f"optus-sms resolve {key} --sent"

    resolved, deleted = _acted(client, "resolve_sent", key)
    assert resolved.startswith(f"{key}: resolved as sent, by ")
    assert deleted == "1 dead letter deleted"
    client.until(key, lambda m: m["stage"] == Stage.ACCEPTED, "resolved")
    eventually(lambda: not [d for d in client.told.rest["dead_letters"] if d["message_id"] == key], "it is gone")
    again = client.post("/api/acts", {"act": "resolve_not_sent", "id": key})
    assert (again.status_code, "not resolved" in again.json()["error"]) == (409, True)


def test_what_was_not_sent_is_sent_by_a_resolve_and_by_a_redrive(site: Served, client: PageClient) -> None:
    assert site.stack.simulator
    # After lost responses the sender waits longer each time, until a message is accepted.
    client.until(client.send(HANDSET, "Accepted"), lambda m: m["status"] == "received", "the gateway responds")
    site.stack.simulator.set_faults(scenario="lost_response", next=1)
    key = client.send(HANDSET, "Lost, and not sent")
    client.until(key, lambda m: m["stage"] == Stage.UNKNOWN, "unknown")
    _dead_letter(client, message_id=key)
    assert _acted(client, "resolve_not_sent", key)[0].endswith("and queued again")
    resolved = client.until(key, lambda m: m["status"] == "received", "sent again")
    assert "resolved by hand: not sent" in [step["name"] for step in resolved["steps"]]

    refused = client.send(SCENARIOS["bad_request"].number, "Refused")
    letter = _dead_letter(client, message_id=refused, kind="rejected")
    assert [act["command"] for act in letter["acts"]] == [
        f"optus-sms redrive {refused}",
        f"optus-sms dead-letters --delete {letter['sqs_id']}",
    ]
    assert _acted(client, "redrive", refused) == [f"{refused}: queued", "1 queued"]
    client.until(refused, lambda m: [s["name"] for s in m["steps"]].count("rejected, not sent") == 2, "refused again")

    def shown() -> list[str]:
        return [each["sqs_id"] for each in client.told.rest["dead_letters"] if each["message_id"] == refused]

    eventually(
        lambda: shown() not in ([], [letter["sqs_id"]]), "its new dead letter is shown in place of the first", 120
    )


def test_a_message_that_waits_is_recalled_and_a_dead_letter_deleted(site: Served, client: PageClient) -> None:
    client.post("/api/faults", {"name": "gateway_down", "on": True})
    key = client.send(HANDSET, "Never")
    client.until(key, lambda m: m["stage"] == Stage.RETRY, "it waits")
    assert _acted(client, "recall", key)[0].split() == ["1", "recalled"]
    client.until(key, lambda m: m["stage"] == Stage.RECALLED, "recalled")

    body = f"not JSON {uuid4()}"
    site.queue(body)
    letter = _dead_letter(client, body=body)
    assert _acted(client, "delete", letter["sqs_id"]) == ["1 dead letter deleted"]
    eventually(lambda: all(each["body"] != body for each in client.told.rest["dead_letters"]), "it is gone")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422), ({"act": "erase", "id": "k"}, 422), ({"act": ["redrive"], "id": "k"}, 422),
        ({"act": "redrive"}, 422), ({"act": "redrive", "id": "none"}, 404), ({"act": "delete", "id": "--help"}, 404),
        ({"act": "resolve_sent", "id": "--not-sent"}, 404), ({"act": "recall", "id": "<b>"}, 409),
        ({"act": "redrive", "id": ""}, 409), ({"act": "delete", "id": "a" * 999}, 409),
    ],
)  # fmt: skip
def test_an_act_that_makes_no_sense_is_refused_with_the_reason(client: PageClient, body: Any, status: int) -> None:
    answer = client.post("/api/acts", body)
    assert (answer.status_code, bool(answer.json()["error"])) == (status, True)


# Refused requests


STATE_CHANGES = [
    ("POST", path)
    for path in ("send", "load", "load/stop", "reply", "acts", "faults", "pause", "resume", "validate")
] + [("DELETE", "faults")]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), STATE_CHANGES)
def test_no_get_changes_anything(client: PageClient, method: str, path: str) -> None:
    for reading in ("GET", "HEAD"):
        answer = client.ask(reading, f"/api/{path}?name=gateway_down&on=true&count=1")
        assert answer.status_code == 405
        assert method in answer.headers["Allow"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Page-Token": ""}, {"X-Page-Token": "guessed"}, {"Origin": "http://evil.example"}, {"Origin": "null"},
        {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"},
    ],
)  # fmt: skip
def test_another_sites_page_changes_nothing(client: PageClient, headers: dict[str, str]) -> None:
    before = client.told.rest["faults"], len(client.told.messages)
    body = {"name": "gateway_down", "on": True, "count": 1, "destination": HANDSET, "content": "a"}
    answers = {
        (method, path): client.ask(method, f"/api/{path}", body, headers=headers).status_code
        for method, path in STATE_CHANGES
    }
    assert answers == dict.fromkeys(STATE_CHANGES, 403)
    assert (client.told.rest["faults"], len(client.told.messages)) == before


def test_a_form_of_another_site_changes_nothing(client: PageClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        headers = {"Content-Type": kind, "X-Page-Token": client.token}
        answer = requests.post(f"{client.url}/api/pause", data='{"a": "b="}', headers=headers, timeout=30)
        assert answer.status_code == 415
    assert requests.options(f"{client.url}/api/send", timeout=30).status_code == 403


def test_a_name_pointed_at_this_machine_reads_nothing(site: Served) -> None:
    for path in (b"/", b"/api/stream", b"/static/app.js", b"/api/messages?id=k"):
        answer = raw(site, b"GET " + path + b" HTTP/1.1\r\nHost: rebound.example\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"page-token" not in answer
    assert raw(site, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 403 ")
    absolute = b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    assert raw(site, absolute).startswith(b"HTTP/1.1 403 ")


def test_it_listens_on_loopback_only(site: Served) -> None:
    port = int(site.page.url.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(OSError, match=r"refused|assign|timed out"):
        socket.create_connection(("127.0.0.2", port), timeout=5)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'"a"', b"null", b'{"a": NaN}', b"\xff", b"[" * 50_000, b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"count": ' + b"9" * 5000 + b"}", b'{"destination": "\\ud800"}',
    ],
    ids=lambda body: repr(body[:12]),
)  # fmt: skip
def test_absurd_json_is_refused_and_kills_nothing(client: PageClient, body: bytes, subtests: pytest.Subtests) -> None:
    headers = {"X-Page-Token": client.token, "Content-Type": "application/json"}
    for path in ("send", "load", "reply", "faults", "validate"):
        with subtests.test(path=path):
            answer = requests.post(f"{client.url}/api/{path}", data=body, headers=headers, timeout=30)
            assert answer.status_code in ({200, 400} if path == "validate" else {400, 422})
            assert answer.json()["error" if answer.status_code != 200 else "fields"]


def test_a_body_has_a_limit(client: PageClient) -> None:
    assert client.post("/api/send", {"content": "a" * 70_000}).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/nothing", "/api", "/api/", "/api/send/", "/static/", "/static/../server.py", "/static/%2e%2e/server.py",
        "/static//index.html", "/static/..%2fserver.py", "/static/app.js%00.css", "/etc/passwd", "/api/messages",
    ],
)  # fmt: skip
def test_what_is_not_there_is_told_in_json(site: Served, path: str) -> None:
    answer = raw(site, f"GET {path} HTTP/1.1\r\nHost: {site.page.url[7:-1]}\r\nConnection: close\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert json.loads(body)["error"]


@pytest.mark.parametrize("key", [".", "..", "a:b"])
def test_every_message_id_has_a_timeline(client: PageClient, key: str) -> None:
    client.post("/api/send", {"destination": HANDSET, "content": "Hello", "message_id": key})
    assert eventually(lambda: client.ask("GET", f"/api/messages?id={key}").json().get("timeline"), "its timeline")


def test_a_message_that_is_not_there_is_not_found_whatever_its_name(client: PageClient) -> None:
    for name in ("none", "..%2f..%2fx", "%00", "%F0%9F%8E%84", "a" * 3000):
        answer = client.ask("GET", f"/api/messages?id={name}")
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/json")


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/static/style.css", "/api/messages?id=none", "/nothing"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_answer_forbids_what_the_page_does_not_need(client: PageClient, path: str, method: str) -> None:
    answer = client.ask(method, path)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-store"
    assert not any(name.startswith("Access-Control") for name in answer.headers)
    assert bool(answer.content) is (method == "GET")


# Streams


def test_a_page_that_comes_later_knows_the_same(site: Served, client: PageClient) -> None:
    client.until(client.send(HANDSET, "before"), lambda m: m["status"] == "received", "received")
    with PageClient(site.page.url) as later:
        key = later.send(HANDSET, "after")
        later.until(key, lambda m: m["status"] == "received", "received")
        eventually(lambda: later.told.messages == client.told.messages, "both know the same messages")
        eventually(lambda: later.told.rest["strip"] == client.told.rest["strip"], "and numbers")
        assert later.told.kinds.count("snapshot") == client.told.kinds.count("snapshot") == 1


def test_a_browser_that_does_not_read_holds_up_nobody(site: Served, client: PageClient) -> None:
    with connected(client.url, b"/api/stream"):
        for n in range(2000):  # far more than the buffers of its connection hold
            site.page.board.event({"detail-type": f"nothing {n}", "time": "", "detail": {"padding": "x" * 1000}})
        key = client.send(HANDSET, "still told")
        client.until(key, lambda m: m["status"] == "received", "received")


def test_a_browser_that_goes_leaves_nothing(site: Served) -> None:
    def something_happens() -> bool:
        """Change something: only a failed write shows the server that the browser is gone."""
        site.page.board.event({"detail-type": "something", "time": "", "detail": {}})
        return True

    eventually(lambda: something_happens() and site.page.pages_open == 0, "the pages of other tests are gone")
    with contextlib.ExitStack() as pages:
        for _ in range(5):
            pages.enter_context(PageClient(site.page.url))
        assert site.page.pages_open == 5
    eventually(lambda: something_happens() and site.page.pages_open == 0, "nobody looks any more")


def test_one_page_too_many_is_told_so_and_gets_its_place_when_another_goes(site: Served) -> None:
    def answer() -> requests.Response:
        return requests.get(f"{site.page.url}api/stream", timeout=30, stream=True)

    def status() -> int:
        with answer() as answered:
            return answered.status_code

    eventually(lambda: status() == 200 and site.page.pages_open < 5, "the pages of other tests are gone")
    with contextlib.ExitStack() as pages:
        eventually(lambda: pages.enter_context(answer()).status_code == 503, "there is a limit")
        with answer() as refused:
            assert (refused.status_code, str(MOST_PAGES) in refused.json()["error"]) == (503, True)
        assert requests.head(f"{site.page.url}api/stream", timeout=30).status_code == 503
        assert site.page.pages_open == MOST_PAGES
        assert requests.get(site.page.url, timeout=30).status_code == 200  # the page itself still loads, and shows why
    eventually(lambda: status() == 200, "there is a place again")


def test_the_end_ends_open_streams_those_that_are_read_and_those_that_are_not() -> None:
    before = set(threading.enumerate())
    with contextlib.ExitStack() as opened:
        with served() as (_, page):
            client = opened.enter_context(PageClient(page.url))
            opened.enter_context(connected(page.url, b"/api/stream"))
            client.post("/api/load", {"count": 5000})
        assert client.ended.wait(30)
        eventually(lambda: page.pages_open == 0, "no stream is left")
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert left.isdisjoint({"load", "queue counter", "watcher"})


# Other gateways


def test_with_another_gateway_messages_are_shown_and_what_only_the_simulator_can_is_refused(site: Served) -> None:
    gateway = ExternalGateway(site.stack.gateway_url, "simulator", "simulator-password")
    with served(StackConfig(gateway=gateway)) as (_, page), PageClient(page.url) as client:
        meta = client.told.rest["meta"]
        assert (meta["simulator"], meta["far"], meta["seed"], meta["numbers"]) == (False, False, None, [])
        assert meta["gateway"] == site.stack.gateway_url
        key = client.send(HANDSET, "Hello")
        assert client.until(key, lambda m: m["stage"] == Stage.ACCEPTED, "accepted")["text"] == "Hello"
        for path, body in (("faults", {"name": "slow", "on": True}), ("reply", {"handset": HANDSET, "content": "a"})):
            answer = client.post(f"/api/{path}", body)
            assert answer.status_code == 409
            assert "GATEWAY_BASE_URL" in answer.json()["error"]
        assert client.ask("DELETE", "/api/faults").status_code == 409


def test_no_load_goes_to_a_gateway_that_may_cost_money(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    far = StackConfig(gateway=ExternalGateway("https://gateway.invalid/rest/sms/v2", "app", "secret"))
    monkeypatch.setattr(site.stack, "config", far)
    watcher = Watcher(site.stack)
    with PhonePage(site.stack, watcher) as page, watcher, PageClient(page.url) as client:
        before = set(client.told.messages)
        assert client.told.rest["meta"]["far"] is True
        answer = client.post("/api/load", {"count": 1})
        assert answer.status_code == 409
        assert "cost" in answer.json()["error"]
        assert set(client.told.messages) == before


def test_a_port_in_use_is_named_with_the_fix(site: Served) -> None:
    with listen("127.0.0.1", 0, "test") as taken:
        port = taken.getsockname()[1]
        site.stack.config = StackConfig(port=port - 4)
        try:
            with pytest.raises(StackError, match=f"{port}.*PORT="):
                PhonePage(site.stack, Watcher(site.stack))
        finally:
            site.stack.config = StackConfig()
