"""Random schedules of the real code: none breaks a promise, and each of many seeded bugs is found by some.

A failure names its seed; `SCHEDULE_SEED=<seed> pytest tests/deep/test_schedules.py -k replay -s` tells the story again.
`SCHEDULES` is how many the deep test runs.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from optus_sms.aws import clients
from optus_sms.flows import refused_claim
from optus_sms.flows import send_message as sending
from optus_sms.flows.refused_claim import NextStep
from optus_sms.flows.send_message import Handled, Sender
from optus_sms.gateway.api import PostResult
from optus_sms.records import ledger, messages
from optus_sms.records.items import LedgerRecord, State
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from optus_sms.records.table import Item, Table
from optus_sms.records.updates import Condition, absent, equals, exists, one_of
from tests.deep.schedules import KEY, BrokenPromiseError, World
from tests.support.aws import REGION, create_table
from tests.support.fakes import MemoryLedger, MemoryMessages
from tests.support.seeded_bugs import ALWAYS, Patch, constant, mistaken, own_claim_not_recognised, without_condition

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SEED = int(os.environ.get("SCHEDULE_SEED", "0"))
MANY = int(os.environ.get("SCHEDULES", "10000"))
ENOUGH_FOR_A_BUG = 3_000


class MemoryStores:
    """Both tables in memory."""

    def __init__(self) -> None:
        self._ledger, self._messages = MemoryLedger(), MemoryMessages()
        self.ledger: Ledger = self._ledger
        self.messages: Messages = self._messages

    def record(self, key: str) -> LedgerRecord | None:
        return self._ledger.records.get(key)

    def row(self, gateway_id: str) -> Item | None:
        return self._messages.items.get(gateway_id)


class DynamoStores:
    """Both tables in DynamoDB, emptied by being new."""

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client
        self._tables = [create_table(client, name) for name in ("SendLedgerTable", "MessagesTable")]
        self.ledger: Ledger = Ledger.connect(client, self._tables[0])
        self.messages: Messages = Messages.connect(client, self._tables[1], retention_days=90)

    def record(self, key: str) -> LedgerRecord | None:
        return self.ledger.read(key)

    def row(self, gateway_id: str) -> Item | None:
        return Table(self._client, self._tables[1], key="id").get(gateway_id) or None

    def close(self) -> None:
        for table in self._tables:
            self._client.delete_table(TableName=table)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERTOOLS_LOG_LEVEL", "CRITICAL")


def run(seed: int) -> World:
    """One schedule in memory; what it broke is raised with its seed and story."""
    return _run(World(seed, MemoryStores()), seed)


def _run(world: World, seed: int) -> World:
    try:
        world.run()
    except (Exception, BrokenPromiseError) as error:
        story = "\n".join(world.story)
        raise AssertionError(f"SCHEDULE_SEED={seed}: {error}\n{world.scenario}\n{story}") from error
    return world


def run_many(seeds: range) -> Counter[str]:
    """How the schedules ended: by the ledger's state and how often the gateway accepted."""
    ends: Counter[str] = Counter()
    for seed in seeds:
        world = run(seed)
        record = world.stores.record(KEY)
        assert record is not None
        ends[f"{world.scenario.on_unknown} {record.state} accepted {len(world.acceptances)} times"] += 1
    print(dict(ends))  # noqa: T201 - shown with -s or on failure
    return ends


def test_some_schedules_keep_every_promise() -> None:
    ends = run_many(range(500))
    for state in (State.ACCEPTED, State.REJECTED, State.EXPIRED, State.UNKNOWN):
        assert any(state in end for end in ends), "the schedules do not reach every end"
    assert "resend ACCEPTED accepted 2 times" in ends


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_many_schedules_keep_every_promise() -> None:
    run_many(range(SEED, SEED + MANY))


def test_replay() -> None:
    """The same seed tells the same story."""
    first, again = run(SEED), run(SEED)
    print(first.scenario, *first.story, sep="\n")  # noqa: T201
    assert first.story == again.story
    assert len(first.story) > 5


@pytest.fixture
def dynamodb() -> Iterator[DynamoDBClient]:
    with mock_aws():
        yield boto3.client("dynamodb", region_name=REGION, config=clients._CONFIG)


@pytest.mark.parametrize("schedules", [3, pytest.param(150, marks=[pytest.mark.deep, pytest.mark.timeout(1200)])])
def test_schedules_on_dynamodb_keep_every_promise(dynamodb: DynamoDBClient, schedules: int) -> None:
    """The same steps, the same stories, with the real conditions."""
    for seed in range(SEED, SEED + schedules):
        stores = DynamoStores(dynamodb)
        world = _run(World(seed, stores), seed)
        stores.close()
        assert world.story == run(seed).story


# Seeded bugs: the real code with one line of the protocol changed.


def claim_expired_lease(record: LedgerRecord) -> Condition:
    """A lost owner's message is claimed again, as many idempotency helpers do."""
    return ledger.IS_NEW | one_of(state=(State.RETRY, State.SENDING))


def claim_again_without_what_was_read(record: LedgerRecord) -> Condition:
    return ~equals(state=State.ACCEPTED)


def outcomes_without_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_sending = Ledger._leave_sending

    def leave(self: Ledger, claim: LedgerRecord, *outcome: Any) -> LedgerRecord | None:
        old = self.read(claim.message_id)
        assert old is not None
        return leave_sending(self, replace(claim, owner=old.owner, attempts=old.attempts), *outcome)

    monkeypatch.setattr(Ledger, "_leave_sending", leave)


def unknown_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sender, "_unknown", Sender._not_sent)


def post_when_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def post(sender: Sender, order: Any, credentials: Any) -> PostResult:
        fields = order.message.gateway_fields(order.message_id, sender.now)
        return sender.gateway.post_message(fields, credentials, start_within=1e9)

    monkeypatch.setattr(Sender, "_post", post)


def acknowledged_without_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    to_dead_letters = Sender._to_dead_letters

    def patched(sender: Sender, order: Any, reason: Any, *args: Any, **kwargs: Any) -> Handled:
        try:
            return to_dead_letters(sender, order, reason, *args, **kwargs)
        except Exception:  # noqa: BLE001 - the bug
            return Handled(True, reason.value)

    monkeypatch.setattr(Sender, "_to_dead_letters", patched)


def acceptance_only_for_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = MemoryLedger.accepted

    def patched(self: MemoryLedger, claim: LedgerRecord, *args: Any, **more: Any) -> LedgerRecord | None:
        old = self.records[claim.message_id]
        mine = old.is_held_by(claim.owner) and old.attempts == claim.attempts
        return accepted(self, claim, *args, **more) if mine else old

    monkeypatch.setattr(MemoryLedger, "accepted", patched)


def shared_reference_proves(self: MemoryLedger, reference: str) -> LedgerRecord | None:
    return next((r for r in self.records.values() if reference in (r.reference, r.message_id)), None)


def rejected_is_never_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = MemoryLedger.resolve_by_callback

    def patched(self: MemoryLedger, key: str, gateway_id: str, *, now: float) -> LedgerRecord | None:
        if self.records[key].state in (State.REJECTED, State.EXPIRED):
            return None
        return resolve(self, key, gateway_id, now=now)

    monkeypatch.setattr(MemoryLedger, "resolve_by_callback", patched)


def anything_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback proves what was certainly not sent."""
    monkeypatch.setattr(ledger, "MAY_HAVE_BEEN_SENT", ledger.HAS_NO_GATEWAY_ID & exists("pk"))
    monkeypatch.setattr(LedgerRecord, "may_have_been_sent", True)


def removed_before_the_item_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = MemoryLedger.resolve_by_callback

    def patched(self: MemoryLedger, key: str, gateway_id: str, *, now: float) -> LedgerRecord | None:
        before = resolve(self, key, gateway_id, now=now)
        Ledger.completed(self, key, gateway_id)
        return before

    monkeypatch.setattr(MemoryLedger, "resolve_by_callback", patched)


def never(claim: LedgerRecord, now: float) -> Condition:
    return absent("pk")


def open_claim_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    decide = refused_claim.next_step

    def patched(record: LedgerRecord, *args: Any, **kwargs: Any) -> NextStep:
        return decide(replace(record, lease_until=0) if record.state is State.ACCEPTED else record, *args, **kwargs)

    monkeypatch.setattr(sending, "next_step", patched)


def first_status_wins(status: str) -> Condition:
    return absent("status_rank")


SEEDED_BUGS: dict[str, Patch] = {
    "a claim has no condition": without_condition("is_free_for"),
    "an expired lease is a free claim": without_condition("is_free_for", claim_expired_lease),
    "the second claim is not conditional on what was read": without_condition(
        "is_still", claim_again_without_what_was_read
    ),
    "outcomes are not fenced": outcomes_without_owner,
    "an unknown outcome is tried again": unknown_is_tried_again,
    "the lease is shorter than its owner": constant(sending, "LEASE_MARGIN_SECONDS", -55),
    "a POST may begin when time is over": post_when_time_is_over,
    "resends are not counted": constant(refused_claim, "RESENDS", 99),
    "acknowledged though the copy failed": acknowledged_without_copy,
    "an own claim is not recognised": own_claim_not_recognised(MemoryLedger),
    "only the owner may write an acceptance": acceptance_only_for_its_owner,
    "a shared reference proves": constant(MemoryLedger, "with_reference", shared_reference_proves),
    "a callback replaces the id": constant(ledger, "MAY_HAVE_BEEN_SENT", ALWAYS),
    "REJECTED after an unknown outcome is final": rejected_is_never_corrected,
    "a callback proves what was certainly not sent": anything_is_proved,
    "the destination is removed before the item stands": removed_before_the_item_stands,
    "a callback is not corrected": constant(ledger, "was_resolved_by_callback", never),
    "a claim that a callback resolved is not waited for": open_claim_is_not_waited_for,
    "the first status wins": constant(messages, "ranks_below", first_status_wins),
    "a copy is not repaired": mistaken(NextStep.DONE, instead_of=NextStep.DEAD_LETTER),
    "a message is not repaired": mistaken(NextStep.DONE, instead_of=NextStep.REPAIR_MESSAGE),
    "a message being sent is acknowledged": mistaken(NextStep.DONE, instead_of=NextStep.WAIT_FOR_LEASE),
    "a lost owner is waited for": mistaken(NextStep.WAIT_FOR_LEASE, instead_of=NextStep.TAKE_OVER),
}


RARELY_FOUND = {  # after hundreds of schedules; the model finds the same at once
    "a callback proves what was certainly not sent",
    "a callback is not corrected",
    "a claim that a callback resolved is not waited for",
    "outcomes are not fenced",
    "an own claim is not recognised",
    "only the owner may write an acceptance",
    "a callback replaces the id",
    "REJECTED after an unknown outcome is final",
}


@pytest.mark.parametrize(
    "bug", [pytest.param(bug, marks=pytest.mark.deep) if bug in RARELY_FOUND else bug for bug in SEEDED_BUGS]
)
def test_seeded_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    SEEDED_BUGS[bug](monkeypatch)
    with pytest.raises(AssertionError, match="SCHEDULE_SEED=") as found:
        run_many(range(ENOUGH_FOR_A_BUG))
    print(str(found.value).splitlines()[0])  # noqa: T201
