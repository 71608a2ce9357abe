"""The layer's packages are compared with a database of known vulnerabilities."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tools.known_vulnerabilities import main

EVENTS = [{"introduced": "1.0"}, {"fixed": "1.5"}, {"introduced": "2.0"}]
RANGE = {"type": "ECOSYSTEM", "events": EVENTS}


def files(folder: Path, version: str, **entry: Any) -> tuple[str, str]:
    """A list with one package, and a database with one vulnerability of it."""
    sbom, database = folder / "sbom.json", folder / "all.zip"
    sbom.write_text(json.dumps({"components": [{"name": "Some_Package", "version": version}]}))
    affected = {"package": {"ecosystem": "PyPI", "name": "some-package"}, **entry.pop("affected", {})}
    with zipfile.ZipFile(database, "w") as archive:
        archive.writestr("PYSEC-1.json", json.dumps({"id": "PYSEC-1", "affected": [affected], **entry}))
    return str(sbom), str(database)


@pytest.mark.parametrize(
    ("version", "affected", "code"),
    [
        ("1.2", {"versions": ["1.1", "1.2"]}, 1),
        ("1.3", {"versions": ["1.1", "1.2"]}, 0),
        ("0.9", {"ranges": [RANGE]}, 0),
        ("1.0", {"ranges": [RANGE]}, 1),
        ("1.10", {"ranges": [RANGE]}, 0),
        ("1.5", {"ranges": [RANGE]}, 0),
        ("2.1", {"ranges": [RANGE]}, 1),
        ("1.2", {"ranges": [{**RANGE, "type": "GIT"}]}, 0),
        ("1.2", {"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"last_affected": "1.2"}]}]}, 1),
        ("1.3", {"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"last_affected": "1.2"}]}]}, 0),
        ("1.6", {"ranges": [{"type": "ECOSYSTEM", "events": EVENTS[::-1]}]}, 0),
        ("2.1", {"ranges": [{"type": "ECOSYSTEM", "events": [EVENTS[2], *EVENTS[:2]]}]}, 1),
        ("1.2", {"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.5-old"}]}]}, 1),
        ("1.2", {"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "old-1"}, {"fixed": "1.5"}]}]}, 1),
        ("1.2", {"package": {"ecosystem": "npm", "name": "some-package"}, "versions": ["1.2"]}, 0),
        ("1.2", {"package": {"ecosystem": "PyPI", "name": "another"}, "versions": ["1.2"]}, 0),
    ],
)
def test_a_version_is_found_exactly_if_it_is_affected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str, affected: dict[str, Any], code: int
) -> None:
    assert main(*files(tmp_path, version, affected=affected)) == code
    assert ("PYSEC-1" in capsys.readouterr().out) is (code == 1)


def test_a_withdrawn_one_does_not_count(tmp_path: Path) -> None:
    assert main(*files(tmp_path, "1.2", affected={"versions": ["1.2"]}, withdrawn="2026-01-01T00:00:00Z")) == 0


def test_without_a_database_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sbom, _ = files(tmp_path, "1.2")
    assert main(sbom) == 0
    assert "not compared" in capsys.readouterr().out
