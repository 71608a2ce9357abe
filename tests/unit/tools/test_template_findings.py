"""The scan of the template reports new and obsolete findings, and no accepted ones."""

import tomllib
from collections.abc import Mapping

import pytest

from local.template import load_template, translate
from tests.support.aws import template_source
from tests.support.broken_templates import Mistake, with_mistake
from tools.template_findings import (
    ACCEPTED,
    CHECKOV,
    STACKS,
    TemplateFinding,
    as_deployed,
    findings,
    problems,
    scan,
)

ALWAYS = TemplateFinding("CKV_1", "Encrypt", {"default": ("Queue",), "chosen": ("Queue",)})


def failed(stack: str, resource: str = "AWS::SQS::Queue.Queue") -> dict[str, str]:
    return {"check_id": "CKV_1", "check_name": "Encrypt", "file_path": f"/{stack}.json", "resource": resource}


def test_findings_are_grouped_by_check_and_stack() -> None:
    assert findings([failed("chosen"), failed("default")]) == [ALWAYS]
    assert [each.when for each in findings([failed("default")])] == ["default"]


@pytest.mark.parametrize(
    ("accepted", "wrong"),
    [
        ({"CKV_1": {"when": "always"}}, []),
        ({}, ["CKV_1 is new"]),
        ({"CKV_1": {"when": "default"}}, ["CKV_1 is found always"]),
        ({"CKV_1": {"when": "always"}, "CKV_2": {"when": "always"}}, ["CKV_2 is not found"]),
    ],
)
def test_what_is_new_or_gone_is_told(accepted: Mapping[str, Mapping[str, str]], wrong: list[str]) -> None:
    told = list(problems([ALWAYS], accepted))
    assert [line.startswith(start) for line, start in zip(told, wrong, strict=True)] == [True] * len(wrong)


@pytest.mark.skipif(not CHECKOV.exists(), reason="needs checkov: `make check` installs it")
def test_a_mistake_in_the_template_is_a_new_finding() -> None:
    mistake = Mistake("Resources/MessagesTable/Properties/PointInTimeRecoverySpecification")
    found = scan({"default": translate(with_mistake(template_source(), mistake), {})})
    accepted = tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))["checkov"]
    assert [line for line in problems(found, accepted) if "is new" in line and "(MessagesTable)" in line]


@pytest.mark.parametrize("name", STACKS)
def test_what_is_scanned_has_every_resource_and_no_condition(name: str) -> None:
    stack = load_template(parameters=STACKS[name])
    document = as_deployed(stack)
    assert document["Resources"].keys() == stack.resources.keys()
    assert "Fn::If" not in str(document)
