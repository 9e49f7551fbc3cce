"""A run folder written by hand, with the real writers, so that a test says only what it is about."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from score_kit import adapter_facts, score_document, utterance, write_result

from core.plan.exports import target_of
from core.runs.adapter_files import CONFIG, WEIGHTS, adapter_hash
from core.runs.data_health import audited_hashes
from core.runs.events import AttemptStarted, Event, IntervalScored, Record, Step, encode
from core.runs.exports import METHOD_VERSION, Export, RuntimeNamed, compared, hashes_of, served_set, write_export
from core.runs.folder import replace_link
from core.runs.paths import ADAPTER_FACTS, RunPaths, adapter_step, step_of
from core.runs.scores import read_score
from core.scoring.data_health import SCHEMA_VERSION
from core.system.files import append_line, write_json
from core.system.process import current_process
from core.system.seals import with_checksum

START = 1_767_225_600.0
CLIPS = 60
WORDS = 10
"""Clips in each set, and reference words in each clip."""
FINGERPRINT = "0123456789ab-basic1"


def health_document(hashes: dict[str, str], *shared: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The audit of three sets of 60 clips."""
    figures = {
        "clips": CLIPS, "words": CLIPS * WORDS, "seconds": 120.0, "speakers": 4, "silent": 0, "clipped": 1,
        "rms_db": -26.0, "rms_spread_db": 18.0, "rms_after_spread_db": 0.0, "clamped_share": 1e-5,
    }  # fmt: skip
    sets = [{"name": name} | figures for name in ("train", "domain", "heldout")]
    content = {"schema": SCHEMA_VERSION, "method": 1, "key": "k" * 16, "hashes": hashes, "sets": sets}
    return with_checksum(content | {"shared": list(shared), "together": [], "copies": [], "findings": {}} | changes)


SETS = ("domain", "heldout", "selection", "selection_heldout")


def finite(loss: float | None) -> float | None:
    """As a score document has it: what is not a number is no evidence."""
    return loss if loss is not None and math.isfinite(loss) else None


class FakeRun:
    """Writes events, adapters and score documents as a trainer would; its clock moves 1 s an event."""

    def __init__(self, root: Path, steps: int = 1000) -> None:
        self.paths = RunPaths(root)
        self.attempt = 0
        self.time = START
        root.mkdir(parents=True)
        settings = {"train": {"steps": steps, "learning_rate": 1e-4}, "adapter": {"method": "dora"}}
        config = {
            "schema": 1,
            "experiment": "2.1",
            "title": "DoRA",
            "identity": "0123456789",
            "settings": settings,
        }
        write_json(self.paths.config, config)

    def event(self, *events: Event, attempt: int | None = None) -> None:
        """Append events of the newest attempt, or of `attempt`."""
        for event in events:
            self.time += 1
            number = self.attempt if attempt is None else attempt
            append_line(self.paths.events, encode(Record(number, self.time, event)))

    def start(self, resumed_from: int | None = None, process: dict[str, Any] | None = None) -> None:
        """Begin an attempt; by default this test's own process is the trainer, so it lives."""
        self.attempt += 1
        identity = current_process().to_json() if process is None else process
        self.event(AttemptStarted(1, identity, resumed_from, "cpu", "fp32", {"torch": "2"}))

    def step(self, *numbers: int, loss: float = 1.0) -> None:
        self.event(*(Step(n, loss, 1e-4, 0.5, 100, 10.0, 0.25) for n in numbers))

    def interval(self, step: int, domain: int, heldout: int, loss: float | None = 1.0) -> None:
        """The interval's event and its two score documents; `domain` and `heldout` are substitutions."""
        sets = {name: self.counts(n) | {"loss": loss} for name, n in (("domain", domain), ("heldout", heldout))}
        self.event(IntervalScored(step, sets, 2.0))
        for name, count in (("domain", domain), ("heldout", heldout)):
            self.score(self.paths.evaluation(step, name), count, step=step, dataset=name, loss=finite(loss))

    def adapter(self, which: int | str, weights: bytes = b"weights", **facts: Any) -> str:
        """Save an adapter, point lora_adapter_best at it, return its hash. `which`: step, or a candidate's name."""
        folder = self.paths.adapter(which)
        step = adapter_step(folder.name) or 0
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).write_bytes(weights + str(step).encode())
        (folder / CONFIG).write_text(json.dumps({"r": 16, "target_modules": ["v_proj", "q_proj"]}))
        config = json.loads(self.paths.config.read_text())
        write_json(folder / ADAPTER_FACTS, adapter_facts(step, config, fingerprint=FINGERPRINT) | facts)
        replace_link(self.paths.root, self.paths.best, f"adapters/{folder.name}")
        return adapter_hash(folder)

    def tuned(self, step: int, domain: int, heldout: int, **changes: Any) -> None:
        """What `lora-cli evaluate` would have written."""
        for name, count in (("domain", domain), ("heldout", heldout)):
            single = {"compared": 50, "differing": 0}
            fields = {"step": step, "single": single, "adapter_hash": adapter_hash(self.paths.best)} | changes
            self.score(self.paths.tuned(name), count, dataset=name, **fields)

    def health(self, *shared: dict[str, Any], **changes: Any) -> None:
        """The audit of the data: clean, or with what the sets have in common."""
        config = json.loads(self.paths.config.read_text())
        write_json(self.paths.data_health, health_document(audited_hashes(config), *shared, **changes))
        if self.paths.result.exists():
            self.result()

    def result(self) -> None:
        """What the trainer writes last, of the adapter that lora_adapter_best leads to."""
        found: dict[str, Any] = {"steps_completed": 1000, "best_step": None, "adapter_hash": None}
        if self.paths.best.exists():
            name = self.paths.best.readlink().name
            found |= {"best_step": adapter_step(name), "adapter_hash": adapter_hash(self.paths.best)}
            found |= {} if step_of(name) is not None else {"candidate": name}
        write_result(self.paths, **found)

    @staticmethod
    def counts(substitutions: int, words: int = CLIPS * WORDS) -> dict[str, Any]:
        return {
            "substitutions": substitutions,
            "deletions": 0,
            "insertions": 0,
            "reference_words": words,
        }

    def score(self, path: Path, substitutions: int, **changes: Any) -> None:
        """A score document in which the first clips have up to WORDS errors each."""
        utterances = []
        left = substitutions
        for index in range(CLIPS):
            wrong, left = min(WORDS, left), max(0, left - WORDS)
            text = " ".join(["wrong"] * wrong + ["right"] * (WORDS - wrong))
            errors = self.counts(wrong, WORDS)
            utterances.append(utterance(f"clip{index}", "right " * WORDS, text, errors, seconds=2.0))
        write_json(path, score_document(utterances, fingerprint=FINGERPRINT) | changes)

    def scored(self, intervals: dict[int, tuple[int, int, int, int]]) -> None:
        """Intervals by their steps, each with so many errors on each of SETS; the loss falls."""
        for step, errors in intervals.items():
            if step:
                self.step(step, loss=1.5)
            loss = 2.0 - step / 1000
            sets = dict(zip(SETS, errors, strict=True))
            self.event(IntervalScored(step, {name: self.counts(n) | {"loss": loss} for name, n in sets.items()}, 2.0))
            for name, count in sets.items():
                self.score(self.paths.evaluation(step, name), count, step=step, dataset=name, loss=loss)

    def good(self) -> FakeRun:
        """A whole run, accepted: domain 50 → 30 %, heldout 5 % throughout."""
        self.start()
        self.interval(0, 300, 30, loss=2.0)
        for step, domain in ((400, 200), (800, 182), (900, 181), (1000, 180)):
            self.step(step, loss=1.5)
            self.interval(step, domain, 30, loss=2.0 - step / 1000)
        self.adapter(1000)
        self.tuned(1000, 180, 30)
        self.health()
        self.result()
        return self

    def exported(self, domain: int, heldout: int, target: str = "ct2:int8", **changes: Any) -> Path:
        """An export of the best adapter, heard by its runtime with so many errors; its folder, where its files are."""
        wanted = target_of(target)
        assert wanted is not None
        folder = self.paths.root.parent / f"export of {wanted.name}"
        folder.mkdir(exist_ok=True)
        (folder / "model.bin").write_bytes(b"weights")
        (folder / "config.json").write_text("{}")
        digest, sets, served = adapter_hash(self.paths.best), {}, {}
        for name, count in (("domain", domain), ("heldout", heldout)):
            path = self.paths.served(wanted.name, name)
            heard = {"loss": None, "precision": "int8_float32"}
            self.score(path, count, dataset=name, step=1000, adapter_hash=digest, **heard)
            score, problem = read_score(path)
            judged, _ = read_score(self.paths.tuned(name))
            assert score is not None and judged is not None, problem
            served[name], sets[name] = score, served_set(compared(judged, score))
        told = {"target": target, "identity": "0123456789", "adapter_hash": digest, "folder": str(folder)} | changes
        runtime = RuntimeNamed("faster-whisper", "1.2.1", "cpu", "int8_float32")
        export = Export(
            schema=1,
            method=METHOD_VERSION,
            **told,
            files=hashes_of(folder),
            runtime=runtime,
            made_with={},
            conversion={},
            sets=sets,
        )
        write_export(self.paths, export, served)
        return folder
