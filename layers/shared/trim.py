"""Removes from the layer the files that no function reads; `make build-SharedLayer` runs it, on Python 3.9 or newer.

    python3 trim.py PACKAGES ROOTS

PACKAGES: the folder of installed packages, changed in place. ROOTS: the file for Amazon's root certificates.
Reasons and figures: docs/decisions/boto3-in-the-layer.md and amazons-roots.md.
"""

import contextlib
import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

OPERATIONS = {
    "cloudwatch": {"GetMetricData"},
    "dynamodb": {"GetItem", "PutItem", "Query", "Scan", "UpdateItem"},
    "events": {"PutEvents"},
    "lambda": {"GetEventSourceMapping", "UpdateEventSourceMapping"},
    "secretsmanager": {"GetSecretValue"},
    "sqs": {"ChangeMessageVisibility", "SendMessage"},
}
"""The operations that the functions call, by service, of 400. Each new client reads its service's whole file."""

FOLDERS = (
    "bin",
    "boto3/data",  # resource descriptions
    "boto3/examples",
    "aws_lambda_powertools/event_handler",  # a third of Powertools; unused, as two routes need no router
)
PATTERNS = (
    "*.dist-info",  # read only by look-ups of plug-ins and versions
    "**/__pycache__",
    "**/tests",
    "**/*.pyi",
    "**/.DS_Store",
    ".lock",
)

AMAZONS_ROOTS = (  # www.amazontrust.com/repository asks clients with their own trust store to include all five
    "Amazon Root CA 1",
    "Amazon Root CA 2",
    "Amazon Root CA 3",
    "Amazon Root CA 4",
    "Starfield Services Root Certificate Authority - G2",
)

ISRG_ROOT_X1 = "4042bcee.0"
"""The name of one root in a folder, by the hash that OpenSSL has used since 1.0. By other names it finds no root."""


def trim(packages: Path, roots: Path) -> None:
    """Trim the packages and write the root certificates. Raise SystemExit if a package's content is not as expected."""
    for path in [packages / name for name in FOLDERS] + [path for name in PATTERNS for path in packages.glob(name)]:
        _remove(path)
    data = packages / "botocore" / "data"
    for folder in [path for path in data.iterdir() if path.is_dir()]:
        if folder.name in OPERATIONS:
            _keep_operations(folder, OPERATIONS[folder.name])
        else:
            _remove(folder)
    _keep_endpoints(data / "endpoints.json")
    bundle = packages / "certifi" / "cacert.pem"
    roots.write_text(amazons_roots(bundle.read_text(encoding="utf-8")), encoding="utf-8")
    folder = packages / "certifi" / "roots"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        split_roots(bundle.read_text(encoding="utf-8"), folder)
    if not (folder / ISRG_ROOT_X1).exists():
        shutil.rmtree(folder, ignore_errors=True)
        print("No usable openssl here: each cold start reads all root certificates, which costs 16 ms of CPU more.")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _keep_operations(service: Path, wanted: set[str]) -> None:
    """Trim a service to the newest version of its interface, without other operations and without examples."""
    *older, newest = sorted(path for path in service.iterdir() if path.is_dir())
    for path in [*older, *newest.glob("examples-*"), *newest.glob("waiters-*")]:
        _remove(path)
    packed = newest / "service-2.json.gz"
    model = reduced(json.loads(gzip.decompress(packed.read_bytes())), wanted)
    (newest / "service-2.json").write_text(json.dumps(model, separators=(",", ":")), encoding="utf-8")
    packed.unlink()


def reduced(model: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
    """Return a description of a service with these operations, the shapes they use, and no documentation."""
    missing = wanted - model["operations"].keys()
    if missing:
        raise SystemExit(f"botocore has no operation {', '.join(sorted(missing))} any more; see OPERATIONS in trim.py")
    operations = {name: model["operations"][name] for name in sorted(wanted)}
    used, left = set[str](), _shapes_in(operations)
    while left:
        name = left.pop()
        if name not in used:
            used.add(name)
            left += _shapes_in(model["shapes"][name])
    shapes = {name: shape for name, shape in model["shapes"].items() if name in used}
    trimmed: dict[str, Any] = _undocumented({**model, "operations": operations, "shapes": shapes})
    return trimmed


def _shapes_in(value: object) -> list[str]:
    if isinstance(value, list):
        return [name for item in value for name in _shapes_in(item)]
    if not isinstance(value, dict):
        return []
    own = [value["shape"]] if isinstance(value.get("shape"), str) else []
    return own + [name for item in value.values() for name in _shapes_in(item)]


def _undocumented(value: Any) -> Any:
    if isinstance(value, list):
        return [_undocumented(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _undocumented(item)
        for name, item in value.items()
        if not (name in ("documentation", "documentationUrl") and isinstance(item, str))
    }


def _keep_endpoints(path: Path) -> None:
    """Trim the endpoints to the called services, because the first client of a process reads the whole file."""
    endpoints = json.loads(path.read_text(encoding="utf-8"))
    for partition in endpoints["partitions"]:
        partition["services"] = {name: one for name, one in partition["services"].items() if name in OPERATIONS}
    path.write_text(json.dumps(endpoints), encoding="utf-8")


def amazons_roots(bundle: str) -> str:
    """Return Amazon's root certificates from certifi's bundle; each block has the certificate's name before it."""
    blocks = re.findall(r"# Issuer.*?-----END CERTIFICATE-----\n", bundle, re.DOTALL)
    by_name = {name: block for block in blocks for name in re.findall(r'# Label: "(.*)"\n', block)}
    missing = [name for name in AMAZONS_ROOTS if name not in by_name]
    if missing:
        raise SystemExit(
            f"certifi has no certificate called {', '.join(missing)} any more; see AMAZONS_ROOTS in trim.py"
        )
    return "".join(by_name[name] for name in AMAZONS_ROOTS)


def split_roots(bundle: str, folder: Path) -> None:
    """Write each root certificate to a file of its own, under the name by which OpenSSL looks it up in a folder.

    The name is a hash of the certificate's subject; certificates of one subject are numbered. Raise OSError or
    CalledProcessError if the command `openssl` is missing or fails.
    """
    folder.mkdir(exist_ok=True)
    for block in re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", bundle, re.DOTALL):
        command = ("openssl", "x509", "-noout", "-subject_hash")
        subject = subprocess.run(command, input=block, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        number = len(list(folder.glob(f"{subject}.*")))
        (folder / f"{subject}.{number}").write_text(block, encoding="utf-8")


if __name__ == "__main__":
    trim(Path(sys.argv[1]), Path(sys.argv[2]))
