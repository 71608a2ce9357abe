"""The docs agree with `optus-sms`: commands, options, exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from cli.errors import Exit
from tests.support.cli import commands

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = commands()
CLI_PAGE = (ROOT / "docs" / "cli.md").read_text()


def calls(page: Path) -> list[tuple[str, list[str]]]:
    """Return command and options of every `optus-sms …` in code."""
    text = page.read_text()
    code = "\n".join(re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text))
    lines = re.findall(r"^\s*(?:\.venv/bin/)?optus-sms ([a-z-]+)([^\n#]*)", code, re.MULTILINE)
    return [(name, re.findall(r"(?<=\s)--([a-z-]+)", rest)) for name, rest in lines]


@pytest.mark.parametrize("page", [page for page in PAGES if calls(page)], ids=lambda page: page.name)
def test_commands_and_options_on_a_page_exist(page: Path) -> None:
    for name, options in calls(page):
        assert name in COMMANDS, f"{page.name}: optus-sms {name}"
        known = {opt.lstrip("-") for parameter in COMMANDS[name].params for opt in parameter.opts}
        assert set(options) <= known, f"{page.name}: optus-sms {name} {options}"


def test_some_pages_have_commands() -> None:
    assert sum(len(calls(page)) for page in PAGES) > 10


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_on_the_page_and_has_help_for_each_option(name: str) -> None:
    assert f"`{name}" in CLI_PAGE
    command = COMMANDS[name]
    assert command.help
    assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option))


def test_every_exit_code_is_on_the_page() -> None:
    section = CLI_PAGE.partition("## Exit codes")[2].partition("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == {int(code) for code in Exit}
