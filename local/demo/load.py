"""Sends many messages, with a bounded number on the queue, and counts them until each has an end."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cli.queueing import in_batches
from cli.stage import Stage, stage_of
from local.aws.stack import LocalStack
from local.demo.display import Display
from local.demo.watcher import Seen, Watcher

AHEAD = 100
"""The most messages that wait in the queue: enough for full concurrency, and a stop leaves few behind."""
QUIET_SECONDS = 90.0
"""A load is given up after so many seconds without a change."""
LOOK_EVERY_SECONDS = 1.0
"""The delay until a stop is noticed while nothing changes."""
NUMBERS = ("+61491570006", "+61491570156", "+61491570157", "+61491570158", "+61491570159")
"""Numbers that the regulator reserves for fiction."""

_UNDECIDED = (Stage.NOT_SEEN, Stage.SENDING, Stage.RETRY)


@dataclass(frozen=True)
class Progress:
    """The progress of a load. `decided`: messages without another attempt; `finished`: without another status."""

    total: int
    queued: int = 0
    decided: int = 0
    accepted: int = 0
    received: int = 0
    finished: int = 0

    def __str__(self) -> str:
        """Return the progress as one line."""
        return (
            f"{self.total} messages: {self.queued} queued, {self.accepted} accepted, "
            f"{self.received} received, {self.finished} finished"
        )


def progress_of(message_ids: Sequence[str], queued: int, seen: Seen, *, with_handsets: bool) -> Progress:
    """Count the messages. Without the simulator no delivery is reported, so decided counts as finished. Pure."""
    found = [stage_of(seen.facts(message_id)) for message_id in message_ids]
    decided = sum(each not in _UNDECIDED for each in found)
    on_their_way = found.count(Stage.ACCEPTED)
    accepted = on_their_way + found.count(Stage.RECEIVED) + found.count(Stage.UNDELIVERED)
    return Progress(
        total=len(message_ids),
        queued=queued,
        decided=decided,
        accepted=accepted,
        received=found.count(Stage.RECEIVED),
        finished=decided - on_their_way if with_handsets else decided,
    )


class Load:
    """`count` messages to a few handsets. `run` sends them; `stop` lets it queue no more and return."""

    def __init__(self, stack: LocalStack, watcher: Watcher, count: int) -> None:
        self._watcher = watcher
        self._with_handsets = stack.simulator is not None
        self._sqs, self._queue_url = stack.client("sqs"), stack.outputs["OutboundQueueUrl"]
        self._message_ids = [f"many-{datetime.now(UTC):%H%M%S%f}-{index + 1}" for index in range(count)]
        self._queued = 0
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Queue no more; messages on the queue continue."""
        self._stopping.set()

    def run(self, tell: Callable[[Progress], None], quiet_seconds: float | None = QUIET_SECONDS) -> Progress:
        """Run until all messages are finished, `stop` is called, or nothing changes for so long (None: no limit)."""
        last, quiet_since = Progress(len(self._message_ids)), time.monotonic()
        while not self._stopping.is_set():
            with self._watcher.changed:
                now = self._progress()
            if now != last:
                last, quiet_since = now, time.monotonic()
                tell(now)
            is_quiet = quiet_seconds is not None and time.monotonic() - quiet_since >= quiet_seconds
            if now.finished == now.total or is_quiet:
                break
            self._queue_up_to(min(now.decided + AHEAD, now.total))
            with self._watcher.changed:
                self._watcher.changed.wait_for(lambda before=now: self._progress() != before, LOOK_EVERY_SECONDS)  # type: ignore[misc]
        return last

    def _progress(self) -> Progress:
        return progress_of(self._message_ids, self._queued, self._watcher.seen, with_handsets=self._with_handsets)

    def _queue_up_to(self, wanted: int) -> None:
        for batch in in_batches(range(self._queued, wanted)):
            self._sqs.send_message_batch(QueueUrl=self._queue_url, Entries=[self._entry(index) for index in batch])
            self._queued += len(batch)

    def _entry(self, index: int) -> dict[str, str]:
        body = {
            "message_id": self._message_ids[index],
            "destination": NUMBERS[index % len(NUMBERS)],
            "content": f"Message {index + 1} of {len(self._message_ids)}",
        }
        return {"Id": str(index), "MessageBody": json.dumps(body)}


def run_many(stack: LocalStack, watcher: Watcher, display: Display, count: int) -> bool:
    """Send many messages with a progress line, and return whether every one was delivered.

    With a gateway other than the simulator: whether every one was accepted.
    """
    started = time.monotonic()
    with display.quietly():
        end = Load(stack, watcher, count).run(
            lambda now: display.progress(f"{now}; {time.monotonic() - started:.0f} s")
        )
    seconds = time.monotonic() - started
    display.progress(f"{end}; {seconds:.0f} s, {count / seconds:.0f} a second", final=True)
    return (end.received if stack.simulator is not None else end.accepted) == count
