"""What the watcher makes of the dead-letter queue, and of an item that somebody edited by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from local import watcher
from local.watcher import LOOK_AGAIN_SECONDS, PAUSE_FOR_LETTERS, _DeadLetterQueue, _images


@dataclass
class FakeQueue:
    """SQS, as far as it is used; `held` letters are hidden by somebody else. A receive takes `slow` seconds."""

    letters: list[str] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    slow: float = 0.0
    now: float = 100.0
    receives: int = 0
    _ours: set[str] = field(default_factory=set)

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        visible, hidden = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
        return {"Attributes": {visible: str(len(self.letters) - len(self.held)), hidden: str(len(self.held))}}

    def receive_message(self, **options: Any) -> dict[str, Any]:
        self.now += self.slow
        self.receives += 1
        seen = [name for name in self.letters if name not in self.held | self._ours]
        batch = seen[: options["MaxNumberOfMessages"]]
        self._ours |= set(batch)
        attributes = {"reason": {"StringValue": "invalid"}}
        return {
            "Messages": [
                {"MessageId": name, "Body": name, "ReceiptHandle": name, "MessageAttributes": attributes}
                for name in batch
            ]
        }

    def change_message_visibility_batch(self, **options: Any) -> None:
        assert len(options["Entries"]) <= 10
        self._ours -= {entry["ReceiptHandle"] for entry in options["Entries"] if entry["VisibilityTimeout"] == 0}

    @property
    def all_back(self) -> bool:
        return not self._ours


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> FakeQueue:
    fake = FakeQueue()
    monkeypatch.setattr(watcher, "local_client", lambda *_: fake)
    monkeypatch.setattr(watcher, "time", SimpleNamespace(monotonic=lambda: fake.now))
    return fake


def look(queue: _DeadLetterQueue) -> tuple[list[str], list[str]]:
    letters, gone = queue.look()
    return [letter.sqs_id for letter in letters], gone


def test_each_letter_is_told_once_comes_back_and_is_told_when_it_is_gone(sqs: FakeQueue) -> None:
    queue = _DeadLetterQueue("", "")
    sqs.letters = [f"l{n}" for n in range(25)]
    assert look(queue) == (sqs.letters, [])
    assert sqs.all_back
    receives = sqs.receives
    assert look(queue) == ([], [])
    assert sqs.receives == receives, "nothing new, nothing read"
    sqs.letters = [*sqs.letters[2:], "new"]
    assert look(queue) == (["new"], ["l0", "l1"])
    sqs.letters = []
    assert len(look(queue)[1]) == 24


def test_what_somebody_else_looks_at_is_not_gone_and_looked_for_again(sqs: FakeQueue) -> None:
    queue = _DeadLetterQueue("", "")
    sqs.letters = ["a", "b"]
    look(queue)
    sqs.held, sqs.letters = {"a", "c"}, ["a", "b", "c"]
    assert look(queue) == ([], [])
    assert queue.look_again_in == LOOK_AGAIN_SECONDS
    sqs.held = set()
    assert look(queue) == (["c"], [])
    assert queue.look_again_in is None


def test_of_very_many_letters_reading_takes_a_tenth_of_the_time_and_none_is_lost(sqs: FakeQueue) -> None:
    queue = _DeadLetterQueue("", "")
    sqs.slow, sqs.letters = 1.0, [f"l{n}" for n in range(30)]
    look(queue)
    took = float(sqs.receives)
    sqs.letters.append("late")
    assert look(queue) == ([], [])
    assert queue.look_again_in == PAUSE_FOR_LETTERS * took
    sqs.now += queue.look_again_in
    assert look(queue) == (["late"], [])


def test_an_item_with_something_in_it_that_we_never_store_is_left_out() -> None:
    assert _images({"NewImage": {"pk": {"S": "msg#k"}, "attempts": {"N": "1.5"}}}) is None
    assert _images({"Keys": {"pk": {"S": "msg#k"}}, "OldImage": {"pk": {"S": "msg#k"}}}) is None
    assert _images({"NewImage": {"pk": {"S": "msg#k"}, "attempts": {"N": "1"}}}) == (
        {},
        {"pk": "msg#k", "attempts": 1},
    )
