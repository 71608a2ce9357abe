"""Send each message of the queue at most once, and lose none: the send protocol (docs/guarantees.md).

For each record: validate → claim in the ledger → POST once → write the outcome → acknowledge or give back. Records of a
batch run side by side; every thread has ended when `Sender.send_batch` returns, so nobody POSTs from a thawed sandbox.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Protocol, TypeVar

from optus_sms.aws.queues import DeadLetter, DeadLetterReason, Queues
from optus_sms.flows.breaker import Breaker
from optus_sms.flows.pacing import Pacer
from optus_sms.gateway.api import Outcome, PostResult, Stop
from optus_sms.gateway.credentials import GatewayCredentials
from optus_sms.model.errors import CredentialsError, InvalidMessageError
from optus_sms.model.queue_message import MAX_SCHEDULE_DAYS, OutboundMessage, choose_key, parse_message
from optus_sms.model.redaction import loggable_id
from optus_sms.model.times import Clock, format_rfc3339
from optus_sms.records.ledger import KEEP_SECONDS, Claim, Entry, Ledger, LedgerRecord, State
from optus_sms.records.messages import MessageStore, SentMessage
from optus_sms.runtime.observability import Measurement, Metric, error_fields, logger
from optus_sms.runtime.settings import OnUnknown

LEASE_MARGIN_SECONDS: Final = 30  # past the function's own deadline, so that no living owner loses its lease
RESEND_AFTER_SECONDS: Final = 120  # time for a status callback to prove the first one after all
RESENDS: Final = 1
# As long as any record that answers to it, whatever its schedule: the next message that shares it must not shorten it.
KEEP_REFERENCE_SECONDS: Final = KEEP_SECONDS + MAX_SCHEDULE_DAYS * 86_400
CLAIM_SECONDS: Final = 2.0  # a claim and a reference; if they take longer, the POST is not begun
OUTCOME_SECONDS: Final = 5.0  # an outcome, a message row and a dead-letter copy, tried again until they are written
WORKERS: Final = 32
_FIRST_BACKOFF_SECONDS: Final = 5
_LONGEST_BACKOFF_SECONDS: Final = 900
_LONGEST_WAIT_SECONDS: Final = 3600  # untried, in an outage without a pause: the queue allows 100 receives, thus days

_T = TypeVar("_T")


class GatewayPort(Protocol):
    """`optus_sms.gateway.api.Gateway`, as far as it is used here."""

    timeout_seconds: float

    def post_message(
        self, fields: Mapping[str, Any], credentials: GatewayCredentials, *, start_within: float
    ) -> PostResult:
        """One POST; never raises."""


class SecretPort(Protocol):
    """`optus_sms.gateway.credentials.GatewaySecret`, as far as it is used here."""

    def current(self) -> GatewayCredentials:
        """The credentials, or `CredentialsError`."""

    def newer_than(self, refused: GatewayCredentials) -> GatewayCredentials | None:
        """Others than those the gateway refused, if there are any."""

    def forget_refused(self) -> None:
        """If these were refused, read them again at the next use."""


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """One record of an SQS event. ``sent_at``: epoch seconds, when it was queued."""

    sqs_message_id: str
    receipt_handle: str
    body: str
    message_id_attribute: str | None
    receive_count: int
    sent_at: float | None

    @classmethod
    def from_event(cls, record: Mapping[str, Any]) -> QueueRecord:
        """From Lambda's SQS record; what is missing or odd there is as good as absent."""
        attributes = record.get("attributes") or {}
        key = (record.get("messageAttributes") or {}).get("message_id") or {}
        return cls(
            sqs_message_id=str(record.get("messageId", "")),
            receipt_handle=str(record.get("receiptHandle", "")),
            body=str(record.get("body", "")),
            message_id_attribute=key.get("stringValue") or None,
            receive_count=_whole(attributes.get("ApproximateReceiveCount")) or 1,
            sent_at=sent / 1000 if (sent := _whole(attributes.get("SentTimestamp"))) else None,
        )


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of a record: acknowledged, or given back to be seen again in ``seconds``."""

    acknowledged: bool
    note: str
    seconds: int = 0
    measurements: tuple[Measurement, ...] = ()
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SendBatchResult:
    """SQS message ids of the records that are not done, in order, and what to publish."""

    failures: tuple[str, ...]
    measurements: tuple[Measurement, ...]


class Refusal(Enum):
    """What a ledger record that refuses a claim asks of us."""

    CONFLICT = auto()
    REPAIR_ROW = auto()
    DEAD_LETTER = auto()
    DONE = auto()
    WAIT = auto()
    TAKE_OVER = auto()
    WAIT_TO_RESEND = auto()
    SEND_AGAIN = auto()
    TRY_AGAIN = auto()


def decide_refusal(record: LedgerRecord, payload_sha256: str, *, now: float, expired: bool) -> Refusal:  # noqa: PLR0911
    """The design's section 4, step 3: one line for each state."""
    if record.payload_sha256 is not None and record.payload_sha256 != payload_sha256:
        return Refusal.CONFLICT
    match record.state:
        case State.ACCEPTED:
            return Refusal.REPAIR_ROW
        case State.REJECTED:
            return Refusal.DEAD_LETTER
        case State.EXPIRED:
            return Refusal.DONE
        case State.SENDING:
            return Refusal.WAIT if now < record.lease_until else Refusal.TAKE_OVER
        case State.UNKNOWN:
            if record.on_unknown == "hold" or expired or record.unknown_outcomes > RESENDS:
                return Refusal.DEAD_LETTER
            return Refusal.SEND_AGAIN if now >= record.unknown_at + RESEND_AFTER_SECONDS else Refusal.WAIT_TO_RESEND
        case State.RETRY:
            return Refusal.TRY_AGAIN  # it became RETRY between our write and now


@dataclass(frozen=True)
class Sender:
    """One per sandbox."""

    ledger: Ledger
    messages: MessageStore
    queues: Queues
    gateway: GatewayPort
    secret: SecretPort
    pacer: Pacer
    breaker: Breaker
    clock: Clock = field(default_factory=Clock)
    on_unknown: OnUnknown = "hold"
    require_message_id: bool = False
    max_attempts: int = 10
    random: random.Random = field(default_factory=random.SystemRandom)
    new_owner: Callable[[], str] = lambda: uuid.uuid4().hex
    workers: int = WORKERS

    def send_batch(self, records: Sequence[QueueRecord], *, deadline: float) -> SendBatchResult:
        """Handle all records; ``deadline`` (epoch seconds): Lambda ends the invocation. Never raises for a record."""
        handled: list[Handled] = []
        self.secret.forget_refused()
        while len(handled) < len(records) and self.breaker.wants_probe():
            # One goes alone. If it fails as the last ones did, the rest finds the breaker open and goes back untried.
            handled.append(self._handle(records[len(handled)], deadline))
        rest = records[len(handled) :]
        if len(rest) == 1:
            handled.append(self._handle(rest[0], deadline))
        elif rest:
            with ThreadPoolExecutor(max_workers=min(len(rest), self.workers)) as pool:
                handled += pool.map(lambda record: self._handle(record, deadline), rest)
        self.pacer.hold()
        return SendBatchResult(
            failures=tuple(r.sqs_message_id for r, h in zip(records, handled, strict=True) if not h.acknowledged),
            measurements=tuple(measurement for h in handled for measurement in h.measurements),
        )

    def _handle(self, record: QueueRecord, deadline: float) -> Handled:
        """One record to its end, whatever happens."""
        try:
            handled = self._send(record, deadline)
        except Exception as error:  # noqa: BLE001 - a record must never harm another; the ledger says what is certain
            handled = Handled(False, "failed", self.backoff(record), fields=error_fields(error))
        if not handled.acknowledged:
            try:
                self.queues.give_back(record.receipt_handle, seconds=handled.seconds)
            except Exception as error:  # noqa: BLE001 - it comes back after the queue's visibility timeout instead
                logger().warning(
                    "not given back early", extra={"sqs_message_id": record.sqs_message_id, **error_fields(error)}
                )
        log = logger().error if handled.note == "failed" else logger().info
        log(
            handled.note,
            extra={
                "sqs_message_id": record.sqs_message_id,
                "receive_count": record.receive_count,
                "acknowledged": handled.acknowledged,
                **({} if handled.acknowledged else {"seen_again_in": handled.seconds}),
                **handled.fields,
            },
        )
        return handled

    def _send(self, record: QueueRecord, deadline: float) -> Handled:
        now = self.clock.now()
        try:
            message = parse_message(record.body, now=now)
            key = choose_key(
                message,
                attribute=record.message_id_attribute,
                sqs_message_id=record.sqs_message_id,
                required=self.require_message_id,
            )
        except InvalidMessageError as error:
            key = record.message_id_attribute or record.sqs_message_id
            self.dead_letter(record, DeadLetterReason.INVALID, error.detail, key)
            return Handled(True, "invalid", measurements=((Metric.MESSAGES_REJECTED, 1),))
        return _Attempt(self, record, message, key, deadline).run()

    def dead_letter(self, record: QueueRecord, reason: DeadLetterReason, detail: str, key: str) -> None:
        """Keep a copy where a person finds it."""
        self.queues.dead_letter(DeadLetter(record.body, reason, detail, key), now=self.clock.now())

    def backoff(self, record: QueueRecord, at_least: float = 0.0, *, longest: int = _LONGEST_BACKOFF_SECONDS) -> int:
        """Seconds until a message is seen again: doubles with each receive, with jitter, never less than asked for."""
        ceiling = min(_FIRST_BACKOFF_SECONDS * 2 ** min(record.receive_count - 1, 10), longest)
        return int(at_least) + 1 + int(self.random.uniform(ceiling / 2, ceiling))


class _Attempt:
    """One delivery of one message, from the claim on."""

    def __init__(
        self, sender: Sender, record: QueueRecord, message: OutboundMessage, key: str, deadline: float
    ) -> None:
        self.sender = sender
        self.record = record
        self.message = message
        self.deadline = deadline
        scheduled = message.scheduled_epoch or 0.0
        self.entry = Entry(
            key=key,
            payload_sha256=message.payload_sha256,
            on_unknown=message.on_unknown or sender.on_unknown,
            reference=message.reference,
            destination=message.destination,
            segments=message.segments.count,
            masked=message.mask is not None,
            ttl=int(max(sender.clock.now(), scheduled)) + KEEP_SECONDS,
            queued_at=None if record.sent_at is None else format_rfc3339(record.sent_at),
        )

    @property
    def now(self) -> float:
        return self.sender.clock.now()

    @property
    def expired(self) -> bool:
        return self.message.expires_epoch is not None and self.now >= self.message.expires_epoch

    def run(self) -> Handled:
        if self.expired:
            refused_by = self.sender.ledger.expired(self.entry, now=self.now)
            return self._refused(refused_by) if refused_by else self._expired()
        blocked = self.sender.breaker.blocked_seconds()
        if blocked > 0:
            return self._give_back(
                "sending is stopped", self.sender.backoff(self.record, blocked, longest=_LONGEST_WAIT_SECONDS)
            )
        if self.deadline - self.now < CLAIM_SECONDS + self.sender.gateway.timeout_seconds + OUTCOME_SECONDS:
            return self._give_back("no time left in this invocation", 1)
        try:
            self.credentials = self.sender.secret.current()  # before the claim: an unusable secret is nobody's attempt
        except CredentialsError as error:
            self.sender.breaker.trip()
            logger().error(str(error))
            seconds = self.sender.backoff(self.record, longest=_LONGEST_WAIT_SECONDS)
            return self._give_back("credentials unusable", seconds, (Metric.CREDENTIALS_REFUSED, 1))
        return self._claim()

    def _claim(self, after: LedgerRecord | None = None) -> Handled:
        claim = self.sender.ledger.claim(
            self.entry,
            owner=self.sender.new_owner(),
            lease_until=int(self.deadline) + LEASE_MARGIN_SECONDS,
            now=self.now,
            after=after,
        )
        return self._claimed(claim) if isinstance(claim, Claim) else self._refused(claim)

    def _refused(self, record: LedgerRecord) -> Handled:  # noqa: PLR0911 - one line for each answer
        """Somebody dealt, or deals, with this message: do what is left of it."""
        duplicate = (Metric.DUPLICATES_SUPPRESSED, 1)
        match decide_refusal(record, self.entry.payload_sha256, now=self.now, expired=self.expired):
            case Refusal.CONFLICT:
                detail = "message_id: was used before with other fields; give each message its own"
                return self._to_dead_letters(DeadLetterReason.CONFLICT, detail, (Metric.MESSAGES_REJECTED, 1))
            case Refusal.REPAIR_ROW:
                if record.gateway_id is not None:
                    self._record_sent(record.gateway_id)
                return self._done("duplicate of a sent message", duplicate)
            case Refusal.DEAD_LETTER:
                self.sender.ledger.extend(self.entry.key, ttl=self.entry.ttl)
                return self._to_dead_letters(_dead_letter_reason(record), record.detail or record.reason, duplicate)
            case Refusal.DONE:
                return self._done("duplicate of an expired message", duplicate)
            case Refusal.WAIT:
                return self._give_back("being sent elsewhere", int(record.lease_until - self.now) + 1)
            case Refusal.TAKE_OVER:
                refused_by = self.sender.ledger.lapsed(record, now=self.now)
                return self._refused(refused_by) if refused_by else self._resolve_unknown("owner_lost", record)
            case Refusal.WAIT_TO_RESEND:
                return self._give_back("waits for proof", int(record.unknown_at + RESEND_AFTER_SECONDS - self.now) + 1)
            case Refusal.SEND_AGAIN:
                return self._claim(after=record)
            case Refusal.TRY_AGAIN:
                return self._give_back("changed meanwhile", 1)

    def _claimed(self, claim: Claim) -> Handled:
        """Ours alone now. Until a byte leaves, whatever goes wrong is certainly not sent, and is noted as that."""
        try:
            if self.message.reference is not None:
                ttl = int(self.now) + KEEP_REFERENCE_SECONDS
                self.sender.ledger.register_reference(self.message.reference, claim.key, ttl=ttl)
        except Exception as error:  # noqa: BLE001
            logger().warning("reference not registered", extra={"message_id": claim.key, **error_fields(error)})
            return self._not_sent(claim, PostResult(Outcome.NOT_SENT, "reference_not_registered"))
        outcome = self._post(self.credentials)
        if outcome.stop is Stop.CREDENTIALS_REFUSED and (newer := self._newer_credentials()) is not None:
            outcome = self._post(newer)
        self.sender.breaker.note(outcome)
        match outcome.outcome:
            case Outcome.ACCEPTED:
                return self._sent(claim, outcome)
            case Outcome.UNKNOWN:
                return self._unknown(claim, outcome)
            case Outcome.REJECTED:
                detail = f"the gateway refused it with status {outcome.status}: {outcome.detail or 'no reason given'}"
                return self._rejected(claim, outcome, DeadLetterReason.REJECTED, detail)
            case Outcome.NOT_SENT if self._is_last(claim) and outcome.reason != "too_late":
                detail = (
                    f"tried {claim.attempt} times, certainly not sent; last: {_words(outcome)} {outcome.detail}".strip()
                )
                return self._rejected(claim, outcome, DeadLetterReason.ATTEMPTS_EXHAUSTED, detail)
            case Outcome.NOT_SENT:
                return self._not_sent(claim, outcome)

    def _is_last(self, claim: Claim) -> bool:
        return claim.attempt - claim.earlier_attempts >= self.sender.max_attempts

    def _newer_credentials(self) -> GatewayCredentials | None:
        try:
            return self.sender.secret.newer_than(self.credentials)
        except Exception as error:  # noqa: BLE001 - the POST was refused, so nothing is lost by going on without
            logger().error("credentials not read", extra=error_fields(error))
            return None

    def _post(self, credentials: GatewayCredentials) -> PostResult:
        """One POST in its slot, not begun later than time or the message's expiry allow."""
        gateway = self.sender.gateway
        latest = self.deadline - OUTCOME_SECONDS - gateway.timeout_seconds
        if not self.sender.pacer.wait_for_slot(at_most=latest - self.now):
            return PostResult(Outcome.NOT_SENT, "too_late")
        if self.message.expires_epoch is not None:
            latest = min(latest, self.message.expires_epoch)
        if self.now >= latest:
            return PostResult(Outcome.NOT_SENT, "too_late")
        fields = self.message.gateway_fields(self.entry.key, self.now)
        return gateway.post_message(fields, credentials, start_within=latest - self.now)

    def _sent(self, claim: Claim, outcome: PostResult) -> Handled:
        gateway_id = outcome.gateway_id
        if gateway_id is None:
            logger().warning("accepted without an id; a callback will tell", extra={"message_id": claim.key})
        refused_by = self._write(lambda: self.sender.ledger.accepted(claim, self.entry, gateway_id, now=self.now))
        if refused_by is not None:
            logger().error(
                "accepted twice",
                extra={
                    "message_id": claim.key,
                    "gateway_id": gateway_id and loggable_id(gateway_id),
                    "first": refused_by.gateway_id and loggable_id(refused_by.gateway_id),
                },
            )
        if gateway_id is not None:
            self._write(lambda: self._record_sent(gateway_id))
        measurements = [
            (Metric.MESSAGES_ACCEPTED, 1.0),
            (Metric.SEGMENTS_SENT, float(self.entry.segments)),
            (Metric.GATEWAY_LATENCY, outcome.seconds * 1000),
        ]
        if self.record.sent_at is not None:
            measurements.append((Metric.QUEUE_DELAY, max(0.0, self.now - self.record.sent_at) * 1000))
        return self._done("accepted", *measurements, outcome=outcome)

    def _unknown(self, claim: Claim, outcome: PostResult) -> Handled:
        error = (Metric.GATEWAY_ERRORS, 1.0)
        refused_by = self._write(lambda: self.sender.ledger.unknown(claim, _words(outcome), now=self.now))
        if refused_by is not None:
            handled = self._refused(refused_by)  # a callback proved it, or somebody took over while we waited
            return _with(handled, error)
        seen = LedgerRecord(
            claim.key, State.UNKNOWN, on_unknown=claim.on_unknown, unknown_outcomes=claim.unknown_outcomes
        )
        return _with(self._resolve_unknown(_words(outcome), seen), error)

    def _resolve_unknown(self, reason: str, record: LedgerRecord) -> Handled:
        """Just became UNKNOWN: wait for proof before the one resend that is allowed, or keep it for a person."""
        measurement = (Metric.OUTCOMES_UNKNOWN, 1.0)
        if record.on_unknown == "resend" and record.unknown_outcomes < RESENDS:
            return self._give_back(
                "outcome unknown, waits for proof", RESEND_AFTER_SECONDS + 1, measurement, reason=reason
            )
        return self._to_dead_letters(DeadLetterReason.UNKNOWN_OUTCOME, reason, measurement)

    def _rejected(self, claim: Claim, outcome: PostResult, reason: DeadLetterReason, detail: str) -> Handled:
        # The gateway's own words may quote the text: they go with the body, not into the ledger.
        words = _words(outcome)
        if claim.unknown_outcomes:
            detail += "; the outcome of an earlier try is unknown"  # this try was not sent, but that one may have been
        refused_by = self._write(lambda: self.sender.ledger.rejected(claim, reason.value, words, now=self.now))
        if refused_by is not None:
            return self._refused(refused_by)
        return self._to_dead_letters(reason, detail, (Metric.MESSAGES_REJECTED, 1.0), outcome=outcome)

    def _not_sent(self, claim: Claim, outcome: PostResult) -> Handled:
        refused_by = self._write(lambda: self.sender.ledger.not_sent(claim, _words(outcome), now=self.now))
        if refused_by is not None:
            return self._refused(refused_by)
        measurements = [] if outcome.reason == "too_late" else [(Metric.GATEWAY_ERRORS, 1.0)]
        if outcome.stop is Stop.CREDENTIALS_REFUSED:
            measurements.append((Metric.CREDENTIALS_REFUSED, 1.0))
        seconds = (
            1 if outcome.reason == "too_late" else self.sender.backoff(self.record, outcome.retry_after_seconds or 0)
        )
        return self._give_back("not sent", seconds, *measurements, outcome=outcome)

    def _expired(self) -> Handled:
        return self._done("expired", (Metric.MESSAGES_EXPIRED, 1.0))

    def _record_sent(self, gateway_id: str) -> None:
        sent = SentMessage(
            gateway_id=gateway_id,
            message_id=self.entry.key,
            reference=self.entry.reference or self.entry.key,
            destination=self.entry.destination,
            segments=self.entry.segments,
            masked=self.entry.masked,
            scheduled_at=self.message.scheduled_epoch,
        )
        self.sender.messages.record_sent(sent, now=self.now)

    def _write(self, write: Callable[[], _T]) -> _T:
        """An outcome must be written: try again until there is no time left, then raise."""
        pause = 0.1
        while True:
            try:
                return write()
            except Exception as error:
                if self.now + pause > self.deadline - 2:
                    logger().error("outcome not written", extra={"message_id": self.entry.key, **error_fields(error)})
                    raise
                self.sender.clock.sleep(pause)
                pause = min(pause * 2, 1.0)

    def _to_dead_letters(
        self, reason: DeadLetterReason, detail: str, *measurements: Measurement, outcome: PostResult | None = None
    ) -> Handled:
        self._write(lambda: self.sender.dead_letter(self.record, reason, detail, self.entry.key))
        return self._done(reason.value, *measurements, outcome=outcome)

    def _done(self, note: str, *measurements: Measurement, outcome: PostResult | None = None) -> Handled:
        return Handled(True, note, 0, measurements, self._fields(outcome))

    def _give_back(
        self, note: str, seconds: int, *measurements: Measurement, outcome: PostResult | None = None, reason: str = ""
    ) -> Handled:
        return Handled(False, note, seconds, measurements, self._fields(outcome, reason))

    def _fields(self, outcome: PostResult | None, reason: str = "") -> dict[str, object]:
        fields: dict[str, object] = {"message_id": self.entry.key}
        if reason:
            fields["reason"] = reason
        if outcome is not None:
            fields |= {
                "outcome": _words(outcome),
                "gateway_id": outcome.gateway_id and loggable_id(outcome.gateway_id),
                "gateway_ms": round(outcome.seconds * 1000),
            }
        return fields


def _words(outcome: PostResult) -> str:
    return outcome.reason if outcome.status is None else f"{outcome.reason} (status {outcome.status})"


def _dead_letter_reason(record: LedgerRecord) -> DeadLetterReason:
    """Of a record whose message came round again: why it needed a person the first time."""
    if record.state is State.UNKNOWN:
        return DeadLetterReason.UNKNOWN_OUTCOME
    return (
        DeadLetterReason.ATTEMPTS_EXHAUSTED
        if record.reason == DeadLetterReason.ATTEMPTS_EXHAUSTED
        else DeadLetterReason.REJECTED
    )


def _with(handled: Handled, measurement: Measurement) -> Handled:
    return Handled(
        handled.acknowledged, handled.note, handled.seconds, (*handled.measurements, measurement), handled.fields
    )


def _whole(text: object) -> int | None:
    try:
        return int(str(text))
    except ValueError:
        return None
