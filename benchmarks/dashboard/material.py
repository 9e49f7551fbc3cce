"""Run folders to measure with, in the real schema, written without a model."""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from pathlib import Path
from unittest.mock import patch

from core.runs.adapter_files import adapter_hash
from core.runs.events import AttemptStarted, Final, IntervalScored, Phase, Record, Step, encode
from core.runs.paths import ADAPTER_FACTS, RunPaths
from core.system.files import write_json
from core.system.process import current_process
from tests.lora_tui.dashboard.recorded import RecordedRun
from tests.score_kit import write_result

_INTERVALS = 10


def finished_run(root: Path, experiment: str = "2.1", identity: str = "0123456789") -> RunPaths:
    """An accepted run of 1000 steps and five intervals."""
    run = RecordedRun(root, experiment, identity).train(1000).finish()
    paths: RunPaths = run.paths
    return paths


def many_runs(root: Path, count: int) -> None:
    """`count` accepted runs; they share weights and the intervals' score documents by hard links.

    Nothing waits for the disk: a power cut may have them.
    """
    with patch("os.fsync"):
        _many_runs(root, count)


def _many_runs(root: Path, count: int) -> None:
    first = finished_run(root, "exp-0000", f"{0:010x}")
    config = json.loads(first.config.read_text())
    for number in range(1, count):
        experiment, identity = f"exp-{number:04d}", f"{number:010x}"
        other = RunPaths(root / f"{experiment}-{identity}")
        shutil.copytree(first.root, other.root, symlinks=True, copy_function=_link)
        other.config.unlink()
        write_fast(other.config, config | {"experiment": experiment, "identity": identity, "title": f"run {number}"})
        _made_its_own(first, other, config["identity"], identity)


def _made_its_own(first: RunPaths, other: RunPaths, before: str, identity: str) -> None:
    """Whatever names the run, or has the hash of an adapter that does, is written anew."""
    hashes: dict[str, str] = {}
    for folder in first.adapters.iterdir():
        facts = other.adapters / folder.name / ADAPTER_FACTS
        facts.unlink()
        facts.write_text((folder / ADAPTER_FACTS).read_text().replace(before, identity))
        hashes[adapter_hash(folder)] = adapter_hash(facts.parent)

    def renamed(path: Path) -> str:
        text = path.read_text()
        for old, new in hashes.items():
            text = text.replace(old, new)
        return text

    for path in (first.tuned("domain"), first.tuned("heldout"), first.log):
        own = other.root / path.relative_to(first.root)
        own.unlink()
        own.write_text(renamed(path))
    # The result covers the events before the last, and the last has its hash.
    *lines, last = renamed(first.events).splitlines(keepends=True)
    other.events.unlink()
    other.events.write_text("".join(lines))
    facts_of = json.loads(renamed(first.result))
    other.result.unlink()
    told = {name: facts_of[name] for name in ("steps_completed", "best_step", "adapter_hash")}
    result = write_result(other, **told)
    other.events.write_text("".join([*lines, json.dumps(json.loads(last) | {"result": result}) + "\n"]))


def write_fast(path: Path, value: object) -> None:
    """JSON, without the fsync of a real writer."""
    path.write_text(json.dumps(value))


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def long_run(root: Path, steps: int, *, name: str = "long", ended: bool = True, seed: int = 1) -> RunPaths:
    """A run of `steps` logged steps with a spike of one step at 37 % and a NaN at 71 %, and ten intervals.

    Not `ended`: its trainer seems to be this process, and more can be appended.
    """
    paths = RunPaths(root / f"{name}-{seed:010x}")
    settings = {
        "model": {"id": "model", "revision": None},
        "data": {"domain": "domain.jsonl", "heldout": "heldout.jsonl"},
        "train": {"steps": steps, "eval_every": max(1, steps // _INTERVALS), "learning_rate": 1e-4},
        "adapter": {"method": "dora", "rank": 16},
    }
    config = {"schema": 1, "experiment": name, "title": "a long run", "identity": f"{seed:010x}", "settings": settings}
    write_json(paths.config, config | {"hashes": {"domain": "d", "heldout": "h"}, "gate": {}})
    clock, noise = time.time() - steps * 0.5, random.Random(seed)
    with paths.events.open("w", buffering=1 << 20) as file:

        def say(event: AttemptStarted | Final | IntervalScored | Phase | Step) -> None:
            file.write(encode(Record(1, clock, event)) + "\n")

        say(AttemptStarted(1, current_process().to_json(), None, "cpu", "fp32"))
        say(_interval(0, steps))
        for step in range(1, steps + 1):
            clock += 0.5
            loss = 0.3 + 1.5 * math.exp(-4 * step / steps) + 0.1 * noise.gauss(0, 1)
            if step == int(0.37 * steps):
                loss = 25.0
            if step == int(0.71 * steps):
                say(Step(step, math.nan, 1e-4, math.inf, 500, 74.0, 0.5))
                continue
            rate = 1e-4 * min(1.0, 10 * step / steps) * (1 - step / steps)
            file.write(
                f'{{"event": "step", "attempt": 1, "time": {clock:.3f}, "step": {step}, "loss": {loss!r}, '
                f'"learning_rate": {rate!r}, "grad_norm": {abs(noise.gauss(1, 0.2))!r}, '
                f'"tokens": {noise.randint(200, 900)}, "audio_s": {74 + noise.random()!r}, "seconds": 0.5}}\n'
            )
            if step % (steps // _INTERVALS) == 0:
                say(_interval(step, steps))
        if ended:
            say(Final("done", step=steps))
    if ended:
        write_json(paths.result, {"schema": 1, "outcome": "done", "steps_completed": steps, "best_step": steps // 2})
    paths.log.write_text("a long run\n")
    return paths


def _interval(step: int, steps: int) -> IntervalScored:
    counts = {"deletions": 0, "insertions": 0, "reference_words": 1000}
    share = step / steps
    sets = {
        "domain": counts | {"substitutions": int(400 - 60 * share), "loss": 2 - share},
        "heldout": counts | {"substitutions": int(100 + 4 * share), "loss": 1.0},
    }
    return IntervalScored(step, sets, 1.0)
