"""Programs in JavaScript that tests run by Node. `make test-node` installs their packages, as locked, beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def needs_packages(folder: Path) -> pytest.MarkDecorator:
    """Skip a test where Node or the folder's packages are missing."""
    return pytest.mark.skipif(
        shutil.which("node") is None or not (folder / "node_modules").exists(),
        reason=f"needs Node and the packages of tests/{folder.relative_to(TESTS)}: `make test-node` installs them",
    )
