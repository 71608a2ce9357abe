"""A browser gets every change once, in any interleaving of reads and changes."""

from __future__ import annotations

import json
import threading
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from cli.dead_letter_queue import ReceivedDeadLetter
from local.page.board import DEAD_LETTERS_SHOWN, EVENTS_KEPT, MESSAGES_AT_FIRST, Board
from local.page.bubble import QueuedMessage
from optus_sms.model.lanes import Lane
from optus_sms.model.queue_message import parse_message
from optus_sms.records.changes import Change, Record
from optus_sms.records.items import LedgerRecord, MessageRecord, OptOutRecord, ReplyRecord, State
from tests.support.builders import NOW, message_body


def submission(content: str = "Hello") -> QueuedMessage:
    return QueuedMessage(parse_message(message_body(content=content), now=NOW), "2026-01-01T00:00:00.000Z")


def payload(content: str) -> str:
    return submission(content).message.payload_sha256


class Browser:
    """Collects the updates as the page's script does."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.revision = 0
        self.messages: dict[str, dict[str, Any]] = {}
        self.replies: dict[str, dict[str, Any]] = {}
        self.opt_outs: dict[str, dict[str, Any]] = {}
        self.events: list[int] = []
        self.rest: dict[str, Any] = {}
        self.sizes: list[int] = []

    def look(self) -> Browser:
        self.revision, text = self._board.changes(self.revision)
        told = json.loads(text)
        self.sizes.append(len(told.get("messages", [])))
        self.messages |= {message["message_id"]: message for message in told.pop("messages", [])}
        self.replies |= {reply["id"]: reply for reply in told.pop("replies", [])}
        self.opt_outs |= {opt_out["handset"]: opt_out for opt_out in told.pop("opt_outs", [])}
        self.events += [event["n"] for event in told.pop("events", [])]
        self.rest |= told
        return self


def change(board: Board, record: Record) -> None:
    board.change(Change(None, record, "2026-01-01T00:00:00.000Z"))


def ledger(board: Board, message_id: str, state: State = State.SENDING, **values: Any) -> None:
    change(board, LedgerRecord(message_id, state, **values))


def gateway(board: Board, gateway_id: str, **values: Any) -> None:
    change(board, MessageRecord(id=gateway_id, **values))


def reply(board: Board, gateway_id: str, answered: str | None = None) -> None:
    match: Literal["exact"] | None = "exact" if answered else None
    record = ReplyRecord(id=gateway_id, handset="+61491570006", content="STOP", in_reply_to=answered, reply_match=match)
    change(board, record)


def dead_letter(number: int, message_id: str) -> ReceivedDeadLetter:
    return ReceivedDeadLetter(f"sqs-{number}", "{}", "invalid", "", "", message_id, None)


WHAT = (
    "put", "taken", "sending", "accepted", "early callback", "received",
    "reply", "opted out", "opted in", "event", "dead letter", "dead letter gone", "measured", "look",
)  # fmt: skip
CHANGES = st.tuples(st.sampled_from(WHAT), st.integers(0, 3))


def happen(board: Board, what: str, number: int) -> None:
    key, gateway_id = f"k{number}", f"g{number}"
    match what:
        case "put":
            board.put(key, submission())
        case "taken":
            board.taken(key, submission())
        case "sending":
            ledger(board, key, attempts=1)
        case "accepted":
            ledger(board, key, State.ACCEPTED, gateway_id=gateway_id)
        case "early callback":
            gateway(board, gateway_id, status="sent")
        case "received":
            gateway(board, gateway_id, message_id=key, status="received", destination="+61491570006")
        case "reply":
            reply(board, f"r{number}", gateway_id)
        case "opted out" | "opted in":
            change(board, OptOutRecord("+61491570006", what == "opted out", f"2026-01-01T00:00:0{number}.000Z"))
        case "event":
            board.event({"detail-type": "SMS Accepted", "time": "2026-01-01T00:00:00Z", "detail": {}})
        case "dead letter":
            board.dead_letters([dead_letter(number, key)], [])
        case "dead letter gone":
            board.dead_letters([], [f"sqs-{number}"])
        case "measured":
            board.measured({Lane.ORDINARY: number, Lane.URGENT: 0}, is_paused=number == 0)


@given(st.lists(CHANGES, max_size=40))
def test_whoever_looks_whenever_has_in_the_end_what_a_new_page_gets(changes: list[tuple[str, int]]) -> None:
    board = Board()
    browsers = [Browser(board), Browser(board)]
    for what, number in changes:
        if what == "look":
            browsers[number % len(browsers)].look()
        else:
            happen(board, what, number)
    new = Browser(board).look()
    for browser in browsers:
        browser.look()
        assert (browser.messages, browser.replies, browser.events) == (new.messages, new.replies, new.events)
        assert browser.opt_outs == new.opt_outs
        assert browser.rest == new.rest
        assert browser.look().sizes[-1] == 0, "what was told is not told again"


def test_the_numbers_are_those_of_the_messages_that_they_lead_to() -> None:
    board = Board()
    for number in range(4):
        happen(board, "put", number)
    happen(board, "sending", 1)
    happen(board, "accepted", 2)
    happen(board, "accepted", 3)
    happen(board, "received", 3)
    told = Browser(board).look()
    for name in ("queued", "in_flight", "accepted", "delivered"):
        assert told.rest["strip"][name] == sum(name in message["group"] for message in told.messages.values())
    assert told.rest["strip"]["accepted"] == 2


def test_what_others_put_on_the_queue_is_counted_before_anybody_knows_it_and_once() -> None:
    board = Board()

    def queued() -> int:
        number: int = Browser(board).look().rest["strip"]["queued"]
        return number

    happen(board, "put", 0)
    board.measured({Lane.ORDINARY: 1, Lane.URGENT: 2}, is_paused=True)
    assert Browser(board).look().rest["strip"]["depths"] == {"ordinary": 1, "urgent": 2}
    assert queued() == 3
    happen(board, "taken", 0)
    happen(board, "taken", 1)
    assert queued() == 3
    happen(board, "sending", 1)
    assert queued() == 2
    board.measured(None, is_paused=False)
    assert queued() == 2


def test_under_a_key_that_was_used_twice_the_text_is_the_one_that_was_sent() -> None:
    board = Board()
    board.put("k0", submission("second in the queue"))
    board.taken("k0", submission("first in the queue"))
    ledger(board, "k0", payload_sha256=payload("first in the queue"))
    assert Browser(board).look().messages["k0"]["text"] == "first in the queue"
    ledger(board, "k0", payload_sha256=payload("never seen"))
    assert Browser(board).look().messages["k0"]["text"] is None


def test_a_callback_before_the_answer_shows_nothing_until_its_message_is_known() -> None:
    board = Board()
    happen(board, "early callback", 0)
    assert Browser(board).look().messages == {}
    happen(board, "sending", 0)
    happen(board, "accepted", 0)
    assert Browser(board).look().messages["k0"]["status"] == "sent"


def test_a_reply_learns_which_message_it_answers_when_that_becomes_known() -> None:
    board = Board()
    browser = Browser(board)
    reply(board, "r0", "g0")
    assert browser.look().replies["r0"]["message_id"] is None
    happen(board, "received", 0)
    assert browser.look().replies["r0"]["message_id"] == "k0"
    life = board.life("k0")
    assert life is not None
    assert any("the handset replied" in line["text"] for line in life["timeline"])


def test_a_reply_to_nothing_known_belongs_to_no_message() -> None:
    board = Board()
    happen(board, "sending", 0)
    reply(board, "r0")
    assert Browser(board).look().replies["r0"]["message_id"] is None
    life = board.life("k0")
    assert life is not None
    assert not any("the handset replied" in line["text"] for line in life["timeline"])


def test_of_a_message_that_is_not_there_there_is_no_life() -> None:
    assert Board().life("k0") is None


def test_an_opt_out_is_told_with_its_time_and_by_what_and_so_is_its_end() -> None:
    board = Board()
    browser = Browser(board)
    record = OptOutRecord("+61491570006", True, "2026-01-01T00:00:01.000Z", "reply", reply_id="r0")
    change(board, record)
    expected = {"handset": "+61491570006", "opted_out": True, "since": "2026-01-01T00:00:01.000Z", "by": "reply"}
    assert browser.look().opt_outs == {"+61491570006": expected}
    happen(board, "event", 0)
    assert "opt_outs" not in json.loads(board.changes(browser.revision)[1]), "told once"
    change(board, OptOutRecord("+61491570006", False, "2026-01-01T00:00:02.000Z", "person", operator="kim"))
    told = browser.look().opt_outs["+61491570006"]
    assert (told["opted_out"], told["by"], "operator" in told) == (False, "person", False)


def test_a_page_that_slept_gets_the_latest_state_and_no_backlog() -> None:
    board = Board()
    browser = Browser(board).look()
    for _ in range(50):
        for what in ("sending", "accepted", "received", "event"):
            happen(board, what, 0)
    assert browser.look().sizes[-1] == 1
    for _ in range(EVENTS_KEPT + 10):
        happen(board, "event", 0)
    seen = len(browser.events)
    browser.look()
    assert len(browser.events) - seen == EVENTS_KEPT


def test_of_very_many_a_new_page_gets_the_newest_and_numbers_of_all() -> None:
    board = Board()
    for number in range(MESSAGES_AT_FIRST + 5):
        ledger(board, f"m{number}")
    board.dead_letters([dead_letter(number, "-") for number in range(DEAD_LETTERS_SHOWN + 5)], [])
    told = Browser(board).look()
    assert len(told.messages) == MESSAGES_AT_FIRST
    assert list(told.messages)[-1] == f"m{MESSAGES_AT_FIRST + 4}"
    assert told.rest["strip"]["in_flight"] == MESSAGES_AT_FIRST + 5
    assert (len(told.rest["dead_letters"]), told.rest["strip"]["dead_letters"]) == (
        DEAD_LETTERS_SHOWN,
        DEAD_LETTERS_SHOWN + 5,
    )


def test_hostile_text_leaves_the_form_of_the_stream_alone() -> None:
    board = Board()
    board.put("k0", submission("a\n\ndata: x\r\nevent: y\u2028 </script> \u202e"))
    _, text = board.changes(0)
    assert "\n" not in text
    assert "\r" not in text
    assert json.loads(text)["messages"][0]["text"] == "a\n\ndata: x\r\nevent: y\u2028 </script> \u202e"


def test_whoever_waits_is_woken_by_a_change_and_by_the_end() -> None:
    board = Board()
    woken: list[bool] = []
    waiting = threading.Thread(target=lambda: woken.append(board.wait_for_change(0, 60)))
    waiting.start()
    happen(board, "event", 0)
    waiting.join(30)
    assert woken == [True]
    revision, _ = board.changes(0)
    assert not board.wait_for_change(revision, 0)
    pausing = threading.Thread(target=board.pause, args=(60,))
    pausing.start()
    board.close()
    pausing.join(30)
    assert not pausing.is_alive()
    assert board.wait_for_change(revision, 60)


def test_what_is_the_same_as_before_wakes_nobody() -> None:
    board = Board()
    board.set("faults", {"active": []})
    board.measured(dict.fromkeys(Lane, 0), is_paused=False)
    before = board.revision
    board.set("faults", {"active": []})
    board.measured(dict.fromkeys(Lane, 0), is_paused=False)
    assert board.revision == before


def test_examples_are_marked_by_message_id_and_those_that_are_no_message_by_their_body() -> None:
    board = Board()
    board.examples(["example-1", "not JSON"])
    for key in ("example-1", "own"):
        board.put(key, submission())
    letters = [
        ReceivedDeadLetter(sqs_id, body, "invalid", "", "", key, None)
        for sqs_id, body, key in (("1", "not JSON", "1"), ("2", "{}", "example-1"), ("3", "{}", "own"))
    ]
    board.dead_letters(letters, [])
    browser = Browser(board)
    browser.look()
    assert {key: each["example"] for key, each in browser.messages.items()} == {"example-1": True, "own": False}
    assert [each["example"] for each in browser.rest["dead_letters"]] == [True, True, False]
    assert (browser.rest["strip"]["dead_letters"], browser.rest["strip"]["dead_letters_of_examples"]) == (3, 2)
