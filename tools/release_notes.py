"""Prints a version's section of CHANGELOG.md, as the notes of its release.

python -m tools.release_notes 1.2.3      (`make release RELEASE=1.2.3`)
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent


def release_notes(version: str, *, changelog: str, pyproject: str) -> str:
    """Return the version's section. Raise ValueError if it is not the project's version or has no dated section."""
    if version != (own := tomllib.loads(pyproject)["project"]["version"]):
        raise ValueError(f"RELEASE={version}: pyproject.toml has {own}; set both to the same")
    section = re.search(
        rf"^## {re.escape(version)} – \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)", changelog, re.DOTALL | re.MULTILINE
    )
    if section is None:
        raise ValueError(f"CHANGELOG.md has no heading '## {version} – YYYY-MM-DD'; rename 'Unreleased' to that")
    return section[1].strip() + "\n"


def main(version: str) -> int:
    """Print the notes or the error."""
    texts = {
        name: (ROOT / path).read_text(encoding="utf-8")
        for name, path in (("changelog", "CHANGELOG.md"), ("pyproject", "pyproject.toml"))
    }
    try:
        print(release_notes(version, **texts), end="")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
