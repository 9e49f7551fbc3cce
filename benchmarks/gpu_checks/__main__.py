"""What the queue promises on GPUs, seen on one: `python -m benchmarks.gpu_checks --work DIR [--out FILE.md]`.

Prints and writes one table: check, what was seen, limit, verdict. Exit status 0: nothing failed. On one H100 it is made
to take 8 to 10 minutes (every start of a trainer is 15 to 20 s); `--limit` seconds after its start nothing more is
begun, and what was not done is SKIPPED. `--device cpu` shows that the script works: what only a GPU has is SKIPPED.
`--part families` does what concerns model families and memory alone.

Needs the checkout's tracked files only: it renders its clips, in seconds; the base model is tracked. To a machine that
has PyTorch, transformers and peft but no network, carry the other packages as wheels. Where they can be had:

    echo /.whl/ >> .git/info/exclude
    python3 -m pip download -d .whl --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \\
      --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \\
      --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -c constraints.txt PACKAGES

where PACKAGES are: jiwer rapidfuzz whisper-normalizer indic-numtowords more-itertools msgspec soundfile cffi pycparser
soxr tomli espeakng-loader (16 MB). There, with `.whl` carried, in the checkout, as one command of at most 600 seconds,
OUT being the folder that comes back:

    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site \\
      .whl/*.whl && export PYTHONPATH=/tmp/site PYTHONUNBUFFERED=1 || exit
    python3 -m benchmarks.gpu_checks --work /tmp/gpu --out $OUT/gpu.md
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu_checks import architectures as families
from benchmarks.gpu_checks import forecast as memory_forecast
from benchmarks.gpu_checks import on_gpu
from benchmarks.gpu_checks.scene import Apart, Scale, Scene, apart, parity_of, scale_of
from benchmarks.gpu_checks.table import Table
from benchmarks.kill_matrix.compare import differences, fingerprint
from benchmarks.kill_matrix.material import ROOT, clips
from benchmarks.kill_matrix.world import Failed
from core.queue.executor import child_environment
from core.queue.gpu.nvml import NvmlReader
from core.runs.paths import RunPaths
from core.runs.store import read_run

KILLS = 3
LOSS_LIMIT, WER_LIMIT = 0.01, 0.5
"""docs/queue.md, Determinism: of a step's loss, relative; of an interval's WER, in points."""
DETERMINISTIC = "train.deterministic=true"
PACE_STEPS = 150
_SHARED = ("queue.gpu_free_gb=4",)
"""Several runs of this script train on one GPU."""


@dataclass(slots=True)
class Bench:
    """What all checks share."""

    work: Path
    device: str
    scale: Scale
    environment: dict[str, str]
    """What differs from this process's."""
    table: Table
    deadline: float
    runs: dict[str, RunPaths] = field(default_factory=dict)
    """Those that came to their end, by name."""
    told: dict[str, str] = field(default_factory=dict)
    """Where kills landed, or why a run did not come to its end."""

    def run(self, name: str) -> RunPaths:
        """A finished run. Failed, with the reason, when it is none."""
        if name not in self.runs:
            raise Failed(f"the run {name!r} did not come to its end: {self.told.get(name, 'it was never started')}")
        return self.runs[name]

    def check(self, what: str, needs_s: float, deed: Callable[[], None]) -> None:
        """Do it if there is time; whatever goes wrong is a row, too."""
        if time.monotonic() + needs_s > self.deadline:
            self.table.add(what, "no time was left", "", None)
            return
        try:
            deed()
        except Exception as error:
            if not isinstance(error, Failed):
                traceback.print_exc()
            self.table.add(what, f"{type(error).__name__}: {error}", "", False)

    def scene(self, name: str, *settings: str, more: str = "") -> Scene:
        """A scene on this bench's device."""
        return Scene.of(self.work, name, self.environment, (*self.scale.settings, *settings), more)


def architectures(bench: Bench) -> None:
    """The deterministic mode and a reduced base, on every family."""
    told = _said(bench, "architectures", bench.device, str(bench.work / "families"), timeout=400)
    for row in families.rows(told):
        bench.table.add(*row)


def forecast(bench: Bench, models: Sequence[Path]) -> None:
    """The forecast of memory against what a trainer takes."""
    for model in models:
        told = _said(bench, "forecast", bench.device, str(model), timeout=300)
        for row in memory_forecast.rows(told, model.name):
            bench.table.add(*row)


def _said(bench: Bench, module: str, *arguments: str, timeout: float) -> dict[str, Any]:
    """The JSON object that a module of this folder prints last, as a process of its own."""
    command = [sys.executable, "-m", f"benchmarks.gpu_checks.{module}", *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=child_environment(bench.environment),
        cwd=ROOT,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise Failed(done.stderr.strip()[-400:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def runs(bench: Bench) -> None:
    """Undisturbed and killed runs in both modes, some at a time. What fails is told by the checks that need it."""

    def run(name: str) -> None:
        mode = (DETERMINISTIC,) if name.startswith("deterministic") else ()
        scene = bench.scene(name.replace(" ", "-"), *_SHARED, *mode)
        try:
            if name.endswith("killed"):
                bench.told[name] = scene.killed(KILLS, bench.scale.steps, random.Random(name))
            else:
                scene.start()
            bench.runs[name] = scene.finish()
        except Exception as error:
            bench.told[name] = f"{type(error).__name__}: {error}"
        finally:
            scene.world.close()

    with ThreadPoolExecutor(bench.scale.jobs) as pool:
        list(pool.map(run, ("deterministic killed", "default killed", "default", "default again", "deterministic")))


def resume_exactly(bench: Bench) -> None:
    """a: in the deterministic mode."""
    one, other = (fingerprint(bench.run(name)) for name in ("deterministic", "deterministic killed"))
    differing = differences(one, other)
    text = f"killed in {bench.told['deterministic killed']}; {len(one)} things compared, " + (
        f"{len(differing)} differ: {', '.join(differing[:4])}" if differing else "all equal"
    )
    bench.table.add("a. resume, deterministic", text, "byte for byte", not differing)


def resume_nearly(bench: Bench) -> None:
    """b: in the default mode, beside what two undisturbed runs differ by."""
    limit = f"loss {100 * LOSS_LIMIT:g} %, WER {WER_LIMIT} points"
    floor = apart(bench.run("default"), bench.run("default again"))
    found = apart(bench.run("default"), bench.run("default killed"))
    text = f"killed in {bench.told['default killed']}; largest difference: {found}"
    bench.table.add("b. resume, default", text, limit, _within(found))
    bench.table.add("b. two undisturbed runs, default", f"largest difference: {floor}", limit, _within(floor))


def parity(bench: Bench) -> None:
    """f: the trainer's transcripts and those of `lora-cli evaluate`."""
    for name in ("deterministic", "default killed"):
        passed, text = parity_of(bench.run(name))
        bench.table.add(f"f. parity, {name}", text, "the verdict's criterion passes", passed)


def _within(found: Apart) -> bool:
    return found.loss <= LOSS_LIMIT and found.wer <= WER_LIMIT


def pace(bench: Bench) -> None:
    """What the deterministic mode costs, and steps a second; on a GPU with nothing else on it."""
    if bench.device == "cpu":
        rows = [bench.run(name) for name in ("default", "deterministic")]
    else:
        more = f'[[experiment]]\nid = "d"\n{DETERMINISTIC}\n'
        scene = bench.scene("pace", "train.steps=1000", "train.eval_every=1000", "train.batch_seconds=60", more=more)
        try:
            rows = [_paced(scene, row) for row in ("k", "d")]
        finally:
            scene.world.close()
    steps = [read_run(run).steps for run in rows]
    plain, slow = (series.seconds_per_step or 0.0 for series in steps)
    text = f"{slow / plain:.2f} times a default step's time ({plain:.3f} and {slow:.3f} s, medians)"
    bench.table.add("c. cost of the deterministic mode", text, "none: a figure", True)
    audio = float(steps[0].audio_s.mean())
    text = f"{1 / plain:.1f} steps/s of {audio:.0f} s of speech: {audio / plain:.0f} times real time"
    bench.table.add("g. throughput of the embedded model", text, "none: a figure", True)


def _paced(scene: Scene, row: str) -> RunPaths:
    if row == "k":
        scene.start("--detach")
    scene.world.until(f"step {PACE_STEPS} of {row}", lambda: scene.step(row) >= PACE_STEPS, 120, 0.2)
    scene.world.queue("kill", row, "--yes")
    run = scene.world.run(row)
    if run is None:
        raise Failed(f"{row} has no run")
    return run


def gpu_only(bench: Bench) -> None:
    """Slots and memory."""
    if bench.device == "cpu":
        bench.table.add("d. slots by NVML", "needs a GPU", "", None)
        bench.table.add("e. out of memory", "needs a GPU", "", None)
        return

    def slots() -> None:
        scene = bench.scene("slots")
        try:
            gpu = NvmlReader().read().gpus[0]
            on_gpu.slots(scene, gpu, bench.table)
        finally:
            scene.world.close()

    def memory() -> None:
        needs = on_gpu.appetite(bench.environment, ROOT / "data" / "base_model")
        batch = (f"train.batch_seconds={needs['seconds']}", "train.accumulation=1")
        short = ("train.steps=4", "train.eval_every=4", "train.checkpoint_every=4", "queue.gpu_free_gb=1")
        scene = bench.scene("memory", *short, *batch)
        try:
            on_gpu.memory(scene, needs, bench.table)
        finally:
            scene.world.close()

    bench.check("d. slots by NVML", 70, slots)
    bench.check("e. out of memory", 120, memory)


def main() -> int:
    """All checks in their order."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_checks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, required=True, help="a folder for its files")
    parser.add_argument("--out", type=Path, help="the table in Markdown, written anew after each check")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="default: %(default)s")
    parser.add_argument(
        "--limit", type=float, default=520.0, metavar="S", help="nothing is begun later; default: %(default)s"
    )
    parser.add_argument("--part", choices=("all", "queue", "families"), default="all", help="default: %(default)s")
    parser.add_argument(
        "--model",
        type=Path,
        action="append",
        help="a folder of a model whose memory is forecast and measured; may be repeated; default: the embedded one",
    )
    options = parser.parse_args()
    started = time.monotonic()
    environment = {"CUDA_VISIBLE_DEVICES": ""}
    heading = "On the CPU"
    if options.device == "gpu":
        gpus = NvmlReader().read()
        if not gpus.gpus:
            parser.error(f"{gpus.note or gpus.unusable}; --device cpu shows that the script works")
        environment["CUDA_VISIBLE_DEVICES"] = gpus.gpus[0].uuid
        heading = f"On one {gpus.gpus[0].product}"
    work = options.work.absolute()
    for folder in ("material", "scenes"):
        shutil.rmtree(work / folder, ignore_errors=True)
    device = "cuda" if options.device == "gpu" else "cpu"
    table = Table(heading, options.out)
    bench = Bench(work, device, scale_of(device), environment, table, started + options.limit)
    if options.part != "families":
        clips(work / "material", bench.scale.clips)
        bench.check("a., b. resume", 200, lambda: runs(bench))
        bench.check("a. resume, deterministic", 0, lambda: resume_exactly(bench))
        bench.check("b. resume, default", 0, lambda: resume_nearly(bench))
        bench.check("f. parity", 0, lambda: parity(bench))
        gpu_only(bench)
        bench.check("c., g. pace", 75, lambda: pace(bench))
    if options.part != "queue":
        models = options.model or [ROOT / "data" / "base_model"]
        bench.check("a., h. every family", 60, lambda: architectures(bench))
        bench.check("i. forecast of memory", 60, lambda: forecast(bench, models))
    print(f"\n{bench.table.markdown()}\n{(time.monotonic() - started) / 60:.1f} minutes")
    print("PASS" if bench.table.passed else "FAIL")
    return 0 if bench.table.passed else 1


if __name__ == "__main__":
    sys.exit(main())
