"""The command line against a deployed stack: finding it, looking, resolving, and the doctor."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import boto3
import pytest
from click.testing import CliRunner

from cli.main import main
from cli.target import Target
from local import private_file
from optus_sms.aws.queues import DeadLetterReason
from optus_sms.model.callbacks import ReplyCallback, StatusCallback
from optus_sms.model.times import format_rfc3339
from optus_sms.records.health import HealthRecords
from optus_sms.records.items import Health, HealthRecord, State
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from tests.support.aws import REGION
from tests.support.builders import HANDSET, message_body, sent_message, wanted
from tests.support.cli import optus_sms
from tests.support.deployed import STACK, DeployedStack

TARGET = ("--stack", STACK, "--region", REGION)


def messages_of(stack: DeployedStack) -> Messages:
    return Messages.connect(stack.session.client("dynamodb"), stack.outputs["MessagesTableName"], retention_days=90)


def record_sent(stack: DeployedStack, key: str) -> None:
    """Write the sender function's part of a message's item."""
    messages_of(stack).record_sent(*sent_message(f"gw-{key}", message_id=key, reference=key), now=time.time())


COMMANDS = [
    ("send", HANDSET, "Hello"), ("status", "k"), ("explain", "k"), ("conversation", HANDSET), ("list", "--unknown"),
    ("dead-letters",), ("redrive", "--plan", "p"), ("redrive", "k"), ("replay-callbacks",),
    ("find", "k"), ("resolve", "k", "--sent"), ("pause",), ("resume",), ("health",),
    ("recall", "k", "--yes"), ("erase", HANDSET, "--yes"),
    ("callback-urls",), ("rotate-callback-password", "--yes"), ("doctor",), ("set-gateway-credentials",),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
@pytest.mark.usefixtures("session")
def test_every_command_says_that_there_is_no_such_stack(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: boto3.Session
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cli.target.boto3.Session", lambda **_: session)
    ran = optus_sms(*command, "--stack", "nowhere", "--json")
    assert ran.exit_code == 3
    error = json.loads(ran.stderr)
    assert all(fact in error["error"] for fact in ("nowhere", "ap-southeast-2"))
    assert "--region" in error["next"]
    assert list(tmp_path.iterdir()) == []


def test_a_stack_that_is_not_ready_or_another_is_said_to_be_so(session: boto3.Session, stack: DeployedStack) -> None:
    cloudformation = session.client("cloudformation")
    other = json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}})
    cloudformation.create_stack(StackName="other", TemplateBody=other)
    cloudformation.create_change_set(StackName="new", ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=other)

    assert "another template" in optus_sms("send", HANDSET, "Hello", "--stack", "other").stderr
    ran = optus_sms("health", "--stack", "new")
    assert (ran.exit_code, "REVIEW_IN_PROGRESS" in ran.stderr) == (3, True)


def test_without_credentials_or_region_it_says_how_to_log_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    ran = optus_sms("health", "--stack", STACK)
    assert (ran.exit_code, "credentials" in ran.stderr, "aws sso login" in ran.stderr) == (3, True, True)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "--region" in optus_sms("health", "--stack", STACK).stderr
    assert "list-profiles" in optus_sms("health", "--stack", STACK, "--profile", "nobody").stderr


ENDPOINTS = Path(".local/endpoints.env")
GONE = "export AWS_ENDPOINT_URL=http://127.0.0.1:9\nexport SEND_LEDGER_TABLE_NAME=l\nexport MESSAGES_TABLE_NAME=m\n"
HOSTILE = "export AWS_ENDPOINT_URL=http://127.0.0.1:9\nexport OUTBOUND_QUEUE_URL=http://127.0.0.1:9/q\n"


def test_a_local_stack_that_does_not_respond_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cli.endpoints_file.CHECKOUT", tmp_path)
    with private_file.present(ENDPOINTS, GONE):
        ran = optus_sms("status", "k")
    assert (ran.exit_code, "local stack does not respond" in ran.stderr) == (3, True)


def of_another_checkout(_patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    with private_file.present(folder / ENDPOINTS, HOSTILE):
        yield


def of_an_earlier_run(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    patch.setattr("cli.endpoints_file.CHECKOUT", folder)
    (folder / ".local").mkdir()
    (folder / ENDPOINTS).write_text(HOSTILE)
    yield


def of_another_user(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    patch.setattr("cli.endpoints_file.CHECKOUT", folder)
    patch.setattr("cli.endpoints_file.os.geteuid", lambda: os.getuid() + 1)
    with private_file.present(folder / ENDPOINTS, HOSTILE):
        yield


def without_locks(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    patch.setattr("cli.endpoints_file.CHECKOUT", folder)
    patch.setattr("fcntl.flock", refuse)
    with private_file.only_run(folder / ".local"), private_file.present(folder / ENDPOINTS, HOSTILE):
        yield


def that_others_can_write_to(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    patch.setattr("cli.endpoints_file.CHECKOUT", folder)
    with private_file.present(folder / ENDPOINTS, HOSTILE):
        (folder / ENDPOINTS).chmod(0o662)
        yield


def that_is_a_link(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    patch.setattr("cli.endpoints_file.CHECKOUT", folder)
    with private_file.present(folder / "elsewhere", HOSTILE):
        (folder / ".local").mkdir()
        (folder / ENDPOINTS).symlink_to(folder / "elsewhere")
        yield


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (of_another_checkout, "this optus-sms is that of"),
        (of_an_earlier_run, "earlier run"),
        (of_another_user, "another user"),
        (that_others_can_write_to, "other users"),
        (that_is_a_link, "symbolic link"),
        (without_locks, "no locks"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--local",)], ids=["no option", "--local"])
def test_nothing_is_sent_by_an_endpoints_file(
    file: Callable[[pytest.MonkeyPatch, Path], Iterator[None]],
    says: str,
    options: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect = Mock(side_effect=AssertionError("it connected"))
    monkeypatch.setattr("cli.target.boto3.Session", connect)
    monkeypatch.chdir(tmp_path)
    with contextmanager(file)(monkeypatch, tmp_path):
        ran = optus_sms("send", HANDSET, "Hello", *options)
    assert (ran.exit_code, says in ran.stderr) == (3, True)


def test_status_and_explain_find_nothing_under_a_name_that_nobody_has(stack: DeployedStack) -> None:
    for command in ("status", "explain"):
        for name, code in (("nobody", 4), ("", 2), ("x" * 300, 2), ("a\x1b[2J", 4), ("\udcff", 2)):
            ran = optus_sms(command, name, *TARGET)
            assert ran.exit_code == code
            assert "\x1b" not in ran.stderr


def test_a_reference_of_two_messages_shows_both_and_resolves_neither(stack: DeployedStack) -> None:
    for key in ("a", "b"):
        stack.bring(State.UNKNOWN, key)
        stack.ledger.register_reference("shared", key, ttl=int(time.time()) + 1000)
    found = optus_sms("status", "shared", "--json", *TARGET).document
    assert [one["message_id"] for one in found] == ["a", "b"]
    ran = optus_sms("resolve", "shared", "--sent", *TARGET)
    assert (ran.exit_code, "Several messages" in ran.stderr) == (2, True)


def test_a_reference_of_which_the_other_message_is_forgotten_resolves_nothing(stack: DeployedStack) -> None:
    stack.bring(State.UNKNOWN, "a")
    for key in ("a", "forgotten"):
        stack.ledger.register_reference("shared", key, ttl=int(time.time()) + 1000)
    before = stack.record("a")
    for way in ("--sent", "--not-sent"):
        ran = optus_sms("resolve", "shared", way, *TARGET)
        assert (ran.exit_code, "Several messages" in ran.stderr) == (2, True)
    assert stack.record("a") == before


def test_a_reference_of_one_message_resolves_it(stack: DeployedStack) -> None:
    now = time.time()
    claim = stack.ledger.claim(wanted("a", reference="its-own", owner="sender", lease_until=int(now)), now=now)
    assert claim.state is State.SENDING
    stack.ledger.unknown(claim, "timed_out", now=now)
    stack.ledger.register_reference("its-own", "a", ttl=int(now) + 1000)
    assert optus_sms("resolve", "its-own", "--sent", *TARGET).exit_code == 0


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ((State.ACCEPTED, State.UNKNOWN), 7),
        ((State.UNKNOWN, State.REJECTED), 7),
        ((State.ACCEPTED, State.REJECTED), 6),
        ((State.ACCEPTED, State.RETRY), 8),
    ],
)
def test_the_exit_code_of_several_messages_is_the_worst(
    stack: DeployedStack, states: tuple[State, State], code: int
) -> None:
    for key, state in zip("ab", states, strict=True):
        stack.bring(state, key)
        stack.ledger.register_reference("shared", key, ttl=int(time.time()) + 1000)
    assert optus_sms("status", "shared", *TARGET).exit_code == code


def test_status_says_why_nothing_came_of_it_only_while_that_is_so(stack: DeployedStack) -> None:
    stack.bring(State.UNKNOWN, "k")
    assert "reason      the gateway did not respond in time" in optus_sms("status", "k", *TARGET).stdout
    stack.ledger.resolve_by_callback("k", "gw-k", now=time.time())
    assert "reason  " not in optus_sms("status", "k", *TARGET).stdout


def test_the_replies_that_status_shows_are_in_its_json_too(stack: DeployedStack) -> None:
    stack.bring(State.ACCEPTED, "k")
    record_sent(stack, "k")
    assert optus_sms("status", "k", "--json", *TARGET).document[0]["replies"] == []
    store = messages_of(stack)
    reply = ReplyCallback("r-1", source=HANDSET, content="Yes please", reply_to="gw-k")
    store.record_reply(reply, in_reply_to="gw-k", exact=True, now=time.time())
    (found,) = optus_sms("status", "k", "--json", *TARGET).document
    assert [reply["content"] for reply in found["replies"]] == ["Yes please"]
    assert "Yes please" in optus_sms("status", "k", *TARGET).stdout


def test_lists_hide_numbers_and_one_message_does_not(stack: DeployedStack) -> None:
    stack.bring(State.UNKNOWN, "k")
    record_sent(stack, "sent")
    for command in (("list", "--unknown"), ("list", "--undelivered"), ("list", "--since", "1h")):
        for options in ((), ("--json",)):
            ran = optus_sms(*command, *options, *TARGET)
            assert HANDSET not in ran.stdout
            assert "…006" in ran.stdout
            assert HANDSET in optus_sms(*command, *options, "--show-numbers", *TARGET).stdout
    assert HANDSET in optus_sms("status", "k", *TARGET).stdout
    assert "whole table" in optus_sms("list", "--undelivered", *TARGET).stderr
    assert "whole table" not in optus_sms("list", "--unknown", *TARGET).stderr


def test_a_number_that_the_gateway_quotes_is_redacted_in_lists(stack: DeployedStack) -> None:
    record_sent(stack, "k")
    store = messages_of(stack)
    store.record_status(StatusCallback("gw-k", "rejected", f"no such number: {HANDSET}"), now=time.time())
    for listing in ("--undelivered", "--since=1h"):
        assert HANDSET[1:] not in optus_sms("list", listing, "--json", *TARGET).stdout
        assert HANDSET[1:] not in optus_sms("list", listing, *TARGET).stdout
    assert f"no such number: {HANDSET}" in optus_sms("list", "--since=1h", "--json", "--show-numbers", *TARGET).stdout
    assert f"no such number: {HANDSET}" in optus_sms("status", "gw-k", *TARGET).stdout


@pytest.mark.parametrize(
    "spelling", ["0491 570 006", "(04) 9157 0006", "０４９１５７０００６", "0491\u200b570\u200b006"]
)
def test_a_number_is_redacted_in_lists_however_it_is_spelled(stack: DeployedStack, spelling: str) -> None:
    store = messages_of(stack)
    store.record_status(StatusCallback("gw-k", "rejected", f"no such number: {spelling}"), now=time.time())
    store.record_status(StatusCallback("gw-k", f"gone {spelling}"), now=time.time())
    stack.letter(message_body(message_id="k"), DeadLetterReason.REJECTED, "k", f"no such number: {spelling}")
    stack.letter(message_body(**{spelling: 1}), DeadLetterReason.INVALID, "k")
    stack.letter("{}", DeadLetterReason.INVALID, f"key {spelling}")
    assert optus_sms("redrive", "--plan", "plan.json", *TARGET).exit_code == 0
    told = Path("plan.json").read_text()
    for command in (("list", "--undelivered"), ("dead-letters",)):
        for options in ((), ("--json",)):
            told += optus_sms(*command, *options, *TARGET).stdout
    assert told.replace("(…", "…").count("no such number: …") == 4
    assert spelling not in told
    assert ascii(spelling)[1:-1] not in told


def test_lists_are_in_time_order_and_cut_to_the_latest(stack: DeployedStack) -> None:
    store, now = messages_of(stack), time.time()
    for age in (3, 1, 5, 2, 4):
        store.record_sent(*sent_message(f"gw-{age}", message_id=f"k{age}"), now=now - 60 * age)
        claim = stack.ledger.claim(wanted(f"u{age}", owner=f"of {age}"), now=now - 60 * age)
        stack.ledger.unknown(claim, "timed_out", now=now - 60 * age)
    for command, letter in ((("--since", "1h"), "k"), (("--undelivered",), "k"), (("--unknown",), "u")):
        ran = optus_sms("list", *command, "--limit", "3", "--json", *TARGET)
        assert [one["message_id"] for one in ran.document] == [f"{letter}3", f"{letter}2", f"{letter}1"]
        assert "latest 3 of 5" in ran.stderr
        whole = optus_sms("list", *command, "--limit", "5", "--json", *TARGET)
        assert (len(whole.document), "latest" in whole.stderr) == (5, False)


def test_list_alone_says_what_can_be_listed(stack: DeployedStack) -> None:
    ran = optus_sms("list", *TARGET)
    assert ran.exit_code == 2
    assert all(name in ran.stderr for name in ("--unknown", "--undelivered", "--since", "dead-letters", "find"))


@pytest.mark.parametrize("options", [(), ("--unknown", "--undelivered"), ("--undelivered", "--scan")])
def test_options_of_list_that_make_no_sense_are_refused(options: tuple[str, ...]) -> None:
    assert optus_sms("list", *options, *TARGET).exit_code == 2


def test_what_only_callbacks_tell_of_is_listed_by_when_they_came(stack: DeployedStack) -> None:
    store = messages_of(stack)
    store.record_status(StatusCallback("stray", "rejected"), now=time.time() - 3600)
    listed = optus_sms("list", "--undelivered", "--since", "2h", "--json", *TARGET).document
    assert [one["message_id"] for one in listed] == ["stray"]
    assert optus_sms("list", "--undelivered", "--since", "30m", "--json", *TARGET).document == []


def test_what_nobody_looks_for_any_more_is_listed_by_a_scan(stack: DeployedStack) -> None:
    stack.bring(State.UNKNOWN, "old")
    record = stack.record("old")
    assert record is not None
    assert stack.ledger.give_up(record, now=time.time())
    assert optus_sms("list", "--unknown", "--json", *TARGET).document == []
    assert [one["message_id"] for one in optus_sms("list", "--unknown", "--scan", "--json", *TARGET).document] == [
        "old"
    ]


def test_resolve_as_not_sent_queues_the_dead_letter_under_its_key(stack: DeployedStack) -> None:
    body = stack.bring(State.UNKNOWN, "k")
    for _ in range(2):
        stack.letter(body, DeadLetterReason.UNKNOWN_OUTCOME, "k")
    stack.letter(stack.bring(State.UNKNOWN, "other"), DeadLetterReason.UNKNOWN_OUTCOME, "other")

    ran = optus_sms("resolve", "k", "--not-sent", "--json", *TARGET)

    assert ran.exit_code == 0
    assert re.search(r"arn:aws:\S+", ran.document[0]["result"])
    assert stack.queued() == [(body, "k")]
    assert stack.dead() == 1
    record = stack.record("k")
    assert record is not None
    assert record.state is State.RETRY


def test_resolve_as_not_sent_that_was_ended_before_it_queued_is_finished_by_the_same_command(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = stack.bring(State.UNKNOWN, "k")
    stack.letter(body, DeadLetterReason.UNKNOWN_OUTCOME, "k")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cli.unknown_outcomes.put_back", interrupted)
        ran = optus_sms("resolve", "k", "--not-sent", *TARGET)
    assert (ran.exit_code, "redrive --plan" in ran.stderr) == (130, True)

    assert optus_sms("resolve", "k", "--not-sent", *TARGET).exit_code == 0
    assert (stack.queued(), stack.dead()) == ([(body, "k")], 0)
    assert optus_sms("resolve", "k", "--not-sent", *TARGET).exit_code == 9


@pytest.mark.parametrize("way", ["--sent", "--not-sent"])
@pytest.mark.parametrize("which", [("k",), ("--since", "1h")])
def test_resolve_decides_only_about_the_outcome_that_the_operator_saw(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch, which: tuple[str, ...], way: str
) -> None:
    """In between it was sent once more (`resend`), again with an unknown outcome."""
    stack.letter(stack.bring(State.UNKNOWN, "k"), DeadLetterReason.UNKNOWN_OUTCOME, "k")
    seen = stack.record("k")
    assert seen is not None

    def meanwhile(*_: object, **__: object) -> str:
        again = stack.ledger.claim(seen._replace(owner="next"), now=time.time(), after=seen)
        stack.ledger.unknown(again, "timed_out", now=time.time())
        return "alex"

    monkeypatch.setattr(Target, "operator", property(meanwhile))
    ran = optus_sms("resolve", *which, way, "--yes", *TARGET)
    assert (ran.exit_code, "look it up again" in ran.stdout) == (9, True)
    record = stack.record("k")
    assert record is not None
    assert (record.state, record.unknown_outcomes, stack.queued()) == (State.UNKNOWN, 2, [])


def test_resolve_as_not_sent_without_a_letter_says_who_has_the_text(stack: DeployedStack) -> None:
    stack.bring(State.UNKNOWN, "k")
    ran = optus_sms("resolve", "k", "--not-sent", "--by", "alex\x07", *TARGET)
    assert "queue it again under the same message_id" in ran.stdout
    assert "\x07" not in ran.stdout
    assert stack.queued() == []


def test_resolve_as_not_sent_queues_no_letter_with_other_fields(stack: DeployedStack) -> None:
    stack.bring(State.UNKNOWN, "k")
    stack.letter(message_body(message_id="k", content="Something else"), DeadLetterReason.CONFLICT, "k")
    ran = optus_sms("resolve", "k", "--not-sent", *TARGET)
    assert (ran.exit_code, "no dead letter has its text" in ran.stdout) == (0, True)
    assert (stack.queued(), stack.dead()) == ([], 1)


def test_resolve_as_sent_with_the_id_of_a_reply_changes_nothing(stack: DeployedStack) -> None:
    stack.bring(State.UNKNOWN, "k")
    before = stack.record("k")
    store = messages_of(stack)
    store.record_reply(ReplyCallback("r-1", source=HANDSET), in_reply_to=None, exact=False, now=time.time())
    ran = optus_sms("resolve", "k", "--sent", "--gateway-id", "r-1", *TARGET)
    assert (ran.exit_code, "r-1" in ran.stdout) == (9, True)
    assert stack.record("k") == before


def test_resolve_as_sent_with_an_id_that_belongs_to_another_changes_nothing(stack: DeployedStack) -> None:
    stack.bring(State.UNKNOWN, "k")
    record_sent(stack, "other")
    ran = optus_sms("resolve", "k", "--sent", "--gateway-id", "gw-other", *TARGET)
    assert (ran.exit_code, "other" in ran.stdout) == (9, True)
    record = stack.record("k")
    assert record is not None
    assert record.state is State.UNKNOWN


@pytest.mark.parametrize("gateway_id", ["", "x" * 3000], ids=["empty", "too long"])
def test_resolve_as_sent_with_an_id_that_no_row_can_have_changes_nothing(stack: DeployedStack, gateway_id: str) -> None:
    stack.bring(State.UNKNOWN, "k")
    before = stack.record("k")
    ran = optus_sms("resolve", "k", "--sent", "--gateway-id", gateway_id, *TARGET)
    assert (ran.exit_code, "255" in ran.stderr) == (2, True)
    assert stack.record("k") == before


def test_resolve_as_sent_twice_is_the_same_and_keeps_the_conversation(stack: DeployedStack) -> None:
    stack.bring(State.UNKNOWN, "k")
    for _ in range(2):
        assert optus_sms("resolve", "k", "--sent", "--gateway-id", "gw-9", "--by", "alex", *TARGET).exit_code == 0
    rows = optus_sms("conversation", HANDSET, "--json", *TARGET).document
    assert [row["id"] for row in rows] == ["gw-9"]
    assert "alex" in optus_sms("explain", "k", *TARGET).stdout


@pytest.mark.parametrize("step", ["record_sent", "completed"])
def test_resolve_as_sent_that_was_ended_half_way_is_finished_by_the_same_command(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stack.bring(State.UNKNOWN, "k")
    command = ("resolve", "k", "--sent", "--gateway-id", "gw-9", *TARGET)
    with monkeypatch.context() as patch:
        patch.setattr(Messages if step == "record_sent" else Ledger, step, Mock(side_effect=KeyboardInterrupt))
        assert optus_sms(*command).exit_code == 130
    record = stack.record("k")
    assert record is not None
    assert record.destination == HANDSET
    assert optus_sms(*command).exit_code == 0
    record = stack.record("k")
    assert record is not None
    assert (record.destination, record.undecided) == (None, None)
    assert [row["id"] for row in optus_sms("conversation", HANDSET, "--json", *TARGET).document] == ["gw-9"]


def test_a_uuid_in_upper_case_is_the_same_id(stack: DeployedStack) -> None:
    stack.bring(State.UNKNOWN, "k")
    gateway_id = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
    assert optus_sms("resolve", "k", "--sent", "--gateway-id", gateway_id.upper(), *TARGET).exit_code == 0
    rows = optus_sms("conversation", HANDSET, "--json", *TARGET).document
    assert [row["id"] for row in rows] == [gateway_id]
    assert "k" in optus_sms("status", gateway_id.upper(), *TARGET).stdout


@pytest.mark.parametrize(
    "state", [State.ACCEPTED, State.RETRY, State.REJECTED, State.SENDING, State.EXPIRED, State.RECALLED]
)
def test_what_is_certain_is_not_resolved(stack: DeployedStack, state: State) -> None:
    stack.bring(state, "k")
    before = stack.record("k")
    for way in ("--sent", "--not-sent"):
        assert optus_sms("resolve", "k", way, *TARGET).exit_code == 9
    assert stack.record("k") == before


def test_many_are_resolved_by_when_they_became_unknown(stack: DeployedStack) -> None:
    for key in ("a", "b"):
        stack.bring(State.UNKNOWN, key)
    later = format_rfc3339(time.time() + 60)
    assert optus_sms("resolve", "--since", later, "--sent", "--yes", "--json", *TARGET).document == []
    earlier = ("--since", "1h", "--until", "30m")
    assert optus_sms("resolve", *earlier, "--sent", "--yes", "--json", *TARGET).document == []
    ran = optus_sms("resolve", "--since", "1h", "--sent", *TARGET)
    assert (ran.exit_code, "--yes" in ran.stderr) == (2, True)

    done = optus_sms("resolve", "--since", "1h", "--sent", "--yes", "--json", *TARGET).document

    assert sorted(one["message_id"] for one in done) == ["a", "b"]
    assert all(one["resolved"] for one in done)
    assert optus_sms("list", "--unknown", "--json", *TARGET).document == []


@pytest.mark.parametrize(
    "options",
    [("k",), ("k", "--sent", "--not-sent"), ("--sent",), ("k", "--since", "1h", "--sent"),
     ("k", "--not-sent", "--gateway-id", "g"), ("--since", "1h", "--sent", "--gateway-id", "g")],
)  # fmt: skip
def test_options_of_resolve_that_make_no_sense_do_nothing(stack: DeployedStack, options: tuple[str, ...]) -> None:
    stack.bring(State.UNKNOWN, "k")
    before = stack.record("k")
    assert optus_sms("resolve", *options, *TARGET).exit_code == 2
    assert stack.record("k") == before


def test_the_doctor_names_every_failure_with_its_remedy_and_goes_on(stack: DeployedStack) -> None:
    ran = optus_sms("doctor", "--json", *TARGET)
    assert ran.exit_code == 9
    checks = {check["name"]: check for check in ran.document}
    assert len(checks) == 13, "one that fails stops none of the others"
    failed = [check for check in checks.values() if check["result"] == "failed"]
    assert all(check["remedy"] for check in failed)
    assert "REPLACE_ME" not in ran.stdout
    assert checks["gateway secret"]["result"] == "failed"
    assert checks["gateway"]["finding"].startswith("can't be reached from here")
    assert checks["status callbacks"]["result"] == "failed"
    assert checks["alarms"]["finding"] == "there are none"
    assert "no event source mapping" in checks["sending"]["finding"]
    assert checks["health check"]["finding"] == "the stack has never checked the gateway"
    assert (checks["dead letters"]["result"], checks["unknown outcomes"]["result"]) == ("ok", "ok")
    assert stack.queued() == []


@pytest.mark.parametrize(
    ("enabled", "in_alarm", "topic", "result", "says"),
    [
        (True, False, None, "warning", "AlarmEmail and AlarmTopicArn are empty"),
        (False, False, "confirmed", "failed", "actions disabled: A"),
        (True, True, "confirmed", "warning", "in ALARM: A"),
        (True, False, "unconfirmed", "failed", "the address is not confirmed"),
        (True, False, "confirmed", "ok", "1 alarm enabled, and an address receives them"),
    ],
)
def test_the_doctor_reports_whether_alarms_are_enabled_and_received(
    session: boto3.Session,
    stack: DeployedStack,
    monkeypatch: pytest.MonkeyPatch,
    enabled: bool,
    in_alarm: bool,
    topic: str | None,
    result: str,
    says: str,
) -> None:
    cloudwatch, sns = session.client("cloudwatch"), session.client("sns")
    cloudwatch.put_metric_alarm(
        AlarmName="A", ActionsEnabled=enabled, ComparisonOperator="GreaterThanThreshold", EvaluationPeriods=1,
        Threshold=0, MetricName="M", Namespace="N", Period=60, Statistic="Sum",
    )  # fmt: skip
    if in_alarm:
        cloudwatch.set_alarm_state(AlarmName="A", StateValue="ALARM", StateReason="test")
    arn = None
    if topic is not None:
        arn = sns.create_topic(Name=topic)["TopicArn"]
        if topic == "confirmed":
            sns.subscribe(TopicArn=arn, Protocol="email", Endpoint="ops@example.com")
    # moto's CloudFormation has no alarms.
    monkeypatch.setattr("cli.doctor._alarm_names", lambda _target: ["A"])
    monkeypatch.setattr(Target, "physical_id", lambda _target, _logical_id: arn)

    checks = {check["name"]: check for check in optus_sms("doctor", "--json", *TARGET).document}

    assert checks["alarms"]["result"] == result
    assert says in checks["alarms"]["finding"]


@pytest.mark.parametrize(
    ("minutes_ago", "credentials", "state", "result", "says"),
    [
        (1, "accepted", "healthy", "ok", "healthy"),
        (1, "accepted", "unhealthy", "warning", "unhealthy"),
        (1, "refused", "healthy", "failed", "refuses the stack's credentials"),
        (20, "accepted", "healthy", "failed", "the last check was at"),
    ],
)
def test_the_doctor_says_what_the_stacks_own_health_check_finds(
    stack: DeployedStack, minutes_ago: int, credentials: str, state: str, result: str, says: str
) -> None:
    checked_at = format_rfc3339(time.time() - 60 * minutes_ago)
    record = HealthRecord(Health(state), reason="ok", checked_at=checked_at, credentials=credentials, checks=1)
    store = HealthRecords.connect(stack.session.client("dynamodb"), stack.outputs["SendLedgerTableName"])
    assert store.write(record, seen=HealthRecord())
    checks = {check["name"]: check for check in optus_sms("doctor", "--json", *TARGET).document}
    assert checks["health check"]["result"] == result
    assert says in checks["health check"]["finding"]


def test_a_terminal_that_is_not_utf8_gets_question_marks_and_whole_json(stack: DeployedStack) -> None:
    record_sent(stack, "k")
    store = messages_of(stack)
    reply = ReplyCallback("r-1", source=HANDSET, content="Да", reply_to="gw-k")
    store.record_reply(reply, in_reply_to="gw-k", exact=True, now=time.time())
    terminal = CliRunner(mix_stderr=False, charset="latin-1")
    assert terminal.invoke(main, ["--help"]).exit_code == 0
    listed = terminal.invoke(main, ["list", "--undelivered", *TARGET])
    assert (listed.exit_code, "?006" in listed.stdout) == (0, True)
    shown = terminal.invoke(main, ["conversation", HANDSET, "--json", *TARGET])
    assert json.loads(shown.stdout)[-1]["content"] == "Да"


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_no_color_goes_before_a_terminal(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch, no_color: str, colored: bool
) -> None:
    stack.bring(State.UNKNOWN, "k")
    monkeypatch.setenv("NO_COLOR", no_color)
    as_on_a_terminal = CliRunner(mix_stderr=False).invoke(main, ["status", "k", *TARGET], color=True)
    assert ("\x1b[33m" in as_on_a_terminal.stdout) == colored
    assert "\x1b[33m" not in optus_sms("status", "k", *TARGET).stdout


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("CREATE_IN_PROGRESS", f"aws cloudformation wait stack-create-complete --stack-name {STACK}"),
        ("REVIEW_IN_PROGRESS", "sam deploy"),
        ("CREATE_FAILED", "Delete it, then deploy it again"),
        ("ROLLBACK_IN_PROGRESS", "Delete it, then deploy it again"),
        ("ROLLBACK_FAILED", "Delete it, then deploy it again"),
        ("ROLLBACK_COMPLETE", "Delete it, then deploy it again"),
        ("DELETE_IN_PROGRESS", "--stack"),
        ("DELETE_FAILED", f"aws cloudformation describe-stack-events --stack-name {STACK}"),
    ],
)
def test_a_stack_that_is_not_there_yet_or_going_is_not_worked_on(
    monkeypatch: pytest.MonkeyPatch, status: str, advice: str
) -> None:
    session = Mock(region_name=REGION)
    session.client.return_value.describe_stacks.return_value = {"Stacks": [{"StackStatus": status}]}
    monkeypatch.setattr("cli.target.boto3.Session", lambda **_: session)
    ran = optus_sms("pause", *TARGET)
    assert (ran.exit_code, status in ran.stderr, advice in ran.stderr) == (3, True, True)


def test_the_doctor_misses_an_alarm_that_somebody_deleted(
    session: boto3.Session, stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.client("cloudwatch").put_metric_alarm(
        AlarmName="A", ComparisonOperator="GreaterThanThreshold", EvaluationPeriods=1, Threshold=0, MetricName="M",
        Namespace="N", Period=60, Statistic="Sum",
    )  # fmt: skip
    monkeypatch.setattr("cli.doctor._alarm_names", lambda _target: ["A", "B"])
    checks = {check["name"]: check for check in optus_sms("doctor", "--json", *TARGET).document}
    assert (checks["alarms"]["result"], checks["alarms"]["finding"]) == ("failed", "gone: B")


def test_pause_and_resume_turn_the_queues_mapping(
    session: boto3.Session, stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = session.client("iam").create_role(RoleName="any", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    lambda_ = session.client("lambda")
    lambda_.create_function(
        FunctionName="sender", Role=role, Runtime="python3.13", Handler="app.handler", Code={"ZipFile": b"x"}
    )
    queue = stack.sqs.get_queue_attributes(QueueUrl=stack.outputs["OutboundQueueUrl"], AttributeNames=["QueueArn"])
    mapping = lambda_.create_event_source_mapping(
        FunctionName="sender", EventSourceArn=queue["Attributes"]["QueueArn"], Enabled=False
    )["UUID"]
    asked: list[str] = []

    def physical_id(_target: Target, logical_id: str) -> str:
        asked.append(logical_id)
        return mapping

    monkeypatch.setattr(Target, "physical_id", physical_id)
    dynamodb, table = session.client("dynamodb"), stack.outputs["SendLedgerTableName"]
    key = {"pk": {"S": "health#gateway"}}
    dynamodb.put_item(TableName=table, Item={**key, "paused_by": {"S": "health"}, "paused_at": {"S": "2026"}})

    assert optus_sms("resume", *TARGET).exit_code == 0
    assert lambda_.get_event_source_mapping(UUID=mapping)["State"] == "Enabled"
    resumed = dynamodb.get_item(TableName=table, Key=key)["Item"]
    assert ("paused_by" in resumed, resumed["resuming"]) == (False, {"BOOL": True})
    assert optus_sms("pause", *TARGET).exit_code == 0
    assert lambda_.get_event_source_mapping(UUID=mapping)["State"] == "Disabled"
    assert dynamodb.get_item(TableName=table, Key=key)["Item"]["paused_by"] == {"S": "operator"}
    assert set(asked) == {"SendMessageFunctionOutboundMessages", "SendMessageFunctionUrgentMessages"}


def test_a_stack_without_the_mapping_says_so(stack: DeployedStack) -> None:
    ran = optus_sms("pause", *TARGET)
    assert (ran.exit_code, "no event source mapping" in ran.stderr) == (3, True)


def test_an_output_is_printed_and_of_a_wrong_name_the_right_ones(stack: DeployedStack) -> None:
    assert optus_sms("output", "StatusCallbackUrl", *TARGET).stdout == stack.outputs["StatusCallbackUrl"] + "\n"
    ran = optus_sms("output", "QueueUrl", *TARGET)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert all(name in ran.stderr for name in ("QueueUrl", *stack.outputs))


def test_local_goes_before_a_stack_of_the_environment(stack: DeployedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUS_SMS_STACK", STACK)
    assert optus_sms("list", "--unknown").exit_code == 0
    assert "make run" in optus_sms("list", "--unknown", "--local").stderr


@pytest.mark.parametrize("option", ["--stack", "--region", "--profile"])
def test_an_option_that_a_shell_left_empty_is_not_taken_for_one_that_is_not_there(
    stack: DeployedStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr("cli.endpoints_file.CHECKOUT", tmp_path)
    with private_file.present(ENDPOINTS, "export OUTBOUND_QUEUE_URL=q\n"):
        ran = optus_sms("send", HANDSET, "Hello", option, "")
    assert (ran.exit_code, "255" in ran.stderr) == (2, True)


def test_the_callback_urls_are_printed_ready_to_paste(stack: DeployedStack) -> None:
    assert optus_sms("callback-urls", "--json", *TARGET).document == {
        "status": "https://gateway:first-password@callbacks.invalid/v1/callbacks/status",
        "reply": "https://gateway:first-password@callbacks.invalid/v1/callbacks/reply",
    }


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"username": "gateway", "password": ""}', '{"username": 1}'])
def test_a_callback_secret_that_somebody_broke_is_said_in_words(stack: DeployedStack, text: str) -> None:
    arn = stack.outputs["CallbackSecretArn"]
    stack.session.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=text)
    for command in (("callback-urls",), ("rotate-callback-password", "--yes")):
        ran = optus_sms(*command, *TARGET)
        assert (ran.exit_code, "CallbackSecret" in ran.stderr) == (1, True)
    checks = {check["name"]: check for check in optus_sms("doctor", "--json", *TARGET).document}
    assert checks["callback secret"]["result"] == "failed"
    assert "put-secret-value" in checks["callback secret"]["remedy"]


def test_interrupted_while_it_rotates_nobody_is_told_to_rotate_once_more(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_target: Target) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.commands.rotate_callback_password.rotate", interrupted)
    ran = optus_sms("rotate-callback-password", "--yes", *TARGET)
    assert (ran.exit_code, "`callback-urls` prints the current URLs" in ran.stderr) == (130, True)
    assert "the same command" not in ran.stderr


def test_the_password_before_the_last_two_ends_and_that_is_said(stack: DeployedStack) -> None:
    assert optus_sms("rotate-callback-password", "--yes", *TARGET).stderr == ""
    ran = optus_sms("rotate-callback-password", "--yes", "--json", *TARGET)
    assert ran.stderr
    assert re.fullmatch(r"https://gateway:[A-Za-z0-9]{40}@callbacks\.invalid/v1/callbacks/reply", ran.document["reply"])


def test_items_that_a_person_has_edited_stop_no_command(stack: DeployedStack) -> None:
    stack.letter(stack.bring(State.UNKNOWN, "k"), DeadLetterReason.UNKNOWN_OUTCOME, "k")
    stack.bring(State.ACCEPTED, "m")
    record_sent(stack, "m")
    stack.bring(State.UNKNOWN, "good")
    client = stack.session.client("dynamodb")
    ledger, messages = stack.outputs["SendLedgerTableName"], stack.outputs["MessagesTableName"]
    edits: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        (ledger, {"pk": {"S": "msg#k"}}, {"history": {"SS": ["edited"]}, "attempts": {"N": "1.5"}}),
        (ledger, {"pk": {"S": "msg#m"}}, {"state": {"S": "FOO"}, "ttl": {"S": "tomorrow"}}),
        (messages, {"id": {"S": "gw-m"}}, {"ttl": {"N": "1798284587.89"}, "repeats": {"SS": ["edited"]}}),
        (messages, {"id": {"S": "gw-m"}}, {"accepted_at": {"S": "26.11.2026 09:00"}, "status": {"N": "7"}}),
        (ledger, {"pk": {"S": "health#gateway"}}, {"state": {"S": "FOO"}, "checked_at": {"S": "26.11.2026"}}),
        (ledger, {"pk": {"S": "health#gateway"}}, {"paused_by": {"S": "health"}, "pause_reason": {"S": "x"}}),
    ]
    for table, key, attributes in edits:
        for name, value in attributes.items():
            client.update_item(
                TableName=table,
                Key=key,
                UpdateExpression="SET #n = :v",
                ExpressionAttributeNames={"#n": name},
                ExpressionAttributeValues={":v": value},
            )
    for command in (
        ("status", "k"), ("status", "m"), ("explain", "k"), ("explain", "m"), ("conversation", HANDSET),
        ("list", "--unknown"), ("list", "--unknown", "--scan"), ("list", "--undelivered"), ("list", "--since", "1h"),
        ("dead-letters",), ("redrive", "--plan", "p"), ("resolve", "m", "--sent"), ("doctor",),
    ):  # fmt: skip
        ran = optus_sms(*command, *TARGET)
        assert ran.exit_code != 1, command
        if command[0] == "list" and "--unknown" in command:
            assert "good" in ran.stdout
        if command == ("doctor",):
            assert "26.11.2026" in ran.stdout
    for way in ("--sent", "--not-sent"):
        assert optus_sms("resolve", "--since", "1h", way, "--yes", *TARGET).exit_code in (0, 9)
    assert stack.ledger.read("good").state is State.ACCEPTED  # type: ignore[union-attr]
