"""Logs and metrics. Neither holds message text, phone numbers or credentials.

Log fields are IDs, codes and counts. Only type, code and line of an error are logged, because an exception's message
can quote its input.
"""

import logging
import os
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Final

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from optus_sms.model.lanes import Lane

NAMESPACE: Final = "OptusSms"


class Metric(StrEnum):
    """Every metric of the stack; dimensions ``service`` (the function, such as `send_message`) and ``stack``."""

    MESSAGES_ACCEPTED = "MessagesAccepted"
    MESSAGES_DUE = "MessagesDue"  # accepted, and not scheduled for later: statuses are expected now
    MESSAGES_REJECTED = "MessagesRejected"
    MESSAGES_EXPIRED = "MessagesExpired"
    MESSAGES_OPTED_OUT = "MessagesOptedOut"  # not sent, because their handsets have opted out
    MESSAGES_RECALLED = "MessagesRecalled"  # counted by the publisher, because the command line writes no metrics
    OUTCOMES_UNKNOWN = "OutcomesUnknown"
    DUPLICATES_SUPPRESSED = "DuplicatesSuppressed"
    SEGMENTS_SENT = "SegmentsSent"
    GATEWAY_LATENCY = "GatewayLatency"
    GATEWAY_ERRORS = "GatewayErrors"
    CREDENTIALS_REFUSED = "CredentialsRefused"
    GATEWAY_IDS_TAKEN = "GatewayIdsTaken"
    QUEUE_DELAY = "QueueDelay"
    STATUSES_APPLIED = "StatusesApplied"
    STATUSES_STALE = "StatusesStale"
    STATUSES_CONTRADICTORY = "StatusesContradictory"
    CALLBACKS_CONTRADICTORY = "CallbacksContradictory"  # about a message that was certainly not sent
    OUTCOMES_RESOLVED = "OutcomesResolved"
    REPLIES_RECEIVED = "RepliesReceived"
    CALLBACKS_REFUSED = "CallbacksRefused"
    CALLBACKS_UNREADABLE = "CallbacksUnreadable"
    CALLBACKS_NOT_STORED = "CallbacksNotStored"
    DELIVERY_LATENCY = "DeliveryLatency"
    MESSAGES_DELIVERED = "MessagesDelivered"
    MESSAGES_UNDELIVERED = "MessagesUndelivered"
    EVENTS_PUBLISHED = "EventsPublished"
    EVENTS_NOT_PUBLISHED = "EventsNotPublished"
    GATEWAY_HEALTHY = "GatewayHealthy"
    HEALTH_CHECKS = "HealthChecks"
    SENDING_PAUSED = "SendingPaused"
    CONTRACT_DIFFERENCES = "ContractDifferences"
    CONTRACT_UNREADABLE = "ContractUnreadable"
    MESSAGES_SENDING = "MessagesSending"
    MESSAGES_RETRYING = "MessagesRetrying"
    MESSAGES_UNKNOWN = "MessagesUnknown"
    MESSAGES_AWAITING_ID = "MessagesAwaitingId"
    MESSAGES_AWAITING_STATUS = "MessagesAwaitingStatus"
    CALLBACKS_AWAITING_MESSAGE = "CallbacksAwaitingMessage"
    MESSAGES_ABANDONED = "MessagesAbandoned"
    OUTCOMES_UNRESOLVED = "OutcomesUnresolved"
    ITEMS_SET_ASIDE = "ItemsSetAside"  # by reconciliation, because they were edited by hand and can't be handled
    STATUSES_ASKED = "StatusesAsked"
    STATUSES_UNRESOLVED = "StatusesUnresolved"


_MILLISECONDS: Final = frozenset({Metric.GATEWAY_LATENCY, Metric.QUEUE_DELAY, Metric.DELIVERY_LATENCY})

# After 100 values of a metric Powertools prints a record automatically, and the next record lacks the lane.
_MOST_IN_A_RECORD: Final = 99

Measurement = tuple[Metric, float]


@cache
def logger() -> Logger:
    """Return the function's logger: JSON lines, level from POWERTOOLS_LOG_LEVEL."""
    # urllib3 puts headers and request paths into some warnings; `gateway.transport` reports these failures instead.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    # Lambda reads a log record's level and time only if the time is RFC 3339. `location` is left out: each message
    # occurs once in the code, an error has `error_at`, and every byte is paid for.
    return Logger(log_uncaught_exceptions=False, use_rfc3339=True, utc=True, location=None)


@cache
def _metrics() -> Metrics:
    metrics = Metrics(namespace=NAMESPACE)
    metrics.set_default_dimensions(stack=os.environ.get("STACK_NAME", "local"))
    return metrics


def publish(measurements: Iterable[Measurement], lane: Lane | None = None) -> None:
    """Print measurements in the CloudWatch embedded metric format; latencies in milliseconds.

    ``lane``: another dimension, for metrics that exist for each lane.
    """
    metrics, rest = _metrics(), iter(measurements)
    while some := tuple(islice(rest, _MOST_IN_A_RECORD)):
        if lane is not None:
            metrics.add_dimension("lane", lane)
        for name, value in some:
            unit = MetricUnit.Milliseconds if name in _MILLISECONDS else MetricUnit.Count
            metrics.add_metric(name=name, unit=unit, value=value)
        metrics.flush_metrics()


def error_fields(error: BaseException) -> dict[str, str]:
    """Return the log fields of an error: type, AWS error code, and the innermost line of code."""
    fields = {"error": type(error).__name__}
    response = getattr(error, "response", None)
    if isinstance(response, dict) and isinstance(response.get("Error"), dict):
        fields["error_code"] = str(response["Error"].get("Code", ""))
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is not None:
        fields["error_at"] = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    return fields
