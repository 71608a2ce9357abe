"""docs/messages.md is up to date, and has every message."""

import ast
from pathlib import Path

import pytest

from tools.messages_page import _SECTIONS, PATH, ROOT, messages_page


def empty_checkout(folder: Path) -> None:
    """Make the files that the page is written from, without a message."""
    for name in ("Makefile", "cli/main.py", "local/guard.py", "local/page/guard.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "local/page/static").mkdir()
    for name in ("app.js", "server.js"):
        (folder / "local/page/static" / name).touch()


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


def test_each_text_is_the_one_assigned_last_before_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty_checkout(tmp_path)
    (tmp_path / "Makefile").write_text('all:\n\t@run || { echo "Install $(IT)." >&2; exit 1; }\n')
    (tmp_path / "cli" / "doctor.py").write_text(
        "def some(up):\n"
        "    remedy = 'Start it.'\n"
        "    if up:\n        return Check('ok', 'up')\n"
        "    yield Check('failed', 'off' if up else f'down: {up}', remedy)\n"
        "    remedy = 'Wait.'\n"
    )
    monkeypatch.setattr("tools.messages_page.ROOT", tmp_path)
    monkeypatch.setattr("tools.messages_page._SECTIONS", [each for each in _SECTIONS if each.title == "doctor"])
    page = messages_page()
    assert "| failed | off / down: &lt;up> | Start it. |" in page
    assert ("| ok |" in page, "| Install &lt;IT>. |" in page) == (False, True)


@pytest.mark.parametrize(
    ("error", "rows"),
    [
        ('CliError("Gone.", "`find` it.")', ["| Gone. | `find` it. |  |"]),
        ('CliError("Gone.", code=Exit.NOT_FOUND)', ["| Gone. |  | `NOT_FOUND` |"]),
        ("CliError(error.problem, the_step, Exit(error.exit_code))", []),
    ],
)
def test_each_part_of_an_error_is_in_its_column_and_another_ones_words_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, rows: list[str]
) -> None:
    empty_checkout(tmp_path)
    (tmp_path / "cli" / "some.py").write_text(f"def some():\n    raise {error}\n")
    monkeypatch.setattr("tools.messages_page.ROOT", tmp_path)
    table = messages_page().partition("| message | next step | exit code |\n| --- | --- | --- |\n")[2]
    assert table.partition("## ")[0].strip().splitlines() == rows


def test_refusals_and_the_texts_of_the_browser_are_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty_checkout(tmp_path)
    (tmp_path / "local/guard.py").write_text(
        'def one(own):\n    return f"Host: use {own}."\ndef other():\n    return None\n'
    )
    (tmp_path / "local/page/guard.py").write_text("def one(why):\n    return 403, why\n    return 413, 'Too long.'\n")
    script = 'const GONE = "It is gone.";\nthrow new Refused(said ?? `HTTP ${a.status} came.`);\nnotice("");\n'
    (tmp_path / "local/page/static/server.js").write_text(script)
    monkeypatch.setattr("tools.messages_page.ROOT", tmp_path)
    lines = messages_page().splitlines()
    expected = ["| 403 | Host: use &lt;own>. |", "| 413 | Too long. |", "| It is gone. |", "| HTTP &lt;status> came. |"]
    assert [line for line in expected if line not in lines] == []
    assert [line for line in lines if "why" in line or line == "|  |"] == []
