"""The results of an interrupted run of mutants are used only for the same module and tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import mutants

MODULE, TESTS = mutants.PACKAGE / "flows/breaker.py", "tests/test_a.py tests/folder"


@pytest.mark.parametrize("changed", [str(MODULE), "tests/test_a.py", "tests/folder/deep/test_b.py"])
def test_a_session_is_of_one_state_of_module_and_tests(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    for path in (MODULE, Path("tests/test_a.py"), Path("tests/folder/deep/test_b.py")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("before")
    before = mutants.session_file("flows/breaker", TESTS)
    assert mutants.session_file("flows/breaker", TESTS) == before
    (tmp_path / changed).write_text("after")
    assert mutants.session_file("flows/breaker", TESTS) != before


def test_every_module_has_tests_that_are_there() -> None:
    files = {mutants.session_file(name, tests) for name, tests in mutants.TESTS.items()}
    assert len(files) == len(mutants.TESTS)
    package = mutants.ROOT / mutants.PACKAGE
    modules = [path for folder in ("flows", "records") for path in (package / folder).glob("[a-z]*.py")]
    assert set(mutants.TESTS) == {path.relative_to(package).with_suffix("").as_posix() for path in modules}
