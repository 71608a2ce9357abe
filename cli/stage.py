"""The stage of one message, and what happens next, from the ledger and `MessagesTable`. Pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from cli.output import Tone
from optus_sms.model.statuses import FAILURE_STATUSES
from optus_sms.records.items import OPTED_OUT, LedgerRecord, MessageRecord, ReplyRecord, State


@dataclass(frozen=True, slots=True)
class Facts:
    """The records of one message and of its replies, or of one reply, whose ID then stands for the message_id.

    ``queued_at``: RFC 3339, if the caller has it; the ledger has it only from the first claim on.
    ``id_taken_by``: the message, or `a reply`, that had this message's gateway ID first.
    """

    message_id: str
    ledger: LedgerRecord | None = None
    message: MessageRecord | None = None
    reply: ReplyRecord | None = None
    replies: tuple[ReplyRecord, ...] = ()
    queued_at: str | None = None
    id_taken_by: str = ""

    @classmethod
    def of(
        cls,
        message_id: str,
        ledger: LedgerRecord | None,
        found: MessageRecord | ReplyRecord | None,
        replies: tuple[ReplyRecord, ...] = (),
        queued_at: str | None = None,
    ) -> Self:
        """Return the facts of a message; ``found``: what `MessagesTable` has under its gateway ID."""
        own = found if isinstance(found, MessageRecord) and found.message_id in (None, message_id) else None
        taken_by = "" if own or found is None else getattr(found, "message_id", None) or "a reply"
        return cls(message_id, ledger, own, None, () if taken_by else replies, queued_at, taken_by)

    @property
    def status(self) -> str | None:
        """The gateway's status."""
        return self.message.status if self.message else None

    @property
    def destination(self) -> str | None:
        """The number, while a record has it."""
        records = (self.message, self.reply, self.ledger)
        return next((record.destination for record in records if record and record.destination), None)

    @property
    def erased_at(self) -> str | None:
        """The time when personal data was removed; None if it was not."""
        records = (self.message, self.reply, self.ledger)
        return next((record.erased_at for record in records if record and record.erased_at), None)

    @property
    def segments(self) -> int | None:
        """The number of segments, while a record has it."""
        return next((record.segments for record in (self.message, self.ledger) if record and record.segments), None)

    @property
    def gateway_id(self) -> str | None:
        """The gateway's ID of the message."""
        return self.message.id if self.message else self.ledger.gateway_id if self.ledger else None

    @property
    def put_on_queue_at(self) -> str | None:
        """The time when it was queued, if known."""
        return self.queued_at or (self.ledger.queued_at if self.ledger else None)

    @property
    def despite_opt_out(self) -> bool:
        """Whether an attempt was made with `despite_opt_out`."""
        return self.ledger is not None and any(step.is_despite_opt_out for step in self.ledger.steps())

    @property
    def since(self) -> str:
        """The time in lists: when its outcome became unknown, when it was queued or accepted; empty if unknown."""
        ledger, message = self.ledger, self.message
        if ledger:
            return ledger.unknown_since or ledger.queued_at or ""
        if message:  # before the sender function's write it has only the times of callbacks
            return message.created_at or min(message.times.values(), default=message.unresolved_at or "")
        return ""

    @property
    def is_sent_once_more(self) -> bool:
        """Whether its outcome is unknown and the message will be sent once more (`resend`)."""
        ledger, once_more = self.ledger, (State.UNKNOWN, "resend", 1)
        return ledger is not None and (ledger.state, ledger.on_unknown, ledger.unknown_outcomes) == once_more


class Stage(StrEnum):
    """The stage of a message. The ledger's states are among the names."""

    NOT_SEEN = "not seen"
    SENDING = "being sent"
    RETRY = "waits for another attempt"
    ACCEPTED = "on its way"
    RECEIVED = "received"
    UNDELIVERED = "not delivered"
    REJECTED = "not sent"
    EXPIRED = "expired before it was sent"
    RECALLED = "recalled before it was sent"
    UNKNOWN = "unknown whether it was sent"
    REPLY = "a reply"
    ERASED = "erased"


TONES: Final[Mapping[Stage, Tone]] = {
    Stage.NOT_SEEN: "unsure",
    Stage.SENDING: "plain",
    Stage.RETRY: "unsure",
    Stage.ACCEPTED: "plain",
    Stage.RECEIVED: "good",
    Stage.UNDELIVERED: "bad",
    Stage.REJECTED: "bad",
    Stage.EXPIRED: "bad",
    Stage.RECALLED: "unsure",
    Stage.UNKNOWN: "unsure",
    Stage.REPLY: "good",
    Stage.ERASED: "plain",
}


def stage_of(facts: Facts) -> Stage:
    """Return the stage of the message. A final status of the gateway has precedence over the ledger's state."""
    if facts.reply:
        return Stage.REPLY
    if facts.status == "received":
        return Stage.RECEIVED
    if facts.status in FAILURE_STATUSES:
        return Stage.UNDELIVERED
    stage = Stage[facts.ledger.state.name] if facts.ledger else Stage.ACCEPTED if facts.message else Stage.NOT_SEEN
    return Stage.ERASED if stage is Stage.ACCEPTED and facts.erased_at else stage


def standing(facts: Facts) -> str:
    """Return the stage of the message in words, with the date of its erasure."""
    stage = stage_of(facts)
    if not facts.erased_at:
        return stage.value
    erased = f"erased on {facts.erased_at[:10]}"
    return erased if stage is Stage.ERASED else f"{stage.value}; {erased}"


_NEXT: Final[Mapping[Stage, str]] = {
    Stage.NOT_SEEN: "The sender function has not received it from the queue. `health` shows whether sending is paused.",
    Stage.SENDING: "The sender function is sending it. If the function dies, the outcome counts as unknown when its "
    "lease ends, and the message is not sent again without proof.",
    Stage.RETRY: "The sender function retries it with backoff; after ten attempts it becomes a dead letter. "
    "If it is in no queue any more, queue it again under the same message_id.",
    Stage.ACCEPTED: "The gateway reports by status callbacks. For some numbers `submitted` is the last status.",
    Stage.RECEIVED: "Nothing; this is final.",
    Stage.UNDELIVERED: "It is not retried. To send it after all, queue it under a new message_id.",
    Stage.EXPIRED: "Nothing; it was too late to send it.",
    Stage.RECALLED: "It is not sent. To send it after all, queue it under a new message_id.",
    Stage.REPLY: "Nothing; this is final.",
    Stage.ERASED: "Its message_id stays, so that it is never sent again. A late status still counts.",
}


_BLOCKED: Final = (
    " `blocked` is believed to mean an opt-out or a block list at the gateway or the carrier; its documents do not "
    "define it. This stack records no opt-out for it: ask Optus."
)


def next_step(facts: Facts) -> str:
    """Return what happens next, and what an operator can do."""
    stage = stage_of(facts)
    if stage is Stage.REJECTED:
        return _next_of_rejected(facts)
    if stage is Stage.RECALLED and facts.ledger and facts.ledger.has_open_outcome:
        return f"No attempt follows. {_earlier_unknown(facts)}"
    if stage is Stage.UNDELIVERED and facts.status == "blocked":
        return _NEXT[stage] + _BLOCKED
    return _next_of_unknown(facts) if stage is Stage.UNKNOWN else _NEXT[stage]


def _earlier_unknown(facts: Facts) -> str:
    """Return the advice about the unknown outcome of an earlier attempt that no other one follows."""
    return f"The outcome of an earlier one is unknown: {_look_up(facts)} if it was sent."


def _look_up(facts: Facts) -> str:
    return f"look it up in the gateway's portal, then `resolve {facts.message_id} --sent`"


def _next_of_rejected(facts: Facts) -> str:
    ledger = facts.ledger
    if ledger and ledger.reason == OPTED_OUT and ledger.has_open_outcome:
        return f"The handset has opted out, so no attempt follows. {_earlier_unknown(facts)}"
    if ledger and ledger.reason == OPTED_OUT:
        return (
            "The handset has opted out, so it was not sent. Once the person has opted back in, queue it under a new "
            "message_id. `opt-outs list` has the opt-outs."
        )
    if ledger and ledger.has_open_outcome:
        return (
            "It is a dead letter. The outcome of an earlier attempt is unknown, so it is not sent again: "
            f"{_look_up(facts)} or `--not-sent`."
        )
    return f"It is a dead letter: correct the cause, then `redrive {facts.message_id}`."


def _next_of_unknown(facts: Facts) -> str:
    by_hand = (
        f"A status callback with its reference resolves it. To resolve it by hand, {_look_up(facts)} or `--not-sent`."
    )
    if facts.is_sent_once_more:
        return "It is sent once more (`resend`), unless proof comes within two minutes. " + by_hand
    return "It is not sent again without proof. " + by_hand
