"""The projects of tests/projects run their tests against the local stack with only its public interfaces."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from local import endpoints
from local.aws.stack import LocalStack
from tests.support.installation import built_wheel, installed, run
from tests.support.node import needs_packages

PROJECTS = Path(__file__).parents[1] / "projects"


def test_a_python_project_tests_with_the_installed_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ONCE": "1", "GATEWAY_BASE_URL": "https://gateway.invalid/rest/sms/v2"}.items():
        monkeypatch.setenv(name, value)  # the shell's variables, which are for another run
    project = shutil.copytree(PROJECTS / "python", tmp_path / "project")
    commands = installed(built_wheel(tmp_path / "dist"), tmp_path / "environment", "testing")
    ran = run(commands / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    assert (ran.returncode, "3 passed" in ran.stdout) == (0, True), ran.stdout[-3000:] + ran.stderr[-1000:]


@needs_packages(PROJECTS / "node")
def test_a_node_project_tests_with_the_json_api(local_stack: LocalStack, page_url: str) -> None:
    environment = {**os.environ, **endpoints.variables(local_stack), "PAGE_URL": page_url}
    command = ["node", "--test", "--test-reporter=tap"]
    ran = subprocess.run(command, cwd=PROJECTS / "node", env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, "# pass 1" in ran.stdout) == (0, True), ran.stdout[-3000:]
