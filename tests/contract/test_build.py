"""The result of `sam build`: its parts fit together, and the layer is complete, small and reproducible."""

import ast
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import OperationModel, Shape
from botocore.session import get_session

from layers.shared.trim import OPERATIONS
from local.template import TEMPLATE_PATH, translate
from tests.support.aws import default_template, template_source

ROOT: Final = TEMPLATE_PATH.parent
LAYER: Final = ROOT / "layers" / "shared"
MOST_BYTES: Final = 30_000_000


def makefile_words(path: Path, variable: str) -> list[str]:
    values: list[str] = re.findall(rf"^{variable} *:= *(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return values[0].split()


@pytest.mark.parametrize("path", [LAYER / "Makefile", ROOT / "functions" / "Makefile"], ids=["layer", "functions"])
def test_bytecode_is_for_the_runtime(path: Path) -> None:
    runtimes = {f.properties["Runtime"] for f in default_template().of_type("AWS::Lambda::Function")}

    assert {f"python{version}" for version in makefile_words(path, "VERSION")} == runtimes


def test_layer_describes_just_the_operations_that_are_called() -> None:
    """Every kept operation is called by the package, by its method's name in any service."""
    sources = [path.read_text(encoding="utf-8") for path in (LAYER / "src").rglob("*.py")]
    services = {name for source in sources for name in re.findall(r"""_client\(\s*["']([a-z0-9-]+)["']""", source)}
    nodes = (node for source in sources for node in ast.walk(ast.parse(source)))
    called = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    offered = {
        xform_name(operation): (service, operation)
        for service in OPERATIONS
        for operation in get_session().get_service_model(service).operation_names
    }

    assert services == set(OPERATIONS)
    assert {offered[name] for name in called & offered.keys()} == {
        (service, operation) for service, operations in OPERATIONS.items() for operation in operations
    }


def test_layer_requirements_do_not_depend_on_the_building_machine() -> None:
    """pip would evaluate a marker for the building machine's Python, not for the runtime's."""
    lines = (LAYER / "requirements.txt").read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if ";" in line] == []


def test_every_environment_of_samconfig_can_deploy() -> None:
    settings = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
    environments = {name: section for name, section in settings.items() if name != "version"}

    assert environments.keys() == {"default", "staging", "production"}
    assert len({section["global"]["parameters"]["stack_name"] for section in environments.values()}) == 3
    for section in environments.values():
        deploy = section["deploy"]["parameters"]
        assert (deploy["capabilities"], deploy["resolve_s3"]) == ("CAPABILITY_IAM", True)
        chosen = dict(pair.split("=", 1) for pair in deploy.get("parameter_overrides", "").split())
        translate(template_source(), chosen)


def test_lambdas_user_can_read_what_any_umask_makes(tmp_path: Path) -> None:
    with umask(0o077):
        make = ["make", "--quiet", "--directory", str(ROOT / "functions/send_message"), "--file", "../Makefile"]
        subprocess.run([*make, "build-SendMessageFunction", f"ARTIFACTS_DIR={tmp_path}"], check=True)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_dir()} <= {0o755}


@contextlib.contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.deep
@pytest.mark.timeout(300)  # it downloads the packages of two processors
def test_layer_is_complete_small_and_the_same_each_time(tmp_path: Path) -> None:
    with umask(0o077):  # with it, new files can't be read by Lambda's user
        first = _build(tmp_path / "first")
    second = _build(tmp_path / "second")

    files = sorted(path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file())
    assert _content(first) == _content(second)
    assert [name for name in files if (first / name).stat().st_mode & 0o444 != 0o444] == []
    assert [path for path in first.rglob("*") if path.is_dir() and path.stat().st_mode & 0o555 != 0o555] == []
    assert sum((first / name).stat().st_size for name in files) < MOST_BYTES
    for processor in ("x86_64", "aarch64"):
        assert f"python/pydantic_core/_pydantic_core.cpython-313-{processor}-linux-gnu.so" in files
    assert "python/optus_sms/flows/send_message.py" in files
    assert not [name for name in files if "yaml" in name]
    assert (first / Path(_aws_ca_bundle()).name).read_text(encoding="utf-8").count("BEGIN CERTIFICATE") == 5
    _each_operation_can_be_called(first / "python")
    roots = [name for name in files if re.fullmatch(r"python/certifi/roots/[0-9a-f]{8}\.\d+", name)]
    assert len(roots) > 100
    bytecode = {re.search(r"\.(cpython-\d+)\.pyc$", name) for name in files if name.endswith(".pyc")}
    assert {match and match[1] for match in bytecode} <= {"cpython-313"}


@pytest.mark.deep
@pytest.mark.timeout(300)
def test_sam_build_is_silent_repeatable_and_lacks_only_what_absent_commands_make(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for folder in ("functions", "layers"):
        shutil.copytree(ROOT / folder, source / folder)
    shutil.copy(ROOT / "template.yaml", source)
    (source / "layers/shared/src/optus_sms/.DS_Store").touch()  # macOS's Finder makes such files
    first, words = _sam_build(source, tmp_path / "arm64", "arm64")
    again, other_words = _sam_build(source, tmp_path / "x86_64", "x86_64", f"python{_version()}", "openssl")

    assert "without bytecode" in other_words
    assert "No usable openssl" in other_words
    assert "warn" not in (words + other_words).lower()
    compiled = {name for name in first if name.endswith(".pyc")}
    roots = {name for name in first if "/certifi/roots/" in name}
    assert {name: digest for name, digest in first.items() if name not in compiled | roots} == again
    for function in default_template().of_type("AWS::Lambda::Function"):
        own = {name for name in first if name.startswith(f"{function.logical_id}/")}
        assert own - compiled == {f"{function.logical_id}/app.py"}
        assert bool(own & compiled) == ("without bytecode" not in words)
    unwanted = re.compile(r"(^|/)(tests?|bin|[^/]+\.dist-info)/|\.pyi$|\.DS_Store$")
    assert [name for name in first if unwanted.search(name)] == []


def test_functions_trust_aws_by_what_the_layer_brings() -> None:
    assert _aws_ca_bundle() == f"/opt/{' '.join(makefile_words(LAYER / 'Makefile', 'ROOTS'))}"


def _aws_ca_bundle() -> str:
    (path,) = {
        function.properties["Environment"]["Variables"]["AWS_CA_BUNDLE"]
        for function in default_template().of_type("AWS::Lambda::Function")
    }
    return str(path)


def _each_operation_can_be_called(packages: Path) -> None:
    """The layer's descriptions give the same requests as botocore's full ones."""
    whole, kept = get_session(), get_session()
    described = [str(packages / "botocore" / "data")]
    kept.register_component("data_loader", Loader(described, include_default_search_paths=False))
    for service, operations in OPERATIONS.items():
        models = [session.get_service_model(service) for session in (whole, kept)]
        assert set(models[1].operation_names) == operations
        for operation in operations:
            shapes = [_outline(model.operation_model(operation)) for model in models]
            assert shapes[0] == shapes[1]


def _outline(operation: OperationModel) -> object:
    """Return an operation's description without documentation."""

    def of(shape: Shape | None, above: tuple[str, ...] = ()) -> object:
        if shape is None or shape.name in above:
            return shape and shape.name
        inner = (*above, shape.name)
        members = getattr(shape, "members", {}) | {
            name: getattr(shape, name) for name in ("member", "key", "value") if hasattr(shape, name)
        }
        return (
            shape.name,
            shape.type_name,
            shape.serialization,
            shape.metadata,
            {name: of(one, inner) for name, one in members.items()},
        )

    errors = [of(shape) for shape in operation.error_shapes]
    return operation.http, of(operation.input_shape), of(operation.output_shape), errors, operation.metadata


def _version() -> str:
    return makefile_words(LAYER / "Makefile", "VERSION")[0]


def _sam_build(source: Path, folder: Path, architecture: str, *without: str) -> tuple[dict[str, str], str]:
    """Run `sam build`, and return its result and output; `without`: commands that the machine lacks."""
    hidden = folder / "hidden"
    hidden.mkdir(parents=True)
    for command_name in without:
        (hidden / command_name).write_text("#!/bin/sh\nexit 127\n", encoding="utf-8")
        (hidden / command_name).chmod(0o755)
    sam = Path(sys.executable).with_name("sam")
    path = os.pathsep.join([str(hidden), str(sam.parent), os.environ["PATH"]])
    command = [str(sam), "build", "--build-dir", str(folder / "build"), "--parameter-overrides"]
    result = subprocess.run(
        [*command, f"Architecture={architecture}"],
        cwd=source,
        env={**os.environ, "PATH": path, "SAM_CLI_TELEMETRY": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    content = {name: digest for name, digest in _content(folder / "build").items() if name != "template.yaml"}
    return content, result.stdout + result.stderr


def _build(folder: Path) -> Path:
    """Build as `sam build` does, in a copy of the folder and with ARTIFACTS_DIR."""
    source, artifacts = folder / "source", folder / "artifacts"
    shutil.copytree(LAYER, source)
    artifacts.mkdir()
    environment = {**os.environ, "ARTIFACTS_DIR": str(artifacts)}
    subprocess.run(["make", "build-SharedLayer"], cwd=source, env=environment, check=True, capture_output=True)
    return artifacts


def _content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_list_of_packages_is_what_the_layer_installs(tmp_path: Path) -> None:
    """It is made as in `make build`; the tool itself is not in it."""
    requirements, written = LAYER / "requirements.txt", tmp_path / "sbom.cdx.json"
    (line,) = re.findall(
        r"cyclonedx-py (requirements .*)--output-file", (ROOT / "Makefile").read_text(encoding="utf-8")
    )
    tool = Path(sys.executable).with_name("cyclonedx-py")
    subprocess.run(
        [tool, *line.split(), "--output-file", written],
        cwd=ROOT,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )

    components = json.loads(written.read_text(encoding="utf-8"))["components"]
    locked = re.findall(r"^([\w.-]+)==([\w.]+)", requirements.read_text(encoding="utf-8"), re.MULTILINE)

    assert [(each["name"], each["version"]) for each in components] == sorted(locked)
    assert all(reference["hashes"] for each in components for reference in each["externalReferences"])
    assert "cyclonedx-bom" not in dict(locked)
