"""Send each message of the queue at most once, and lose none: the send protocol (docs/guarantees.md).

For each SQS record: validate → claim in the ledger → POST once → write the outcome → acknowledge or return to the
queue. The records of a batch run in parallel. Every thread has ended when `Sender.send_batch` returns, so that no POST
happens after the execution environment was frozen.
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from optus_sms.aws.queues import DeadLetter, DeadLetterReason, Queues
from optus_sms.flows.breaker import NOT_BEGUN
from optus_sms.flows.opt_out_check import Beside, OptOutCheck, at_once, in_a_thread
from optus_sms.flows.refused_claim import RESEND_AFTER_SECONDS, NextStep, may_resend, next_step, waits_until
from optus_sms.flows.resolving import complete, log_taken
from optus_sms.flows.unwritten import LedgerWrite, UnwrittenOutcomes
from optus_sms.gateway.api import Outcome, PostResult, Stop
from optus_sms.gateway.transport import CONNECTIONS
from optus_sms.model.errors import CredentialsError, InvalidMessageError
from optus_sms.model.lanes import Lane
from optus_sms.model.queue_message import (
    MAX_SCHEDULE_DAYS,
    OutboundMessage,
    check_allowed,
    check_despite_opt_out,
    check_reference,
    choose_key,
    is_message_id,
    key_of_refused,
    parse_message,
)
from optus_sms.model.redaction import loggable_id
from optus_sms.model.sender_namespaces import namespace_of, namespace_of_sender, reference_of
from optus_sms.model.times import Clock, format_rfc3339, time_or_none
from optus_sms.records.items import OPTED_OUT, LedgerRecord, State
from optus_sms.records.ledger import KEEP_SECONDS, Ledger
from optus_sms.records.table import EditedItemError
from optus_sms.runtime.observability import Measurement, Metric, error_fields, logger

if TYPE_CHECKING:
    from optus_sms.flows.breaker import Breaker
    from optus_sms.flows.pacing import Pacer
    from optus_sms.flows.probing import Probing
    from optus_sms.gateway.api import Gateway
    from optus_sms.gateway.credentials import GatewayCredentials, GatewaySecret
    from optus_sms.records.messages import Messages
    from optus_sms.records.opt_outs import OptOuts
    from optus_sms.runtime.settings import OnUnknown

LEASE_MARGIN_SECONDS: Final = 30  # past the function's deadline, so that no running owner loses its lease
# As long as the longest record with this reference can be kept (with `scheduled`), so that no other message shortens
# it.
KEEP_REFERENCE_SECONDS: Final = KEEP_SECONDS + MAX_SCHEDULE_DAYS * 86_400
CLAIM_SECONDS: Final = 2.0  # for the claim and the reference; if they take longer, no POST is begun
OUTCOME_SECONDS: Final = 5.0  # for an outcome, a message and a dead letter, retried until they are written
WORKERS: Final = CONNECTIONS  # 64: at a gateway of 100 ms, more would not make a batch of a hundred faster
API_RESPONDS_SECONDS: Final = 3600.0  # how long a response of the API shows that messages reach it
OPT_OUT_NOT_READ: Final = "opt_out_not_read"
NOT_ABOUT_THE_MESSAGE: Final = (*NOT_BEGUN, "reference_not_registered", OPT_OUT_NOT_READ)
CLAIM_RESPONSE_LOST: Final = "claim_response_lost"
LATE_SECONDS: Final = 900.0  # a claim whose response was lost can be stored as late as this
_FIRST_BACKOFF_SECONDS: Final = 5
# OutboundQueue's retention and maxReceiveCount (template.yaml). With the backoff, a message reaches its retention
# before its last receive, so that an outage never makes a dead letter.
QUEUE_RETENTION_SECONDS: Final = 10 * 86_400
QUEUE_RECEIVES: Final = 1000
SQS_RETENTION_SECONDS: Final = 14 * 86_400  # the longest that SQS offers
LAST_CALL_SECONDS: Final = 2 * 3600  # before SQS deletes a message, it becomes a dead letter
_LONGEST_BACKOFF_SECONDS: Final = 1800

_T = TypeVar("_T")


class QueueRecord(NamedTuple):
    """One record of an SQS event. ``attributes``: its message attributes; None for one that is not text.

    ``sent_at``: epoch seconds, when it was queued. ``sender_id``: the identity that queued it, as SQS reports it.
    """

    sqs_message_id: str
    receipt_handle: str
    body: str
    attributes: Mapping[str, str | None]
    receive_count: int
    sent_at: float | None
    sender_id: str = ""
    lane: Lane = Lane.ORDINARY

    @classmethod
    def from_event(cls, record: Mapping[str, Any], lane: Lane = Lane.ORDINARY) -> QueueRecord:
        """Read Lambda's SQS record; a malformed value counts as absent, but not a malformed message attribute."""
        attributes = record.get("attributes") or {}
        given = record.get("messageAttributes") or {}
        return cls(
            sqs_message_id=str(record.get("messageId", "")),
            receipt_handle=str(record.get("receiptHandle", "")),
            body=str(record.get("body", "")),
            attributes={name: _text(attribute) for name, attribute in given.items()},
            receive_count=_whole(attributes.get("ApproximateReceiveCount")) or 1,
            sent_at=sent / 1000 if (sent := _whole(attributes.get("SentTimestamp"))) else None,
            sender_id=str(attributes.get("SenderId", "")),
            lane=lane,
        )

    @property
    def queued_at(self) -> float | None:
        """Return when the message was queued first: for a redriven dead letter an attribute, because SQS resets it."""
        first = time_or_none(self.attributes.get("queued_at"))
        return min((at for at in (first, self.sent_at) if at is not None), default=None)

    def namespace(self, *, separate_senders: bool) -> str:
        """Return the namespace of its sender's keys; empty if all senders share one."""
        return namespace_of_sender(self.sender_id) if separate_senders else ""

    def read(
        self,
        *,
        now: float,
        require_message_id: bool = False,
        allowed_destinations: tuple[str, ...] = (),
        allow_despite_opt_out: bool = True,
        separate_senders: bool = False,
    ) -> tuple[OutboundMessage, str]:
        """Return the message and its idempotency key, or raise `InvalidMessageError`."""
        message = parse_message(self.body, now=now, queued_at=self.queued_at)
        check_allowed(message, allowed_destinations)
        check_despite_opt_out(message, allowed=allow_despite_opt_out)
        if separate_senders:
            check_reference(message)
        key = choose_key(
            message,
            attributes=self.attributes,
            sqs_message_id=self.sqs_message_id,
            required=require_message_id,
            namespace=self.namespace(separate_senders=separate_senders),
        )
        return message, key

    def seconds_to_last_call(self, now: float) -> float:
        """Return the seconds until the message must become a dead letter before its retention ends; 0 or less: now.

        An event that is older than any queue's retention is an example without a queue, and has no last call.
        """
        age = math.inf if self.sent_at is None else now - self.sent_at
        return QUEUE_RETENTION_SECONDS - LAST_CALL_SECONDS - age if age < SQS_RETENTION_SECONDS else math.inf


class Handled(NamedTuple):
    """The result of a record: acknowledged, or returned to the queue for so many ``seconds``."""

    acknowledged: bool
    note: str
    seconds: int = 0
    measurements: tuple[Measurement, ...] = ()
    fields: Mapping[str, object] = MappingProxyType({})


class SendBatchResult(NamedTuple):
    """The SQS message IDs of the records that are not done, in order, and the metrics to publish."""

    failures: tuple[str, ...]
    measurements: tuple[Measurement, ...]


class _Order(NamedTuple):
    """One delivery of one message: its SQS record, and the ledger record to claim for it.

    ``deadline``: epoch seconds, when Lambda ends the invocation. ``is_alone``: no other is handled in parallel.
    """

    record: QueueRecord
    message: OutboundMessage
    wanted: LedgerRecord
    deadline: float
    is_alone: bool = True

    @property
    def message_id(self) -> str:
        return self.wanted.message_id

    def is_expired(self, now: float) -> bool:
        return self.message.expires_epoch is not None and now >= self.message.expires_epoch


@dataclass(frozen=True)
class Sender:
    """One per execution environment."""

    ledger: Ledger
    messages: Messages
    opt_outs: OptOuts
    queues: Queues
    gateway: Gateway
    secret: GatewaySecret
    pacers: Mapping[Lane, Pacer]
    probing: Probing
    clock: Clock = field(default_factory=Clock)
    on_unknown: OnUnknown = "hold"
    require_message_id: bool = False
    allowed_destinations: tuple[str, ...] = ()
    allow_despite_opt_out: bool = True
    separate_senders: bool = False
    max_attempts: int = 10
    random: random.Random = field(default_factory=random.SystemRandom)
    new_owner: Callable[[], str] = lambda: uuid.uuid4().hex
    workers: int = WORKERS
    beside: Beside = in_a_thread
    unwritten: UnwrittenOutcomes = field(default_factory=UnwrittenOutcomes)

    @property
    def now(self) -> float:
        """Epoch seconds."""
        return self.clock.now()

    @property
    def breaker(self) -> Breaker:
        """The circuit breaker of this execution environment."""
        return self.probing.breaker

    # A batch, and each of its records

    def send_batch(self, records: Sequence[QueueRecord], *, deadline: float) -> SendBatchResult:
        """Handle all records; ``deadline`` (epoch seconds): Lambda ends the invocation. Never raises for a record."""
        handled: list[Handled] = []
        until = min(deadline - OUTCOME_SECONDS, self.now + OUTCOME_SECONDS)
        written_late = self.unwritten.write(self.clock, until=until)
        self.secret.forget_refused()
        self.probing.before_batch()
        while len(handled) < len(records) and self.breaker.wants_probe():
            # A probe is sent alone. If it fails as the messages before did, the others return to the queue unclaimed.
            record = records[len(handled)]
            handled.append(self.probing.send_alone(partial(self._handle, record, deadline)))
        rest = records[len(handled) :]
        if len(rest) == 1:
            handled.append(self._handle(rest[0], deadline))
        elif rest:
            with ThreadPoolExecutor(max_workers=min(len(rest), self.workers)) as pool:
                handled += pool.map(lambda record: self._handle(record, deadline, is_alone=False), rest)
        self.probing.after_batch()
        for pacer in self.pacers.values():
            pacer.hold()
        return SendBatchResult(
            failures=tuple(r.sqs_message_id for r, h in zip(records, handled, strict=True) if not h.acknowledged),
            measurements=(*written_late, *(measurement for h in handled for measurement in h.measurements)),
        )

    def _handle(self, record: QueueRecord, deadline: float, *, is_alone: bool = True) -> Handled:
        """Handle one record, whatever happens."""
        try:
            handled = self._send(record, deadline, is_alone=is_alone)
        except Exception as error:  # noqa: BLE001 - a record must not harm another; the ledger keeps the proven outcomes
            handled = Handled(False, "failed", self._backoff(record), fields=error_fields(error))
        if not handled.acknowledged:
            if 0 < (left := record.seconds_to_last_call(self.now)) < handled.seconds:
                handled = handled._replace(seconds=int(left) + 1)
            try:
                self.queues.give_back(record.receipt_handle, seconds=handled.seconds, lane=record.lane)
            except Exception as error:  # noqa: BLE001 - SQS delivers it again after the queue's visibility timeout instead
                extra = {"sqs_message_id": record.sqs_message_id, **error_fields(error)}
                logger().warning("visibility timeout not changed", extra=extra)
        log = logger().error if handled.note == "failed" else logger().info
        counts = {"lane": record.lane, "receive_count": record.receive_count, "acknowledged": handled.acknowledged}
        again = {} if handled.acknowledged else {"seen_again_in": handled.seconds}
        log(handled.note, extra={"sqs_message_id": record.sqs_message_id, **counts, **again, **handled.fields})
        return handled

    def _send(self, record: QueueRecord, deadline: float, *, is_alone: bool) -> Handled:
        namespace = record.namespace(separate_senders=self.separate_senders)
        try:
            message, message_id = record.read(
                now=self.now,
                require_message_id=self.require_message_id,
                allowed_destinations=self.allowed_destinations,
                allow_despite_opt_out=self.allow_despite_opt_out,
                separate_senders=self.separate_senders,
            )
            if namespace_of(message_id) != namespace:
                self._check_redriven(message, message_id)
        except InvalidMessageError as error:
            message_id = key_of_refused(record.body, record.attributes, record.sqs_message_id, namespace=namespace)
            # Whatever this message's attributes claim, the event must not name another sender's message.
            is_own = is_message_id(message_id) and namespace_of(message_id) == namespace
            known = message_id if is_own else record.sqs_message_id
            self._record_refused(record, known, DeadLetterReason.INVALID, error.public)
            self._keep(record, DeadLetterReason.INVALID, error.detail, message_id)
            return Handled(True, "invalid", measurements=((Metric.MESSAGES_REJECTED, 1),))
        wanted = self._wanted(record, message, message_id, deadline)
        order = _Order(record, message, wanted, deadline, is_alone)
        try:
            return self._deliver(order)
        except EditedItemError:
            detail = "its item in the ledger was edited by hand: an attribute has a wrong type"
            return self._to_dead_letters(
                order, DeadLetterReason.UNKNOWN_OUTCOME, detail, (Metric.OUTCOMES_UNKNOWN, 1.0)
            )

    def _check_redriven(self, message: OutboundMessage, message_id: str) -> None:
        """Refuse a `message_id` of another sender, unless the ledger has this very message under it.

        Any sender can set the attributes of a redriven dead letter. Repeating the other sender's very message gains it
        nothing.
        """
        record = self.ledger.read(message_id)
        if record is None or record.payload_sha256 != message.payload_sha256:
            raise InvalidMessageError(
                "SQS attribute message_id: is of another sender, and the ledger has no such message; leave out the "
                "attribute queued_at, which marks a redriven dead letter"
            )

    def _wanted(self, record: QueueRecord, message: OutboundMessage, message_id: str, deadline: float) -> LedgerRecord:
        """Return the ledger record that this delivery wants to write."""
        return LedgerRecord(
            message_id,
            State.SENDING,
            owner=self.new_owner(),
            lease_until=int(deadline) + LEASE_MARGIN_SECONDS,
            payload_sha256=message.payload_sha256,
            on_unknown=message.on_unknown or self.on_unknown,
            reference=message.reference or reference_of(message_id),
            destination=message.destination,
            segments=message.segments.count,
            has_sender_id=message.mask is not None,
            scheduled_at=None if message.scheduled_epoch is None else int(message.scheduled_epoch),
            queued_at=None if record.sent_at is None else format_rfc3339(record.sent_at),
            ttl=int(max(self.now, message.scheduled_epoch or 0.0)) + KEEP_SECONDS,
        )

    # Before the claim

    def _deliver(self, order: _Order) -> Handled:
        if order.is_expired(self.now):
            expired = (Metric.MESSAGES_EXPIRED, 1.0)
            refused_by = self.ledger.expired(order.wanted, now=self.now)
            return self._refused(order, refused_by) if refused_by else _done(order, "expired", expired)
        if order.record.seconds_to_last_call(self.now) <= 0:
            return self._too_old(order)
        blocked = self.breaker.blocked_seconds()
        if blocked > 0:
            return _give_back(order, "circuit breaker open", self._backoff(order.record, blocked))
        if order.deadline - self.now < CLAIM_SECONDS + self.gateway.timeout_seconds + OUTCOME_SECONDS:
            return _give_back(order, "no time left in this invocation", 1)
        try:
            credentials = self.secret.current()  # before the claim: an unusable secret uses up no attempt
        except Exception as error:  # noqa: BLE001 - unusable or unreadable, no message can be sent without it
            self.breaker.trip()
            note = str(error) if isinstance(error, CredentialsError) else "GatewaySecret can't be read"
            logger().error(note, extra=error_fields(error))
            measurement = (Metric.CREDENTIALS_REFUSED, 1.0)
            return _give_back(order, "credentials unusable", self._backoff(order.record), measurement)
        return self._claim(order, credentials)

    def _claim(self, order: _Order, credentials: GatewayCredentials, after: LedgerRecord | None = None) -> Handled:
        try:
            despite = order.message.despite_opt_out or False
            claim = self.ledger.claim(order.wanted, now=self.now, after=after, despite_opt_out=despite)
        except Exception:
            # The claim can be stored, now or later, although the response was lost. No byte leaves under this owner.
            release = partial(self.ledger.release, order.wanted, CLAIM_RESPONSE_LOST)
            with self._written(order, order.wanted, release, repeat_until=self.now + LATE_SECONDS):
                raise
        if claim.is_held_by(order.wanted.owner):
            return self._claimed(order, claim, credentials)
        return self._refused(order, claim, credentials)

    def _refused(  # noqa: PLR0911, PLR0912 - one case for each step
        self, order: _Order, record: LedgerRecord, credentials: GatewayCredentials | None = None
    ) -> Handled:
        """Do the next step for a message that another delivery has handled or is handling."""
        duplicate = (Metric.DUPLICATES_SUPPRESSED, 1)
        is_expired = order.is_expired(self.now)
        is_too_late = is_expired or order.record.seconds_to_last_call(self.now) <= 0
        step = next_step(record, order.wanted, now=self.now, is_expired=is_expired, is_too_late=is_too_late)
        match step:
            case NextStep.CONFLICT:
                return self._conflict(order, "with other fields; use a new one for each message")
            case NextStep.EXPIRED_BEFORE:
                return self._conflict(order, "with an earlier expires_at, which has passed; use a new one")
            case NextStep.REPLACE:
                refused_by = self.ledger.replace_refused(record, order.wanted, now=self.now)
                return self._refused(order, refused_by, credentials) if refused_by else self._deliver(order)
            case NextStep.REPAIR_MESSAGE:
                repaired = self._record_sent(order, record.gateway_id) if record.gateway_id else ()
                if record.gateway_id and record.undecided:  # accepted by proof of a callback or an operator
                    self.ledger.completed(order.message_id, record.gateway_id)
                return _done(order, "duplicate of a sent message", duplicate, *repaired)
            case NextStep.DEAD_LETTER:
                self.ledger.extend(order.message_id, ttl=order.wanted.ttl)
                detail, evidence = record.detail or record.reason, record.last_evidence
                return self._to_dead_letters(order, _dead_letter_reason(record), detail, duplicate, evidence=evidence)
            case NextStep.DONE if record.state is State.RECALLED:
                return _done(order, "recalled")
            case NextStep.DONE:
                return _done(order, f"duplicate of a message that is {record.state}", duplicate)
            case NextStep.WAIT_FOR_LEASE:
                return _give_back(order, "another delivery is sending it", int(waits_until(record) - self.now) + 1)
            case NextStep.TAKE_OVER if record.owner in self.unwritten:
                return _give_back(order, "its outcome is known here, and not written yet", 1)
            case NextStep.TAKE_OVER:
                refused_by = self.ledger.unknown(record, "owner_lost", now=self.now)
                if refused_by is not None:
                    return self._refused(order, refused_by, credentials)
                return self._became_unknown(order, record, "owner_lost")
            case NextStep.WAIT_TO_RESEND:
                seconds = int(record.unknown_at + RESEND_AFTER_SECONDS - self.now) + 1
                return _give_back(order, "waits for proof", seconds)
            case NextStep.SEND_AGAIN if credentials is not None:
                return self._claim(order, credentials, after=record)
            case NextStep.SEND_AGAIN | NextStep.TRY_AGAIN:
                return _give_back(order, "changed meanwhile", 1)

    def _conflict(self, order: _Order, with_what: str) -> Handled:
        detail = f"message_id: was used before {with_what}"
        self._record_refused(order.record, order.message_id, DeadLetterReason.CONFLICT, detail)
        return self._to_dead_letters(order, DeadLetterReason.CONFLICT, detail, (Metric.MESSAGES_REJECTED, 1))

    # With the claim

    def _claimed(self, order: _Order, claim: LedgerRecord, credentials: GatewayCredentials) -> Handled:
        """Send a message that this delivery has claimed, and write the outcome."""
        return self._end(order, claim, self._attempt(order, claim, credentials))

    def _attempt(self, order: _Order, claim: LedgerRecord, credentials: GatewayCredentials) -> PostResult:
        """POST the message, unless its handset has opted out. A failure before the first byte is "not sent", too."""
        if order.message.despite_opt_out:
            return self._attempt_allowed(order, claim, credentials, lambda: True)
        beside = self.beside if order.is_alone else at_once
        with OptOutCheck(partial(self.opt_outs.read, order.message.destination), beside) as check:
            result = self._attempt_allowed(order, claim, credentials, check.allows)
        if result.reason != "not_allowed":
            return result
        if check.opt_out is not None:
            return PostResult(Outcome.REJECTED, OPTED_OUT, detail=f"{OPTED_OUT}_by_{check.opt_out.by}")
        if check.error is not None:
            extra = {"message_id": claim.message_id, **error_fields(check.error)}
            logger().warning("opt-out not read", extra=extra)
        return PostResult(Outcome.NOT_SENT, OPT_OUT_NOT_READ)

    def _attempt_allowed(
        self, order: _Order, claim: LedgerRecord, credentials: GatewayCredentials, may_start: Callable[[], bool]
    ) -> PostResult:
        try:
            if order.wanted.reference is not None:
                ttl = int(self.now) + KEEP_REFERENCE_SECONDS
                self.ledger.register_reference(order.wanted.reference, claim.message_id, ttl=ttl)
        except Exception as error:  # noqa: BLE001
            logger().warning("reference not registered", extra={"message_id": claim.message_id, **error_fields(error)})
            return PostResult(Outcome.NOT_SENT, "reference_not_registered")
        result = self._post(order, credentials, may_start)
        if result.stop is Stop.CREDENTIALS_REFUSED and (newer := self._newer_than(credentials)) is not None:
            result = self._post(order, newer, may_start)
        self.breaker.note(result, claim.message_id)
        return result

    def _end(self, order: _Order, claim: LedgerRecord, result: PostResult) -> Handled:
        """Write the outcome of a claim."""
        match result.outcome:
            case Outcome.ACCEPTED:
                return self._accepted(order, claim, result)
            case Outcome.UNKNOWN:
                return self._unknown(order, claim, result)
            case Outcome.REJECTED if result.reason == OPTED_OUT:
                return self._opted_out(order, claim, result)
            case Outcome.REJECTED:
                detail = f"the gateway refused it with HTTP {result.status}: {result.detail or 'no reason given'}"
                return self._rejected(order, claim, result, DeadLetterReason.REJECTED, detail)
            case Outcome.NOT_SENT if self._counts(claim, result) and self._is_last(claim):
                last = f"{result.words} {result.detail}".strip()
                detail = f"not sent after {claim.attempts} attempts; last error: {last}"
                if result.stop is Stop.REFUSED_IN_FRONT:
                    detail += "; a proxy or firewall in front of the API refuses this message, and no other"
                return self._rejected(order, claim, result, DeadLetterReason.ATTEMPTS_EXHAUSTED, detail)
            case Outcome.NOT_SENT:
                return self._not_sent(order, claim, result)

    def _is_last(self, claim: LedgerRecord) -> bool:
        return claim.attempts - claim.uncounted_attempts >= self.max_attempts

    def _counts(self, claim: LedgerRecord, result: PostResult) -> bool:
        """Return whether an attempt that was not sent counts towards ``MAX_ATTEMPTS``.

        A fault that concerns every message doesn't count. A refusal by a proxy in front of the API counts if the API
        has accepted other messages since the first refusal of this one.
        """
        if result.stop is Stop.REFUSED_IN_FRONT:
            refusals = (step for step in claim.steps() if step.words.startswith(Stop.REFUSED_IN_FRONT))
            first = next((time_or_none(step.at) for step in refusals if step.what == "not_sent"), None)
            if first is None:
                return False
            return self.breaker.responds_to_others(within_seconds=min(self.now - first, API_RESPONDS_SECONDS))
        return result.stop is None and result.reason not in NOT_ABOUT_THE_MESSAGE

    def _newer_than(self, refused: GatewayCredentials) -> GatewayCredentials | None:
        try:
            return self.secret.newer_than(refused)
        except Exception as error:  # noqa: BLE001 - the POST was refused, so the message is certainly not sent
            logger().error("credentials not read", extra=error_fields(error))
            return None

    def _post(self, order: _Order, credentials: GatewayCredentials, may_start: Callable[[], bool]) -> PostResult:
        """POST once in a slot. Don't begin later than the deadline or `expires_at` allows."""
        latest = order.deadline - OUTCOME_SECONDS - self.gateway.timeout_seconds
        if not self.pacers[order.record.lane].wait_for_slot(at_most=latest - self.now):
            return PostResult(Outcome.NOT_SENT, "too_late")
        if order.message.expires_epoch is not None:
            latest = min(latest, order.message.expires_epoch)
        if self.now >= latest:
            return PostResult(Outcome.NOT_SENT, "too_late")
        if self.breaker.blocked_seconds() > 0:  # the breaker opened while this message waited for its slot
            return PostResult(Outcome.NOT_SENT, "circuit_breaker_open")
        fields = order.message.gateway_fields(order.wanted.effective_reference, self.now)
        start_within = latest - self.now
        return self.gateway.post_message(fields, credentials, start_within=start_within, may_start=may_start)

    # Outcomes

    def _accepted(self, order: _Order, claim: LedgerRecord, result: PostResult) -> Handled:
        gateway_id = result.gateway_id
        if gateway_id is None:
            logger().warning("accepted without an ID; a callback can bring it", extra={"message_id": claim.message_id})
        measurements: list[Measurement] = [
            (Metric.MESSAGES_ACCEPTED, 1.0),
            (Metric.SEGMENTS_SENT, float(order.message.segments.count)),
            (Metric.GATEWAY_LATENCY, result.seconds * 1000),
        ]
        if (order.wanted.scheduled_at or 0) <= self.now:
            measurements.append((Metric.MESSAGES_DUE, 1.0))
        if order.record.sent_at is not None:
            measurements.append((Metric.QUEUE_DELAY, max(0.0, self.now - order.record.sent_at) * 1000))
        with self._written(order, claim, partial(self._write_accepted, order, claim, result), *measurements):
            if gateway_id is not None:
                measurements += self._record_sent(order, gateway_id, result.message_status, result.message_detail)
            return _done(order, "accepted", *measurements, result=result)

    def _write_accepted(self, order: _Order, claim: LedgerRecord, result: PostResult, *, now: float) -> None:
        """Write the proof of acceptance to the ledger, which is never refused.

        If the record has another ID, the item of that ID is written too, because the delivery that had to write it may
        have crashed.
        """
        first = self.ledger.accepted(claim, result.gateway_id, evidence=result.evidence, now=now)
        if first is None or first.gateway_id is None:
            return
        if result.gateway_id is not None:
            ids = {"gateway_id": loggable_id(result.gateway_id), "first": loggable_id(first.gateway_id)}
            logger().error("accepted twice", extra={"message_id": claim.message_id, **ids})
        complete(self.ledger, self.messages, order.wanted, first.gateway_id, now=now)

    def _record_sent(
        self, order: _Order, gateway_id: str, status: str | None = None, detail: str | None = None
    ) -> tuple[Measurement, ...]:
        """Write the message to `MessagesTable`; return a metric if its gateway ID is another message's."""
        taken_by = self._write(
            order,
            lambda: self.messages.record_sent(gateway_id, order.wanted, status=status, detail=detail, now=self.now),
        )
        if taken_by is None:
            return ()
        log_taken(gateway_id, order.message_id, taken_by)
        return ((Metric.GATEWAY_IDS_TAKEN, 1.0),)

    def _unknown(self, order: _Order, claim: LedgerRecord, result: PostResult) -> Handled:
        write = partial(self.ledger.unknown, claim, result.words, evidence=result.evidence)
        with self._written(order, claim, write, (Metric.OUTCOMES_UNKNOWN, 1.0)) as refused_by:
            if refused_by is not None:
                handled = self._refused(order, refused_by)  # a callback resolved it, or another delivery took over
            else:
                handled = self._became_unknown(order, claim, result.words, result.evidence)
        return handled._replace(measurements=(*handled.measurements, (Metric.GATEWAY_ERRORS, 1.0)))

    def _became_unknown(self, order: _Order, record: LedgerRecord, reason: str, evidence: str = "") -> Handled:
        """Wait for proof before the one resend that is allowed, or make a dead letter."""
        measurement = (Metric.OUTCOMES_UNKNOWN, 1.0)
        if may_resend(record.on_unknown, record.unknown_outcomes + 1):
            note = "outcome unknown, waits for proof"
            return _give_back(order, note, RESEND_AFTER_SECONDS + 1, measurement, reason=reason)
        return self._to_dead_letters(order, DeadLetterReason.UNKNOWN_OUTCOME, reason, measurement, evidence=evidence)

    def _rejected(
        self, order: _Order, claim: LedgerRecord, result: PostResult, reason: DeadLetterReason, detail: str
    ) -> Handled:
        if claim.has_open_outcome:  # this attempt was not sent, but an earlier one may have been
            detail += "; the outcome of an earlier attempt is unknown"
        # The gateway's error text can quote the message: it goes into the dead letter, not into the ledger.
        write = partial(self.ledger.rejected, claim, reason.value, result.words, evidence=result.evidence)
        rejected = (Metric.MESSAGES_REJECTED, 1.0)
        with self._written(order, claim, write, rejected) as refused_by:
            if refused_by is not None:
                return self._refused(order, refused_by)
            return self._to_dead_letters(order, reason, detail, rejected, evidence=result.evidence, result=result)

    def _opted_out(self, order: _Order, claim: LedgerRecord, result: PostResult) -> Handled:
        """End a message whose handset has opted out: no dead letter, because no operator could send it either."""
        write = partial(self.ledger.rejected, claim, OPTED_OUT, result.detail)
        opted_out = (Metric.MESSAGES_OPTED_OUT, 1.0)
        with self._written(order, claim, write, opted_out) as refused_by:
            if refused_by is not None:
                return self._refused(order, refused_by)
        return _done(order, OPTED_OUT, opted_out)

    def _not_sent(self, order: _Order, claim: LedgerRecord, result: PostResult) -> Handled:
        counts = self._counts(claim, result)
        write = partial(self.ledger.not_sent, claim, result.words, counts=counts, evidence=result.evidence)
        with self._written(order, claim, write) as refused_by:
            if refused_by is not None:
                return self._refused(order, refused_by)
        if result.reason in NOT_BEGUN:
            blocked = self.breaker.blocked_seconds()
            seconds = self._backoff(order.record, blocked) if blocked else 1
            return _give_back(order, "not sent", seconds, result=result)
        measurements: list[Measurement] = (
            [] if result.reason in NOT_ABOUT_THE_MESSAGE else [(Metric.GATEWAY_ERRORS, 1.0)]
        )
        if result.stop is Stop.CREDENTIALS_REFUSED:
            measurements.append((Metric.CREDENTIALS_REFUSED, 1.0))
        seconds = self._backoff(order.record, result.retry_after_seconds or 0)
        return _give_back(order, "not sent", seconds, *measurements, result=result)

    def _too_old(self, order: _Order) -> Handled:
        reason = DeadLetterReason.ATTEMPTS_EXHAUSTED
        refused_by = self.ledger.too_old(order.wanted, reason.value, now=self.now)
        if refused_by is not None:
            return self._refused(order, refused_by)
        days = QUEUE_RETENTION_SECONDS // 86_400
        detail = f"no attempt is known to have been accepted in the {days} days that the queue keeps a message"
        return self._to_dead_letters(order, reason, detail, (Metric.MESSAGES_REJECTED, 1.0))

    def _to_dead_letters(
        self,
        order: _Order,
        reason: DeadLetterReason,
        detail: str,
        *measurements: Measurement,
        evidence: str = "",
        result: PostResult | None = None,
    ) -> Handled:
        self._write(order, lambda: self._keep(order.record, reason, detail, order.message_id, evidence))
        return _done(order, reason.value, *measurements, result=result)

    def _record_refused(self, record: QueueRecord, message_id: str, reason: DeadLetterReason, detail: str) -> None:
        """Record a message that its sender must correct, for the event `SMS Refused`."""
        self.ledger.refused(record.sqs_message_id, message_id, reason.value, detail, now=self.now)

    def _keep(
        self, record: QueueRecord, reason: DeadLetterReason, detail: str, message_id: str, evidence: str = ""
    ) -> None:
        """Put a copy of the message on the dead-letter queue."""
        dead_letter = DeadLetter(record.body, reason, detail, message_id, evidence, record.queued_at, lane=record.lane)
        self.queues.dead_letter(dead_letter, now=self.now)

    @contextmanager
    def _written(
        self,
        order: _Order,
        claim: LedgerRecord,
        write: LedgerWrite,
        *measurements: Measurement,
        repeat_until: float = 0.0,
    ) -> Iterator[LedgerRecord | None]:
        """Write the outcome of a claim, then run the block for the rest; yield the record that refused the write, if
        one did.

        If the write or the block fails, the next batch writes the outcome again, and counts ``measurements``.
        """
        with self.unwritten.remembered(claim.owner, write, *measurements, repeat_until=repeat_until):
            yield self._write(order, lambda: write(now=self.now))

    def _write(self, order: _Order, write: Callable[[], _T]) -> _T:
        """Write an outcome: retry until there is no time left, then raise."""
        pause = 0.1
        while True:
            try:
                return write()
            except Exception as error:
                if isinstance(error, EditedItemError) or self.now + pause > order.deadline - 2:
                    extra = {"message_id": order.message_id, **error_fields(error)}
                    logger().error("outcome not written", extra=extra)
                    raise
                self.clock.sleep(pause)
                pause = min(pause * 2, 1.0)

    def _backoff(self, record: QueueRecord, at_least: float = 0.0) -> int:
        """Return the seconds until the next delivery: over ``at_least``, doubled with each receive, with jitter."""
        ceiling = min(_FIRST_BACKOFF_SECONDS * 2 ** min(record.receive_count - 1, 10), _LONGEST_BACKOFF_SECONDS)
        return int(at_least) + 1 + int(self.random.uniform(ceiling / 2, ceiling))


def _done(order: _Order, note: str, *measurements: Measurement, result: PostResult | None = None) -> Handled:
    return Handled(True, note, 0, measurements, _log_fields(order, result))


def _give_back(
    order: _Order,
    note: str,
    seconds: int,
    *measurements: Measurement,
    result: PostResult | None = None,
    reason: str = "",
) -> Handled:
    return Handled(False, note, seconds, measurements, _log_fields(order, result, reason))


def _log_fields(order: _Order, result: PostResult | None, reason: str = "") -> dict[str, object]:
    fields: dict[str, object] = {"message_id": order.message_id, **({"reason": reason} if reason else {})}
    if result is not None:
        fields |= {
            "outcome": result.words,
            "gateway_id": result.gateway_id and loggable_id(result.gateway_id),
            "gateway_ms": round(result.seconds * 1000),
        }
    return fields


def _dead_letter_reason(record: LedgerRecord) -> DeadLetterReason:
    """Return the reason of the first dead letter of a message that was delivered again."""
    if record.state is State.UNKNOWN:
        return DeadLetterReason.UNKNOWN_OUTCOME
    exhausted = record.reason == DeadLetterReason.ATTEMPTS_EXHAUSTED
    return DeadLetterReason.ATTEMPTS_EXHAUSTED if exhausted else DeadLetterReason.REJECTED


def _text(attribute: object) -> str | None:
    text = attribute.get("stringValue") if isinstance(attribute, Mapping) else None
    return text if isinstance(text, str) else None


def _whole(text: object) -> int | None:
    try:
        return int(str(text))
    except ValueError:
        return None
