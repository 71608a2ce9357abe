"""The threads of a batch run on one CPU: only they, only during the batch, and all CPUs if the system refuses."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local.aws.app_loader import load_app
from optus_sms.flows.send_message import QueueRecord, SendBatchResult
from optus_sms.model.lanes import Lane
from optus_sms.model.times import Clock
from optus_sms.runtime.one_cpu import on_one_cpu
from tests.support.builders import message_body, sqs_event, sqs_record
from tests.support.fakes import FakeLambdaContext

HANDLER = Path(__file__).parents[3] / "functions" / "send_message" / "app.py"
REFUSED = PermissionError(1, "Operation not permitted")


def cpus_of_a_new_thread() -> set[int]:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(os.sched_getaffinity, 0).result()


@pytest.fixture
def all_cpus() -> Iterator[set[int]]:
    """The CPUs of this thread, restored after the test."""
    if sys.platform != "linux":
        pytest.skip("only Linux lets a thread choose its CPUs")
    before, allow = os.sched_getaffinity(0), os.sched_setaffinity  # a test may have replaced it by the end
    yield before
    allow(0, before)


@pytest.fixture
def two_cpus(all_cpus: set[int]) -> set[int]:
    if len(all_cpus) < 2:
        pytest.skip("this machine has one CPU")
    return all_cpus


def test_this_thread_and_those_it_starts_share_one(two_cpus: set[int]) -> None:
    with on_one_cpu():
        here, there = os.sched_getaffinity(0), cpus_of_a_new_thread()
    assert len(here) == 1
    assert here == there
    assert here < two_cpus


def test_afterwards_all_again(two_cpus: set[int]) -> None:
    with on_one_cpu():
        pass
    assert os.sched_getaffinity(0) == cpus_of_a_new_thread() == two_cpus


def test_after_an_error_all_again(two_cpus: set[int]) -> None:
    with pytest.raises(ValueError, match="the batch failed"), on_one_cpu():
        raise ValueError("the batch failed")
    assert os.sched_getaffinity(0) == two_cpus


def test_a_thread_that_runs_already_keeps_its_own(two_cpus: set[int]) -> None:
    asked, seen = threading.Event(), list[set[int]]()

    def look() -> None:
        asked.wait(60)
        seen.append(os.sched_getaffinity(0))

    other = threading.Thread(target=look, daemon=True)
    other.start()
    with on_one_cpu():
        asked.set()
        other.join()
    assert seen == [two_cpus]


def test_what_was_narrowed_before_stays_narrow(two_cpus: set[int]) -> None:
    narrow = {min(two_cpus)}
    os.sched_setaffinity(0, narrow)
    with on_one_cpu():
        assert os.sched_getaffinity(0) == narrow
    assert os.sched_getaffinity(0) == narrow


def test_of_its_cpus_each_gets_its_turn(all_cpus: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, set[int]]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _thread: {2, 5, 7})
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, cpus: asked.append((thread, set(cpus))))
    for _ in range(100):  # to miss one of three: once in 10^17 runs
        with on_one_cpu():
            pass
    narrowed, restored = asked[::2], asked[1::2]
    assert restored == [(0, {2, 5, 7})] * 100  # 0: this thread
    assert {(thread, *cpus) for thread, cpus in narrowed} == {(0, 2), (0, 5), (0, 7)}


def test_a_thread_that_is_not_the_first_narrows_itself(two_cpus: set[int]) -> None:
    def narrowed() -> tuple[set[int], set[int]]:
        with on_one_cpu():
            return os.sched_getaffinity(0), os.sched_getaffinity(threading.main_thread().native_id or 0)

    with ThreadPoolExecutor(1) as pool:
        there, first = pool.submit(narrowed).result()
    assert len(there) == 1
    assert first == two_cpus


@pytest.mark.parametrize("refused", ["sched_getaffinity", "sched_setaffinity"])
def test_where_the_system_refuses_the_work_is_done(
    all_cpus: set[int], monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def refuse(*_: object) -> None:
        raise REFUSED

    monkeypatch.setattr(os, refused, refuse)
    done = []
    with on_one_cpu():
        done.append("the batch")
    assert done == ["the batch"]


def test_where_the_system_knows_no_such_thing_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    done = []
    with on_one_cpu():
        done.append("the batch")
    assert done == ["the batch"]


def test_the_sender_sends_its_batches_so(two_cpus: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[int]] = []

    def send_batch(records: Sequence[QueueRecord], **_: Any) -> SendBatchResult:
        seen.append(cpus_of_a_new_thread())
        return SendBatchResult(failures=tuple(record.sqs_message_id for record in records), measurements=())

    app, queues = load_app(HANDLER), SimpleNamespace(lane_of=lambda _: Lane.ORDINARY)
    monkeypatch.setattr(app, "sender", lambda: SimpleNamespace(clock=Clock(), queues=queues, send_batch=send_batch))
    event = sqs_event(sqs_record(message_body(), name="one"))
    assert app.lambda_handler(event, FakeLambdaContext())["batchItemFailures"]
    assert [len(cpus) for cpus in seen] == [1]
    assert os.sched_getaffinity(0) == two_cpus
