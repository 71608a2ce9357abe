"""The projects of tests/projects test against the local stack with what is made for them, and with nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import endpoints
from local.aws.stack import LocalStack
from local.demo.watcher import Watcher
from local.page.server import PhonePage
from tests.support.installation import built_wheel, installed, run

PROJECTS = Path(__file__).parents[1] / "projects"


def test_a_python_project_tests_with_the_installed_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ONCE": "1", "GATEWAY_BASE_URL": "https://gateway.invalid/rest/sms/v2"}.items():
        monkeypatch.setenv(name, value)  # of the shell, and meant for another run
    project = shutil.copytree(PROJECTS / "python", tmp_path / "project")
    commands = installed(built_wheel(tmp_path / "dist"), tmp_path / "environment", "testing")
    ran = run(commands / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    assert (ran.returncode, "3 passed" in ran.stdout) == (0, True), ran.stdout[-3000:] + ran.stderr[-1000:]


@pytest.fixture
def page_url(local_stack: LocalStack) -> Iterator[str]:
    watcher = Watcher(local_stack)
    with PhonePage(local_stack, watcher) as page, watcher:
        yield page.url


def test_a_node_project_tests_with_the_json_api(local_stack: LocalStack, page_url: str, tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("Node.js is not installed")
    project = shutil.copytree(PROJECTS / "node", tmp_path / "project")
    quiet = ("ci", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts")
    packages = subprocess.run([npm, *quiet], cwd=project, capture_output=True, text=True, check=False)
    if packages.returncode:
        pytest.skip(f"npm has no packages: {packages.stderr[-200:]}")
    environment = {**os.environ, **endpoints.variables(local_stack), "PAGE_URL": page_url}
    command = ["node", "--test", "--test-reporter=tap"]
    ran = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, "# pass 1" in ran.stdout) == (0, True), ran.stdout[-3000:]
