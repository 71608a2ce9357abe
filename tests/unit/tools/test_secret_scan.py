"""The scan for secrets: it finds planted ones, shows none of them, and its list of accepted texts stays true."""

import tomllib
from pathlib import Path

import pytest

from tools.secret_scan import ACCEPTED, Accepted, Finding, problems, read_accepted, scan

PLANTED = "k3Jd92kf" + "Lq8sPz"  # in two parts, so that the scan of this repository does not find it
LINES = {
    "constant.py": f'GATEWAY_PASSWORD = "{PLANTED}"',
    "object.json": f'{{"application": "app", "password": "{PLANTED}"}}',
    "url.md": f"https://gateway:{PLANTED}@example.execute-api.amazonaws.com/v1/callbacks/status",
    "argument.md": f"""aws secretsmanager put-secret-value --secret-string '{{"password": "{PLANTED}"}}'""",
    "settings.yaml": f"password: {PLANTED}",
    "key.py": '"AKIA' + 'IOSFODNN7EXAMPLQ"',
    "token.py": "github('ghp" + "_0123456789abcdefghijABCDEFGHIJ012345')",
}


def test_a_planted_secret_is_found_and_not_shown(tmp_path: Path) -> None:
    for name, line in LINES.items():
        (tmp_path / name).write_text(f"{line}\n")

    found = scan(tmp_path, LINES)
    told = list(problems(found, []))

    assert {finding.path for finding in found} == set(LINES)
    assert all(name in "\n".join(told) for name in LINES)
    assert not [line for line in told if PLANTED in line or "AKIA" in line]


FINDING = Finding("tests/a.py", 1, "Secret Keyword", "made-up")


def test_what_is_accepted_is_so_by_its_whole_text_and_place() -> None:
    assert list(problems([FINDING], [Accepted(("tests/",), "[a-z-]+")])) == []
    for accepted in (Accepted(("docs/",), "[a-z-]+"), Accepted(("tests/",), "made"), Accepted(("tests/",), "MADE-UP")):
        assert len(list(problems([FINDING], [accepted]))) == 2, "not accepted, and accepted in vain"


def test_each_entry_has_its_reason() -> None:
    assert read_accepted(ACCEPTED.read_text())
    assert all(len(entry["reason"]) > 20 for entry in tomllib.loads(ACCEPTED.read_text())["accepted"])
    with pytest.raises(ValueError, match="no reason"):
        read_accepted('[[accepted]]\nwhere = ["x"]\ntexts = ["y"]\n')
