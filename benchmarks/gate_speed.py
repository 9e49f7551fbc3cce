"""How long the gate takes on finished runs, as a whole process, beside a bare Python and one that imports numpy.

    python -m benchmarks.gate_speed PLAN RUNS [--set KEY=VALUE]… [--rounds 9]

`lora-tui --headless --gate --no-train` on a plan of which runs are done, its audio there or not, and the two others in
turn; the first round, in which files are read into memory and what is computed once is stored, is not counted. It exits
1 when the gate's median is above the limit. About 15 s on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

LIMIT_S = 0.7


def measure(command: Sequence[str]) -> tuple[float, float, int]:
    """(wall seconds, processor seconds, exit status) of a command, its output thrown away."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    status = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime, status


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in turn, print the table, say whether the limit is kept."""
    parser = argparse.ArgumentParser(description="How long the gate takes on finished runs.")
    parser.add_argument("plan", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for lora-tui; repeatable")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args(arguments)
    gate = [sys.executable, "-m", "lora_tui", "--headless", str(args.plan), "--runs", str(args.runs)]
    gate += ["--gate", "--no-train", *(part for value in args.set for part in ("--set", value))]
    commands = {
        "gate": gate,
        "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    seen: dict[str, list[tuple[float, float, int]]] = {name: [] for name in commands}
    for number in range(args.rounds + 1):
        for name, command in commands.items():
            found = measure(command)
            if number:
                seen[name].append(found)
    print(f"{args.rounds} rounds in turn; load at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| Command | Wall, median | Middle half | Processor, median | Exit |\n|---|---|---|---|---|")
    for name, rounds in seen.items():
        wall, cpu = [item[0] for item in rounds], [item[1] for item in rounds]
        low, _, high = quantiles(wall, n=4)
        statuses = ", ".join(sorted({str(item[2]) for item in rounds}))
        print(f"| {name} | {median(wall):.3f} s | {low:.3f}–{high:.3f} | {median(cpu):.3f} s | {statuses} |")
    if {item[2] for item in seen["gate"]} - {0, 1, 6}:
        print("\nFAIL: the gate had nothing to judge, or could not; see its exit status")
        return 1
    typical = median(item[0] for item in seen["gate"])
    print(f"\n{'PASS' if typical <= LIMIT_S else 'FAIL'}: gate {typical:.3f} s, at most {LIMIT_S} s")
    return 0 if typical <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
