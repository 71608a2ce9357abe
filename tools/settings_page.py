"""Writes docs/settings.md: every parameter of template.yaml, with its default, values and effect.

python -m tools.settings_page      (`make schemas`; a test fails when the page is not up to date)
"""

from collections.abc import Mapping
from typing import Any, Final

from local.template import TEMPLATE_PATH, read_template

PATH: Final = TEMPLATE_PATH.parent / "docs" / "settings.md"
_HEAD: Final = """# Settings

The parameters of the stack. Each has a default that works. Set them with `sam deploy --parameter-overrides
Name=value …`, which replaces the list in `samconfig.toml`. A deployed stack keeps the values of parameters that you
don't name. [deploy.md](deploy.md) lists those that a production stack should set. `make schemas` writes this page from
template.yaml.
"""


def settings_page(template: Mapping[str, Any]) -> str:
    """Return the page: a table for each group of parameters, in the order of the template's metadata."""
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    parameters = template["Parameters"]
    parts = [_HEAD]
    for group in interface["ParameterGroups"]:
        rows = [_row(name, parameters[name]) for name in group["Parameters"]]
        head = ["| parameter | default | values | what it does |", "|---|---|---|---|"]
        parts.append("\n".join([f"## {group['Label']['default']}", "", *head, *rows]) + "\n")
    return "\n".join(parts)


def _row(name: str, parameter: Mapping[str, Any]) -> str:
    default = f"`{parameter['Default']}`" if parameter["Default"] != "" else "empty"
    values = str(parameter["ConstraintDescription"])
    text = " ".join(str(parameter["Description"]).split())
    return f"| `{name}` | {default} | {_escaped(values)} | {_escaped(text)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Write the page."""
    PATH.write_text(settings_page(read_template()), encoding="utf-8")
    print(PATH.relative_to(TEMPLATE_PATH.parent))


if __name__ == "__main__":
    main()
