"""Live training under the dashboard, resized and typed at without pause: no leak, no exception. `--minutes` long.

    python -m benchmarks.dashboard.soak [--minutes 30] [--seed 0] [--plan experiments.toml]

A real trainer of the plan's first experiment (threads = 1, more steps than it can do in the time) is queued by
`lora-tui --start` in a pty. Keys are pressed at random (none that stops, removes or quits), the terminal is resized at
random, down to 1 × 1, in storms of a hundred. Memory, open files and threads are sampled; after the first fifth of the
time (a warm-up) a line is laid through each (Theil–Sen). The data of the plan must have been built (`make data`).
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.dashboard.figures import Figure, report
from benchmarks.dashboard.terminal import ROOT, Terminal

MEMORY_MIB_AN_HOUR, GAIN_MIB = 60.0, 30.0
"""Slope that is no leak over a short run's noise, and what may be gained in all after the warm-up."""
_PALETTE = "\x10"
"""Closed again at once: Enter there would do whatever is on top."""
_KEYS = ("\r", "\x1b", "\x1b", _PALETTE, "\t", *"jk1234lh+-[]?0/")
_STORM = 100
_SAMPLE_S = 5.0
_BROKEN = (b"Traceback", b"NoMatches")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plan", type=Path, default=ROOT / "experiments.toml")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lora-tui-soak-"))
    runs = folder / "runs"
    command = [sys.executable, "-m", "lora_tui", str(args.plan), "--start", "--runs", str(runs)]
    for setting in ("train.threads=1", "train.steps=20000", "train.eval_every=500"):
        command += ["--set", setting]
    try:
        with Terminal(command, cwd=ROOT) as terminal:
            terminal.wait_for(b"Quit", 120)
            samples, storms = _soak(terminal, random.Random(args.seed), 60 * args.minutes)
            alive = terminal.process.poll() is None
            terminal.resize(120, 40)
            code = _leave(terminal) if alive else terminal.process.returncode
            output = terminal.output
        steps = sum(path.read_bytes().count(b'{"event": "step"') for path in runs.glob("*/events.jsonl"))
    finally:
        _stop_queue(runs)
        shutil.rmtree(folder, ignore_errors=True)
    return _judge(samples, storms, steps, code, output)


def _soak(terminal: Terminal, chance: random.Random, seconds: float) -> tuple[list[tuple[float, float, int, int]], int]:
    """(seconds, MiB, descriptors, threads) at each sample, and how often it was resized."""
    samples: list[tuple[float, float, int, int]] = []
    resized, began, due = 0, time.monotonic(), 0.0
    while (now := time.monotonic() - began) < seconds and terminal.process.poll() is None:
        if now >= due:
            samples.append((now, terminal.memory_mib(), terminal.descriptors(), terminal.threads()))
            due = now + _SAMPLE_S
        if chance.random() < 0.02:
            for _ in range(_STORM):
                terminal.resize(chance.randint(1, 250), chance.randint(1, 70))
                time.sleep(chance.random() * 0.02)
            resized += _STORM
            terminal.resize(120, 40)
        key = chance.choice(_KEYS)
        terminal.type(key.encode())
        time.sleep(chance.random() * 0.4)
        if key == _PALETTE:
            terminal.type(b"\x1b")
            time.sleep(0.5)
        terminal.forget()
    return samples, resized


def _leave(terminal: Terminal) -> int:
    """Out of whatever is open, then quit."""
    for _ in range(20):
        terminal.type(b"\x1b")
        time.sleep(0.5)
        terminal.type(b"q")
        time.sleep(0.5)
        if terminal.process.poll() is not None:
            break
    return terminal.close()


def _stop_queue(runs: Path) -> None:
    """The trainer that it started goes on by itself: stop it."""
    lora = [sys.executable, "-m", "lora_tui", "queue", "kill", "--all", "--runs", str(runs)]
    subprocess.run(lora, cwd=ROOT, check=False, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(3.0)
    for stat in Path("/proc").glob("[0-9]*/cmdline"):
        # Only processes of this very folder, whose name nobody else has.
        try:
            if str(runs).encode() in stat.read_bytes():
                subprocess.run(["kill", f"-{signal.SIGKILL.value}", stat.parent.name], check=False)
        except OSError:
            continue


def _judge(samples: list[tuple[float, float, int, int]], storms: int, steps: int, code: int, output: bytes) -> int:
    warm = samples[len(samples) // 5 :]
    slopes = [60 * 60 * slope(warm, column) for column in (1, 2, 3)]
    third = max(1, len(warm) // 3)
    gain = median(s[1] for s in warm[-third:]) - median(s[1] for s in warm[:third])
    seen = [word.decode() for word in _BROKEN if word in output]
    print(f"{steps} steps trained, {storms} changes of size, exit code {code}, exceptions: {seen or 'none'}")
    failed = report(
        f"Soak, {samples[-1][0] / 60:.1f} minutes",
        [
            Figure("memory", [s[1] for s in warm], "MiB", digits=1),
            Figure("memory, gained after warm-up", [gain], "MiB", GAIN_MIB, digits=1),
            Figure("memory, slope", [slopes[0]], "MiB an hour", MEMORY_MIB_AN_HOUR, digits=1),
            Figure("open files", [s[2] for s in warm], "", digits=0),
            Figure("open files, slope", [slopes[1]], "an hour", 1.0, digits=2),
            Figure("threads", [s[3] for s in warm], "", digits=0),
            Figure("threads, slope", [slopes[2]], "an hour", 1.0, digits=2),
        ],
    )
    bad = failed or code != 0 or bool(seen) or steps == 0
    print("no leak, no exception: " + ("FAIL" if bad else "PASS"))
    return int(bad)


def slope(samples: list[tuple[float, float, int, int]], column: int) -> float:
    """Theil–Sen: the median of the slopes between all pairs, a second."""
    thin = samples[:: max(1, len(samples) // 200)]
    pairs = [(b[column] - a[column]) / (b[0] - a[0]) for i, a in enumerate(thin) for b in thin[i + 1 :] if b[0] > a[0]]
    return median(pairs) if pairs else 0.0


if __name__ == "__main__":
    sys.exit(main())
