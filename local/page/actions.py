"""The actions of the page's user. Each receives a request's JSON, and returns the response's JSON or refuses."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from cli.checked_message import check
from cli.errors import Exit
from cli.queueing import queue_one
from cli.target import QUEUES, Target
from local.aws.stack import LocalStack
from local.demo.load import Load, Progress
from local.demo.watcher import Watcher
from local.page import acts, compose, switches
from local.page.board import Board
from local.page.bubble import QueuedMessage
from local.simulator.server import GatewaySimulator
from optus_sms.model.errors import InvalidMessageError
from optus_sms.model.lanes import Lane
from optus_sms.model.times import format_rfc3339

MOST_AT_ONCE: Final = 5000
_REPLY_FIELDS: Final = {
    "handset": ("source", 1, 255),
    "content": ("content", 1, 1530),
    "to": ("destination", 0, 255),
    "in_reply_to": ("reply_to", 0, 255),
}
"""Each with the simulator's name for it and its least and most characters. One that can be empty can be absent."""

Json = Mapping[str, Any]


class ActionRefusedError(Exception):
    """A refusal: HTTP status, error and fix; ``fields``: the errors by field of the queue message."""

    def __init__(self, status: int, words: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(words)
        self.status, self.fields = status, fields or {}


class Actions:
    """The actions of one page. ``quietly``: silences the terminal while many messages are sent."""

    def __init__(
        self,
        stack: LocalStack,
        watcher: Watcher,
        target: Target,
        board: Board,
        quietly: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._stack, self._watcher, self._target, self._board = stack, watcher, target, board
        self._load = _Load(lambda count: Load(stack, watcher, count), board, quietly)

    def stop(self) -> None:
        """End all actions that are under way, and start no new one."""
        self._load.close()

    def validate(self, fields: Json) -> Json:
        """Return the segments and the broken rules of a message as typed."""
        return compose.look(fields)

    def send(self, fields: Json) -> Json:
        """Put a message on a queue, as another system would; on the urgent lane's queue if ``urgent`` is true."""
        urgent = fields.get("urgent", False)
        if not isinstance(urgent, bool):
            raise ActionRefusedError(422, "urgent: must be true or false.")
        fields = {name: value for name, value in fields.items() if name != "urgent"}
        try:
            ready = check(fields, f"page-{uuid.uuid4().hex[:12]}")
        except InvalidMessageError as error:
            raise ActionRefusedError(422, f"Not queued. {error.detail}", compose.by_field(error)) from None
        queued_at = format_rfc3339(time.time())
        lane = Lane.URGENT if urgent else Lane.ORDINARY
        queue_one(self._target.sqs, self._target.outputs[QUEUES[lane]], ready)
        self._board.put(ready.message_id, QueuedMessage(ready.message, queued_at, lane))
        return {"message_id": ready.message_id}

    def start_load(self, fields: Json) -> Json:
        """Send many messages, but only if they cost nothing."""
        count = fields.get("count")
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_AT_ONCE:
            raise ActionRefusedError(422, f"count: must be a whole number from 1 to {MOST_AT_ONCE}.")
        gateway = self._stack.config.gateway
        if gateway is not None and gateway.is_far:
            raise ActionRefusedError(
                409, "This gateway is not on this machine, and its messages can cost money, so no load is sent to it."
            )
        self._load.start(count)
        return {}

    def stop_load(self, _: Json) -> Json:
        """Queue no more messages of the load."""
        self._load.stop()
        return {}

    def reply(self, fields: Json) -> Json:
        """Let a handset reply: the gateway sends a reply callback."""
        if unknown := fields.keys() - _REPLY_FIELDS:
            raise ActionRefusedError(
                422, f"{min(unknown)[:50]!a}: unknown field; the fields are {', '.join(_REPLY_FIELDS)}."
            )
        for name, (_, least, most) in _REPLY_FIELDS.items():
            value = fields.get(name, "")
            if not isinstance(value, str) or not least <= len(value) <= most:
                raise ActionRefusedError(422, f"{name}: must be text of {least} to {most} characters.")
        given = {_REPLY_FIELDS[name][0]: value for name, value in fields.items() if value}
        return {"id": self._simulator().send_reply(**given)}

    def turn_fault(self, fields: Json) -> Json:
        """Switch a fault on or off."""
        simulator = self._simulator()
        try:
            changes = switches.turned(simulator.faults(), fields.get("name"), fields.get("on"), fields.get("value"))
        except ValueError as error:
            raise ActionRefusedError(422, f"{error}.") from None
        return self._faults(simulator.set_faults(**changes))

    def clear_faults(self, _: Json) -> Json:
        """Switch all faults off."""
        return self._faults(self._simulator().clear_faults())

    def pause(self, _: Json) -> Json:
        """Pause sending, as `optus-sms pause` does."""
        self._target.pause_sending()
        return {}

    def resume(self, _: Json) -> Json:
        """Resume sending."""
        self._target.resume_sending()
        return {}

    def act(self, fields: Json) -> Json:
        """Run one of `acts.ACTS` as the command line does, and return its lines."""
        name, id_ = fields.get("act"), fields.get("id")
        if not isinstance(name, str) or name not in acts.ACTS:
            raise ActionRefusedError(422, f"act: must be one of {', '.join(acts.ACTS)}.")
        if not isinstance(id_, str):
            raise ActionRefusedError(422, "id: must be a text, the message_id or SQS ID.")
        with self._watcher.dead_letters_in_use:
            ran = acts.run(name, id_, self._target)
        self._stack.on_activity()  # no function ran, but the tables and the queue have changed
        if ran.exit_code:
            status = 404 if ran.exit_code == Exit.NOT_FOUND else 409
            raise ActionRefusedError(status, "\n".join(text for text, _ in ran.lines))
        return {"command": acts.ACTS[name].command(id_), "lines": [text for text, _ in ran.lines]}

    def _faults(self, faults: dict[str, Any]) -> Json:
        view = switches.view(faults)
        self._board.set("faults", view)
        return view

    def _simulator(self) -> GatewaySimulator:
        if self._stack.simulator is None:
            raise ActionRefusedError(
                409, "The gateway is not the simulator. For faults and replies start make run without GATEWAY_BASE_URL."
            )
        return self._stack.simulator


class _Load:
    """Sends many messages in its own thread, one load at a time, and reports the progress to the board."""

    def __init__(
        self, new_load: Callable[[int], Load], board: Board, quietly: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._new_load, self._board, self._quietly = new_load, board, quietly
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._load: Load | None = None
        self._is_closed = False

    def start(self, count: int) -> None:
        """Start a load. Raise ActionRefusedError while another one is under way, and after `close`."""
        with self._lock:
            if self._is_closed:
                raise ActionRefusedError(503, "make run is ending.")
            if self._thread is not None and self._thread.is_alive():
                raise ActionRefusedError(409, "A load is running already: stop it first, or wait until it ends.")
            self._load = self._new_load(count)
            self._thread = threading.Thread(target=self._run, args=(self._load, count), name="load")
            self._tell(Progress(count), 0.0, done=False)
            self._thread.start()

    def stop(self) -> None:
        """Queue no more messages."""
        with self._lock:
            if self._load is not None:
                self._load.stop()

    def close(self) -> None:
        """Stop, wait for the end, and start no other load."""
        with self._lock:
            self._is_closed = True
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def _run(self, load: Load, count: int) -> None:
        started = time.monotonic()
        end, problem = Progress(count), None
        try:
            with self._quietly():
                end = load.run(lambda now: self._tell(now, time.monotonic() - started, done=False), quiet_seconds=None)
        except (BotoCoreError, ClientError) as error:
            problem = f"The queue does not respond ({type(error).__name__})."
        if problem is None and end.finished < end.total:
            problem = "Stopped; what is on the queue goes on."
        self._tell(end, time.monotonic() - started, done=True, problem=problem)

    def _tell(self, now: Progress, seconds: float, *, done: bool, problem: str | None = None) -> None:
        told = {"seconds": round(seconds, 1), "done": done, "problem": problem}
        self._board.set("load", asdict(now) | told)
