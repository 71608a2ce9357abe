"""Store every status callback and reply callback of the gateway, and refuse all other requests (docs/guarantees.md).

HTTP 200 means stored. HTTP 503 makes the gateway deliver again. An authenticated callback that can't be parsed becomes
a dead letter, its body unchanged. In an array each callback is stored separately; the dead letter has the whole array.
"""

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

from optus_sms.aws.queues import DeadLetter, DeadLetterReason, Queues
from optus_sms.flows.resolving import Resolution, resolve_by_reference
from optus_sms.gateway.credentials import CallbackSecret
from optus_sms.model.callbacks import Callback, ReplyCallback, StatusCallback, parse_callbacks
from optus_sms.model.errors import UnreadableCallbackError
from optus_sms.model.numbers import E164
from optus_sms.model.opt_outs import OptOutWords
from optus_sms.model.redaction import loggable_id
from optus_sms.model.statuses import FAILURE_STATUSES, FINAL_STATUSES, STATUS_RANK
from optus_sms.model.times import Clock, format_rfc3339, time_or_none
from optus_sms.records.items import MessageRecord, OptOutRecord, ReplyRecord
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Applied, IdTakenError, Messages, StatusResult
from optus_sms.records.opt_outs import OptOuts
from optus_sms.records.table import EditedItemError
from optus_sms.runtime.observability import Measurement, Metric, error_fields, logger

MAX_BODY_BYTES: Final = 64 * 1024
KEPT: Final = "Kept for an operator"
STORING_SECONDS: Final = 5.0
"""The limit of one request: if a long array timed the function out, each delivery of it would, at the same place."""
_DAY_SECONDS: Final = 86_400
_MOST_PROBLEMS: Final = 10
_CHARSET: Final = re.compile(r'; *charset *= *"?([^\s";]+)', re.IGNORECASE)


class CallbackRoute(StrEnum):
    """The two callbacks, by the end of their path."""

    STATUS = "/callbacks/status"
    REPLY = "/callbacks/reply"


class CallbackRequest(NamedTuple):
    """The parts of an API Gateway proxy event that matter. ``body``: the posted bytes. ``charset``: as declared."""

    method: str
    path: str
    authorization: str | None
    body: bytes
    charset: str = ""

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Self:
        """Read a REST API's proxy event; a malformed value counts as absent."""
        headers = event.get("headers")
        items = headers.items() if isinstance(headers, Mapping) else ()
        given = {str(name).lower(): value for name, value in items if isinstance(value, str)}
        charset = _CHARSET.search(given.get("content-type", ""))
        return cls(
            method=str(event.get("httpMethod", "")),
            path=str(event.get("path", "")),
            authorization=given.get("authorization"),
            body=_body(event.get("body"), encoded=event.get("isBase64Encoded") is True),
            charset=charset[1] if charset else "",
        )


class CallbackResponse(NamedTuple):
    """The HTTP response, with a constant body, and the metrics to publish."""

    status: int
    message: str
    headers: Mapping[str, str] = MappingProxyType({})
    measurements: tuple[Measurement, ...] = ()

    def to_proxy(self) -> dict[str, Any]:
        """Return the response in API Gateway's form."""
        return {
            "statusCode": self.status,
            "headers": {"Content-Type": "application/json", **self.headers},
            "body": json.dumps({"message": self.message}),
        }


def _refused() -> CallbackResponse:
    return CallbackResponse(
        401, "Unauthorized", {"WWW-Authenticate": 'Basic realm="callbacks"'}, ((Metric.CALLBACKS_REFUSED, 1.0),)
    )


def _not_stored() -> CallbackResponse:
    return CallbackResponse(
        503, "Not stored, deliver again", {"Retry-After": "60"}, ((Metric.CALLBACKS_NOT_STORED, 1.0),)
    )


@dataclass(frozen=True)
class Receiver:
    """One per execution environment."""

    ledger: Ledger
    messages: Messages
    opt_outs: OptOuts
    queues: Queues
    secret: CallbackSecret
    clock: Clock = field(default_factory=Clock)
    reply_match_days: int = 3
    words: OptOutWords = field(default_factory=OptOutWords)

    def receive(self, request: CallbackRequest) -> CallbackResponse:
        """Return the response to one request; never raises."""
        route = next((route for route in CallbackRoute if request.path.rstrip("/").endswith(route)), None)
        if route is None or request.method != "POST":
            return CallbackResponse(404, "Not found")
        try:
            if request.authorization is None or not self.secret.admits(request.authorization):
                return _refused()
        except Exception as error:  # noqa: BLE001 - without the secret no request can be accepted or refused
            logger().error("callback secret unusable", extra=error_fields(error))
            return _not_stored()
        if len(request.body) > MAX_BODY_BYTES:
            logger().warning("callback too large", extra={"bytes": len(request.body)})
            return CallbackResponse(413, "Too large", measurements=((Metric.CALLBACKS_REFUSED, 1.0),))
        try:
            return self._store(request, route)
        except Exception as error:  # noqa: BLE001 - not stored, so the gateway must deliver it again
            logger().error("callback not stored", extra=error_fields(error))
            return _not_stored()

    def _store(self, request: CallbackRequest, route: CallbackRoute) -> CallbackResponse:
        is_reply = route is CallbackRoute.REPLY
        try:
            callbacks = parse_callbacks(request.body, charset=request.charset, expect_reply=is_reply)
        except UnreadableCallbackError as error:
            callbacks = (error,)
        measurements: list[Measurement] = []
        problems: list[str] = []
        failed = False
        began = self.clock.monotonic()
        for number, callback in enumerate(callbacks, 1):
            is_late = number > 1 and self.clock.monotonic() - began > STORING_SECONDS
            if is_late and failed:
                break  # the gateway delivers the whole array again
            late = UnreadableCallbackError("the request had more callbacks than can be stored in time")
            try:
                measurements += self._store_one(late if is_late else callback)
            except UnreadableCallbackError as error:
                problems.append(error.detail if len(callbacks) == 1 else f"item {number}: {error.detail}")
            except Exception as error:  # noqa: BLE001 - the others are stored, and all are delivered again
                logger().error("callback not stored", extra=error_fields(error))
                failed = True
        if problems:
            self._keep(request, route, problems)
            measurements.append((Metric.CALLBACKS_UNREADABLE, float(len(problems))))
        response = CallbackResponse(200, KEPT if problems else "Stored")
        if failed:
            response = _not_stored()
        return response._replace(measurements=(*measurements, *response.measurements))

    def _store_one(self, callback: Callback | UnreadableCallbackError) -> list[Measurement]:
        """Store a callback, and return what to measure; raise `UnreadableCallbackError` if an operator must read it."""
        if isinstance(callback, UnreadableCallbackError):
            raise callback
        try:
            if isinstance(callback, ReplyCallback):
                return self._store_reply(callback)
            return self._store_status(callback if callback.gateway_id else self._identified(callback))
        except IdTakenError:
            raise UnreadableCallbackError("its ID is that of a message in the other direction") from None
        except EditedItemError:
            raise UnreadableCallbackError("its item was edited by hand: an attribute has a wrong type") from None

    def _keep(self, request: CallbackRequest, route: CallbackRoute, problems: list[str]) -> None:
        detail = "; ".join(problems[:_MOST_PROBLEMS])
        dead_letter = DeadLetter(
            request.body, DeadLetterReason.UNREADABLE_CALLBACK, detail, message_id="-",
            route=route.value, charset=request.charset,
        )  # fmt: skip
        self.queues.dead_letter(dead_letter, now=self.clock.now())
        logger().warning("callback unreadable", extra={"reason": detail})

    def _identified(self, callback: StatusCallback) -> StatusCallback:
        """Return a status callback without an ID, completed with the ID of the only message that has its reference."""
        record = self.ledger.with_reference(callback.reference or "")
        if record is None or record.gateway_id is None or record.other_gateway_ids:
            raise UnreadableCallbackError("no usable message_id or id, and its reference does not match exactly one ID")
        return callback._replace(gateway_id=record.gateway_id)

    def _store_status(self, callback: StatusCallback) -> list[Measurement]:
        now = self.clock.now()
        result = self.messages.record_status(callback, now=now)
        match = self._match(callback, result.message, now)
        logger().info(
            "status",
            extra={
                "gateway_id": _loggable(callback.gateway_id),
                "message_id": result.message.message_id or (match.message_id if match and match.resolved else None),
                "status": callback.status if callback.status in STATUS_RANK else None,
                "applied": result.applied.value,
                "contradictory": _is_contradiction(callback, result),
            },
        )
        measurements = _status_measurements(callback, result, now)
        if match and match.resolved:
            measurements.append((Metric.OUTCOMES_RESOLVED, 1.0))
        if match and match.is_contradiction:
            measurements.append((Metric.CALLBACKS_CONTRADICTORY, 1.0))
        if match and match.id_is_taken:
            measurements.append((Metric.GATEWAY_IDS_TAKEN, 1.0))
        return measurements

    def _match(self, callback: StatusCallback, message: MessageRecord, now: float) -> Resolution | None:
        """Match a callback to its message by reference, if the item has none yet."""
        if message.message_id or not callback.reference:
            return None
        try:
            resolution = resolve_by_reference(
                self.ledger, self.messages, callback.gateway_id, callback.reference, now=now
            )
        except Exception:
            # HTTP 503 makes the gateway deliver again. It can give up too early, so reconciliation tries to match the
            # callback too.
            with contextlib.suppress(Exception):
                self.messages.await_message(callback.gateway_id, now=now)
            raise
        if resolution is not None and resolution.resolved is not None:
            logger().info(
                "outcome resolved by callback",
                extra={
                    "message_id": resolution.message_id,
                    "gateway_id": _loggable(callback.gateway_id),
                    "was": resolution.resolved.value,
                },
            )
        return resolution

    def _store_reply(self, reply: ReplyCallback) -> list[Measurement]:
        now = self.clock.now()
        in_reply_to, exact = reply.reply_to, reply.reply_to is not None
        if in_reply_to is None and reply.handset and self.reply_match_days:
            since = now - self.reply_match_days * _DAY_SECONDS
            in_reply_to = self.messages.latest_sent_to(reply.handset, since=since, until=now)
        stored = self.messages.record_reply(reply, in_reply_to=in_reply_to, exact=exact, now=now)
        opted_out = self._opt_out(stored.record)
        fields = {"gateway_id": _loggable(reply.gateway_id), "in_reply_to": _loggable(in_reply_to)}
        logger().info("reply", extra=fields | {"new": stored.is_new, "opted_out": opted_out})
        return [(Metric.REPLIES_RECEIVED, 1.0)] if stored.is_new else []

    def _opt_out(self, reply: ReplyRecord) -> bool | None:
        """Opt the handset out, or back in, if the stored reply is one of the words; a later decision stays.

        The decision's time is that of the first callback, because the gateway reports no time for a reply. An erased
        reply has no text and decides nothing.
        """
        opted_out = self.words.decision(reply.content)
        if opted_out is None:
            return None
        if not re.fullmatch(E164, reply.handset or ""):
            logger().warning("opt-out without a number", extra={"gateway_id": _loggable(reply.id)})
            return None
        since = reply.received_at or format_rfc3339(self.clock.now())
        self.opt_outs.decide(OptOutRecord(str(reply.handset), opted_out, since, "reply", reply_id=reply.id))
        return opted_out


def _status_measurements(callback: StatusCallback, result: StatusResult, now: float) -> list[Measurement]:
    measurements: list[Measurement] = []
    match result.applied:
        case Applied.APPLIED:
            measurements.append((Metric.STATUSES_APPLIED, 1.0))
            if callback.status == "received":
                measurements.append((Metric.MESSAGES_DELIVERED, 1.0))
                # A scheduled message is created in its conversation when it is due, not when it was accepted.
                due_at = time_or_none(result.message.created_at or result.message.times.get("accepted"))
                if due_at is not None:
                    measurements.append((Metric.DELIVERY_LATENCY, max(0.0, now - due_at) * 1000))
            elif callback.status in FAILURE_STATUSES and not _had_ended(callback.status, result.message):
                measurements.append((Metric.MESSAGES_UNDELIVERED, 1.0))
        case Applied.STALE | Applied.DUPLICATE:
            measurements.append((Metric.STATUSES_STALE, 1.0))
    if _is_contradiction(callback, result):
        measurements.append((Metric.STATUSES_CONTRADICTORY, 1.0))
    return measurements


def _had_ended(status: str, message: MessageRecord) -> bool:
    """Return whether an earlier final status has already counted this message."""
    return not message.times.keys().isdisjoint(FINAL_STATUSES - {status})


def _is_contradiction(callback: StatusCallback, result: StatusResult) -> bool:
    """Return whether this callback contradicts an earlier one; a later `sent` is not a second contradiction."""
    is_new = result.applied in (Applied.APPLIED, Applied.STALE)
    return is_new and result.message.is_contradictory and callback.status in FINAL_STATUSES


def _loggable(gateway_id: str | None) -> str | None:
    return None if gateway_id is None else loggable_id(gateway_id)


def _body(body: object, *, encoded: bool) -> bytes:
    text = body if isinstance(body, str) else ""
    if encoded:
        with contextlib.suppress(binascii.Error, ValueError):
            return base64.b64decode(text, validate=True)
    return text.encode("utf-8", "surrogatepass")
