"""Take messages through their steps and send their callbacks, with the platform's retries."""

import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

from local.simulator.callbacks import CallbackUrl, parse_callback_url, post_callback
from local.simulator.config import GatewayConfig
from local.simulator.faults import FaultSwitches
from local.simulator.records import Callback, MessageRecords, SimulatedMessage
from local.simulator.scenarios import SCENARIOS, Callbacks, Reply, StatusStep
from local.simulator.scheduler import Scheduler

OK = 200
OPERATOR = "Optus"


class Deliveries:
    """The side effects of accepted messages. A message's next step is scheduled when the step before is done, so its
    callbacks keep their order however fast the steps are. Only a retry can be overtaken, as on the platform.
    """

    def __init__(self, config: GatewayConfig, records: MessageRecords, switches: FaultSwitches) -> None:
        self._config = config
        self._records = records
        self._switches = switches
        self._scheduler = Scheduler(config.callback_workers)
        self._lock = threading.Lock()
        self._held: list[tuple[SimulatedMessage, Callback]] = []
        self.urls: dict[str, CallbackUrl | None] = {}
        self.set_urls(config.status_callback_url, config.reply_callback_url)

    def set_urls(self, status: str | None, reply: str | None) -> None:
        """Set the callback URLs; None: no callbacks of this kind. Raise ValueError for a text that is not a URL."""
        kinds = {"status": status, "reply": reply}
        self.urls = {kind: None if url is None else parse_callback_url(url) for kind, url in kinds.items()}

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.stop()

    def clear(self) -> None:
        """Drop all scheduled steps, after callbacks under way have arrived."""
        self._scheduler.clear(self._config.callback_timeout_seconds)
        with self._lock:
            self._held.clear()

    def follow(self, message: SimulatedMessage, steps: tuple[StatusStep, ...], start_in_seconds: float) -> None:
        """Schedule the steps one after another, the first one `start_in_seconds` later than its own wait."""
        if steps:
            first, *later = steps
            action = partial(self._step_and_follow, message, first, tuple(later))
            self._scheduler.after(start_in_seconds + first.wait_seconds, action)

    def take_now(self, message: SimulatedMessage, steps: tuple[StatusStep, ...]) -> None:
        """Take all steps in this thread, and return when the receiver has responded."""
        for step in steps:
            self._take(message, step)

    def call_back(self, message: SimulatedMessage, kind: str, body: Mapping[str, Any]) -> None:
        """Send one callback from a worker thread."""
        self._scheduler.after(0, partial(self._send, message, kind, body))

    def release_held(self) -> None:
        """Send the callbacks that were held back."""
        with self._lock:
            held, self._held = self._held, []
        for message, callback in held:
            self._scheduler.after(0, partial(self._try, message, callback))

    def status_body(self, message: SimulatedMessage, status: str) -> dict[str, Any]:
        """Return a StatusCallback. A setting names the ID's field, because the two REST v2 documents differ."""
        id_key: str = self._config.id_key
        if message.scenario is not None and SCENARIOS[message.scenario].callbacks is Callbacks.OTHER_ID_KEY:
            id_key = "id" if id_key == "message_id" else "message_id"
        return {id_key: message.id, "status": status, "detail": f"simulated {status}", **self.reference_of(message)}

    def reply_fields(self, message: SimulatedMessage, reply: Reply) -> dict[str, Any]:
        """Return a ReplyCallback without its ID (the REST v2 page). `reference` comes only together with `reply_to`."""
        fields = {
            "source": message.fields["destination"],
            "destination": message.fields.get("source", self._config.source),
            "content": reply.content,
            "operator": OPERATOR,
        }
        if reply.linked:
            fields |= {"reply_to": message.id, **self.reference_of(message)}
        if reply.encoding is not None:
            fields["encoding"] = reply.encoding
        return fields

    def reply(self, fields: Mapping[str, Any], copies: int = 1) -> SimulatedMessage:
        """Record a handset's message, then call back `copies` times."""
        message = self._records.new("MO", fields, "queued")
        body = {"id": message.id, **fields}
        for _ in range(copies):
            self.call_back(message, "reply", body)
        return message

    def reference_of(self, message: SimulatedMessage) -> dict[str, Any]:
        """Return the reference for callbacks; empty if there is none or it is not echoed."""
        reference = message.fields.get("reference")
        return {"reference": reference} if self._config.echo_reference and reference is not None else {}

    def _step_and_follow(self, message: SimulatedMessage, step: StatusStep, later: tuple[StatusStep, ...]) -> None:
        if self._records.knows(message):
            self._take(message, step)
            self.follow(message, later, 0)

    def _take(self, message: SimulatedMessage, step: StatusStep) -> None:
        if step.status is not None:
            self._records.reached(message, step.status)
        if step.callback is not None:
            self._send(message, "status", self.status_body(message, step.callback))
        if step.reply is not None:
            self.reply(self.reply_fields(message, step.reply), step.reply.copies)

    def _send(self, message: SimulatedMessage, kind: str, body: Mapping[str, Any]) -> None:
        state = self._switches.current.callbacks
        if self.urls[kind] is None or state == "off":
            return
        callback = Callback(kind, body)
        self._records.called_back(message, callback)
        if state == "held":
            with self._lock:
                self._held.append((message, callback))
        else:
            self._try(message, callback)

    def _try(self, message: SimulatedMessage, callback: Callback) -> None:
        url = self.urls[callback.kind]
        if url is None or not self._records.knows(message):
            return
        challenged = self._config.callback_auth == "challenge"
        result = post_callback(url, callback.body, challenged, self._config.callback_timeout_seconds)
        self._records.tried(message, callback, result)
        if result == OK:
            self._arrived(message, "sent")
        elif len(callback.tries) < self._config.retry_tries:
            self._scheduler.after(self._config.retry_interval_seconds, partial(self._try, message, callback))
        else:
            self._arrived(message, "frozen")

    def _arrived(self, message: SimulatedMessage, status: str) -> None:
        """Set a reply's own status, which is whether the customer has it (the delivery receipts page)."""
        if message.direction == "MO" and message.status != "sent":
            self._records.reached(message, status)
