"""Shows each step of a message live on an aligned line, or one progress line for many messages."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO

from cli.dead_letter_queue import ReceivedDeadLetter
from cli.output import Tone, one_line, shortened
from cli.timeline import status_tone
from local.demo.watcher import Event
from optus_sms.model.redaction import partly_hidden
from optus_sms.records.changes import Change
from optus_sms.records.items import (
    OPTED_OUT,
    Health,
    HealthRecord,
    LedgerRecord,
    MessageRecord,
    OptOutRecord,
    ReplyRecord,
    State,
)

_COLORS: Mapping[Tone, str] = {"good": "32", "bad": "31", "unsure": "33", "dim": "2"}
_STATES: Mapping[State, tuple[Tone, str]] = {
    State.RETRY: ("unsure", "not taken by the gateway, will be retried"),
    State.ACCEPTED: ("plain", "accepted by the gateway"),
    State.REJECTED: ("bad", "rejected"),
    State.EXPIRED: ("unsure", "expired before it could be sent"),
    State.RECALLED: ("unsure", "recalled before it was sent"),
    State.UNKNOWN: ("bad", "outcome unknown, not sent again without proof"),
}
_HEALTH_TONES: Mapping[Health, Tone] = {Health.HEALTHY: "good", Health.UNHEALTHY: "bad", Health.UNKNOWN: "unsure"}
_LINES_EVERY_SECONDS = 5.0


class Display:
    """Writes lines to a stream; colors and a moving progress line only on a terminal.

    ``on_lost`` is called once, when the stream can't be written; after that nothing is written.
    """

    def __init__(
        self, stream: TextIO = sys.stdout, *, quiet: bool = False, on_lost: Callable[[], None] = lambda: None
    ) -> None:
        self._stream = stream
        self._on_lost = on_lost
        self._is_lost = False
        self._is_terminal = stream.isatty()
        self._lock = threading.Lock()
        self._progress_shown = ""
        self._progress_at = 0.0
        self._quiet = int(quiet)

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """Show no single messages during the block, because there are many."""
        with self._lock:
            self._quiet += 1
        try:
            yield
        finally:
            with self._lock:
                self._quiet -= 1

    def line(self, text: str = "") -> None:
        """Write a line."""
        with self._lock:
            if self._progress_shown:
                self._write("\r\x1b[K")
                self._progress_shown = ""
            self._write(f"{text}\n")

    def progress(self, text: str, *, final: bool = False) -> None:
        """Show the state of many messages: on a terminal one line that changes, elsewhere a line every few seconds."""
        with self._lock:
            now = time.monotonic()
            if self._is_terminal:
                end = "\n" if final else ""
                self._write(f"\r\x1b[K{text}{end}")
                self._progress_shown = "" if final else text
            elif final or now - self._progress_at >= _LINES_EVERY_SECONDS:
                self._write(f"{text}\n")
                self._progress_at = now

    def queued(self, message_id: str, number: str, what: str) -> None:
        """Show that a message was put on the queue."""
        self._step(message_id, number, f"queued: {what}")

    def change(self, change: Change) -> None:
        """Show a change of a table."""
        match change.before, change.after:
            case LedgerRecord() | None as before, LedgerRecord() as after:
                self._ledger_change(before, after)
            case HealthRecord() | None as before, HealthRecord() as after:
                self._health_change(before or HealthRecord(), after)
            case MessageRecord() | None as before, MessageRecord() as after:
                self._status(before, after)
            case before, ReplyRecord() as after:
                if not isinstance(before, ReplyRecord) or before.in_reply_to != after.in_reply_to:
                    self._reply(after)
            case OptOutRecord() | None as before, OptOutRecord() as after:
                if after.opted_out is not (before is not None and before.opted_out):
                    words = f"opted {'out' if after.opted_out else 'back in'}, by {after.by}"
                    self._step("opt-out", after.handset, words, "unsure" if after.opted_out else "good")

    def dead_letters(self, new: Sequence[ReceivedDeadLetter], _gone: Sequence[str]) -> None:
        """Show new dead letters. Those that were removed are not shown, because the user removed them."""
        for each in new:
            words = f"dead letter, {each.reason}: {shortened(each.detail_for_lists())}"
            self._step(each.message_id, "", words, "bad")

    def event(self, event: Event) -> None:
        """Show an event of the bus."""
        detail = event["detail"]
        id_ = str(detail.get("message_id") or detail.get("gateway_id", "")[:8])
        what = " ".join(str(detail[name]) for name in ("status", "state") if name in detail)
        self._step(id_, "", f"event: {event['detail-type']} {what}".rstrip(), "dim")

    def colored(self, text: str, tone: Tone) -> str:
        """Return the text, in color if the stream shows colors."""
        return f"\x1b[{_COLORS[tone]}m{text}\x1b[0m" if tone in _COLORS and self._is_terminal else text

    def _write(self, text: str) -> None:
        if self._is_lost:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # a closed pipe or terminal
            self._is_lost = True
            self._on_lost()

    def _ledger_change(self, before: LedgerRecord | None, after: LedgerRecord) -> None:
        if (before and after.state is before.state) or after.state not in _STATES:
            return
        tone, words = _STATES[after.state]
        if after.state is State.ACCEPTED:
            words += f" as {after.gateway_id[:8]}" if after.gateway_id else ", without an id"
        elif after.reason == OPTED_OUT:
            words = "not sent: its handset has opted out"
        elif after.reason and after.reason != words:
            words += f" ({after.reason})"
        number = after.destination or (before and before.destination) or ""
        self._step(after.message_id, number, words, tone)

    def _health_change(self, before: HealthRecord, after: HealthRecord) -> None:
        """Show a change of the gateway's health, and a pause or resume."""
        if after.state is not before.state:
            self._step("gateway", "", f"{after.state}: {after.reason}", _HEALTH_TONES[after.state])
        if after.pause and not before.pause:
            words = (after.pause.reason or "by hand").replace("_", " ")
            self._step("sending", "", f"paused ({words}): messages wait in the queue", "unsure")
        elif before.pause and not after.pause:
            by_hand = " by an operator" if after.operator_commands > before.operator_commands else ""
            self._step("sending", "", f"resumed{by_hand}", "good")

    def _status(self, before: MessageRecord | None, after: MessageRecord) -> None:
        if after.status in (None, "accepted", before and before.status):  # `accepted` was shown from the ledger
            return
        self._step(
            after.message_id or after.id[:8], after.handset or "", f"status {after.status}", status_tone(after.status)
        )

    def _reply(self, reply: ReplyRecord) -> None:
        to = f"to {reply.in_reply_to[:8]}, {reply.reply_match}" if reply.in_reply_to else "to nothing known"
        self._step(reply.id[:8], reply.handset or "", f"reply stored ({to})", "good")

    def _step(self, id_: str, number: str, what: str, tone: Tone = "plain") -> None:
        if not self._quiet:
            now, shown = time.strftime("%H:%M:%S"), partly_hidden(number) if number else ""
            words = self.colored(one_line(what), tone)
            self.line(f"{self.colored(now, 'dim')}  {one_line(id_[:28]):<28}  {shown:<12}  {words}")
