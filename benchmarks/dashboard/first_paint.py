"""First paint beside a bare Textual application, through a pty, alternating. About a minute.

    python -m benchmarks.dashboard.first_paint [--rounds 9]

First paint is from the start of the process until all parts of the board's layout stand on the screen: header, queue
(`Reading the runs`), plots, verdict panel, footer; for the bare application, until its footer does. The folder holds
one finished run; it is read after that frame, and "runs on the board" says when its row and verdict are there. Also:
torch, transformers and peft are not imported (the process's own memory map is searched for their libraries, and a fresh
interpreter for their modules). Processor time until then tells on a busy machine too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.dashboard.figures import Figure, report
from benchmarks.dashboard.material import finished_run
from benchmarks.dashboard.terminal import ROOT, Terminal

_HELLO = [sys.executable, "-m", "benchmarks.dashboard.hello"]
_BOARD = [sys.executable, "-m", "lora_tui"]
_FOOT = b"Quit"
_LAYOUT = (b"lora-tui", b"Reading the runs", b"trade-off", b"loss", b"select a row", _FOOT)
_HEAVY = ("torch", "transformers", "peft", "soundfile", "scipy")
LIMIT = 1.5


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    hello, board, row, hello_cpu, board_cpu = [], [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        finished_run(Path(folder) / "runs")
        everything = (
            "import lora_tui.dashboard.face, lora_tui.dashboard.reading.reader, lora_tui.dashboard.plots.charts"
        )
        # Once before: what is installed has its bytecode.
        with Terminal(_HELLO) as terminal:
            terminal.wait_for(_FOOT)
        with Terminal(_BOARD, cwd=Path(folder)) as terminal:
            terminal.wait_for(b"accepted")
        for _ in range(rounds):
            with Terminal(_HELLO) as terminal:
                hello.append(terminal.wait_for(_FOOT))
                hello_cpu.append(terminal.cpu_s())
            with Terminal(_BOARD, cwd=Path(folder)) as terminal:
                board.append(max(terminal.wait_for(part) for part in _LAYOUT))
                board_cpu.append(terminal.cpu_s())
                row.append(terminal.wait_for(b"accepted"))
                maps = Path(f"/proc/{terminal.process.pid}/maps").read_text()
    code = f"import sys; {everything}; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    modules = subprocess.run(
        [sys.executable, "-c", code, *_HEAVY], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    mapped = [name for name in _HEAVY if f"/{name}/" in maps]
    print(f"heavy modules imported: {modules}; their libraries mapped: {mapped}")
    ratios = [b / h for b, h in zip(board, hello, strict=True)]
    failed = report(
        "First paint",
        [
            Figure("bare Textual application", hello, "s"),
            Figure("lora-tui, first paint", board, "s"),
            Figure("lora-tui, runs on the board", row, "s"),
            Figure("first paint, ratio of medians", [statistics.median(board) / statistics.median(hello)], "×", LIMIT),
            Figure("first paint, ratio of neighbours", ratios, "×"),
            Figure("bare application, processor time", hello_cpu, "s"),
            Figure("lora-tui, processor time", board_cpu, "s"),
            Figure(
                "processor time, ratio of neighbours", [b / h for b, h in zip(board_cpu, hello_cpu, strict=True)], "×"
            ),
        ],
    )
    return int(failed or modules != "[]" or bool(mapped))


if __name__ == "__main__":
    sys.exit(main())
