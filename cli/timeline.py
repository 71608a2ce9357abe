"""The timeline of one message in plain words, from what the two tables hold of it. Pure: facts in, lines out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from cli.output import Tone
from cli.stage import Facts
from optus_sms.gateway.api import CLASSIFICATION
from optus_sms.model.statuses import FINAL_STATUSES, STATUS_RANK
from optus_sms.records.ledger import HistoryLine, steps
from optus_sms.records.table import Item


@dataclass(frozen=True, slots=True)
class Line:
    """Something that happened; ``at``: RFC 3339, UTC, or empty for what has no time of its own.

    ``detail``: the gateway's words, which may move on to a later line when its status wins.
    """

    at: str
    text: str
    tone: Tone = "plain"
    detail: str = ""

    def __str__(self) -> str:
        """Without the time."""
        return f"{self.text} ({self.detail})" if self.detail else self.text


# What the statuses mean, in the order of their ranks. Source: `optus_sms.model.statuses`.
_STATUS_MEANS: Final = {
    "accepted": "the gateway took it",
    "queued": "it waits inside the gateway",
    "sent": "it left the gateway for the carrier",
    "failed": "the gateway could not hand it to the carrier and tries again",
    "submitted": "the carrier has it",
    "frozen": "the gateway has given up after many tries",
    "deficient": "the gateway stopped it; believed to be credit or provisioning",
    "blocked": "the gateway stopped it; believed to be an opt-out or a block list",
    "expired": "the carrier could not deliver it in time",
    "rejected": "the carrier refused it",
    "dead": "somebody at the gateway ended it",
    "received": "it is on the handset",
}
_WHY: Final = {row.reason: row.why for row in CLASSIFICATION}
_NO_BYTE_LEFT: Final = _WHY["unreachable"]
_NO_ANSWER: Final = _WHY["no_answer"]
_REASON: Final = re.compile(r"(?P<word>\w+)(?: \(status (?P<status>\d+)\))?")
# The transport's words for what went wrong on the wire, and those of the sender.
_ON_THE_WIRE: Final = {
    "name_not_resolved": "the gateway's name could not be looked up",
    "certificate_refused": "the gateway's certificate is not trusted",
    "tls_failed": "no encrypted connection could be made",
    "timed_out": "the gateway did not answer in time",
    "connection_refused": "the gateway refused the connection",
    "closed_without_answer": "the gateway closed the connection without an answer",
    "connection_lost": "the connection was lost",
    "cut_short": "the answer ended too early",
    "not_http": "what answered does not speak HTTP",
    "network_error": "the network failed",
    "unreachable": "the gateway could not be reached",
    "no_answer": "no answer came",
    "owner_lost": "the function that was sending it ended before it could write down what happened",
    "too_late": "too little time was left",
    "reference_not_registered": "its reference could not be written down first",
}
_ANSWERED: Final = {
    "credentials_refused": "the gateway refused our credentials",
    "throttled": "the gateway said that we are too fast",
    "misconfigured": "what answered is not the gateway's API",
    "send_failed": "the gateway said that it could not queue it",
    "rejected": "the gateway refused it",
    "server_error": "the gateway answered with an error",
    "contradictory": "the gateway's answer contradicted itself",
    "body_too_large": "the answer was too large",
}


def timeline(facts: Facts) -> list[Line]:
    """Everything that is known to have happened, in time order; what has no time comes last."""
    if facts.row.get("direction") == "MO":
        return list(_reply(facts.row))
    replies = (line for reply in facts.replies for line in _reply(reply))
    lines = [*_queued(facts), *_ours(facts), *_callbacks(facts), *replies]
    return sorted((line for line in lines if line.at), key=lambda line: line.at) + [
        line for line in lines if not line.at
    ]


def why(reason: str) -> str:
    """A ledger's reason, like ``throttled (status 429)``, in words."""
    found = _REASON.fullmatch(reason)
    if not found:
        return reason
    word, status = found["word"], found["status"]
    words = _ANSWERED.get(word) or _ON_THE_WIRE.get(word) or word.replace("_", " ")
    return f"{words} (status {status})" if status else words


def _proof(reason: str, *, not_sent: bool) -> str:
    """Why an outcome was classified so: the row of `optus_sms.gateway.api.CLASSIFICATION` that decided."""
    found = _REASON.fullmatch(reason)
    word = found["word"] if found else reason
    if word == "owner_lost":
        return "nobody can know how far it got"
    if word == "reference_not_registered":
        return _NO_BYTE_LEFT
    return _WHY.get(word) or (_NO_BYTE_LEFT if not_sent else _NO_ANSWER)


def _queued(facts: Facts) -> Iterator[Line]:
    queued_at = facts.queued_at or facts.ledger.get("queued_at")
    if queued_at:
        yield Line(str(queued_at), "put on the queue")


def _ours(facts: Facts) -> Iterator[Line]:
    """What the ledger says: claims, tries, outcomes, and what persons did."""
    item = facts.ledger
    text = {name: str(value) for name, value in item.items() if isinstance(value, str)}
    yield from (_step(step) for step in steps(item))
    if "expired_at" in text:
        yield Line(text["expired_at"], "not sent: its expires_at had passed", "bad")
    if "accepted_at" in text:
        yield Line(text["accepted_at"], _accepted(facts))
    if "unresolved_at" in text:
        told = "no queue holds it any more" if item.get("state") == "RETRY" else "no proof came in all that time"
        yield Line(text["unresolved_at"], f"{told}; nobody looks for it any more", "unsure")
    others = cast("frozenset[str]", item.get("other_gateway_ids", frozenset()))
    if others:
        yield Line("", f"the gateway accepted it more than once; also as {', '.join(sorted(others))}", "bad")


def _step(step: HistoryLine) -> Line:
    """A line of the ledger's history."""
    words, tone = _STEPS[step.what]
    return Line(step.at, words(step), tone)


def _claimed(step: HistoryLine) -> str:
    if step.attempt == 1:
        return "taken from the queue and claimed, so that nobody else sends it: try 1"
    return f"claimed again: try {step.attempt}"


def _not_sent(step: HistoryLine) -> str:
    because = _proof(step.words, not_sent=True)
    return f"try {step.attempt} was certainly not sent: {why(step.words)}. Why so: {because}"


def _not_sent_late(step: HistoryLine) -> str:
    return f"learned too late to matter: try {step.attempt} was certainly not sent: {why(step.words)}"


def _unknown(step: HistoryLine) -> str:
    because = _proof(step.words, not_sent=False)
    return f"the outcome of try {step.attempt} is unknown: {why(step.words)}. Why so: {because}"


def _rejected(step: HistoryLine) -> str:
    """``words``: the dead letter's reason, then what the gateway answered."""
    reason, _, answer = step.words.partition(" ")
    if reason == "attempts_exhausted":
        return f"given up with try {step.attempt}, certainly not sent; last: {why(answer)}"
    because = _proof(answer, not_sent=True)
    return f"try {step.attempt} was certainly not sent, and is not tried again: {why(answer)}. Why so: {because}"


_STEPS: Final[Mapping[str, tuple[Callable[[HistoryLine], str], Tone]]] = {
    "claimed": (_claimed, "plain"),
    "not_sent": (_not_sent, "unsure"),
    "not_sent_late": (_not_sent_late, "dim"),
    "unknown": (_unknown, "unsure"),
    "rejected": (_rejected, "bad"),
    "resolved_sent": (lambda step: f"{step.words} resolved that it was sent", "plain"),
    "resolved_not_sent": (lambda step: f"{step.words} resolved that it was not sent, so it may be sent again", "plain"),
    "reopened": (lambda step: f"{step.words} let it be tried again", "plain"),
}
"""How each line of the ledger's history is told (`optus_sms.records.ledger.Step`)."""


def _accepted(facts: Facts) -> str:
    gateway_id, resolved_by = facts.ledger.get("gateway_id"), facts.ledger.get("resolved_by")
    under = f"under the id {gateway_id}" if gateway_id else "under an id that is not known yet; a callback tells it"
    if resolved_by == "callback" and str(facts.ledger["accepted_at"]) < _first_callback_at(facts.row):
        return f"the gateway accepted it, {under}, which a callback told later"
    if resolved_by == "callback":
        return f"a callback with our reference proved that the gateway accepted it, {under}"
    if resolved_by == "person":
        return f"because a person said so, it counts as accepted by the gateway, {under}"
    return f"the gateway accepted it, {under}"


def _first_callback_at(row: Item) -> str:
    """When the gateway first told a status; `accepted` is left out, because we write it too. Empty if it never did."""
    return min((str(row[f"{s}_at"]) for s in STATUS_RANK if s != "accepted" and f"{s}_at" in row), default="")


def _callbacks(facts: Facts) -> Iterator[Line]:
    """Each status at the time it was first seen, each repeat, and why one was ignored."""
    row = facts.row
    seen = sorted(
        (str(row[f"{status}_at"]), rank, status) for status, rank in STATUS_RANK.items() if f"{status}_at" in row
    )
    highest, best = -1, ""
    for at, rank, status in seen:
        if status == "accepted" and facts.ledger.get("accepted_at"):
            highest, best = max((highest, best), (rank, status))
            continue  # our own write; the ledger has told it
        told = f"callback: {status}, {_STATUS_MEANS[status]}"
        if rank < highest:
            yield Line(at, f"{told}; ignored, because {best} was known already and says more", "dim")
            continue
        detail = str(row.get("detail", "")) if status == row.get("status") else ""
        yield Line(at, told, _status_tone(status), detail)
        highest, best = rank, status
    yield from _repeats(row)
    unknown = cast("frozenset[str]", row.get("unknown_statuses", frozenset()))
    if unknown:
        named = ", ".join(sorted(unknown))
        yield Line("", f"callbacks with statuses that nobody documented: {named}; kept, and ignored", "dim")
    if "unresolved_at" in row:
        yield Line(str(row["unresolved_at"]), "no final status came; nobody asks for it any more", "unsure")


def _repeats(row: Item) -> Iterator[Line]:
    """Callbacks that came again; of very many the first ones."""
    for line in sorted(cast("frozenset[str]", row.get("repeats", frozenset()))):
        at, what = line.split(" ", 1)
        yield Line(at, f"callback: {what} again; ignored, because it was known already", "dim")


def _status_tone(status: str) -> Tone:
    if status == "received":
        return "good"
    return "bad" if status in FINAL_STATUSES else "unsure" if status == "failed" else "plain"


def _reply(reply: Item) -> Iterator[Line]:
    match = {"exact": ", as the gateway says", "inferred": ", because it was the latest one sent there"}
    answers = (
        f" to {reply['in_reply_to']}{match.get(str(reply.get('reply_match')), '')}" if "in_reply_to" in reply else ""
    )
    told = f"the handset replied{answers}: {reply.get('content', '')}"
    yield Line(str(reply.get("received_at", "")), told, "good")
    yield from _repeats(reply)
