"""Shows live what happens: one aligned line per step of a message, or one progress line for many."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from local.demo.watcher import Change, Item, SeenDeadLetter
from optus_sms.model.redaction import partly_hidden, without_numbers

_COLOURS = {"good": "32", "bad": "31", "waiting": "33", "faint": "2"}
_LEDGER_WORDS = {
    "RETRY": ("waiting", "not taken by the gateway, will be tried again"),
    "ACCEPTED": ("", "accepted"),
    "REJECTED": ("bad", "rejected"),
    "EXPIRED": ("waiting", "expired before it could be sent"),
    "UNKNOWN": ("bad", "outcome unknown, not sent again without proof"),
}
_BAD_STATUSES = {"failed", "frozen", "deficient", "blocked", "expired", "rejected", "dead"}
_LINES_EVERY_SECONDS = 5.0
_DETAIL_SHOWN = 80
"""Characters; the whole of it is in the dead letter."""


class Display:
    """Writes lines to a stream; colours and a moving progress line only on a terminal."""

    def __init__(self, stream: TextIO = sys.stdout, *, quiet: bool = False) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._lock = threading.Lock()
        self._progress_shown = ""
        self._progress_at = 0.0
        self._quiet = int(quiet)

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """Meanwhile single messages are not shown, because there are many."""
        with self._lock:
            self._quiet += 1
        try:
            yield
        finally:
            with self._lock:
                self._quiet -= 1

    def line(self, text: str = "") -> None:
        """A line of its own."""
        with self._lock:
            self._clear_progress()
            print(text, file=self._stream, flush=True)

    def progress(self, text: str, *, final: bool = False) -> None:
        """The state of many messages: on a terminal one line that changes, elsewhere a line every few seconds."""
        with self._lock:
            now = time.monotonic()
            if self._is_terminal:
                end = "\n" if final else ""
                print(f"\r\x1b[K{text}", end=end, file=self._stream, flush=True)
                self._progress_shown = "" if final else text
            elif final or now - self._progress_at >= _LINES_EVERY_SECONDS:
                print(text, file=self._stream, flush=True)
                self._progress_at = now

    def queued(self, key: str, number: str, what: str) -> None:
        """A message was put on the queue."""
        self._step(key, number, f"queued: {what}")

    def change(self, change: Change) -> None:
        """Something changed in one of the tables."""
        table, key, before, after = change
        if table == "ledger":
            self._ledger_change(key, before, after)
        elif table == "health":
            self._health_change(before, after)
        elif after.get("direction") == "MO":
            if before.get("in_reply_to") != after.get("in_reply_to") or "content" not in before:
                self._reply(after)
        elif after.get("status") != before.get("status"):
            self._status(after)

    def dead_letter(self, letter: SeenDeadLetter) -> None:
        """A message came into the dead-letter queue."""
        detail = without_numbers(letter.detail)
        detail = detail if len(detail) <= _DETAIL_SHOWN else f"{detail[:_DETAIL_SHOWN]}…"
        self._step(letter.message_id, "", f"dead letter, {letter.reason}: {detail}", "bad")

    def dead_letters_gone(self, sqs_ids: Sequence[str]) -> None:
        """Whoever took them out knows; no line."""

    def event(self, event: Item) -> None:
        """An event came over the bus."""
        detail = event["detail"]
        key = str(detail.get("message_id") or detail.get("gateway_id", "")[:8])
        what = " ".join(str(detail[name]) for name in ("status", "state") if name in detail)
        self._step(key, "", f"event: {event['detail-type']} {what}".rstrip(), "faint")

    def coloured(self, text: str, colour: str) -> str:
        """The text, in colour where there is colour."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour and self._is_terminal else text

    def _ledger_change(self, key: str, before: Item, after: Item) -> None:
        state = str(after.get("state"))
        if state == before.get("state") or state not in _LEDGER_WORDS:
            return
        colour, words = _LEDGER_WORDS[state]
        if state == "ACCEPTED":
            words = f"accepted by the gateway as {str(after.get('gateway_id', 'without an id'))[:8]}"
        elif after.get("reason") and after["reason"] != words:
            words += f" ({after['reason']})"
        number = after.get("destination") or before.get("destination") or ""
        self._step(key, str(number), words, colour)

    def _health_change(self, before: Item, after: Item) -> None:
        """The health check's outcome, and its pauses."""
        state = str(after.get("state"))
        if state != before.get("state", "unknown"):
            colour = {"healthy": "good", "unhealthy": "bad"}.get(state, "waiting")
            self._step("gateway", "", f"{state}: {after.get('reason')}", colour)
        if "paused_by" in after and "paused_by" not in before:
            words = str(after.get("pause_reason")).replace("_", " ")
            self._step("sending", "", f"paused ({words}): messages wait in the queue", "waiting")
        elif "paused_by" in before and "paused_by" not in after:
            by_hand = " by hand" if "resumed_by_operator" in after else ""
            self._step("sending", "", f"resumed{by_hand}", "good")

    def _status(self, after: Item) -> None:
        status = str(after.get("status"))
        if status == "accepted":
            return  # the ledger has said so
        colour = "good" if status == "received" else "bad" if status in _BAD_STATUSES else ""
        self._step(
            str(after.get("message_id", after["id"][:8])),
            str(after.get("handset", "")),
            f"status {status}",
            colour,
        )

    def _reply(self, after: Item) -> None:
        match = after.get("reply_match")
        tied = (
            f"answers {str(after['in_reply_to'])[:8]}, {match}" if after.get("in_reply_to") else "answers nothing known"
        )
        self._step(after["id"][:8], str(after.get("handset", "")), f"reply stored ({tied})", "good")

    def _step(self, key: str, number: str, what: str, colour: str = "") -> None:
        if not self._quiet:
            now, shown = time.strftime("%H:%M:%S"), partly_hidden(number) if number else ""
            self.line(f"{self.coloured(now, 'faint')}  {key[:28]:<28}  {shown:<12}  {self.coloured(what, colour)}")

    def _clear_progress(self) -> None:
        if self._progress_shown:
            print("\r\x1b[K", end="", file=self._stream)
            self._progress_shown = ""
