"""The page's view of one message, reply or dead letter. Pure: records in, the browser's JSON out.

A message's stage and its reason are worded as in `optus-sms explain` (`cli.timeline`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cli.dead_letter_queue import ReceivedDeadLetter
from cli.output import Tone
from cli.redrive_plan import judge
from cli.stage import TONES, Facts, Stage, next_step, stage_of
from cli.timeline import status_tone, timeline, why
from local.page import acts
from optus_sms.model.lanes import Lane
from optus_sms.model.queue_message import OutboundMessage
from optus_sms.model.statuses import STATUS_RANK
from optus_sms.records.items import HistoryLine, LedgerRecord, OptOutRecord, ReplyRecord, attributes

GROUPS: Final = (
    "queued", "in_flight", "accepted", "delivered", "undelivered", "unknown", "rejected", "expired", "recalled",
)  # fmt: skip
"""The groups in which messages are counted; a message can count in several."""

_GROUPS_OF: Final[Mapping[Stage, tuple[str, ...]]] = {
    Stage.NOT_SEEN: ("queued",),
    Stage.SENDING: ("in_flight",),
    Stage.RETRY: ("in_flight",),
    Stage.ACCEPTED: ("accepted",),
    Stage.RECEIVED: ("accepted", "delivered"),
    Stage.UNDELIVERED: ("accepted", "undelivered"),
    Stage.UNKNOWN: ("unknown",),
    Stage.REJECTED: ("rejected",),
    Stage.EXPIRED: ("expired",),
    Stage.RECALLED: ("recalled",),
    Stage.ERASED: ("accepted",),
}


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message as it was put on the queue, because its text is in no table. ``queued_at``: RFC 3339."""

    message: OutboundMessage
    queued_at: str
    lane: Lane = Lane.ORDINARY


def groups(facts: Facts) -> tuple[str, ...]:
    """Return the groups of `GROUPS` in which a message counts."""
    found = _GROUPS_OF.get(stage_of(facts), ())
    return (*found, "in_flight") if facts.is_sent_once_more else found


def message_view(facts: Facts, sent: QueuedMessage | None) -> dict[str, Any]:
    """Return a message for its bubble; unknown values are None."""
    stage, queued = stage_of(facts), sent.message if sent else None
    return {
        "message_id": facts.message_id,
        "to": queued.destination if queued else facts.destination,
        "from": (queued.mask or queued.source) if queued else None,
        "has_sender_id": bool(queued.mask if queued else facts.message and facts.message.has_sender_id),
        "text": queued.content if queued else None,
        "segments": queued.segments.count if queued else facts.segments,
        "encoding": queued.segments.encoding if queued else None,
        "queued_at": facts.put_on_queue_at,
        "urgent": sent is not None and sent.lane is Lane.URGENT,
        "despite_opt_out": facts.despite_opt_out or bool(queued and queued.despite_opt_out),
        "status": facts.status,
        "stage": stage.value,
        "tone": _tone(facts, stage),
        "label": _label(facts, stage),
        "problem": _problem(facts, stage),
        "gateway_id": facts.gateway_id,
        "steps": [{"at": at, "name": name, "tone": tone} for at, name, tone in _steps(facts)],
        "group": groups(facts),
    }


def _tone(facts: Facts, stage: Stage) -> Tone:
    if stage is Stage.NOT_SEEN:
        return "plain"  # the page saw it on the queue
    return "unsure" if stage is Stage.ACCEPTED and facts.status == "failed" else TONES[stage]


def _label(facts: Facts, stage: Stage) -> str:
    if stage is Stage.NOT_SEEN:
        return "waits in the queue"
    if stage is Stage.ACCEPTED and facts.status not in (None, "accepted"):
        return f"{stage}: {facts.status}"
    if stage is Stage.SENDING and facts.ledger and facts.ledger.attempts > 1:
        return f"{stage}, attempt {facts.ledger.attempts}"
    return stage.value


def _problem(facts: Facts, stage: Stage) -> str | None:
    """Return the problem with the message, in the gateway's words if it has any."""
    ledger, message = facts.ledger, facts.message
    if stage is Stage.UNDELIVERED and message:
        return f"{message.status} ({message.detail})" if message.detail else message.status
    if stage in (Stage.RETRY, Stage.UNKNOWN) and ledger:
        return why(ledger.reason) or None
    return why(ledger.detail or ledger.reason) if stage is Stage.REJECTED and ledger else None


def _steps(facts: Facts) -> list[tuple[str, str, Tone]]:
    """Return the steps so far in few words, in time order; the timeline has the details."""
    return sorted(_all_steps(facts), key=lambda step: step[0])


def _all_steps(facts: Facts) -> Iterator[tuple[str, str, Tone]]:
    """Return the steps; steps of the same time are in the order in which one causes the next."""
    if facts.put_on_queue_at:
        yield facts.put_on_queue_at, "put on the queue", "plain"
    ledger, times = facts.ledger, facts.message.times if facts.message else {}
    for step in ledger.steps() if ledger else ():
        yield from _step(step)
    if ledger and ledger.expired_at:
        yield ledger.expired_at, "expired before it was sent", "bad"
    if ledger and ledger.accepted_at:
        proved = ", as a callback proved" if ledger.resolved_by == "callback" else ""
        yield ledger.accepted_at, f"accepted{proved}", "plain"
    for status in STATUS_RANK:
        if status in times and not (status == "accepted" and ledger and ledger.accepted_at):
            yield times[status], status, status_tone(status)


def _step(step: HistoryLine) -> Iterator[tuple[str, str, Tone]]:
    words: Mapping[str, tuple[str, Tone]] = {
        "not_sent": (f"attempt {step.attempt} not sent", "unsure"),
        "unknown": ("outcome unknown", "unsure"),
        "rejected": ("rejected, not sent", "bad"),
        "resolved_sent": ("resolved by hand: sent", "plain"),
        "resolved_not_sent": ("resolved by hand: not sent", "plain"),
        "reopened": ("let go again", "plain"),
        "recalled": ("recalled", "unsure"),
        "replaced": ("queued again with other fields", "plain"),
    }
    if step.ends_opted_out:
        yield step.at, "not sent: opted out", "bad"
    elif step.what in words:
        yield step.at, *words[step.what]


def life_of(facts: Facts, sent: QueuedMessage | None) -> dict[str, Any]:
    """Return a message's timeline as in `optus-sms explain`, and its items in the ledger and `MessagesTable`."""
    return {
        "message": message_view(facts, sent),
        "next_step": next_step(facts),
        "acts": acts.of_message(facts),
        "timeline": [{"at": line.at, "text": str(line), "tone": line.tone} for line in timeline(facts)],
        "ledger": attributes(facts.ledger),
        "gateway": attributes(facts.message),
    }


def reply_view(reply: ReplyRecord, message_id: str | None) -> dict[str, Any]:
    """Return a reply for its bubble. ``message_id``: of the message that it replies to, if known."""
    return {
        "id": reply.id,
        "from": reply.handset,
        "text": reply.content or "",
        "binary": reply.encoding is not None and reply.decoded is not True,
        "at": reply.received_at,
        "in_reply_to": reply.in_reply_to,
        "message_id": message_id,
        "match": reply.reply_match or "none",
    }


def opt_out_view(record: OptOutRecord) -> dict[str, Any]:
    """Return the latest decision about one handset for its phone."""
    return {"handset": record.handset, "opted_out": record.opted_out, "since": record.since, "by": record.by}


def dead_letter_view(
    dead_letter: ReceivedDeadLetter, record: LedgerRecord | None, *, known: bool, now: float
) -> dict[str, Any]:
    """Return a dead letter. ``record``: the ledger's of its message_id; ``known``: whether the page has the message."""
    kind, judgment = judge(dead_letter, record, now=now)
    return {
        "sqs_id": dead_letter.sqs_id,
        "since": dead_letter.since,
        "to": dead_letter.destination,
        "kind": kind,
        "why": judgment,
        "acts": acts.of_dead_letter(dead_letter, kind),
        "reason": dead_letter.reason,
        "detail": dead_letter.detail,
        "message_id": dead_letter.message_id if known else None,
        "body": dead_letter.body,
    }
