"""The send protocol as an explicit-state model of one message: all events, in every order.

It has two workers and redeliveries, a crash at every step, lost responses of the table (also repeated by the SDK, also
arriving late) and of the gateway, callbacks at any time, dead-letter copy and `MessagesTable` item as separate steps,
redrive, recall, expiry, an opt-out, and the message in the queues of both lanes, each of which can be paused. `Rules`
are the protocol's lines; leaving one out must break a promise. The model is independent of the code;
tests/deep/schedules.py runs the code through the same kinds of step.

Time has no numbers: a lease or a wait can end at any moment that its rules allow. Visibility is ignored: a message that
is not deleted can be delivered at any moment, which is more than SQS does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

RESENDS: Final = 1
MAX_ATTEMPTS: Final = 2
FOREIGN: Final = 9  # the gateway ID of another system's message with the same reference
NOBODY: Final = 0
ACCEPTED_RANK, SENT_RANK, RECEIVED_RANK = 1, 2, 3
ORDINARY, URGENT = LANES = 0, 1


@dataclass(frozen=True)
class Rules:
    """The protocol, line by line. A rule set to False is a seeded bug."""

    claim_is_conditional: bool = True  # only absent or RETRY may be claimed
    owner_is_checked: bool = True  # an outcome is written only by the owner of the record …
    attempt_is_checked: bool = True  # … and only for the owner's attempt
    unknown_is_held: bool = True  # an unknown outcome is not written as "not sent"
    lapse_is_unknown: bool = True  # a message whose owner crashed is not simply claimed again
    lease_outlives_owner: bool = True  # no worker POSTs after its lease has ended
    own_claim_is_recognised: bool = True  # if the SDK repeated a claim whose response was lost
    acceptance_wins: bool = True  # proof of acceptance is written whatever the state
    resends_are_counted: bool = True
    resend_is_conditional: bool = True  # only from the very record that was read
    copy_before_ack: bool = True
    copy_is_repaired: bool = True  # a duplicate of a REJECTED or UNKNOWN message is copied again
    row_is_repaired: bool = True  # a duplicate of an ACCEPTED message writes its row again
    outcome_is_written_before_ack: bool = True
    ambiguous_reference_proves_nothing: bool = True
    one_id_for_a_record: bool = True  # a callback does not replace the gateway's id
    row_before_removal: bool = True  # the item is written before its values leave the ledger
    unknown_once_is_never_certain: bool = True  # a state that follows an unknown outcome can still be corrected
    only_what_may_have_been_sent_is_proved: bool = True  # because a callback can be about another system's message
    certainly_not_sent_corrects_a_callback: bool = True  # if it came during the lease …
    open_claim_is_waited_for: bool = True  # … so that no duplicate is acknowledged before
    rank_decides: bool = True  # and not the order of callbacks
    recall_is_conditional: bool = True  # only absent or RETRY may be recalled
    recalled_is_final: bool = True  # it is never claimed again
    recall_before_deletion: bool = True  # before the waiting message is deleted
    opt_out_is_read_after_claim: bool = True
    opt_out_is_read_each_time: bool = True  # at every attempt, not only the first
    unread_opt_out_waits: bool = True  # a read that fails allows nothing
    opt_out_is_remembered: bool = True  # a duplicate makes no dead letter, and is not sent
    one_key_for_both_lanes: bool = True  # the second queue's message is no new one
    lane_is_acknowledged: bool = True  # a message is deleted from the queue that it came by
    lane_is_remembered: bool = True  # a dead letter is redriven into the queue that it came from
    lanes_pause_apart: bool = True


@dataclass(frozen=True)
class Setting:
    """The limits of the world. ``faults``: crashes, lost responses and stalls, in total. ``statuses``: reported of each
    message.

    ``shared_reference``: with another message of the stack; ``foreign_reference``: with another system's, unseen by the
    stack.
    """

    on_unknown: str
    faults: int = 2
    redrives: int = 1
    may_expire: bool = False
    recalls: int = 0
    shared_reference: bool = False
    foreign_reference: bool = False
    statuses: int = 1
    opts_out: bool = False  # whether the handset can opt out, at any time
    lanes: tuple[int, ...] = (ORDINARY,)  # whose queues have the message
    pauses: int = 0  # of one lane each; an operator may resume it at any time


class Record(NamedTuple):
    """The ledger's record. ``gateway_id`` is the number of the acceptance it names, 0 for none.

    ``open``: ACCEPTED by a callback during the lease of a claim, whose owner can still correct it. ``kept``: it has the
    values for the item.
    """

    state: str = "absent"
    owner: int = NOBODY
    attempt: int = 0
    lease_over: bool = False
    unknowns: int = 0
    waited: bool = False
    gateway_id: int = 0
    open: bool = False
    kept: bool = False
    opted_out: bool = False  # REJECTED because of an opt-out, without a dead letter


class Worker(NamedTuple):
    """``at`` is the step it takes next. ``late``: its deadline has passed, so it can't begin a POST.

    ``owner`` and ``attempt`` are those of its claim or, before one, of the record that refused it.
    """

    at: str = "idle"
    message: int = 0
    owner: int = NOBODY
    attempt: int = 0
    late: bool = False
    outcome: str = ""
    gateway_id: int = 0
    after_opt_out: bool = False  # its claim was made after the opt-out was stored


class Row(NamedTuple):
    """The `MessagesTable` item of one acceptance. ``told``: the best status of any callback, which the code doesn't
    store.

    ``linked``: it names its message; ``whole``: it is also in the conversation.
    """

    rank: int = 0
    linked: bool = False
    whole: bool = False
    told: int = 0


class World(NamedTuple):
    """``queued``: the original and the redriven message of each lane (`_place`) are not deleted. ``copied``: those of
    the lane have a dead letter. ``late_claim``: a write still on its way.
    """

    record: Record = Record()
    workers: tuple[Worker, ...] = (Worker(), Worker())
    queued: tuple[bool, ...] = (True, False, False, False)
    copied: tuple[bool, ...] = (False, False)
    paused: tuple[bool, ...] = (False, False)
    accepted: int = 0
    rows: tuple[Row, ...] = ()
    callback: tuple[int, str, bool] | None = None  # the acceptance, its next step, and whether it has the item's values
    late_claim: int = NOBODY
    expired: bool = False
    faults: int = 0
    redrives: int = 0
    recalls: int = 0
    pauses: int = 0
    recall: tuple[int, str] | None = None  # the waiting message (-1: none) and the next step of an operator's recall
    excused: bool = False  # after a crash, stall, late or lost write, or ambiguous response UNKNOWN is allowed
    known: bool = False  # a worker that read the acceptance has written an outcome
    opted_out: bool = False  # the handset's opt-out is stored


class Step(NamedTuple):
    """``fault``: a crash, a pause or the like, without which a message must be able to proceed.

    ``callback``: a step of the gateway, or of an operator who ends a pause; neither is sure to come.
    """

    label: str
    world: World
    fault: bool = False
    callback: bool = False


class Violation(NamedTuple):
    """A broken promise and the steps to it."""

    promise: str
    trace: tuple[str, ...]


class Report(NamedTuple):
    """The result of exploring one setting."""

    states: int
    steps: int
    violation: Violation | None


def explore(rules: Rules, setting: Setting, *, limit: int = 1_000_000) -> Report:
    """Visit every reachable state, breadth first, until a promise breaks."""
    queued = tuple(lane in setting.lanes and not redriven for lane in LANES for redriven in (0, 1))
    start = World(
        queued=queued,
        faults=setting.faults,
        redrives=setting.redrives,
        recalls=setting.recalls,
        pauses=setting.pauses,
    )
    came_from: dict[World, tuple[World, str] | None] = {start: None}
    before: dict[World, list[tuple[World, bool]]] = {}
    todo, taken, moves = deque([start]), 0, Moves(rules, setting)
    while todo:
        world = todo.popleft()
        for step in moves.of(world):
            taken += 1
            if not step.fault:
                before.setdefault(step.world, []).append((world, step.callback))
            if step.world in came_from:
                continue
            came_from[step.world] = (world, step.label)
            if len(came_from) > limit:
                raise RuntimeError("more states than expected")
            if promise := broken_promise(world, step.world, setting):
                return Report(len(came_from), taken, Violation(promise, trace(came_from, step.world)))
            todo.append(step.world)
    ends = [world for world in came_from if is_at_rest(world)]
    for promise, good in (
        ("without another fault or callback it ends", can_reach(ends, before, callbacks=False)),
        (
            "without another fault it ends in the truth",
            can_reach([world for world in ends if is_true(world, setting)], before, callbacks=True),
        ),
    ):
        stuck = next((world for world in came_from if world not in good), None)
        if stuck is not None:
            return Report(len(came_from), taken, Violation(promise, trace(came_from, stuck)))
    return Report(len(came_from), taken, None)


def can_reach(ends: list[World], before: dict[World, list[tuple[World, bool]]], *, callbacks: bool) -> set[World]:
    """Return every state from which one of ``ends`` can be reached."""
    reached, todo = set(ends), deque(ends)
    while todo:
        for world, by_callback in before.get(todo.popleft(), ()):
            if world not in reached and (callbacks or not by_callback):
                reached.add(world)
                todo.append(world)
    return reached


def trace(came_from: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    """Return the steps to a state."""
    labels: list[str] = []
    while (origin := came_from[world]) is not None:
        world, label = origin
        labels.append(label)
    return tuple(reversed(labels))


def broken_promise(before: World, world: World, setting: Setting) -> str | None:  # noqa: PLR0911, PLR0912
    """Return the first promise that this state, or the step to it, breaks: one line for each promise."""
    record, was = world.record, before.record
    if world.accepted > 1 + (RESENDS if setting.on_unknown == "resend" else 0):
        return "the gateway accepts at most as often as allowed"
    if any(worker.at == "post" and worker.after_opt_out for worker in world.workers):
        return "no claim made after an opt-out leads to a POST"
    posting = [worker for worker in world.workers if worker.at in ("post", "outcome") and not worker.late]
    if len(posting) > 1:
        return "only one at a time may send"
    if any(w.at == "post" and not w.late and not _holds(w, record) and record.state != "ACCEPTED" for w in posting):
        return "who may send holds the record"
    is_proved = world.accepted and record.gateway_id != FOREIGN
    if record.state == "ACCEPTED" and not is_proved and not setting.foreign_reference:
        return "ACCEPTED is true"
    was_unsent = (was.state in ("RETRY", "REJECTED", "EXPIRED", "RECALLED") and not was.unknowns) or (
        before.faults == world.faults and _certainly_not_sent(before) and not _certainly_not_sent(world)
    )
    if record.state == "ACCEPTED" and was_unsent:
        return "what was certainly not sent is not taken for sent"
    if world.known and record.state != "ACCEPTED":
        return "a known acceptance is written"
    if was.gateway_id not in (0, FOREIGN, record.gateway_id):
        return "the gateway's id, once known, stays"
    if record.state in ("REJECTED", "EXPIRED", "RECALLED") and world.accepted and not record.unknowns:
        return "REJECTED, EXPIRED and RECALLED are true"
    if was.state == "RECALLED" and world.accepted > before.accepted:
        return "what was recalled is not sent"
    if record.state == "UNKNOWN" and not world.excused:
        return "UNKNOWN has a cause"
    if record.opted_out and sum(world.copied) > sum(before.copied):
        return "an opted-out message makes no dead letter"
    if any(_is_redriven_elsewhere(before, world, lane) for lane in LANES):
        return "a dead letter is redriven into its lane"
    if not any(world.queued) and not any(world.copied) and not _is_ended(record):
        return "a message is in a queue, or its end is known"
    if any(row.rank != max(row.told, ACCEPTED_RANK if row.linked else 0) for row in world.rows):
        return "the order of callbacks does not matter"
    return None


def is_at_rest(world: World) -> bool:
    """Return whether no worker handles the message now or later, except one that waits in a paused lane.

    An operator sees it if needed.
    """
    waits = [there and world.paused[_lane(message)] for message, there in enumerate(world.queued)]
    if waits != list(world.queued) or any(worker.at != "idle" for worker in world.workers):
        return False
    if world.callback or world.recall:
        return False
    return _is_ended(world.record) or any(world.copied) or any(waits)


def _is_ended(record: Record) -> bool:
    return record.state in ("ACCEPTED", "EXPIRED", "RECALLED") or record.opted_out


def is_true(world: World, setting: Setting) -> bool:
    """What was accepted is known as accepted, with its row, as far as a callback can prove it; or a person has it."""
    if any(world.queued):
        return False
    record, provable = world.record, not setting.shared_reference
    if record.gateway_id == FOREIGN:
        return True
    if record.state == "ACCEPTED" and record.gateway_id:
        return world.rows[record.gateway_id - 1].whole or any(world.copied)
    return record.state == "ACCEPTED" or world.accepted == 0 or not provable


def _certainly_not_sent(world: World) -> bool:
    """Return whether a worker is about to write "not sent" for a claim that a callback has resolved as sent."""
    unsent = ("too late", "not sent", "rejected", "opted out")
    return any(w.at == "outcome" and w.outcome in unsent and _is_contradicted(w, world.record) for w in world.workers)


def _is_contradicted(worker: Worker, record: Record) -> bool:
    return record.open and not record.unknowns and _same(worker, record)


def _is_redriven_elsewhere(before: World, world: World, lane: int) -> bool:
    message = _place(lane, redriven=True)
    return world.queued[message] and not before.queued[message] and not before.copied[lane]


def _place(lane: int, *, redriven: bool) -> int:
    return 2 * lane + redriven


def _lane(message: int) -> int:
    return message // 2


def _holds(worker: Worker, record: Record) -> bool:
    return record.state == "SENDING" and _same(worker, record)


def _same(worker: Worker, record: Record) -> bool:
    return (worker.owner, worker.attempt) == (record.owner, record.attempt)


class Moves:
    """The possible next steps of a state."""

    def __init__(self, rules: Rules, setting: Setting) -> None:
        self.rules = rules
        self.setting = setting

    def of(self, world: World) -> Iterator[Step]:
        """Return all steps. Workers are equal, so their order is normalized."""
        for step in (
            *self._time(world),
            *self._operators(world),
            *self._recalls(world),
            *self._callbacks(world),
            *self._workers(world),
        ):
            yield step._replace(world=_without_difference(step.world))

    # Steps of the environment

    def _time(self, world: World) -> Iterator[Step]:
        record = world.record
        if (record.state == "SENDING" and not record.lease_over) or record.open:
            over = world._replace(record=record._replace(lease_over=True, open=False))
            owner = next(
                (i for i, w in enumerate(world.workers) if w.at in ("read", "post", "outcome") and _same(w, record)),
                None,
            )
            if owner is None:
                yield Step("the lease of a lost owner ends", over)
            elif not self.rules.lease_outlives_owner:
                yield Step("the lease ends before its owner", over, fault=True)
            elif world.faults:
                late = _with_worker(over, owner, world.workers[owner]._replace(late=True))
                yield Step("the owner stalls past its lease", _faulty(late, excused=True), fault=True)
        if record.state == "UNKNOWN" and not record.waited:
            yield Step("time for proof is over", world._replace(record=record._replace(waited=True)))
        if self.setting.opts_out and not world.opted_out:
            yield Step("the handset opts out", world._replace(opted_out=True))
        if self.setting.may_expire and not world.expired:
            yield Step("the message expires", world._replace(expired=True))
        if world.late_claim:
            late = world._replace(late_claim=NOBODY)
            if self._may_claim(record):
                late = late._replace(record=_claimed(record, world.late_claim), excused=True)
            yield Step("a claim that was on its way arrives", late)

    # Redrive, pause and resume, each of one lane

    def _operators(self, world: World) -> Iterator[Step]:
        for lane in LANES:
            if world.copied[lane] and world.redrives:
                place = _place(lane if self.rules.lane_is_remembered else ORDINARY, redriven=True)
                queued, copied = _with(world.queued, place, True), _with(world.copied, lane, False)
                redriven = world._replace(queued=queued, copied=copied, redrives=world.redrives - 1)
                yield Step("an operator redrives the dead letter", redriven)
            if world.pauses and lane in self.setting.lanes:
                paused = world._replace(paused=_with(world.paused, lane, True), pauses=world.pauses - 1)
                yield Step(f"an operator pauses lane {lane}", paused, fault=True)
            if world.paused[lane]:
                resumed = world._replace(paused=_with(world.paused, lane, False))
                yield Step(f"an operator resumes lane {lane}", resumed, callback=True)

    # A recall: by a key alone, or by a waiting message, which is deleted after its recall is written

    def _recalls(self, world: World) -> Iterator[Step]:
        if world.recall is None:
            for message, there in ((-1, True), *enumerate(world.queued)):
                if world.recalls and there:
                    begun = world._replace(recall=(message, "write"), recalls=world.recalls - 1)
                    yield Step("an operator begins a recall", begun)
            return
        message, part = world.recall
        if world.faults:
            yield Step("the operator's command is killed", _faulty(world._replace(recall=None)), fault=True)
        if part == "delete":
            yield Step("a recalled message is deleted", _without_message(world, message)._replace(recall=None))
            return
        record = world.record
        if self._may_claim(record) or not self.rules.recall_is_conditional:
            record = record._replace(state="RECALLED", kept=record.unknowns > 0)
        deletes = message >= 0 and record.state == "RECALLED"
        done = world._replace(record=record, recall=(message, "delete") if deletes else None)
        yield Step("the recall is written", done)
        if not self.rules.recall_before_deletion:
            yield Step("the message is deleted first", _without_message(world, message)._replace(recall=(-1, "write")))

    # Callbacks: status into the item, proof into the ledger, the ledger's values into the item and out of the ledger

    def _callbacks(self, world: World) -> Iterator[Step]:
        if world.callback is None:
            own = world.record.gateway_id not in (0, FOREIGN)
            if world.record.state == "ACCEPTED" and own and world.record.kept:
                completed = _linked(world, world.record.gateway_id, whole=True)
                yield Step("reconciliation completes the row", _removed(completed, world.record.gateway_id))
            for number, row in enumerate(world.rows, start=1):
                for told in (SENT_RANK, RECEIVED_RANK)[-self.setting.statuses :]:
                    rank = max(row.rank, told) if self.rules.rank_decides else row.rank or told
                    stored = _with_row(world, number, row._replace(rank=rank, told=max(row.told, told)))
                    stored = stored if row.linked else stored._replace(callback=(number, "prove", False))
                    yield Step(f"callback: {number} has status {told}", stored, callback=True)
            if self.setting.shared_reference or self.setting.foreign_reference:
                yield Step(
                    "callback of somebody else's message",
                    world._replace(record=self._proved(world.record, FOREIGN)),
                    callback=True,
                )
            return
        number, part, knows = world.callback
        done = world._replace(callback=None)
        if part == "prove":
            proved = self._proved(world.record, number)
            again = world.record.gateway_id == number  # sooner than reconciliation does
            linking = proved != world.record or (again and not self.setting.shared_reference)
            after = done._replace(record=proved, callback=(number, "link", world.record.kept) if linking else None)
            yield Step(f"callback: {number} is taken as proof", after)
        elif part == "link":
            linked = _linked(done, number, whole=knows)._replace(callback=(number, "remove", False))
            yield Step(f"callback: {number} is joined with its message", linked)
        else:
            yield Step(f"callback: what the row of {number} was written from is removed", _removed(done, number))
        if world.faults:
            yield Step("the receiver crashes", _faulty(done), fault=True)

    def _proved(self, record: Record, number: int) -> Record:
        if self.setting.shared_reference and self.rules.ambiguous_reference_proves_nothing:
            return record
        other_id = record.gateway_id not in (0, number) and self.rules.one_id_for_a_record
        may_be_true = (
            record.state in ("SENDING", "UNKNOWN", "ACCEPTED")
            or (self.rules.unknown_once_is_never_certain and record.unknowns > 0)
            or (not self.rules.only_what_may_have_been_sent_is_proved and record.state == "RETRY")
        )
        if other_id or not may_be_true:
            return record
        is_open = record.open or (record.state == "SENDING" and not record.lease_over)
        kept = record.kept and self.rules.row_before_removal
        return record._replace(state="ACCEPTED", gateway_id=number, open=is_open, kept=kept)

    # The workers

    def _workers(self, world: World) -> Iterator[Step]:
        for index, worker in enumerate(world.workers):
            if worker.at == "idle":
                for message, there in enumerate(world.queued):
                    if there and not self._is_paused(world, _lane(message)):
                        early = self.setting.opts_out and not self.rules.opt_out_is_read_after_claim
                        seen = "opted out" if early and world.opted_out else ""
                        yield Step("delivered", _with_worker(world, index, Worker("start", message, outcome=seen)))
                continue
            if world.faults:
                crashed = _with_worker(world, index, Worker())
                yield Step(f"crash at {worker.at}", _faulty(crashed, excused=True), fault=True)
            yield from getattr(self, f"_{worker.at}")(world, index)

    def _is_paused(self, world: World, lane: int) -> bool:
        return world.paused[lane] if self.rules.lanes_pause_apart else any(world.paused)

    def _start(self, world: World, index: int) -> Iterator[Step]:
        owner = _new_owner(world)
        yield from self._write(world, index, "claim", lambda at: self._claim(at, index, owner, again=False), owner)

    def _again(self, world: World, index: int) -> Iterator[Step]:
        owner = _new_owner(world)
        yield from self._write(world, index, "claim again", lambda at: self._claim(at, index, owner, again=True))

    def _claim(self, world: World, index: int, owner: int, *, again: bool) -> World:
        record, worker = world.record, world.workers[index]
        if world.expired and not again:
            if record.state in ("absent", "RETRY"):
                expired = record._replace(state="EXPIRED", kept=record.unknowns > 0)
                return _with_worker(world._replace(record=expired), index, worker._replace(at="ack"))
            return self._refused(world, index)
        may_claim = self._may_claim_again(record, worker) if again else self._may_claim(record)
        may_claim |= not self.rules.one_key_for_both_lanes and _lane(worker.message) != ORDINARY
        if may_claim or not self.rules.claim_is_conditional:
            record = _claimed(record, owner)
        elif not (record.owner == owner and record.state == "SENDING" and self.rules.own_claim_is_recognised):
            return self._refused(world, index)
        claimed = worker._replace(at="post", owner=owner, attempt=record.attempt)
        if self.setting.opts_out:
            claimed = claimed._replace(at="read", after_opt_out=world.opted_out)
        return _with_worker(world._replace(record=record), index, claimed)

    def _may_claim(self, record: Record) -> bool:
        return record.state in ("absent", "RETRY") or (record.state == "RECALLED" and not self.rules.recalled_is_final)

    def _may_claim_again(self, record: Record, worker: Worker) -> bool:
        if not self.rules.resend_is_conditional:
            return record.state != "ACCEPTED"
        return record.state == "UNKNOWN" and _same(worker, record)

    def _refused(self, world: World, index: int) -> World:
        """Return the steps after a refused claim."""
        record, worker, at = world.record, world.workers[index], "idle"
        match record.state:
            case "ACCEPTED" if record.open and self.rules.open_claim_is_waited_for:
                at = "idle"
            case "ACCEPTED":
                at = "row" if record.gateway_id and self.rules.row_is_repaired else "ack"
                worker = worker._replace(gateway_id=record.gateway_id)
            case "REJECTED" if record.opted_out and self.rules.opt_out_is_remembered:
                at = "ack"
            case "REJECTED":
                at = "copy" if self.rules.copy_is_repaired else "ack"
            case "EXPIRED" | "RECALLED":
                at = "ack"
            case "SENDING" if record.lease_over:
                at = "take_over" if self.rules.lapse_is_unknown else "again"
            case "UNKNOWN":
                again = self.setting.on_unknown == "resend" and not world.expired
                if not again or (self.rules.resends_are_counted and record.unknowns > RESENDS):
                    at = "copy" if self.rules.copy_is_repaired else "ack"
                elif record.waited:
                    at = "again"
        return _with_worker(world, index, worker._replace(at=at, owner=record.owner, attempt=record.attempt))

    def _take_over(self, world: World, index: int) -> Iterator[Step]:
        def lapse(at: World) -> World:
            if not _same(at.workers[index], at.record) or at.record.state not in ("SENDING", "UNKNOWN"):
                return self._refused(at, index)
            return self._resolve(_unknown(at) if at.record.state == "SENDING" else at, index)

        yield from self._write(world, index, "take over", lapse)

    def _resolve(self, world: World, index: int) -> World:
        """Return the steps after the message became UNKNOWN."""
        waits = self.setting.on_unknown == "resend" and (
            world.record.unknowns <= RESENDS or not self.rules.resends_are_counted
        )
        return _with_worker(world, index, Worker() if waits else world.workers[index]._replace(at="copy"))

    def _read(self, world: World, index: int) -> Iterator[Step]:
        worker = world.workers[index]
        if self.rules.opt_out_is_read_after_claim:
            worker = worker._replace(outcome="opted out" if world.opted_out else "")
        if worker.attempt > 1 and not self.rules.opt_out_is_read_each_time:
            worker = worker._replace(outcome="")
        read = worker._replace(at="outcome" if worker.outcome else "post")
        yield Step("the opt-out is read", _with_worker(world, index, read))
        if world.faults:
            waits = self.rules.unread_opt_out_waits
            unread = worker._replace(at="outcome" if waits else "post", outcome="too late" if waits else "")
            yield Step("the opt-out can't be read", _faulty(_with_worker(world, index, unread)), fault=True)

    def _post(self, world: World, index: int) -> Iterator[Step]:
        worker = world.workers[index]
        if worker.late or world.expired:
            answered = worker._replace(at="outcome", outcome="too late")
            yield Step("too late to POST", _with_worker(world, index, answered))
            return
        taken = world._replace(accepted=world.accepted + 1, rows=(*world.rows, Row()))
        number = taken.accepted
        for label, then, outcome, gateway_id, ambiguous in (
            ("accepted", taken, "sent", number, False),
            ("accepted without id", taken, "sent", 0, False),
            ("accepted, answer lost", taken, "unknown", 0, True),
            ("not accepted, answer lost", world, "unknown", 0, True),
            ("certainly not sent", world, "not sent", 0, False),
            ("rejected", world, "rejected", 0, False),
        ):
            answered = worker._replace(at="outcome", outcome=outcome, gateway_id=gateway_id)
            then_answered = _with_worker(then, index, answered)
            yield Step(f"POST: {label}", then_answered._replace(excused=world.excused or ambiguous))

    def _outcome(self, world: World, index: int) -> Iterator[Step]:
        if not self.rules.outcome_is_written_before_ack:
            yield Step("acknowledged early", _with_worker(world, index, world.workers[index]._replace(at="ack")))
        yield from self._write(world, index, "outcome", lambda at: self._written(at, index))

    def _written(self, world: World, index: int) -> World:
        worker, record = world.workers[index], world.record
        outcome = worker.outcome
        if outcome == "unknown" and not self.rules.unknown_is_held:
            outcome = "not sent"
        if outcome == "sent":
            return self._write_sent(world, index)
        to = _ENDS[outcome]
        opted_out = outcome == "opted out"
        if outcome == "not sent" and worker.attempt >= MAX_ATTEMPTS:
            to = "REJECTED"
        mine = (not self.rules.owner_is_checked or record.owner == worker.owner) and (
            not self.rules.attempt_is_checked or record.attempt == worker.attempt
        )
        corrects = self.rules.certainly_not_sent_corrects_a_callback and to in ("RETRY", "REJECTED")
        if corrects and _is_contradicted(worker, record):
            corrected = record._replace(state=to, gateway_id=0, open=False, kept=to == "RETRY", opted_out=opted_out)
            world = world._replace(record=corrected)
        elif record.state == "SENDING" and mine:
            is_certain = record._replace(state=to, kept=to == "RETRY" or record.unknowns > 0, opted_out=opted_out)
            world = _unknown(world) if to == "UNKNOWN" else world._replace(record=is_certain)
        elif not (record.state == to and _same(worker, record)):
            return self._refused(world, index)
        if to == "UNKNOWN":
            return self._resolve(world, index)
        if to == "RETRY":
            return _with_worker(world, index, Worker())
        return _with_worker(world, index, worker._replace(at="ack" if opted_out else "copy"))

    def _write_sent(self, world: World, index: int) -> World:
        worker, record = world.workers[index], world.record
        world = world._replace(known=True)
        if not self.rules.acceptance_wins and not _holds(worker, record):
            return self._refused(world, index)
        if not record.gateway_id:
            # Another delivery can acknowledge the message before this one writes its item.
            kept = record.kept if not worker.gateway_id else not _holds(worker, record)
            record = record._replace(state="ACCEPTED", gateway_id=worker.gateway_id, open=False, kept=kept)
        world = world._replace(record=record)
        has_other = record.gateway_id not in (0, worker.gateway_id)
        at = "other_row" if has_other else "row" if worker.gateway_id else "ack"
        return _with_worker(world, index, worker._replace(at=at))

    def _other_row(self, world: World, index: int) -> Iterator[Step]:
        """Write the item of another accepted delivery, whose worker may have crashed."""

        def write(at: World) -> World:
            worker = at.workers[index]
            then = _with_worker(at, index, worker._replace(at="row" if worker.gateway_id else "ack"))
            return _linked(then, at.record.gateway_id, whole=True)

        yield from self._write(world, index, "row of the other", write)

    def _row(self, world: World, index: int) -> Iterator[Step]:
        def write(at: World) -> World:
            worker = at.workers[index]
            return _linked(_with_worker(at, index, worker._replace(at="ack")), worker.gateway_id, whole=True)

        yield from self._write(world, index, "row", write)

    def _copy(self, world: World, index: int) -> Iterator[Step]:
        if not self.rules.copy_before_ack:
            yield Step("acknowledged before the copy", _without_message(world, world.workers[index].message))
        yield from self._write(
            world,
            index,
            "dead-letter copy",
            lambda at: _with_copy(at, index),
        )

    def _ack(self, world: World, index: int) -> Iterator[Step]:
        message = world.workers[index].message
        deleted = _without_message(world, message if self.rules.lane_is_acknowledged else (message + 2) % 4)
        yield Step("acknowledged", _with_worker(deleted, index, Worker()))

    def _write(
        self, world: World, index: int, what: str, apply: Callable[[World], World], claims_as: int = NOBODY
    ) -> Iterator[Step]:
        """Return a write of a worker with all its failures."""
        applied = apply(world)
        yield Step(what, applied)
        if not world.faults:
            return
        idle = Worker()
        yield Step(f"{what}: fails", _faulty(_with_worker(world, index, idle), excused=True), fault=True)
        yield Step(
            f"{what}: done, but its answer is lost",
            _faulty(_with_worker(applied, index, idle), excused=True),
            fault=True,
        )
        unanswered = _with_worker(applied, index, world.workers[index])
        yield Step(f"{what}: done, its answer is lost, the SDK repeats it", _faulty(apply(unanswered)), fault=True)
        if claims_as and not world.late_claim and not world.expired:
            for after, label in ((applied, "and once more, later"), (_with_worker(world, index, idle), "but not yet")):
                yield Step(f"{what}: {label}", _faulty(after._replace(late_claim=claims_as)), fault=True)


def _claimed(record: Record, owner: int) -> Record:
    attempt = record.attempt + 1
    return record._replace(state="SENDING", owner=owner, attempt=attempt, lease_over=False, waited=False, kept=True)


def _unknown(world: World) -> World:
    unknowns = min(world.record.unknowns + 1, RESENDS + 1)
    return world._replace(record=world.record._replace(state="UNKNOWN", unknowns=unknowns, waited=False))


def _faulty(world: World, *, excused: bool = False) -> World:
    return world._replace(faults=world.faults - 1, excused=world.excused or excused)


def _with_worker(world: World, index: int, worker: Worker) -> World:
    return world._replace(workers=(*world.workers[:index], worker, *world.workers[index + 1 :]))


def _with_row(world: World, number: int, row: Row) -> World:
    return world._replace(rows=(*world.rows[: number - 1], row, *world.rows[number:]))


def _linked(world: World, number: int, *, whole: bool) -> World:
    if number == FOREIGN:
        return world
    row = world.rows[number - 1]
    row = row._replace(linked=True, whole=row.whole or whole, rank=max(row.rank, ACCEPTED_RANK))
    return _with_row(world, number, row)


def _removed(world: World, number: int) -> World:
    record = world.record
    if (record.state, record.gateway_id) != ("ACCEPTED", number):
        return world
    return world._replace(record=record._replace(kept=False))


def _without_message(world: World, message: int) -> World:
    return world._replace(queued=_with(world.queued, message, False)) if message >= 0 else world


def _with_copy(world: World, index: int) -> World:
    worker = world.workers[index]
    copied = world._replace(copied=_with(world.copied, _lane(worker.message), True))
    return _with_worker(copied, index, worker._replace(at="ack"))


def _with(flags: tuple[bool, ...], index: int, value: bool) -> tuple[bool, ...]:
    return (*flags[:index], value, *flags[index + 1 :])


def _new_owner(world: World) -> int:
    return max(world.record.owner, world.late_claim, *(worker.owner for worker in world.workers)) + 1


def _without_difference(world: World) -> World:
    """Merge states that differ only in values that are never read again, to keep their number small."""
    record = world.record
    if record.state in ("ACCEPTED", "EXPIRED", "RECALLED") and not record.open:
        record = Record(record.state, gateway_id=record.gateway_id, unknowns=record.unknowns, kept=record.kept)
    if record.lease_over and record.state != "SENDING":
        record = record._replace(lease_over=False)
    workers = tuple(sorted(_KEPT[worker.at](worker) for worker in world.workers))
    accepted = record.state == "ACCEPTED" and not record.open
    return world._replace(
        record=record, workers=workers, excused=world.excused or accepted, known=world.known or accepted
    )


_ENDS: Final = {
    "too late": "RETRY",
    "not sent": "RETRY",
    "rejected": "REJECTED",
    "opted out": "REJECTED",
    "unknown": "UNKNOWN",
}
_KEPT: Final[dict[str, Callable[[Worker], Worker]]] = {
    "idle": lambda _: Worker(),
    "start": lambda worker: Worker("start", worker.message, outcome=worker.outcome),
    "read": lambda worker: worker,
    "again": lambda worker: Worker("again", worker.message, worker.owner, worker.attempt),
    "take_over": lambda worker: Worker("take_over", worker.message, worker.owner, worker.attempt),
    "post": lambda worker: worker,
    "outcome": lambda worker: worker,
    "other_row": lambda worker: Worker("other_row", worker.message, gateway_id=worker.gateway_id),
    "row": lambda worker: Worker("row", worker.message, gateway_id=worker.gateway_id),
    "copy": lambda worker: Worker("copy", worker.message),
    "ack": lambda worker: Worker("ack", worker.message),
}
