"""FakeTrainer: `python fake_trainer.py RUN_DIR` writes what a trainer writes, without a model, at once.

What it does stands in `fake.json` in the state folder: experiment (or `a@seed1`, `a@rank8`: only with that seed or
rank) → a behaviour for each attempt; the last one repeats. Default: `good`.

- good: an accepted run; poor: a rejected one, without gain
- diverge, oom, error, disk_full: end so, half-way
- big: as oom, unless train.accumulation is 4 or more; stopped_early: ends so
- crash: SIGKILL to itself, half-way; stillborn: exits 1 before its first event
- last_breath: SIGKILL to itself right after result.json, before its checkpoints are deleted
- paced: an accepted run that takes a second, saves every 5 steps, and stops when it is asked to
- wait: trains until SIGTERM, then ends as stopped; stubborn: ignores SIGTERM
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from core.manifests.hashing import lines_of
from core.manifests.manifest import read_manifest
from core.runs.adapter_files import adapter_hash
from core.runs.data_health import audited_hashes
from core.runs.events import (
    SCHEMA_VERSION,
    AdapterSaved,
    AttemptStarted,
    CheckpointSaved,
    Event,
    Final,
    Heartbeat,
    IntervalScored,
    Phase,
    Record,
    Step,
    encode,
)
from core.runs.folder import replace_link
from core.runs.paths import ADAPTER_FACTS, RunPaths
from core.scoring.data_health import SCHEMA_VERSION as HEALTH_SCHEMA
from core.system.files import HeldFolder, append_line, write_bytes, write_json
from core.system.process import current_process
from core.system.seals import with_checksum

# a process of its own: what tests import as `score_kit` lies two folders up
sys.path.append(str(Path(__file__).parents[2]))
from score_kit import adapter_facts, counts, score_document, utterance, write_result

WORDS = 1000
"""In each set of plan_folder.py."""
SETS = ("domain", "heldout")


class FakeTrainer:
    def __init__(self, run: RunPaths) -> None:
        self.run = run
        self.folder = HeldFolder(run.root)
        self.config = json.loads(run.config.read_text())
        self.steps: int = self.config["settings"]["train"]["steps"]
        self.every: int = self.config["settings"]["train"]["eval_every"]
        lines = run.events.read_text().splitlines() if run.events.exists() else []
        self.attempt = 1 + max((json.loads(line)["attempt"] for line in lines), default=0)
        steps = [json.loads(line)["step"] for line in lines if '"checkpoint"' in line]
        self.resumed_from = max(steps, default=None)
        self.scored = {json.loads(line)["step"] for line in lines if '"interval"' in line}
        self.stop = False

    def behaviour(self) -> str:
        # Births are counted in a file, because the stillborn leave no event.
        births = self.run.root / "births.txt"
        append_line(births, str(os.getpid()))
        append_line(self.run.root / "gpus.txt", os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
        number = len(births.read_text().splitlines())
        try:
            script = json.loads((Path(os.environ["LORA_TUI_STATE"]) / "fake.json").read_text())
        except FileNotFoundError:
            script = {}
        experiment, settings = self.config["experiment"], self.config["settings"]
        names = [f"{experiment}@seed{settings['train']['seed']}", f"{experiment}@rank{settings['adapter']['rank']}"]
        behaviours = next((script[name] for name in (*names, experiment) if name in script), ["good"])
        return str(behaviours[min(number, len(behaviours)) - 1])

    def say(self, event: Event) -> None:
        append_line(self.folder.here / "events.jsonl", encode(Record(self.attempt, time.time(), event)))

    def main(self) -> int:
        behaviour = self.behaviour()
        if behaviour == "stillborn":
            return 1
        if behaviour == "slow":
            time.sleep(60)
        if behaviour == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        else:
            signal.signal(signal.SIGTERM, self.asked)
        identity = current_process().to_json()
        self.say(AttemptStarted(SCHEMA_VERSION, identity, self.resumed_from, "cpu", "fp32"))
        first = self.resumed_from or 0
        if not first:
            self.say(Phase("baseline"))
            self.interval(0, poor=False)
        if first and first % self.every == 0 and first not in self.scored:
            self.interval(first, poor=behaviour == "poor")
        self.say(Phase("training"))
        for step in range(first + 1, self.steps + 1):
            self.say(Step(step, 2.0 - step / self.steps, 1e-4, 1.0, 100, 60.0, 0.001))
            if behaviour == "paced" and self.pace(step):
                return 0
            if step == self.steps // 2 and behaviour not in {"good", "poor", "last_breath", "paced"}:
                outcome = self.misbehave(behaviour, step)
                if outcome is not None:
                    return outcome
            if step % self.every == 0 or step == self.steps:
                self.interval(step, poor=behaviour == "poor")
        self.finish(behaviour)
        return 0

    def asked(self, number: int, frame: object) -> None:
        self.stop = True

    def pace(self, step: int) -> bool:
        """Take a while, save now and then; whether it was asked to stop, and does."""
        time.sleep(0.05)
        if step % 5 == 0 or self.stop:
            self.say(CheckpointSaved(step))
        if self.stop:
            self.say(Final("stopped", "asked to stop", step))
        return self.stop

    def misbehave(self, behaviour: str, step: int) -> int | None:
        if behaviour == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if behaviour in ("wait", "stubborn"):
            deadline = time.monotonic() + 60
            while not self.stop and time.monotonic() < deadline:
                self.say(Heartbeat("training"))
                time.sleep(0.02)
            self.say(CheckpointSaved(step))
            self.say(Final("stopped", "asked to stop", step))
            return 0
        if behaviour == "big":
            if self.config["settings"]["train"]["accumulation"] >= 4:
                return None
            behaviour = "oom"
        outcome = {"diverge": "diverged", "oom": "out_of_memory"}.get(behaviour, behaviour)
        self.say(Final(outcome, f"the fake trainer was told to: {behaviour}", step))
        return 1

    def interval(self, step: int, *, poor: bool) -> None:
        trained = step > 0
        errors = {"domain": 200 if trained and not poor else 300, "heldout": 100}
        loss = 1.5 - step / self.steps / 2
        sets: dict[str, dict[str, Any]] = {}
        self.say(Phase("evaluating", step))
        for name in SETS:
            document = self.document(name, step, errors[name], loss, None)
            write_json(self.run.evaluation(step, name), document)
            sets[name] = document["counts"] | {"loss": loss}
        self.say(IntervalScored(step, sets, 0.01))
        if trained:
            self.adapter(step)
            self.say(CheckpointSaved(step))

    def adapter(self, step: int) -> None:
        folder = self.run.adapter(step)
        write_bytes(folder / "adapter_model.safetensors", f"weights of step {step}".encode())
        write_json(folder / "adapter_config.json", {"r": 16})
        write_json(folder / ADAPTER_FACTS, adapter_facts(step, self.config))
        first = not self.run.best.exists()
        if first:
            replace_link(self.run.root, self.run.best, f"adapters/{folder.name}")
        replace_link(self.run.root, self.run.last, f"adapters/{folder.name}")
        self.say(AdapterSaved(step, adapter_hash(folder), first))

    def document(self, name: str, step: int, errors: int, loss: float, digest: str | None) -> dict[str, Any]:
        share, utterances = errors / WORDS, []
        for line in lines_of(read_manifest(Path(self.config["settings"]["data"][name]), check_audio=False)):
            words = line.reference.split()
            wrong = round(share * len(words))
            heard = " ".join(["b"] * wrong + words[wrong:])
            told: dict[str, Any] = {"offset": line.offset, "duration": line.duration, "channel": line.channel}
            told |= {"speaker": line.speaker, "fields": dict(line.fields), "seconds": line.duration or 1.0}
            utterances.append(utterance(line.id, line.reference, heard, counts(wrong, len(words)), **told))
        return score_document(
            utterances,
            dataset=name,
            manifest=self.config["settings"]["data"][name],
            manifest_sha256=self.config["hashes"][name],
            step=step,
            adapter_hash=digest,
            loss=loss,
            single=None if digest is None else {"compared": 50, "differing": 0},
        )

    def health(self) -> dict[str, Any]:
        figures: dict[str, Any] = dict.fromkeys(("words", "seconds", "speakers", "silent", "clipped"), 1)
        figures |= dict.fromkeys(("rms_db", "rms_spread_db", "rms_after_spread_db"))
        data = self.config["settings"]["data"]
        clips = {name: len(Path(data[name]).read_text().splitlines()) for name in ("train", *SETS)}
        sets = [figures | {"name": name, "clips": count, "clamped_share": 0.0} for name, count in clips.items()]
        hashes = audited_hashes(self.config)
        return with_checksum(
            {"schema": HEALTH_SCHEMA, "key": "fake", "hashes": hashes, "sets": sets}
            | {"shared": [], "together": [], "copies": [], "findings": {}}
        )

    def finish(self, behaviour: str) -> None:
        self.say(Phase("finishing"))
        best = self.run.best.resolve()
        step, digest = int(best.name.removeprefix("step-")), adapter_hash(best)
        for name in SETS:
            own = json.loads(self.run.evaluation(step, name).read_text())
            single = {"compared": 50, "differing": 0}
            write_json(self.run.tuned(name), own | {"adapter_hash": digest, "single": single})
        write_json(self.run.data_health, self.health())
        facts = {"steps_completed": self.steps, "best_step": step, "adapter_hash": digest, "seconds": 1.0}
        result = write_result(self.run, **facts)
        if behaviour == "last_breath":
            write_bytes(self.run.checkpoint(self.steps) / "state.pt", b"all that training needs")
            write_bytes(self.run.checkpoint_marker(self.steps), b"whole\n")
            os.kill(os.getpid(), signal.SIGKILL)
        self.say(Final("done", step=self.steps, result=result))


if __name__ == "__main__":
    sys.exit(FakeTrainer(RunPaths(Path(sys.argv[1]))).main())
