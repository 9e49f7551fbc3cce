"""Seeded attacks on the gate: can it be fooled, crashed, hung, or made to touch what is not its own?

    python -m benchmarks.gate_attacks [--cases 3000] [--first 0] [--work DIR] [--short] [--jobs 2]

Trains two real runs of one plan (two minutes; kept in --work): `a`, which the gate accepts, and `r`, which it rejects.
Each case copies plan, manifests, runs, queue and caches, changes one thing or a consistent pair of things, and asks
`lora-tui --headless --gate --no-train --accept RUN`, then one more command (verify, status, queue prune, export card).
A case fails when

- the gate, or verify, accepts `r`, accepts `a` with other figures than its true ones, or accepts `a` by a plan that
  names other data, another model or other settings (of what is not there: without saying so, or under --require-data);
- a command shows a traceback, ends with another exit code than its documented ones, computes for over 10 s, waits for
  over 120 s, or writes over a million characters;
- something outside the runs folder and the state is changed.

A changed file that the gate does not notice because no figure depends on it is counted and listed, and is no failure.
Exits 1 when a case fails. 3,000 cases take about half an hour on two cores; --short (120) a minute and a half.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.gate_attacks.cases import figures
from benchmarks.gate_attacks.material import gate_document, make
from benchmarks.gate_attacks.runner import Found, worker

SHORT = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack, print the table, say whether the gate held."""
    parser = argparse.ArgumentParser(description="Seeded attacks on the gate.")
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--work", type=Path, help="where the trained runs are kept; default: a folder that is removed")
    parser.add_argument("--short", action="store_true", help=f"{SHORT} cases")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    args = parser.parse_args(arguments)
    count = SHORT if args.short else args.cases
    with tempfile.TemporaryDirectory(prefix="gate-attacks-") as temporary:
        material = make((args.work or Path(temporary)).absolute() / "material")
        truth = figures(gate_document(material), "a")
        assert truth is not None
        numbers = range(args.first, args.first + count)
        started = time.monotonic()
        shares = [
            (material.folder, Path(temporary) / f"case-{job}", numbers[job :: args.jobs], truth)
            for job in range(args.jobs)
        ]
        with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
            found = [item for share in pool.map(worker, shares) for item in share]
    return _tell(found, time.monotonic() - started)


def _tell(found: Sequence[Found], seconds: float) -> int:
    names = sorted({item.attack for item in found})
    print("\n| Attack | Cases | Exit codes | Accepted with the true figures | Failures |\n|---|---|---|---|---|")
    for name in names:
        items = [item for item in found if item.attack == name]
        codes = Counter(item.code for item in items)
        told = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
        unnoticed = sum(item.unnoticed for item in items)
        failed = sum(bool(item.failures) for item in items)
        print(f"| {name.replace('_', ' ')} | {len(items)} | {told} | {unnoticed} | {failed} |")
    quiet = Counter(item.said.partition(":")[0] for item in found if item.unnoticed)
    print("\nChanged, and accepted with the true figures: " + ", ".join(f"{n} × {c}" for n, c in quiet.most_common(20)))
    failures = [failure for item in found for failure in item.failures]
    false = sum(failure.startswith("FALSE") or "verify accepts" in failure for failure in failures)
    hung = sum("hung" in failure for failure in failures)
    crashed = sum("traceback" in failure or ": exit" in failure for failure in failures)
    flooded = sum("an output of" in failure for failure in failures)
    outside = sum("changed outside" in failure for failure in failures)
    slowest = max(item.seconds for item in found)
    print(
        f"\n{len(found)} cases in {seconds:.0f} s, slowest gate {slowest:.1f} s: {false} false acceptances, "
        f"{crashed} crashes, {hung} hangs, {flooded} floods, {outside} files touched outside"
    )
    print("FAIL" if failures else "PASS")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
