"""docs/messages.md: up to date, and nothing that is said is missing from it."""

import ast

from tools.messages_page import PATH, ROOT, messages_page


def test_the_page_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == messages_page(), "make schemas"


def test_every_error_of_the_command_line_is_on_it() -> None:
    page = messages_page()
    files = sorted((ROOT / "cli").rglob("*.py"))
    calls = [node for path in files for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    plain = [
        str(call.args[0].value)
        for call in calls
        if ast.unparse(call.func) == "CliError" and call.args and isinstance(call.args[0], ast.Constant)
    ]

    assert len(plain) > 10
    assert [text for text in plain if f"| {text} |" not in page] == []
