"""A thousand runs in the folder: the board, and moving the selection. Two to three minutes.

    python -m benchmarks.dashboard.thousand_runs [--runs 1000] [--rounds 3] [--moves 40]

Through a pty of 120 × 40, with the index of ended runs in the state folder and without it ("nothing kept": the first
time that the folder is opened): from the start of the process until every row that is seen has its state and verdict
(a terminal emulator tells, chunk by chunk), and until the last of all is read; from a key that
moves the selection to the first bytes of the answer, which is the cursor, and to the last, when plots and verdict are
those of the run; CPU and bytes of the idle board. "While it reads": keys while the other runs are still read for the
first time. Processor time is what the board took until then: other work on the machine changes it little.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pyte

from benchmarks.dashboard.figures import Figure, report
from benchmarks.dashboard.material import many_runs
from benchmarks.dashboard.terminal import Terminal
from core.runs.state_folder import STATE_VARIABLE

BOARD_S, MOVE_MS, IDLE_PERCENT = 1.0, 50.0, 1.0
IDLE_S = 20.0
SIZE = (120, 40)
_BOARD = [sys.executable, "-m", "lora_tui"]


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--moves", type=int, default=40)
    args = parser.parse_args()
    cold, cold_cpu, warm, warm_cpu, busy, moves, whole, memory = [], [], [], [], [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many_runs(folder / "runs", args.runs)
        os.environ[STATE_VARIABLE] = str(folder / "state")
        (folder / "state").mkdir()
        index = folder / "state" / "cache" / "board.json"
        last = f"/{args.runs}".encode()
        for number in range(args.rounds):
            shutil.rmtree(index.parent, ignore_errors=True)
            with Terminal(_BOARD, cwd=folder, size=SIZE) as terminal:
                terminal.wait_for(last)
                cold.append(_board_at(terminal))
                cold_cpu.append(terminal.cpu_s())
                busy += [terminal.answer_ms(b"j", 0.1) for _ in range(args.moves // 4)]
                if number == args.rounds - 1:
                    settled = _settle(terminal)
                    _wait_for(index)
        for _ in range(args.rounds):
            with Terminal(_BOARD, cwd=folder, size=SIZE) as terminal:
                terminal.wait_for(last)
                warm.append(_board_at(terminal))
                warm_cpu.append(terminal.cpu_s())
                time.sleep(1.5)
                moves += [terminal.answer_ms(b"j", 0.1) for _ in range(args.moves)]
                whole += [terminal.quiet_ms(b"j", 0.3) for _ in range(args.moves // 8)]
                memory.append(terminal.memory_mib())
        with Terminal(_BOARD, cwd=folder, size=SIZE) as terminal:
            terminal.wait_for(b"accepted")
            _settle(terminal)
            cpu, written = terminal.cpu_s(), terminal.written
            time.sleep(IDLE_S)
            idle_cpu = 100 * (terminal.cpu_s() - cpu) / IDLE_S
            idle_bytes = terminal.written - written
    return report(
        f"{args.runs} runs",
        [
            Figure("board, its rows right", warm, "s", BOARD_S),
            Figure("board, processor time", warm_cpu, "s", digits=2),
            Figure("board, its rows right, nothing kept", cold, "s", BOARD_S),
            Figure("board, processor time, nothing kept", cold_cpu, "s", digits=2),
            Figure("last row read and judged, nothing kept", [settled], "s"),
            Figure("moving the selection, first byte", moves, "ms", MOVE_MS, "p95", 1),
            Figure("moving the selection, whole answer", whole, "ms", None, "p95", 1),
            Figure("moving it while it reads, first byte", busy, "ms", MOVE_MS, "p95", 1),
            Figure("memory", memory, "MiB", digits=1),
            Figure("idle board, CPU", [idle_cpu], "% of a core", IDLE_PERCENT, digits=2),
            Figure(f"idle board, bytes in {IDLE_S:.0f} s", [idle_bytes], "B", 0.0, digits=0),
        ],
    )


def _board_at(terminal: Terminal, seconds: float = 60.0) -> float:
    """Seconds from the start to the chunk after which every row that is seen has its verdict."""
    screen = pyte.Screen(*SIZE)
    stream = pyte.ByteStream(screen)
    done, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        for when, chunk in terminal.chunks[done:]:
            done += 1
            stream.feed(chunk)
            rows = [line for line in screen.display if line[2:].startswith("exp-")]
            if rows and all("accepted" in row for row in rows):
                return when
        time.sleep(0.005)
    raise TimeoutError("\n".join(screen.display))


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
