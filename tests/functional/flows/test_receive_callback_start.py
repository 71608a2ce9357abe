"""The imports of a cold start of ReceiveCallbackFunction."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
# Imports the handler in a new interpreter, as Lambda does, and prints the effects.
PROGRAM = """
import json, sys
seen = []
WATCHED = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
sys.addaudithook(lambda event, arguments: seen.append(event) if event in WATCHED else None)
import app
from optus_sms.aws import clients
from optus_sms.runtime import observability
made = [f.__name__ for f in (app.receiver, clients._session, observability.logger, observability._metrics)
        if f.cache_info().currsize]
import threading
print(json.dumps({"modules": sorted(sys.modules), "seen": seen, "made": made, "threads": threading.active_count()}))
"""


@pytest.fixture(scope="module")
def started() -> dict[str, Any]:
    path = os.pathsep.join(str(ROOT / part) for part in ("functions/receive_callback", "layers/shared/src"))
    # No AWS settings and none of the function's own variables: an import that needs one would fail.
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stderr == ""
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_importing_the_handler_does_nothing_but_import(started: dict[str, Any]) -> None:
    assert (started["made"], started["seen"], started["threads"]) == ([], [], 1)


@pytest.mark.parametrize("unneeded", ["requests", "pydantic", "pydantic_core", "jsonschema", "yaml", "aws_xray_sdk"])
def test_libraries_of_the_other_functions_are_not_imported(started: dict[str, Any], unneeded: str) -> None:
    assert unneeded not in started["modules"]


# Modules of the other functions.
ELSEWHERE = (
    "model/queue_message",
    "model/segments",
    "gateway/transport",
    "gateway/api",
    "flows/breaker",
    "flows/pacing",
    "flows/send_message",
    "flows/check_health",
    "flows/publish_events",
)


@pytest.mark.parametrize("module", ELSEWHERE)
def test_modules_of_the_other_functions_are_not_imported(started: dict[str, Any], module: str) -> None:
    assert (ROOT / "layers/shared/src/optus_sms" / f"{module}.py").exists()
    assert f"optus_sms.{module.replace('/', '.')}" not in started["modules"]
    assert "optus_sms.flows.receive_callback" in started["modules"]
