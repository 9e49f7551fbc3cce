"""The forecast of memory in `lora-tui plan` against what trainers really take on the CPU.

    python -m benchmarks.memory [MODEL …]      # default: the embedded base model; else folders of models

Each case is a run of two steps and one evaluation on noise of so many seconds, by `python -m core.training` as the
queue starts it. Prints one line a case: forecast and peak (the kernel's ru_maxrss) in MB, and the forecast's error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile

from core.manifests.hashing import HashCache
from core.plan.read import parse_plan
from core.plan.rows import expand
from core.runs.memory_forecast import memory_forecast
from core.runs.resolve import resolve
from core.runs.state_folder import runs_folder
from core.system.files import write_json

ROOT = Path(__file__).resolve().parents[1]
_ATTENTION = ("adapter.method=lora", "adapter.target_modules=attention")
_EVERYTHING = ("adapter.target_modules=all-linear",)
CASES: dict[str, tuple[int, float, tuple[str, ...]]] = {
    "LoRA on attention": (4, 10.0, _ATTENTION),
    "LoRA on the decoder": (4, 10.0, (*_ATTENTION, "adapter.sites=decoder")),
    "DoRA on every layer": (4, 10.0, _EVERYTHING),
    "twice the clips": (8, 10.0, _EVERYTHING),
    "layers computed again": (8, 10.0, (*_EVERYTHING, "train.gradient_checkpointing=true")),
}
"""Name → (clips in a micro-batch, seconds of each, settings)."""
TEXT = "one two three four five six seven eight nine ten"


def noise(folder: Path, name: str, count: int, seconds: float, seed: int) -> Path:
    """A manifest of so many clips of noise."""
    lines = []
    generator = np.random.default_rng(seed)
    for number in range(count):
        audio = folder / f"{name}-{number}.wav"
        soundfile.write(audio, 0.05 * generator.standard_normal(int(16_000 * seconds)), 16_000)
        lines.append(json.dumps({"audio_filepath": audio.name, "text": TEXT, "duration": seconds}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder / f"{name}.jsonl"


def kernels_peak(child: subprocess.Popen[bytes]) -> int:
    """The largest size that a process had when it has ended, in bytes."""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * 1024


def measured(
    folder: Path,
    model: Path,
    clips: int,
    seconds: float,
    settings: tuple[str, ...],
    *,
    peak: Callable[[subprocess.Popen[bytes]], int] = kernels_peak,
    on_cpu: bool = True,
) -> tuple[int, int]:
    """(bytes that were forecast, bytes that the trainer took at its peak).

    `peak` waits for the trainer and says how many that were.
    """
    sets = {
        name: noise(folder, name, count, seconds, seed)
        for seed, (name, count) in enumerate((("train", clips), ("domain", clips), ("heldout", clips)))
    }
    data = "".join(f"{name} = {json.dumps(str(path))}\n" for name, path in sets.items())
    text = f'[model]\nid = {json.dumps(str(model.resolve()))}\n[data]\n{data}[[experiment]]\nid = "m"\n'
    own = (
        "train.steps=2",
        "train.epochs=2",
        "train.eval_every=2",
        "train.threads=1",
        f"train.eval_batch_seconds={clips * seconds}",
    )
    plan = parse_plan(text, str(folder / "plan.toml"), [*own, *settings])
    runs = runs_folder(folder / "runs", folder / "state")
    (row,) = expand(plan)
    resolved = resolve(plan, row.settings, HashCache(runs.hash_cache))
    forecast = memory_forecast(resolved.settings, on_cpu=on_cpu)
    assert forecast is not None, "the forecast needs the model's files"
    paths = runs.run("m", resolved.identity)
    config = {
        "schema": 1,
        "experiment": "m",
        "title": "",
        "identity": resolved.identity,
        "settings": asdict(resolved.settings),
        "hashes": resolved.hashes,
        "lines": resolved.lines,
        "plan": str(folder / "plan.toml"),
        "gate": asdict(plan.gate),
        "provenance": {},
        "state_folder": str(runs.state),
    }
    write_json(paths.config, config)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "LORA_TUI_STATE": str(folder / "state")}
    with (folder / "log.txt").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "core.training", str(paths.root)], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        taken = peak(child)
    if child.returncode != 0:
        raise SystemExit((folder / "log.txt").read_text()[-2000:])
    return forecast.total, taken


def main() -> int:
    """All cases with each model."""
    worst = 0.0
    for model in map(Path, sys.argv[1:] or [str(ROOT / "data" / "base_model")]):
        for name, (clips, seconds, settings) in CASES.items():
            with tempfile.TemporaryDirectory() as folder:
                forecast, peak = measured(Path(folder), model, clips, seconds, settings)
            error = (forecast - peak) / peak
            worst = max(worst, abs(error))
            print(
                f"{model.name}  {name}: forecast {forecast / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB, {error:+.0%}",
                flush=True,
            )
    print(f"largest error {worst:.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
