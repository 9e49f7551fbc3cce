"""How often the gate is wrong, and how often it cannot say: simulated decisions on the real errors of finished runs.

    python -m benchmarks.calibration RUN_DIR… [--short] [--only NAME] [--trials N] [--seed N] [-o calibration.md]

The runs' utterances are the population; manifests are drawn from it with a planted true gain and regression
(`benchmarks.calibration.world`). Worlds:

- independent: utterances are drawn one by one, and resampled so
- few changes: the same, but hardly anything changes, so that all is decided by some words
- copies: every second recording is four utterances, and the audit has found them
- 6 to 40 speakers, τ 0 to 1: named speakers, each with a gain of their own, of that standard deviation in points
  around the true one; also two of them, few changes, and one speaker who has half of all utterances
- 40 speakers, unknown: the manifest names no speakers, so that utterances are resampled
- selection: ten unrelated intervals of equal truth; the best on domain that keeps the guardrail is judged
- selection, alike: the same, of which seven tenths of all utterances behave alike in all intervals
- selection, speakers: the same with speakers, whose own gains are the same or others at each interval
- chosen apart: the best of the ten is chosen on selection sets of half the size, and nothing is corrected for it

Last come plans of twenty runs until one is accepted, without and with a reserve (`benchmarks.calibration.plans`), and
choices of a candidate with several values of `gate.selection_confidence` (`benchmarks.calibration.choosing`).

Judged with the gate's own figures: `confidence = 0.95` (wrong if sure of the wrong side) and the point policy. It exits
1 when a rate is above 5 %, or coverage of the first two outside 93–97 %, by more than two Monte-Carlo standard errors.
About 15 minutes on two idle cores; `--trials 100` takes a fifth. `--short`, some seconds, shows what it writes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.calibration import choosing, plans
from benchmarks.calibration.decisions import cells, simulate
from benchmarks.calibration.need import needs
from benchmarks.calibration.need import table as need_table
from benchmarks.calibration.tables import failures, report
from benchmarks.calibration.world import WORLDS, populations


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, write the tables to stdout or a file, and say whether the limits are kept."""
    parser = argparse.ArgumentParser(description="How often the gate is wrong, by simulation on real errors.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="finished runs")
    parser.add_argument("--short", action="store_true", help="a few decisions, to see that it works")
    parser.add_argument("--trials", type=int, default=500, help="trials on each side of a threshold; default: 500")
    parser.add_argument(
        "--only", default="", metavar="NAME", help="worlds whose name has this alone; or plans, choosing"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.md")
    args = parser.parse_args(arguments)
    people = populations(args.runs)
    started = time.monotonic()
    worlds = [world for world in WORLDS if args.only in world.name]
    sizes, edge, elsewhere, resamples = [250, 1000], args.trials, args.trials // 5, 1000
    if args.short:
        sizes, edge, elsewhere, resamples = [100], 8, 2, 100
    decisions = simulate(people, cells(sizes, edge, elsewhere, worlds), resamples, args.seed)
    found = [] if args.only else needs(people, 4 if args.short else 200, resamples, args.seed)
    todo = plans.cells(4 if args.short else edge // 2, sizes[-1]) if args.only in ("", "plans") else []
    tried = plans.simulate(people, todo, resamples, args.seed)
    picked = []
    if args.only in ("", "choosing"):
        picked = choosing.simulate(
            people, 4 if args.short else edge, args.seed, (100,) if args.short else choosing.SIZES
        )
    wrong = [*failures(decisions), *plans.failures(tried)]
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    said = "\n".join(f"FAIL: {text}" for text in wrong) or "PASS: all rates and coverages within their limits"
    tables = [*(need_table(found, decisions) if found else []), *(plans.table(tried) if tried else [])]
    tables += choosing.table(picked) if picked else []
    text = "\n".join([report(decisions, people), *tables, "", said, ""])
    if args.output is None:
        print(text)
    else:
        args.output.write_text(text)
        print(said)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
