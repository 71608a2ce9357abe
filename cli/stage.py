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
    RETRY = "waits for another try"
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
    """Where the message stands. The gateway's word about the handset goes before our own state."""
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


def next_step(facts: Facts) -> str:  # noqa: PLR0911 - one line for each standing
    """What happens next, and what a person can do."""
    key = facts.key
    match stage_of(facts):
        case Stage.NOT_SEEN:
            return "Nobody has taken it from the queue. If it was queued: is sending paused? See `health`."
        case Stage.SENDING:
            return (
                "A function is sending it now. Should it die, the outcome counts as unknown "
                "once its lease is over, and it is not sent again without proof."
            )
        case Stage.RETRY:
            return (
                "It comes out of the queue again after a pause that grows with each try, and after ten tries "
                "needs a person. If no queue holds it any more, queue it again under the same message_id."
            )
        case Stage.ACCEPTED:
            return "The gateway tells by callbacks what becomes of it. For some numbers `submitted` is the last word."
        case Stage.RECEIVED | Stage.REPLY:
            return "Nothing; this is the end."
        case Stage.UNDELIVERED:
            return "Nothing more is tried. To send it after all, queue it under a new message_id."
        case Stage.REJECTED if facts.ledger.get("unknown_outcomes"):
            return (
                "Its copy is in the dead-letter queue. The outcome of an earlier try is unknown, so it is not sent "
                f"again: look it up in the gateway's portal, then `resolve {key} --sent` or `--not-sent`."
            )
        case Stage.REJECTED:
            return "Its copy is in the dead-letter queue: mend the cause, then `redrive --plan FILE`" + (
                "." if facts.ledger.get("reason") == "attempts_exhausted" else ", and change its action to send."
            )
        case Stage.EXPIRED:
            return "Nothing; it was too late to send it."
        case Stage.UNKNOWN:
            return _next_of_unknown(facts)


def is_sent_once_more(facts: Facts) -> bool:
    """Whether an unknown outcome is not the end, because the message asks to be sent once more."""
    item = facts.ledger
    return (item.get("state"), item.get("on_unknown"), item.get("unknown_outcomes")) == ("UNKNOWN", "resend", 1)


def _next_of_unknown(facts: Facts) -> str:
    by_hand = (
        f"A callback with our reference resolves it by itself. To resolve it by hand, look it up in the gateway's "
        f"portal, then `resolve {facts.key} --sent` or `--not-sent`."
    )
    if is_sent_once_more(facts):
        return "It asks to be sent once more (`resend`), unless proof comes within two minutes. " + by_hand
    return "It is not sent again without proof. " + by_hand
