"""A run of a million logged steps: on the screen, refreshed, in memory. Three to four minutes.

    python -m benchmarks.dashboard.million [--steps 1000000] [--rounds 3] [--frames 60]

Through a pty of 120 × 40: from the start of the process until the newest smoothed loss stands in the legend, without
and with the folded history in the state folder; the most memory that it ever had; from a key that zooms to the first
bytes of the answer. In this process: what a refresh costs with four plots of three such curves each, in 200 × 60 cells
(four pictures of 100 × 28), two new steps on every curve in each, at four zooms.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyte

from benchmarks.dashboard.figures import Figure, report
from benchmarks.dashboard.material import long_run
from benchmarks.dashboard.terminal import Terminal
from core.runs.steps import Lineage
from core.runs.store import read_run
from lora_tui.dashboard.drawing import draw
from lora_tui.dashboard.look import Look, View
from lora_tui.dashboard.plot import Curve, Plot
from lora_tui.dashboard.series import Floats, smooth

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
    cold, warm, cold_mib, warm_mib, keys = [], [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = long_run(folder / "runs", args.steps)
        wanted = f"{smooth(read_run(paths).steps.loss[-200:], Look().smoothing)[-1]:.3f}".encode()
        histories = folder / "runs" / "cache" / "histories"
        for _ in range(args.rounds):
            shutil.rmtree(histories, ignore_errors=True)
            with Terminal(_BOARD, cwd=folder, size=_SIZE) as terminal:
                cold.append(terminal.wait_for(wanted))
                _wait_for_file(histories)
                cold_mib.append(terminal.peak_mib())
        for _ in range(args.rounds):
            with Terminal(_BOARD, cwd=folder, size=_SIZE) as terminal:
                warm.append(terminal.wait_for(wanted))
                time.sleep(1.0)
                spike = _top_label(terminal.output)
                keys += [terminal.answer_ms(key, 0.3) for key in [b"+", b"+", b"]", b"[", b"-", b"-"] * 4]
                warm_mib.append(terminal.peak_mib())
    print(f"highest label of the loss axis: {spike:g} (the spike of one step is 25)")
    frames = refreshes(args.steps, args.frames)
    failed = report(
        f"{args.steps} logged steps",
        [
            Figure("on the screen, nothing kept", cold, "s", COLD_S),
            Figure("on the screen, history kept folded", warm, "s", WARM_S),
            Figure("refresh, 4 plots × 3 curves", frames, "ms", REFRESH_MS, "p95", 1),
            Figure("key that zooms to the first byte", keys, "ms", None, "p95", 1),
            Figure("memory, nothing kept", cold_mib, "MiB", MEMORY_MIB, "max", 1),
            Figure("memory, history kept folded", warm_mib, "MiB", MEMORY_MIB, "max", 1),
        ],
    )
    return int(failed or not 20 <= spike <= 30)


def refreshes(steps: int, frames: int) -> list[float]:
    """Milliseconds of drawing four plots of three curves, everything a terminal line needs included."""
    random = np.random.default_rng(0)
    xs = np.arange(1, steps + 2 * frames + 1)
    curves: list[tuple[Lineage, Floats]] = [
        (Lineage(), 2 * np.exp(-xs / steps) + 0.1 * random.normal(size=len(xs))) for _ in range(12)
    ]
    views = [View(), View(0.2 * steps, 0.5 * steps), View(0.4 * steps, 0.45 * steps), View(log_y=True)]
    spent = []
    for view in views:
        for frame in range(frames // len(views) + 1):
            seen = steps + 2 * frame
            began = time.perf_counter()
            for plot in range(4):
                three = tuple(
                    Curve(str(i), "train", xs[:seen], ys[:seen], window=30 if i else 1, source=(lineage, "loss"))
                    for i, (lineage, ys) in enumerate(curves[3 * plot : 3 * plot + 3])
                )
                for line in draw(Plot("loss", three), 100, 28, view):
                    "".join(character for character, _ in line)
            if frame:  # the first one works the blocks out; that is part of opening a run
                spent.append(1000 * (time.perf_counter() - began))
    return spent


def _wait_for_file(folder: Path) -> None:
    deadline = time.monotonic() + _KEEP_S
    while time.monotonic() < deadline and not list(folder.glob("*.steps")):
        time.sleep(0.1)
    time.sleep(0.5)


def _top_label(output: bytes) -> float:
    """The highest number on the y axis of the first plot."""
    screen = pyte.Screen(*_SIZE)
    pyte.ByteStream(screen).feed(output)
    found = [0.0]
    for line in screen.display:
        label, edge, _ = line.partition("│")
        if edge and label.strip().replace(".", "", 1).isdigit():
            found.append(float(label))
    return max(found)


if __name__ == "__main__":
    sys.exit(main())
