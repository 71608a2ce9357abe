"""What the page tells of one message, reply or dead letter. Pure: what is known of it in, what the browser shows out.

Where a message stands, and why, is said in the words of `optus-sms explain` (`cli.timeline`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cli.output import Tone
from cli.stage import TONES, Facts, Stage, is_sent_once_more, next_step, stage_of
from cli.timeline import timeline, why
from local.demo.watcher import SeenDeadLetter
from optus_sms.model.queue_message import OutboundMessage
from optus_sms.model.statuses import FAILURE_STATUSES, STATUS_RANK
from optus_sms.records.ledger import HistoryLine, steps
from optus_sms.records.table import Item

GROUPS: Final = ("queued", "in_flight", "accepted", "delivered", "undelivered", "unknown", "rejected", "expired")
"""Where messages are counted; one may count in several."""

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
}


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message as somebody put it on the queue; ``queued_at``: RFC 3339. Its text is in no table."""

    message: OutboundMessage
    queued_at: str


def groups(facts: Facts) -> tuple[str, ...]:
    """Which of `GROUPS` a message counts in."""
    found = _GROUPS_OF.get(stage_of(facts), ())
    return (*found, "in_flight") if is_sent_once_more(facts) else found


def message_view(facts: Facts, sent: QueuedMessage | None) -> dict[str, Any]:
    """One message for its bubble; what is not known is None."""
    stands, message = stage_of(facts), sent.message if sent else None
    status = facts.row.get("status")
    return {
        "key": facts.key,
        "to": message.destination if message else facts.row.get("destination") or facts.ledger.get("destination"),
        "from": (message.mask or message.source) if message else None,
        "masked": bool(message.mask) if message else bool(facts.row.get("masked")),
        "text": message.content if message else None,
        "parts": message.segments.count if message else facts.row.get("segments") or facts.ledger.get("segments"),
        "encoding": message.segments.encoding if message else None,
        "queued_at": facts.queued_at or facts.ledger.get("queued_at"),
        "status": status,
        "standing": stands.value,
        "tone": _tone(facts, stands),
        "label": _label(facts, stands),
        "problem": _problem(facts, stands),
        "gateway_id": facts.row.get("id") or facts.ledger.get("gateway_id"),
        "steps": [{"at": at, "name": name, "tone": tone} for at, name, tone in _steps(facts)],
        "group": groups(facts),
    }


def _tone(facts: Facts, stands: Stage) -> Tone:
    if stands is Stage.NOT_SEEN:
        return "plain"  # the page has seen it on the queue
    return "unsure" if stands is Stage.ACCEPTED and facts.row.get("status") == "failed" else TONES[stands]


def _label(facts: Facts, stands: Stage) -> str:
    status, attempts = facts.row.get("status"), facts.ledger.get("attempts")
    if stands is Stage.NOT_SEEN:
        return "waits in the queue"
    if stands is Stage.ACCEPTED and status not in (None, "accepted"):
        return f"{stands}: {status}"
    if stands is Stage.SENDING and isinstance(attempts, int) and attempts > 1:
        return f"{stands}, try {attempts}"
    return stands.value


def _problem(facts: Facts, stands: Stage) -> str | None:
    """Why it is not as it should be, in the gateway's word where it has one."""
    match stands:
        case Stage.UNDELIVERED:
            detail = facts.row.get("detail")
            return f"{facts.row['status']} ({detail})" if detail else str(facts.row["status"])
        case Stage.RETRY | Stage.UNKNOWN:
            return why(str(facts.ledger["reason"])) if "reason" in facts.ledger else None
        case Stage.REJECTED:
            return why(str(facts.ledger.get("detail") or facts.ledger.get("reason", "")))
        case _:
            return None


def _steps(facts: Facts) -> list[tuple[str, str, Tone]]:
    """What happened to it so far in few words, in time order; the timeline tells it at length."""
    return sorted(_all_steps(facts), key=lambda step: step[0])


def _all_steps(facts: Facts) -> Iterator[tuple[str, str, Tone]]:
    """Those of the same time in the order in which one leads to the other."""
    if queued_at := facts.queued_at or facts.ledger.get("queued_at"):
        yield str(queued_at), "put on the queue", "plain"
    for step in steps(facts.ledger):
        yield from _step(step)
    ours, row = facts.ledger, facts.row
    if "expired_at" in ours:
        yield str(ours["expired_at"]), "expired before it was sent", "bad"
    if "accepted_at" in ours:
        proved = ", as a callback proved" if ours.get("resolved_by") == "callback" else ""
        yield str(ours["accepted_at"]), f"accepted{proved}", "plain"
    for status in STATUS_RANK:
        if f"{status}_at" in row and not (status == "accepted" and "accepted_at" in ours):
            yield str(row[f"{status}_at"]), status, _tone_of(status)


def _step(step: HistoryLine) -> Iterator[tuple[str, str, Tone]]:
    words: Mapping[str, tuple[str, Tone]] = {
        "not_sent": (f"try {step.attempt} not sent", "unsure"),
        "unknown": ("outcome unknown", "unsure"),
        "rejected": ("rejected, not sent", "bad"),
        "resolved_sent": ("resolved by hand: sent", "plain"),
        "resolved_not_sent": ("resolved by hand: not sent", "plain"),
        "reopened": ("let go again", "plain"),
    }
    if step.what in words:
        yield step.at, *words[step.what]


def _tone_of(status: str) -> Tone:
    if status == "received":
        return "good"
    return "bad" if status in FAILURE_STATUSES else "unsure" if status == "failed" else "plain"


def life_of(facts: Facts, sent: QueuedMessage | None) -> dict[str, Any]:
    """One message's whole life, as `optus-sms explain` tells it, with what the two tables hold."""
    return {
        "message": message_view(facts, sent),
        "standing": stage_of(facts).value,
        "next_step": next_step(facts),
        "timeline": [{"at": line.at, "text": str(line), "tone": line.tone} for line in timeline(facts)],
        "ledger": _plain(facts.ledger),
        "row": _plain(facts.row),
    }


def reply_view(row: Item, key: str | None) -> dict[str, Any]:
    """One reply for its bubble; ``key``: of the message that it answers, if that is known."""
    return {
        "id": row["id"],
        "from": row.get("handset"),
        "text": row.get("content", ""),
        "binary": "encoding" in row and row.get("decoded") is not True,
        "at": row.get("received_at"),
        "in_reply_to": row.get("in_reply_to"),
        "key": key,
        "match": row.get("reply_match", "none"),
    }


def letter_view(letter: SeenDeadLetter, *, known: bool) -> dict[str, Any]:
    """One dead letter; ``known``: whether there is a message with its key to tell of."""
    return {
        "reason": letter.reason,
        "detail": letter.detail,
        "key": letter.message_id if known else None,
        "body": letter.body,
    }


def _plain(item: Item) -> dict[str, Any]:
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in sorted(item.items())}
