"""A thousand runs in the folder: the board, and moving the selection. Two to three minutes.

    python -m benchmarks.dashboard.thousand_runs [--runs 1000] [--rounds 3] [--moves 40]

Through a pty of 120 × 40, with the index of ended runs in the state folder and without it ("nothing kept": the first
time that the folder is opened): from the start of the process until the board shows the count of its rows, and until
the first rows are read (state and verdict); from a key that moves the selection to the first bytes of the answer, which
is the cursor, and to the last, when plots and verdict are those of the run; CPU and bytes of the idle board. "While it
reads": keys while the other runs are still read for the first time.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.dashboard.figures import Figure, report
from benchmarks.dashboard.material import many_runs
from benchmarks.dashboard.terminal import Terminal

BOARD_S, MOVE_MS, IDLE_PERCENT = 1.0, 50.0, 1.0
IDLE_S = 20.0
_BOARD = [sys.executable, "-m", "lora_tui"]


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--moves", type=int, default=40)
    args = parser.parse_args()
    cold, cold_read, warm, warm_read, busy, moves, whole, memory = [], [], [], [], [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many_runs(folder / "runs", args.runs)
        index = folder / "runs" / "cache" / "board.json"
        last = f"of {args.runs}".encode()
        for number in range(args.rounds):
            shutil.rmtree(index.parent, ignore_errors=True)
            with Terminal(_BOARD, cwd=folder) as terminal:
                cold.append(terminal.wait_for(last))
                cold_read.append(terminal.wait_for(b"accepted"))
                busy += [terminal.answer_ms(b"j", 0.1) for _ in range(args.moves // 4)]
                if number == args.rounds - 1:
                    settled = _settle(terminal)
                    _wait_for(index)
        for _ in range(args.rounds):
            with Terminal(_BOARD, cwd=folder) as terminal:
                warm.append(terminal.wait_for(last))
                warm_read.append(terminal.wait_for(b"accepted"))
                time.sleep(1.5)
                moves += [terminal.answer_ms(b"j", 0.1) for _ in range(args.moves)]
                whole += [terminal.quiet_ms(b"j", 0.3) for _ in range(args.moves // 8)]
                memory.append(terminal.memory_mib())
        with Terminal(_BOARD, cwd=folder) as terminal:
            terminal.wait_for(b"accepted")
            _settle(terminal)
            cpu, written = terminal.cpu_s(), terminal.written
            time.sleep(IDLE_S)
            idle_cpu = 100 * (terminal.cpu_s() - cpu) / IDLE_S
            idle_bytes = terminal.written - written
    return report(
        f"{args.runs} runs",
        [
            Figure("board with its rows", warm, "s", BOARD_S),
            Figure("first rows with their verdicts", warm_read, "s", BOARD_S),
            Figure("board with its rows, nothing kept", cold, "s", BOARD_S),
            Figure("first rows with verdicts, nothing kept", cold_read, "s"),
            Figure("all runs read and judged, nothing kept", [settled], "s"),
            Figure("moving the selection, first byte", moves, "ms", MOVE_MS, "p95", 1),
            Figure("moving the selection, whole answer", whole, "ms", None, "p95", 1),
            Figure("moving it while it reads, first byte", busy, "ms", MOVE_MS, "p95", 1),
            Figure("memory", memory, "MiB", digits=1),
            Figure("idle board, CPU", [idle_cpu], "% of a core", IDLE_PERCENT, digits=2),
            Figure(f"idle board, bytes in {IDLE_S:.0f} s", [idle_bytes], "B", 0.0, digits=0),
        ],
    )


def _settle(terminal: Terminal) -> float:
    """Seconds until it has used hardly any CPU for two seconds."""
    while time.monotonic() - terminal.started < 120:
        before = terminal.cpu_s()
        time.sleep(2.0)
        if terminal.cpu_s() - before < 0.1:
            break
    return time.monotonic() - terminal.started - 2.0


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
