"""What the dashboard writes, and when: through a pty of 200 × 50. About four minutes.

    python -m benchmarks.dashboard.traffic [--seconds 60] [--stall 60]

A live run (this process stands in for its trainer and appends real events) at one step a second: bytes a second, CPU,
delay from the written event to the step count on the screen. A terminal that is not read for `--stall` seconds: how
long the longest append took meanwhile, memory, and when the newest step is on the screen again. A finished run: bytes
in a minute and CPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.dashboard.figures import Figure, report
from benchmarks.dashboard.material import finished_run, long_run
from benchmarks.dashboard.terminal import Terminal
from core.runs.events import Record, Step, encode
from core.runs.files import append_line
from core.runs.paths import RunPaths

DELAY_S, KB_A_SECOND, IDLE_PERCENT, RECOVERY_S = 1.0, 20.0, 1.0, 2.0
_BOARD = [sys.executable, "-m", "lora_tui"]
_SIZE = (200, 50)
_LOGGED = 500
_PLANNED = 100_000


class Trainer:
    """Appends steps as a trainer does."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths, self.step = paths, _LOGGED
        self.appends: list[float] = []

    def go_on(self) -> float:
        """One step more; when it was written."""
        self.step += 1
        began = time.monotonic()
        event = Step(self.step, 1.0 + 0.1 * (self.step % 7), 1e-4, 1.0, 500, 74.0, 1.0)
        append_line(self.paths.events, encode(Record(1, time.time(), event)))
        self.appends.append(time.monotonic() - began)
        return began

    @property
    def shown(self) -> bytes:
        """How the board counts the newest step."""
        return f"{self.step}/{_PLANNED}".encode()


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--stall", type=float, default=60.0)
    args = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        paths = long_run(Path(name) / "runs", _LOGGED, ended=False)
        config = paths.config.read_text().replace(f'"steps": {_LOGGED}', f'"steps": {_PLANNED}')
        paths.config.write_text(config)
        trainer = Trainer(paths)
        with Terminal(_BOARD, cwd=Path(name), size=_SIZE) as terminal:
            terminal.wait_for(trainer.shown)
            time.sleep(2.0)
            figures += _live(terminal, trainer, args.seconds)
            figures += _stalled(terminal, trainer, args.stall)
            code = terminal.quit()
    with tempfile.TemporaryDirectory() as name:
        finished_run(Path(name) / "runs")
        with Terminal(_BOARD, cwd=Path(name), size=_SIZE) as terminal:
            terminal.wait_for(b"accepted")
            time.sleep(3.0)
            cpu, written = terminal.cpu_s(), terminal.written
            time.sleep(args.seconds)
            percent = 100 * (terminal.cpu_s() - cpu) / args.seconds
            a_minute = (terminal.written - written) * 60 / args.seconds
    figures.append(Figure("nothing alive: bytes a minute", [a_minute], "B", 0.0, digits=0))
    figures.append(Figure("nothing alive: CPU", [percent], "% of a core", IDLE_PERCENT, digits=2))
    figures.append(Figure("exit code after the stall", [code], "", 0, digits=0))
    return report("Traffic", figures)


def _live(terminal: Terminal, trainer: Trainer, seconds: float) -> list[Figure]:
    delays: list[float] = []
    cpu, written, began = terminal.cpu_s(), terminal.written, time.monotonic()
    while time.monotonic() - began < seconds:
        before, at = terminal.written, trainer.go_on()
        delays.append(terminal.wait_for(trainer.shown, 20, after=before) + terminal.started - at)
        time.sleep(max(0.0, 1.0 - (time.monotonic() - at)))
    spent = time.monotonic() - began
    return [
        Figure("event written to step on the screen", delays, "s", DELAY_S, "max"),
        Figure("one step a second: bytes", [(terminal.written - written) / spent / 1000], "kB/s", KB_A_SECOND),
        Figure("one step a second: CPU", [100 * (terminal.cpu_s() - cpu) / spent], "% of a core", digits=2),
    ]


def _stalled(terminal: Terminal, trainer: Trainer, seconds: float) -> list[Figure]:
    memory = terminal.memory_mib()
    trainer.appends.clear()
    deadline = time.monotonic() + seconds
    # Nobody reads; what the terminal buffers is soon full, since the screen is resized all the time.
    terminal.pause()
    while time.monotonic() < deadline:
        trainer.go_on()
        terminal.resize(_SIZE[0] - trainer.step % 2, _SIZE[1])
        time.sleep(1.0)
    terminal.resize(*_SIZE)
    before = terminal.written
    trainer.go_on()
    resumed = time.monotonic()
    terminal.resume()
    seen = terminal.wait_for(trainer.shown, 60, after=before) + terminal.started - resumed
    return [
        Figure("stalled terminal: longest append", [1000 * max(trainer.appends)], "ms", digits=1),
        Figure("stalled terminal: memory gained", [terminal.memory_mib() - memory], "MiB", 10.0, digits=1),
        Figure("newest step shown after the stall", [seen], "s", RECOVERY_S),
    ]


if __name__ == "__main__":
    sys.exit(main())
