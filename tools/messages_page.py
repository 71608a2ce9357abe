"""Writes docs/messages.md: every error, refusal and finding that a user can see, read from the code that raises it.

python -m tools.messages_page      (`make schemas`; a test fails when the page is not up to date)
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from local.template import TEMPLATE_PATH
from optus_sms.model.queue_message import OutboundMessage
from optus_sms.runtime import settings

ROOT: Final = TEMPLATE_PATH.parent
PATH: Final = ROOT / "docs" / "messages.md"
_LAYER: Final = "layers/shared/src/optus_sms"
_HEAD: Final = """# Messages

All errors, refusals and findings of the stack, the command line, the local stack and `make`, and what to do about each.
`<…>` stands for a value. Not here: results and notes of commands, errors of the tools for maintainers
(`tools/`), and texts that come from AWS or from the gateway.
`make schemas` writes this page from the code.
"""


@dataclass(frozen=True)
class Section:
    """A part of the page: the errors of these names in these folders and files. Rows of ``without`` are left out."""

    title: str
    text: str
    folders: tuple[str, ...]
    errors: frozenset[str]
    columns: tuple[str, ...]
    without: tuple[str, ...] = ()


_SECTIONS: Final = (
    Section(
        "A callback that can't be read",
        "The `detail` of a dead letter with the reason `unreadable_callback`. The gateway gets HTTP 200, and "
        "`optus-sms replay-callbacks` stores what can be read after an upgrade.",
        (_LAYER,),
        frozenset({"UnreadableCallbackError"}),
        ("detail",),
    ),
    Section(
        "The gateway's credentials",
        "In the logs of the sender function and of the health check, and of `optus-sms set-gateway-credentials`.",
        (_LAYER,),
        frozenset({"CredentialsError"}),
        ("message",),
    ),
    Section(
        "The command line",
        "What is wrong, what to do next, and the exit code ([cli.md](cli.md)).",
        ("cli",),
        frozenset({"CliError"}),
        ("message", "next step", "exit code"),
    ),
    Section(
        "Options that don't fit together",
        "Exit code 2 (`USAGE`). The command's `--help` says which options go together.",
        ("cli",),
        frozenset({"UsageError"}),
        ("message",),
    ),
    Section(
        "doctor",
        "Each finding of `optus-sms doctor` that is not `ok`.",
        ("cli/doctor.py",),
        frozenset({"Check", "_Fault"}),
        ("result", "finding", "remedy"),
        without=("ok", "skipped", "<result>"),
    ),
    Section(
        "make run",
        "The local stack ends with one of these.",
        ("local",),
        frozenset({"OptionError", "StackError", "FolderInUseError", "ResourceError", "TemplateError"}),
        ("message",),
    ),
    Section(
        "The page of make run",
        "A request that the page or its JSON API refuses, with its HTTP status.",
        ("local/page",),
        frozenset({"ActionRefusedError", "_error"}),
        ("HTTP status", "message"),
        without=("404 / 409",),  # the texts of commands
    ),
    Section(
        "The simulator's control endpoint",
        "A request that the control endpoint refuses, with its HTTP status.",
        ("local/simulator/control.py",),
        frozenset({"ControlError"}),
        ("HTTP status", "message"),
    ),
)


def messages_page() -> str:
    """Return the page."""
    sections = map(_section, _SECTIONS)
    return "\n".join(
        [_HEAD, _queue_messages(), _settings(), *sections, _listeners(), _browser_messages(), _make_messages()]
    )


def _queue_messages() -> str:
    """Return the details of invalid messages' dead letters: the rule of each field, then the other reasons."""
    rules = [(field.alias or name, field.description or "") for name, field in OutboundMessage.model_fields.items()]
    others = {tuple(texts[0].split(": ", 1)) for texts in _messages((_LAYER,), {"InvalidMessageError"})}
    rows = sorted(row for row in others if len(row) == 2 and not row[1].startswith("<"))
    text = (
        "The `detail` of the dead letter and of the event `SMS Refused`: the field, the rule and the fix. "
        "`optus-sms send --dry-run` shows the same before a message is queued."
    )
    return "\n".join(
        [
            _part("A message that was not sent: `invalid`", text, ("field", "rule"), rules),
            *_table(("field or attribute", "rule and fix"), rows),
            "",
        ]
    )


def _settings() -> str:
    """Return the rules of the functions' environment variables."""
    classes = [each for name, each in vars(settings).items() if name.endswith("Settings") and hasattr(each, "_fields")]
    kinds = [one for each in classes for one in each.__annotations__.items()]
    rules = {(f"`{name.upper()}`", get_args(kind)[1].must_be) for name, kind in kinds}
    text = (
        "A function does not start if a variable is missing or wrong. Its log names each one: *is not set*, or *must "
        "be* and the rule. The template sets them all, so deploy it again."
    )
    return _part("The functions' environment variables", text, ("variable", "must be"), sorted(rules))


def _listeners() -> str:
    """Return what the guards return: the refusals of every listener of the local stack, and those of the page."""
    rows = set()
    for path in (ROOT / "local" / "guard.py", ROOT / "local" / "page" / "guard.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Return(value=ast.Tuple(elts=[status, words])):
                    rows.add((_text(status, {}), _text(words, {})))
                case ast.Return(value=ast.Constant() | ast.JoinedStr() as words):
                    rows.add(("403", _text(words, {})))
    text = "These keep other web pages from the local stack. Only the phone page's server checks token and body."
    return _part("Every listener of make run", text, ("HTTP status", "message"), sorted(r for r in rows if " " in r[1]))


def _browser_messages() -> str:
    """Return the page's own errors: the texts of its constants, and of `Refused` and `notice`."""
    files = [ROOT / "local" / "page" / "static" / name for name in ("app.js", "server.js")]
    script = "".join(file.read_text(encoding="utf-8") for file in files)
    texts = re.findall(
        r"""(?:^(?:export )?const [A-Z_]+ = |Refused\([^"`\n]*|notice\()(["`])(\S+ .+?)\1""", script, re.MULTILINE
    )
    rows = sorted((re.sub(r"\$\{[^}]*?(\w+)\}", r"<\1>", text),) for _, text in texts)
    return _part("The page of make run, in the browser", "The page words these itself.", ("message",), rows)


def _make_messages() -> str:
    """Return the messages of the Makefile's own commands, which are not those of a program that it runs."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = sorted(
        {re.sub(r"\$\((\w+)\)", r"<\1>", words) for words in re.findall(r'(?:\|\||\{) ?\{? ?echo "([^"]+)"', text)}
    )
    return _part(
        "make", "A command ends with one of these, or goes on without a part.", ("message",), [(f,) for f in found]
    )


def _section(section: Section) -> str:
    width = len(section.columns)
    rows = {(*texts, *[""] * width)[:width] for texts in _messages(section.folders, section.errors)}
    rows = {row for row in rows if row[0] not in section.without}
    return _part(section.title, section.text, section.columns, sorted(rows))


def _part(title: str, text: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([f"## {title}\n", f"{text}\n", *_table(columns, rows), ""])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[" ".join(cell.replace("|", "\\|").replace("<", "&lt;").split()) for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *cells]]


def _messages(folders: Sequence[str], errors: AbstractSet[str]) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of these errors' constructors in these folders, as texts."""
    for path in sorted(path for place in folders for path in _files(ROOT / place)):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        everywhere = _named_texts(tree.body)
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            nodes = sorted(ast.walk(function), key=lambda node: getattr(node, "lineno", 0))
            for node in nodes:
                if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in errors:
                    named = everywhere | _named_texts(
                        each for each in nodes if getattr(each, "lineno", 0) < node.lineno
                    )
                    given = [*node.args, *(keyword.value for keyword in node.keywords)]
                    texts = [text for argument in given if (text := _text(argument, named))]
                    own_words = [re.sub("<[^>]*>", "", text) for text in texts]
                    if any(" " in text or text.endswith(".") for text in own_words):  # else it passes another error on
                        if re.fullmatch("`[A-Z_]+`", texts[-1]) and len(texts) == 2:
                            texts.insert(1, "")  # it has no next step
                        yield tuple(texts)


def _files(place: Path) -> list[Path]:
    return [path for path in [place] if path.is_file()] if place.suffix else list(place.rglob("*.py"))


def _named_texts(nodes: Iterable[ast.AST]) -> dict[str, ast.expr]:
    """Return the values that assignments among these nodes name."""
    found: dict[str, ast.expr] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found


def _text(node: ast.expr, named: Mapping[str, ast.expr]) -> str:
    """Return an argument as a template: texts unchanged, an exit code as its name, any other value as `<name>`."""
    match node:
        case ast.Constant(value=str() | int() as value):
            text = str(value)
        case ast.JoinedStr(values=values):
            text = "".join(_text(value, {}) for value in values)
        case ast.BinOp(left=left, right=right, op=ast.Add()):
            text = _text(left, named) + _text(right, named)
        case ast.Attribute(value=ast.Name(id="Exit"), attr=name):
            text = f"`{name}`"
        case ast.Name(id=name) if name in named and not isinstance(named[name], ast.Name):
            text = _text(named[name], {})
        case ast.IfExp(body=body, orelse=other):
            text = " / ".join(filter(None, dict.fromkeys([_text(body, named), _text(other, named)])))
        case ast.FormattedValue(value=value):
            text = f"<{_name(value)}>"
        case _:
            text = f"<{_name(node)}>"
    return text


def _name(node: ast.expr) -> str:
    """Return a value's name, if it means something to a reader."""
    names = re.findall(r"[A-Za-z_]{2,}", ast.unparse(node))
    return names[-1].strip("_").replace("_", " ").lower() if names else "…"


def main() -> None:
    """Write the page."""
    PATH.write_text(messages_page(), encoding="utf-8")
    print(PATH.relative_to(ROOT))


if __name__ == "__main__":
    main()
