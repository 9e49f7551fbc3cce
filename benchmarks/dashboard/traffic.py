"""What the dashboard writes, and when: through a pty of 200 × 50. Three to four minutes.

    python -m benchmarks.dashboard.traffic [--seconds 45] [--stall 60]

A process of its own (`writer`) appends real events to a run, a step a second. `--seconds` of it: delay from before the
append to the step count on the screen, bytes a second, CPU. A terminal that is not read for `--stall` seconds, and
resized all the time, so that its buffer is full: how long the writer's appends took and how late they were, beside
those of the time before; memory; when the newest step is on the screen again; that the dashboard still answers a key.
A finished run: bytes in a minute and CPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dashboard.figures import Figure, report
from benchmarks.dashboard.material import finished_run, long_run
from benchmarks.dashboard.terminal import ROOT, Terminal

DELAY_S, KB_A_SECOND, IDLE_PERCENT, RECOVERY_S = 1.0, 20.0, 1.0, 2.0
APPEND_MS, LATE_MS, GAINED_MIB = 50.0, 250.0, 10.0
"""What an append may take, and how late it may be, while nobody reads the terminal: a step is a second."""
_BOARD = [sys.executable, "-m", "lora_tui"]
_SIZE = (200, 50)
_LOGGED = 500
_PLANNED = 100_000


@dataclass(frozen=True, slots=True)
class Append:
    """One step, as its writer noted it; seconds, `began` on the monotonic clock."""

    step: int
    began: float
    took: float
    late: float

    @property
    def shown(self) -> bytes:
        """How the board counts it."""
        return f"{self.step}/{_PLANNED}".encode()


class Writer:
    """The process that appends, and what it has noted."""

    def __init__(self, run: Path, notes: Path) -> None:
        self._notes = notes
        command = [sys.executable, "-m", "benchmarks.dashboard.writer", str(run), str(_LOGGED + 1), str(notes)]
        self.process = subprocess.Popen(command, cwd=ROOT)

    def appends(self) -> list[Append]:
        """All so far."""
        try:
            lines = self._notes.read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        whole = [line.split() for line in lines if line.endswith("\n")]
        return [Append(int(a), float(b), float(c), float(d)) for a, b, c, d in whole]

    def since(self, began: float) -> list[Append]:
        """Those of this moment and later."""
        return [append for append in self.appends() if append.began >= began]

    def next(self) -> Append:
        """Waits for the next one."""
        count = len(self.appends())
        while len(appends := self.appends()) == count:
            if self.process.poll() is not None:
                raise RuntimeError("the writer has ended")
            time.sleep(0.01)
        return appends[-1]

    def end(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--stall", type=float, default=60.0)
    args = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        paths = long_run(Path(name) / "runs", _LOGGED, ended=False)
        config = paths.config.read_text().replace(f'"steps": {_LOGGED}', f'"steps": {_PLANNED}')
        paths.config.write_text(config)
        writer = Writer(paths.root, Path(name) / "notes")
        try:
            with Terminal(_BOARD, cwd=Path(name), size=_SIZE) as terminal:
                terminal.wait_for(writer.next().shown)
                time.sleep(3.0)
                figures += _live(terminal, writer, args.seconds)
                figures += _stalled(terminal, writer, args.stall)
                code = terminal.quit()
        finally:
            writer.end()
    figures.append(Figure("exit code after the stall", [code], "", 0, digits=0))
    figures += _idle(args.seconds)
    failed = report("Traffic", figures)
    print("traffic: " + ("FAIL" if failed else "PASS"))
    return failed


def _live(terminal: Terminal, writer: Writer, seconds: float) -> list[Figure]:
    delays: list[float] = []
    cpu, written, began = terminal.cpu_s(), terminal.written, time.monotonic()
    while time.monotonic() - began < seconds:
        before = terminal.written
        append = writer.next()
        delays.append(terminal.wait_for(append.shown, 20, after=before) + terminal.started - append.began)
    spent = time.monotonic() - began
    return [
        Figure("event written to step on the screen", delays, "s", DELAY_S, "max"),
        Figure("one step a second: bytes", [(terminal.written - written) / spent / 1000], "kB/s", KB_A_SECOND),
        Figure("one step a second: CPU", [100 * (terminal.cpu_s() - cpu) / spent], "% of a core", digits=2),
        *_costs(writer.since(began), "terminal read"),
    ]


def _stalled(terminal: Terminal, writer: Writer, seconds: float) -> list[Figure]:
    memory, began = terminal.memory_mib(), time.monotonic()
    # Nobody reads; what the terminal buffers is soon full, since the screen is resized all the time.
    terminal.pause()
    number = 0
    while time.monotonic() - began < seconds:
        number += 1
        terminal.resize(_SIZE[0] - number % 2, _SIZE[1])
        time.sleep(1.0)
    terminal.resize(*_SIZE)
    during = writer.since(began)
    before, newest = terminal.written, during[-1]
    resumed = time.monotonic()
    terminal.resume()
    # It, or one that was written meanwhile.
    seen = _first_shown(terminal, writer, newest.step, before) + terminal.started - resumed
    terminal.wait_for(writer.next().shown, 20, after=before)
    gained = terminal.memory_mib() - memory
    before = terminal.written
    terminal.type(b"?")
    terminal.wait_for(b"guardrail", 10, after=before)
    terminal.type(b"\x1b")
    time.sleep(1.0)
    return [
        *_costs(during, "terminal stalled", APPEND_MS, LATE_MS),
        Figure("terminal stalled: steps lost", [seconds - len(during)], "", 2.0, digits=0),
        Figure("terminal stalled: memory gained", [gained], "MiB", GAINED_MIB, digits=1),
        Figure("newest step shown after the stall", [seen], "s", RECOVERY_S),
    ]


def _first_shown(terminal: Terminal, writer: Writer, step: int, after: int) -> float:
    """Seconds from the start of the dashboard until this step, or a later one, is on the screen."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        later = [append for append in writer.appends() if append.step >= step]
        output = terminal.output[after:]
        shown = [append for append in later if append.shown in output]
        if shown:
            return min(terminal.wait_for(append.shown, after=after) for append in shown)
        time.sleep(0.01)
    raise TimeoutError(f"step {step} was never shown after the stall")


def _costs(
    appends: list[Append], when: str, append_ms: float | None = None, late_ms: float | None = None
) -> list[Figure]:
    """Of the writer."""
    return [
        Figure(f"{when}: an append", [1000 * a.took for a in appends], "ms", append_ms, "p95", 2),
        Figure(f"{when}: how late it is", [1000 * a.late for a in appends], "ms", late_ms, "p95", 2),
    ]


def _idle(seconds: float) -> list[Figure]:
    """A board on which nothing is alive."""
    with tempfile.TemporaryDirectory() as name:
        finished_run(Path(name) / "runs")
        with Terminal(_BOARD, cwd=Path(name), size=_SIZE) as terminal:
            terminal.wait_for(b"accepted")
            time.sleep(5.0)
            cpu, written = terminal.cpu_s(), terminal.written
            time.sleep(seconds)
            percent = 100 * (terminal.cpu_s() - cpu) / seconds
            a_minute = (terminal.written - written) * 60 / seconds
    return [
        Figure("nothing alive: bytes a minute", [a_minute], "B", 0.0, digits=0),
        Figure("nothing alive: CPU", [percent], "% of a core", IDLE_PERCENT, digits=2),
    ]


if __name__ == "__main__":
    sys.exit(main())
