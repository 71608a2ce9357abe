"""Nothing stays undecided: every five minutes, what nobody else has ended is looked at (docs/outages.md).

Each step does a bounded amount of work on what is due; what is left over is due again in the next run. A step that
fails does not keep the others from being done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, TypeVar

from optus_sms.flows.resolving import resolve_by_reference
from optus_sms.gateway.api import is_from_api, json_object
from optus_sms.model.callbacks import StatusCallback
from optus_sms.model.errors import CredentialsError
from optus_sms.model.redaction import loggable_id
from optus_sms.model.statuses import FINAL_STATUSES, STATUS_RANK, normalised
from optus_sms.model.times import Clock
from optus_sms.records.items import LedgerRecord, MessageRecord, State
from optus_sms.records.ledger import LAPSE_SECONDS, Ledger
from optus_sms.records.messages import Awaiting, IdTakenError, Messages
from optus_sms.runtime.observability import Measurement, Metric, error_fields, logger

_T = TypeVar("_T")

if TYPE_CHECKING:
    from optus_sms.gateway.api import Gateway
    from optus_sms.gateway.credentials import GatewayCredentials, GatewaySecret
    from optus_sms.gateway.transport import Exchange

AT_ONCE: Final = 200  # items of each kind in one run
ASKS_AT_ONCE: Final = 100  # questions to the gateway in one run
ASK_SECONDS: Final = 0.5  # between two of them
UNANSWERED_IN_A_ROW: Final = 3  # then it is the gateway that is not well, and the next run asks again
RUN_SECONDS: Final = 60.0  # after which nothing new is begun
WRITE_SECONDS: Final = 10.0  # kept at the end of the invocation for what was begun
# A message is asked for one day after it was sent (`message_store.FIRST_LOOK_SECONDS`), and again so long after each
# time: the last time eight days after, a day longer than carriers try.
LOOK_AGAIN_SECONDS: Final = (86_400, 2 * 86_400, 4 * 86_400)


class Lookup(Enum):
    """What an answer to `GET /messages?id=` means for going on."""

    ANSWERED = auto()  # the gateway knows the message, or says that it doesn't
    NOT_OFFERED = auto()  # not to us: there is no such operation, or no permission; asking for others is no use either
    LATER = auto()  # the gateway is not well; ask again in the next run


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did. ``failed`` names the steps that did not come to their end."""

    counts: Mapping[str, int]
    measurements: tuple[Measurement, ...]
    failed: tuple[str, ...]


def judge_lookup(answer: Exchange) -> Lookup:
    """200 has a message (the OpenAPI file of the gateway's page, MessageDetails), 404 says that there is none.

    An error of the API has ``statusCode``; a 404 without comes from in front of it, where no such path is known.
    """
    if answer.status == 200:
        return Lookup.ANSWERED
    if answer.status in (400, 404, 422):
        return Lookup.ANSWERED if is_from_api(answer) else Lookup.NOT_OFFERED
    if answer.status in (401, 403, 405, 501):
        return Lookup.NOT_OFFERED
    return Lookup.LATER


@dataclass(frozen=True)
class Reconciler:
    """One per sandbox."""

    ledger: Ledger
    messages: Messages
    gateway: Gateway
    secret: GatewaySecret
    clock: Clock = field(default_factory=Clock)

    def run(self, *, deadline: float) -> Report:
        """Look at everything that is due; ``deadline`` (epoch seconds): Lambda ends the invocation. Never raises."""
        return _Run(self, deadline).run()


class _Run:
    """One run: its counts, and what keeps it within its time."""

    def __init__(self, reconciler: Reconciler, deadline: float) -> None:
        self._ledger = reconciler.ledger
        self._messages = reconciler.messages
        self._gateway = reconciler.gateway
        self._secret = reconciler.secret
        self._clock = reconciler.clock
        self._end = min(deadline - WRITE_SECONDS, reconciler.clock.now() + RUN_SECONDS)
        self._counts: Counter[Metric] = Counter()
        self._gauges: dict[Metric, int] = {}
        self._failed: dict[str, None] = {}  # an ordered set
        self._may_ask = True
        self._asked = False
        self._unanswered: list[MessageRecord] = []
        self._current: GatewayCredentials | None = None

    def run(self) -> Report:
        self._each("leases", self._records(State.SENDING), self._end_lease)
        self._each("unknown outcomes", self._records(State.UNKNOWN), self._give_up_on_outcome)
        self._each("missing ids", self._records(State.ACCEPTED), self._give_up_on_outcome)
        self._each("retries", self._records(State.RETRY), self._report_abandoned)
        self._each("callbacks", self._waiting(Awaiting.MESSAGE, AT_ONCE), self._find_message)
        self._each("statuses", self._waiting(Awaiting.STATUS, ASKS_AT_ONCE), self._ask_for_status)
        self._each("gauges", iter((None,)), lambda _: self._measure())
        every = {**self._counts, **self._gauges}
        return Report(
            counts={metric.value: count for metric, count in every.items()},
            measurements=tuple((metric, float(count)) for metric, count in every.items()),
            failed=tuple(self._failed),
        )

    def _each(self, step: str, items: Iterator[_T], look_at: Callable[[_T], bool | None]) -> None:
        """Look at each item while there is time, until one says False. What fails for one is no reason to leave the
        others, or the other steps, undone.
        """
        while self._has_time():
            try:
                item = next(items)
            except StopIteration:
                return
            except Exception as error:  # noqa: BLE001
                self._note_failure(step, error)
                return
            try:
                if look_at(item) is False:
                    return
            except Exception as error:  # noqa: BLE001
                self._note_failure(step, error)

    def _note_failure(self, step: str, error: Exception) -> None:
        self._failed[step] = None
        logger().error("not reconciled", extra={"step": step, **error_fields(error)})

    def _has_time(self, seconds: float = 0.0) -> bool:
        return self._clock.now() + seconds < self._end

    def _records(self, state: State) -> Iterator[LedgerRecord]:
        for record in self._ledger.due(state, now=self._clock.now(), limit=AT_ONCE):
            if record.state is state:
                yield record

    def _waiting(self, awaiting: Awaiting, limit: int) -> Iterator[MessageRecord]:
        yield from self._messages.due(awaiting, now=self._clock.now(), limit=limit)

    def _end_lease(self, record: LedgerRecord) -> None:
        """Whoever claimed it is dead, and the queue has not brought it back: nobody knows whether it was sent."""
        now = self._clock.now()
        if now >= record.lease_until + LAPSE_SECONDS and self._ledger.unknown(record, "owner_lost", now=now) is None:
            self._counts[Metric.OUTCOMES_UNKNOWN] += 1
            logger().warning("outcome unknown, its sender is gone", extra={"message_id": record.message_id})

    def _give_up_on_outcome(self, record: LedgerRecord) -> None:
        """No callback has resolved it in longer than a carrier tries; one that comes even later still does."""
        if self._ledger.give_up(record, now=self._clock.now()):
            self._counts[Metric.OUTCOMES_UNRESOLVED] += 1
            fields = {"message_id": record.message_id, "state": record.state.value}
            logger().warning("outcome stays unknown", extra=fields)

    def _report_abandoned(self, record: LedgerRecord) -> None:
        """Certainly not sent, to be tried again, and in no queue any more: nobody will."""
        if self._ledger.give_up(record, now=self._clock.now()):
            self._counts[Metric.MESSAGES_ABANDONED] += 1
            fields = {"message_id": record.message_id, "attempts": record.attempts, "reason": record.reason}
            logger().error("not sent, and no queue holds it any more", extra=fields)

    def _find_message(self, message: MessageRecord) -> None:
        """A callback that came when its message could not be written down."""
        now = self._clock.now()
        resolution = resolve_by_reference(self._ledger, self._messages, message.id, message.reference or "", now=now)
        if resolution is None:
            # Keys and references are written before anything is sent, so that none will turn up later.
            self._messages.give_up(message.id, Awaiting.MESSAGE, now=now)
        elif resolution.resolved is not None:
            self._counts[Metric.OUTCOMES_RESOLVED] += 1
            resolved = {"message_id": resolution.message_id, "was": resolution.resolved.value}
            logger().info("outcome resolved by an earlier callback", extra=resolved)

    def _ask_for_status(self, message: MessageRecord) -> bool:
        """Sent, and no final status has come: ask, one after the other; False if it is no use to go on in this run."""
        if message.status in FINAL_STATUSES:
            self._messages.stop_waiting(message.id, Awaiting.STATUS)
            return True
        if not self._may_ask:
            self._look_again(message)
            return True
        self._current = self._current or self._credentials()
        if self._current is None or not self._has_time(self._gateway.timeout_seconds + ASK_SECONDS):
            return False
        if self._asked:
            self._clock.sleep(ASK_SECONDS)
        self._asked = True
        return self._ask(message, self._current)

    def _credentials(self) -> GatewayCredentials | None:
        try:
            self._secret.forget_refused()
            return self._secret.current()
        except CredentialsError as error:
            logger().error(str(error))
            return None

    def _ask(self, message: MessageRecord, credentials: GatewayCredentials) -> bool:
        """Ask for one message; whether to go on with the next."""
        gateway_id = message.id
        answer = self._gateway.get_message(gateway_id, credentials)
        self._counts[Metric.STATUSES_ASKED] += 1
        lookup = judge_lookup(answer)
        if lookup is Lookup.LATER:
            logger().warning("statuses not asked for", extra={"reason": answer.failure or f"status {answer.status}"})
            self._unanswered.append(message)
            return len(self._unanswered) < UNANSWERED_IN_A_ROW
        while self._unanswered:  # the gateway is well, so it was about these messages: they must not hold up the others
            self._look_again(self._unanswered.pop())
        if lookup is Lookup.NOT_OFFERED:
            self._may_ask = False
            if answer.status in (401, 403):
                self._secret.newer_than(credentials)  # so that the next run reads the secret anew
            logger().warning("the gateway doesn't let us ask for messages", extra={"status": answer.status})
        status = _status(answer) if lookup is Lookup.ANSWERED else None
        if status is not None:
            try:
                applied = self._messages.record_status(StatusCallback(gateway_id, status), now=self._clock.now())
            except IdTakenError:
                return True
            known = status if status in STATUS_RANK else None
            logger().info(
                "status asked for",
                extra={"gateway_id": loggable_id(gateway_id), "status": known, "applied": applied.applied.value},
            )
            if status in FINAL_STATUSES:
                return True
        self._look_again(message)
        return True

    def _look_again(self, message: MessageRecord) -> None:
        """After the last look only a late callback can tell more."""
        if message.looks < len(LOOK_AGAIN_SECONDS):
            at = (message.look_at or int(self._clock.now())) + LOOK_AGAIN_SECONDS[message.looks]
            self._messages.look_again(message.id, Awaiting.STATUS, at=at)
            return
        self._messages.give_up(message.id, Awaiting.STATUS, now=self._clock.now())
        self._counts[Metric.STATUSES_UNRESOLVED] += 1
        fields = {"gateway_id": loggable_id(message.id), "message_id": message.message_id, "last": message.status}
        logger().warning("no final status came", extra=fields)

    def _measure(self) -> None:
        """How much is undecided now."""
        self._gauges[Metric.MESSAGES_SENDING] = self._ledger.count_undecided(State.SENDING)
        self._gauges[Metric.MESSAGES_RETRYING] = self._ledger.count_undecided(State.RETRY)
        self._gauges[Metric.MESSAGES_UNKNOWN] = self._ledger.count_undecided(State.UNKNOWN)
        self._gauges[Metric.MESSAGES_AWAITING_ID] = self._ledger.count_undecided(State.ACCEPTED)
        self._gauges[Metric.MESSAGES_AWAITING_STATUS] = self._messages.count_awaiting(Awaiting.STATUS)
        self._gauges[Metric.CALLBACKS_AWAITING_MESSAGE] = self._messages.count_awaiting(Awaiting.MESSAGE)


def _status(answer: Exchange) -> str | None:
    """The status in MessageDetails; None if there is none, or none of a message that we sent."""
    fields = json_object(answer.body)
    status = fields.get("status")
    if not isinstance(status, str) or fields.get("direction", "MT") != "MT":
        return None
    return normalised(status) or None
