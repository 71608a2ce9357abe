"""The commands in the docs exist, and so do their resources, outputs and logs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.session import Session

from cli.timeline import _WORDS as WORDS
from optus_sms.gateway.api import CLASSIFICATION
from optus_sms.runtime.observability import Metric
from tests.contract.test_template import alarm_metrics
from tests.support.aws import default_template

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGES: Final = [DOCS / name for name in ("runbook.md", "privacy.md")]
# Options of the AWS CLI itself.
CLI_OPTIONS: Final = {"query", "output", "region", "profile", "max-items"}


def shell_lines(page: Path) -> list[str]:
    """Return the lines of every sh block and every inline `aws …`, with continuation lines joined."""
    text = page.read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"`(aws [^`]+)`", text)
    joined = "\n".join([*blocks, *inline]).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip()]


def aws_commands(page: Path) -> list[tuple[str, str, list[str]]]:
    """Return service, operation and options of every AWS CLI call, including nested ones."""
    found = []
    for line in shell_lines(page):
        for match in re.finditer(r"\baws ([a-z-]+) ([a-z][a-z-]+)\b([^|;]*)", line):
            options = re.findall(r"(?<=\s)--([a-z][a-z-]*)", match[3].split("$(aws")[0])
            found.append((match[1], match[2], options))
    return found


COMMANDS: Final = [
    pytest.param(*command, id=f"{page.stem} {command[0]} {command[1]}")
    for page in PAGES
    for command in dict.fromkeys((s, o, tuple(options)) for s, o, options in aws_commands(page))
]


@pytest.mark.parametrize(("service", "operation", "options"), COMMANDS)
def test_each_command_exists_with_its_options(service: str, operation: str, options: tuple[str, ...]) -> None:
    model = Session().get_service_model(service)
    operations = {_dashed(name): name for name in model.operation_names}

    assert operation in operations
    shape = model.operation_model(operations[operation]).input_shape
    members = {_dashed(name) for name in (shape.members if shape else {})}
    flags = {f"no-{name}" for name in members}
    assert set(options) <= members | flags | CLI_OPTIONS


def _dashed(name: str) -> str:
    """Return a name in the AWS CLI's form: `GetItem` as get-item, `logGroupName` as log-group-name, `UUID` as uuid."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_outputs_resources_and_logs_exist(page: Path) -> None:
    template, text = default_template(), page.read_text()
    named = set(re.findall(r"\bout ([A-Z]\w+)", text))
    resources = set(re.findall(r"\bres ([A-Z]\w+)", text))
    logs = {f"{name}LogGroup" for name in re.findall(r"optus-sms logs ([A-Z]\w+)", text)}

    assert named <= template.outputs.keys()
    assert resources | logs <= template.resources.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_line_is_one_that_a_shell_can_read(page: Path) -> None:
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
        shlex.split(block, comments=True)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s:]*)(?:#([\w'’-]+))?\)", page.read_text()):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{target}#{anchor}"


# The SAM CLI, and costs


ROOT: Final = DOCS.parent
SAM_PAGES: Final = [ROOT / "README.md", ROOT / "samconfig.toml", *sorted(DOCS.rglob("*.md"))]


def sam_commands(page: Path) -> Iterator[list[str]]:
    """Return every `sam …` with an option, in a block or inline, split as by a shell, without the word `sam`."""
    text = page.read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    code = "\n".join([*blocks, *re.findall(r"`(sam [^`\n]+)`", text)]).replace("\\\n", " ")
    lines = [line for line in code.splitlines() if re.search(r"(?:^|&& )\s*sam ", line)]
    for words in (shlex.split(line, comments=True) for line in lines):
        start = max(at for at, word in enumerate(words) if word == "sam")
        if any(word.startswith("-") for word in words[start:]):
            yield [word for word in words[start + 1 :] if word != "…"]


@cache
def as_sam_reads_them() -> dict[str, Any]:
    """Return the options of every command on every page, or SAM's error text."""
    commands = [words for page in SAM_PAGES for words in sam_commands(page)]
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.support.sam_options"],
        input=json.dumps(commands), check=True, capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"SAM_CLI_TELEMETRY": "0", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return dict(zip(map(shlex.join, commands), json.loads(ran.stdout), strict=True))


def test_the_locked_sam_cli_takes_every_command_and_drops_no_parameter() -> None:
    """SAM refuses a single `Name=`, and after another parameter drops it silently."""
    read = as_sam_reads_them()
    assert {command: options for command, options in read.items() if isinstance(options, str)} == {}
    known = {*default_template().parameters, "Name"}
    for command, options in read.items():
        after = command.partition("--parameter-overrides ")[2]
        if not after:
            continue
        written = set(re.findall(r"\b([A-Z]\w+)=", after))
        taken = set(options.get("parameter_overrides", {}))
        assert written == taken <= known, command
    assert len(read) > 8


def test_the_oldest_sam_cli_on_the_page_is_the_oldest_that_is_locked_in() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    floor = dict(each.split(">=") for each in project["dependency-groups"]["deploy"])["aws-sam-cli"]
    assert f"a SAM CLI of your own: {floor} or newer" in (DOCS / "deploy.md").read_text()


def test_the_costs_add_up_and_count_every_metric_that_an_alarm_watches() -> None:
    text = (DOCS / "deploy.md").read_text().partition("## What it costs")[2]
    alarms = list(default_template().of_type("AWS::CloudWatch::Alarm"))
    watched = sum(len(alarm_metrics(alarm)) for alarm in alarms)
    assert f"| {len(alarms)} alarms watch {watched} metrics: {watched} × 0.10 " in text
    named = re.findall(r"aws:dynamodb:tableName: (.*)", (DOCS.parent / "template.yaml").read_text())
    assert f"for each table and function: {sum(each.count('!Ref') for each in named)} × 8,640 " in text
    tables = re.findall(r"\| item \|.*?\n((?:\|.*\n)+)", text)
    assert len(tables) == 2
    for table in tables:
        *items, together = [row.strip("| ").split("|")[-1].strip(" *") for row in table.splitlines()[1:]]
        assert sum(map(float, items)) == pytest.approx(float(together)), together
        assert together in (DOCS / "scale.md").read_text()
    shares = (DOCS / "scale.md").read_text().partition("## Cost of a million messages")[2]
    sums = [float(usd) for usd in re.findall(r"^\| (?!\*).*?\| (\d+\.\d\d) \|", shares, re.MULTILINE)]
    assert sum(sums) == pytest.approx(float(together))


def test_the_architecture_names_every_module_of_the_layer() -> None:
    text = (DOCS / "architecture.md").read_text().partition("## The code")[2].partition("\n## ")[0]
    modules = DOCS.parent.glob("layers/shared/src/optus_sms/*/*.py")
    assert [path.stem for path in modules if f"`{path.stem}`" not in text and path.stem != "__init__"] == []


def test_the_runbook_explains_every_metric() -> None:
    text = (DOCS / "runbook.md").read_text().partition("## Metrics")[2].partition("\n## ")[0]
    assert [metric.value for metric in Metric if f"`{metric}`" not in text] == []


def test_the_failure_words_of_the_runbook_are_those_of_the_code() -> None:
    text = (DOCS / "runbook.md").read_text().partition("### Gateway errors\n")[2].partition("\n### ")[0]
    words = set(re.findall(r"`([a-z]+_[a-z_]+|throttled)(?: \(status \d+\))?`", text))
    known = {row.reason for row in CLASSIFICATION} | WORDS.keys()
    assert len(words) > 8
    assert words <= known


def commands_with_a_secret(text: str) -> list[str]:
    """Return lines with a password or a secret's value as a command's argument, which histories and `ps` would show."""
    among = re.compile(r"--secret-string(?! file:///dev/stdin)|\bcurl\b.*(?: -u\b| --user\b|PASSWORD)")
    return [line for line in text.splitlines() if among.search(line)]


@pytest.mark.parametrize(
    "path",
    [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md")), *sorted(DOCS.parent.glob("local/*.py")),
     *sorted(DOCS.parent.glob("cli/**/*.py"))],
    ids=lambda path: path.stem,
)  # fmt: skip
def test_no_command_has_a_secret_among_its_arguments(path: Path) -> None:
    text = re.sub(r"\\+\n\s*", "", path.read_text())
    assert commands_with_a_secret(text) == []


@pytest.mark.parametrize(
    "line",
    [
        """aws secretsmanager put-secret-value --secret-id x --secret-string '{"password": "p"}'""",
        'curl -i -u gateway:PASSWORD "$URL"',
        'curl "https://u:$CALLBACK_PASSWORD@host/"',
    ],
)
def test_such_a_command_would_be_found(line: str) -> None:
    assert commands_with_a_secret(line) == [line]
