"""One run through the real supervisor on a chosen device, left alone or killed, and how two such runs differ."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from benchmarks.kill_matrix.material import CLIPS, write_plan
from benchmarks.kill_matrix.world import Failed, World
from core.runs.adapter_files import WEIGHTS
from core.runs.evidence import gather
from core.runs.paths import RunPaths
from core.runs.store import read_run
from core.scoring.evidence import State
from core.scoring.verdict import judge, thresholds_of

RUN_S = 240.0
"""No run here takes longer, but on a machine that is busy with something else."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is run. `settings` are for `--set`, `clips` so many of each set, `jobs` so many runs at a time."""

    settings: tuple[str, ...]
    steps: int
    clips: Mapping[str, int]
    jobs: int


def scale_of(device: str) -> Scale:
    """Small on a CPU; on a GPU so many steps that a run can be hit in them, so many words that one is 0.3 points."""
    if device == "cpu":
        return Scale((), 12, CLIPS, 1)
    steps = ("train.steps=120", "train.eval_every=40", "train.checkpoint_every=10", "train.learning_rate=1e-4")
    return Scale(steps, 120, {"train": 48, "replay": 24, "domain": 60, "heldout": 60}, 4)


@dataclass(frozen=True, slots=True)
class Scene:
    """A runs folder of its own with one run `k`. Its own temporary folder lets several share a GPU."""

    world: World
    options: tuple[str, ...]

    @classmethod
    def of(
        cls, work: Path, name: str, environment: Mapping[str, str], settings: tuple[str, ...], more: str = ""
    ) -> Scene:
        """`settings` as for `--set`; `more`: further experiments of the plan."""
        folder = work / "scenes" / name
        scratch = folder / "tmp"
        scratch.mkdir(parents=True)
        plan = write_plan(work / "material", f"plan-{name}.toml", more=more)
        world = World(folder, plan, {**environment, "TMPDIR": str(scratch)})
        return cls(world, tuple(word for setting in settings for word in ("--set", setting)))

    def start(self, *more: str) -> None:
        """A headless face that works on the run."""
        self.world.face(*self.options, *more)

    def finish(self) -> RunPaths:
        """Wait for the face; the finished run. Failed when it does not come to its end."""
        code = self.world.faces[-1].wait(RUN_S)
        if code != 0 or not self.world.done():
            raise Failed(f"the face ended with {code}: {self.world.tail('face.log')}")
        return self.world.the_run()

    def step(self, row: str = "k") -> int:
        """The newest step of the row's run; 0 before the first."""
        run = self.world.run(row)
        return 0 if run is None else read_run(run).steps_completed

    def killed(self, kills: int, steps: int, luck: random.Random) -> str:
        """SIGKILL the trainer at so many random moments of the run; where each landed."""
        world, landed = self.world, []
        self.start()
        for step in sorted(luck.sample(range(1, steps), kills)):
            self._reached(step)
            time.sleep(luck.uniform(0, 1.5))
            pid = world.until("a trainer", lambda: world.trainer() or (self._over() and -1), 60, 0.01)
            if pid == -1:
                break
            starts, (phase, _) = len(world.starts()), world.phase()
            landed.append(f"{phase} at step {self.step()}")
            world.kill(pid)
            self._started_after(starts)
        if len(landed) < kills:
            raise Failed(f"the run was over after {len(landed)} of {kills} kills ({', '.join(landed)})")
        return ", ".join(landed)

    def _reached(self, step: int) -> None:
        self.world.until(f"step {step}", lambda: self._over() or self.step() >= step, RUN_S, 0.01)

    def _started_after(self, starts: int) -> None:
        self.world.until("the next attempt", lambda: len(self.world.starts()) > starts or self._over(), 60)

    def _over(self) -> bool:
        """Whether the run is done. Failed when its face has ended and it is not: nothing more will come."""
        code = self.world.faces[-1].poll()
        if self.world.done():
            return True
        if code is not None:
            raise Failed(f"the face ended with {code}: {self.world.tail('face.log')}")
        return False


@dataclass(frozen=True, slots=True)
class Apart:
    """The largest differences of two runs."""

    loss: float
    """Of a step's loss, relative to the first run's."""
    wer: float
    """Of an interval's WER on a set, in points."""
    weights: float
    """Of a weight of the last adapter, relative to the largest of the first run's."""

    def __str__(self) -> str:
        return f"loss {100 * self.loss:.3g} %, WER {self.wer:.2f} points, adapter weights {100 * self.weights:.2g} %"


def apart(one: RunPaths, other: RunPaths) -> Apart:
    """How far two finished runs of one plan lie apart. Failed when they do not have the same steps and intervals."""
    first, second = read_run(one), read_run(other)
    steps, intervals = [i.step for i in first.intervals], [i.step for i in second.intervals]
    if steps != intervals or first.steps.step.tolist() != second.steps.step.tolist():
        raise Failed(f"{one.root} and {other.root} do not have the same steps and intervals")
    loss, theirs = np.asarray(first.steps.loss), np.asarray(second.steps.loss)
    wer = [
        abs((getattr(a, name).counts.wer_percent or 0) - (getattr(b, name).counts.wer_percent or 0))
        for a, b in zip(first.intervals, second.intervals, strict=True)
        for name in ("domain", "heldout")
    ]
    mine, its = (load_file(run.adapter(steps[-1]) / WEIGHTS) for run in (one, other))
    largest = max(float(np.abs(tensor).max()) for tensor in mine.values())
    weights = max(float(np.abs(tensor - its[name]).max()) for name, tensor in mine.items())
    return Apart(float((np.abs(loss - theirs) / np.abs(loss)).max()), max(wer), weights / largest)


def parity_of(run: RunPaths) -> tuple[bool, str]:
    """Whether the parity criterion of the run's verdict passes, and what it says."""
    snapshot = read_run(run)
    gate = (snapshot.config or {}).get("gate") or {}
    found = judge(gather(snapshot, run).evidence, thresholds_of(gate)).criterion("parity")
    newest = snapshot.attempts[-1]
    return found.state is State.PASS, f"steps in {newest.precision} on {newest.device}: {found.reason}"
