"""Compares a CycloneDX list of PyPI packages with a database of known vulnerabilities, without a network.

python -m tools.known_vulnerabilities .aws-sam/sbom.cdx.json [all.zip]      (`make build OSV_DATABASE=all.zip`)

The database is OSV's export for PyPI (https://osv.dev, "Data dumps"): a zip with one JSON document for each.
Without a database it prints a note and succeeds. With one it fails if a vulnerability affects a package.
"""

import json
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version


def packages(sbom: Mapping[str, Any]) -> dict[str, str]:
    """Return each package's version by its normalized name."""
    return {_normalized(component["name"]): component["version"] for component in sbom["components"]}


def known(database: Path, versions: Mapping[str, str]) -> Iterator[str]:
    """Return each vulnerability that affects one of these packages, with its ID."""
    with zipfile.ZipFile(database) as archive:
        for file in archive.namelist():
            entry = json.loads(archive.read(file))
            if "withdrawn" in entry:
                continue
            for affected in entry.get("affected", []):
                package = affected.get("package", {})
                name = _normalized(package.get("name", ""))
                if package.get("ecosystem") == "PyPI" and name in versions and _is_affected(versions[name], affected):
                    yield f"{name} {versions[name]}: {entry['id']} {entry.get('summary', '')}".strip()


def _is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    if version in affected.get("versions", []):
        return True
    ranges = [each["events"] for each in affected.get("ranges", []) if each["type"] == "ECOSYSTEM"]
    return any(_is_within(Version(version), events) for events in ranges)


def _is_within(version: Version, events: list[Mapping[str, str]]) -> bool:
    """Return whether a version is affected: by OSV's events, in any order, from `introduced` to before `fixed`."""
    within = False
    for bound, kind in sorted((_bound(text, kind), kind) for event in events for kind, text in event.items()):
        if kind == "introduced" and version >= bound:
            within = True
        elif (kind == "fixed" and version >= bound) or (kind == "last_affected" and version > bound):
            within = False
    return within


def _bound(text: str, kind: str) -> Version:
    """Return the version of an event; for an invalid one the bound that reports too much rather than too little."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0" if kind == "introduced" else "9999!0")


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(sbom: str, database: str = "") -> int:
    """Print the vulnerabilities; return 1 if there are any."""
    versions = packages(json.loads(Path(sbom).read_text(encoding="utf-8")))
    if not database:
        print(f"{sbom}: {len(versions)} packages, not compared with known vulnerabilities. Set OSV_DATABASE=all.zip.")
        return 0
    found = sorted(set(known(Path(database), versions)))
    print("\n".join(found) or f"{sbom}: no known vulnerability in {len(versions)} packages.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
