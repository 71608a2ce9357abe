"""Load from the page: one at a time, reported to its end, and none after the end of the page."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import EndpointConnectionError

from local.demo.load import Load, Progress
from local.page.actions import ActionRefusedError, Actions, _Load
from local.page.board import Board


class FakeLoad:
    """Runs until it is told to go on or stopped; `fails`: what it raises then."""

    def __init__(self, count: int, fails: Exception | None = None) -> None:
        self.count, self.fails = count, fails
        self.begun, self.goes_on, self.stopped = threading.Event(), threading.Event(), False

    def stop(self) -> None:
        self.stopped = True
        self.goes_on.set()

    def run(self, tell: Callable[[Progress], None], quiet_seconds: float | None) -> Progress:
        assert quiet_seconds is None, "a fault may last for as long as somebody likes"
        tell(Progress(self.count, queued=1))
        self.begun.set()
        assert self.goes_on.wait(30)
        if self.fails:
            raise self.fails
        return Progress(self.count, queued=self.count, finished=1 if self.stopped else self.count)


class Site:
    """A load on a board, with loads that are held until a test lets them go."""

    def __init__(self) -> None:
        self.board = Board()
        self.loads: list[FakeLoad] = []
        self.quiet: list[bool] = []
        self.fails: Exception | None = None
        self.load = _Load(self._new_load, self.board, self._quietly)

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.board.changes(0)[1])["load"]
        return found

    def _new_load(self, count: int) -> Load:
        self.loads.append(FakeLoad(count, self.fails))
        return cast("Load", self.loads[-1])

    @contextlib.contextmanager
    def _quietly(self) -> Iterator[None]:
        self.quiet.append(True)
        yield
        self.quiet.append(False)


def test_a_load_is_told_from_its_start_to_its_end() -> None:
    site = Site()
    site.load.start(5)
    (load,) = site.loads
    assert load.begun.wait(30)
    assert (site.told["queued"], site.told["done"]) == (1, False)
    load.goes_on.set()
    site.load._thread.join(30)  # type: ignore[union-attr]
    assert site.told | {"seconds": 0} == {
        "total": 5, "queued": 5, "decided": 0, "accepted": 0, "received": 0, "finished": 5,
        "seconds": 0, "done": True, "problem": None,
    }  # fmt: skip
    assert site.quiet == [True, False]


def test_a_second_one_is_refused_until_the_first_has_ended() -> None:
    site = Site()
    site.load.start(5)
    with pytest.raises(ActionRefusedError, match="already") as refused:
        site.load.start(5)
    assert refused.value.status == 409
    site.load.stop()
    site.load._thread.join(30)  # type: ignore[union-attr]
    assert site.told["problem"] == "Stopped; what is on the queue goes on."
    site.load.start(7)
    assert [load.count for load in site.loads] == [5, 7]
    site.load.close()


def test_a_queue_that_does_not_answer_ends_it_with_a_word() -> None:
    site = Site()
    site.fails = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    site.load.start(5)
    site.load.close()
    assert (site.told["done"], site.told["problem"]) == (True, "The queue does not respond (EndpointConnectionError).")


def test_after_the_end_of_the_page_none_begins() -> None:
    site = Site()
    site.load.stop()
    site.load.close()
    with pytest.raises(ActionRefusedError) as refused:
        site.load.start(5)
    assert refused.value.status == 503
    assert site.loads == []


@pytest.mark.parametrize(
    ("fields", "queue"), [({}, "ordinary"), ({"urgent": False}, "ordinary"), ({"urgent": True}, "urgent")]
)
def test_a_message_goes_by_the_lane_that_is_chosen(fields: dict[str, Any], queue: str) -> None:
    sent: list[dict[str, Any]] = []
    target = SimpleNamespace(
        sqs=SimpleNamespace(send_message=lambda **request: sent.append(request)),
        outputs={"OutboundQueueUrl": "ordinary", "UrgentQueueUrl": "urgent"},
    )
    actions = Actions.__new__(Actions)
    actions._target, actions._board = cast("Any", target), Board()
    actions.send({"destination": "+61491570006", "content": "Hello", **fields})
    assert [request["QueueUrl"] for request in sent] == [queue]
    assert "urgent" not in json.loads(sent[0]["MessageBody"])
    with pytest.raises(ActionRefusedError, match="true or false"):
        actions.send({"destination": "+61491570006", "content": "Hello", "urgent": "yes"})
