"""A run of a million logged steps: on the screen, refreshed, in memory. Two to four minutes.

    python -m benchmarks.dashboard.million [--steps 1000000] [--rounds 3] [--frames 60]

Through a pty of 120 × 40: from the start of the process until the newest smoothed loss stands in the legend, without
and with the folded history in the state folder; the most memory that it ever had; from a key that zooms to the first
bytes of the answer. Refresh: `four_plots` in a pty of 200 × 60, the dashboard's own plot widgets in Textual, four with
three such curves each; a key adds two steps to every curve, and the clock stops when the last byte of the picture has
come, at four zooms. Processor time of the same stands below: other work on the machine changes it little.
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
from benchmarks.dashboard.material import long_run
from benchmarks.dashboard.terminal import Terminal
from core.runs.state_folder import STATE_VARIABLE

COLD_S, WARM_S, REFRESH_MS, MEMORY_MIB = 3.0, 1.0, 50.0, 200.0
_BOARD = [sys.executable, "-m", "lora_tui"]
_SIZE = (120, 40)
_KEEP_S = 120.0


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=60)
    args = parser.parse_args()
    cold, warm, cold_cpu, warm_cpu, cold_mib, warm_mib, keys = [], [], [], [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        long_run(folder / "runs", args.steps)
        wanted = "↑1".encode()  # the one step at 25 is counted when the whole history is read
        os.environ[STATE_VARIABLE] = str(folder / "state")
        (folder / "state").mkdir()
        histories = folder / "state" / "cache" / "histories"
        for _ in range(args.rounds):
            shutil.rmtree(histories, ignore_errors=True)
            with Terminal(_BOARD, cwd=folder, size=_SIZE) as terminal:
                cold.append(terminal.wait_for(wanted))
                cold_cpu.append(terminal.cpu_s())
                _wait_for_file(histories)
                cold_mib.append(terminal.peak_mib())
        for _ in range(args.rounds):
            with Terminal(_BOARD, cwd=folder, size=_SIZE) as terminal:
                warm.append(terminal.wait_for(wanted))
                warm_cpu.append(terminal.cpu_s())
                time.sleep(1.0)
                terminal.answer_ms(b"V", 1.0)
                spike = _top_label(terminal.output)
                terminal.answer_ms(b"v", 1.0)
                keys += [terminal.answer_ms(key, 0.3) for key in [b"+", b"+", b"]", b"[", b"-", b"-"] * 4]
                warm_mib.append(terminal.peak_mib())
    print(f"highest label of the loss axis: {spike:g} (the spike of one step is 25)")
    frames, cpu = refreshes(args.steps, args.frames)
    failed = report(
        f"{args.steps} logged steps",
        [
            Figure("on the screen, nothing kept", cold, "s", COLD_S),
            Figure("on the screen, history kept folded", warm, "s", WARM_S),
            Figure("processor time, nothing kept", cold_cpu, "s", digits=2),
            Figure("processor time, history kept folded", warm_cpu, "s", digits=2),
            Figure("refresh, 4 plots × 3 curves", frames, "ms", REFRESH_MS, "p95", 1),
            Figure("refresh, processor time", [cpu], "ms", digits=1),
            Figure("key that zooms to the first byte", keys, "ms", None, "p95", 1),
            Figure("memory, nothing kept", cold_mib, "MiB", MEMORY_MIB, "max", 1),
            Figure("memory, history kept folded", warm_mib, "MiB", MEMORY_MIB, "max", 1),
        ],
    )
    return int(failed or not 20 <= spike <= 30)


def refreshes(steps: int, frames: int) -> tuple[list[float], float]:
    """Milliseconds from the key to the last byte of each picture, and of processor time for one."""
    command = [sys.executable, "-m", "benchmarks.dashboard.four_plots", str(steps)]
    spent: list[float] = []
    with Terminal(command, size=(200, 60)) as terminal:
        terminal.wait_for(b"grown 0000", _KEEP_S)
        _settle(terminal)
        cpu, drawn = 0.0, 0
        for look in range(4):
            if look:
                terminal.type(b"\r")
                terminal.wait_for(f"looked {look:04d}".encode(), _KEEP_S)
            _settle(terminal)  # blocks are worked out once, when a history is opened
            before = terminal.cpu_s()
            for _ in range(frames // 4):
                drawn += 1
                after = terminal.written
                pressed = time.monotonic()
                terminal.type(b" ")
                shown = terminal.started + terminal.wait_for(f"{drawn:04d}".encode(), 20, after=after)
                spent.append(1000 * (shown - pressed))
                time.sleep(0.1)
            cpu += terminal.cpu_s() - before
            terminal.forget()
    return spent, 1000 * cpu / drawn


def _settle(terminal: Terminal) -> None:
    """Until it has used hardly any CPU for half a second."""
    deadline = time.monotonic() + _KEEP_S
    while time.monotonic() < deadline:
        before = terminal.cpu_s()
        time.sleep(0.5)
        if terminal.cpu_s() - before < 0.03:
            return


def _wait_for_file(folder: Path) -> None:
    deadline = time.monotonic() + _KEEP_S
    while time.monotonic() < deadline and not list(folder.glob("*.steps")):
        time.sleep(0.1)
    time.sleep(0.5)


def _top_label(output: bytes) -> float:
    """The highest number on the y axis of the losses, the plot in the middle."""
    screen = pyte.Screen(*_SIZE)
    pyte.ByteStream(screen).feed(output)
    found = [0.0]
    for line in screen.display:
        label, edge, _ = line[_SIZE[0] // 3 : 2 * _SIZE[0] // 3].partition("│")
        if edge and label.strip().replace(".", "", 1).isdigit():
            found.append(float(label))
    return max(found)


if __name__ == "__main__":
    sys.exit(main())
