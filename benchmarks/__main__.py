"""`make bench`: this project's ratios, compared with their limits and the committed baseline."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from benchmarks import cpu
from benchmarks.batches import batches
from benchmarks.charts import as_svg, as_text
from benchmarks.cold_start import cold_starts
from benchmarks.lanes import lanes
from benchmarks.latency import latency
from benchmarks.scale import scale
from benchmarks.servers import Servers, running
from benchmarks.side_by_side import Figure, NotMeasuredError, new_baseline, progress, table
from tools.charts import Bars

BASELINE: Final = Path(__file__).with_name("baseline.json")
PICTURE: Final = Path(__file__).resolve().parent.parent / "docs" / "images" / "speed.svg"
SUBTITLE: Final = (
    "Medians of one run of make bench, each way in turn; read the ratios, not the milliseconds. Gray: to compare with."
)
TOLERANCE: Final = 0.15  # because the machine is noisy


def main() -> int:
    """Return the exit status: 1 if a limit is exceeded or a ratio is worse than the baseline."""
    started = time.monotonic()
    report = _silence()
    baseline: dict[str, float] = json.loads(BASELINE.read_text())
    with running() as servers:
        results = list(_results(servers, quick=os.environ.get("QUICK", "") not in ("", "0")))
    figures = [result for result in results if isinstance(result, Figure)]
    charts = [result for result in results if isinstance(result, Bars)]
    remarks = [result for result in results if isinstance(result, str)]
    progress("")
    exceeded = [figure.name for figure in figures if not figure.holds]
    changes = {figure.name: figure.worse_by(baseline) for figure in figures}
    worse = [f"{name} ({change:+.0%})" for name, change in changes.items() if change > TOLERANCE]
    print(table(figures, baseline), as_text(charts), *remarks, sep="\n\n", end="\n\n", file=report)
    print(
        f"{time.monotonic() - started:.0f} s. Each ratio is the median of side-by-side passes on this machine.",
        f"Over their limit: {', '.join(exceeded) or 'none'}.",
        f"Worse than the baseline by more than {TOLERANCE:.0%}: {', '.join(worse) or 'none'}.",
        sep="\n",
        file=report,
    )
    if not os.environ.get("SAVE"):
        return 1 if worse or exceeded else 0
    BASELINE.write_text(json.dumps(new_baseline(figures, baseline), indent=2) + "\n")
    PICTURE.write_text(as_svg(charts, SUBTITLE), encoding="utf-8")
    print(f"Saved as {BASELINE.name} and {PICTURE.name}; what is over its limit keeps its old value.", file=report)
    return 1 if exceeded else 0


def _silence() -> TextIO:
    """Discard the handlers' output, which they still format and write; return the real stdout for the report."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return report


def _results(servers: Servers, *, quick: bool) -> Iterator[Figure | Bars | str]:
    yield from batches(servers, passes=5 if quick else 21, quick=quick)
    yield from cpu.messages(servers, passes=9 if quick else 41)
    yield from cpu.callbacks(servers, passes=9 if quick else 41)
    yield from scale(servers, most=1_000 if quick else 10_000)
    try:
        yield from lanes(servers, passes=1 if quick else 3)
    except NotMeasuredError as error:
        yield f"Lanes are not measured: {error}."
    yield from latency(passes=40 if quick else 200)
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield from cold_starts(servers, Path(folder), passes=3 if quick else 15, throttled_passes=0 if quick else 9)
        except NotMeasuredError as error:
            yield f"Cold starts are not measured, or not all: {error}."


if __name__ == "__main__":
    sys.exit(main())
