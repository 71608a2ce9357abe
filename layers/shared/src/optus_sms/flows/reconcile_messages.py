"""Reconcile every five minutes each message that no callback, redelivery or operator has ended (docs/outages.md).

Each step handles a bounded number of due items; the next run handles the rest. A failed step does not stop the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from optus_sms.flows.resolving import complete, resolve_by_reference
from optus_sms.gateway.api import is_from_api, json_object
from optus_sms.model.callbacks import StatusCallback
from optus_sms.model.errors import CredentialsError
from optus_sms.model.redaction import loggable_id
from optus_sms.model.statuses import FINAL_STATUSES, STATUS_RANK, normalized
from optus_sms.model.times import Clock, time_or_none
from optus_sms.records.items import LedgerRecord, MessageRecord, State
from optus_sms.records.ledger import LAPSE_SECONDS, Ledger
from optus_sms.records.messages import UNANSWERED_SECONDS, Awaiting, Messages
from optus_sms.runtime.observability import Measurement, Metric, error_fields, logger

_T = TypeVar("_T")

if TYPE_CHECKING:
    from optus_sms.gateway.api import Gateway
    from optus_sms.gateway.credentials import GatewayCredentials, GatewaySecret
    from optus_sms.gateway.transport import Exchange

AT_ONCE: Final = 200  # items of each kind in one run
ASKS_AT_ONCE: Final = 100  # requests to the gateway in one run
ASK_SECONDS: Final = 0.5  # between two of them
IN_VAIN_IN_A_ROW: Final = 3  # after so many requests that fail or are refused in a row, the run makes no more
RUN_SECONDS: Final = 60.0  # after which no new item is begun
SET_ASIDE_SECONDS: Final = 86_400
WRITE_SECONDS: Final = 10.0  # at the end of the invocation, for the writes of the last item
# A missing status is requested a day after acceptance (`records.messages.FIRST_LOOK_SECONDS`), and then after each of
# these times: the last request comes eight days after acceptance, a day longer than carriers try.
LOOK_AGAIN_SECONDS: Final = (86_400, 2 * 86_400, 4 * 86_400)


class Lookup(Enum):
    """The meaning of a response to `GET /messages?id=` for the rest of the run."""

    RESPONDED = auto()  # the gateway returned the message, or that there is none
    REFUSED = auto()  # no such operation, no permission, or another message; several in a row concern every message
    LATER = auto()  # 5xx, 429 or no response: the gateway is down, or fails for this message only


class Report(NamedTuple):
    """The result of a run. ``failed``: the names of the failed steps."""

    counts: Mapping[str, int]
    measurements: tuple[Measurement, ...]
    failed: tuple[str, ...]


def judge_lookup(response: Exchange, gateway_id: str) -> Lookup:
    """Judge a response: HTTP 200 has a message (the OpenAPI file of the gateway's page, MessageDetails), 404 has none.

    The API's own errors have ``statusCode``. A 404 without it comes from a proxy in front of the API that has no such
    path. HTTP 200 with another message, or with none, comes from a server that ignores the query. 410 means that the
    message is gone, whether the API or a proxy returns it.
    """
    if response.status == 200:
        is_the_one = str(json_object(response.body).get("id")).casefold() == gateway_id.casefold()
        return Lookup.RESPONDED if is_the_one else Lookup.REFUSED
    if response.status == 410:
        return Lookup.RESPONDED
    if response.status in (400, 404, 422):
        return Lookup.RESPONDED if is_from_api(response) else Lookup.REFUSED
    if response.status in (401, 403, 405, 501):
        return Lookup.REFUSED
    return Lookup.LATER


@dataclass(frozen=True)
class Reconciler:
    """One per execution environment."""

    ledger: Ledger
    messages: Messages
    gateway: Gateway
    secret: GatewaySecret
    clock: Clock = field(default_factory=Clock)

    def run(self, *, deadline: float) -> Report:
        """Reconcile all due items; ``deadline`` (epoch seconds): Lambda ends the invocation. Never raises."""
        return _Run(self, deadline).run()


class _Run:
    """One run, with its counts and its time limit."""

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
        self._asked = False
        self._refused_in_a_row = 0
        self._ask_later: list[MessageRecord] = []
        self._current: GatewayCredentials | None = None

    def run(self) -> Report:
        self._each("leases", self._records(State.SENDING), self._end_lease)
        self._each("unknown outcomes", self._records(State.UNKNOWN), self._give_up_on_outcome)
        self._each("missing ids", self._records(State.ACCEPTED), self._complete)
        self._each("retries", self._records(State.RETRY), self._report_abandoned)
        self._each("callbacks", self._waiting(Awaiting.MESSAGE, AT_ONCE), self._find_message)
        self._each("statuses", self._waiting(Awaiting.STATUS, ASKS_AT_ONCE), self._ask_for_status)
        self._each("unanswered", iter(self._ask_later), self._move_to_end)
        self._each("gauges", iter((None,)), lambda _: self._measure())
        every = {**self._counts, **self._gauges}
        return Report(
            counts={metric.value: count for metric, count in every.items()},
            measurements=tuple((metric, float(count)) for metric, count in every.items()),
            failed=tuple(self._failed),
        )

    def _each(self, step: str, items: Iterator[_T], look_at: Callable[[_T], bool | None]) -> None:
        """Handle each item while there is time, until ``look_at`` returns False.

        An item that fails does not stop the others, nor the other steps.
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
            except (BotoCoreError, ClientError) as error:
                self._note_failure(step, error)
            except Exception as error:  # noqa: BLE001 - edited by hand: the next run would fail in the same way
                self._note_failure(step, error)
                self._set_aside(step, item)

    def _note_failure(self, step: str, error: Exception) -> None:
        self._failed[step] = None
        logger().error("not reconciled", extra={"step": step, **error_fields(error)})

    def _set_aside(self, step: str, item: object) -> None:
        """Set an item that can't be handled aside for a day, so that it doesn't block the others."""
        at = self._clock.now() + SET_ASIDE_SECONDS
        try:
            if isinstance(item, LedgerRecord):
                self._ledger.look_again(item, at=at)
            elif isinstance(item, MessageRecord):
                for awaiting in Awaiting:  # it waits for one of these; the other update does nothing
                    self._messages.look_again(item.id, awaiting, at=at, counts=False)
        except Exception as error:  # noqa: BLE001
            self._note_failure(step, error)
        self._counts[Metric.ITEMS_SET_ASIDE] += 1

    def _has_time(self, seconds: float = 0.0) -> bool:
        return self._clock.now() + seconds < self._end

    def _records(self, state: State) -> Iterator[LedgerRecord]:
        for record in self._ledger.due(state, now=self._clock.now(), limit=AT_ONCE):
            if record.state is state:
                yield record

    def _waiting(self, awaiting: Awaiting, limit: int) -> Iterator[MessageRecord]:
        yield from self._messages.due(awaiting, now=self._clock.now(), limit=limit)

    def _end_lease(self, record: LedgerRecord) -> None:
        """Make the outcome of a crashed claim unknown, if the queue has not delivered the message again."""
        now = self._clock.now()
        if now >= record.lease_until + LAPSE_SECONDS and self._ledger.unknown(record, "owner_lost", now=now) is None:
            self._counts[Metric.OUTCOMES_UNKNOWN] += 1
            logger().warning("outcome unknown, its claim was never finished", extra={"message_id": record.message_id})

    def _give_up_on_outcome(self, record: LedgerRecord) -> None:
        """Stop waiting for a callback when carriers have long stopped trying; a later callback still resolves it."""
        if self._ledger.give_up(record, now=self._clock.now()):
            self._counts[Metric.OUTCOMES_UNRESOLVED] += 1
            fields = {"message_id": record.message_id, "state": record.state.value}
            logger().warning("outcome stays unknown", extra=fields)

    def _complete(self, record: LedgerRecord) -> None:
        """Write the item of an accepted message if that failed before, or stop waiting for its ID."""
        if record.gateway_id is None:
            self._give_up_on_outcome(record)
        else:
            now = self._clock.now()
            if complete(self._ledger, self._messages, record, record.gateway_id, now=now) is not None:
                self._counts[Metric.GATEWAY_IDS_TAKEN] += 1

    def _report_abandoned(self, record: LedgerRecord) -> None:
        """Report a message that was not sent and is due for a retry, but is in no queue any more."""
        if self._ledger.give_up(record, now=self._clock.now()):
            self._counts[Metric.MESSAGES_ABANDONED] += 1
            fields = {"message_id": record.message_id, "attempts": record.attempts, "reason": record.reason}
            logger().error("not sent, and no queue holds it any more", extra=fields)

    def _find_message(self, message: MessageRecord) -> None:
        """Match a callback to its message, if that failed when the callback came."""
        now = self._clock.now()
        resolution = resolve_by_reference(self._ledger, self._messages, message.id, message.reference or "", now=now)
        if resolution is None or resolution.is_contradiction:
            # A record and its reference are written before the POST, so neither can appear later.
            self._messages.give_up(message.id, Awaiting.MESSAGE, now=now)
            if resolution is not None:
                self._counts[Metric.CALLBACKS_CONTRADICTORY] += 1
        elif resolution.resolved is not None:
            self._counts[Metric.OUTCOMES_RESOLVED] += 1
            resolved = {"message_id": resolution.message_id, "was": resolution.resolved.value}
            logger().info("outcome resolved by an earlier callback", extra=resolved)
        if resolution is not None and resolution.id_is_taken:
            self._counts[Metric.GATEWAY_IDS_TAKEN] += 1

    def _ask_for_status(self, message: MessageRecord) -> bool:
        """Request a missing final status; return False if the run should make no further request."""
        if message.status in FINAL_STATUSES:
            self._messages.stop_waiting(message.id, Awaiting.STATUS)
            return True
        if self._refused_in_a_row == IN_VAIN_IN_A_ROW:
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
        """Request one message, and return whether to go on with the next."""
        gateway_id = message.id
        response = self._gateway.get_message(gateway_id, credentials)
        self._counts[Metric.STATUSES_ASKED] += 1
        lookup = judge_lookup(response, gateway_id)
        if lookup is Lookup.LATER:
            reason = response.failure or f"HTTP {response.status}"
            logger().warning("statuses not requested", extra={"reason": reason})
            self._ask_later.append(message)
            return len(self._ask_later) < IN_VAIN_IN_A_ROW
        while self._ask_later:  # the gateway responds to others: don't let these hold them up
            self._look_again(self._ask_later.pop())
        self._refused_in_a_row = self._refused_in_a_row + 1 if lookup is Lookup.REFUSED else 0
        if lookup is Lookup.REFUSED:
            if response.status in (401, 403):
                self._secret.newer_than(credentials)  # so that the next run reads the secret again
            logger().warning("the gateway refuses to look up a message", extra={"status": response.status})
        status = _status(response) if lookup is Lookup.RESPONDED else None
        if status is not None:
            applied = self._messages.record_status(StatusCallback(gateway_id, status), now=self._clock.now())
            known = status if status in STATUS_RANK else None
            logger().info(
                "status requested",
                extra={"gateway_id": loggable_id(gateway_id), "status": known, "applied": applied.applied.value},
            )
            if status in FINAL_STATUSES:
                return True
        self._look_again(message)
        return True

    def _move_to_end(self, message: MessageRecord) -> None:
        """Let the next run begin with others, because the gateway may be down, or fail for this message only."""
        now = self._clock.now()
        if now < _sent_at(message) + UNANSWERED_SECONDS:
            self._messages.look_again(message.id, Awaiting.STATUS, at=now, counts=False)
        else:
            self._give_up(message)

    def _look_again(self, message: MessageRecord) -> None:
        """Set the time of the next request, or give up after the last one."""
        if message.looks < len(LOOK_AGAIN_SECONDS):
            at = (message.look_at or int(self._clock.now())) + LOOK_AGAIN_SECONDS[message.looks]
            self._messages.look_again(message.id, Awaiting.STATUS, at=at)
        else:
            self._give_up(message)

    def _give_up(self, message: MessageRecord) -> None:
        """Request its status no more; a late callback still counts."""
        self._messages.give_up(message.id, Awaiting.STATUS, now=self._clock.now())
        self._counts[Metric.STATUSES_UNRESOLVED] += 1
        fields = {"gateway_id": loggable_id(message.id), "message_id": message.message_id, "last": message.status}
        logger().warning("no final status came", extra=fields)

    def _measure(self) -> None:
        """Count the undecided messages and callbacks."""
        self._gauges[Metric.MESSAGES_SENDING] = self._ledger.count_undecided(State.SENDING)
        self._gauges[Metric.MESSAGES_RETRYING] = self._ledger.count_undecided(State.RETRY)
        self._gauges[Metric.MESSAGES_UNKNOWN] = self._ledger.count_undecided(State.UNKNOWN)
        self._gauges[Metric.MESSAGES_AWAITING_ID] = self._ledger.count_undecided(State.ACCEPTED)
        self._gauges[Metric.MESSAGES_AWAITING_STATUS] = self._messages.count_awaiting(Awaiting.STATUS)
        self._gauges[Metric.CALLBACKS_AWAITING_MESSAGE] = self._messages.count_awaiting(Awaiting.MESSAGE)


def _sent_at(message: MessageRecord) -> float:
    """Return when the gateway sent the message or will send it (epoch seconds); 0 if its times were edited by hand."""
    return time_or_none(message.created_at or message.times.get("accepted")) or 0.0


def _status(response: Exchange) -> str | None:
    """Return the status in MessageDetails; None if it has none, or if it is a reply."""
    fields = json_object(response.body)
    status = fields.get("status")
    if not isinstance(status, str) or fields.get("direction", "MT") != "MT":
        return None
    return normalized(status) or None
