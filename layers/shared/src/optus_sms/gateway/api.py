"""The gateway's REST API v2: its requests, and what the response to a POST proves.

The API has no idempotency key: a repeated POST is a second SMS and a second charge, and a message can't be looked up
without the ID that the response has. So every outcome is either certain or unknown, and only `classify` decides which;
`flows.send_message` acts on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from optus_sms.gateway.evidence import evidence_of
from optus_sms.gateway.transport import Transport
from optus_sms.model.gateway_ids import usable_id
from optus_sms.model.lenient_json import parse_json, storable
from optus_sms.model.redaction import printable, without_numbers

if TYPE_CHECKING:
    from optus_sms.gateway.credentials import GatewayCredentials, GatewaySecret
    from optus_sms.gateway.transport import Exchange
    from optus_sms.runtime.settings import GatewaySettings

_MAX_ERROR_TEXT: Final = 600
# The error codes of the gateway's prose page for REST v2, with the sentences beside them, because the gateway sends
# either. The page doesn't name the field that holds them.
_TRY_AGAIN_WORDS: Final = frozenset(
    {"send_failed", "could not queue message", "could not queue message due to an unknown error"}
)
_REJECTED_WORDS: Final = frozenset(
    {
        "invalid_json",
        "missing_attrib",
        "invalid_attrib",
        "invalid json data",
        "invalid json data in the request body",
        "missing a required attribute",
        "invalid attribute value",
        "invalid scheduled timestamp (must be rfc3339)",
        "invalid scheduled timestamp (must not be in the past)",
    }
)
# The responses of AWS API Gateway, in front of the gateway's API, for its authorizer.
_AUTHORIZER_WORDS: Final = frozenset({"unauthorized", "forbidden"})
_WORD_FIELDS: Final = ("error", "code", "message", "error-desc")


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
    REFUSED_IN_FRONT = "refused_in_front"  # stops sending after several, because a single one can be about the text


class PostResult(NamedTuple):
    """The outcome of a POST, the code of the rule that decided it, and facts for the next step and for an operator.

    ``detail``: the error text of the gateway, numbers redacted; for a dead letter, not for a log. ``evidence``: of the
    response, for the gateway's support; empty for an accepted message with an ID.
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
    evidence: str = ""
    message_status: str | None = None
    message_detail: str | None = None

    @property
    def words(self) -> str:
        """Return the reason with the HTTP status, as in the ledger and the logs."""
        return self.reason if self.status is None else f"{self.reason} (status {self.status})"


class _Facts(NamedTuple):
    """An exchange, with the facts read from its body."""

    exchange: Exchange
    status: int | None
    gateway_id: str | None
    words: frozenset[str]
    is_from_api: bool


class Rule(NamedTuple):
    """One rule of the classification: if ``applies``, then ``outcome``. ``why``: the proof."""

    reason: str
    applies: Callable[[_Facts], bool]
    outcome: Outcome
    why: str
    stop: Stop | None = None


def _status(*statuses: int) -> Callable[[_Facts], bool]:
    return lambda facts: facts.status in statuses


def _refused(*statuses: int) -> Callable[[_Facts], bool]:
    return lambda facts: facts.status in statuses and facts.is_from_api


# The first rule that applies decides. "Not sent" needs proof: no byte left, the gateway's own word, or a status that
# only a server gives that has not processed the request (RFC 9110). Only the gateway's own word rejects a message.
CLASSIFICATION: Final = (
    Rule(
        "too_late", lambda f: f.exchange.failure == "too_late" and not f.exchange.handed_over, Outcome.NOT_SENT,
        "the sender stopped before the first byte: time was short or the message had expired",
    ),
    Rule(
        "not_allowed", lambda f: f.exchange.failure == "not_allowed" and not f.exchange.handed_over, Outcome.NOT_SENT,
        "the sender did not allow the first byte",
    ),
    Rule(
        "unreachable", lambda f: not f.exchange.handed_over, Outcome.NOT_SENT,
        "no request byte was handed to the socket", Stop.UNREACHABLE,
    ),
    Rule(
        "client_certificate_required",
        lambda f: f.status is None and f.exchange.failure == "client_certificate_required", Outcome.NOT_SENT,
        "the server ended the TLS handshake for want of a client certificate, and read no request", Stop.UNREACHABLE,
    ),
    Rule(
        "contradictory", lambda f: f.status in (200, 201, 202) and not f.gateway_id and bool(f.words), Outcome.UNKNOWN,
        "a status for queued with an error body for not queued proves neither",
    ),
    Rule("accepted", _status(202), Outcome.ACCEPTED, "the documented success; its body adds only the ID and a status"),
    Rule(
        "accepted", lambda f: f.status in (200, 201) and f.gateway_id is not None, Outcome.ACCEPTED,
        "an ID is given to a queued message only (201 with a list of IDs is the success of version 1)",
    ),
    Rule(
        "rejected", lambda f: not f.words.isdisjoint(_REJECTED_WORDS), Outcome.REJECTED,
        "documented: invalid JSON, or an attribute missing or invalid; a retry would be refused too",
    ),
    Rule(
        "send_failed", lambda f: not f.words.isdisjoint(_TRY_AGAIN_WORDS), Outcome.NOT_SENT,
        'documented: "could not queue message"',
    ),
    Rule(
        "rejected", _refused(400, 413, 422), Outcome.REJECTED,
        "the API refused it as a request, in its own envelope; it would be refused again",
    ),
    Rule(
        "credentials_refused", _refused(401, 403), Outcome.NOT_SENT,
        "wrong credentials, no permission, or this address is not allow-listed", Stop.CREDENTIALS_REFUSED,
    ),
    Rule(
        "refused_in_front", _status(400, 401, 403, 413, 422), Outcome.NOT_SENT,
        "a proxy or firewall in front of the API refused it: not one of the API's words is in the response",
        Stop.REFUSED_IN_FRONT,
    ),
    Rule("throttled", _status(429), Outcome.NOT_SENT, "refused for its rate", Stop.THROTTLED),
    Rule(
        "misconfigured", _status(404, 405, 415, 301, 307, 308), Outcome.NOT_SENT,
        "this is not the address of the API: nothing there queues messages, and these redirects say that the request "
        "was not processed (RFC 9110, 15.4; any other may follow one that was)", Stop.MISCONFIGURED,
    ),
    Rule(
        "server_error", lambda f: f.status is not None, Outcome.UNKNOWN,
        "any other status (a 409, any 5xx) can come from before or after the step that queues",
    ),
    Rule("no_response", lambda _: True, Outcome.UNKNOWN, "bytes left, and no status line was read"),
)  # fmt: skip


def classify(exchange: Exchange, *, now: float, content: str = "") -> PostResult:
    """Decide what an exchange proves; ``now``: epoch seconds for a Retry-After given as a date.

    ``content``: the message's text, to keep it out of the evidence.
    """
    fields = json_object(exchange.body)
    gateway_id = usable_id(fields.get("id")) or (_first_of_list(exchange.body) if exchange.status == 201 else None)
    facts = _Facts(exchange, exchange.status, gateway_id, _words(fields), is_from_api(exchange))
    rule = next(rule for rule in CLASSIFICATION if rule.applies(facts))
    accepted = rule.outcome is Outcome.ACCEPTED
    return PostResult(
        outcome=rule.outcome,
        reason=exchange.failure or rule.reason if rule.reason in ("unreachable", "no_response") else rule.reason,
        status=exchange.status,
        gateway_id=gateway_id if accepted else None,
        stop=rule.stop,
        retry_after_seconds=retry_after_seconds(exchange.headers.get("retry-after"), now=now),
        seconds=exchange.seconds,
        detail=_error_text(fields),
        evidence="" if accepted and gateway_id else evidence_of(exchange, content=content),
        message_status=_text(fields.get("status")) if accepted else None,
        message_detail=_text(fields.get("detail")) if accepted else None,
    )


def is_from_api(exchange: Exchange) -> bool:
    """Return whether the API itself responded: an error in its envelope (`statusCode`), in its documented words, or its
    authorizer's. A 401 without a body counts as well: it has no other meaning. The rest may come from a proxy.
    """
    fields = json_object(exchange.body)
    if type(fields.get("statusCode")) is int or _words(fields):
        return True
    if exchange.status == 401 and not exchange.body:
        return True
    return exchange.status in (401, 403) and str(fields.get("message", "")).lower() in _AUTHORIZER_WORDS


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
    def connect(
        cls,
        settings: GatewaySettings,
        *,
        secret: GatewaySecret,
        now: Callable[[], float],
        service_status_url: str = "",
    ) -> Gateway:
        """Return the gateway that a function's settings name, with its own transport.

        ``secret``: names the private certificate authority to trust, if any.
        """
        return cls(
            Transport(authority=secret),
            settings.gateway_base_url,
            timeout_seconds=settings.gateway_timeout_seconds,
            now=now,
            service_status_url=service_status_url,
        )

    def post_message(
        self,
        fields: Mapping[str, Any],
        credentials: GatewayCredentials,
        *,
        start_within: float,
        may_start: Callable[[], bool] = lambda: True,
    ) -> PostResult:
        """Request `POST /messages` once; ``start_within`` and ``may_start`` as in `Transport.exchange`."""
        response = self._transport.exchange(
            "POST",
            f"{self._base_url}/messages",
            headers={"Authorization": credentials.authorization},
            body=json.dumps(fields).encode(),
            seconds=self.timeout_seconds,
            start_within=start_within,
            may_start=may_start,
        )
        return classify(response, now=self._now(), content=str(fields.get("content", "")))

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


def json_object(body: bytes | None) -> dict[str, Any]:
    """Return the fields of a JSON object; empty for any other body."""
    fields = _json(body)
    return fields if isinstance(fields, dict) else {}


def _json(body: bytes | None) -> Any:
    try:
        return parse_json((body or b"").decode(json.detect_encoding(body or b"")))
    except ValueError:
        return None


def _first_of_list(body: bytes | None) -> str | None:
    """Return the ID in a success response of version 1, which is a list of one."""
    ids = _json(body)
    return usable_id(ids[0]) if isinstance(ids, list) and len(ids) == 1 else None


def _text(value: object) -> str | None:
    return storable(value) if isinstance(value, str) and value.strip() else None


def _words(fields: dict[str, Any]) -> frozenset[str]:
    """Return the documented error codes in an error body."""
    texts = {str(fields.get(name, "")).strip().rstrip(".").lower() for name in _WORD_FIELDS}
    return frozenset(texts & (_TRY_AGAIN_WORDS | _REJECTED_WORDS))


def _error_text(fields: dict[str, Any]) -> str:
    """Return the documented fields of an error body as a short text without phone numbers."""
    texts = [fields.get(name) for name in _WORD_FIELDS]
    joined = ": ".join(dict.fromkeys(text.strip() for text in texts if isinstance(text, str)))
    return printable(without_numbers(joined), _MAX_ERROR_TEXT)
