"""Change `records/` and `flows/` a line at a time, and list the changes that no test notices: `make mutants`.

The lines are changed in a copy in `.local/mutants`, so that an interrupted run leaves no changed line behind. The same
command continues an interrupted run, because a session file in that folder keeps the results until the report. The file
is used only for the same module and tests.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
WORK: Final = ROOT / ".local" / "mutants"
PACKAGE: Final = Path("layers/shared/src/optus_sms")
# First the fast tests that notice most, then those of the level above; the first failure ends a run.
TESTS: Final = {
    "flows/breaker": "tests/unit/flows/test_breaker.py",
    "flows/check_contract": "tests/unit/flows/test_check_contract.py",
    "flows/check_health": "tests/unit/flows/test_check_health.py tests/unit/flows/test_pausing.py",
    "flows/opt_out_check": "tests/unit/flows/test_opt_out.py",
    "flows/pacing": "tests/unit/flows/test_pacing.py tests/functional/flows/test_pacing.py",
    "flows/pausing": "tests/unit/flows/test_check_health.py tests/unit/flows/test_pausing.py",
    "flows/probing": "tests/unit/flows/test_probing.py tests/unit/flows/test_outages.py",
    "flows/publish_events": "tests/unit/flows/test_publish_events.py",
    "flows/receive_callback": "tests/unit/flows/test_receive_callback.py tests/functional/flows",
    "flows/reconcile_messages": "tests/unit/flows/test_reconcile_messages.py tests/unit/flows/test_edited_items.py",
    "flows/refused_claim": "tests/unit/flows/test_send_message.py tests/functional/flows/test_send_protocol.py",
    "flows/resolving": "tests/unit/flows/test_resolving.py tests/unit/flows/test_receive_callback.py",
    "flows/send_message": "tests/unit/flows/test_send_message.py tests/unit/flows/test_aws_faults.py",
    "flows/unwritten": "tests/unit/flows/test_unwritten.py tests/unit/flows/test_send_message.py",
    "records/changes": "tests/unit/flows/test_publish_events.py tests/unit/flows/test_edited_items.py",
    "records/contract": "tests/unit/flows/test_check_contract.py",
    "records/health": "tests/contract/records/test_health.py tests/unit/flows/test_probing.py",
    "records/items": "tests/unit/records/test_items.py tests/contract/records tests/unit/flows/test_edited_items.py",
    "records/ledger": "tests/contract/records/test_ledger.py tests/unit/flows/test_send_message.py",
    "records/messages": "tests/contract/records/test_messages.py tests/unit/flows/test_send_message.py",
    "records/opt_outs": "tests/contract/records/test_opt_outs.py",
    "records/table": "tests/unit/records/test_table.py tests/contract/records",
    "records/updates": "tests/unit/records/test_table.py tests/contract/records",
}
CONFIG: Final = """
[cosmic-ray]
module-path = "{module}"
timeout = 120.0
excluded-modules = []
test-command = "{python} -m pytest -x -q -m 'not deep' -p no:cacheprovider {tests}"
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
# Types are not read at run time, and `is` and `==` are the same for members of an enum, None and small numbers.
exclude-operators = [
    "core/ReplaceBinaryOperator_BitOr_.*",
    "core/ReplaceComparisonOperator_.*_Is",
    "core/ReplaceComparisonOperator_.*_IsNot",
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
]
"""


def main(names: Sequence[str]) -> int:
    """Run the modules with these names, such as `flows/breaker`; without names all of the table."""
    unknown = [name for name in names if name not in TESTS]
    if unknown:
        print(f"{', '.join(unknown)}: no such module. Give some of: {', '.join(TESTS)}", file=sys.stderr)
        return 2
    tool = Path(sys.executable).parent
    for name in names or TESTS:
        copy = WORK / name.replace("/", "-")
        session, config = session_file(name, TESTS[name]), Path(f"{copy}.toml")
        config.parent.mkdir(parents=True, exist_ok=True)
        _copy_to(copy)
        config.write_text(
            CONFIG.format(module=PACKAGE / f"{name}.py", python=sys.executable, tests=TESTS[name]), encoding="utf-8"
        )
        if not session.exists():
            subprocess.run([tool / "cosmic-ray", "init", config, session], cwd=copy, check=True)
            subprocess.run([tool / "cr-filter-operators", session, config], cwd=copy, check=True)
        subprocess.run([tool / "cosmic-ray", "exec", config, session], cwd=copy, check=True)
        print(f"{name}:", flush=True)
        subprocess.run([tool / "cr-report", "--surviving-only", "--show-diff", session], cwd=copy, check=True)
        session.unlink()
    return 0


def session_file(name: str, tests: str) -> Path:
    """Return the file for the results of a module. Its name has a hash of the module and of its tests."""
    digest = hashlib.sha256(tests.encode())
    for path in (PACKAGE / f"{name}.py", *map(Path, tests.split())):
        folder = ROOT / path
        for file in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
            digest.update(file.read_bytes())
    return WORK / f"{name.replace('/', '-')}-{digest.hexdigest()[:16]}.sqlite"


def _copy_to(folder: Path) -> None:
    """Copy the tracked files, with their uncommitted changes."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S607
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
