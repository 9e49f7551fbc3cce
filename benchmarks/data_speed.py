"""How fast `lora-cli manifest` is on 100,000 utterances, and how much memory it takes.

    python -m benchmarks.data_speed [--only lines|audio|memory|expand] [--lines 100000] [--files 8000] [--rounds 3]
                                    [--format NAME] [--scaled]

lines   `check --no-audio` on 100,000 lines over 2000 real files: at most 10 s.
audio   the audit with audio (from the manifest to its findings) beside a bare loop of `soundfile.read` over the same
        distinct files, in as many processes, turn about, which of the two comes first changing from round to round;
        after a pass of each that does not count. Measured without a limit. --files clips of FLAC
        and WAV (16 kHz), half as many of the others; each of 4 to 10 s, as most corpora have them, of pieces of
        the embedded speech (or of synthesised sound, where that is not built) at other speeds and levels, written once
        to a temporary folder. Processor time, of all processes with their start, says the same on a busy machine; how
        long reading the files' bytes takes tells what is bound by decoding. --format takes some (FLAC, WAV, …).
memory  `check` with audio on 100,000 lines, slices of 1000 such files, so that a hundred lines each are the same
        recording: at most 500 MB. Counted is the greatest sum, over the command and its workers, of memory that each
        has to itself plus its part of what they share (PSS). Fails when it takes more than --memory-limit-s (300).
        --scaled takes a fifth and a half of the lines instead (about 2 minutes), prints both and the line through them
        at all of the lines: an estimate, for what is held of a line grows evenly and what is compared is bounded.
expand  `expand --size 5000 --exclude` from a pool of 100,000: at most 10 s.

Medians of --rounds rounds with the smallest and largest beside them. About 35 minutes on two quiet cores, of which Opus
takes 15, the other formats 10 and the memory part at most 5; `--only` runs one part.
`--only audio --format FLAC WAV --files 2000` takes a minute.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import platform
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("lines", "audio", "memory", "expand")
FORMATS: dict[str, tuple[int, dict[str, Any]]] = {
    "FLAC 16 kHz": (16_000, {"format": "FLAC", "subtype": "PCM_16"}),
    "WAV 16 kHz": (16_000, {"format": "WAV", "subtype": "PCM_16"}),
    "MP3 48 kHz": (48_000, {"format": "MP3"}),
    "Vorbis 16 kHz": (16_000, {"format": "OGG", "subtype": "VORBIS"}),
    "Opus 48 kHz": (48_000, {"format": "OGG", "subtype": "OPUS"}),
}
LINES_S, EXPAND_S, MEMORY_MB = 10.0, 10.0, 500
BATCH = 32
CORES = len(os.sched_getaffinity(0))


@cache
def material() -> list[Any]:
    """Sounds to cut pieces from: so many that few clips are alike, as in a corpus."""
    paths = sorted((ROOT / "data" / "audio").glob("*/*.flac"))[::3]
    if paths:
        return [soundfile.read(path, dtype="float32")[0] for path in paths]
    rng = np.random.default_rng(0)
    time_s = np.arange(48_000) / 16_000
    return [
        sum(np.sin(2 * np.pi * h * rng.uniform(80, 300) * time_s) / h for h in range(1, 12)) * 0.05 for _ in range(200)
    ]


def write_clips(job: tuple[str, str, int, int]) -> None:
    """Clips [start, stop) of a format."""
    folder, name, start, stop = job
    rate_hz, options = FORMATS[name]
    sounds = material()
    for number in range(start, stop):
        rng = random.Random(number)
        pieces = []
        for _ in range(rng.randint(4, 10)):
            sound = rng.choice(sounds)
            at = rng.randint(0, max(0, len(sound) - 16_000))
            piece = sound[at : at + 16_000]
            count = int(len(piece) / rng.uniform(0.85, 1.2))
            pieces.append(np.interp(np.linspace(0, len(piece) - 1, count), np.arange(len(piece)), piece))
        samples = np.concatenate(pieces) * rng.uniform(0.3, 1.0)
        if rate_hz != 16_000:
            samples = soxr.resample(samples, 16_000, rate_hz)
        soundfile.write(Path(folder) / f"{number:06d}.bin", np.clip(samples, -1, 1), rate_hz, **options)


def make_clips(folder: Path, name: str, count: int) -> list[Path]:
    """`count` distinct files."""
    folder.mkdir()
    step = max(1, count // (4 * CORES))
    jobs = [(str(folder), name, start, min(start + step, count)) for start in range(0, count, step)]
    with ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(write_clips, jobs))
    return sorted(folder.iterdir())


def text_of(rng: random.Random, words: Sequence[str], weights: Sequence[float]) -> str:
    """A sentence of words as frequent as words are."""
    return " ".join(rng.choices(words, cum_weights=weights, k=rng.randint(4, 16)))


def write_manifest(path: Path, files: Sequence[Path], lines: int, seconds: Sequence[float]) -> Path:
    """`lines` lines over `files`, as further slices of them when there are fewer."""
    rng = random.Random(0)
    syllables = [a + b for a in "bcdfghklmnprst" for b in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(20_000)]
    weights = list(np.cumsum(1 / (np.arange(len(words)) + 10)))
    with path.open("w") as file:
        for number in range(lines):
            at = number % len(files)
            line: dict[str, Any] = {"audio_filepath": str(files[at]), "text": text_of(rng, words, weights)}
            line["duration"] = round(seconds[at], 3)
            if lines > len(files):
                offset = round(number // len(files) * seconds[at] * 0.5 * len(files) / lines, 4)
                line |= {"offset": offset, "duration": round(seconds[at] / 2, 3)}
            line["speaker"] = f"speaker {number % 700}"
            file.write(json.dumps(line) + "\n")
    return path


def bare(paths: list[str]) -> int:
    """What a worker of the bare loop does."""
    return sum(len(soundfile.read(path, dtype="float32")[0]) for path in paths)


def bare_loop(files: Sequence[Path]) -> None:
    """A bare soundfile loop on all cores, its processes' start included."""
    batches = [[str(path) for path in files[start : start + BATCH]] for start in range(0, len(files), BATCH)]
    with ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(bare, batches))


def processor_s() -> tuple[float, float]:
    """Processor time of this process, and of those that it waited for."""
    mine, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime, others.ru_utime + others.ru_stime


def taken(work: Callable[[], object]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds of all processes, and of them this process's."""
    mine, others = processor_s()
    began = time.perf_counter()
    work()
    wall = time.perf_counter() - began
    mine_after, others_after = processor_s()
    return wall, mine_after + others_after - mine - others, mine_after - mine


def told(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def verdict(good: bool, text: str) -> bool:
    """Print a line of the result."""
    print(f"{'PASS' if good else 'FAIL'}  {text}", flush=True)
    return good


def command(*arguments: object) -> tuple[float, float]:
    """Wall seconds and CPU seconds of a `lora-cli manifest` command."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "core.cli", "manifest", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    took, after = time.perf_counter() - began, os.times()
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr.decode())
    return took, after.children_user + after.children_system - before.children_user - before.children_system


def timed(title: str, limit_s: float, rounds: int, *arguments: object) -> bool:
    """A command against its limit."""
    runs = [command(*arguments) for _ in range(rounds)]
    wall = [took for took, _ in runs]
    cpu = told([used for _, used in runs])
    return verdict(statistics.median(wall) <= limit_s, f"{title}: {told(wall)} s, CPU {cpu} s; at most {limit_s:g} s")


def audio_part(folder: Path, files: int, rounds: int, formats: Sequence[str]) -> None:
    """The audit beside the bare loop, for each format."""
    # Not at the head of the module, which the bare loop's processes import, too.
    from core.audit.audit import Source, audit

    for name in formats:
        # Fewer than 400 are measured in one process, which would spare the audit the start of the others.
        count = max(500, files if name.startswith(("FLAC", "WAV")) else files // 2)
        paths = make_clips(folder / name.replace(" ", "-"), name, count)
        seconds = [soundfile.info(path).duration for path in paths]
        manifest = write_manifest(folder / "m.jsonl", paths, count, seconds)
        both: list[Callable[[], object]] = [
            lambda: audit([Source(manifest, None, "m")], workers=CORES),  # noqa: B023
            lambda: bare_loop(paths),  # noqa: B023
        ]
        runs: list[list[tuple[float, float, float]]] = [[], []]
        for number in range(rounds + 1):
            for which in (0, 1) if number % 2 else (1, 0):
                run = taken(both[which])
                if number:
                    runs[which].append(run)
        ours, others = runs
        began = time.perf_counter()
        held = sum(len(path.read_bytes()) for path in paths)
        read_ms = (time.perf_counter() - began) / count * 1000
        shares = [bare_run[0] / our[0] for our, bare_run in zip(ours, others, strict=True)]
        costs = [our[1] / bare_run[1] for our, bare_run in zip(ours, others, strict=True)]
        print(
            f"{name}, {count} files of {statistics.mean(seconds):.1f} s: share of the bare loop's rate {told(shares)}"
        )
        rates = [told([count / run[0] for run in some], 0) for some in (ours, others)]
        size_kb = held / count / 1000
        print(
            f"      clips a second: audit {rates[0]}, bare {rates[1]}; reading {size_kb:.0f} kB alone: {read_ms:.2f} ms"
        )
        used = [told([run[at] / count * 1000 for run in some]) for some, at in ((ours, 1), (ours, 2), (others, 1))]
        cost = f"audit {used[0]} (of it the command {used[1]}), bare {used[2]}: {told(costs)} times"
        print(f"      processor ms a clip: {cost}", flush=True)


_KCMP, _KCMP_VM = {"x86_64": 312, "aarch64": 272}, 1
"""Linux's system call that says whether two processes share something, and its word for memory."""


def pss_mb(pid: int, parent: int | None = None) -> float:
    """Memory of a process and its descendants, MB; shared pages in parts.

    A child that was made by vfork and has not begun its program yet runs in its parent's memory: it has none itself,
    though the kernel tells all of the parent's for it.
    """
    total = 0.0
    try:
        if parent is None or not same_memory(pid, parent):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) / 1000
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            total += sum(pss_mb(int(child), pid) for child in children.read_text().split())
    except OSError:
        return total
    return total


def same_memory(pid: int, other: int) -> bool:
    """Whether two processes run in the same memory."""
    number = _KCMP.get(platform.machine())
    return number is not None and ctypes.CDLL(None).syscall(number, pid, other, _KCMP_VM, 0, 0) == 0


def greatest_memory(manifest: Path, limit_s: float) -> tuple[float, float, float | None]:
    """MB of `check` with audio and its workers (PSS), and of the command alone (peak RSS); seconds, None after
    `limit_s`, when it is stopped."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "core.cli", "manifest", "check", str(manifest), "--workers", str(CORES)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    most, alone = 0.0, 0.0
    while process.poll() is None and time.perf_counter() - began < limit_s:
        most = max(most, pss_mb(process.pid))
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            alone = max([alone, *(int(row.split()[1]) / 1000 for row in status.splitlines() if "VmHWM" in row)])
        except OSError:
            break
        time.sleep(0.1)
    ended = process.poll() is not None
    if not ended:
        process.send_signal(signal.SIGINT)  # it ends its workers
    if process.wait() not in (0, 1) and ended:
        raise SystemExit(f"manifest check ended with {process.returncode}")
    return most, alone, time.perf_counter() - began if ended else None


def memory_part(manifest: Path, limit_s: float) -> bool:
    """The whole manifest against the limit."""
    most, alone, took = greatest_memory(manifest, limit_s)
    text = f"check with audio: command and {CORES} workers {most:.0f} MB, the command alone {alone:.0f} MB (peak RSS), "
    end = f"in {took:.0f} s" if took is not None else f"NOT ENDED after {limit_s:.0f} s"
    return verdict(took is not None and most <= MEMORY_MB, f"{text}{end}; at most {MEMORY_MB} MB")


def scaled_memory_part(make: Callable[[int], Path], lines: int, limit_s: float) -> bool:
    """A fifth and a half of the lines, and what follows for all of them."""
    sizes, found = (lines // 5, lines // 2), []
    for size in sizes:
        most, alone, took = greatest_memory(make(size), limit_s)
        end = f"in {took:.0f} s" if took is not None else f"NOT ENDED after {limit_s:.0f} s"
        told = f"{size} lines: command and {CORES} workers {most:.0f} MB, the command alone {alone:.0f} MB, {end}"
        found.append(most)
        if not verdict(took is not None and most <= MEMORY_MB, told):
            return False
    estimate = found[1] + (found[1] - found[0]) / (sizes[1] - sizes[0]) * (lines - sizes[1])
    return verdict(estimate <= MEMORY_MB, f"estimated for {lines} lines: {estimate:.0f} MB; at most {MEMORY_MB} MB")


def main() -> int:
    """All parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=3)
    names = [name.split()[0] for name in FORMATS]
    parser.add_argument("--format", choices=names, nargs="+", default=names)
    parser.add_argument("--scaled", action="store_true", help="memory: a fifth and a half of the lines")
    parser.add_argument("--memory-limit-s", type=float, default=300.0, metavar="S")
    args = parser.parse_args()
    parts = args.only or PARTS
    print(f"{CORES} cores, load {os.getloadavg()[0]:.1f}; {args.lines} lines, {args.files} files, {args.rounds} rounds")
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"lines", "expand", "memory"} & set(parts):
            count = min(1000, args.files) if "memory" in parts else min(2000, args.files)
            paths = make_clips(folder / "clips", "FLAC 16 kHz", count)
            seconds = [soundfile.info(path).duration for path in paths]
            manifest = write_manifest(folder / "many.jsonl", paths, args.lines, seconds)
            train = write_manifest(folder / "train.jsonl", paths[:50], 500, seconds)
        if "lines" in parts:
            good &= timed("check --no-audio", LINES_S, args.rounds, "check", "--no-audio", manifest)
        if "expand" in parts:
            arguments = ("--pool", manifest, "--size", 5000, "--exclude", train, "--exclude-near-texts", "--force")
            good &= timed("expand", EXPAND_S, args.rounds, "expand", *arguments, "-o", folder / "out.jsonl")
        if "memory" in parts:
            if args.scaled:
                make = partial(write_manifest, folder / "scaled.jsonl", paths, seconds=seconds)
                good &= scaled_memory_part(make, args.lines, args.memory_limit_s)
            else:
                good &= memory_part(manifest, args.memory_limit_s)
        if "audio" in parts:
            formats = [name for name in FORMATS if name.split()[0] in args.format]
            audio_part(folder, args.files, args.rounds, formats)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
