"""RecordedRun: a run folder as the trainer and `lora-cli evaluate` leave it, written without a model."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from score_kit import adapter_facts, counts, score_document, utterance, write_result

from core.manifests.hashing import lines_of
from core.manifests.manifest import read_manifest
from core.runs.adapter_files import adapter_hash
from core.runs.data_health import audited_hashes
from core.runs.events import (
    SCHEMA_VERSION,
    AdapterSaved,
    AttemptStarted,
    Event,
    Final,
    IntervalScored,
    Phase,
    Record,
    Step,
    encode,
)
from core.runs.folder import replace_link
from core.runs.paths import ADAPTER_FACTS, RunPaths
from core.scoring.data_health import SCHEMA_VERSION as HEALTH_SCHEMA
from core.system.files import write_bytes, write_json
from core.system.process import current_process
from core.system.seals import with_checksum

CLIPS, WORDS = 50, 1000
GOOD_DOMAIN = {0: 400, 250: 360, 500: 350, 750: 348, 1000: 349}
GOOD_HELDOUT = {0: 100, 250: 101, 500: 101, 750: 104, 1000: 105}


class RecordedRun:
    """Builds one run folder. `finish` makes it complete; without, its trainer seems to be this very process."""

    def __init__(
        self,
        root: Path,
        experiment: str = "2.1",
        identity: str = "0123456789",
        *,
        steps: int = 1000,
        title: str = "a title",
        learning_rate: float = 1e-4,
        domain: Mapping[int, int] = GOOD_DOMAIN,
        heldout: Mapping[int, int] = GOOD_HELDOUT,
        planned: Mapping[str, Any] | None = None,
    ) -> None:
        """`domain`, `heldout`: errors in WORDS words at each interval.

        `planned`: what a plan's row puts into `run.json`: settings, hashes, lines.
        """
        self.paths = RunPaths(root / f"{experiment}-{identity}")
        self.steps = steps
        self.domain, self.heldout = domain, heldout
        self.clock = 0.0
        self.start: float | None = None
        self.events: list[tuple[float, Event]] = []
        settings: dict[str, Any] = {
            "model": {"id": "model", "revision": None},
            "data": {"domain": "domain.jsonl", "heldout": "heldout.jsonl"},
            "train": {"steps": steps, "eval_every": sorted(domain)[1], "learning_rate": learning_rate},
            "adapter": {"method": "dora", "rank": 16},
        }
        config = {"schema": 1, "experiment": experiment, "title": title, "identity": identity, "settings": settings}
        config |= {"hashes": {"domain": "d", "heldout": "h"}, "gate": {}} | dict(planned or {})
        self.planned = planned
        self.hashes: Mapping[str, str] = config["hashes"]  # type: ignore[assignment]
        write_json(self.paths.config, config)
        self.say(AttemptStarted(SCHEMA_VERSION, current_process().to_json(), None, "cpu", "fp32"))
        self.say(Phase("baseline"))
        self.health()

    def say(self, event: Event) -> None:
        self.clock += 0.5
        self.events.append((self.clock, event))

    def train(self, until: int, *, nan_at: int | None = None, spike_at: int | None = None) -> RecordedRun:
        """Steps up to `until`, with the intervals among them."""
        for step in range(until + 1):
            if step:
                loss = 0.4 + 1.5 * math.exp(-step / 200) + 0.05 * math.sin(step)
                loss = math.nan if step == nan_at else (9.0 if step == spike_at else loss)
                self.say(Step(step, loss, 1e-4 * (1 - step / self.steps), 1.0, 100, 15.0, 0.25))
            if step in self.domain:
                self.interval(step)
        return self.flush()

    def interval(self, step: int) -> None:
        errors = {"domain": self.domain[step], "heldout": self.heldout[step]}
        sets = {}
        for name, count in errors.items():
            document = self.document(name, step, count) | {"loss": 2.0 - step / 1500}
            write_json(self.paths.evaluation(step, name), document)
            sets[name] = document["counts"] | {"loss": 2.0 - step / 1500}
        self.say(IntervalScored(step, sets, 1.0))
        if step:
            folder = self.paths.adapter(step)
            write_bytes(folder / "adapter_model.safetensors", f"step {step}".encode())
            write_json(folder / "adapter_config.json", {"r": 16})
            write_json(folder / ADAPTER_FACTS, adapter_facts(step, load(self.paths.config)))
            self.say(AdapterSaved(step, adapter_hash(folder), step == 500))
            if step <= 500:
                replace_link(self.paths.root, self.paths.best, f"adapters/{folder.name}")

    def document(self, name: str, step: int, errors: int) -> dict[str, Any]:
        """A score document whose errors are spread over its clips."""
        each = [errors // CLIPS + (i < errors % CLIPS) for i in range(CLIPS)]
        utterances = [
            utterance(f"{name}-{i}", hypothesis(0), hypothesis(count), counts(count, WORDS // CLIPS))
            for i, count in enumerate(each)
        ]
        if self.planned:
            # Clips gain and lose by chance too: some two words more, their neighbours none.
            by_chance = [(-1) ** (i + step // 40) if step and min(each) else 0 for i in range(CLIPS)]
            each = [count + extra for count, extra in zip(each, by_chance, strict=True)]
            utterances = [_heard(*one) for one in zip(self._lines(name), each, strict=True)]
        return score_document(
            utterances, dataset=name, manifest=f"{name}.jsonl", manifest_sha256=self.hashes[name], step=step
        )

    def _lines(self, name: str) -> Iterable[Any]:
        """The manifest's, of a run of a plan: as many clips and words as runs have here."""
        return lines_of(read_manifest(Path((self.planned or {})["settings"]["data"][name]), check_audio=False))

    def health(self, *shared: dict[str, Any]) -> RecordedRun:
        """The audit of the data, clean or with what the sets have in common."""
        figures = {
            "clips": CLIPS, "words": WORDS, "seconds": 60.0, "speakers": 4, "silent": 0, "clipped": 1,
            "rms_db": -26.0, "rms_spread_db": 18.5, "rms_after_spread_db": 0.0, "clamped_share": 1e-5,
        }  # fmt: skip
        sets = [{"name": name} | figures for name in ("train", "domain", "heldout")]
        hashes = audited_hashes(load(self.paths.config))
        content = {"schema": HEALTH_SCHEMA, "method": 1, "key": "k", "hashes": hashes, "sets": sets}
        content |= {"shared": list(shared), "together": [], "copies": [], "findings": {}}
        write_json(self.paths.data_health, with_checksum(content))
        return self

    def finish(self, log: str = "all is well\n") -> RecordedRun:
        """The tuned score of step 500 and the result."""
        digest = adapter_hash(self.paths.best.resolve())
        for name, errors in (("domain", self.domain[500]), ("heldout", self.heldout[500])):
            tuned = {"adapter_hash": digest, "single": {"compared": CLIPS, "differing": 0}}
            write_json(self.paths.tuned(name), self.document(name, 500, errors) | tuned)
        self.paths.log.write_text(log)
        self.start = time.time() - self.clock
        self.flush()
        result = write_result(self.paths, steps_completed=self.steps, best_step=500, adapter_hash=digest)
        self.say(Final("done", step=self.steps, result=result))
        return self.flush()

    def flush(self) -> RecordedRun:
        """Write the events so far; the last of them happened just now."""
        # what a result was written after stays as it is
        start = self.start or time.time() - self.clock
        lines = [encode(Record(1, start + clock, event)).rstrip() for clock, event in self.events]
        self.paths.events.write_text("".join(f"{line}\n" for line in lines))
        return self


def _heard(line: Any, errors: int) -> dict[str, Any]:
    """A clip of a manifest, of which so many words are heard wrong."""
    words = line.reference.split()
    told: dict[str, Any] = {"offset": line.offset, "duration": line.duration, "channel": line.channel}
    told |= {"speaker": line.speaker, "fields": dict(line.fields), "seconds": line.duration or 1.0}
    heard = " ".join(["b"] * errors + words[errors:])
    return utterance(line.id, line.reference, heard, counts(errors, len(words)), **told)


def hypothesis(errors: int) -> str:
    """A clip's words, of which so many are heard wrong; 0: its reference."""
    words = ["one", "two", "three", "four"] * (WORDS // CLIPS // 4)
    wrong = {"one": "won", "two": "too", "three": "free", "four": "for"}
    return " ".join(wrong[word] if place < errors else word for place, word in enumerate(words))


def load(path: Path) -> Any:
    return json.loads(path.read_text())
