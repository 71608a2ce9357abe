"""Messages, events and outcomes with sensible defaults, so that a test sets only the values that it is about."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from optus_sms.flows.send_message import QueueRecord
from optus_sms.gateway.api import Outcome, PostResult, Stop
from optus_sms.model.lanes import Lane
from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.ledger import KEEP_SECONDS
from tests.support.fakes import Step

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z, where FakeClock starts
TOO_LONG_FOR_AN_EVENT = "x" * 300_000  # EventBridge takes 256 KB
HANDSET = "+61491570006"  # from ACMA's numbers for fiction
CONTENT = "Your parcel arrives today between 2 and 4 pm."
REGION = "ap-southeast-2"
ACCOUNT = "123456789012"
CALLBACK_USERNAME = "gateway"
CALLBACK_PASSWORD = "example-callback-password"


def message_fields(**changes: Any) -> dict[str, Any]:
    """A valid queue message as a dictionary; a field given as None is left out. ``class_`` stands for ``class``."""
    fields: dict[str, Any] = {"destination": HANDSET, "content": CONTENT, "message_id": "message-1"}
    fields |= {name.rstrip("_"): value for name, value in changes.items()}
    return {name: value for name, value in fields.items() if value is not None}


def message_body(**changes: Any) -> str:
    """A valid queue message as the JSON text on the queue."""
    return json.dumps(message_fields(**changes))


def sqs_record(
    body: str,
    *,
    name: str = "1",
    receive_count: int = 1,
    sent_at: float = NOW,
    message_id_attribute: str | None = None,
    queued_at_attribute: str | None = None,
    sender_id: str = "AIDAIENQZJOLO23YVJ4VO",
) -> dict[str, Any]:
    """One record of an SQS event as Lambda gets it; ``name`` makes its ids."""
    given = {"message_id": message_id_attribute, "queued_at": queued_at_attribute}
    attributes = {
        name: {"stringValue": value, "stringListValues": [], "binaryListValues": [], "dataType": "String"}
        for name, value in given.items()
        if value is not None
    }
    return {
        "messageId": sqs_id(name),
        "receiptHandle": receipt_handle(name),
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": str(receive_count),
            "SentTimestamp": str(int(sent_at * 1000)),
            "SenderId": sender_id,
            "ApproximateFirstReceiveTimestamp": str(int(sent_at * 1000) + 50),
        },
        "messageAttributes": attributes,
        "md5OfBody": hashlib.md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:optus-sms-OutboundQueue",
        "awsRegion": REGION,
    }


def sqs_event(*records: Mapping[str, Any]) -> dict[str, Any]:
    """The event of a batch."""
    return {"Records": list(records)}


def queue_record(body: str | None = None, *, name: str = "1", lane: Lane = Lane.ORDINARY, **more: Any) -> QueueRecord:
    """Return a record for `Sender.send_batch`; without a body a valid message with the key ``message-<name>``."""
    return QueueRecord.from_event(
        sqs_record(message_body(message_id=f"message-{name}") if body is None else body, name=name, **more), lane
    )


def sqs_id(name: str = "1") -> str:
    """The SQS message id of the record of that name."""
    return str(uuid5(NAMESPACE_URL, f"sqs/{name}"))


def receipt_handle(name: str = "1") -> str:
    """The receipt handle of the record of that name."""
    return f"receipt-{name}"


def basic(username: str = CALLBACK_USERNAME, password: str = CALLBACK_PASSWORD) -> str:
    """A Basic Authorization header."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def api_event(
    path: str,
    body: str | bytes | Mapping[str, Any] | None,
    *,
    method: str = "POST",
    authorization: str | None = basic(),
) -> dict[str, Any]:
    """A REST API's proxy event; bytes come base64-encoded, as API Gateway does with binary media types."""
    encoded = isinstance(body, bytes)
    text = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    headers = {
        "Accept": "*/*",
        "Content-Type": "application/json",
        "Host": f"abcdefghij.execute-api.{REGION}.amazonaws.com",
        "User-Agent": "Mobile Gateway",
        "X-Forwarded-For": "203.0.113.17",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
    }
    if authorization is not None:
        headers["Authorization"] = authorization
    return {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "abcdefghij",
            "httpMethod": method,
            "identity": {"sourceIp": "203.0.113.17", "userAgent": "Mobile Gateway"},
            "path": f"/v1{path}",
            "protocol": "HTTP/1.1",
            "requestId": "21bebb99-2d89-5a18-b987-18e20a3838ce",
            "requestTime": "01/Jan/2026:00:00:10 +0000",
            "requestTimeEpoch": 1_767_225_610_000,
            "resourceId": "2gxmpl",
            "resourcePath": path,
            "stage": "v1",
        },
        "body": json.dumps(text) if isinstance(text, Mapping) else text,
        "isBase64Encoded": encoded,
    }


def status_event(body: str | bytes | Mapping[str, Any] | None, **more: Any) -> dict[str, Any]:
    """A status callback's proxy event."""
    return api_event("/callbacks/status", body, **more)


def reply_event(body: str | bytes | Mapping[str, Any] | None, **more: Any) -> dict[str, Any]:
    """A reply callback's proxy event."""
    return api_event("/callbacks/reply", body, **more)


def wanted(message_id: str = "message-1", **changes: Any) -> LedgerRecord:
    """Return a ledger record as the sender function claims it."""
    values: dict[str, Any] = {
        "state": State.SENDING,
        "owner": "me",
        "lease_until": int(NOW) + 90,
        "payload_sha256": "a" * 64,
        "destination": HANDSET,
        "segments": 1,
        "ttl": int(NOW) + KEEP_SECONDS,
    }
    return LedgerRecord(message_id, **(values | changes))


def sent_message(gateway_id: str = "gw-1", message_id: str = "message-1", **changes: Any) -> tuple[str, LedgerRecord]:
    """Return the arguments of `Messages.record_sent`: the gateway's ID and the ledger's record."""
    return gateway_id, wanted(message_id, **changes)


def sent(gateway_id: str | None = "gw-1") -> PostResult:
    """202, with or without an id."""
    return PostResult(Outcome.ACCEPTED, "accepted", 202, gateway_id, seconds=0.25)


def unknown(*, accepted: bool = False) -> Step:
    """The response is lost; ``accepted``: whether the gateway accepted the message."""
    return Step(PostResult(Outcome.UNKNOWN, "timed_out", seconds=10.0), accepted)


def server_error(*, accepted: bool = False) -> Step:
    """Status 500, which proves nothing."""
    return Step(PostResult(Outcome.UNKNOWN, "server_error", 500, seconds=0.25), accepted)


def send_failed() -> PostResult:
    """Certainly not queued, in the gateway's own words; other messages can succeed."""
    return PostResult(Outcome.NOT_SENT, "send_failed", 500, seconds=0.25)


def rejected() -> PostResult:
    """Status 400."""
    return PostResult(Outcome.REJECTED, "rejected", 400, seconds=0.25)


def unreachable() -> PostResult:
    """No connection."""
    return PostResult(Outcome.NOT_SENT, "connection_refused", stop=Stop.UNREACHABLE)


def credentials_refused() -> PostResult:
    """Status 401."""
    return PostResult(Outcome.NOT_SENT, "credentials_refused", 401, stop=Stop.CREDENTIALS_REFUSED, seconds=0.25)


def throttled(retry_after_seconds: float | None = None) -> PostResult:
    """Status 429."""
    return PostResult(
        Outcome.NOT_SENT, "throttled", 429, stop=Stop.THROTTLED, retry_after_seconds=retry_after_seconds, seconds=0.25
    )
