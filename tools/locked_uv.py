"""Print the locked uv for pip: its version and the hash of each wheel. Needs only Python, before any set-up."""

import tomllib
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "uv.lock"


def requirement() -> str:
    """Return the requirement for pip's hash-checking mode."""
    packages = tomllib.loads(LOCK.read_text(encoding="utf-8"))["package"]
    uv = next(package for package in packages if package["name"] == "uv")
    return " ".join([f"uv=={uv['version']}", *(f"--hash={wheel['hash']}" for wheel in uv["wheels"])])


if __name__ == "__main__":
    print(requirement())
