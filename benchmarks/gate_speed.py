"""How long the gate takes on finished runs, as a whole process, and how long its figures take when they are new.

    python -m benchmarks.gate_speed PLAN RUNS [--set KEY=VALUE]… [--rounds 9]

Three commands in turn: `lora-tui --headless --gate --no-train` on a plan of which runs are done, its audio there or
not; a bare Python that imports numpy; a bare Python. The first round, in which files are read into memory and what is
computed once is stored, is not counted. Then, of the finished run with the most utterances: how sure its WERs are,
computed from its score documents (alignment of all intervals, 10,000 resamples, the choice of the interval), and found
by their hash. RUNS is copied first and stays as it is. It exits 1 when a median is above its limit. About 30 s on an
idle machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles

from core.runs.consistency import Reported, reported_by
from core.runs.paths import RunPaths, RunsFolder
from core.runs.significance import assess_run, fresh
from core.runs.store import read_run
from core.scoring.certainty import Significance
from core.scoring.evidence import Thresholds
from core.scoring.significance import RESAMPLES
from core.scoring.verdict import thresholds_of

GATE_LIMIT_S = 0.7
FIGURES_LIMIT_S = 1.0
Round = tuple[float, float]
"""(wall seconds, processor seconds)"""


def command_times(command: Sequence[str]) -> tuple[Round, int]:
    """Times and exit status of a command, its output thrown away."""
    # An installed program has its bytecode; a shell may forbid to keep it, and then all is compiled at every start.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    status = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, check=False
    ).returncode
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (wall, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime), status


def call_times(call: Callable[[], object]) -> Round:
    """Times of a call in this process."""
    wall, cpu = time.monotonic(), time.process_time()
    call()
    return time.monotonic() - wall, time.process_time() - cpu


def processes(commands: dict[str, list[str]], rounds: int) -> tuple[dict[str, list[Round]], set[int]]:
    """Rounds of each command, in turn, and the exit statuses of the first of them."""
    seen: dict[str, list[Round]] = {name: [] for name in commands}
    statuses: set[int] = set()
    for number in range(rounds + 1):
        for place, (name, command) in enumerate(commands.items()):
            found, status = command_times(command)
            statuses |= {status} if place == 0 else set()
            if number:
                seen[name].append(found)
    return seen, statuses


def figures(runs: Path, rounds: int) -> tuple[str, dict[str, list[Round]]]:
    """(what was computed, rounds of computing it and of finding it). RuntimeError without a run that has figures."""
    found: list[tuple[int, RunPaths, Significance]] = []
    for paths in RunsFolder(runs, runs).runs():
        assessed = assess_run(paths, *_asked(paths)).significance
        if assessed is not None:
            found.append((assessed.domain.utterances + assessed.heldout.utterances, paths, assessed))
    if not found:
        raise RuntimeError(f"{runs}: no finished run with two scored sets")
    _, paths, sure = max(found, key=lambda item: item[0])
    reported, thresholds = _asked(paths)
    new = [call_times(lambda: fresh(paths, reported, thresholds)) for _ in range(rounds + 1)][1:]

    def look_up() -> None:
        # What this process has in memory already would be found there.
        from core.runs import significance

        significance._assess.cache_clear()
        assess_run(paths, reported, thresholds)

    kept = [call_times(look_up) for _ in range(rounds)]
    what = f"{sure.domain.utterances} + {sure.heldout.utterances} utterances × {RESAMPLES}"
    return f"{what} resamples, {len(reported.intervals) - 1} intervals", {
        "figures, computed": new,
        "figures, stored": kept,
    }


def _asked(paths: RunPaths) -> tuple[Reported, Thresholds]:
    snapshot = read_run(paths)
    thresholds = thresholds_of((snapshot.config or {}).get("gate") or {})
    return reported_by(snapshot), thresholds


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, say whether the limits are kept."""
    parser = argparse.ArgumentParser(description="How long the gate takes on finished runs.")
    parser.add_argument("plan", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for lora-tui; repeatable")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        shutil.copytree(args.runs, runs, symlinks=True, ignore=shutil.ignore_patterns("checkpoints", "audio"))
        gate = [sys.executable, "-m", "lora_tui", "--headless", str(args.plan), "--runs", str(runs)]
        gate += ["--gate", "--no-train", *(part for value in args.set for part in ("--set", value))]
        commands = {
            "gate": gate,
            "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
            "python -c pass": [sys.executable, "-c", "pass"],
        }
        seen, statuses = processes(commands, args.rounds)
        what, calls = figures(runs, args.rounds)
    print(f"{args.rounds} rounds; load at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; figures: {what}")
    print("\n| What | Wall, median | Middle half | Processor, median |\n|---|---|---|---|")
    for name, rounds in (seen | calls).items():
        wall, cpu = [item[0] for item in rounds], [item[1] for item in rounds]
        low, _, high = quantiles(wall, n=4)
        print(f"| {name} | {median(wall):.3f} s | {low:.3f}–{high:.3f} | {median(cpu):.3f} s |")
    if statuses - {0, 1, 6}:
        print(f"\nFAIL: the gate had nothing to judge, or could not: exit {sorted(statuses)}")
        return 1
    kept = True
    for name, rounds, limit in (
        ("gate", seen["gate"], GATE_LIMIT_S),
        ("figures", calls["figures, computed"], FIGURES_LIMIT_S),
    ):
        typical = median(item[0] for item in rounds)
        kept = kept and typical <= limit
        print(f"\n{'PASS' if typical <= limit else 'FAIL'}: {name} {typical:.3f} s, at most {limit} s")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
