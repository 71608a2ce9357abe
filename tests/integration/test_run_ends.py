"""Other ends of `make run` than Ctrl-C while it is up: one line, no traceback, no stale file."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_run_command import arguments, running, sourced
from tests.support.processes import alive, descendants
from tests.support.waiting import eventually


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in (folder / ".local").glob("*")} - {"functions.log"}


def test_a_second_run_in_the_folder_is_refused_with_the_fix(tmp_path: Path) -> None:
    with running(tmp_path, NO_EXAMPLES="1", BIND="127.0.0.2") as first:
        addresses = sourced(tmp_path)
        second = subprocess.run(**arguments(tmp_path, NO_EXAMPLES="1"), timeout=60, check=False)  # type: ignore[call-overload]
        assert second.returncode == 2
        assert len(second.stdout.splitlines()) == 1
        assert "checkout" in second.stdout
        assert sourced(tmp_path) == addresses
        assert first.stdout is not None
        while "BIND=127.0.0.2" not in (line := first.stdout.readline()):
            assert line, "it says what it exposes"
        assert "password" in line
        while "As an operator" not in (line := first.stdout.readline()):
            assert line, "it says what to do next"
        assert addresses["PAGE_URL"] in first.stdout.readline(), "the address stands at the end too"
        first.send_signal(signal.SIGINT)
        assert first.communicate(timeout=60)[0].strip().splitlines()[-1] == "make run: has ended."


def test_a_terminal_that_goes_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path, NO_EXAMPLES="1") as process:
        started = descendants(process.pid)
        process.send_signal(signal.SIGHUP)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in output
    assert leftovers(tmp_path) == set()
    eventually(lambda: not alive(started), "every process has ended")


def test_output_that_nothing_reads_ends_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {**arguments(tmp_path), "stderr": subprocess.PIPE}
    with subprocess.Popen(**options) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 0
    assert len(said.splitlines()) == 1, said
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_without_all_characters_gets_the_rest(tmp_path: Path, encoding: str) -> None:
    options: dict[str, Any] = {**arguments(tmp_path, PORT="ninety…", PYTHONIOENCODING=encoding), "encoding": encoding}
    run = subprocess.run(**options, timeout=60, check=False)
    assert run.returncode == 2
    assert "PORT=ninety?" in run.stdout
    assert len(run.stdout.splitlines()) == 1


def test_a_signal_during_the_imports_ends_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "boto3.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport nothing_there\n")
    options = arguments(tmp_path)
    environment: Any = options["env"]
    environment["PYTHONPATH"] = os.pathsep.join((str(tmp_path), environment["PYTHONPATH"]))
    run = subprocess.run(**options, timeout=60, check=False)  # type: ignore[call-overload]
    assert run.returncode == 0
    assert len(run.stdout.splitlines()) == 1, run.stdout
    assert not (tmp_path / ".local").exists()
