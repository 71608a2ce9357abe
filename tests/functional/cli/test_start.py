"""Start and end of `optus-sms` as a process: its imports, and one line for each kind of interruption."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cli import redrive_plan
from cli.main import _COMMANDS
from cli.redrive_plan import Plan, write_plan
from tests.support.cli import commands, optus_sms

ROOT = Path(__file__).parents[3]
PATHS = [str(ROOT), str(ROOT / "layers/shared/src")]
RUN = f"import sys; sys.path[:0] = {PATHS}; from cli.start import main; main()"
SEND = "send +61491570006 Hello --dry-run"


def run(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line that calls `optus-sms`."""
    command = f'optus-sms() {{ "{sys.executable}" -c "{RUN}" "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", command], check=False, capture_output=True, text=True, env=os.environ | environment
    )


def roots_of_imports(*arguments: str) -> set[str]:
    """Return the packages that a run imports."""
    told = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    command = [sys.executable, "-c", f"{told}; {RUN}", *arguments]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    return {name.partition(".")[0] for name in ran.stderr.splitlines()[-1].split()}


def test_a_run_imports_what_it_needs() -> None:
    slow = {"boto3", "botocore", "pydantic", "requests", "aws_lambda_powertools", "optus_sms"}
    assert roots_of_imports("--help") & (slow - {"optus_sms"}) == set()
    assert roots_of_imports("status", "k", "--stack", "s") & slow == {"boto3", "botocore", "optus_sms"}


def test_nothing_is_imported_before_ctrl_c_ends_in_one_line() -> None:
    told = f"import sys; sys.path[:0] = {PATHS}; had = set(sys.modules); import cli.start"
    code = f"{told}; print(*sorted(set(sys.modules) - had))"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == ["cli", "cli.start"]


def test_the_list_of_commands_has_the_first_sentence_of_each() -> None:
    said = {name: re.match(r"(.+?\.)(?= |$)", command.help or "", re.MULTILINE) for name, command in commands().items()}
    assert {name: found and found[1] for name, found in said.items()} == {
        name: row[1] for name, row in _COMMANDS.items()
    }
    assert {command.name for command in commands().values()} == set(_COMMANDS)


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (f"optus-sms {SEND} > /dev/full", 1, "can't be written: No space left on device"),
        ("optus-sms --help > /dev/full", 1, "can't be written: No space left on device"),
        (f"optus-sms {SEND} | true; exit ${{PIPESTATUS[0]}}", 1, "can't be written: Broken pipe"),
        (f"optus-sms {SEND} --json >&-", 0, ""),
        ("optus-sms send +61491570006 - --dry-run <&-", 5, "content: must be text"),
        (r"optus-sms send +61491570006 $'Gr\xfc\xdfe' --dry-run", 2, "'[TEXT]': must be UTF-8"),
        (r"optus-sms status $'\xfc'", 2, "'ID': must be UTF-8"),
        ("optus-sms --json health", 2, "--json goes after the command: optus-sms health --json"),
        ("optus-sms --stack prod health", 2, "--stack goes after the command: optus-sms health --stack NAME"),
        ("optus-sms --jsn health", 2, "No such option: --jsn"),
        ("optus-sms --json", 2, "No such option: --json"),
    ],
)
def test_every_end_has_its_line_and_its_code(line: str, code: int, says: str) -> None:
    ran = run(line)
    assert (ran.returncode, says in ran.stderr, "Traceback" in ran.stderr) == (code, True, False), ran.stderr
    assert "Exception ignored" not in ran.stderr


def test_a_latin_1_terminal_gets_question_marks() -> None:
    ran = run(f"optus-sms {SEND.replace('Hello', 'Да')}", PYTHONIOENCODING="latin-1")
    assert (ran.returncode, "??" in ran.stdout, ran.stderr) == (0, True, "")


@pytest.mark.parametrize("module", ["click", "cli.errors", "cli.commands.status", "boto3", "optus_sms.records.ledger"])
def test_ctrl_c_while_it_imports_is_one_line(module: str) -> None:
    interrupting = (
        "import sys, types\n"
        "def find_spec(name, *_):\n"
        f"    if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, types.SimpleNamespace(find_spec=find_spec))\n"
    )
    command = [sys.executable, "-c", interrupting + RUN, "status", "k"]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr.removeprefix("Error: ")) == (130, "Interrupted.\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_words(tmp_path: Path, number: signal.Signals) -> None:
    pipe = tmp_path / "messages"
    os.mkfifo(pipe)
    command = [sys.executable, "-c", RUN, "send", "--file", str(pipe), "--dry-run"]
    # Once the pipe is open here, the command has opened it too.
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process, pipe.open("w"):
        process.send_signal(number)
        _, told = process.communicate()
    assert (process.returncode, told.splitlines()[0]) == (130, "Error: Interrupted.")


@pytest.mark.parametrize("ends", [KeyboardInterrupt, OSError("No space left on device")])
def test_half_a_plan_is_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: BaseException) -> None:
    def fails(*_: object, **__: object) -> str:
        raise ends

    monkeypatch.setattr(redrive_plan, "json_text", fails)
    with pytest.raises((KeyboardInterrupt, click.ClickException)):
        write_plan(Plan(stack="s", made_at="", made_by="", items=[]), tmp_path / "plan.json")
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_does_not_exist_is_said_to_be_so() -> None:
    assert "No such command 'sent'" in optus_sms("sent").stderr
