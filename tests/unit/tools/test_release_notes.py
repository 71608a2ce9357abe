"""The notes of a release, from the changelog."""

import pytest

from tools.release_notes import release_notes

CHANGELOG = """# Changelog

## 1.1.0 – 2027-01-05

- New.

## 1.0.0 – 2026-12-01

- First.
"""
PYPROJECT = '[project]\nversion = "{}"\n'


@pytest.mark.parametrize(("version", "notes"), [("1.1.0", "- New.\n"), ("1.0.0", "- First.\n")])
def test_they_are_the_section_of_the_version(version: str, notes: str) -> None:
    assert release_notes(version, changelog=CHANGELOG, pyproject=PYPROJECT.format(version)) == notes


@pytest.mark.parametrize(
    ("version", "own", "problem"),
    [
        ("1.1.0", "1.0.0", "pyproject.toml has 1.0.0"),
        ("1.2.0", "1.2.0", "no heading '## 1.2.0"),
        ("1.1", "1.1", "no heading"),
        ("1x1.0", "1x1.0", "no heading"),
        ("", "1.0.0", "RELEASE=:"),
    ],
)
def test_another_version_is_refused(version: str, own: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        release_notes(version, changelog=CHANGELOG, pyproject=PYPROJECT.format(own))
