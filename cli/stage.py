"""Where one message stands, and what happens next, from what the two tables hold of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cli.output import Tone
from optus_sms.model.statuses import FAILURE_STATUSES
from optus_sms.records.table import Item


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one message: its key, its ledger item and the gateway's row (empty if there is none), its replies.

    ``queued_at``: RFC 3339, if the caller knows it better than the ledger, which learns it with the first claim.
    """

    key: str
    ledger: Item
    row: Item
    replies: tuple[Item, ...] = ()
    queued_at: str | None = None


class Stage(StrEnum):
    """Where a message stands, in one word."""

    NOT_SEEN = "not seen"
    SENDING = "being sent"
    RETRY = "waits for another attempt"
    ACCEPTED = "on its way"
    RECEIVED = "received"
    UNDELIVERED = "not delivered"
    REJECTED = "not sent"
    EXPIRED = "expired before it was sent"
    UNKNOWN = "unknown whether it was sent"
    REPLY = "a reply"


_BY_STATE: Final[Mapping[object, Stage]] = {
    "SENDING": Stage.SENDING,
    "RETRY": Stage.RETRY,
    "ACCEPTED": Stage.ACCEPTED,
    "REJECTED": Stage.REJECTED,
    "EXPIRED": Stage.EXPIRED,
    "UNKNOWN": Stage.UNKNOWN,
}
TONES: Final[Mapping[Stage, Tone]] = {
    Stage.NOT_SEEN: "unsure",
    Stage.SENDING: "plain",
    Stage.RETRY: "unsure",
    Stage.ACCEPTED: "plain",
    Stage.RECEIVED: "good",
    Stage.UNDELIVERED: "bad",
    Stage.REJECTED: "bad",
    Stage.EXPIRED: "bad",
    Stage.UNKNOWN: "unsure",
    Stage.REPLY: "good",
}


def stage_of(facts: Facts) -> Stage:
    """Return where the message stands. A final status of the gateway goes before the ledger's state."""
    if facts.row.get("direction") == "MO":
        return Stage.REPLY
    status = facts.row.get("status")
    if status == "received":
        return Stage.RECEIVED
    if status in FAILURE_STATUSES:
        return Stage.UNDELIVERED
    if facts.ledger:
        return _BY_STATE.get(facts.ledger.get("state"), Stage.UNKNOWN)
    return Stage.ACCEPTED if facts.row else Stage.NOT_SEEN


def next_step(facts: Facts) -> str:  # noqa: PLR0911 - one line for each stage
    """Return what happens next, and what an operator can do."""
    key = facts.key
    match stage_of(facts):
        case Stage.NOT_SEEN:
            return "The sender function has not taken it from the queue. `health` shows whether sending is paused."
        case Stage.SENDING:
            return (
                "The sender function is sending it. If the function dies, the outcome counts as unknown "
                "when its lease ends, and the message is not sent again without proof."
            )
        case Stage.RETRY:
            return (
                "The sender function retries it with backoff; after ten attempts it becomes a dead letter. "
                "If it is in no queue any more, queue it again under the same message_id."
            )
        case Stage.ACCEPTED:
            return "The gateway reports by status callbacks. For some numbers `submitted` is the last status."
        case Stage.RECEIVED | Stage.REPLY:
            return "Nothing; this is final."
        case Stage.UNDELIVERED:
            return "It is not retried. To send it after all, queue it under a new message_id."
        case Stage.REJECTED if facts.ledger.get("unknown_outcomes"):
            return (
                "It is a dead letter. The outcome of an earlier attempt is unknown, so it is not sent "
                f"again: look it up in the gateway's portal, then `resolve {key} --sent` or `--not-sent`."
            )
        case Stage.REJECTED:
            return "It is a dead letter: correct the cause, then `redrive --plan FILE`" + (
                "." if facts.ledger.get("reason") == "attempts_exhausted" else ", and change its action to send."
            )
        case Stage.EXPIRED:
            return "Nothing; it was too late to send it."
        case Stage.UNKNOWN:
            return _next_of_unknown(facts)


def is_sent_once_more(facts: Facts) -> bool:
    """Whether a message with an unknown outcome is sent once more (`resend`)."""
    item = facts.ledger
    return (item.get("state"), item.get("on_unknown"), item.get("unknown_outcomes")) == ("UNKNOWN", "resend", 1)


def _next_of_unknown(facts: Facts) -> str:
    by_hand = (
        f"A status callback with its reference resolves it. To resolve it by hand, look it up in the gateway's "
        f"portal, then `resolve {facts.key} --sent` or `--not-sent`."
    )
    if is_sent_once_more(facts):
        return "It is sent once more (`resend`), unless proof comes within two minutes. " + by_hand
    return "It is not sent again without proof. " + by_hand
