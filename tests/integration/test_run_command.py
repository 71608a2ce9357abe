"""`python -m local` (`make run`) as a user starts it: a separate process, signals, exit status, files."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
import requests

from local.aws.stack import listen
from local.demo.examples import example_messages
from tests.support.phone_page import PageClient
from tests.support.processes import alive, descendants
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]


def arguments(folder: Path, **options: str) -> dict[str, object]:
    """Return the arguments that start it in a new folder."""
    own = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {
        "args": [sys.executable, "-m", "local"],
        "cwd": folder,
        "env": {**own, "PYTHONPATH": str(ROOT), "PORT": "0", **options},
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "preexec_fn": hear_a_hangup,
    }


def hear_a_hangup() -> None:
    """Handle SIGHUP as in a terminal, even if the tests run under `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextmanager
def running(folder: Path, **options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run that stays up; kill it at the end if it still runs."""
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
    """Return the variables that a shell has after sourcing the file."""
    script = "source .local/endpoints.env && env -0"
    env = {"AWS_PROFILE": "nobody", "OPTUS_SMS_STACK": "optus-sms-production"}
    output = subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in output.stdout.split("\0") if line)


@pytest.mark.parametrize("tls", ["0", "1"])
def test_once_sends_the_examples_and_more_and_tells_by_its_exit_status(tmp_path: Path, tls: str) -> None:
    run = subprocess.run(**arguments(tmp_path, ONCE="1", MESSAGES="5", TLS=tls), timeout=100, check=False)  # type: ignore[call-overload]

    assert run.returncode == 0, run.stdout
    count = len(list(example_messages(with_simulator=True)))
    assert run.stdout.splitlines()[-1] == f"All {count} examples reached their expected end."
    assert re.search(f"gateway +http{'s' if tls == '1' else ''}://127.0.0.1:", run.stdout)
    assert re.search("5 queued.*5 accepted.*5 received", run.stdout)
    assert "\x1b" not in run.stdout  # no colors where there is no terminal
    assert {line for line in run.stdout.splitlines() if "+61491570006" in line and "E.164" not in line} == set()
    assert not (tmp_path / ".local/endpoints.env").exists()


def test_what_it_writes_and_prints_leads_to_everything_until_ctrl_c_ends_it(tmp_path: Path) -> None:
    with running(tmp_path, NO_EXAMPLES="1") as process:
        check_the_endpoints_file(tmp_path)
        paste_the_lines_for_python(process, tmp_path)
        check_that_a_signal_ends_it(process, signal.SIGINT, tmp_path)


def test_sigterm_ends_it_too(tmp_path: Path) -> None:
    with running(tmp_path, NO_EXAMPLES="1", TLS="1") as process:
        variables = sourced(tmp_path)
        health = f"{variables['SIMULATOR_URL']}/healthz"
        assert requests.get(health, verify=variables["SIMULATOR_CA_CERTIFICATE"], timeout=30).status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(health, timeout=30)
        assert "GATEWAY_ALLOW_HTTP" not in variables
        check_that_a_signal_ends_it(process, signal.SIGTERM, tmp_path)


def check_the_endpoints_file(folder: Path) -> None:
    variables = sourced(folder)
    assert not {"AWS_PROFILE", "OPTUS_SMS_STACK"} & variables.keys()
    sqs = boto3.client(
        "sqs",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name=variables["AWS_DEFAULT_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
    assert sqs.get_queue_attributes(QueueUrl=variables["OUTBOUND_QUEUE_URL"])["ResponseMetadata"]
    assert (folder / ".local/endpoints.env").stat().st_mode & 0o777 == 0o600
    assert variables["STATUS_CALLBACK_URL"].endswith("/callbacks/status")
    assert variables["CALLBACK_USERNAME"] == "gateway"
    assert {
        "CALLBACK_PASSWORD", "DEAD_LETTER_QUEUE_URL", "GATEWAY_BASE_URL", "MESSAGES_TABLE_NAME", "REPLY_CALLBACK_URL",
        "PAGE_URL", "SEND_LEDGER_TABLE_NAME", "SIMULATOR_URL", "AWS_REGION", "MAX_ATTEMPTS",
    } <= variables.keys()  # fmt: skip
    assert "AWS_CA_BUNDLE" not in variables  # the file exists only in Lambda


def paste_the_lines_for_python(process: subprocess.Popen[str], folder: Path) -> None:
    """Paste the printed Python lines, which queue a message, and wait until it shows as received."""
    assert process.stdout is not None
    printed = ""
    while "curl " not in printed:  # the line after them
        printed += process.stdout.readline()
    pasted = printed.split(".venv/bin/python -c", 1)[1].split("\n\n")[0]
    script = f"source .local/endpoints.env\n{shlex.quote(sys.executable)} -c {pasted}"
    subprocess.run(["bash", "-euc", script], cwd=folder, check=True, timeout=60)

    shown = ""
    while not shown.endswith("received\n"):
        shown = process.stdout.readline()
        assert shown, "it ended before the message was received"


def check_that_a_signal_ends_it(process: subprocess.Popen[str], number: signal.Signals, folder: Path) -> None:
    """Also check that it leaves no process, no open page and no stale file."""
    with PageClient(sourced(folder)["PAGE_URL"]) as page:
        started = descendants(process.pid)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
        assert page.ended.wait(30)

    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert started
    eventually(lambda: not alive(started), "every process has ended")
    assert {path.name for path in (folder / ".local").iterdir()} == {"functions.log"}


def test_nothing_outlives_it_even_when_it_is_killed(tmp_path: Path) -> None:
    with running(tmp_path, NO_EXAMPLES="1") as process:
        started = descendants(process.pid)
        process.kill()
        process.wait()

        assert started
        eventually(lambda: not alive(started), "every process has ended")


def test_a_port_in_use_is_an_error_that_names_it_and_the_fix(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0, "test") as taken:
        port = str(taken.getsockname()[1])
        run = subprocess.run(**arguments(tmp_path, PORT=port), timeout=60, check=False)  # type: ignore[call-overload]

    assert run.returncode == 2
    assert port in run.stdout
    assert "PORT=" in run.stdout
    assert "Traceback" not in run.stdout


def test_an_option_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    run = subprocess.run(**arguments(tmp_path, PORT="ninety"), timeout=60, check=False)  # type: ignore[call-overload]

    assert run.returncode == 2
    assert re.search("PORT=ninety.*1024.*65531", run.stdout)
    assert len(run.stdout.splitlines()) == 1
