"""Put messages on the queue: one, or many in batches of ten that a journal records."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cli.checked_message import CheckedMessage
from cli.journal import Journal

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

T = TypeVar("T")

BATCH: Final = 10  # SQS's limit
SQS_COUNTS_AFTER_SECONDS: Final = 60
"""SQS's counts are exact a minute after the last message was sent to the queue (SQS API reference)."""
_ATTEMPTS: Final = 5  # for messages of a batch that SQS failed to accept by its own fault


def queue_one(sqs: SQSClient, url: str, checked: CheckedMessage) -> None:
    """Queue one message."""
    sqs.send_message(QueueUrl=url, **checked.request)


@contextlib.contextmanager
def stopping_between_batches() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C, SIGTERM or SIGHUP came, so that work stops between two batches.

    In other threads it returns False, because Python handles signals only in the main thread.
    """
    asked: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    every = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if is_main else ()
    signals = [number for number in every if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores SIGHUP
    before = [signal.signal(number, lambda number, _frame: asked.append(number)) for number in signals]
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def queue_all(
    sqs: SQSClient,
    url: str,
    waiting: Iterable[CheckedMessage],
    journal: Journal,
    *,
    progress: Callable[[int], None],
    stop: Callable[[], bool],
) -> list[str]:
    """Queue all messages, ten at a time. Return the message_ids that SQS refused; KeyboardInterrupt if ``stop()``."""
    refused: list[str] = []
    for batch in in_batches(waiting):
        if stop():
            raise KeyboardInterrupt
        message_ids = [checked.message_id for checked in batch]
        journal.queueing(message_ids)
        taken = _queue_batch(sqs, url, batch)
        journal.done(taken)
        refused += [message_id for message_id in message_ids if message_id not in taken]
        progress(len(batch))
    return refused


def in_batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield the items in lists, each as long as one request to SQS allows."""
    left = iter(items)
    while batch := list(islice(left, BATCH)):
        yield batch


def _queue_batch(sqs: SQSClient, url: str, batch: Sequence[CheckedMessage]) -> list[str]:
    """Return the message_ids that SQS accepted. Messages that failed by SQS's fault are retried."""
    left = {str(number): checked for number, checked in enumerate(batch)}
    taken: list[str] = []
    for again in range(_ATTEMPTS):
        entries: Any = [{"Id": number, **checked.request} for number, checked in left.items()]
        response = sqs.send_message_batch(QueueUrl=url, Entries=entries)
        taken += [left.pop(entry["Id"]).message_id for entry in response.get("Successful", [])]
        if not any(not failed.get("SenderFault", False) for failed in response.get("Failed", [])):
            break
        time.sleep(0.2 * 2**again)
    return taken
