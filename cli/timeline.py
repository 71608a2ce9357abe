"""The timeline of one message in plain words, from the ledger and `MessagesTable`. Pure functions."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from cli.output import Tone
from cli.stage import Facts
from optus_sms.model.statuses import FINAL_STATUSES, STATUS_RANK
from optus_sms.records.items import HistoryLine, LedgerRecord, MessageRecord, ReplyRecord, State


@dataclass(frozen=True, slots=True)
class Line:
    """One event of the timeline. ``at``: RFC 3339, UTC; empty if its time is unknown.

    ``detail``: the gateway's text. It moves to a later line if that line's status wins.
    """

    at: str
    text: str
    tone: Tone = "plain"
    detail: str = ""

    def __str__(self) -> str:
        """Return the line without its time."""
        return f"{self.text} ({self.detail})" if self.detail else self.text


# What the statuses mean, in the order of their ranks. Source: `optus_sms.model.statuses`.
_STATUS_MEANS: Final = {
    "accepted": "the gateway accepted it",
    "queued": "it waits inside the gateway",
    "sent": "it left the gateway for the carrier",
    "failed": "the gateway could not hand it to the carrier and retries",
    "submitted": "the carrier has it",
    "frozen": "the gateway has given up after many retries",
    "deficient": "the gateway stopped it; believed to be credit or provisioning",
    "blocked": "the gateway stopped it; believed to be an opt-out or a block list",
    "expired": "the carrier could not deliver it in time",
    "rejected": "the carrier refused it",
    "dead": "an operator of the gateway ended it",
    "received": "it is on the handset",
}
_REASON: Final = re.compile(r"(?P<word>\w+)(?: \(status (?P<status>\d+)\))?")
# Words for the codes of the transport's failures, of the sender function and of the classification.
_WORDS: Final = {
    "name_not_resolved": "the gateway's name could not be looked up",
    "certificate_refused": "the gateway's certificate is not trusted",
    "certificate_expired": "the gateway's certificate has expired",
    "certificate_not_yet_valid": "the gateway's certificate is not valid yet",
    "certificate_wrong_name": "the gateway's certificate is for another name",
    "certificate_issuer_unknown": "the gateway's certificate is from an unknown issuer; a proxy may inspect TLS",
    "certificate_weak": "the gateway's certificate has a weak key or digest",
    "client_certificate_required": "the gateway, or a proxy in front of it, requires a client certificate",
    "tls_failed": "no encrypted connection could be made",
    "timed_out": "the gateway did not respond in time",
    "connection_refused": "the gateway refused the connection",
    "closed_without_response": "the gateway closed the connection without a response",
    "connection_lost": "the connection was lost",
    "cut_short": "the response ended too early",
    "not_http": "the response is not HTTP",
    "network_error": "the network failed",
    "unreachable": "the gateway could not be reached",
    "no_response": "no response came",
    "owner_lost": "the sender function ended before it could record the outcome",
    "too_late": "too little time was left",
    "claim_response_lost": "the table did not confirm the claim",
    "circuit_breaker_open": "the outcome of another message was unknown meanwhile",
    "opted_out": "the handset has opted out",
    "opted_out_by_reply": "the handset has opted out, by its own reply",
    "opted_out_by_person": "the handset has opted out, recorded by an operator",
    "opted_out_by_import": "the handset has opted out, by an imported list",
    "opt_out_not_read": "whether the handset has opted out could not be read",
    "reference_not_registered": "its reference could not be recorded first",
    "credentials_refused": "the gateway refused the credentials",
    "throttled": "the gateway reported too high a rate",
    "misconfigured": "the response is not from the gateway's API",
    "send_failed": "the gateway could not queue it",
    "rejected": "the gateway refused it",
    "server_error": "the gateway returned an error",
    "contradictory": "the gateway's response contradicts itself",
    "body_too_large": "the response was too large",
    "response_too_large": "the response was too large",
}
_BY_OPERATOR: Final = {
    "resolved_sent": "resolved that it was sent",
    "resolved_not_sent": "resolved that it was not sent, so it may be sent again",
    "reopened": "let it be sent again",
    "recalled": "recalled it, so that no attempt follows",
    "erased": "erased its number and text",
}
_STEP_TONES: Final[Mapping[str, Tone]] = {
    "not_sent": "unsure",
    "not_sent_late": "dim",
    "unknown": "unsure",
    "rejected": "bad",
}


def timeline(facts: Facts) -> list[Line]:
    """Return every known event in time order; events without a time come last."""
    if facts.reply:
        return list(_reply(facts.reply))
    replies = (line for reply in facts.replies for line in _reply(reply))
    lines = [*_queued(facts), *_ours(facts), *_callbacks(facts), *replies]
    return sorted((line for line in lines if line.at), key=lambda line: line.at) + [
        line for line in lines if not line.at
    ]


def why(reason: str) -> str:
    """Return a ledger's reason, such as ``throttled (HTTP 429)``, in words."""
    found = _REASON.fullmatch(reason)
    if not found:
        return reason
    word, status = found["word"], found["status"]
    words = _WORDS.get(word, word.replace("_", " "))
    return f"{words} (status {status})" if status else words


def _proof(reason: str, *, not_sent: bool) -> str:
    """Return why the outcome was classified so, from the deciding row of `optus_sms.gateway.api.CLASSIFICATION`."""
    found = _REASON.fullmatch(reason)
    word = found["word"] if found else reason
    if word == "owner_lost":
        return "how far the attempt got is unknown"
    if word in ("reference_not_registered", "circuit_breaker_open"):
        return _proofs()["unreachable"]
    return _proofs().get(word) or _proofs()["unreachable" if not_sent else "no_response"]


@cache
def _proofs() -> Mapping[str, str]:
    from optus_sms.gateway.api import CLASSIFICATION  # imports the HTTP client, which `status` does not need

    return {row.reason: row.why for row in CLASSIFICATION}


def _queued(facts: Facts) -> Iterator[Line]:
    if facts.put_on_queue_at:
        yield Line(facts.put_on_queue_at, "put on the queue")


def _ours(facts: Facts) -> Iterator[Line]:
    """Yield the ledger's events: claims, outcomes and the actions of operators."""
    record = facts.ledger
    if record is None:
        return
    for step in record.steps():
        yield _step(step)
        if step.evidence:
            yield Line(step.at, f"the gateway's response: {step.evidence}", "dim")
    if facts.id_taken_by:
        whose = f"which it had given to {facts.id_taken_by} before; callbacks under it are of that one"
        yield Line("", f"the gateway gave it the ID {record.gateway_id}, {whose}", "bad")
    if record.expired_at:
        yield Line(record.expired_at, "not sent: its expires_at had passed", "bad")
    if record.accepted_at:
        yield Line(record.accepted_at, _accepted(record, facts.message))
    if record.unresolved_at:
        ended = "no queue holds it any more" if record.state is State.RETRY else "no proof came"
        yield Line(record.unresolved_at, f"{ended}; no longer reconciled", "unsure")
    if record.other_gateway_ids:
        others = ", ".join(sorted(record.other_gateway_ids))
        yield Line("", f"the gateway accepted it more than once; also as {others}", "bad")


def _step(step: HistoryLine) -> Line:
    """Return a line of the ledger's history in words; `optus_sms.records.items.HistoryLine` lists the kinds."""
    words, tone = why(step.words), _STEP_TONES.get(step.what, "plain")
    match step.what:
        case "claimed" if step.attempt == 1:
            text = (
                f"received from the queue and claimed, so that no other execution sends it: attempt 1{_despite(step)}"
            )
        case "claimed":
            text = f"claimed again: attempt {step.attempt}{_despite(step)}"
        case "not_sent":
            because = _proof(step.words, not_sent=True)
            text = f"attempt {step.attempt} was certainly not sent: {words}. Reason: {because}"
        case "not_sent_late":
            text = f"recorded too late to matter: attempt {step.attempt} was certainly not sent: {words}"
        case "accepted_without_id":
            text = f"the response to attempt {step.attempt} had no readable ID"
        case "unknown":
            because = _proof(step.words, not_sent=False)
            text = f"the outcome of attempt {step.attempt} is unknown: {words}. Reason: {because}"
        case "rejected":
            text = _rejected(step)
        case "replaced":
            text = "queued again with other fields, after the message before it was refused"
        case by_operator if by_operator in _BY_OPERATOR:
            text = f"{step.words} {_BY_OPERATOR[by_operator]}"
        case _:
            text, tone = f"a line of the history that was edited: {step.what} {step.words}", "dim"
    return Line(step.at, text, tone)


def _despite(step: HistoryLine) -> str:
    return "; sent even if the handset has opted out (despite_opt_out)" if step.is_despite_opt_out else ""


def _rejected(step: HistoryLine) -> str:
    """Return a rejection in words. ``step.words``: the dead letter's reason, then the gateway's response."""
    reason, _, response = step.words.partition(" ")
    if step.ends_opted_out:
        return f"attempt {step.attempt} was not begun, and is not retried: {why(response or reason)}"
    if reason == "attempts_exhausted":
        return f"given up with attempt {step.attempt}, certainly not sent; last: {why(response)}"
    because = _proof(response, not_sent=True)
    return f"attempt {step.attempt} was certainly not sent, and is not retried: {why(response)}. Reason: {because}"


def _accepted(record: LedgerRecord, message: MessageRecord | None) -> str:
    under = f"under the ID {record.gateway_id}" if record.gateway_id else "under an ID that a callback will report"
    if record.resolved_by == "callback" and (record.accepted_at or "") < _first_callback_at(message):
        return f"the gateway accepted it, {under}, which a callback reported later"
    if record.resolved_by == "callback":
        return f"a callback with its reference proved that the gateway accepted it, {under}"
    if record.resolved_by == "operator":
        return f"an operator resolved it as sent: accepted by the gateway, {under}"
    return f"the gateway accepted it, {under}"


def _first_callback_at(message: MessageRecord | None) -> str:
    """Return when the first status came, without `accepted`, which the sender function writes too; empty if none."""
    times = message.times if message else {}
    return min((at for status, at in times.items() if status != "accepted"), default="")


def _callbacks(facts: Facts) -> Iterator[Line]:
    """Yield each status with the time when it was first seen, each repeat, and why one was ignored."""
    message = facts.message
    if message is None:
        return
    highest, best = -1, ""
    for at, rank, status in sorted((at, STATUS_RANK[status], status) for status, at in message.times.items()):
        if status == "accepted" and facts.ledger and facts.ledger.accepted_at:
            highest, best = max((highest, best), (rank, status))
            continue  # the sender function's write, which the ledger has recorded
        text = f"callback: {status}, {_STATUS_MEANS[status]}"
        if rank < highest:
            yield Line(at, f"{text}; ignored, because {best} was known already and ranks higher", "dim")
            continue
        yield Line(at, text, status_tone(status), (message.detail or "") if status == message.status else "")
        highest, best = rank, status
    yield from _repeats(message)
    if message.unknown_statuses:
        named = ", ".join(sorted(message.unknown_statuses))
        yield Line("", f"callbacks with undocumented statuses: {named}; kept, and ignored", "dim")
    if message.erased_at and not facts.ledger:  # otherwise the ledger's history has it
        yield Line(message.erased_at, "its number was erased")
    if message.unresolved_at:
        yield Line(message.unresolved_at, "no final status came; no longer reconciled", "unsure")


def _repeats(record: MessageRecord | ReplyRecord) -> Iterator[Line]:
    """Yield repeated callbacks; if there are very many, only the first ones."""
    for line in sorted(record.repeats):
        at, _, what = line.partition(" ")
        yield Line(at, f"callback: {what} again; ignored, because it was known already", "dim")


def status_tone(status: str) -> Tone:
    """Return how good or bad a status is."""
    if status == "received":
        return "good"
    return "bad" if status in FINAL_STATUSES else "unsure" if status == "failed" else "plain"


_MATCHES: Final = {"exact": ", as the gateway reports", "inferred": ", the latest message to that handset", None: ""}


def _reply(reply: ReplyRecord) -> Iterator[Line]:
    to = f" to {reply.in_reply_to}{_MATCHES[reply.reply_match]}" if reply.in_reply_to else ""
    text = "its text and number were erased" if reply.erased_at else reply.content or ""
    yield Line(reply.received_at or "", f"the handset replied{to}: {text}", "good")
    yield from _repeats(reply)
