"""The processes that a process has started, and whether they are gone."""

import subprocess
from pathlib import Path


def descendants(pid: int) -> set[int]:
    """Its children, their children and so on."""
    parents = _parents()
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pids: set[int]) -> set[int]:
    """Those of them that still run."""
    return pids & set(_parents())


def _parents() -> dict[int, int]:
    """The parent of every process that is no zombie, from /proc or, where there is none, from ps."""
    if Path("/proc/self/stat").exists():
        return {pid: parent for pid, parent, state in _from_proc() if state != "Z"}
    lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in lines.splitlines()]
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def _from_proc() -> list[tuple[int, int, str]]:
    rows = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text(encoding="utf-8")
            except OSError:
                continue  # ended meanwhile
            state, parent = stat.rpartition(")")[2].split()[:2]
            rows.append((int(folder.name), int(parent), state))
    return rows
