"""Redrive dead letters by a plan that an operator can read and change.

Making a plan changes nothing. Applying a plan trusts only its actions: each dead letter is judged again by the queue
and the ledger, and refused unless it was certainly not sent. Each is copied, then deleted. After an interruption in
between, both copies have the same message_id, so the ledger allows only one to be sent.
"""

import codecs
import os
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cli.dead_letter_queue import DeadLetterQueue, ReceivedDeadLetter, put_back
from cli.errors import CliError, Exit
from cli.output import json_text, number_in_list, one_line
from cli.private_file import create
from cli.target import QUEUES, Target
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.model.sender_namespaces import namespace_of
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.ledger import Ledger

Action = Literal["send", "keep", "delete"]
_MAX_BYTES: Final = 100_000_000
_HOW: Final = (
    "Nothing has been done yet. Each item's action is send, keep or delete; change it where needed, then apply this "
    "file with: optus-sms redrive --apply FILE. It never sends a message that may have been sent."
)


class DeadLetterKind(StrEnum):
    """The kind of a dead letter, by the queue and the ledger together."""

    SAFE = "safe"
    SENT = "already_sent"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    RECALLED = "recalled"
    MALFORMED = "malformed"
    REJECTED = "rejected"
    CONFLICT = "conflict"
    BUSY = "busy"
    CALLBACK = "callback"


SENDABLE: Final = (DeadLetterKind.SAFE, DeadLetterKind.REJECTED)
"""Certainly not sent."""


class PlanItem(BaseModel):
    """One message of the plan, with the SQS IDs of its copies in the queue."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    action: Action
    kind: DeadLetterKind
    why: str
    message_id: str
    destination: str
    reason: str
    detail: str
    since: str
    body_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    copies: list[str] = Field(min_length=1)


class Plan(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    plan: Literal[1] = 1
    how: str = _HOW
    stack: str
    made_at: str
    made_by: str
    items: list[PlanItem]

    @model_validator(mode="after")
    def _each_copy_once(self) -> Self:
        counted = Counter(copy for item in self.items for copy in item.copies)
        if any(count > 1 for count in counted.values()):
            raise ValueError("a copy is named by two items")
        return self


@dataclass(frozen=True, slots=True)
class PlanStep:
    """The result for one dead letter. ``done``: the plan's action was carried out, or had been before."""

    message_id: str
    result: str
    done: bool
    why: str = ""


def make_plan(target: Target) -> tuple[Plan, int]:
    """Return a plan for all dead letters, sorted by kind, and about how many more other readers hold."""
    now = time.time()
    with target.dead_letter_queue() as queue:
        hidden = queue.hidden()
        items = plan_items(queue.dead_letters(), target.ledger, now=now)
        hidden += queue.lost
    items.sort(key=lambda item: (list(DeadLetterKind).index(item.kind), item.since))
    plan = Plan(stack=target.stack_id, made_at=format_rfc3339(now), made_by=target.operator, items=items)
    return plan, hidden


def plan_items(dead_letters: Iterable[ReceivedDeadLetter], ledger: Ledger, *, now: float) -> list[PlanItem]:
    """Return an item for each message. Two dead letters of one message are one item with two copies."""
    return list(_items(dead_letters, ledger, now))


def _items(dead_letters: Iterable[ReceivedDeadLetter], ledger: Ledger, now: float) -> Iterator[PlanItem]:
    groups: dict[tuple[str, str], list[ReceivedDeadLetter]] = {}
    for dead_letter in dead_letters:
        groups.setdefault((dead_letter.message_id, dead_letter.body_sha256), []).append(dead_letter)
    claimed: dict[str, str] = {}
    for group in groups.values():
        first = group[0]
        kind, why = judge(first, ledger.read(first.message_id), now=now)
        if kind is DeadLetterKind.SAFE and first.message:
            payload = first.message.payload_sha256
            if claimed.setdefault(first.message_id, payload) != payload:
                kind, why = DeadLetterKind.CONFLICT, "another dead letter has the same message_id and other fields"
        yield PlanItem(
            action="send" if kind is DeadLetterKind.SAFE else "keep",
            kind=kind,
            why=why,
            message_id=first.message_id,
            destination=number_in_list(first.destination),
            reason=first.reason,
            detail=one_line(first.detail_for_lists()),
            since=min(dead_letter.since for dead_letter in group),
            body_sha256=first.body_sha256,
            copies=[dead_letter.sqs_id for dead_letter in group],
        )


def write_plan(plan: Plan, path: Path) -> None:
    """Write a new file that only its user can read. Never overwrite one: a plan can hold an operator's changes."""
    try:
        descriptor = create(path)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json_text(plan.model_dump(mode="json"), indent=2) + "\n")
        except BaseException:
            path.unlink()  # otherwise half a plan would block the next one
            raise
    except FileExistsError:
        raise CliError(f"{path} exists already.", "Name another file, or remove it.", Exit.USAGE) from None
    except OSError as error:
        raise CliError(f"{path} can't be written: {error.strerror}.", "Name another file.", Exit.USAGE) from None


def read_plan(path: Path, target: Target) -> Plan:
    """Return a plan that was made for this stack; raise `CliError` for any other file, before any change."""
    remedy = "Make a new one with `redrive --plan FILE`; change only its actions."
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise CliError(f"{path} is far too large to be a plan.", remedy, Exit.INVALID)
        plan = Plan.model_validate_json(text.removeprefix(codecs.BOM_UTF8))  # some editors write a byte order mark
    except OSError as error:
        raise CliError(f"{path} can't be read: {error.strerror}.", "Name another file.", Exit.USAGE) from None
    except ValidationError as error:
        problems = [
            f"  {'.'.join(str(part) for part in problem['loc']) or 'file'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)[:10]
        ]
        raise CliError(f"{path} is not a plan:\n" + "\n".join(problems), remedy, Exit.INVALID) from None
    if plan.stack != target.stack_id:
        raise CliError(f"{path} was made for another stack: {plan.stack}.", remedy, Exit.INVALID)
    return plan


def apply_plan(plan: Plan, target: Target) -> Generator[PlanStep, None, None]:
    """Apply the plan, a dead letter at a time. Can be interrupted anywhere, and repeated."""
    wanted = {copy: item for item in plan.items if item.action != "keep" for copy in item.copies}
    done: dict[str, str] = {}
    with target.dead_letter_queue() as queue:
        for dead_letter in queue.dead_letters() if wanted else ():
            item = wanted.pop(dead_letter.sqs_id, None)
            if item is not None:
                yield _step(item, *_apply(item, dead_letter, queue, target, done))
            if not wanted:
                break
    for item in {id(item): item for item in wanted.values()}.values():
        yield _step(item, "not seen", "done before, deleted, or held by another reader: see a new plan in five minutes")


def send_one(
    item: PlanItem, dead_letters: Iterable[ReceivedDeadLetter], queue: DeadLetterQueue, target: Target
) -> Generator[PlanStep, None, None]:
    """Send the message of an item by the rules of a plan, from its dead letters that the queue holds."""
    wanted, done = item.model_copy(update={"action": "send"}), dict[str, str]()
    for dead_letter in dead_letters:
        if dead_letter.sqs_id in item.copies:
            yield _step(wanted, *_apply(wanted, dead_letter, queue, target, done))


def _step(item: PlanItem, result: str, why: str = "") -> PlanStep:
    return PlanStep(item.message_id, result, result not in ("refused", "not seen"), why)


def _apply(  # noqa: PLR0911 - one line for each result
    item: PlanItem, dead_letter: ReceivedDeadLetter, queue: DeadLetterQueue, target: Target, done: dict[str, str]
) -> tuple[str, str]:
    """Apply an item to one of its dead letters. ``done``: SHA-256 of the bodies queued in this run, by message_id."""
    message_id = dead_letter.message_id
    if (message_id, dead_letter.body_sha256) != (item.message_id, item.body_sha256):
        return "refused", "the dead letter in the queue is not the one in the plan"
    if item.action == "delete":
        queue.delete(dead_letter)
        return "deleted", ""
    if message_id in done and done[message_id] != dead_letter.body_sha256:
        return "refused", "another dead letter with the same message_id was queued just now"
    if message_id in done:
        queue.delete(dead_letter)
        return "another copy deleted", ""
    record = target.ledger.read(message_id)
    kind, why = judge(dead_letter, record, now=time.time())
    if kind is DeadLetterKind.SENT and item.kind is not DeadLetterKind.SENT:
        queue.delete(dead_letter)
        return "sent meanwhile", "the gateway accepted it since the plan was made; dead letter deleted"
    if kind not in SENDABLE:
        return "refused", why
    if changed := _open_again(target, record):
        return "refused", changed
    put_back(target.sqs, target.outputs[QUEUES[dead_letter.lane]], dead_letter)
    queue.delete(dead_letter)
    done[message_id] = dead_letter.body_sha256
    return "queued", ""


def _open_again(target: Target, record: LedgerRecord | None) -> str:
    """Reopen a REJECTED record, so that its message is sent again. Return the change that prevents it, if any."""
    if record is None or record.state is not State.REJECTED:
        return ""
    refused_by = target.ledger.reopen(record, by=target.operator, now=time.time())
    if refused_by is None:
        return ""
    if refused_by.payload_sha256 != record.payload_sha256:
        return "a message with other fields has its message_id now"
    return "" if refused_by.state is State.RETRY else f"the ledger has {refused_by.state} now"


def judge(dead_letter: ReceivedDeadLetter, record: LedgerRecord | None, *, now: float) -> tuple[DeadLetterKind, str]:  # noqa: PLR0911, PLR0912 - one line each
    """Return the action allowed for a dead letter, and why. ``record``: the ledger's current one of its message_id."""
    if dead_letter.reason == DeadLetterReason.UNREADABLE_CALLBACK:
        return DeadLetterKind.CALLBACK, "an unreadable callback, not a message"
    if dead_letter.message is None:
        return DeadLetterKind.MALFORMED, dead_letter.problem
    if record is None:
        return _judge_without_record(dead_letter, now)
    if record.payload_sha256 is not None and record.payload_sha256 != dead_letter.message.payload_sha256:
        return DeadLetterKind.CONFLICT, "its message_id was used for a message with other fields"
    match record.state:
        case State.ACCEPTED:
            return DeadLetterKind.SENT, "the gateway accepted it"
        case State.UNKNOWN:
            return DeadLetterKind.UNKNOWN, "it may have been sent; resolve it with `resolve` first"
        case State.SENDING if now < record.lease_until:
            return DeadLetterKind.BUSY, "it is being sent"
        case State.SENDING:
            why = "its sender function died during the attempt; its outcome counts as unknown within half an hour"
            return DeadLetterKind.UNKNOWN, why
        case State.RECALLED:
            return DeadLetterKind.RECALLED, "an operator recalled it, so it is never sent under this message_id"
        case State.RETRY | State.REJECTED | State.EXPIRED if record.has_open_outcome:
            why = "the outcome of an earlier attempt is unknown; resolve it with `resolve` first"
            return DeadLetterKind.UNKNOWN, why
        case State.EXPIRED:
            return DeadLetterKind.EXPIRED, "it was not sent in time"
    if _is_expired(dead_letter, now):
        return DeadLetterKind.EXPIRED, "its expires_at has passed"
    if record.state is State.REJECTED and record.reason != DeadLetterReason.ATTEMPTS_EXHAUSTED:
        return DeadLetterKind.REJECTED, "the gateway refused it, and will again unless the cause is corrected"
    return DeadLetterKind.SAFE, "certainly not sent"


def _judge_without_record(dead_letter: ReceivedDeadLetter, now: float) -> tuple[DeadLetterKind, str]:
    if dead_letter.reason == DeadLetterReason.CONFLICT:
        return DeadLetterKind.CONFLICT, "its message_id was used for a message with other fields"
    if namespace_of(dead_letter.message_id):
        why = "the ledger has no record of it, so only its sender can queue it again (SeparateSenders)"
        return DeadLetterKind.UNKNOWN, why
    if dead_letter.reason == DeadLetterReason.INVALID:
        return DeadLetterKind.REJECTED, "it was refused as invalid, and its sender may have queued it again"
    if dead_letter.reason != DeadLetterReason.RECEIVES_EXHAUSTED:
        return DeadLetterKind.UNKNOWN, "the ledger has no record of it, so nothing proves that it was not sent"
    if _is_expired(dead_letter, now):
        return DeadLetterKind.EXPIRED, "its expires_at has passed"
    return DeadLetterKind.SAFE, "no attempt was ever made to send it"


def _is_expired(dead_letter: ReceivedDeadLetter, now: float) -> bool:
    expires = dead_letter.message.expires_epoch if dead_letter.message else None
    return expires is not None and now >= expires
