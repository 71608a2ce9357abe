"""Operators of the schedules: the command line's `resolve`, `redrive` and `recall` on the world's queues and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import BotoCoreError

from cli.dead_letter_queue import DeadLetterQueue
from cli.recalling import Wanted, recall_waiting
from cli.redrive_plan import apply_plan, make_plan
from cli.unknown_outcomes import resolve_not_sent, resolve_sent
from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.ledger import KEEP_SECONDS

if TYPE_CHECKING:
    from optus_sms.records.ledger import Ledger
    from optus_sms.records.messages import Messages
    from tests.deep.schedules import World

HELD_SECONDS: Final = 300
# Until an operator decides: what was on its way to the gateway when the outcome became unknown shows in its portal.
LOOK_AFTER_SECONDS: Final = 600
MODULES: Final = ("cli.unknown_outcomes", "cli.redrive_plan", "cli.dead_letter_queue", "cli.recalling")
_OUTBOUND: Final = "outbound"


@dataclass
class Letter:
    """A message on the dead-letter queue; another reader sees it after ``held_until``."""

    sqs_id: str
    body: str
    attributes: Mapping[str, str]
    held_until: float = 0.0


class WorldTime:
    """What the command line's modules have for `time`."""

    def __init__(self) -> None:
        self.world: World | None = None

    def time(self) -> float:
        assert self.world is not None
        return self.world.now


TIME: Final = WorldTime()


class WorldSqs:
    """SQS as the command line calls it; each call is a step."""

    def __init__(self, world: World) -> None:
        self._world = world

    def receive_message(self, **request: Any) -> dict[str, Any]:
        receive = self._receive_outbound if request["QueueUrl"] == _OUTBOUND else self._receive
        return cast("dict[str, Any]", self._world.ports.read("sqs.receive_message", receive))

    def _receive_outbound(self) -> dict[str, Any]:
        """One at a time, so that the command works in one thread."""
        waiting = next((each for each in self._world.queue.values() if each.visible_at <= self._world.now), None)
        if waiting is None:
            return {}
        waiting.visible_at = self._world.now + HELD_SECONDS
        waiting.receives += 1
        return {
            "Messages": [
                {
                    "MessageId": waiting.name,
                    "ReceiptHandle": waiting.name,
                    "Body": waiting.body,
                    "Attributes": {"SentTimestamp": str(int(waiting.sent_at * 1000))},
                    "MessageAttributes": {name: {"StringValue": value} for name, value in waiting.attributes.items()},
                }
            ]
        }

    def _receive(self) -> dict[str, Any]:
        free = [letter for letter in self._world.dead_letters if letter.held_until <= self._world.now]
        for letter in free:
            letter.held_until = self._world.now + HELD_SECONDS
        return {
            "Messages": [
                {
                    "MessageId": letter.sqs_id,
                    "ReceiptHandle": letter.sqs_id,
                    "Body": letter.body,
                    "Attributes": {"SentTimestamp": str(int(self._world.time.epoch * 1000))},
                    "MessageAttributes": {name: {"StringValue": value} for name, value in letter.attributes.items()},
                }
                for letter in free
            ]
        }

    def delete_message(self, **request: Any) -> None:
        self._world.ports.write("sqs.delete_message", lambda: self._delete(request["ReceiptHandle"]))

    def _delete(self, sqs_id: str) -> None:
        if self._world.queue.pop(sqs_id, None):
            self._world.tell(f"{sqs_id} is deleted by an operator")
        self._world.dead_letters[:] = [each for each in self._world.dead_letters if each.sqs_id != sqs_id]

    def send_message(self, **request: Any) -> None:
        attributes = {name: value["StringValue"] for name, value in request["MessageAttributes"].items()}
        self._world.ports.write("sqs.send_message", lambda: self._world.enqueue(request["MessageBody"], attributes))

    def change_message_visibility_batch(self, **request: Any) -> None:
        handles = {entry["ReceiptHandle"] for entry in request["Entries"]}
        self._world.ports.write("sqs.change_message_visibility_batch", lambda: self._release(handles))

    def _release(self, handles: set[str]) -> None:
        for letter in self._world.dead_letters:
            if letter.sqs_id in handles:
                letter.held_until = 0.0
        for waiting in self._world.queue.values():
            if waiting.name in handles:
                waiting.visible_at = self._world.now

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        return {"Attributes": {"ApproximateNumberOfMessagesNotVisible": "0"}}


class Operator:
    """One command of one operator, who sees in the gateway's portal whether the message was accepted."""

    def __init__(self, world: World, ledger: Ledger, messages: Messages, message_id: str) -> None:
        TIME.world = self._world = world
        self._message_id = message_id
        self._target: Any = SimpleNamespace(
            ledger=ledger,
            messages=messages,
            sqs=WorldSqs(world),
            dead_letter_queue=self._queue,
            outputs={"OutboundQueueUrl": _OUTBOUND, "UrgentQueueUrl": "urgent"},
            operator="an operator",
            stack_id="a stack",
        )

    def _queue(self, output: str = "", what: str = "") -> DeadLetterQueue:
        sqs: Any = WorldSqs(self._world)
        return DeadLetterQueue(sqs, _OUTBOUND if output == "OutboundQueueUrl" else "dead-letters", what=what)

    def work(self) -> None:
        """Resolve or redrive; an error of AWS ends the command, as it does on a terminal."""
        self._run(self._resolve if self._world.rng.random() < 0.6 else self._redrive)

    def recall(self) -> None:
        """Recall the message by its key, or everything that waits in the queue, which is not even paused."""
        self._run(self._recall_key if self._world.rng.random() < 0.4 else self._recall_waiting)

    def _run(self, command: Callable[[], None]) -> None:
        try:
            command()
        except BotoCoreError:
            self._world.tell("the command ends with an error")

    def _recall_key(self) -> None:
        """Only the write, as if the record was read long ago."""
        now = self._world.now
        record = LedgerRecord(self._message_id, ttl=int(now) + KEEP_SECONDS)
        refused_by = self._target.ledger.recall(record, by="an operator", now=now)
        self._world.tell(f"recall: {refused_by.state if refused_by else 'done'}")

    def _recall_waiting(self) -> None:
        for done in recall_waiting(self._target, Wanted(), dry_run=False):
            self._world.tell(f"recall: {[each.result for each in done]}")

    def _resolve(self) -> None:
        world = self._world
        record = self._target.ledger.read(self._message_id)
        # An EXPIRED one has no dead letter, so that its sender would have to queue it again.
        if record is None or not record.has_open_outcome or record.state in (State.ACCEPTED, State.EXPIRED):
            return
        if world.now < record.unknown_at + LOOK_AFTER_SECONDS:
            return
        if world.acceptances:
            gateway_id = world.rng.choice([None, *(acceptance.gateway_id for acceptance in world.acceptances)])
            done = [resolve_sent(self._target, record, gateway_id, by="an operator")]
        else:
            done = resolve_not_sent(self._target, [record], by="an operator")
        world.tell(f"an operator: {done[0].result}")

    def _redrive(self) -> None:
        """Apply a plan; some operators want to send whatever is there."""
        world = self._world
        plan, _ = make_plan(self._target)
        if world.rng.random() < 0.4:
            items = [item.model_copy(update={"action": "send"}) for item in plan.items]
            plan = plan.model_copy(update={"items": items})
        for step in apply_plan(plan, self._target):
            world.tell(f"redrive: {step.result} {step.why}")
