"""The example messages. They are put on the queue as another system would, and each has an expected end."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from local.aws.stack import LocalStack
from local.demo.display import Display
from local.demo.watcher import Seen, Watcher
from optus_sms.records.items import State

EVENTS = Path(__file__).resolve().parents[2] / "events" / "sqs"
EXAMPLES_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class End:
    """The expected end of a message; a field that is None does not matter."""

    words: str
    state: State | None = None
    """The state in the ledger."""
    status: str | None = None
    """The gateway's status."""
    dead_letter: str | None = None
    """The reason of its dead letter."""
    replies: int = 0
    opts_out: bool = False
    """Whether its handset has opted out then."""


ACCEPTED = End("accepted by the gateway", state=State.ACCEPTED)
RECEIVED = End("received on the handset", state=State.ACCEPTED, status="received")
REPLIED = replace(RECEIVED, words="received, and a reply", replies=1)
OPTS_OUT = replace(REPLIED, words="received, and an opt-out", opts_out=True)
OPTED_OUT = End("not sent, opted out", state=State.REJECTED)
EXPIRED = End("expired, not sent", state=State.EXPIRED)
REJECTED = End("rejected", state=State.REJECTED, dead_letter="rejected")
UNDELIVERED = End("rejected by the carrier", state=State.ACCEPTED, status="rejected")
UNKNOWN = End("unknown outcome, held", state=State.UNKNOWN, dead_letter="unknown_outcome")
INVALID = End("dead letter: invalid", dead_letter="invalid")


@dataclass(frozen=True)
class Example:
    """A file of events/sqs. `needs_simulator`: the example needs a feature that only the simulator has."""

    file: str
    what: str
    ends: tuple[End, ...]
    """The end of each record; a single one applies to all."""
    needs_simulator: bool = False
    in_turn: bool = False
    """Each record is queued when the one before it has reached its end."""
    scheduled_in: timedelta | None = None
    """The schedule is filled in, because a time in a file would soon be past."""


EXAMPLES = (
    Example("one_message", "a message with what it needs", (RECEIVED,)),
    Example("urgent", "a code on the urgent queue", (RECEIVED,)),
    Example("with_reply", "the handset replies", (REPLIED,), needs_simulator=True),
    Example("opt_out", "a reply STOP, then another message", (OPTS_OUT, OPTED_OUT), needs_simulator=True, in_turn=True),
    Example("many_parts", "long text with emoji", (RECEIVED,)),
    Example("every_field", "every field there is", (RECEIVED,), scheduled_in=timedelta(0)),
    Example("key_as_attribute", "its key as an SQS attribute", (RECEIVED,)),
    Example("scheduled", "for two days from now", (ACCEPTED,), scheduled_in=timedelta(days=2)),
    Example("expired", "too late to be useful", (EXPIRED,)),
    Example("duplicate", "the same message twice", (RECEIVED,)),
    Example("refused_by_gateway", "the gateway says no", (REJECTED,), needs_simulator=True),
    Example("refused_by_carrier", "the carrier says no, later", (UNDELIVERED,), needs_simulator=True),
    Example("lost_response", "the gateway's response is lost", (UNKNOWN,), needs_simulator=True),
    Example("malformed_body", "not JSON", (INVALID,)),
    Example("foreign_body", "another system's message", (INVALID,)),
    Example("mixed_batch", "one good message among nine bad ones", (RECEIVED, *(INVALID,) * 9)),
)


@dataclass(frozen=True)
class Sent:
    """A message on the queue, with its expected end."""

    file: str
    message_id: str
    number: str
    what: str
    body: str
    attributes: dict[str, Any]
    end: End
    queue: str = "OutboundQueueUrl"
    """The output with the queue's URL."""
    after: Self | None = None
    """Queued when this one has reached its end."""

    def reached(self, seen: Seen) -> bool:
        """Return whether the message has reached its expected end."""
        facts = seen.facts(self.message_id)
        return (
            self.end.state in (None, facts.ledger and facts.ledger.state)
            and self.end.status in (None, facts.status)
            and self.end.dead_letter in (None, *self._dead_letters(seen))
            and len(seen.replies_to(facts.gateway_id)) >= self.end.replies
            and (not self.end.opts_out or self.number in seen.opt_outs)
        )

    def now(self, seen: Seen) -> str:
        """Return the message's actual state, for the report."""
        facts = seen.facts(self.message_id)
        state = facts.ledger.state if facts.ledger else "not in the ledger"
        return ", ".join(
            (state, facts.status or "no status", *(f"dead letter {reason}" for reason in self._dead_letters(seen)))
        )

    def _dead_letters(self, seen: Seen) -> list[str]:
        return [dead_letter.reason for dead_letter in seen.dead_letters if dead_letter.body == self.body]


def marks(sent: list[Sent]) -> set[str]:
    """Return what identifies an example: its message_id, and its body if that is not a message."""
    return {message.message_id for message in sent} | {message.body for message in sent if message.end is INVALID}


def example_messages(*, with_simulator: bool, now: datetime | None = None) -> Iterator[Sent]:
    """Return all example messages. Without the simulator there is no handset, so their expected end is ACCEPTED."""
    for example in EXAMPLES:
        if example.needs_simulator and not with_simulator:
            continue
        records = json.loads((EVENTS / f"{example.file}.json").read_text(encoding="utf-8"))["Records"]
        ends = example.ends * len(records) if len(example.ends) == 1 else example.ends
        before = None
        for record, end in zip(records, ends, strict=True):
            reachable = end if with_simulator or end.status is None else ACCEPTED
            message = replace(_message(example, record, reachable, now or datetime.now(UTC)), after=before)
            before = message if example.in_turn else None
            yield message


def _message(example: Example, record: dict[str, Any], end: End, now: datetime) -> Sent:
    body = record["body"]
    fields = _fields(body)
    if example.scheduled_in is not None:
        fields["scheduled"] = (now + example.scheduled_in).isoformat(timespec="seconds")
        body = json.dumps(fields)
    attributes = {
        name: {"DataType": value["dataType"], "StringValue": value["stringValue"]}
        for name, value in record["messageAttributes"].items()
    }
    message_id = fields.get("message_id") or attributes.get("message_id", {}).get("StringValue") or example.file
    queue = f"{record['eventSourceARN'].rpartition('-')[2]}Url"
    number = str(fields.get("destination", ""))
    return Sent(example.file, str(message_id), number, example.what, body, attributes, end, queue)


def _fields(body: str) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def run_examples(sent: list[Sent], stack: LocalStack, watcher: Watcher, display: Display) -> tuple[bool, str]:
    """Send the examples and wait. Return whether each reached its end, and the closing lines that report it."""
    sqs = stack.client("sqs")
    for message in sorted(sent, key=lambda each: each.after is not None):
        if message.after:
            watcher.wait_until(message.after.reached, EXAMPLES_TIMEOUT_SECONDS, EXAMPLES_TIMEOUT_SECONDS)
        display.queued(message.message_id, message.number, message.what)
        sqs.send_message(
            QueueUrl=stack.outputs[message.queue], MessageBody=message.body, MessageAttributes=message.attributes
        )
    watcher.wait_until(
        lambda seen: all(message.reached(seen) for message in sent), EXAMPLES_TIMEOUT_SECONDS, EXAMPLES_TIMEOUT_SECONDS
    )
    with watcher.changed:
        missing = [(message, message.now(watcher.seen)) for message in sent if not message.reached(watcher.seen)]
    if not missing:
        return True, display.colored(f"All {len(sent)} examples reached their expected end.", "good")
    width = max(len(message.message_id) for message, _ in missing)
    lines = [
        f"  {message.message_id:<{width}}  expected: {message.end.words:<28}  now: {now}" for message, now in missing
    ]
    title = display.colored(f"{len(missing)} of {len(sent)} examples did not reach their expected end:", "bad")
    return False, "\n".join([title, *lines])
