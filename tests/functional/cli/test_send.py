"""`send` to a deployed stack: one message, and a file whose run is killed half-way and resumed."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ReadTimeoutError

from cli import queueing
from cli.checked_message import check
from cli.commands import send as send_command
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import State
from tests.support.aws import REGION
from tests.support.builders import HANDSET, message_body, message_fields, wanted
from tests.support.cli import optus_sms, umask_of_anybody
from tests.support.deployed import STACK, DeployedStack

TARGET = ("--stack", STACK, "--region", REGION)
FILE, JOURNAL = Path("messages.jsonl"), Path("messages.jsonl.journal")


def write_file(count: int, *, keys: bool = False) -> None:
    lines = [message_body(message_id=f"k-{n}" if keys else None, content=f"Message {n}") for n in range(count)]
    FILE.write_text("\n".join(lines))


def send_file(*options: str) -> Any:
    ran = optus_sms("send", "--file", FILE, "--json", *options, *TARGET)
    return ran.document if ran.exit_code == 0 else ran


def contents(stack: DeployedStack) -> Counter[str]:
    return Counter(json.loads(body)["content"] for body, _ in stack.queued())


class KilledError(BaseException):
    """Stands for the end of the process."""


def raises(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises this."""

    def raising(*_: object, **__: object) -> Any:
        raise error

    return raising


def test_every_field_goes_on_the_queue_as_it_was_given(stack: DeployedStack) -> None:
    ran = optus_sms(
        "send", HANDSET, "Hello", "--message-id", "k", "--reference", "r", "--mask", "Shop",
        "--class", "bulk", "--sms-class", "0", "--integration-id", "0b9d4f1c-0000-4000-8000-000000000000",
        "--scheduled", "2099-01-01T00:00:00Z", "--on-unknown", "resend", "--json", *TARGET,
    )  # fmt: skip
    assert ran.exit_code == 5, "too far ahead"
    ran = optus_sms(
        "send", HANDSET, "Hello", "--message-id", "k", "--reference", "r", "--mask", "Shop",
        "--class", "bulk", "--sms-class", "0", "--integration-id", "0b9d4f1c-0000-4000-8000-000000000000",
        "--expires-at", "2099-01-01T00:00:00Z", "--on-unknown", "resend", "--json", *TARGET,
    )  # fmt: skip
    assert ran.document["message_id"] == "k"
    ((body, _),) = stack.queued()
    assert json.loads(body) == message_fields(
        message_id="k", content="Hello", reference="r", mask="Shop", class_="bulk", sms_class=0,
        integration_id="0b9d4f1c-0000-4000-8000-000000000000", expires_at="2099-01-01T00:00:00Z", on_unknown="resend",
    )  # fmt: skip


@pytest.mark.parametrize("from_file", [False, True])
def test_a_group_goes_with_each_message_for_fair_queues(stack: DeployedStack, from_file: bool) -> None:
    FILE.write_text(message_body())
    arguments = ("--file", FILE) if from_file else (HANDSET, "Hello")
    assert optus_sms("send", *arguments, "--group", "bookings", *TARGET).exit_code == 0
    assert [message["Attributes"]["MessageGroupId"] for message in stack.received("OutboundQueueUrl")] == ["bookings"]


@pytest.mark.parametrize("group", ["", "two words", "ä", "x" * 129])
def test_a_group_that_sqs_would_refuse_is_refused_before(stack: DeployedStack, group: str) -> None:
    ran = optus_sms("send", HANDSET, "Hello", "--group", group, *TARGET)
    assert (ran.exit_code, "--group" in ran.stderr, stack.queued()) == (2, True, [])


def test_text_comes_from_stdin_and_a_key_is_made(stack: DeployedStack) -> None:
    ran = optus_sms("send", HANDSET, "-", "--json", *TARGET, stdin="Two\nlines\n")
    ((body, _),) = stack.queued()
    assert json.loads(body)["content"] == "Two\nlines"
    assert json.loads(body)["message_id"] == ran.document["message_id"]


@pytest.mark.parametrize(
    ("stdin", "content"),
    [
        (b"Hello\r\n", "Hello"),
        (b"\xef\xbb\xbfHello\n", "Hello"),
        (b"\xef\xbb\xbfTwo\r\nlines\r\n", "Two\nlines"),
        (b"Two\n\n", "Two\n"),
        (b"Hello", "Hello"),
    ],
)
def test_a_text_on_stdin_may_come_from_any_system(stack: DeployedStack, stdin: bytes, content: str) -> None:
    assert optus_sms("send", HANDSET, "-", *TARGET, stdin=stdin).exit_code == 0
    assert contents(stack) == {content: 1}


@pytest.mark.parametrize("typed", ["0491 570 006", "61491570006", "+61 491 570 006", "+610491570006"])
def test_a_number_in_a_file_is_not_mended_but_said(stack: DeployedStack, typed: str) -> None:
    """A line must be a valid queue message; the sender function would refuse this one."""
    FILE.write_text(message_body(destination=typed))
    ran = send_file()
    assert (ran.exit_code, "+61491570006" in ran.stderr.replace("like +61491570006", "")) == (5, True)
    assert stack.queued() == []


@pytest.mark.skipif(shutil.which("iconv") is None, reason="there is no iconv")
@pytest.mark.parametrize("encoding", ["windows-1252", "utf-16"])
def test_the_remedy_for_a_file_that_is_not_utf8_works(stack: DeployedStack, encoding: str) -> None:
    file = Path("their file.jsonl")
    file.write_bytes('{"destination": "+61491570006", "content": "Café – €5"}'.encode(encoding))
    ran = optus_sms("send", "--file", file, "--json", *TARGET)
    assert ran.exit_code == 5
    remedy = json.loads(ran.stderr)["next"].removeprefix("Convert it: ")
    subprocess.run(remedy, shell=True, check=True)
    assert optus_sms("send", "--file", f"{file}.utf8", *TARGET).exit_code == 0
    assert contents(stack) == {"Café – €5": 1}


def test_a_text_on_stdin_that_is_not_utf8_is_refused_in_words(stack: DeployedStack) -> None:
    ran = optus_sms("send", HANDSET, "-", *TARGET, stdin=b"caf\xe9")
    assert (ran.exit_code, "not UTF-8" in ran.stderr, "iconv -f WINDOWS-1252 -t UTF-8" in ran.stderr) == (5, True, True)
    assert stack.queued() == []


def test_what_has_no_end_is_not_read_to_its_end(stack: DeployedStack) -> None:
    ran = optus_sms("send", HANDSET, "-", *TARGET, stdin=b"x" * 1_048_577)
    assert (ran.exit_code, "stdin: has more than 1048576 bytes" in ran.stderr) == (5, True)
    ran = optus_sms("send", "--file", "/dev/zero", "--journal", JOURNAL, *TARGET)
    assert (ran.exit_code, "line 1: has more than" in ran.stderr, JOURNAL.exists()) == (5, True, False)


def test_a_dry_run_shows_what_made_it_ucs2_and_queues_nothing(stack: DeployedStack) -> None:
    ran = optus_sms("send", HANDSET, "It’s here", "--dry-run", *TARGET)
    assert ran.exit_code == 0
    assert "1 segment, UCS-2, 9 characters" in ran.stdout
    assert "“’” (U+2019 RIGHT SINGLE QUOTATION MARK), character 3" in ran.stdout
    assert stack.queued() == []


def test_what_breaks_a_rule_is_not_queued(stack: DeployedStack) -> None:
    ran = optus_sms("send", "0491570006", "", *TARGET)
    assert ran.exit_code == 5
    assert "destination" in ran.stderr
    assert "content" in ran.stderr
    assert stack.queued() == []


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (ReadTimeoutError(endpoint_url="https://sqs.invalid"), 1)]
)
def test_ended_while_it_queues_the_error_names_the_key_under_which_a_repeat_is_sent_once(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    monkeypatch.setattr(send_command, "queue_one", raises(error))
    ran = optus_sms("send", HANDSET, "Hello", "--json", *TARGET)
    assert ran.exit_code == code
    assert re.search(
        r"Retry with --message-id cli-[0-9a-f]{32}; otherwise a second SMS", json.loads(ran.stderr)["next"]
    )


@pytest.mark.parametrize("of_json", [(), ("--json",)])
def test_interrupted_while_it_follows_nobody_is_told_to_send_it_again(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch, of_json: tuple[str, ...]
) -> None:
    monkeypatch.setattr(send_command, "facts_of", raises(KeyboardInterrupt()))
    ran = optus_sms("send", HANDSET, "Hello", "--follow", *of_json, *TARGET)
    ((body, _),) = stack.queued()
    key = json.loads(body)["message_id"]
    assert ran.exit_code == 130
    assert f"queued as {key}; do not send it again." in ran.stderr
    assert "the same command" not in ran.stderr


def test_each_step_that_follow_prints_as_json_has_the_key(stack: DeployedStack) -> None:
    ran = optus_sms("send", HANDSET, "Hello", "--follow", "--timeout", "0", "--json", *TARGET)
    ((body, _),) = stack.queued()
    assert len(ran.entries) == 2
    assert {entry["message_id"] for entry in ran.entries} == {json.loads(body)["message_id"]}


@pytest.mark.parametrize(
    "options",
    [
        ("--dry-run", "--follow"),
        ("--skip-invalid",),
        ("--queue-uncertain",),
        ("--journal", "j"),
        ("--file", FILE),
        ("--follow", "--timeout", "nan"),
    ],
)
def test_options_of_send_that_make_no_sense_do_nothing(stack: DeployedStack, options: tuple[object, ...]) -> None:
    write_file(1)
    assert optus_sms("send", HANDSET, "Hello", *options, *TARGET).exit_code == 2
    assert stack.queued() == []


def test_following_ends_with_its_code_when_the_time_is_over(stack: DeployedStack) -> None:
    ran = optus_sms("send", HANDSET, "Hello", "--message-id", "k", "--follow", "--timeout", "0", *TARGET)
    assert ran.exit_code == 8
    assert "not seen" in ran.stderr


@pytest.mark.parametrize(("on_unknown", "code"), [("hold", 7), ("resend", 8)])
def test_following_goes_on_after_an_unknown_outcome_only_if_it_is_sent_once_more(
    stack: DeployedStack, on_unknown: str, code: int
) -> None:
    now = time.time()
    claim = stack.ledger.claim(wanted("k", on_unknown=on_unknown, owner="sender", lease_until=int(now)), now=now)
    assert claim.state is State.SENDING
    stack.ledger.unknown(claim, "timed_out", now=now)
    ran = optus_sms("send", HANDSET, "Hello", "--message-id", "k", "--follow", "--timeout", "0", *TARGET)
    assert ran.exit_code == code


def test_a_file_with_an_invalid_line_queues_nothing_and_names_each(stack: DeployedStack) -> None:
    lines = [
        message_body(message_id="a"),
        "",
        "{",
        message_body(destination="1"),
        message_body(message_id="a", content="x"),
        "[" * 100_000,
        f'{{"destination": "{HANDSET}", "content": "a", "destination": "+61491570156"}}',
        json.dumps({"message_id": ["x"], "destination": HANDSET, "content": "a"}),
    ]
    FILE.write_text("\n".join(lines))

    ran = send_file()

    assert ran.exit_code == 5
    problem = json.loads(ran.stderr)["error"]
    for words in (
        "line 3: body: must be JSON",
        "line 4: destination:",
        "line 5: message_id: is used by line 1",
        "line 6: body: must be JSON; nested too deeply",
        "line 7: 'destination': is given twice",
        "line 8: message_id:",
    ):
        assert words in problem
    assert stack.queued() == []
    assert not JOURNAL.exists()
    ran = send_file("--skip-invalid")
    assert ran.exit_code == 9
    assert ran.document["queued"] == 1
    assert JOURNAL.exists()


@pytest.mark.parametrize("other", [{}, {"expires_at": "2030-01-01T00:00:00Z"}, {"on_unknown": "hold"}])
def test_one_key_with_two_ways_to_send_it_is_refused_and_never_left_out_silently(
    stack: DeployedStack, other: dict[str, str]
) -> None:
    first = message_body(message_id="a", expires_at="2026-01-01T00:00:00Z", on_unknown="resend")
    FILE.write_text(f"{first}\n{first}\n{message_body(message_id='a', **other)}")
    ran = send_file()
    assert ran.exit_code == 5
    assert "line 3: message_id: is used by line 1 with other fields" in json.loads(ran.stderr)["error"]
    assert stack.queued() == []


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_schedule_that_is_past_is_refused_before_it_is_queued(stack: DeployedStack, options: tuple[str, ...]) -> None:
    FILE.write_text(message_body(scheduled="2025-12-24T09:00:00+11:00"))
    for ran in (
        send_file(*options),
        optus_sms("send", HANDSET, "Hello", "--scheduled", "2025-12-24T09:00:00+11:00", *options, *TARGET),
    ):
        assert (ran.exit_code, "scheduled: was past" in ran.stderr) == (5, True)
    assert stack.queued() == []


def test_a_number_that_the_stack_does_not_allow_is_refused_before_it_is_queued(stack: DeployedStack) -> None:
    FILE.write_text("\n".join([message_body(message_id="a"), message_body(destination="+8816123456789")]))
    for ran in (send_file(), optus_sms("send", "+8816123456789", "Hello", *TARGET)):
        assert (ran.exit_code, "AllowedDestinations" in ran.stderr) == (5, True)
    assert stack.queued() == []
    assert send_file("--skip-invalid").document["queued"] == 1


def test_a_file_can_be_resumed_after_the_schedule_of_what_is_queued_has_passed(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = format_rfc3339(time.time() + 600)
    FILE.write_text(message_body(message_id=None, scheduled=soon))
    assert send_file()["queued"] == 1
    late = time.time() + 3600
    monkeypatch.setattr("cli.checked_message.time.time", lambda: late)
    FILE.write_text(FILE.read_text() + "\n" + message_body(message_id="new"))
    assert send_file()["queued"] == 1
    FILE.write_text(FILE.read_text() + "\n" + message_body(message_id="late", scheduled=soon))
    assert "line 3: scheduled: was past" in send_file().stderr


def test_a_dry_run_of_a_file_counts_and_leaves_no_journal(stack: DeployedStack) -> None:
    write_file(12)
    assert send_file("--dry-run") == {"valid": 12, "segments": 12, "ucs2": 0, "invalid": {}}
    write_file(1)
    told = optus_sms("send", "--file", FILE, "--dry-run", *TARGET).stdout
    assert told == "1 message (0 UCS-2), 1 segment; nothing was queued\n"
    assert (stack.queued(), JOURNAL.exists()) == ([], False)


def test_a_file_is_queued_once_and_equal_lines_are_two_messages(stack: DeployedStack) -> None:
    FILE.write_text("\n".join([message_body(message_id=None)] * 2 + [message_body(message_id="k")] * 2))
    assert send_file()["queued"] == 3
    assert send_file()["queued"] == 0
    assert "queueing" not in optus_sms("send", "--file", FILE, *TARGET).stderr
    keys = [json.loads(body)["message_id"] for body, _ in stack.queued()]
    assert len(keys) == len(set(keys)) == 3


def test_the_same_file_under_a_new_journal_is_new_messages(stack: DeployedStack) -> None:
    write_file(2)
    for _ in range(2):
        assert send_file()["queued"] == 2
        JOURNAL.unlink()
    assert len({json.loads(body)["message_id"] for body, _ in stack.queued()}) == 4


@pytest.mark.parametrize(("by_the_sender", "calls"), [(False, 2), (True, 1)])
def test_what_failed_at_the_end_of_sqs_is_tried_again_at_once_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, by_the_sender: bool, calls: int
) -> None:
    monkeypatch.setattr("cli.queueing.time.sleep", lambda _seconds: None)
    sqs = Mock()
    sqs.send_message_batch.side_effect = [
        {"Successful": [{"Id": "0"}], "Failed": [{"Id": "1", "SenderFault": by_the_sender}]},
        {"Successful": [{"Id": "1"}]},
    ]
    batch = [check(message_fields(message_id=key), "") for key in "ab"]
    assert queueing._queue_batch(sqs, "q", batch) == ["a", "b"][:calls]
    asked = [[entry["Id"] for entry in call.kwargs["Entries"]] for call in sqs.send_message_batch.call_args_list]
    assert asked == [["0", "1"], ["1"]][:calls]


def test_a_line_added_later_is_all_that_is_queued_then(stack: DeployedStack) -> None:
    write_file(5)
    send_file()
    FILE.write_text(message_body(message_id=None, content="New") + "\n" + FILE.read_text())
    assert send_file() | {"journal": ""} == {
        "queued": 1,
        "earlier": 5,
        "held": 0,
        "refused_by_sqs": [],
        "invalid": {},
        "journal": "",
    }
    assert contents(stack)["New"] == 1


@pytest.mark.parametrize("text", ['{"journal": 1, "stack": "other", "run": "r"}', "junk", "[]", '{"journal": 2}'])
def test_a_journal_of_something_else_is_refused(stack: DeployedStack, text: str) -> None:
    write_file(1)
    JOURNAL.write_text(text + "\n")
    assert send_file().exit_code == 5
    assert stack.queued() == []


@pytest.mark.parametrize("notes", ["\n\nBuy milk.\n", "Buy milk.\n", " \n", "", '{"journal": 1, "stack": "x"}\n' * 9])
@pytest.mark.parametrize("valid", [True, False], ids=["valid file", "invalid file"])
def test_a_file_that_is_no_journal_is_neither_removed_nor_written_to(
    stack: DeployedStack, notes: str, valid: bool
) -> None:
    FILE.write_text(message_body() if valid else "{")
    Path("notes.txt").write_text(notes)
    ran = send_file("--journal", "notes.txt")
    assert (ran.exit_code, "not a journal" in ran.stderr, Path("notes.txt").read_text()) == (5, True, notes)
    assert stack.queued() == []


@pytest.mark.parametrize("to", ["a journal", "notes", "nothing"])
def test_a_link_is_no_journal_and_is_not_followed(stack: DeployedStack, to: str) -> None:
    write_file(1)
    linked = Path("linked")
    if to == "a journal":
        send_file("--journal", "linked")
        stack.queued()
    elif to == "notes":
        linked.write_text("\n")
    before = linked.read_text() if linked.exists() else None
    JOURNAL.symlink_to(linked)
    ran = send_file()
    assert (ran.exit_code, "symbolic link" in ran.stderr, JOURNAL.is_symlink()) == (2, True, True)
    assert (linked.read_text() if linked.exists() else None) == before
    assert stack.queued() == []


def test_a_pipe_is_no_journal(stack: DeployedStack) -> None:
    write_file(1)
    os.mkfifo(JOURNAL)
    assert (send_file().exit_code, JOURNAL.is_fifo(), stack.queued()) == (2, True, [])


def test_only_its_user_can_read_a_journal(stack: DeployedStack) -> None:
    write_file(1)
    with umask_of_anybody():
        send_file()
    assert JOURNAL.stat().st_mode & 0o777 == 0o600


def test_a_file_that_replaced_the_journal_meanwhile_is_not_removed(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(*_: object, **__: object) -> Any:
        Path("other").write_text("notes")
        Path("other").rename(JOURNAL)
        return [], {1: "invalid"}

    monkeypatch.setattr("cli.commands.send_file.read_lines", replaced)
    assert (send_file().exit_code, JOURNAL.read_text()) == (5, "notes")


@pytest.mark.parametrize(
    "line",
    [b"5", b"[]", b'"x"', b'{"queued": 5}', b'{"queued": [["k"]]}', b'{"queued": null}', b'{"queueing": {"k": 1}}',
     b'{"done": ["k"]}', b"\xff\xfe"],
)  # fmt: skip
def test_a_journal_that_somebody_broke_is_refused_in_words(stack: DeployedStack, line: bytes) -> None:
    write_file(1)
    send_file()
    JOURNAL.write_bytes(JOURNAL.read_bytes() + line + b"\n")
    ran = send_file()
    assert (ran.exit_code, "journal" in ran.stderr) == (5, True)
    assert sum(contents(stack).values()) == 1


@pytest.mark.parametrize("torn", ['{"queue', '{"queued": ["k-0", "k', "[" * 100_000])
def test_a_line_that_a_kill_has_torn_is_passed_over_and_the_next_one_is_read(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch, torn: str
) -> None:
    write_file(1, keys=True)
    send_file()
    with JOURNAL.open("a") as file:
        file.write(torn)
    write_file(2, keys=True)
    with monkeypatch.context() as patch:
        patch.setattr(queueing, "_queue_batch", raises(KilledError()))
        with pytest.raises(KilledError):
            send_file()
    assert send_file().document | {"journal": ""} == {
        "queued": 0, "earlier": 1, "held": 1, "refused_by_sqs": [], "invalid": {}, "journal": "",
    }  # fmt: skip


def test_a_journal_that_its_owner_removed_before_we_had_it_is_not_written_to(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(1)
    lock = fcntl.flock

    def lock_late(file: Any, operation: int) -> None:
        JOURNAL.unlink()
        lock(file, operation)

    with monkeypatch.context() as patch:
        patch.setattr("cli.journal.fcntl.flock", lock_late)
        ran = send_file()
    assert (ran.exit_code, "process" in ran.stderr) == (2, True)
    assert stack.queued() == []


def test_a_file_that_another_process_queues_is_left_to_it(stack: DeployedStack) -> None:
    write_file(1)
    with JOURNAL.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ran = send_file()
    assert (ran.exit_code, "process" in ran.stderr) == (2, True)
    assert stack.queued() == []


def test_what_sqs_does_not_take_is_tried_by_the_next_run(stack: DeployedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(3)
    real = queueing._queue_batch
    with monkeypatch.context() as patch:
        patch.setattr(queueing, "_queue_batch", lambda sqs, url, batch: real(sqs, url, batch[:2]))
        ran = send_file()
    assert ran.exit_code == 9
    assert len(ran.document["refused_by_sqs"]) == 1
    done = send_file()
    assert (done["queued"], done["earlier"], done["held"]) == (1, 2, 0)
    assert contents(stack) == Counter(f"Message {n}" for n in range(3))


@pytest.fixture(params=["before the batch", "after the batch"])
def moment(request: pytest.FixtureRequest, stack: DeployedStack, monkeypatch: pytest.MonkeyPatch) -> str:
    """Twenty of thirty messages are on the queue, and a process was killed at this moment of the next batch."""
    moment = str(request.param)
    write_file(30, keys=True)
    real, batches = queueing._queue_batch, iter(range(3))

    def dying(sqs: Any, url: str, batch: Any) -> list[str]:
        third = next(batches) == 2
        if third and moment == "before the batch":
            raise KilledError
        taken = real(sqs, url, batch)
        if third:
            raise KilledError
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(queueing, "_queue_batch", dying)
        with pytest.raises(KilledError):
            send_file()
    return moment


CUT_BATCH = range(20, 30)


def minutes_pass() -> None:
    then = JOURNAL.stat().st_mtime - 120
    os.utime(JOURNAL, (then, then))


def is_taken_by_the_sender(stack: DeployedStack, *, moment: str) -> None:
    """Let the sender function take everything on the queue."""
    stack.sqs.purge_queue(QueueUrl=stack.outputs["OutboundQueueUrl"])
    for n in range(30) if moment == "after the batch" else range(20):
        stack.bring(State.ACCEPTED, f"k-{n}", body=message_body(message_id=f"k-{n}", content=f"Message {n}"))


def test_of_a_batch_that_was_cut_nothing_is_queued_as_long_as_it_may_be_there(
    stack: DeployedStack, moment: str
) -> None:
    minutes_pass()
    ran = send_file()
    assert (ran.exit_code, ran.document["held"], ran.document["queued"]) == (9, 10, 0)
    assert "--queue-uncertain" in ran.stderr
    assert max(contents(stack).values()) == 1


def test_of_a_batch_that_was_cut_a_minute_ago_the_queues_counts_prove_nothing(
    stack: DeployedStack, moment: str
) -> None:
    stack.sqs.purge_queue(QueueUrl=stack.outputs["OutboundQueueUrl"])
    assert send_file().document["held"] == 10
    assert stack.queued() == []


def test_of_a_batch_that_was_cut_what_is_missing_is_queued_once_the_queue_is_empty(
    stack: DeployedStack, moment: str
) -> None:
    is_taken_by_the_sender(stack, moment=moment)
    minutes_pass()
    expected = CUT_BATCH if moment == "before the batch" else ()
    done = send_file()
    assert (done["held"], done["queued"]) == (0, len(expected))
    assert contents(stack) == Counter(f"Message {n}" for n in expected)


def test_of_a_batch_that_was_cut_what_the_ledger_knows_is_not_held(stack: DeployedStack, moment: str) -> None:
    is_taken_by_the_sender(stack, moment="after the batch")
    assert send_file()["held"] == 0
    assert stack.queued() == []


def test_of_a_batch_that_was_cut_the_rest_stays_held_after_the_ledger_knows_some_of_it(
    stack: DeployedStack, moment: str
) -> None:
    for n in CUT_BATCH[:3]:
        stack.bring(State.ACCEPTED, f"k-{n}", body=message_body(message_id=f"k-{n}", content=f"Message {n}"))
    for _ in range(2):
        ran = send_file()
        assert (ran.exit_code, ran.document["held"], ran.document["queued"]) == (9, 7, 0)
    assert max(contents(stack).values()) == 1


def test_a_batch_that_was_cut_is_queued_at_once_if_asked(stack: DeployedStack, moment: str) -> None:
    done = send_file("--queue-uncertain")
    assert (done["queued"], done["held"]) == (10, 0)
    assert len(contents(stack)) == 30


def test_lines_after_a_batch_that_was_cut_do_not_wait_for_it(stack: DeployedStack, moment: str) -> None:
    with FILE.open("a") as file:
        file.write("\n" + message_body(message_id="k-30", content="Message 30"))
    assert send_file().document | {"invalid": 0, "journal": 0} == {
        "queued": 1, "earlier": 20, "held": 10, "refused_by_sqs": [], "invalid": 0, "journal": 0,
    }  # fmt: skip
    assert contents(stack)["Message 30"] == 1


def test_a_line_of_a_batch_that_was_cut_and_taken_out_of_the_file_is_not_waited_for(
    stack: DeployedStack, moment: str
) -> None:
    write_file(25, keys=True)
    assert send_file().document["held"] == 5
    write_file(20, keys=True)
    assert (send_file()["held"], JOURNAL.exists()) == (0, True)


@pytest.fixture
def _heard_signals() -> Iterator[None]:
    """Handle signals as in a terminal, even if the tests were started with some of them ignored."""
    before = {
        number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_heard_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_between_batches_so_that_nothing_is_queued_twice(
    stack: DeployedStack, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    write_file(30)
    real, batches = queueing._queue_batch, iter(range(3))

    def interrupted(sqs: Any, url: str, batch: Any) -> list[str]:
        if next(batches) == 1:
            signal.raise_signal(number)
        return real(sqs, url, batch)

    with monkeypatch.context() as patch:
        patch.setattr(queueing, "_queue_batch", interrupted)
        assert send_file().exit_code == 130

    assert send_file()["earlier"] == 20
    assert contents(stack) == {f"Message {n}": 1 for n in range(30)}


def test_a_lost_terminal_does_not_end_what_nohup_started(stack: DeployedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(30)
    real = queueing._queue_batch

    def hung_up(sqs: Any, url: str, batch: Any) -> list[str]:
        signal.raise_signal(signal.SIGHUP)
        return real(sqs, url, batch)

    monkeypatch.setattr(queueing, "_queue_batch", hung_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert send_file()["queued"] == 30
    finally:
        signal.signal(signal.SIGHUP, before)
