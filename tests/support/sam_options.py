"""Read command lines as the locked SAM CLI does, without running them.

A process of its own, because importing the SAM CLI warns: `python -m tests.support.sam_options < commands.json` writes,
for each command, its options as SAM has them, or SAM's error text.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from samcli.cli.context import Context
from samcli.cli.main import cli


def read(words: list[str]) -> dict[str, Any] | str:
    """Return the options of one command line, `sam` left out; the error text if SAM refuses it."""
    command: click.Command = cli
    context = click.Context(cli, info_name="sam", obj=Context())
    while isinstance(command, click.MultiCommand):
        found = command.get_command(context, words[0]) if words else None
        if found is None:
            return f"no such command: {words[:1]}"
        command, words = found, words[1:]
        if isinstance(command, click.MultiCommand):
            context = click.Context(command, info_name=command.name, parent=context)
    try:
        made = command.make_context(command.name, list(words), parent=context)
    except click.ClickException as error:
        return error.format_message()
    return {name: value for name, value in made.params.items() if isinstance(value, str | dict | bool)}


if __name__ == "__main__":
    json.dump([read(words) for words in json.load(sys.stdin)], sys.stdout)
