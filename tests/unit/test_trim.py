"""The layer leaves out only files that no function reads, and fails if such a file was renamed."""

from __future__ import annotations

import json
from pathlib import Path

import certifi
import pytest

from layers.shared.trim import AMAZONS_ROOTS, amazons_roots, reduced, trim

MODEL = {
    "metadata": {"protocol": "json"},
    "operations": {
        "Keep": {
            "name": "Keep",
            "input": {"shape": "Request"},
            "output": {"shape": "Tree"},
            "errors": [{"shape": "Refused", "documentation": "<p>no</p>"}],
            "documentation": "<p>It keeps.</p>",
        },
        "Drop": {"name": "Drop", "input": {"shape": "Other"}},
    },
    "shapes": {
        "Request": {"type": "structure", "members": {"documentation": {"shape": "Text"}, "List": {"shape": "Texts"}}},
        "Texts": {"type": "list", "member": {"shape": "Text", "documentation": "<p>one</p>"}},
        "Tree": {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Tree"}},
        "Text": {"type": "string"},
        "Refused": {"type": "structure", "members": {}, "exception": True},
        "Other": {"type": "structure", "members": {"Only": {"shape": "Lonely"}}},
        "Lonely": {"type": "string"},
    },
    "documentation": "<p>A service.</p>",
}


def test_an_operation_keeps_every_shape_that_it_uses() -> None:
    model = reduced(MODEL, {"Keep"})
    assert set(model["operations"]) == {"Keep"}
    assert set(model["shapes"]) == {"Request", "Texts", "Tree", "Text", "Refused"}
    assert model["metadata"] == {"protocol": "json"}


def test_documentation_goes_but_not_a_member_of_that_name() -> None:
    model = reduced(MODEL, {"Keep"})
    assert "<p>" not in json.dumps(model)
    assert model["shapes"]["Request"]["members"]["documentation"] == {"shape": "Text"}


def test_an_operation_that_is_no_more_stops_the_build() -> None:
    with pytest.raises(SystemExit, match="no operation Gone any more"):
        reduced(MODEL, {"Keep", "Gone"})


def test_amazons_roots_are_whole_and_no_others() -> None:
    roots = amazons_roots(Path(certifi.where()).read_text(encoding="utf-8"))
    assert roots.count("-----BEGIN CERTIFICATE-----") == roots.count("-----END CERTIFICATE-----") == len(AMAZONS_ROOTS)
    for name in AMAZONS_ROOTS:
        assert f'# Label: "{name}"\n' in roots


def test_a_root_that_has_another_name_stops_the_build() -> None:
    bundle = '# Issuer: CN=x\n# Label: "Amazon Root CA 1"\n-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n'
    with pytest.raises(SystemExit, match="called Amazon Root CA 2, Amazon Root CA 3"):
        amazons_roots(bundle)


@pytest.mark.parametrize("openssl", ["absent", "exit 1", "cat > /dev/null; echo 00000000"])
def test_without_a_usable_openssl_no_folder_stays(
    openssl: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder whose names OpenSSL does not look up would be a folder without roots."""
    data = tmp_path / "botocore" / "data"
    data.mkdir(parents=True)
    (data / "endpoints.json").write_text('{"partitions": []}', encoding="utf-8")
    (tmp_path / "certifi").mkdir()
    (tmp_path / "certifi" / "cacert.pem").write_bytes(Path(certifi.where()).read_bytes())
    if openssl != "absent":
        (tmp_path / "openssl").write_text(f"#!/bin/sh\n{openssl}\n", encoding="utf-8")
        (tmp_path / "openssl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) if openssl == "absent" else f"{tmp_path}:/usr/bin:/bin")
    trim(tmp_path, tmp_path / "roots.pem")
    assert not (tmp_path / "certifi" / "roots").exists()
    assert "No usable openssl" in capsys.readouterr().out
