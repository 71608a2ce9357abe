"""The template that `make run` writes for `sam local`. tests/sam uses it, with Docker."""

import json
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local import private_file, sam_local
from local.aws.stack import LocalStack
from local.guard import CONTAINER_HOST
from local.template import TEMPLATE_PATH, load_template


def test_every_function_is_the_built_one_with_the_addresses_a_container_sees(local_stack: LocalStack) -> None:
    document = sam_local.template(local_stack)

    for name, function in local_stack.functions.items():
        properties = document["Resources"][name]["Properties"]
        variables = properties["Environment"]["Variables"]
        port = urlsplit(local_stack.endpoint_url).port
        assert properties["CodeUri"] == str(TEMPLATE_PATH.parent / ".aws-sam/build" / name)
        assert variables["AWS_ENDPOINT_URL"] == f"http://host.docker.internal:{port}"
        assert variables.keys() == function.config.environment.keys()
        assert [value for value in variables.values() if "127.0.0.1" in value] == []
    layer = document["Resources"]["SharedLayer"]["Properties"]
    assert layer["ContentUri"] == str(TEMPLATE_PATH.parent / ".aws-sam/build/SharedLayer")


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [("arm64", "arm64"), ("aarch64", "arm64"), ("x86_64", "x86_64"), ("AMD64", "x86_64")],
)
def test_functions_have_this_machines_processor(local_stack: LocalStack, machine: str, architecture: str) -> None:
    document = sam_local.template(local_stack, machine)

    for name in local_stack.functions:
        assert document["Resources"][name]["Properties"]["Architectures"] == [architecture]


def test_the_file_is_a_template_and_goes_with_its_stack_only(local_stack: LocalStack, tmp_path: Path) -> None:
    path = tmp_path / ".local/sam-template.json"
    text = sam_local.as_text(sam_local.template(local_stack))
    with private_file.present(path, text):
        assert path.stat().st_mode & 0o777 == 0o600
        functions = {function.logical_id for function in load_template(path).of_type("AWS::Lambda::Function")}
        assert functions == local_stack.functions.keys()
    assert not path.exists()

    with private_file.present(path, text):
        path.write_text("another stack's", encoding="utf-8")
    assert path.exists()


def test_a_file_that_is_there_has_all_its_text_and_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise programs that wait for the file would read an empty one."""
    path, seen = tmp_path / ".local/endpoints.env", list[bool]()
    monkeypatch.setattr(private_file, "_lock", lambda *_: seen.append(path.exists()))
    with private_file.present(path, "all of it"):
        assert seen == [False]
        assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [(path.name, "all of it")]
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("command", ["local_invoke", "local_start_api", "local_start_lambda"])
def test_samconfig_leads_sam_to_it(command: str) -> None:
    settings = tomllib.loads((TEMPLATE_PATH.parent / "samconfig.toml").read_text(encoding="utf-8"))
    parameters = settings["default"][command]["parameters"]

    assert parameters["template_file"] == str(sam_local.PATH)
    assert json.dumps(parameters["add_host"]) == f'["{CONTAINER_HOST}:host-gateway"]'
