"""Template and code agree on every function's environment variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from optus_sms.runtime.observability import NAMESPACE
from optus_sms.runtime.settings import read_settings
from tests.support.aws import default_template
from tests.support.settings import SETTINGS

# Read by libraries, and the stack's name by `runtime.observability`; a function's settings don't read them.
READ_ELSEWHERE = {
    "STACK_NAME",
    "POWERTOOLS_SERVICE_NAME",
    "POWERTOOLS_METRICS_NAMESPACE",
    "POWERTOOLS_LOG_LEVEL",
    "PYDANTIC_DISABLE_PLUGINS",
    "AWS_CA_BUNDLE",
    "RES_OPTIONS",
}
# For local runs only: the template never sets it.
NEVER_DEPLOYED = {"GATEWAY_ALLOW_HTTP"}


class Recorder(Mapping[str, str]):
    """An environment that records the names that are read."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.asked: set[str] = set()
        self._values = values

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("settings read variables by name")

    def __len__(self) -> int:
        return len(self._values)


def environments() -> dict[str, dict[str, str]]:
    """Return each function's variables by its logical id, with stand-ins for values that only a deployment has."""
    template = default_template()
    unknown = {name: {"Ref": f"ref-{name}", "Arn": f"arn-{name}"} for name in template.resources}
    found: dict[str, dict[str, str]] = {}
    for function in template.of_type("AWS::Lambda::Function"):
        variables: dict[str, Any] = template.resolve(function.properties["Environment"]["Variables"], unknown)
        found[function.logical_id] = variables
    return found


def test_every_function_has_settings() -> None:
    assert set(environments()) == set(SETTINGS)


@pytest.mark.parametrize("function", SETTINGS)
def test_the_template_sets_exactly_what_is_read(function: str) -> None:
    given = environments()[function]
    recorder = Recorder(given)
    read_settings(SETTINGS[function], recorder)
    assert recorder.asked - NEVER_DEPLOYED <= set(given)
    assert set(given) - recorder.asked <= READ_ELSEWHERE
    assert not NEVER_DEPLOYED & set(given)


@pytest.mark.parametrize("function", SETTINGS)
def test_powertools_gets_the_public_names(function: str) -> None:
    given = environments()[function]
    folder = default_template().resources[function].properties["Code"]["S3Key"]
    assert given["POWERTOOLS_SERVICE_NAME"] == folder.rpartition("/")[2]
    assert given["POWERTOOLS_METRICS_NAMESPACE"] == NAMESPACE
