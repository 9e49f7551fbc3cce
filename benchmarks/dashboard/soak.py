"""Live training under the dashboard, resized and typed at without pause: no leak, no exception.

    python -m benchmarks.dashboard.soak [--minutes 30] [--seed 0] [--plan experiments.toml]

It takes `--minutes` and, for the model to be loaded and the base model to be scored, one to three more. A real trainer
of the plan's first experiment is queued by `lora-tui --start` in a pty: threads = 1, the beginnings of the plan's
manifests, an interval every 50 steps, more steps than it can do in the time. The clock starts at its first step. Keys
are pressed at random (none that stops, removes or quits), the terminal is resized at random, down to 1 × 1, in storms
of a hundred. Memory, open files and threads are sampled; after the first fifth of the time (a warm-up) a line is laid
through each (Theil–Sen). Lines are judged in runs of ten minutes or more: in a shorter one, what is imported when a key
is pressed first makes them steep. The data of the plan must have been built (`make data`).
"""

from __future__ import annotations

import argparse
import json
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
from core.plan.read import parse_plan
from core.plan.rows import expand

MEMORY_MIB_AN_HOUR, GAIN_MIB = 60.0, 30.0
"""Slope that is no leak over a short run's noise, and what may be gained in all after the warm-up."""
_PALETTE = "\x10"
"""Closed again at once: Enter there would do whatever is on top."""
_KEYS = ("\r", "\x1b", "\x1b", _PALETTE, "\t", *"jk1234lh+-[]?0/")
_STORM = 100
_SAMPLE_S = 5.0
_SHORT_S = 600.0
_CLIPS = {"train": 300, "replay": 200, "domain": 40, "heldout": 40}
"""Lines of each manifest: an interval is scored within seconds then, and there are many of them."""
_STEP = b'{"event": "step"'
_LOADING_S = 300.0
Sample = tuple[float, float, int, int]
"""(seconds, MiB, descriptors, threads)."""
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
    settings = [f"data.{name}={path}" for name, path in _fewer_clips(args.plan, folder).items()]
    for setting in (*settings, "train.threads=1", "train.steps=20000", "train.epochs=1000", "train.eval_every=50"):
        command += ["--set", setting]
    try:
        with Terminal(command, cwd=ROOT) as terminal:
            terminal.wait_for(b"Quit", 120)
            first = _wait_for_training(runs, terminal)
            samples, storms, seen = _soak(terminal, random.Random(args.seed), 60 * args.minutes)
            last = _steps(runs)
            time.sleep(2 * _SAMPLE_S)
            trains = _steps(runs) > last
            alive = terminal.process.poll() is None
            terminal.resize(120, 40)
            code = _leave(terminal) if alive else terminal.process.returncode
            seen |= _broken(terminal)
            said = terminal.output[-3000:]
    finally:
        _stop_queue(runs)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{last - first} steps trained meanwhile, {'it still trains' if trains else 'IT TRAINS NO MORE'}")
    print(f"{storms} changes of size, exit code {code}, exceptions: {', '.join(sorted(seen)) or 'none'}")
    sound = trains and alive and code == 0 and not seen
    if not sound:
        print(f"the last that was written: {said!r}")
    return _judge(samples, sound=sound)


def _fewer_clips(plan: Path, folder: Path) -> dict[str, Path]:
    """Manifests of the first clips of the plan's, in `folder`."""
    data = expand(parse_plan(plan.read_text(), str(plan)))[0].settings.data
    found = {}
    for name, count in _CLIPS.items():
        source = plan.absolute().parent / getattr(data, name)
        lines = [json.loads(line) for line in source.read_text().splitlines()[:count]]
        for line in lines:
            line["audio_filepath"] = str(source.parent / line["audio_filepath"])
        found[name] = folder / f"{name}.jsonl"
        found[name].write_text("".join(json.dumps(line) + "\n" for line in lines))
    return found


def _steps(runs: Path) -> int:
    return sum(path.read_bytes().count(_STEP) for path in runs.glob("*/events.jsonl"))


def _wait_for_training(runs: Path, terminal: Terminal) -> int:
    """Steps at the moment that the first is there."""
    deadline = time.monotonic() + _LOADING_S
    while time.monotonic() < deadline:
        if count := _steps(runs):
            return count
        time.sleep(1.0)
    raise TimeoutError(f"nothing trains after {_LOADING_S:.0f} s; on the screen: {terminal.output[-3000:]!r}")


def _broken(terminal: Terminal) -> set[str]:
    return {word.decode() for word in _BROKEN if word in terminal.output}


def _soak(terminal: Terminal, chance: random.Random, seconds: float) -> tuple[list[Sample], int, set[str]]:
    """The samples, how often it was resized, and what was written that only an exception writes."""
    samples: list[Sample] = []
    seen: set[str] = set()
    resized, began, due = 0, time.monotonic(), 0.0
    while (now := time.monotonic() - began) < seconds and terminal.process.poll() is None:
        if now >= due:
            samples.append((now, terminal.memory_mib(), terminal.descriptors(), terminal.threads()))
            due = now + _SAMPLE_S
            seen |= _broken(terminal)
            terminal.forget()
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
            for _ in range(2):
                time.sleep(0.5)
                terminal.type(b"\x1b")
    return samples, resized, seen


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
    lora = [sys.executable, "-m", "lora_tui", "queue", "kill", "--all", "--yes", "--runs", str(runs)]
    subprocess.run(lora, cwd=ROOT, check=False, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(3.0)
    for stat in Path("/proc").glob("[0-9]*/cmdline"):
        # Only processes of this very folder, whose name nobody else has.
        try:
            if str(runs).encode() in stat.read_bytes():
                subprocess.run(["kill", f"-{signal.SIGKILL.value}", stat.parent.name], check=False)
        except OSError:
            continue


def _judge(samples: list[Sample], *, sound: bool) -> int:
    warm = samples[len(samples) // 5 :]
    slopes = [60 * 60 * slope(warm, column) for column in (1, 2, 3)]
    fifths = [samples[min(len(samples) - 1, i * len(samples) // 5)] for i in range(6)]
    print("memory, MiB: " + ", ".join(f"{mib:.1f} at {when / 60:.1f} min" for when, mib, _, _ in fifths))
    short = samples[-1][0] < _SHORT_S - 2 * _SAMPLE_S
    limits = (None, None, None) if short else (MEMORY_MIB_AN_HOUR, 1.0, 1.0)
    # Once in a few seconds a file is open for a moment: what counts is whether there are more and more of them.
    failed = report(
        f"Soak, {samples[-1][0] / 60:.1f} minutes" + (", too short to judge lines" if short else ""),
        [
            Figure("memory", [s[1] for s in warm], "MiB", digits=1),
            Figure("memory, gained after warm-up", [_gain(warm, 1)], "MiB", GAIN_MIB, digits=1),
            Figure("memory, slope", [slopes[0]], "MiB an hour", limits[0], digits=1),
            Figure("open files", [s[2] for s in warm], "", digits=0),
            Figure("open files, gained", [_gain(warm, 2)], "", 1.0, digits=0),
            Figure("open files, slope", [slopes[1]], "an hour", limits[1], digits=2),
            Figure("threads", [s[3] for s in warm], "", digits=0),
            Figure("threads, gained", [_gain(warm, 3)], "", 1.0, digits=0),
            Figure("threads, slope", [slopes[2]], "an hour", limits[2], digits=2),
        ],
    )
    bad = bool(failed) or not sound
    print("no leak, no exception: " + ("FAIL" if bad else "PASS"))
    return int(bad)


def _gain(samples: list[Sample], column: int) -> float:
    """Median of the last third less that of the first."""
    third = max(1, len(samples) // 3)
    return median(s[column] for s in samples[-third:]) - median(s[column] for s in samples[:third])


def slope(samples: list[Sample], column: int) -> float:
    """Theil–Sen: the median of the slopes between all pairs, a second."""
    thin = samples[:: max(1, len(samples) // 200)]
    pairs = [(b[column] - a[column]) / (b[0] - a[0]) for i, a in enumerate(thin) for b in thin[i + 1 :] if b[0] > a[0]]
    return median(pairs) if pairs else 0.0


if __name__ == "__main__":
    sys.exit(main())
