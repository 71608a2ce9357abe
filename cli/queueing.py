"""Put messages on the queue: one, or many in batches of ten that are noted in a journal."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from cli.checked_message import Ready
from cli.journal import Journal

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

BATCH: Final = 10  # SQS's most
SQS_COUNTS_AFTER_SECONDS: Final = 60
"""SQS's counts of a queue are right a minute after the last message was sent to it (its API reference says so)."""
_TRIES: Final = 5  # of what SQS did not take from a batch through no fault of the message


def queue_one(sqs: SQSClient, url: str, ready: Ready) -> None:
    """Put one message on the queue."""
    sqs.send_message(QueueUrl=url, MessageBody=ready.body)


@contextlib.contextmanager
def stopping_between_batches() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C, SIGTERM or the end of the terminal has come: not obeyed within a batch, or nobody would know
    what of it was queued.
    """
    asked: list[int] = []
    every = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signals = [number for number in every if signal.getsignal(number) is not signal.SIG_IGN]  # as nohup wants it
    before = [signal.signal(number, lambda number, _frame: asked.append(number)) for number in signals]
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def queue_all(
    sqs: SQSClient,
    url: str,
    waiting: Iterable[Ready],
    journal: Journal,
    *,
    progress: Callable[[int], None],
    stop: Callable[[], bool],
) -> list[str]:
    """Put all of them on the queue, ten at a time; the keys that SQS would not take. KeyboardInterrupt to ``stop``."""
    refused: list[str] = []
    for batch in _batches(waiting):
        if stop():
            raise KeyboardInterrupt
        keys = [ready.key for ready in batch]
        journal.queueing(keys)
        taken = _queue_batch(sqs, url, batch)
        journal.done(taken)
        refused += [key for key in keys if key not in taken]
        progress(len(batch))
    return refused


def _batches(waiting: Iterable[Ready]) -> Iterator[list[Ready]]:
    batch: list[Ready] = []
    for ready in waiting:
        batch.append(ready)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _queue_batch(sqs: SQSClient, url: str, batch: Sequence[Ready]) -> list[str]:
    """The keys that were taken; those that failed at SQS's end are tried again."""
    left = {str(number): ready for number, ready in enumerate(batch)}
    taken: list[str] = []
    for again in range(_TRIES):
        entries: Any = [{"Id": number, "MessageBody": ready.body} for number, ready in left.items()]
        answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
        taken += [left.pop(entry["Id"]).key for entry in answer.get("Successful", [])]
        if not any(not failed.get("SenderFault", False) for failed in answer.get("Failed", [])):
            break
        time.sleep(0.2 * 2**again)
    return taken
