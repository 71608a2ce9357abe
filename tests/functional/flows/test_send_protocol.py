"""The cost of the send protocol, and the need for each of its lines: each check fails without its line.

The real sender and receiver with both tables in moto; only the gateway, the queues and time are doubles.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

import boto3
import pytest
from botocore.exceptions import ConnectionClosedError
from moto import mock_aws

from optus_sms.aws import clients
from optus_sms.flows import refused_claim
from optus_sms.flows.breaker import Breaker
from optus_sms.flows.opt_out_check import at_once
from optus_sms.flows.probing import Probing
from optus_sms.flows.receive_callback import CallbackRequest, Receiver
from optus_sms.flows.refused_claim import NextStep
from optus_sms.flows.resolving import Resolution
from optus_sms.flows.send_message import Handled, QueueRecord, Sender
from optus_sms.model.queue_message import parse_message
from optus_sms.records import ledger
from optus_sms.records.items import LedgerRecord, MessageRecord, State
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from optus_sms.records.opt_outs import OptOuts
from optus_sms.records.table import Item, unmarshal
from optus_sms.records.updates import NOTHING
from tests.support.aws import REGION, create_table
from tests.support.builders import basic, message_body, queue_record, rejected, send_failed, sent, unknown, wanted
from tests.support.fakes import FakeClock, FixedCallbackSecret, FixedSecret, RecordingQueues, ScriptedGateway, unpaced
from tests.support.health import MemoryHealthRecords
from tests.support.seeded_bugs import Patch, constant, mistaken, own_claim_not_recognized, same_state, without_condition

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

KEY: Final = "message-1"
FUNCTION_SECONDS: Final = 60.0
LEASE_SECONDS: Final = 90.0  # from the claim: the invocation's time and the margin


class CrashError(BaseException):
    """Stands for the end of the process."""


class World:
    """The world of one message.

    ``calls``: the table calls so far; ``crash_at``: the step at which the next process crashes.
    """

    def __init__(self, client: DynamoDBClient) -> None:
        self.client = client
        self.tables = {name: create_table(client, name) for name in ("SendLedgerTable", "MessagesTable", "OptOutTable")}
        self.ledger = Ledger.connect(client, self.tables["SendLedgerTable"])
        self.opt_outs = OptOuts.connect(client, self.tables["OptOutTable"])
        self.messages = Messages.connect(client, self.tables["MessagesTable"], retention_days=90)
        self.queues = RecordingQueues(hook=self._crash_if)
        self.gateway = ScriptedGateway()
        self.time = FakeClock()
        self.crash_at: str | None = None
        self.calls: list[str] = []
        client.meta.events.register("before-call.dynamodb", self._on_call)

    def close(self) -> None:
        self.client.meta.events.unregister("before-call.dynamodb", self._on_call)

    def script(self, *steps: Any) -> None:
        """Set the gateway's responses to the next POSTs."""
        posts = self.gateway.posts
        self.gateway = ScriptedGateway(steps)
        self.gateway.posts = posts

    def deliver(self, body: str | None = None, *, name: str = "1", **more: Any) -> Handled:
        """Deliver the message to a new execution environment; return the result."""
        clock = self.time.clock
        sender = Sender(
            ledger=self.ledger,
            messages=self.messages,
            opt_outs=self.opt_outs,
            beside=at_once,
            queues=self.queues,
            gateway=self.gateway,
            secret=FixedSecret(),
            pacers=unpaced(clock),
            probing=Probing(Breaker(clock.monotonic), MemoryHealthRecords(), clock),
            clock=clock,
            max_attempts=3,
        )
        record: QueueRecord = queue_record(body or message_body(), name=name, **more)
        return sender._handle(record, self.time.now() + FUNCTION_SECONDS)

    def crash(self, at: str, body: str | None = None) -> None:
        """Deliver, and crash before this step."""
        self.crash_at = at
        with pytest.raises(CrashError):
            self.deliver(body)

    def callback(self, gateway_id: str, reference: str = KEY, status: str = "received") -> int:
        """Send a status callback; return the response's status."""
        receiver = Receiver(
            self.ledger,
            self.messages,
            self.opt_outs,
            self.queues,
            FixedCallbackSecret(basic()),
            clock=self.time.clock,
        )
        body = json.dumps({"message_id": gateway_id, "status": status, "reference": reference}).encode()
        return receiver.receive(CallbackRequest("POST", "/callbacks/status", basic(), body)).status

    def record(self, key: str = KEY) -> LedgerRecord:
        return self.ledger.read(key) or LedgerRecord(key)

    def item(self, key: str = KEY) -> Item:
        answer = self.client.get_item(TableName=self.tables["SendLedgerTable"], Key={"pk": {"S": f"msg#{key}"}})
        return unmarshal(answer.get("Item", {}))

    def row(self, gateway_id: str) -> Item:
        answer = self.client.get_item(TableName=self.tables["MessagesTable"], Key={"id": {"S": gateway_id}})
        return unmarshal(answer.get("Item", {}))

    def reasons(self) -> list[str]:
        """Return the reasons of the dead letters so far."""
        return [letter.reason.value for letter in self.queues.dead_letters]

    def _crash_if(self, step: str, moment: str) -> None:
        if moment == "before" and self.crash_at == step:
            self.crash_at = None
            raise CrashError

    def _on_call(self, model: Any, params: Any, **_: Any) -> None:
        table = next((name for name, real in self.tables.items() if real in str(params.get("body"))), "")
        self.calls.append(f"{table}.{model.name}")
        self._crash_if(f"{table}.{model.name}", "before")


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[DynamoDBClient]:
    with mock_aws():
        yield boto3.client("dynamodb", region_name=REGION, config=clients._CONFIG)


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    made = World(dynamodb)
    yield made
    made.close()


# The cost in paid calls


def cost(world: World, deliver: Callable[[], object]) -> list[str]:
    """Return the table calls of a delivery."""
    before = len(world.calls)
    deliver()
    return world.calls[before:]


CLAIM = OUTCOME = "SendLedgerTable.UpdateItem"
ROW = "MessagesTable.UpdateItem"


OPT_OUT = "OptOutTable.GetItem"


def test_an_accepted_message_costs_three_writes_and_a_read(world: World) -> None:
    assert cost(world, world.deliver) == [CLAIM, OPT_OUT, OUTCOME, ROW]


def test_a_message_despite_an_opt_out_costs_no_read(world: World) -> None:
    assert cost(world, lambda: world.deliver(message_body(despite_opt_out=True))) == [CLAIM, OUTCOME, ROW]


def test_an_own_reference_costs_one_write_more(world: World) -> None:
    body = message_body(reference="order-1")
    assert cost(world, lambda: world.deliver(body)) == [CLAIM, OPT_OUT, "SendLedgerTable.UpdateItem", OUTCOME, ROW]


@pytest.mark.parametrize(
    ("first", "writes"),
    [(sent(), [CLAIM, ROW]), (rejected(), [CLAIM, "SendLedgerTable.UpdateItem"]), (unknown(), [CLAIM, OUTCOME])],
    ids=["accepted", "rejected", "unknown"],
)
def test_a_suppressed_duplicate_costs_two_writes(world: World, first: Any, writes: list[str]) -> None:
    world.script(first)
    world.deliver()
    assert cost(world, world.deliver) == writes
    assert len(world.gateway.posts) == 1


def test_a_duplicate_of_an_expired_message_costs_one_write(world: World) -> None:
    world.script(send_failed())
    body = message_body(expires_at="2026-01-01T00:10:00Z")
    world.deliver(body)
    world.time.advance(601)
    assert cost(world, lambda: world.deliver(body)) == [CLAIM]
    assert cost(world, lambda: world.deliver(body)) == [CLAIM]
    assert world.record().state is State.EXPIRED


# Each line of step 3, and the effect of its absence


def check_owner_is_me(world: World) -> None:
    """The SDK repeats each write, because the first response is lost."""
    writes = 0

    def lose(request: Any, **_: Any) -> None:
        nonlocal writes
        writes += request.headers["X-Amz-Target"].endswith(b".UpdateItem")
        if writes % 2:
            raise ConnectionClosedError(endpoint_url=request.url)

    world.client.meta.events.register_last("before-send", lose)  # after moto has done the write
    try:
        assert world.deliver().note == "accepted"
    finally:
        world.client.meta.events.unregister("before-send", lose)
    assert writes == 2 * len([CLAIM, OUTCOME, ROW])
    assert len(world.gateway.posts) == 1


def check_conflict(world: World) -> None:
    """The same key with another payload is refused, whatever the state of the first."""
    world.deliver()
    other = world.deliver(message_body(content="Another text."))
    assert (other.acknowledged, other.note) == (True, "conflict")
    assert world.reasons() == ["conflict"]
    assert len(world.gateway.posts) == 1


def check_row_is_repaired(world: World) -> None:
    """A crash between the ledger and the message row."""
    world.crash("MessagesTable.UpdateItem")
    assert world.record().state is State.ACCEPTED
    assert world.deliver().acknowledged
    assert world.row("gw-1").get("message_id") == KEY
    assert len(world.gateway.posts) == 1


def check_copy_is_repaired_after_rejected(world: World) -> None:
    """A crash between the outcome and its dead-letter copy."""
    world.script(rejected())
    world.crash("queues.dead_letter")
    assert world.record().state is State.REJECTED
    assert world.deliver().acknowledged
    assert world.reasons() == ["rejected"]
    assert len(world.gateway.posts) == 1


def check_copy_is_repaired_after_unknown(world: World) -> None:
    """The same for an outcome that is unknown."""
    world.script(unknown(accepted=True))
    world.crash("queues.dead_letter")
    assert world.record().state is State.UNKNOWN
    assert world.deliver().acknowledged
    assert world.reasons() == ["unknown_outcome"]
    assert len(world.gateway.posts) == 1


def check_living_owner_is_waited_for(world: World) -> None:
    """Returned to the queue until the lease ends, neither acknowledged nor taken over."""
    _claim_and_vanish(world)
    world.time.advance(30)
    duplicate = world.deliver()
    assert not duplicate.acknowledged
    assert LEASE_SECONDS - 30 <= duplicate.seconds <= LEASE_SECONDS - 28
    assert world.record().state is State.SENDING
    assert not world.gateway.posts


def check_lost_owner_is_taken_over(world: World) -> None:
    """After the lease: held, with a dead letter for an operator, and never sent again."""
    _claim_and_vanish(world)
    world.time.advance(LEASE_SECONDS)
    assert world.deliver().acknowledged
    assert (world.record().state, world.reasons()) == (State.UNKNOWN, ["unknown_outcome"])
    assert not world.gateway.posts


def check_late_owner_changes_nothing(world: World) -> None:
    """An owner that comes back after the takeover, while another one sends."""
    late = _claim_and_vanish(world, on_unknown="resend")
    world.time.advance(LEASE_SECONDS)
    world.deliver(message_body(on_unknown="resend"))
    world.time.advance(121)
    now = world.time.now()
    entry = _entry(world, "resend")
    again = world.ledger.claim(entry._replace(owner="second", lease_until=int(now) + 90), now=now, after=world.record())
    assert again.state is State.SENDING
    refused_by = world.ledger.not_sent(late, "unreachable", now=now)
    assert refused_by is not None
    assert (world.record().state, world.record().owner) == (State.SENDING, "second")


def check_takeover_is_of_what_was_read(world: World) -> None:
    """Between the read and the takeover the owner wrote "not sent", and another one claimed."""
    first = _claim_and_vanish(world)
    read, now = world.record(), world.time.now()
    world.ledger.not_sent(first, "unreachable", now=now)
    world.ledger.claim(_entry(world)._replace(owner="second", lease_until=int(now) + 180), now=now)
    assert world.ledger.unknown(read, "owner_lost", now=now + LEASE_SECONDS) is not None
    assert (world.record().state, world.record().owner) == (State.SENDING, "second")


def check_late_proof_wins(world: World) -> None:
    """The claim was taken over, but its owner then gets the proof of acceptance."""
    late = _claim_and_vanish(world)
    world.time.advance(LEASE_SECONDS)
    world.deliver()
    assert world.ledger.accepted(late, "gw-1", now=world.time.now()) is None
    assert (world.record().state, world.record().gateway_id) == (State.ACCEPTED, "gw-1")


def check_resend_waits_for_proof(world: World) -> None:
    """It waits 120 seconds, in which a callback can resolve the outcome."""
    world.script(unknown(accepted=True))
    body = message_body(on_unknown="resend")
    assert not world.deliver(body).acknowledged
    world.time.advance(60)
    assert not world.deliver(body).acknowledged
    assert len(world.gateway.posts) == 1
    assert world.callback("gw-1") == 200
    world.time.advance(61)
    assert world.deliver(body).acknowledged
    assert (len(world.gateway.posts), world.record().state) == (1, State.ACCEPTED)


def check_resend_happens_once(world: World) -> None:
    """The second unknown outcome is held."""
    world.script(unknown(), unknown(), unknown())
    body = message_body(on_unknown="resend")
    for _ in range(4):
        world.deliver(body)
        world.time.advance(122)
    assert (len(world.gateway.posts), world.record().unknown_outcomes) == (2, 2)
    assert set(world.reasons()) == {"unknown_outcome"}


def check_resend_is_of_what_was_read(world: World) -> None:
    """Two deliveries read the same unknown outcome. One resends it, again unknown, before the other claims."""
    world.script(unknown(), unknown())
    body, now = message_body(on_unknown="resend"), world.time.now() + 122
    world.deliver(body)
    read = world.record()
    world.time.advance(122)
    world.deliver(body)
    slow = _entry(world, "resend")._replace(owner="slow", lease_until=int(now) + 90)
    assert not world.ledger.claim(slow, now=now, after=read).is_held_by("slow")


def check_resend_ends_when_it_expires(world: World) -> None:
    """A one-time code must not come again tomorrow."""
    world.script(unknown())
    body = message_body(on_unknown="resend", expires_at="2026-01-01T00:01:00Z")
    world.deliver(body)
    world.time.advance(122)
    assert world.deliver(body).acknowledged
    assert (len(world.gateway.posts), world.reasons()) == (1, ["unknown_outcome"])


def redrive_after(*outcomes: Any, state: State, reason: str | None, **fields: Any) -> Callable[[World], None]:
    """Redrive a copy of a message that has ended, with a new SQS ID."""

    def check(world: World) -> None:
        world.script(*outcomes)
        body = message_body(**fields)
        for _ in range(len(outcomes)):
            world.deliver(body)
            world.time.advance(3_601)
        if state is State.EXPIRED:
            world.deliver(body)
        assert world.record().state is state
        posts, ttl, copies = len(world.gateway.posts), cast("int", world.item()["ttl"]), len(world.reasons())
        world.time.advance(20 * 86_400)
        assert world.deliver(body, name="redriven").acknowledged
        assert world.record().state is state
        assert len(world.gateway.posts) == posts
        assert world.reasons()[copies:] == ([reason] if reason else [])
        if reason:
            assert cast("int", world.item()["ttl"]) > ttl  # the ledger keeps the record as long as the copy

    return check


def check_recalled_after_an_attempt_is_acknowledged(world: World) -> None:
    """It was not sent, and its copy still waits in the queue."""
    world.script(send_failed())
    world.deliver()
    world.ledger.recall(
        LedgerRecord("message-1", ttl=int(world.time.now()) + 120 * 86_400), by="alex", now=world.time.now()
    )
    world.time.advance(20 * 86_400)
    assert world.deliver(name="redriven").acknowledged
    assert (world.record().state, len(world.gateway.posts), world.reasons()) == (State.RECALLED, 1, [])


def check_redriven_retry_is_sent(world: World) -> None:
    """The queue's own dead-lettering can move a message that was certainly not sent."""
    world.script(send_failed(), sent())
    world.deliver()
    world.time.advance(20 * 86_400)
    assert world.deliver(name="redriven").note == "accepted"


def check_reused_reference_proves_nothing(world: World) -> None:
    """Senders use references as cost-centre tags."""
    world.script(unknown(), sent("gw-2"))
    world.deliver(message_body(reference="costs-42"))
    world.deliver(message_body(message_id="message-2", reference="costs-42"), name="2")
    assert world.callback("gw-3", "costs-42") == 200
    assert world.record().state is State.UNKNOWN


def check_reference_equal_to_a_key_proves_nothing(world: World) -> None:
    """One message's key is another one's reference."""
    world.script(unknown(), unknown())
    world.deliver()
    world.deliver(message_body(message_id="message-2", reference=KEY), name="2")
    assert world.callback("gw-1", KEY) == 200
    assert {world.record(key).state for key in (KEY, "message-2")} == {State.UNKNOWN}


def check_own_reference_proves(world: World) -> None:
    """It was registered before the POST."""
    world.script(unknown(accepted=True))
    world.deliver(message_body(reference="order-1"))
    assert world.callback("gw-1", "order-1") == 200
    assert world.record().state is State.ACCEPTED


def check_callback_of_a_joined_message_proves_nothing(world: World) -> None:
    """The ID belongs to another message with the same reference, so it proves nothing about this one."""
    world.deliver(message_body(message_id="message-2"), name="2")
    world.script(unknown())
    world.deliver()
    assert world.callback("gw-1", KEY) == 200
    assert world.record().state is State.UNKNOWN


def _claim_and_vanish(world: World, on_unknown: str = "hold") -> LedgerRecord:
    """Claim, then crash."""
    now = world.time.now()
    claim = world.ledger.claim(
        _entry(world, on_unknown)._replace(owner="first", lease_until=int(now + LEASE_SECONDS)), now=now
    )
    assert claim.state is State.SENDING
    return claim


def _entry(world: World, on_unknown: str = "hold") -> LedgerRecord:
    """Return the record that the sender function would write."""
    message = parse_message(message_body(on_unknown=on_unknown), now=world.time.now())
    changes = {"payload_sha256": message.payload_sha256, "on_unknown": on_unknown}
    return wanted(KEY, **changes, ttl=int(world.time.now()) + ledger.KEEP_SECONDS)


# Without the line


def acceptance_is_fenced(monkeypatch: pytest.MonkeyPatch) -> None:
    def patched(self: Ledger, claim: LedgerRecord, gateway_id: str, *, now: float) -> LedgerRecord | None:
        return self._leave_sending(claim, State.ACCEPTED, NOTHING.set(gateway_id=gateway_id))

    monkeypatch.setattr(Ledger, "accepted", patched)


def several_keys_prove(monkeypatch: pytest.MonkeyPatch) -> None:
    def patched(self: Ledger, reference: str) -> LedgerRecord | None:
        records = (self.read(key) for key in [reference, *self.messages_under(reference)])
        return next((record for record in records if record), None)

    monkeypatch.setattr(Ledger, "with_reference", patched)


def joined_messages_are_not_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    match = Receiver._match

    def patched(self: Receiver, callback: Any, message: MessageRecord, now: float) -> Resolution | None:
        return match(self, callback, message._replace(message_id=None), now)

    monkeypatch.setattr(Receiver, "_match", patched)


ACCEPTED_AGAIN = redrive_after(sent(), state=State.ACCEPTED, reason=None)
REJECTED_AGAIN = redrive_after(rejected(), state=State.REJECTED, reason="rejected")
EXHAUSTED_AGAIN = redrive_after(*[send_failed()] * 3, state=State.REJECTED, reason="attempts_exhausted")
UNKNOWN_AGAIN = redrive_after(unknown(), state=State.UNKNOWN, reason="unknown_outcome")
RESENT_AGAIN = redrive_after(unknown(), unknown(), state=State.UNKNOWN, reason="unknown_outcome", on_unknown="resend")
EXPIRED_AGAIN = redrive_after(send_failed(), state=State.EXPIRED, reason=None, expires_at="2026-01-01T00:30:00Z")


RULES: Final[dict[str, tuple[Callable[[World], None], Patch]]] = {
    "the owner is me": (check_owner_is_me, own_claim_not_recognized(Ledger)),
    "other payload": (check_conflict, mistaken(NextStep.REPAIR_MESSAGE, NextStep.CONFLICT)),
    "ACCEPTED: the message again": (check_row_is_repaired, mistaken(NextStep.DONE, NextStep.REPAIR_MESSAGE)),
    "REJECTED: the copy again": (
        check_copy_is_repaired_after_rejected,
        mistaken(NextStep.DONE, NextStep.DEAD_LETTER),
    ),
    "UNKNOWN: the copy again": (check_copy_is_repaired_after_unknown, mistaken(NextStep.DONE, NextStep.DEAD_LETTER)),
    "SENDING, lease alive: given back": (
        check_living_owner_is_waited_for,
        mistaken(NextStep.TAKE_OVER, NextStep.WAIT_FOR_LEASE),
    ),
    "SENDING, lease over: UNKNOWN": (
        check_lost_owner_is_taken_over,
        mistaken(NextStep.WAIT_FOR_LEASE, NextStep.TAKE_OVER),
    ),
    "outcomes are fenced": (check_late_owner_changes_nothing, without_condition("is_still", same_state)),
    "a takeover is fenced": (check_takeover_is_of_what_was_read, without_condition("is_still", same_state)),
    "proof of acceptance wins": (check_late_proof_wins, acceptance_is_fenced),
    "UNKNOWN, resend: waits": (check_resend_waits_for_proof, constant(refused_claim, "RESEND_AFTER_SECONDS", 0)),
    "UNKNOWN, resend: once": (check_resend_happens_once, constant(refused_claim, "RESENDS", 9)),
    "a resend is fenced": (check_resend_is_of_what_was_read, without_condition("is_still", same_state)),
    "UNKNOWN, resend: before it expires": (
        check_resend_ends_when_it_expires,
        mistaken(NextStep.SEND_AGAIN, NextStep.DEAD_LETTER),
    ),
    "ACCEPTED, redriven": (ACCEPTED_AGAIN, without_condition("is_free_for")),
    "REJECTED, redriven": (REJECTED_AGAIN, without_condition("is_free_for")),
    "attempts exhausted, redriven": (EXHAUSTED_AGAIN, without_condition("is_free_for")),
    "UNKNOWN, redriven": (UNKNOWN_AGAIN, without_condition("is_free_for")),
    "UNKNOWN after a resend, redriven": (RESENT_AGAIN, without_condition("is_free_for")),
    "EXPIRED, redriven": (EXPIRED_AGAIN, mistaken(NextStep.TRY_AGAIN, NextStep.DONE)),
    "RECALLED, delivered": (
        check_recalled_after_an_attempt_is_acknowledged,
        without_condition("is_free_for"),
    ),
    "RETRY, redriven": (check_redriven_retry_is_sent, without_condition("is_free_for", lambda _: ledger.IS_NEW)),
    "a reused reference": (check_reused_reference_proves_nothing, several_keys_prove),
    "a reference that is a key": (check_reference_equal_to_a_key_proves_nothing, several_keys_prove),
    "a reference is registered": (
        check_own_reference_proves,
        constant(Ledger, "register_reference", lambda *_, **__: None),
    ),
    "an id has one message": (check_callback_of_a_joined_message_proves_nothing, joined_messages_are_not_spared),
}


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)


@pytest.mark.parametrize("rule", RULES)
def test_rule_holds(rule: str, world: World) -> None:
    check, _ = RULES[rule]
    check(world)


@pytest.mark.parametrize("rule", RULES)
def test_check_fails_without_the_rule(rule: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    check, without = RULES[rule]
    without(monkeypatch)
    with pytest.raises(AssertionError):
        check(world)
