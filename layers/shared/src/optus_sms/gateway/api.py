"""The gateway's REST API v2: its requests, and what the response to a POST proves.

The API has no idempotency key: a repeated POST is a second SMS and a second charge, and without the ID in a response a
message can't be looked up. So every outcome is either certain or unknown, and only `classify` decides which.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from optus_sms.gateway.transport import Transport
from optus_sms.model.redaction import printable, without_numbers

if TYPE_CHECKING:
    from optus_sms.gateway.credentials import GatewayCredentials
    from optus_sms.gateway.transport import Exchange
    from optus_sms.runtime.settings import GatewaySettings

_MAX_ID: Final = 255
# "Could not queue message", "Invalid JSON data", "Missing a required attribute", "Invalid attribute value": the error
# codes of the gateway's prose page for REST v2, which doesn't name the field that carries them.
_TRY_AGAIN_WORDS: Final = frozenset({"send_failed"})
_REJECTED_WORDS: Final = frozenset({"invalid_json", "missing_attrib", "invalid_attrib"})
_WORD_FIELDS: Final = ("error", "code", "message")


class Outcome(StrEnum):
    """What one POST proved."""

    ACCEPTED = "accepted"
    NOT_SENT = "not_sent"  # certainly not sent; retryable
    REJECTED = "rejected"  # certainly not sent, and a retry would be refused too
    UNKNOWN = "unknown"


class Stop(StrEnum):
    """Why the execution environment should send no other message for a while."""

    CREDENTIALS_REFUSED = "credentials_refused"
    UNREACHABLE = "unreachable"
    THROTTLED = "throttled"
    MISCONFIGURED = "misconfigured"


@dataclass(frozen=True, slots=True)
class PostResult:
    """The outcome, the code of the rule that decided it, and facts for the next step and for an operator.

    ``detail``: the error text of the gateway, numbers redacted; for a dead letter, not for a log.
    ``retry_after_seconds``: the gateway's Retry-After, at most SQS's 12 hours.
    """

    outcome: Outcome
    reason: str
    status: int | None = None
    gateway_id: str | None = None
    stop: Stop | None = None
    retry_after_seconds: float | None = None
    seconds: float = 0.0
    detail: str = ""

    @property
    def words(self) -> str:
        """Return the reason with the HTTP status, as in the ledger and the logs."""
        return self.reason if self.status is None else f"{self.reason} (status {self.status})"


@dataclass(frozen=True, slots=True)
class _Evidence:
    """A response, with the facts read from its body."""

    response: Exchange
    status: int | None
    gateway_id: str | None
    words: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the classification: if ``applies``, then ``outcome``. ``why``: the proof."""

    reason: str
    applies: Callable[[_Evidence], bool]
    outcome: Outcome
    why: str
    stop: Stop | None = None


def _status(*statuses: int) -> Callable[[_Evidence], bool]:
    return lambda evidence: evidence.status in statuses


# The first rule that applies decides. "Not sent" needs proof: no byte left, or the gateway's own word.
CLASSIFICATION: Final = (
    Rule(
        "too_late", lambda e: e.response.failure == "too_late" and not e.response.handed_over, Outcome.NOT_SENT,
        "stopped before the first byte: time was short or the message had expired",
    ),
    Rule(
        "unreachable", lambda e: not e.response.handed_over, Outcome.NOT_SENT,
        "no request byte was handed to the socket", Stop.UNREACHABLE,
    ),
    Rule(
        "contradictory", lambda e: e.status in (200, 201, 202) and not e.gateway_id and bool(e.words), Outcome.UNKNOWN,
        "a status for queued with an error body for not queued proves neither",
    ),
    Rule("accepted", _status(202), Outcome.ACCEPTED, "the documented success; its body adds only the ID"),
    Rule(
        "accepted", lambda e: e.status in (200, 201) and e.gateway_id is not None, Outcome.ACCEPTED,
        "only a queued message has an ID (201 is the success of version 1)",
    ),
    Rule(
        "rejected", lambda e: not e.words.isdisjoint(_REJECTED_WORDS), Outcome.REJECTED,
        "documented: invalid JSON, or an attribute missing or invalid; a retry would be refused too",
    ),
    Rule(
        "send_failed", lambda e: not e.words.isdisjoint(_TRY_AGAIN_WORDS), Outcome.NOT_SENT,
        'documented: "could not queue message"',
    ),
    Rule("rejected", _status(400, 413, 422), Outcome.REJECTED, "refused as a request; a retry would be refused too"),
    Rule(
        "credentials_refused", _status(401, 403), Outcome.NOT_SENT,
        "wrong credentials, no permission, or this address is not allow-listed", Stop.CREDENTIALS_REFUSED,
    ),
    Rule("throttled", _status(429), Outcome.NOT_SENT, "refused for its rate", Stop.THROTTLED),
    Rule(
        "misconfigured", lambda e: e.status in (404, 405, 415) or e.status in range(300, 400), Outcome.NOT_SENT,
        "this is not the address of the API: nothing there queues messages", Stop.MISCONFIGURED,
    ),
    Rule(
        "server_error", lambda e: e.status is not None, Outcome.UNKNOWN,
        "any other status can come from before or after the step that queues",
    ),
    Rule("no_answer", lambda _: True, Outcome.UNKNOWN, "bytes left, and no status line was read"),
)  # fmt: skip


def classify(response: Exchange, *, now: float) -> PostResult:
    """Decide what a response proves; ``now``: epoch seconds, for a Retry-After given as a date."""
    fields = _json_object(response.body)
    evidence = _Evidence(response, response.status, _gateway_id(fields), _words(fields))
    rule = next(rule for rule in CLASSIFICATION if rule.applies(evidence))
    return PostResult(
        outcome=rule.outcome,
        reason=response.failure or rule.reason if rule.reason in ("unreachable", "no_answer") else rule.reason,
        status=response.status,
        gateway_id=evidence.gateway_id if rule.outcome is Outcome.ACCEPTED else None,
        stop=rule.stop,
        retry_after_seconds=retry_after_seconds(response.retry_after, now=now),
        seconds=response.seconds,
        detail=_error_text(fields),
    )


class Gateway:
    """The API at one base URL."""

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        *,
        timeout_seconds: float,
        now: Callable[[], float],
        service_status_url: str = "",
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._service_status_url = service_status_url
        self._transport = transport
        self._base_url = base_url
        self._now = now

    @classmethod
    def connect(cls, settings: GatewaySettings, *, now: Callable[[], float], service_status_url: str = "") -> Gateway:
        """Return the gateway that a function's settings name, with its own transport."""
        return cls(
            Transport(),
            settings.gateway_base_url,
            timeout_seconds=settings.gateway_timeout_seconds,
            now=now,
            service_status_url=service_status_url,
        )

    def post_message(
        self, fields: Mapping[str, Any], credentials: GatewayCredentials, *, start_within: float
    ) -> PostResult:
        """Request `POST /messages` once; no byte leaves later than ``start_within`` seconds from now."""
        response = self._transport.exchange(
            "POST",
            f"{self._base_url}/messages",
            headers={"Authorization": credentials.authorization},
            body=json.dumps(fields).encode(),
            seconds=self.timeout_seconds,
            start_within=start_within,
        )
        return classify(response, now=self._now())

    def get_health(self) -> Exchange:
        """Request `GET /healthz`, without credentials."""
        return self._transport.exchange("GET", f"{self._base_url}/healthz", seconds=self.timeout_seconds)

    def get_service_status(self) -> Exchange | None:
        """Request `GET /status?service=restv2` of the Health Monitoring API, a separate service; None without a URL."""
        if not self._service_status_url:
            return None
        return self._transport.exchange("GET", self._service_status_url, seconds=self.timeout_seconds)

    def get_message(self, gateway_id: str, credentials: GatewayCredentials) -> Exchange:
        """Request `GET /messages?id=` (the OpenAPI file of the gateway's page, MessageDetails)."""
        return self._get(f"/messages?id={quote(gateway_id, safe='')}", credentials)

    def get_contract(self, credentials: GatewayCredentials | None) -> Exchange:
        """Request `GET /openapi.yaml`, with credentials if there are any; the page requires none."""
        return self._get("/openapi.yaml", credentials)

    def _get(self, path: str, credentials: GatewayCredentials | None) -> Exchange:
        headers = {"Authorization": credentials.authorization} if credentials else {}
        return self._transport.exchange("GET", f"{self._base_url}{path}", headers=headers, seconds=self.timeout_seconds)


def retry_after_seconds(header: str | None, *, now: float) -> float | None:
    """Return the seconds of a Retry-After header in either form (RFC 9110, 10.2.3), from 0 to SQS's 12 hours."""
    if header is None:
        return None
    text = header.strip()
    try:
        seconds = float(text) if text.isascii() and text.isdigit() else parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), 43_200.0)


def _json_object(body: bytes | None) -> dict[str, Any]:
    try:
        fields = json.loads(body or b"")
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _gateway_id(fields: dict[str, Any]) -> str | None:
    value = fields.get("id")
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return (
        text
        if isinstance(text, str) and 0 < len(text) <= _MAX_ID and text.isprintable() and text.strip() == text
        else None
    )


def _words(fields: dict[str, Any]) -> frozenset[str]:
    """Return the documented error codes in an error body."""
    texts = {str(fields.get(name, "")).strip().lower() for name in _WORD_FIELDS}
    return frozenset(texts & (_TRY_AGAIN_WORDS | _REJECTED_WORDS))


def _error_text(fields: dict[str, Any]) -> str:
    """Return the documented fields of an error body as a short text without phone numbers."""
    texts = [fields.get(name) for name in (*_WORD_FIELDS, "error-desc")]
    joined = ": ".join(dict.fromkeys(text.strip() for text in texts if isinstance(text, str)))
    return printable(without_numbers(joined), 200)
