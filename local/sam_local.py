"""`.local/sam-template.json`: template.yaml as `sam local` needs it to run the built functions on the running stack.

A template of its own, because `sam local` gives a function only those variables that its template declares: what makes
a run local (`AWS_ENDPOINT_URL`, `GATEWAY_ALLOW_HTTP`) is in no deployed template, so no file for `--env-vars` could set
it. It names this machine's processor too, since the default, arm64, runs on no other without an emulator.
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
"""In the folder in which `make run` was called; samconfig.toml names it."""
BUILD_FOLDER: Final = Path(".aws-sam/build")
"""Beside template.yaml: what `sam build` made."""


def template(stack: LocalStack, machine: str | None = None) -> dict[str, Any]:
    """The template for `sam local`: each function with its built folder, this machine's processor, its variables."""
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
    """As it stands in the file."""
    return json.dumps(document, indent=2)
