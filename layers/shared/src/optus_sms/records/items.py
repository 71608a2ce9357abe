"""The items of the tables as typed records. Each field is the attribute of the same name.

`SendLedgerTable` (key ``pk``) holds what the stack did: ``msg#<message_id>`` (`LedgerRecord`), ``ref#<reference>`` (the
messages with a reference of their own), ``health#gateway`` (`HealthRecord`) and ``contract#gateway``.
`MessagesTable` (key ``id``, the gateway's ID) holds what the gateway reported: a `MessageRecord` for each message, a
`ReplyRecord` for each reply. `OptOutTable` (key ``handset``) holds an `OptOutRecord` for each handset that opted out.

No `from __future__ import annotations`: a named tuple compiles each annotation that is a text, at each cold start.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self, TypeVar

from optus_sms.model.lanes import Lane
from optus_sms.model.statuses import STATUS_RANK, contradicts

if TYPE_CHECKING:
    from optus_sms.records.table import Item
    from optus_sms.runtime.settings import OnUnknown

_Kind = TypeVar("_Kind", bound=StrEnum)

MESSAGE_PREFIX: Final = "msg#"
REFERENCE_PREFIX: Final = "ref#"
REFUSED_PREFIX: Final = "refused#"  # then the SQS message ID
HEALTH_KEY: Final = "health#gateway"
CONTRACT_KEY: Final = "contract#gateway"
DOUBT_ATTRIBUTES: Final = ("probe_after", "probes", "doubted_since")  # of the item `health#gateway`, as in `Doubt`
EVIDENCE_MARK: Final = "\t"  # in a line of a history, before the evidence


class State(StrEnum):
    """The state of a message in the ledger."""

    SENDING = "SENDING"
    RETRY = "RETRY"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    RECALLED = "RECALLED"
    UNKNOWN = "UNKNOWN"


OPTED_OUT: Final = "opted_out"  # the reason of a REJECTED message that makes no dead letter
DESPITE_OPT_OUT: Final = "despite_opt_out"  # the words of a claim for which the opt-out is not read
MAYBE_SENT: Final = (State.SENDING, State.UNKNOWN, State.ACCEPTED)


class HistoryLine(NamedTuple):
    """One line of a message's history. ``at``: RFC 3339, UTC. ``attempt``: 0 for an operator's action.

    ``what`` and its ``words``: ``claimed`` (`DESPITE_OPT_OUT` or none); ``not_sent`` and ``unknown`` (the cause);
    ``not_sent_late`` (the cause; came after a takeover and changed nothing); ``accepted_without_id`` (none);
    ``rejected`` (the dead letter's reason, or `OPTED_OUT`, then the cause); ``resolved_sent``, ``resolved_not_sent``,
    ``reopened``, ``recalled`` and ``erased`` (the operator); ``replaced`` (none; the lines before it are about a
    refused message with other fields); ``edited`` (an unreadable line).
    ``evidence``: of the gateway's response (`gateway.evidence`).
    """

    at: str
    what: str
    attempt: int
    words: str
    evidence: str = ""

    @property
    def ends_opted_out(self) -> bool:
        """Return whether the message ended with this line, because its handset has opted out."""
        return self.what == "rejected" and self.words.partition(" ")[0] == OPTED_OUT

    @property
    def is_despite_opt_out(self) -> bool:
        """Return whether this is a claim that may send to a handset that has opted out."""
        return (self.what, self.words) == ("claimed", DESPITE_OPT_OUT)


class LedgerRecord(NamedTuple):
    """What the stack did with a message. ``unknown_at``, ``look_at``, ``scheduled_at``, ``lease_until`` and ``ttl``:
    epoch seconds; every other time: RFC 3339.

    ``attempts`` counts claims, and prevents a late writer from changing a newer claim. ``uncounted_attempts`` do not
    count towards ``MAX_ATTEMPTS``, because they failed for no fault of the message, or an operator allowed it to be
    sent again. ``resolved_outcomes``: the number of ``unknown_outcomes`` when an operator last resolved it as not sent.
    """

    message_id: str
    state: State = State.UNKNOWN  # the default, because an item that was deleted meanwhile proves nothing
    owner: str = ""
    attempts: int = 0
    uncounted_attempts: int = 0
    lease_until: int = 0
    payload_sha256: str | None = None
    refused_payloads: frozenset[str] = frozenset()  # hashes of messages that were replaced
    on_unknown: "OnUnknown" = "hold"
    unknown_outcomes: int = 0
    resolved_outcomes: int = 0
    unknown_at: int = 0
    unknown_since: str | None = None
    gateway_id: str | None = None
    other_gateway_ids: frozenset[str] = frozenset()
    reason: str = ""
    detail: str = ""
    reference: str | None = None
    destination: str | None = None
    segments: int | None = None
    has_sender_id: bool = False
    scheduled_at: int | None = None
    queued_at: str | None = None
    accepted_at: str | None = None
    rejected_at: str | None = None
    expired_at: str | None = None
    recalled_at: str | None = None
    erased_at: str | None = None
    unresolved_at: str | None = None
    resolved_by: str | None = None
    history: frozenset[str] = frozenset()
    undecided: str | None = None
    look_at: int | None = None
    ttl: int = 0

    @classmethod
    def from_item(cls, item: "Item", message_id: str = "") -> Self:
        """Read an item; ``message_id``: for an absent one. An invalid state counts as `UNKNOWN`: it proves nothing."""
        key = str(item.get("pk", "")).removeprefix(MESSAGE_PREFIX) or message_id
        values = _known(cls, item) | {"message_id": key}
        values["state"] = _member(State, item.get("state"), State.UNKNOWN)
        values["on_unknown"] = "resend" if values.get("on_unknown") == "resend" else "hold"
        return cls(**values)

    @property
    def effective_reference(self) -> str:
        """Return the reference sent to the gateway: the sender's or one made for it, else the `message_id`."""
        return self.reference or self.message_id

    @property
    def may_have_been_sent(self) -> bool:
        """Return whether any attempt, ended or not, may have been sent."""
        return self.state in MAYBE_SENT or self.unknown_outcomes > 0

    @property
    def has_open_outcome(self) -> bool:
        """Return whether it had an unknown outcome since an operator last resolved it as not sent."""
        return self.unknown_outcomes > self.resolved_outcomes

    def is_held_by(self, owner: str) -> bool:
        """Return whether this owner has the claim, and so may send the message."""
        return self.state is State.SENDING and self.owner == owner

    @property
    def last_evidence(self) -> str:
        """Return the evidence of the latest attempt that has any; empty if none has."""
        return next((step.evidence for step in reversed(self.steps()) if step.evidence), "")

    def steps(self) -> list[HistoryLine]:
        """Return the lines of the history in time order."""
        found: list[HistoryLine] = []
        for line in sorted(self.history):
            step, _, evidence = line.partition(EVIDENCE_MARK)
            if not _LINE.fullmatch(step):
                found.append(HistoryLine("", "edited", 0, step))
                continue
            at, what, attempt, words = step.split(" ", 3)
            # The line of a claim is written before the claim's number is known, so the numbers are counted here.
            claims = sum(earlier.what == "claimed" for earlier in found) + 1
            # An outcome without a number belongs to a claim whose response was lost.
            number = claims if what == "claimed" else int(attempt) or (claims - 1 if what == "not_sent" else 0)
            found.append(HistoryLine(at, what, number, words, evidence))
        return found


class RefusedRecord(NamedTuple):
    """A message that was refused before it was claimed. ``reason``: `invalid` or `conflict`, as in the dead letter.

    ``refused_at``: RFC 3339.
    """

    message_id: str = ""
    reason: str = "invalid"
    detail: str = ""
    refused_at: str = ""

    @classmethod
    def from_item(cls, item: "Item") -> Self:
        """Read an item."""
        return cls(**_known(cls, item))


class MessageRecord(NamedTuple):
    """A message as the gateway reported it. ``times``: by status, when it was first seen, RFC 3339.

    Without ``handset`` it is in no conversation. ``erased_at``: when personal data was removed (RFC 3339).
    ``look_at`` and ``ttl``: epoch seconds.
    """

    id: str
    direction: Literal["MT"] = "MT"
    message_id: str | None = None
    reference: str | None = None
    destination: str | None = None
    handset: str | None = None
    segments: int | None = None
    has_sender_id: bool | None = None
    status: str | None = None
    status_rank: int | None = None
    detail: str | None = None
    times: Mapping[str, str] = MappingProxyType({})
    unknown_statuses: frozenset[str] = frozenset()
    repeats: frozenset[str] = frozenset()
    created_at: str | None = None
    erased_at: str | None = None
    awaiting: str | None = None
    look_at: int | None = None
    looks: int = 0
    unresolved_at: str | None = None
    ttl: int = 0

    @classmethod
    def from_item(cls, item: "Item") -> Self:
        """Read an item of a message."""
        times = {status: at for name, status in _TIMES.items() if isinstance(at := item.get(name), str)}
        return cls(**_known(cls, item) | {"direction": "MT", "times": times})

    @property
    def is_contradictory(self) -> bool:
        """Return whether its statuses include both `received` and a failure."""
        return contradicts(self.times)


class ReplyRecord(NamedTuple):
    """A reply as the gateway delivered it. ``…_at``: RFC 3339. ``in_reply_to``: the ID of a `MessageRecord`."""

    id: str
    direction: Literal["MO"] = "MO"
    source: str | None = None
    handset: str | None = None
    destination: str | None = None
    content: str | None = None
    operator: str | None = None
    encoding: str | None = None
    decoded: bool | None = None
    reference: str | None = None
    in_reply_to: str | None = None
    reply_match: Literal["exact", "inferred"] | None = None
    received_at: str | None = None
    created_at: str | None = None
    erased_at: str | None = None
    repeats: frozenset[str] = frozenset()
    ttl: int = 0

    @classmethod
    def from_item(cls, item: "Item") -> Self:
        """Read an item of a reply."""
        values = _known(cls, item)
        if values.get("reply_match") not in (None, "exact", "inferred"):
            del values["reply_match"]
        return cls(**values | {"direction": "MO"})


class OptOutRecord(NamedTuple):
    """The latest decision about a handset. ``since``: its time, RFC 3339. ``by``: `reply`, `person` or `import`.

    ``reply_id``: the gateway's ID of the reply. ``operator``: who decided, for the other two.
    """

    handset: str
    opted_out: bool
    since: str = ""
    by: str = "person"
    reply_id: str | None = None
    operator: str | None = None

    @classmethod
    def from_item(cls, item: "Item") -> Self:
        """Read an item. One that was edited by hand counts as an opt-out, unless `opted_out` is false."""
        return cls(**{"opted_out": True} | _known(cls, item))

    @property
    def decision(self) -> str:
        """Return a text by which decisions sort: by time; at the same time an opt-out wins."""
        return f"{self.since} {'out' if self.opted_out else 'in'} {self.by} {self.reply_id or self.operator or ''}"


def read_message(item: "Item") -> MessageRecord | ReplyRecord:
    """Read an item of `MessagesTable`; an item without a direction is a message."""
    return (ReplyRecord if item.get("direction") == "MO" else MessageRecord).from_item(item)


class Hold(StrEnum):
    """An operator's pause of one lane: recorded first, confirmed once the lane was seen paused."""

    NONE = ""
    RECORDED = "recorded"
    CONFIRMED = "confirmed"


class Health(StrEnum):
    """The gateway's health state. Unknown is a state of its own and never means down."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class PauseReason(StrEnum):
    """Why the health check paused sending."""

    OUTAGE = "outage"
    CREDENTIALS_REFUSED = "credentials_refused"
    OUTCOMES_UNKNOWN = "outcomes_unknown"


class PausedBy(StrEnum):
    """Who paused sending. The health check ends only its own pauses."""

    HEALTH = "health"
    OPERATOR = "operator"


class Pause(NamedTuple):
    """A pause. ``at``: RFC 3339. ``reason``: the health check's; an operator's pause has none.

    ``probing``: sending is on so that one probe can show whether the reason still holds. ``confirmed``: a check has
    seen sending in the recorded state (paused, or on while ``probing``); if it differs later, an operator changed it.
    ``credentials_version``: the secret's version at that time; a new one ends a pause for refused credentials.
    """

    at: str
    reason: PauseReason | None
    confirmed: bool = False
    credentials_version: str = ""
    probing: bool = False

    @property
    def by(self) -> PausedBy:
        """Return who paused sending."""
        return PausedBy.OPERATOR if self.reason is None else PausedBy.HEALTH


class Doubt(NamedTuple):
    """An outcome was unknown, with no certain one since: the whole stack sends one message at a time, as a probe.

    ``probe_after``: the earliest time of the next probe. ``probes``: the number begun. Times are epoch seconds.
    """

    probe_after: int
    probes: int
    since: int


class HealthRecord(NamedTuple):
    """The gateway's health. ``since`` and ``checked_at``: RFC 3339. ``…_since``: epoch seconds, 0 if it does not apply.

    ``…_checks``: checks in a row with that result. ``checks``: all checks; also the version of the record, with
    ``operator_commands``. ``credentials``: the result of the last trial; ``tried_version``: of the secret, empty if it
    was unusable. ``resuming``: sending was resumed, but no check has seen it on yet. ``messages_decide_since``: when an
    operator resumed, or when a pause ended whose only reason was `/healthz`; only messages that fail after that cause
    another pause. ``doubt``: written by the sender function as well. ``…_hold``: an operator's pause of that lane alone
    (`Hold`).
    """

    state: Health = Health.UNKNOWN
    reason: str = "never checked"
    since: str = ""
    checked_at: str = ""
    checks: int = 0
    good_checks: int = 0
    bad_checks: int = 0
    unknown_checks: int = 0
    failing_since: int = 0
    credentials: str = "unknown"
    tried_version: str = ""
    refused_checks: int = 0
    refused_since: int = 0
    messages_decide_since: int = 0
    pause: Pause | None = None
    resuming: bool = False
    operator_commands: int = 0
    ordinary_hold: str = ""
    urgent_hold: str = ""
    doubt: Doubt | None = None

    @property
    def free(self) -> tuple[Lane, ...]:
        """Return the lanes without an operator's pause of that lane alone."""
        return tuple(lane for lane in Lane if self.hold(lane) is Hold.NONE)

    def hold(self, lane: Lane) -> Hold:
        """Return the pause of that lane alone."""
        return _member(Hold, getattr(self, hold_attribute(lane)), Hold.RECORDED)

    def with_hold(self, lane: Lane, hold: Hold) -> Self:
        """Return the record with another pause of that lane."""
        changed: dict[str, Any] = {hold_attribute(lane): hold.value}
        return self._replace(**changed)

    @classmethod
    def from_item(cls, item: "Item") -> Self:
        """Read the item; a new record if it is empty."""
        values = _known(cls, item)
        values["state"] = _member(Health, item.get("state"), Health.UNKNOWN)
        values["pause"] = _read_pause(item)
        values["doubt"] = read_doubt(item)
        return cls(**values)

    def to_item(self) -> "Item":
        """Return the item to store."""
        nested = ("pause", "doubt")
        own = {name: value for name, value in self._asdict().items() if name not in nested}
        pause: Item = {}
        if self.pause:
            pause = {
                "paused_by": self.pause.by,
                "paused_at": self.pause.at,
                **({"pause_reason": self.pause.reason} if self.pause.reason else {}),
                "pause_confirmed": self.pause.confirmed,
                "pause_probing": self.pause.probing,
                "credentials_version": self.pause.credentials_version,
            }
        return {"pk": HEALTH_KEY, **own, **pause, **(doubt_attributes(self.doubt) if self.doubt else {})}


def hold_attribute(lane: Lane) -> str:
    """Return the attribute of the pause of that lane alone."""
    return f"{lane}_hold"


def _read_pause(item: "Item") -> Pause | None:
    """Read the pause. Any name but the health check's counts as an operator's."""
    by = item.get("paused_by")
    if by is None:
        return None
    is_ours = by == PausedBy.HEALTH
    return Pause(
        at=str(item.get("paused_at", "")),
        reason=_member(PauseReason, item.get("pause_reason"), PauseReason.OUTAGE) if is_ours else None,
        confirmed=item.get("pause_confirmed") is True,
        credentials_version=str(item.get("credentials_version", "")),
        probing=is_ours and item.get("pause_probing") is True,
    )


def read_doubt(item: "Item") -> Doubt | None:
    """Read the doubt about outcomes; None if there is none."""
    values = map(item.get, DOUBT_ATTRIBUTES)
    numbers = [value if type(value) is int else 0 for value in values]
    return Doubt(*numbers) if numbers[0] else None


def doubt_attributes(doubt: Doubt) -> dict[str, int]:
    """Return the attributes of a doubt."""
    return dict(zip(DOUBT_ATTRIBUTES, (doubt.probe_after, doubt.probes, doubt.since), strict=True))


def attributes(record: LedgerRecord | MessageRecord | ReplyRecord | None) -> dict[str, Any]:
    """Return the record for JSON: attributes by name, without empty ones; sets as sorted lists."""
    if record is None:
        return {}
    values = {name: value for name, value in record._asdict().items() if name != "times"}
    times = {f"{status}_at": at for status, at in getattr(record, "times", {}).items()}
    empty = {name for name, default in record._field_defaults.items() if not default and values.get(name) == default}
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in sorted((values | times).items())
        if name not in empty
    }


_TIMES: Final = {f"{status}_at": status for status in STATUS_RANK}
_WORD: Final = re.compile(r"\w+")
_LINE: Final = re.compile(r"\S+ \w+ [0-9]+ .*", re.DOTALL)
# Anything else is text.
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {"int": (int, float), "bool": (bool,), "frozenset": (frozenset,)}


@cache
def _kinds(record: Any) -> Mapping[str, tuple[type, ...]]:
    """Return the attributes that a record has a field for, with the type of their values."""
    kinds = {name: _WORD.findall(str(kind).removeprefix("<class"))[0] for name, kind in record.__annotations__.items()}
    return {name: _KINDS.get(kind, (str,)) for name, kind in kinds.items()}


def _known(record: Any, item: "Item") -> dict[str, Any]:
    """Return the attributes that the record has a field for, without those of a wrong type (edited by hand)."""
    kinds = _kinds(record)
    return {name: value for name, value in item.items() if type(value) in kinds.get(name, ())}


def _member(kind: type[_Kind], value: object, otherwise: _Kind) -> _Kind:
    """Return the member with this value; any other value (edited by hand) counts as ``otherwise``."""
    try:
        return kind(str(value))
    except ValueError:
        return otherwise
