"""The simulator's scenarios in one table: a magic destination number, and the fate of a message to it.

Every other number behaves like `received`. Magic numbers are `+447700900` and three digits: the thousand mobile numbers
that the British regulator (Ofcom) reserves for drama. So no subscriber gets a message, even if one reaches a real
gateway.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

from local.http_server import Ending
from local.simulator.errors import error_body

FICTITIOUS_NUMBER = "+61491570006"  # reserved for fiction by the Australian regulator
_MAGIC = "+447700900"
# The documented happy path (the delivery receipts page).
DELIVERED = ("queued", "sent", "submitted", "received")


class Callbacks(Enum):
    """How the statuses are reported."""

    IN_ORDER = "in order"
    NONE = "not reported"
    DUPLICATED = "three times each"
    REORDERED = "in another order"
    EARLY = "all of them before the response"
    LATE = "late"
    OTHER_ID_KEY = "with id instead of message_id, or the reverse"
    UPPER_CASE = "in upper case"


@dataclass(frozen=True)
class ScriptedResponse:
    """The response to a POST. Without a body: id, status and detail of the accepted message."""

    status: int = 202
    body: str | None = None
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    ending: Ending = Ending.WHOLE
    slow: bool = False


@dataclass(frozen=True)
class Reply:
    """The handset's reply. `linked`: the callback has `reply_to` and the message's reference."""

    content: str = "Yes please"
    linked: bool = True
    encoding: str | None = None
    copies: int = 1


@dataclass(frozen=True)
class Scenario:
    """A row of the table. `taken`: the gateway has accepted the message and would charge it.

    `times`: how often a message (identified by its reference) gets this response and is not accepted; after that it is
    accepted and delivered like any other. None: always.
    """

    name: str
    digits: str
    meaning: str
    response: ScriptedResponse = ScriptedResponse()
    taken: bool = True
    times: int | None = None
    statuses: tuple[str, ...] = DELIVERED
    callbacks: Callbacks = Callbacks.IN_ORDER
    reply: Reply | None = None

    @property
    def number(self) -> str:
        return _MAGIC + self.digits if self.digits else FICTITIOUS_NUMBER


@dataclass(frozen=True)
class StatusStep:
    """A step of a message, `wait_seconds` after the step before."""

    wait_seconds: float
    status: str | None = None  # the record's new status
    callback: str | None = None  # the status as the callback spells it
    reply: Reply | None = None


def _ends(name: str, digits: str, meaning: str, *statuses: str) -> Scenario:
    return Scenario(name, digits, meaning, statuses=statuses)


def _not_taken(name: str, digits: str, meaning: str, response: ScriptedResponse, times: int | None = None) -> Scenario:
    return Scenario(name, digits, meaning, response, taken=False, times=times)


def _error(status: int, error: str, *headers: tuple[str, str]) -> ScriptedResponse:
    return ScriptedResponse(status, error_body(status, error), headers=headers)


_NO_ID = ScriptedResponse(body='{"status":"accepted"}')
_NOT_JSON = ScriptedResponse(body="Accepted", content_type="text/plain")
_HTML_PAGE = ScriptedResponse(502, "<html><body><h1>502 Bad Gateway</h1></body></html>", content_type="text/html")
_REDIRECT = ScriptedResponse(302, "", headers=(("Location", "/rest/sms/v2/messages"),))
_NONE = ScriptedResponse(ending=Ending.NONE)
_BINARY = Reply(base64.b64encode(b"\x00\x01\xfe\xff").decode(), encoding="base64")

_ROWS = (
    _ends("received", "", "202; queued, sent, submitted, received", *DELIVERED),
    # Final statuses
    _ends("rejected", "101", "the carrier rejects it", "queued", "sent", "rejected"),
    _ends("expired", "102", "the phone stays off until it expires", "queued", "sent", "submitted", "expired"),
    _ends("failed_then_received", "103", "fails once, then arrives", "queued", "failed", *DELIVERED[1:]),
    _ends("failed_then_frozen", "104", "fails twice, then it is frozen", "queued", "failed", "failed", "frozen"),
    _ends("dead", "105", "killed by an administrator", "queued", "dead"),
    _ends("blocked", "106", "blocked", "queued", "blocked"),
    _ends("deficient", "107", "deficient", "queued", "deficient"),
    _ends("submitted_only", "108", "no final status ever comes", "queued", "sent", "submitted"),
    # Accepted, with a faulty response
    Scenario("accepted_without_id", "201", "taken; 202 whose body has no id", _NO_ID),
    Scenario("accepted_not_json", "202", "taken; 202 whose body is not JSON", _NOT_JSON),
    Scenario("accepted_cut", "203", "taken; 202 whose body ends half-way", ScriptedResponse(ending=Ending.CUT)),
    # Not accepted
    _not_taken("redirect", "302", "not taken; 302 to the same place", _REDIRECT),
    _not_taken("bad_request", "400", "not taken; 400 invalid_attrib", _error(400, "invalid_attrib")),
    _not_taken("unauthorized", "401", "not taken; 401", _error(401, "Unauthorized")),
    _not_taken("forbidden", "403", "not taken; 403", _error(403, "Forbidden")),
    _not_taken(
        "too_many_requests",
        "429",
        "429 with Retry-After: 1 and not taken, twice; then received",
        _error(429, "Too Many Requests", ("Retry-After", "1")),
        times=2,
    ),
    _not_taken("server_error", "500", "not taken; 500", _error(500, "an example error message")),
    _not_taken(
        "send_failed", "501", "500 send_failed and not taken, once; then received", _error(500, "send_failed"), times=1
    ),
    _not_taken("bad_gateway", "502", "not taken; 502 with an HTML page", _HTML_PAGE),
    _not_taken("unavailable", "503", "not taken; 503", _error(503, "Service Unavailable")),
    # The response does not show whether it was accepted
    Scenario("taken_server_error", "600", "taken, but the response is 500", _error(500, "an example error message")),
    Scenario("slow_response", "601", "taken; 202 after 5 s (--slow-response)", ScriptedResponse(slow=True)),
    Scenario("drip_fed_response", "602", "taken; 202 a byte at a time (--drip)", ScriptedResponse(ending=Ending.DRIP)),
    Scenario("lost_response", "603", "taken; closed without a response; no callbacks", _NONE, callbacks=Callbacks.NONE),
    Scenario(
        "lost_response_then_callbacks",
        "604",
        "taken; closed without a response; callbacks 5 s late (--late)",
        _NONE,
        callbacks=Callbacks.LATE,
    ),
    _not_taken("closed_not_taken", "605", "not taken; closed without a response", _NONE),
    # How the statuses are reported
    Scenario("callbacks_none", "700", "received, but no callback reports it", callbacks=Callbacks.NONE),
    Scenario("callbacks_duplicated", "701", "each status callback three times", callbacks=Callbacks.DUPLICATED),
    Scenario("callbacks_reordered", "702", "status callbacks in another order", callbacks=Callbacks.REORDERED),
    Scenario("callbacks_early", "703", "all status callbacks before the 202", callbacks=Callbacks.EARLY),
    Scenario("callbacks_late", "704", "status callbacks 5 s late (--late)", callbacks=Callbacks.LATE),
    Scenario(
        "callbacks_other_id_key", "705", "`id` for `message_id`, or the reverse", callbacks=Callbacks.OTHER_ID_KEY
    ),
    Scenario("callbacks_upper_case", "706", "statuses in upper case", callbacks=Callbacks.UPPER_CASE),
    _ends("unknown_status", "707", "an undocumented status, then received", "queued", "teleported", *DELIVERED[1:]),
    _ends("contradiction", "708", "received, then failed", *DELIVERED, "failed"),
    # Replies
    Scenario("reply", "801", "received; reply `Yes please` with reply_to and reference", reply=Reply()),
    Scenario("reply_unlinked", "802", "received; reply without reply_to", reply=Reply(linked=False)),
    Scenario("reply_base64", "803", "received; binary reply in base64", reply=_BINARY),
    Scenario("reply_duplicated", "804", "received; the same reply twice", reply=Reply(copies=2)),
    Scenario("reply_stop", "805", "received; reply `STOP`, which opts the handset out", reply=Reply("STOP")),
)

SCENARIOS = {row.name: row for row in _ROWS}
"""Every scenario by its name."""

_BY_NUMBER = {row.number: row for row in _ROWS}


def scenario_for(destination: str) -> Scenario:
    """Return the row of this number; for a number without a row `received`, or `rejected` if it is not in E.164."""
    is_number = re.fullmatch(r"\+[0-9]+", destination, re.ASCII) is not None
    return _BY_NUMBER.get(destination, SCENARIOS["received" if is_number else "rejected"])


def steps_for(scenario: Scenario, random: Random, step_seconds: float, late_seconds: float) -> tuple[StatusStep, ...]:
    """Return the steps of an accepted message, in order."""
    steps = _status_steps(scenario, random, step_seconds, late_seconds)
    if scenario.reply is not None:
        steps += [StatusStep(step_seconds, reply=scenario.reply)]
    return tuple(steps)


def _status_steps(scenario: Scenario, random: Random, step_seconds: float, late_seconds: float) -> list[StatusStep]:
    statuses = scenario.statuses
    happens = [StatusStep(step_seconds, status) for status in statuses]
    match scenario.callbacks:
        case Callbacks.NONE:
            return happens
        case Callbacks.REORDERED:
            # All record changes come first, so that a callback never reports more than the record has.
            return happens + _callbacks(_reordered(statuses, random))
        case Callbacks.LATE:
            return [*happens, StatusStep(late_seconds), *_callbacks(statuses)]
        case Callbacks.DUPLICATED:
            return [each for step in happens for each in (step, *_callbacks([str(step.status)] * 3))]
        case Callbacks.UPPER_CASE:
            return [StatusStep(step_seconds, status, status.upper()) for status in statuses]
        case Callbacks.EARLY | Callbacks.IN_ORDER | Callbacks.OTHER_ID_KEY:
            wait_seconds = 0 if scenario.callbacks is Callbacks.EARLY else step_seconds
            return [StatusStep(wait_seconds, status, status) for status in statuses]


def _callbacks(statuses: Iterable[str]) -> list[StatusStep]:
    return [StatusStep(0, callback=status) for status in statuses]


def _reordered(statuses: Sequence[str], random: Random) -> list[str]:
    order = list(statuses)
    while order == list(statuses):
        random.shuffle(order)
    return order


def numbers_table() -> str:
    """Return the table as aligned text."""
    width = max(len(row.number) for row in _ROWS)
    name_width = max(len(row.name) for row in _ROWS)
    return "\n".join(f"{row.number:<{width}}  {row.name:<{name_width}}  {row.meaning}" for row in _ROWS)
