"""`erase`: the number is removed from all of the stack's data, the keys stay, and nothing restores the number."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from cli.erasing import mentions
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.model.callbacks import ReplyCallback, StatusCallback
from optus_sms.records.items import LedgerRecord, OptOutRecord, State
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from optus_sms.records.opt_outs import OptOuts
from tests.support.aws import REGION
from tests.support.builders import HANDSET, message_body, sent_message
from tests.support.cli import Ran, optus_sms
from tests.support.deployed import STACK, DeployedStack
from tests.support.health import FakeSwitch

TARGET = ("--stack", STACK, "--region", REGION)
OTHER = "+61491570156"
STATES = [state for state in State if state is not State.SENDING]

pytestmark = pytest.mark.usefixtures("switch")


def erase(*options: str, handset: str = HANDSET) -> Ran:
    return optus_sms("erase", handset, "--json", *options, *TARGET)


def messages_of(stack: DeployedStack) -> Messages:
    return Messages.connect(stack.session.client("dynamodb"), stack.outputs["MessagesTableName"], retention_days=90)


def fill(stack: DeployedStack) -> None:
    """Fill tables and queues: messages in every state and place, for the handset and for another one."""
    store, now = messages_of(stack), time.time()
    for state in STATES:
        stack.bring(state, state.value)
    stack.letter(message_body(message_id="UNKNOWN"), DeadLetterReason.UNKNOWN_OUTCOME, "UNKNOWN")
    store.record_sent(*sent_message("gw-ACCEPTED", message_id="ACCEPTED"), now=now)
    store.record_reply(ReplyCallback("mo-1", source=HANDSET, content="Ring me"), in_reply_to=None, exact=False, now=now)
    store.record_sent(*sent_message("gw-other", message_id="other", destination=OTHER), now=now)
    for destination in (HANDSET, OTHER):
        body = message_body(message_id=f"waits-{destination[-3:]}", destination=destination)
        stack.sqs.send_message(QueueUrl=stack.outputs["OutboundQueueUrl"], MessageBody=body)
        stack.letter(message_body(destination=destination), DeadLetterReason.REJECTED, "letter")
        stack.letter(json.dumps({"from": destination}) + "?", DeadLetterReason.UNREADABLE_CALLBACK, "-")


def test_an_opt_out_is_kept_unless_it_is_to_go_too(stack: DeployedStack) -> None:
    opt_outs = OptOuts.connect(stack.session.client("dynamodb"), stack.outputs["OptOutTableName"])
    since = "2026-01-01T00:00:00.000Z"
    opt_outs.decide(OptOutRecord(HANDSET, True, since, "reply", reply_id="mo-1"))
    ran = erase("--yes")
    assert (opt_outs.read(HANDSET) is not None, "opt-out" in ran.stderr) == (True, True)
    assert "opt-outs" not in [item["place"] for item in ran.document["items"]]
    erase("--yes", "--with-opt-out", "--dry-run")
    assert opt_outs.read(HANDSET) is not None
    ran = erase("--yes", "--with-opt-out")
    assert (opt_outs.read(HANDSET), [item["place"] for item in ran.document["items"]]) == (None, ["opt-outs"])


def test_an_opt_in_is_erased_because_it_stops_nothing(stack: DeployedStack) -> None:
    opt_outs = OptOuts.connect(stack.session.client("dynamodb"), stack.outputs["OptOutTableName"])
    opt_outs.decide(OptOutRecord(HANDSET, False, "2026-01-01T00:00:00.000Z", "reply", reply_id="mo-1"))
    erase("--yes")
    assert opt_outs.read(HANDSET) is None


def everything(stack: DeployedStack) -> str:
    """Return all data of tables and queues as text; empties the queues."""
    dynamodb = stack.session.client("dynamodb")
    items = [dynamodb.scan(TableName=stack.outputs[f"{name}TableName"])["Items"] for name in ("SendLedger", "Messages")]
    return str([items, stack.queued(), stack.received("DeadLetterQueueUrl")])


def places(ran: Ran) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in ran.document["items"]:
        found[item["place"]] = found.get(item["place"], 0) + 1
    return found


FOUND = {"queue": 2, "ledger": 4, "messages": 1, "replies": 1, "dead letters": 2, "kept callbacks": 1}


def test_the_number_leaves_every_place_and_the_keys_and_others_stay(stack: DeployedStack) -> None:
    fill(stack)
    before = {state: stack.record(state.value) for state in STATES}

    ran = erase("--yes", handset="0491 570 006")

    assert (ran.exit_code, {item["left"] for item in ran.document["items"]}) == (0, {""})
    assert places(ran) == FOUND
    for state in STATES:
        record, was = stack.record(state.value), before[state]
        assert record is not None
        assert was is not None
        assert record.state is (State.RECALLED if state is State.RETRY else state)
        assert record.payload_sha256 == was.payload_sha256
    left = everything(stack)
    assert HANDSET[-8:] not in left
    assert "Ring me" not in left
    assert left.count(OTHER) == 5  # its item (twice), waiting message, dead letter and callback


def test_explain_says_when_and_no_later_callback_or_delivery_brings_it_back(stack: DeployedStack) -> None:
    fill(stack)
    erase("--yes")
    explained = optus_sms("explain", "ACCEPTED", *TARGET).stdout
    assert explained.startswith(f"ACCEPTED: erased on {time.strftime('%Y-%m-%d', time.gmtime())}")
    assert "on its way" not in explained
    assert "erased on" in optus_sms("status", "mo-1", *TARGET).stdout
    assert "erased on" in optus_sms("status", "UNKNOWN", *TARGET).stdout
    store = messages_of(stack)
    store.record_status(StatusCallback("gw-ACCEPTED", "received", f"to {HANDSET}"), now=time.time())
    store.record_sent(*sent_message("gw-ACCEPTED", message_id="ACCEPTED"), now=time.time())
    assert optus_sms("explain", "ACCEPTED", *TARGET).stdout.startswith("ACCEPTED: received; erased on ")
    assert HANDSET[-8:] not in everything(stack)


def test_a_dry_run_lists_the_same_and_changes_nothing(stack: DeployedStack) -> None:
    fill(stack)
    ran = erase("--dry-run")
    assert ran.exit_code == 0
    before = {state: stack.record(state.value) for state in STATES}
    assert places(ran) == FOUND | {"ledger": 3}  # the recall of the waiting message adds a record
    assert places(erase("--yes")) == FOUND
    assert all(record is not None and record.erased_at is None for record in before.values())
    assert HANDSET not in ran.stdout


def test_it_asks_first(stack: DeployedStack) -> None:
    fill(stack)
    ran = optus_sms("erase", HANDSET, *TARGET)
    assert (ran.exit_code, "--yes" in ran.stderr) == (2, True)
    assert HANDSET in everything(stack)
    assert optus_sms("erase", "12", "--yes", *TARGET).exit_code == 5


def test_a_queue_that_is_not_paused_is_left_and_that_is_said(stack: DeployedStack, switch: FakeSwitch) -> None:
    fill(stack)
    switch.on = True
    ran = erase("--yes")
    assert (ran.exit_code, "not searched" in ran.stderr, ran.document["queue_read"]) == (9, True, False)
    assert places(ran)["queue"] == 1  # a message that waits for another attempt is found in the ledger
    assert len(stack.queued()) == 2


@pytest.mark.parametrize("options", [("--yes",), ("--dry-run",)])
def test_what_another_reader_holds_is_not_searched_and_that_is_said(
    stack: DeployedStack, switch: FakeSwitch, options: tuple[str, ...]
) -> None:
    stack.letter(message_body(), DeadLetterReason.REJECTED, "letter")
    stack.sqs.send_message(QueueUrl=stack.outputs["OutboundQueueUrl"], MessageBody=message_body())
    for output in ("DeadLetterQueueUrl", "OutboundQueueUrl"):
        stack.sqs.receive_message(QueueUrl=stack.outputs[output], VisibilityTimeout=60)
    ran = erase(*options)
    assert (ran.exit_code, ran.document["items"]) == (9, [])
    assert ran.document["not_searched"] == {"queue": 1, "dead letters": 1}
    assert all(f"About 1 in the {place} not searched" in ran.stderr for place in ("queue", "dead letters"))
    switch.on = True
    assert erase(*options).document["not_searched"] == {"dead letters": 1}, "of the queue nothing was searched"


@pytest.mark.parametrize("state", [State.SENDING, State.UNKNOWN])
def test_what_an_attempt_still_needs_is_left_and_that_is_said(stack: DeployedStack, state: State) -> None:
    stack.bring(state, "k", body=message_body(message_id="k"), on_unknown="resend")
    before = stack.record("k")
    ran = erase("--yes")
    assert (ran.exit_code, [item["id"] for item in ran.document["items"] if item["left"]]) == (9, ["k"])
    assert stack.record("k") == before


def test_what_an_attempt_ends_meanwhile_is_erased_too(stack: DeployedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway accepts the message after its conversation was read and before its record is."""
    stack.bring(State.SENDING, "k")
    scan = Ledger.scan

    def accepted_before(ledger: Ledger) -> Iterator[LedgerRecord]:
        claim = stack.record("k")
        assert claim is not None
        messages_of(stack).record_sent("gw-k", claim, now=time.time())
        ledger.accepted(claim, "gw-k", now=time.time())
        return scan(ledger)

    monkeypatch.setattr(Ledger, "scan", accepted_before)
    ran = erase("--yes")
    assert (ran.exit_code, places(ran)) == (0, {"ledger": 1, "messages": 1})
    assert HANDSET[-8:] not in everything(stack)


def test_interrupted_after_any_step_the_same_command_ends_it(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(stack)

    @contextmanager
    def stopping_after(steps: int) -> Iterator[Callable[[], bool]]:
        left = iter([False] * steps)
        yield lambda: next(left, True)

    codes = []
    for steps in range(12):
        with monkeypatch.context() as patch:
            patch.setattr("cli.commands.erase.stopping_between_batches", partial(stopping_after, steps))
            codes.append(erase("--yes").exit_code)
    assert 130 in codes
    assert erase("--yes").exit_code == 0
    for key in ("ACCEPTED", "UNKNOWN"):
        record = stack.record(key)
        assert record is not None
        assert record.erased_at, key
    # The recall itself removed the number, so the record can no longer be found by it.
    for key in ("RETRY", f"waits-{HANDSET[-3:]}"):
        record = stack.record(key)
        assert record is not None
        assert (record.state, record.destination) == (State.RECALLED, None), key
    assert HANDSET[-8:] not in everything(stack)


@pytest.mark.parametrize(
    "text",
    ["+61491570006", "0491 570 006", "(0491) 570-006", "%2B61491%20570%20006", "61\\u00a0491570006", "٠٤٩١٥٧٠٠٠٦",
     "０４９１５７０００６"],
)  # fmt: skip
def test_a_number_is_found_in_a_text_however_it_is_written(text: str) -> None:
    assert mentions(f'{{"from": "{text}", "x": 7}}', HANDSET)
    assert not mentions(f'{{"from": "{text}"}}', OTHER)
