"""Plans for dead letters and their application: hostile plans, interruptions, and messages that must not be sent."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import click
import pytest

from cli import redrive_plan
from cli.dead_letter_queue import DeadLetterQueue, ReceivedDeadLetter
from cli.redrive_plan import DeadLetterKind, judge
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.records.items import LedgerRecord, State
from tests.support.aws import REGION
from tests.support.builders import CONTENT, HANDSET, NOW, message_body, wanted
from tests.support.cli import Ran, optus_sms, umask_of_anybody
from tests.support.deployed import STACK, DeployedStack

TARGET = ("--stack", STACK, "--region", REGION)
PLAN = Path("plan.json")

pytestmark = pytest.mark.usefixtures("stack")


def make_plan() -> dict[str, Any]:
    """Return the plan that `redrive --plan` writes."""
    PLAN.unlink(missing_ok=True)
    assert optus_sms("redrive", "--plan", PLAN, *TARGET).exit_code == 0
    plan: dict[str, Any] = json.loads(PLAN.read_text())
    return plan


def kinds() -> dict[str, tuple[str, str]]:
    """Return kind and action by message ID in a new plan."""
    return {item["message_id"]: (item["kind"], item["action"]) for item in make_plan()["items"]}


def apply(plan: dict[str, Any] | None = None) -> Ran:
    if plan is not None:
        PLAN.write_text(json.dumps(plan))
    return optus_sms("redrive", "--apply", PLAN, "--yes", "--json", *TARGET)


def results(ran: Ran) -> list[str]:
    return [step["result"] for step in ran.document["steps"]]


def everything_to(action: str) -> dict[str, Any]:
    plan = make_plan()
    for item in plan["items"]:
        item["action"] = action
    return plan


def test_a_plan_sorts_each_letter_by_what_may_be_done_with_it(stack: DeployedStack) -> None:
    reasons = {
        "exhausted": DeadLetterReason.ATTEMPTS_EXHAUSTED,
        "refused": DeadLetterReason.REJECTED,
        "unsure": DeadLetterReason.UNKNOWN_OUTCOME,
        "sent": DeadLetterReason.UNKNOWN_OUTCOME,
        "late": DeadLetterReason.ATTEMPTS_EXHAUSTED,
    }
    states = {
        "exhausted": State.REJECTED, "refused": State.REJECTED, "unsure": State.UNKNOWN, "sent": State.ACCEPTED,
        "late": State.REJECTED,
    }  # fmt: skip
    for key, reason in reasons.items():
        expires = "2026-01-01T00:00:00Z" if key == "late" else None
        body = message_body(message_id=key, expires_at=expires)
        stack.bring(states[key], key, body=body, reason=reason.value)
        stack.letter(body, reason, key)
    stack.letter("not JSON", DeadLetterReason.INVALID, "broken")
    other = message_body(message_id="exhausted", content="Something else")
    stack.letter(other, DeadLetterReason.CONFLICT, "exhausted")
    stack.letter(message_body(message_id="lookalike"), DeadLetterReason.UNREADABLE_CALLBACK, "-")
    stack.letter(message_body(message_id="forgotten"), DeadLetterReason.UNKNOWN_OUTCOME, "forgotten")
    stack.letter(message_body(message_id="mended"), DeadLetterReason.INVALID, "mended")
    stack.moved_by_sqs(message_body(message_id="crashed"))
    stack.bring(State.SENDING, "busy")
    stack.moved_by_sqs(message_body(message_id="busy"))

    found = {(i["message_id"], i["kind"], i["action"]) for i in make_plan()["items"]}

    assert found == {
        ("exhausted", "safe", "send"),
        ("crashed", "safe", "send"),
        ("exhausted", "conflict", "keep"),
        ("refused", "rejected", "keep"),
        ("mended", "rejected", "keep"),
        ("unsure", "unknown", "keep"),
        ("forgotten", "unknown", "keep"),
        ("sent", "already_sent", "keep"),
        ("late", "expired", "keep"),
        ("broken", "malformed", "keep"),
        ("-", "callback", "keep"),
        ("busy", "busy", "keep"),
    }


def test_making_a_plan_changes_nothing_and_shows_neither_text_nor_number(stack: DeployedStack) -> None:
    stack.letter(stack.bring(State.REJECTED, "one"), DeadLetterReason.REJECTED, "one")
    before = stack.record("one")

    plan = make_plan()

    assert (stack.dead(), stack.record("one"), stack.queued()) == (1, before, [])
    assert HANDSET not in PLAN.read_text()
    assert CONTENT not in PLAN.read_text()
    assert plan["items"][0]["destination"] == "…006"


def test_a_redriven_message_keeps_the_time_when_it_was_queued_first(stack: DeployedStack) -> None:
    """Its schedule passed while it waited, not before it was queued."""
    body = message_body(message_id="k", scheduled="2026-01-01T00:05:00Z")
    stack.bring(State.REJECTED, "k", body=body, reason="attempts_exhausted", queued_at=NOW)
    stack.letter(body, DeadLetterReason.ATTEMPTS_EXHAUSTED, "k", queued_at=NOW)
    assert kinds() == {"k": ("safe", "send")}
    assert results(apply()) == ["queued"]
    ((_, attributes),) = stack.queued_with_attributes()
    assert attributes == {"message_id": "k", "queued_at": "2026-01-01T00:00:00.000Z"}


def test_a_plan_of_nothing_says_so(stack: DeployedStack) -> None:
    assert optus_sms("redrive", "--plan", PLAN, *TARGET).stdout == "none\n"
    assert json.loads(PLAN.read_text())["items"] == []


def test_a_plan_is_not_written_over_another(stack: DeployedStack) -> None:
    PLAN.write_text("my changes")
    assert optus_sms("redrive", "--plan", PLAN, *TARGET).exit_code == 2
    assert PLAN.read_text() == "my changes"


def test_applying_sends_what_is_safe_with_its_key_and_nothing_else(stack: DeployedStack) -> None:
    body = stack.bring(State.REJECTED, "exhausted", reason="attempts_exhausted")
    stack.letter(body, DeadLetterReason.ATTEMPTS_EXHAUSTED, "exhausted")
    stack.letter(stack.bring(State.UNKNOWN, "unsure"), DeadLetterReason.UNKNOWN_OUTCOME, "unsure")
    stack.letter(stack.bring(State.REJECTED, "refused"), DeadLetterReason.REJECTED, "refused")
    make_plan()

    assert results(apply()) == ["queued"]

    assert stack.queued() == [(body, "exhausted")]
    assert stack.dead() == 2
    record = stack.record("exhausted")
    assert record is not None
    assert record.state is State.RETRY


def test_the_key_of_what_sqs_moved_is_stamped_on_the_copy(stack: DeployedStack) -> None:
    body = message_body(message_id=None)
    sqs_id = stack.moved_by_sqs(body)
    make_plan()
    assert results(apply()) == ["queued"]
    assert stack.queued() == [(body, sqs_id)]


def test_two_copies_of_one_message_are_one_item_and_queued_once(stack: DeployedStack) -> None:
    body = stack.bring(State.REJECTED, "one", reason="attempts_exhausted")
    for _ in range(3):
        stack.letter(body, DeadLetterReason.ATTEMPTS_EXHAUSTED, "one")
    plan = make_plan()
    assert [len(item["copies"]) for item in plan["items"]] == [3]

    assert sorted(results(apply())) == ["another copy deleted", "another copy deleted", "queued"]
    assert stack.queued() == [(body, "one")]
    assert stack.dead() == 0


def test_of_two_letters_with_one_key_and_other_fields_one_is_sent(stack: DeployedStack) -> None:
    for content in ("One", "Two"):
        stack.moved_by_sqs(message_body(message_id="k", content=content))
    plan = everything_to("send")
    assert sorted(item["kind"] for item in plan["items"]) == ["conflict", "safe"]
    assert sorted(results(apply(plan))) == ["queued", "refused"]
    assert (len(stack.queued()), stack.dead()) == (1, 1)


def test_a_letter_that_somebody_else_holds_is_not_said_to_be_gone(stack: DeployedStack) -> None:
    stack.moved_by_sqs(message_body(message_id="k"))
    make_plan()
    url = stack.outputs["DeadLetterQueueUrl"]
    stack.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=60)
    ran = apply()
    assert (ran.exit_code, results(ran)) == (9, ["not seen"])


@pytest.fixture
def lagging_counts(stack: DeployedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SQS count messages as in flight that were released or deleted less than a minute ago."""
    receive, received = DeadLetterQueue._receive, set[str]()

    def remembered(queue: DeadLetterQueue) -> list[Any]:
        found = receive(queue)
        received.update(message["MessageId"] for message in found)
        return found

    monkeypatch.setattr(DeadLetterQueue, "_receive", remembered)
    monkeypatch.setattr(DeadLetterQueue, "hidden", lambda _: len(received))


@pytest.mark.usefixtures("lagging_counts")
@pytest.mark.parametrize("command", [("redrive", "--plan", PLAN), ("dead-letters",)])
def test_what_was_just_released_is_not_said_to_be_held_by_others(
    stack: DeployedStack, command: tuple[str | Path, ...]
) -> None:
    stack.moved_by_sqs(message_body(message_id="k"))
    assert "hidden" not in optus_sms(*command, *TARGET).stderr


@pytest.mark.usefixtures("lagging_counts")
@pytest.mark.parametrize("held", [True, False])
def test_whether_a_letter_that_is_not_seen_is_gone_is_not_guessed(stack: DeployedStack, held: bool) -> None:
    stack.moved_by_sqs(message_body(message_id="k"))
    make_plan()
    url = stack.outputs["DeadLetterQueueUrl"]
    (message,) = stack.sqs.receive_message(QueueUrl=url, VisibilityTimeout=60)["Messages"]
    if not held:
        stack.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    ran = apply()
    assert (ran.exit_code, results(ran)) == (9, ["not seen"])


def test_a_rejected_message_that_somebody_else_let_go_meanwhile_is_left_to_them(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.letter(stack.bring(State.REJECTED, "k"), DeadLetterReason.REJECTED, "k")
    plan = everything_to("send")

    def judged_too_early(
        letter: ReceivedDeadLetter, record: LedgerRecord | None, *, now: float
    ) -> tuple[DeadLetterKind, str]:
        assert record is not None
        stack.ledger.reopen(record, by="somebody else", now=now)
        stack.bring(State.SENDING, "k")
        return judge(letter, record, now=now)

    monkeypatch.setattr(redrive_plan, "judge", judged_too_early)
    ran = apply(plan)
    assert (ran.exit_code, results(ran)) == (9, ["refused"])
    assert ran.document["steps"][0]["why"] == "the ledger has SENDING now"
    assert (stack.queued(), stack.dead()) == ([], 1)


def test_a_rejected_message_that_its_sender_mended_meanwhile_is_not_queued_as_a_conflict(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.letter(stack.bring(State.REJECTED, "k"), DeadLetterReason.REJECTED, "k")
    plan = everything_to("send")

    def judged_too_early(
        letter: ReceivedDeadLetter, record: LedgerRecord | None, *, now: float
    ) -> tuple[DeadLetterKind, str]:
        assert record is not None
        assert stack.ledger.replace_refused(record, wanted("k", payload_sha256="b" * 64), now=now) is None
        return judge(letter, record, now=now)

    monkeypatch.setattr(redrive_plan, "judge", judged_too_early)
    ran = apply(plan)
    assert (ran.exit_code, results(ran)) == (9, ["refused"])
    assert "other fields" in ran.document["steps"][0]["why"]
    assert (stack.queued(), stack.dead()) == ([], 1)


def with_attributes(stack: DeployedStack, **attributes: str) -> None:
    """Put a dead letter with attributes that no function writes."""
    attributes = {"reason": "rejected", "detail": "why", "time": "then", "message_id": "k"} | attributes
    stack.sqs.send_message(
        QueueUrl=stack.outputs["DeadLetterQueueUrl"],
        MessageBody=message_body(message_id=None),
        MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()},
    )


def test_a_file_far_too_large_to_be_a_plan_is_not_read(stack: DeployedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.moved_by_sqs(message_body(message_id="k"))
    make_plan()
    monkeypatch.setattr(redrive_plan, "_MAX_BYTES", 10)
    assert apply().exit_code == 5
    assert (stack.queued(), stack.dead()) == ([], 1)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_plan_and_is_not_read_to_an_end_that_it_has_not(stack: DeployedStack, path: str) -> None:
    assert optus_sms("redrive", "--apply", path, "--yes", *TARGET).exit_code == 5


def test_only_its_user_can_read_a_plan(stack: DeployedStack) -> None:
    with umask_of_anybody():
        make_plan()
    assert PLAN.stat().st_mode & 0o777 == 0o600


def test_what_drives_a_terminal_is_escaped_in_json_and_in_a_plan_and_is_still_true(stack: DeployedStack) -> None:
    hostile = "\x9b2J \x7f \u202e \u2066 \u061c \u2028 👍🏽 é"
    with_attributes(stack, detail=hostile, time=hostile)
    plan = make_plan()
    ran = optus_sms("dead-letters", "--json", *TARGET)
    for shown in (PLAN.read_text(), ran.stdout):
        assert "👍🏽 é" in shown
        assert not set(shown) & set("\x9b\x7f\u202e\u2066\u061c\u2028")
    assert (ran.document[0]["detail"], plan["items"][0]["since"]) == (hostile, hostile)


@pytest.mark.parametrize("name", ["detail", "time", "message_id"])
def test_a_long_attribute_does_not_make_long_lines(stack: DeployedStack, name: str) -> None:
    with_attributes(stack, **{name: "x" * 1000})
    listed = optus_sms("dead-letters", *TARGET).stdout
    assert max(map(len, listed.splitlines())) < 200


def test_a_rejected_message_is_let_go_again_when_a_person_changes_the_plan(stack: DeployedStack) -> None:
    body = stack.bring(State.REJECTED, "refused")
    stack.letter(body, DeadLetterReason.REJECTED, "refused")
    assert results(apply(everything_to("send"))) == ["queued"]
    assert stack.queued() == [(body, "refused")]


def test_delete_takes_a_letter_out_and_sends_nothing(stack: DeployedStack) -> None:
    stack.letter("not JSON", DeadLetterReason.INVALID, "broken")
    assert results(apply(everything_to("delete"))) == ["deleted"]
    assert (stack.dead(), stack.queued()) == (0, [])


@pytest.mark.parametrize(
    ("put", "why"),
    [
        (lambda s: s.letter(s.bring(State.UNKNOWN, "k"), DeadLetterReason.UNKNOWN_OUTCOME, "k"), "sent"),
        (lambda s: s.letter(s.bring(State.ACCEPTED, "k"), DeadLetterReason.UNKNOWN_OUTCOME, "k"), "accepted"),
        (lambda s: s.letter(s.bring(State.EXPIRED, "k"), DeadLetterReason.REJECTED, "k"), "in time"),
        (lambda s: s.letter("not JSON", DeadLetterReason.INVALID, "k"), "JSON"),
        (
            lambda s: s.letter(message_body(message_id="k"), DeadLetterReason.UNREADABLE_CALLBACK, "-"),
            "not a message",
        ),
        (lambda s: s.moved_by_sqs(s.bring(State.SENDING, "k")), "it is being sent"),
        (
            lambda s: s.letter(
                message_body(message_id="k", content="x"), DeadLetterReason.CONFLICT, s.bring(State.RETRY, "k") and "k"
            ),
            "other fields",
        ),
    ],
    ids=["unknown", "sent", "expired", "malformed", "callback", "busy", "conflict"],
)
def test_what_is_not_certainly_unsent_is_refused_whatever_the_plan_says(
    stack: DeployedStack, put: Callable[[DeployedStack], object], why: str
) -> None:
    put(stack)
    ran = apply(everything_to("send"))
    assert ran.exit_code == 9
    assert results(ran) == ["refused"]
    assert why in ran.document["steps"][0]["why"]
    assert (stack.queued(), stack.dead()) == ([], 1)


def test_a_retry_after_an_unknown_outcome_is_sent_only_after_an_operator_resolved_it(stack: DeployedStack) -> None:
    """With `resend` an attempt that was not sent can follow one with an unknown outcome."""
    body = message_body(message_id="k", on_unknown="resend")
    stack.letter(stack.bring(State.UNKNOWN, "k", body=body), DeadLetterReason.UNKNOWN_OUTCOME, "k")
    unknown = stack.record("k")
    assert unknown is not None
    again = stack.ledger.claim(unknown._replace(owner="next"), now=time.time(), after=unknown)
    assert stack.ledger.not_sent(again, "connection_refused", now=time.time()) is None

    assert kinds() == {"k": ("unknown", "keep")}
    ran = apply(everything_to("send"))
    assert (results(ran), stack.queued()) == (["refused"], [])
    assert optus_sms("resolve", "k", "--not-sent", *TARGET).exit_code == 0
    assert stack.queued() == [(body, "k")]
    stack.letter(body, DeadLetterReason.ATTEMPTS_EXHAUSTED, "k")
    assert kinds() == {"k": ("safe", "send")}


def test_a_plan_that_calls_an_unknown_outcome_safe_does_not_send_it(stack: DeployedStack) -> None:
    stack.letter(stack.bring(State.UNKNOWN, "k"), DeadLetterReason.UNKNOWN_OUTCOME, "k")
    plan = everything_to("send")
    plan["items"][0] |= {"kind": "safe", "why": "trust me", "reason": "attempts_exhausted"}
    assert results(apply(plan)) == ["refused"]
    assert (stack.queued(), stack.dead()) == ([], 1)


@pytest.mark.parametrize("change", [{"message_id": "other"}, {"body_sha256": "0" * 64}], ids=["key", "body"])
def test_a_plan_for_another_letter_is_refused(stack: DeployedStack, change: dict[str, str]) -> None:
    stack.moved_by_sqs(message_body(message_id="k"))
    plan = everything_to("delete")
    plan["items"][0] |= change
    assert results(apply(plan)) == ["refused"]
    assert (stack.queued(), stack.dead()) == ([], 1)


def _changed(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda plan: plan | changes


def _item(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda plan: plan | {"items": [plan["items"][0] | changes]}


@pytest.mark.parametrize(
    "mangle",
    [
        lambda plan: "not JSON",
        lambda plan: json.dumps(plan)[:-20],
        lambda plan: [plan],
        lambda plan: None,
        lambda plan: "[" * 100_000,
        _changed(plan=2),
        _changed(plan="1"),
        _changed(stack="arn:aws:cloudformation:ap-southeast-2:1:stack/other/1"),
        _changed(run="rm -rf /"),
        _changed(items="all"),
        _item(action="SEND"),
        _item(action=None),
        _item(kind="certain"),
        _item(copies=[]),
        _item(copies="all"),
        _item(body="{}"),
        _item(body_sha256="x"),
        lambda plan: plan | {"items": plan["items"] * 2},
        lambda plan: {"items": plan["items"]},
    ],
)
def test_a_hostile_plan_is_an_error_before_anything_is_done(
    stack: DeployedStack, mangle: Callable[[dict[str, Any]], object]
) -> None:
    stack.moved_by_sqs(message_body(message_id="k"))
    mangled = mangle(make_plan())
    PLAN.write_text(mangled if isinstance(mangled, str) else json.dumps(mangled))

    ran = apply()

    assert ran.exit_code == 5
    assert "--plan" in json.loads(ran.stderr)["next"]
    assert (stack.queued(), stack.dead()) == ([], 1)


@pytest.mark.parametrize(
    "mangle", [_changed(**{"\x1b]0;title\x07": 1}), _item(**{"\x9b31m": 1}), _changed(stack="\x1b[2J\u202e")]
)
def test_a_hostile_plan_can_not_drive_the_terminal(
    stack: DeployedStack, mangle: Callable[[dict[str, Any]], object]
) -> None:
    stack.moved_by_sqs(message_body(message_id="k"))
    PLAN.write_text(json.dumps(mangle(make_plan())))
    ran = optus_sms("redrive", "--apply", PLAN, "--yes", *TARGET)
    assert ran.exit_code == 5
    assert not set(ran.stderr) & set("\x1b\x07\x9b\u202e")


def test_without_yes_and_without_a_person_nothing_is_done(stack: DeployedStack) -> None:
    stack.moved_by_sqs(message_body(message_id="k"))
    make_plan()
    ran = optus_sms("redrive", "--apply", PLAN, *TARGET)
    assert ran.exit_code == 2
    assert "--yes" in ran.stderr
    assert (stack.queued(), stack.dead()) == ([], 1)


@pytest.mark.parametrize("path", ["nowhere.json", "."])
def test_a_plan_that_can_not_be_read_is_said_to_be_so(path: str) -> None:
    ran = optus_sms("redrive", "--apply", path, "--yes", *TARGET)
    assert (ran.exit_code, path in ran.stderr) == (2, True)


@pytest.mark.parametrize(("answer", "code"), [(click.Abort(), 130), (False, 2)], ids=["Ctrl-C", "no"])
def test_whoever_does_not_agree_has_nothing_done(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch, answer: object, code: int
) -> None:
    stack.moved_by_sqs(message_body(message_id="k"))
    make_plan()
    monkeypatch.setattr("cli.context.sys", Mock(**{"stdin.isatty.return_value": True}))
    monkeypatch.setattr("cli.context.click.confirm", Mock(side_effect=[answer]))
    ran = optus_sms("redrive", "--apply", PLAN, *TARGET)
    assert ran.exit_code == code
    assert (stack.queued(), stack.dead()) == ([], 1)


class KilledError(BaseException):
    """Stands for the end of the process."""


def killed(*_: object, **__: object) -> None:
    raise KilledError


KILLS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "before the ledger": lambda patch: patch.setattr(redrive_plan, "_open_again", killed),
    "between ledger and queue": lambda patch: patch.setattr(redrive_plan, "put_back", killed),
    "between copy and delete": lambda patch: patch.setattr(DeadLetterQueue, "delete", killed),
}


@pytest.mark.parametrize("kill", KILLS)
def test_killed_anywhere_and_applied_again_nothing_is_lost(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch, kill: str
) -> None:
    keys = {f"k{number}" for number in range(3)}
    for key in keys:
        stack.letter(
            stack.bring(State.REJECTED, key, reason="attempts_exhausted"), DeadLetterReason.ATTEMPTS_EXHAUSTED, key
        )
    make_plan()
    with monkeypatch.context() as patch:
        KILLS[kill](patch)
        with pytest.raises(KilledError):
            apply()

    assert apply().exit_code == 0

    queued = [key for _, key in stack.queued()]
    assert set(queued) == keys
    assert len(queued) == len(keys) + (kill == "between copy and delete")  # the same key, so the ledger allows one
    assert stack.dead() == 0
    for key in keys:
        record = stack.record(key)
        assert record is not None
        assert record.state is State.RETRY


def test_applied_again_after_the_message_was_sent_only_the_letter_goes(stack: DeployedStack) -> None:
    stack.letter(stack.bring(State.RETRY, "k"), DeadLetterReason.ATTEMPTS_EXHAUSTED, "k")
    make_plan()
    record = stack.record("k")
    assert record is not None
    stack.ledger.accepted(record, "gw-1", now=1_800_000_000)

    assert results(apply()) == ["sent meanwhile"]
    assert (stack.queued(), stack.dead()) == ([], 0)


def test_what_the_gateway_quotes_of_a_message_is_not_shown_in_lists(stack: DeployedStack) -> None:
    quoting = f"the gateway refused it with status 400: “{CONTENT}” to {HANDSET} ({HANDSET[1:]}) is bad"
    stack.letter(stack.bring(State.REJECTED, "one"), DeadLetterReason.REJECTED, "one", quoting)
    make_plan()
    for shown in (
        optus_sms("dead-letters", *TARGET).stdout, optus_sms("dead-letters", "--json", *TARGET).stdout,
        PLAN.read_text(),
    ):  # fmt: skip
        assert "the gateway refused it with status 400: “…”" in shown
        assert HANDSET[1:] not in shown
        assert CONTENT[:20] not in shown
    asked = optus_sms("dead-letters", "--json", "--show-numbers", *TARGET).stdout
    assert (f"to {HANDSET} " in asked, CONTENT[:20] in asked) == (True, False)


@pytest.mark.parametrize(
    "number", ["+61 491 570 006", "0491 570 006", "(04) 91-57 00 06", "+61 4\u20099\u200b1 570006"]
)
def test_a_number_with_spaces_in_the_gateways_words_is_not_shown_in_lists(stack: DeployedStack, number: str) -> None:
    detail = f"the gateway refused it with status 400: {number} is bad"
    stack.letter(stack.bring(State.REJECTED, "one"), DeadLetterReason.REJECTED, "one", detail)
    make_plan()
    for command in ("dead-letters",), ("dead-letters", "--json"):
        assert "status 400: … is bad" in optus_sms(*command, *TARGET).stdout.replace("(…", "…")
    assert "status 400: … is bad" in PLAN.read_text().replace("(…", "…")


def test_of_a_message_that_breaks_a_rule_neither_text_nor_number_is_shown_in_lists(stack: DeployedStack) -> None:
    with_attributes(stack, detail=f"refused: {CONTENT}", evidence="server: 0491 570 006", message_id="no key")
    (listed,) = optus_sms("dead-letters", "--json", *TARGET).document
    assert (listed["detail"], listed["evidence"]) == ("refused: …", "server: …")
    assert make_plan()["items"][0]["detail"] == "refused: …"


def test_a_plan_can_be_saved_with_a_byte_order_mark(stack: DeployedStack) -> None:
    stack.moved_by_sqs(message_body(message_id="k"))
    make_plan()
    PLAN.write_text(PLAN.read_text(), encoding="utf-8-sig")
    assert results(apply()) == ["queued"]


def test_what_the_gateway_quotes_only_in_part_is_not_shown_in_lists(stack: DeployedStack) -> None:
    stack.letter(stack.bring(State.REJECTED, "one"), DeadLetterReason.REJECTED, "one", f"refused: {CONTENT[:24]}")
    make_plan()
    for shown in (optus_sms("dead-letters", "--json", *TARGET).stdout, PLAN.read_text()):
        assert "refused: …" in shown
        assert CONTENT[:12] not in shown


def received(*names: str) -> dict[str, Any]:
    """Return the response of ReceiveMessage."""
    return {
        "Messages": [{"MessageId": n, "ReceiptHandle": n, "Body": message_body(message_id=n)} for n in names],
    }


def test_letters_that_come_again_because_they_were_held_too_long_do_not_end_the_reading() -> None:
    sqs = Mock()
    sqs.receive_message.side_effect = [received("a", "b"), received("a", "b"), received("b", "c"), {}]
    assert [letter.sqs_id for letter in DeadLetterQueue(sqs, "q").dead_letters()] == ["a", "b", "c"]


def test_reading_ends_when_all_letters_only_come_again_and_again() -> None:
    sqs = Mock()
    sqs.receive_message.side_effect = itertools.cycle([received("a", "b"), received("c")])
    assert [letter.sqs_id for letter in DeadLetterQueue(sqs, "q").dead_letters()] == ["a", "b", "c"]


def test_dead_letters_are_listed_by_reason_and_numbers_are_redacted(stack: DeployedStack) -> None:
    stack.letter(stack.bring(State.REJECTED, "one"), DeadLetterReason.REJECTED, "one")
    stack.letter(message_body(message_id="two"), DeadLetterReason.INVALID, "two", "content: \x1b[2Jtoo long")
    stack.moved_by_sqs("x")

    listed = optus_sms("dead-letters", *TARGET).stdout
    assert all(f"     1  {reason}" in listed for reason in ("rejected", "invalid", "receives_exhausted"))
    assert HANDSET not in listed
    assert CONTENT not in listed
    assert "\x1b" not in listed
    assert HANDSET in optus_sms("dead-letters", "--show-numbers", *TARGET).stdout
    refused = optus_sms("dead-letters", "--reason", "unpublished_event", *TARGET).stderr
    assert "'attempts_exhausted', 'receives_exhausted', 'unreadable_callback'." in refused
    only = optus_sms("dead-letters", "--reason", "invalid", "--json", *TARGET).document
    assert [letter["message_id"] for letter in only] == ["two"]
    assert stack.dead() == 3
