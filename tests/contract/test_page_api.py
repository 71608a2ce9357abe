"""The phone page's JSON API is as docs/local-stack.md documents it."""

import re
import shlex
import subprocess
from pathlib import Path
from unittest.mock import MagicMock

from local.page.actions import MOST_AT_ONCE
from local.page.acts import ACTS
from local.page.server import PhonePage, _routes

PAGE = (Path(__file__).parents[2] / "docs" / "local-stack.md").read_text(encoding="utf-8")
SECTION = PAGE.split("### Its JSON API\n")[1].split("\n## ")[0]
DOCUMENTED = re.findall(r"`(GET|POST|DELETE) (/api/[^`]*)`", SECTION)


def test_every_request_that_changes_something_is_documented_and_no_other() -> None:
    routes = {(method, path) for path, methods in _routes(MagicMock()).items() for method in methods}
    assert {each for each in DOCUMENTED if each[0] != "GET"} == routes


def test_every_documented_request_that_reads_is_served() -> None:
    page = MagicMock(spec=PhonePage)
    reading = [path for method, path in DOCUMENTED if method == "GET"]
    assert len(reading) == 4
    assert all(PhonePage._reading(page, path.replace("…", "491570006").partition("?")[0]) for path in reading)


def test_the_acts_and_the_limit_of_the_load_are_those_of_the_code() -> None:
    (acts,) = re.findall(r"`act` \(([^)]*)\)", SECTION)
    assert re.findall(r"`(\w+)`", acts) == list(ACTS)
    assert f"at most {MOST_AT_ONCE:,}" in SECTION


def test_the_documented_command_finds_the_token_in_the_page(tmp_path: Path) -> None:
    html = (Path(__file__).parents[2] / "local" / "page" / "static" / "index.html").read_text(encoding="utf-8")
    (tmp_path / "index.html").write_text(
        html.replace('name="page-token" content=""', 'name="page-token" content="t-_1"')
    )
    (found,) = re.findall(r"\| (sed -n '[^']*')\)", SECTION)
    done = subprocess.run([*shlex.split(found), tmp_path / "index.html"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "t-_1"
