"""`.local/sam-template.json`: template.yaml as `sam local` needs it to run the built functions on the running stack.

A separate template is needed, because `sam local` gives a function only the variables that its template declares. The
variables of a local run (`AWS_ENDPOINT_URL`, `GATEWAY_ALLOW_HTTP`) are in no deployed template, so a file for
`--env-vars` can't set them. It also names this machine's processor, because other machines run the default, arm64, only
with an emulator.
"""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from local.aws.stack import LocalStack
from local.guard import CONTAINER_HOST
from local.template import read_template

PATH = Path(".local/sam-template.json")
"""The file's path, in the folder in which `make run` was called; samconfig.toml names it."""
BUILD_FOLDER: Final = Path(".aws-sam/build")
"""The folder that `sam build` makes beside template.yaml."""


def template(stack: LocalStack, machine: str | None = None) -> dict[str, Any]:
    """Return the template for `sam local`: each function with its built folder, variables and this processor."""
    source = stack.config.template_path
    document = read_template(source)
    architecture = "arm64" if (machine or platform.machine()) in ("arm64", "aarch64") else "x86_64"
    document["Globals"]["Function"].pop("Environment", None)
    for logical_id, resource in document["Resources"].items():
        built = str(source.parent / BUILD_FOLDER / logical_id)
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Serverless::LayerVersion":
            properties["ContentUri"] = built
        elif resource["Type"] == "AWS::Serverless::Function":
            properties["CodeUri"] = built
            properties["Architectures"] = [architecture]
            environment = stack.functions[logical_id].config.environment
            properties["Environment"] = {"Variables": _as_seen_from_a_container(environment, stack.host)}
    return document


def _as_seen_from_a_container(environment: Mapping[str, str], host: str) -> dict[str, str]:
    return {name: value.replace(f"//{host}:", f"//{CONTAINER_HOST}:") for name, value in environment.items()}


def as_text(document: Mapping[str, Any]) -> str:
    """Return the file's text."""
    return json.dumps(document, indent=2)
