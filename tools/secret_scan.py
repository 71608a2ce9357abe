"""Scan the repository for secrets (`make check`). tools/accepted_secrets.toml lists false findings, with reasons.

It uses the detectors for secrets that this project could leak. Those of other services would take half of the time, and
entropy would report IDs and hashes.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

ROOT: Final = Path(__file__).resolve().parent.parent
ACCEPTED: Final = Path(__file__).with_name("accepted_secrets.toml")
_NOT_READ: Final = ("uv.lock", "requirements.txt", ".png", ".svg", ACCEPTED.name)
_DETECTORS: Final = (
    "AWSKeyDetector",
    "BasicAuthDetector",
    "GitHubTokenDetector",
    "JwtTokenDetector",
    "KeywordDetector",
    "PrivateKeyDetector",
)


class Finding(NamedTuple):
    """A text that may be a secret."""

    path: str
    line: int
    kind: str
    text: str


class Accepted(NamedTuple):
    """A pattern for texts that are no secrets, in files whose path begins with one of ``where``."""

    where: tuple[str, ...]
    pattern: str

    def covers(self, finding: Finding) -> bool:
        """Return whether a finding matches."""
        return finding.path.startswith(self.where) and re.fullmatch(self.pattern, finding.text, re.DOTALL) is not None


def read_accepted(text: str) -> list[Accepted]:
    """Return each pattern of each entry; an entry without a reason is an error."""
    entries: list[dict[str, Any]] = tomllib.loads(text)["accepted"]
    if reasonless := [entry["where"] for entry in entries if not entry.get("reason")]:
        raise ValueError(f"an entry of {ACCEPTED.name} has no reason: {', '.join(reasonless[0])}")
    return [Accepted(tuple(entry["where"]), each) for entry in entries for each in entry["texts"]]


def scan(folder: Path, paths: Iterable[str]) -> list[Finding]:
    """Return the detectors' findings in these files."""
    with transient_settings({"plugins_used": [{"name": name} for name in _DETECTORS]}):
        collection = SecretsCollection(root=str(folder))
        collection.scan_files(*(path for path in paths if not path.endswith(_NOT_READ)))
    return sorted(Finding(path, each.line_number, each.type, each.secret_value or "") for path, each in collection)


def problems(findings: Iterable[Finding], accepted: Iterable[Accepted]) -> Iterator[str]:
    """Yield findings that are not accepted (without their texts), and accepted patterns without a finding."""
    findings, accepted = list(findings), list(accepted)
    for finding in findings:
        if not any(each.covers(finding) for each in accepted):
            yield f"{finding.path}:{finding.line}: {finding.kind}: remove it, or accept it in {ACCEPTED.name}"
    for each in accepted:
        if not any(map(each.covers, findings)):
            yield f"{ACCEPTED.name}: {each.pattern!r} is not found below {', '.join(each.where)} any more: remove it"


def main() -> int:
    """Scan every file of the repository that git does not ignore; exit status 1 if there is a problem."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\0")
    paths = [path for path in listed if (ROOT / path).is_file()]
    found = list(problems(scan(ROOT, paths), read_accepted(ACCEPTED.read_text(encoding="utf-8"))))
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
