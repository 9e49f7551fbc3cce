"""A thousand runs in the folder: the board, and moving the selection. About a minute.

    python -m benchmarks.dashboard.thousand_runs [--runs 1000] [--rounds 5] [--moves 40]

Through a pty of 120 × 40: from the start of the process until the board shows its rows, and until all rows that are
seen are read (state and verdict); from a key that moves the selection to the first bytes of the answer, and until the
selected run's plots are there; CPU and bytes of the idle board.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.dashboard.figures import Figure, report
from benchmarks.dashboard.material import many_runs
from benchmarks.dashboard.terminal import Terminal

BOARD_S, MOVE_MS = 1.0, 50.0
IDLE_S = 20.0


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--moves", type=int, default=40)
    args = parser.parse_args()
    shown, read, moves, memory = [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many_runs(folder / "runs", args.runs)
        last = f"of {args.runs}".encode()
        for _ in range(args.rounds):
            with Terminal([sys.executable, "-m", "lora_tui"], cwd=folder) as terminal:
                shown.append(terminal.wait_for(last))
                read.append(terminal.wait_for(b"accepted"))
                time.sleep(1.0)
                for key in [b"j"] * args.moves:
                    moves.append(_answer_ms(terminal, key))
                memory.append(terminal.memory_mib())
        with Terminal([sys.executable, "-m", "lora_tui"], cwd=folder) as terminal:
            terminal.wait_for(b"accepted")
            settled = _settle(terminal)
            cpu, written = terminal.cpu_s(), terminal.written
            time.sleep(IDLE_S)
            idle_cpu = 100 * (terminal.cpu_s() - cpu) / IDLE_S
            idle_bytes = terminal.written - written
    return report(
        f"{args.runs} runs",
        [
            Figure("board with its rows", shown, "s", BOARD_S),
            Figure("first rows read", read, "s"),
            Figure("all runs read and judged", [settled], "s"),
            Figure("moving the selection, first byte", moves, "ms", MOVE_MS, "p95", 1),
            Figure("memory", memory, "MiB", digits=1),
            Figure("idle board, CPU", [idle_cpu], "% of a core", 1.0, digits=2),
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


def _answer_ms(terminal: Terminal, key: bytes) -> float:
    time.sleep(0.1)
    count = len(terminal.chunks)
    pressed = time.monotonic()
    terminal.type(key)
    while len(terminal.chunks) == count and time.monotonic() - pressed < 5:
        time.sleep(0.001)
    return 1000 * (time.monotonic() - pressed)


if __name__ == "__main__":
    sys.exit(main())
