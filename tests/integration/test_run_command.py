"""`python -m local` (`make run`) as a person starts it: a process of its own, signals, exit status, files."""

import os
import random
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from local.aws.stack import PORT_OF, StackError, listen
from tests.support.phone_page import PageClient
from tests.support.processes import alive, descendants
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port that is free now, with its followers; none that the system gives to connections meanwhile."""
    while True:
        port = random.randrange(10_000, 32_000)
        try:
            for offset in PORT_OF.values():
                listen("127.0.0.1", port + offset, "test").close()
        except StackError:
            continue
        return port


def arguments(folder: Path, **options: str) -> dict[str, object]:
    """How to start it in a folder of its own."""
    own = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {
        "args": [sys.executable, "-m", "local"],
        "cwd": folder,
        "env": {**own, "PYTHONPATH": str(ROOT), "PORT": str(free_port()), **options},
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }


@contextmanager
def running(folder: Path, **options: str) -> Iterator[subprocess.Popen[str]]:
    """A run that stays up; killed at the end, if it has not ended by then."""
    process: subprocess.Popen[str] = subprocess.Popen(**arguments(folder, **options))  # type: ignore[call-overload]
    with process:
        try:
            endpoints = folder / ".local/endpoints.env"
            eventually(lambda: endpoints.exists() or process.poll() is not None, "the stack is up", 120)
            assert process.poll() is None, process.communicate()[0]
            yield process
        finally:
            process.kill()


def sourced(folder: Path) -> dict[str, str]:
    """The variables a shell has after sourcing the file."""
    script = "source .local/endpoints.env && env -0"
    output = subprocess.run(["bash", "-c", script], cwd=folder, env={}, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in output.stdout.split("\0") if line)


def test_once_sends_the_examples_and_more_and_tells_by_its_exit_status(tmp_path: Path) -> None:
    run = subprocess.run(**arguments(tmp_path, ONCE="1", MESSAGES="5"), timeout=100, check=False)  # type: ignore[call-overload]

    assert run.returncode == 0, run.stdout
    assert "examples reached their expected end" in run.stdout
    assert "See it at work in a browser: http://127.0.0.1:" in run.stdout
    assert "5 messages: 5 queued, 5 accepted, 5 received" in run.stdout
    assert "\x1b" not in run.stdout  # no colours where there is no terminal
    assert "+61491570006" not in run.stdout.replace("like +61491570006", "")  # the rule quotes it
    assert not (tmp_path / ".local/endpoints.env").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_up_until_a_signal_ends_it_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, NO_EXAMPLES="1") as process, PageClient(sourced(tmp_path)["PAGE_URL"]) as page:
        started = descendants(process.pid)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
        assert page.ended.wait(30)

    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert started
    eventually(lambda: not alive(started), "every process has ended")
    assert not (tmp_path / ".local/endpoints.env").exists()


def test_nothing_outlives_it_even_when_it_is_killed(tmp_path: Path) -> None:
    with running(tmp_path, NO_EXAMPLES="1") as process:
        started = descendants(process.pid)
        process.kill()
        process.wait()

        assert started
        eventually(lambda: not alive(started), "every process has ended")


def test_the_endpoints_file_leads_a_shell_to_everything(tmp_path: Path) -> None:
    with running(tmp_path, NO_EXAMPLES="1"):
        variables = sourced(tmp_path)
        mode = (tmp_path / ".local/endpoints.env").stat().st_mode & 0o777
        sqs = boto3.client(
            "sqs",
            endpoint_url=variables["AWS_ENDPOINT_URL"],
            region_name=variables["AWS_DEFAULT_REGION"],
            aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        )
        assert sqs.get_queue_attributes(QueueUrl=variables["OUTBOUND_QUEUE_URL"])["ResponseMetadata"]

    assert mode == 0o600
    assert variables["STATUS_CALLBACK_URL"].endswith("/callbacks/status")
    assert variables["CALLBACK_USERNAME"] == "gateway"
    assert {
        "CALLBACK_PASSWORD", "DEAD_LETTER_QUEUE_URL", "GATEWAY_BASE_URL", "MESSAGES_TABLE_NAME", "REPLY_CALLBACK_URL",
        "PAGE_URL", "SEND_LEDGER_TABLE_NAME", "SIMULATOR_URL", "AWS_REGION", "MAX_ATTEMPTS",
    } <= variables.keys()  # fmt: skip
    assert "AWS_CA_BUNDLE" not in variables  # the file is on no machine but Lambda's


def test_a_port_in_use_is_an_error_that_names_it_and_the_fix(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0, "test") as taken:
        port = str(taken.getsockname()[1])
        run = subprocess.run(**arguments(tmp_path, PORT=port), timeout=60, check=False)  # type: ignore[call-overload]

    assert run.returncode == 2
    assert f"port {port} " in run.stdout
    assert "PORT=" in run.stdout
    assert "Traceback" not in run.stdout


def test_an_option_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    run = subprocess.run(**arguments(tmp_path, PORT="ninety"), timeout=60, check=False)  # type: ignore[call-overload]

    assert (run.returncode, run.stdout) == (2, "make run: PORT=ninety is no whole number from 1024 to 65531\n")


def test_the_lines_it_prints_for_python_can_be_pasted(tmp_path: Path) -> None:
    with running(tmp_path, NO_EXAMPLES="1") as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "# Call back" in line:
                break
        pasted = "".join(lines).split(".venv/bin/python", 1)[1].split("\n\n")[0]
        script = f"source .local/endpoints.env\n{shlex.quote(sys.executable)} {pasted}"
        subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, timeout=60)

        shown = ""
        while "status received" not in shown:
            shown = process.stdout.readline()
            assert shown, "it ended before the message was received"
