"""A small plan whose model, manifests and audio only look like ones: enough for the queue and its faces."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import wave
from pathlib import Path
from typing import Any

import msgspec
from model_folder import model_folder
from waiting import wait_for

from core.queue.__main__ import supervise
from core.queue.client import QueueClient
from core.queue.executor import LocalExecutor
from core.queue.journal import records
from core.queue.requests import QueueDb, Submission, Target
from core.queue.slurm.executor import SlurmCluster
from core.runs.paths import RunPaths, RunsFolder
from core.runs.snapshot import RunSnapshot
from core.runs.store import read_run
from core.system.locks import is_held

UTTERANCES, WORDS = 50, 20
"""Of the sets that runs are scored on."""
HERE = Path(__file__).parent
TRAINER = (sys.executable, str(HERE / "fake_trainer.py"))
SUPERVISOR = (sys.executable, str(HERE / "fake_supervisor.py"))
HEAD = """
[model]
id = "model"
[data]
train = "train.jsonl"
domain = "domain.jsonl"
heldout = "heldout.jsonl"
[train]
steps = 20
eval_every = 5
batch_seconds = 6.0
[gate]
stability_min_steps = 0
[queue]
{queue}
"""
ONE = '[[experiment]]\nid = "a"\n'
TWO = ONE + '[[experiment]]\nid = "b"\ntrain.seed = 1\n'


def part(name: str, number: int) -> dict[str, Any]:
    """A twentieth of a second of the audio, in which a word is said twenty times by one of five speakers."""
    return {"text": " ".join([name] * WORDS), "offset": number / 20, "duration": 0.05, "speaker": f"s{number % 5}"}


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def born(run: RunPaths) -> list[int]:
    path = run.root / "births.txt"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


class PlanFolder:
    """A folder with a plan, and a runs folder beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = RunsFolder(root / "runs", root / "state")
        self.plan = root / "experiments.toml"
        model_folder(root / "model")
        for name in ("train", "domain", "heldout"):
            with wave.open(str(root / f"{name}.wav"), "wb") as audio:
                audio.setparams((1, 2, 16_000, 0, "NONE", ""))
                audio.writeframes(random.Random(name).randbytes(2 * (4_800 if name == "train" else 40_000)))
            line = {"audio_filepath": f"{name}.wav", "text": f"some {name} words", "duration": 0.3}
            lines = [line] if name == "train" else [line | part(name, number) for number in range(UTTERANCES)]
            (root / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def write(self, experiments: str = ONE, queue: str = "") -> None:
        self.plan.write_text(HEAD.format(queue=queue) + experiments)

    def script(self, **behaviours: list[str]) -> None:
        """Experiment → what the FakeTrainer does in each attempt."""
        self.runs.state.mkdir(parents=True, exist_ok=True)
        (self.runs.state / "fake.json").write_text(json.dumps(behaviours))

    def submission(self, *overrides: str, only: tuple[str, ...] = ()) -> Submission:
        return Submission.create(self.plan, self.plan.read_text(), overrides, only)

    @property
    def db(self) -> QueueDb:
        return QueueDb(self.runs.queue_db)

    @property
    def client(self) -> QueueClient:
        return QueueClient(self.runs, SUPERVISOR)

    @property
    def executor(self) -> LocalExecutor:
        return LocalExecutor(self.runs, TRAINER, grace_s=0.5)

    def decisions(self, *kinds: str) -> list[Any]:
        return [d for d in records(self.runs.decisions) if d.kind in kinds]

    def run(self, experiment: str) -> RunPaths:
        [run] = [run for run in self.runs.runs() if run.name.startswith(f"{experiment}-")]
        return run

    def snapshot(self, experiment: str) -> RunSnapshot:
        return read_run(self.run(experiment))

    def births(self, experiment: str) -> list[int]:
        """Pids of the trainers that were started for the experiment's run."""
        return born(self.run(experiment))

    def looked_at_again(self, submission: str, row: str) -> None:
        """Until a supervisor has looked at all rows again, once while this one was held and once while it was not.

        What is asked for is obeyed at the beginning of a look, so a look is over when the next request is obeyed.
        """
        for kind in ("hold", "release", "hold", "release"):
            self.db.ask(kind, [Target(submission, row)])
            wait_for(lambda: not self.db.snapshot().requests)

    def end_all(self) -> None:
        """Kill the supervisor, then what it started: it would start a trainer again."""
        if is_held(self.runs.supervisor_lock):
            kill(int(self.runs.supervisor_lock.read_text()))
            wait_for(lambda: not is_held(self.runs.supervisor_lock))
        for pid in self.all_births():
            kill(pid)

    def all_births(self) -> list[int]:
        """Pids of all trainers that were started."""
        return [pid for run in self.runs.runs() for pid in born(run)]

    def work(self, *overrides: str, only: tuple[str, ...] = ()) -> dict[str, Any]:
        """Submit the plan and supervise in this process; the `finish` decision of the submission."""
        submission = self.db.submit(self.submission(*overrides, only=only))
        assert supervise(self.runs, self.executor, None, SlurmCluster(self.runs, TRAINER)) == 0
        [finish] = [d for d in self.decisions("finish") if d.submission == submission.id]
        plain: dict[str, Any] = msgspec.to_builtins(finish)
        return plain

    def starts(self) -> list[str]:
        """The rows whose trainers were started, in that order."""
        return [d.row for d in self.decisions("start")]
