"""Runs checkov on the translated template and compares its findings with tools/accepted_findings.toml.

python -m tools.template_findings [write]      (`make check`; `make security` writes docs/security.md)

The template is translated because checkov ignores conditions: once with every default, once with every parameter for
organizations.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from local.template import TEMPLATE_PATH, Template, load_template

ROOT: Final = TEMPLATE_PATH.parent
CHECKOV: Final = ROOT / ".checkov" / "bin" / "checkov"
ACCEPTED: Final = ROOT / "tools" / "accepted_findings.toml"
PAGE: Final = ROOT / "docs" / "security.md"
CHOSEN: Final = {
    "KmsKeyArn": "arn:aws:kms:ap-southeast-2:123456789012:key/0a1b2c3d",
    "PermissionsBoundaryArn": "arn:aws:iam::123456789012:policy/boundary",
    "CallbackSourceCidrs": "203.0.113.0/24",
    "WebAclArn": "arn:aws:wafv2:ap-southeast-2:123456789012:regional/webacl/callbacks/0a1b",
    "Tracing": "active",
    "AlarmEmail": "operator@example.com",
    "SubnetIds": "subnet-0123abcd",
    "SecurityGroupIds": "sg-0123abcd",
    "LogRetentionDays": "365",
}
STACKS: Final[Mapping[str, Mapping[str, str]]] = {"default": {}, "chosen": CHOSEN}


@dataclass(frozen=True)
class TemplateFinding:
    """A failed check of checkov, with the resources of each stack."""

    id: str
    title: str
    resources: Mapping[str, tuple[str, ...]]

    @property
    def when(self) -> str:
        """Return the stacks that have it: always, default or chosen."""
        return "always" if set(self.resources) == set(STACKS) else next(iter(self.resources))


def scan(stacks: Mapping[str, Template]) -> list[TemplateFinding]:
    """Return checkov's findings for these stacks, by ID."""
    with tempfile.TemporaryDirectory() as folder:
        for name, stack in stacks.items():
            (Path(folder) / f"{name}.json").write_text(json.dumps(as_deployed(stack)), encoding="utf-8")
        options = ("--framework=cloudformation", "--compact", "--quiet", "--skip-download", "--output=json")
        # Its exit code is 1 if there are findings.
        ran = subprocess.run([CHECKOV, "-d", folder, *options], check=False, stdout=subprocess.PIPE, text=True)
    return findings(json.loads(ran.stdout)["results"]["failed_checks"])


def as_deployed(stack: Template) -> dict[str, Any]:
    """Return the stack as a template without parameters and conditions."""
    resources = {name: {"Type": one.type, "Properties": one.properties} for name, one in stack.resources.items()}
    return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}


def findings(failed: list[Mapping[str, Any]]) -> list[TemplateFinding]:
    """Group checkov's failed checks by ID."""
    titles = {check["check_id"]: check["check_name"] for check in failed}
    found = []
    for identifier in sorted(titles):
        resources: dict[str, tuple[str, ...]] = {}
        for name in STACKS:
            if hit := sorted(
                check["resource"].rpartition(".")[2]
                for check in failed
                if check["check_id"] == identifier and Path(check["file_path"]).stem == name
            ):
                resources[name] = tuple(hit)
        found.append(TemplateFinding(identifier, titles[identifier], resources))
    return found


def problems(found: list[TemplateFinding], accepted: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Return new findings, and accepted ones that no longer exist."""
    for each in found:
        if each.id not in accepted:
            places = sorted({name for names in each.resources.values() for name in names})
            yield f"{each.id} is new: {each.title} ({', '.join(places)}). Mend it, or accept it with the reason."
        elif accepted[each.id]["when"] != each.when:
            yield f"{each.id} is found {each.when}, and accepted {accepted[each.id]['when']}."
    yield from (f"{name} is not found any more." for name in accepted if name not in {each.id for each in found})


def page(found: list[TemplateFinding], document: Mapping[str, Any]) -> str:
    """Return docs/security.md."""
    rows = [
        " | ".join(
            [
                f"| {each.id}",
                each.title,
                *(str(len(each.resources.get(name, ()))) for name in STACKS),
                f"{document['checkov'][each.id]['answer']} |",
            ]
        )
        for each in found
    ]
    hub = [f"| {control} | {answer} |" for control, answer in document["security_hub"].items()]
    return "\n".join([_HEAD, *rows, _SECURITY_HUB, *hub, ""])


_HEAD: Final = """# What security scanners report

Scanners compare a stack with general rules. This page has each finding on this stack, with the parameter that ends it
or the reason why it stays. `make check` runs [checkov](https://www.checkov.io/) and fails for a finding that is not
here; `make security` writes the page. Threats, secrets and supply chain: [SECURITY.md](../SECURITY.md).

## checkov

The numbers are those of the resources with the finding: with every default, and with the parameters for organizations
([deploy.md](deploy.md#if-your-organization-has-rules)) in a VPC.

| check | title | default | chosen | fix or reason |
|---|---|---|---|---|"""
_SECURITY_HUB: Final = """
## AWS Security Hub and AWS Config

Controls for which checkov has no check. They are from AWS's list of controls, not from a run.

| control | fix or reason |
|---|---|"""


def main(write: str = "") -> int:
    """Compare, or write the page; return 1 if the findings differ."""
    document = tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))
    found = scan({name: load_template(parameters=parameters) for name, parameters in STACKS.items()})
    wrong = list(problems(found, document["checkov"]))
    if not wrong and write:
        PAGE.write_text(page(found, document), encoding="utf-8")
    elif not wrong and PAGE.read_text(encoding="utf-8") != page(found, document):
        wrong = ["docs/security.md is not up to date: make security"]
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
