"""Operators of the schedules: the command line's `resolve`, `redrive`, `recall`, `pause` and `resume` on the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import BotoCoreError

from cli.dead_letter_queue import DeadLetterQueue
from cli.recalling import Wanted, recall_waiting
from cli.redrive_plan import apply_plan, make_plan
from cli.target import QUEUES, Target
from cli.unknown_outcomes import resolve_not_sent, resolve_sent
from optus_sms.aws.queue_switch import QueueSwitch
from optus_sms.model.lanes import Lane
from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.ledger import KEEP_SECONDS

if TYPE_CHECKING:
    from optus_sms.records.ledger import Ledger
    from optus_sms.records.messages import Messages
    from tests.deep.schedules import World

HELD_SECONDS: Final = 300
# How long an operator waits, so that a message that was on the wire when its outcome became unknown shows in the
# portal.
LOOK_AFTER_SECONDS: Final = 600
MODULES: Final = ("cli.unknown_outcomes", "cli.redrive_plan", "cli.dead_letter_queue", "cli.recalling", "cli.target")
URL_OF: Final = {Lane.ORDINARY: "outbound", Lane.URGENT: "urgent"}
DEAD_LETTERS: Final = "dead-letters"
_LANE_OF: Final = {url: lane for lane, url in URL_OF.items()}


@dataclass
class Letter:
    """A message on the dead-letter queue. Other readers see it after ``held_until``.

    ``source``: the queue that SQS moved it from; empty if the sender function wrote it.
    """

    sqs_id: str
    body: str
    attributes: Mapping[str, str]
    held_until: float = 0.0
    source: str = ""

    @property
    def lane(self) -> Lane:
        """As it remembers it."""
        return Lane.URGENT if URL_OF[Lane.URGENT] in (self.source, self.attributes.get("lane")) else Lane.ORDINARY


class WorldTime:
    """Replaces `time` in the command line's modules."""

    def __init__(self) -> None:
        self.world: World | None = None

    def time(self) -> float:
        assert self.world is not None
        return self.world.now


TIME: Final = WorldTime()


class WorldSqs:
    """The SQS client of the functions and the command line; each call is a step. An old receipt may work, as in SQS."""

    def __init__(self, world: World) -> None:
        self._world = world

    def receive_message(self, **request: Any) -> dict[str, Any]:
        lane = _LANE_OF.get(request["QueueUrl"])
        receive = partial(self._receive_waiting, lane) if lane else self._receive
        return cast("dict[str, Any]", self._world.ports.read("sqs.receive_message", receive))

    def _receive_waiting(self, lane: Lane) -> dict[str, Any]:
        """Return one message at a time, so that the command uses one thread."""
        queue = [each for each in self._world.queue.values() if each.lane is lane]
        waiting = next((each for each in queue if each.visible_at <= self._world.now), None)
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
                    "Attributes": {
                        "SentTimestamp": str(int(self._world.time.epoch * 1000)),
                        "DeadLetterQueueSourceArn": f"arn:aws:sqs:ap-southeast-2:123456789012:{letter.source}",
                    },
                    "MessageAttributes": {name: {"StringValue": value} for name, value in letter.attributes.items()},
                }
                for letter in free
            ]
        }

    def delete_message(self, **request: Any) -> None:
        self._world.ports.write(
            "sqs.delete_message", lambda: self._delete(request["QueueUrl"], request["ReceiptHandle"])
        )

    def _delete(self, url: str, handle: str) -> None:
        if url == DEAD_LETTERS:
            self._world.dead_letters[:] = [each for each in self._world.dead_letters if each.sqs_id != handle]
        elif waiting := self._world.waiting(_LANE_OF[url], handle):
            del self._world.queue[waiting.name]
            self._world.tell(f"{waiting.name} is deleted by an operator")

    def send_message(self, **request: Any) -> None:
        self._world.ports.write("sqs.send_message", lambda: self._send(**request))

    def _send(self, QueueUrl: str, MessageBody: str, MessageAttributes: Any) -> None:  # noqa: N803 - boto3's names
        attributes = {name: value["StringValue"] for name, value in MessageAttributes.items()}
        if QueueUrl != DEAD_LETTERS:
            self._world.enqueue(MessageBody, attributes, _LANE_OF[QueueUrl])
            return
        self._world.tell(f"dead letter: {attributes['reason']}")
        self._world.dead_letters.append(Letter(self._world.new_name("dead"), MessageBody, attributes))

    def change_message_visibility(self, **request: Any) -> None:
        def change() -> None:
            if waiting := self._world.waiting(_LANE_OF[request["QueueUrl"]], request["ReceiptHandle"]):
                waiting.visible_at = self._world.now + request["VisibilityTimeout"]

        self._world.ports.write("sqs.change_message_visibility", change)

    def change_message_visibility_batch(self, **request: Any) -> None:
        handles = {entry["ReceiptHandle"] for entry in request["Entries"]}
        release = partial(self._release, request["QueueUrl"], handles)
        self._world.ports.write("sqs.change_message_visibility_batch", release)

    def _release(self, url: str, handles: set[str]) -> None:
        for letter in self._world.dead_letters:
            if url == DEAD_LETTERS and letter.sqs_id in handles:
                letter.held_until = 0.0
        for handle in handles if url != DEAD_LETTERS else ():
            if waiting := self._world.waiting(_LANE_OF[url], handle):
                waiting.visible_at = self._world.now

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        return {"Attributes": {"ApproximateNumberOfMessagesNotVisible": "0"}}


class WorldLambda:
    """Lambda as the command line calls it: the event source mapping of each lane, under the lane's name."""

    def __init__(self, world: World) -> None:
        self._world = world

    def update_event_source_mapping(self, **request: Any) -> None:
        switch = partial(self._world.switch, Lane(request["UUID"]), is_on=request["Enabled"])
        self._world.ports.write("lambda.update_event_source_mapping", switch)


class Operator:
    """A command of an operator, who sees in the gateway's portal whether the message was accepted."""

    def __init__(self, world: World, ledger: Ledger, messages: Messages, message_id: str) -> None:
        TIME.world = self._world = world
        self._message_id = message_id
        client: Any = WorldLambda(world)
        self._target: Any = SimpleNamespace(
            ledger=ledger,
            messages=messages,
            sqs=WorldSqs(world),
            dead_letter_queue=self._queue,
            outputs={output: URL_OF[lane] for lane, output in QUEUES.items()},
            health=world.health,
            switch=QueueSwitch(client, {lane: lane.value for lane in Lane}),
            operator="an operator",
            stack_id="a stack",
        )

    def _queue(self, output: str = "", what: str = "") -> DeadLetterQueue:
        sqs: Any = WorldSqs(self._world)
        url = self._target.outputs.get(output, DEAD_LETTERS)
        return DeadLetterQueue(sqs, url, what=what, urgent_queue=URL_OF[Lane.URGENT])

    def work(self) -> None:
        """Resolve or redrive. An error of AWS ends the command, as on a terminal."""
        self._run(self._resolve if self._world.rng.random() < 0.6 else self._redrive)

    def recall(self) -> None:
        """Recall the message by its key, or everything in the queue, which is not paused."""
        self._run(self._recall_key if self._world.rng.random() < 0.4 else self._recall_waiting)

    def pause(self, lane: Lane) -> None:
        """Pause one lane, whatever the other does."""
        self._run(lambda: Target.pause_sending(self._target, lane))

    def resume(self, lane: Lane) -> None:
        """Resume one lane."""
        self._run(lambda: Target.resume_sending(self._target, lane))

    def _run(self, command: Callable[[], None]) -> None:
        try:
            command()
        except BotoCoreError:
            self._world.tell("the command ends with an error")

    def _recall_key(self) -> None:
        """Make only the write, as if the record was read long ago."""
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
        # An EXPIRED message has no dead letter, so its sender would have to queue it again.
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
        """Apply a plan; some operators change all actions to "send"."""
        world = self._world
        plan, _ = make_plan(self._target)
        if world.rng.random() < 0.4:
            items = [item.model_copy(update={"action": "send"}) for item in plan.items]
            plan = plan.model_copy(update={"items": items})
        for step in apply_plan(plan, self._target):
            world.tell(f"redrive: {step.result} {step.why}")
