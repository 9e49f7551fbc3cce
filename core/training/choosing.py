"""After the last step: candidates are made of the saved intervals, scored, and the one that the run ships is chosen.

Only selection sets are heard for that. The one chosen is then scored on domain and heldout, so that what another
process says of it can be compared. Each candidate is scored as it lies on the disk, through plain peft, and its event
is written when its files are there: killed at any moment, the run goes on from the candidates that are told of.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from core.errors import ModelError
from core.plan.candidates import Candidate, candidates_of
from core.runs.adapter_files import adapter_hash
from core.runs.choice import best_of
from core.runs.events import AdapterSaved, CandidateScored, Notice
from core.runs.fold import candidate_of
from core.runs.folder import make, write_json
from core.runs.paths import adapter_name, step_name
from core.scoring.data_health import TAKEN_FROM
from core.scoring.evidence import CandidateScore
from core.training.adapter import loaded
from core.training.candidates import make_candidate
from core.training.data import Dataset
from core.training.families.base import SpeechModel
from core.training.trainer import Trainer


def choose_candidate(trainer: Trainer) -> None:
    """Make and score what `train.interpolate` and `train.average` ask for, and link `lora_adapter_best` to the best."""
    base, train = trainer.to_base(), trainer.train
    steps = [step for step in sorted(trainer.intervals) if step > 0]
    made = {adapter_name(one.steps, one.alpha): one for one in candidates_of(train, steps)}
    choosing = [one for one in trainer.materials.evaluation if one.name in TAKEN_FROM]
    for name, candidate in made.items():
        if name not in trainer.candidates:
            _score(trainer, base, candidate, choosing)
    trainer.journal.phase("saving", trainer.step)
    intervals = [trainer.intervals[step] for step in sorted(trainer.intervals)]
    found = [trainer.candidates[name] for name in made if name in trainer.candidates]
    best, trainer.guardrail_kept, choice = best_of(trainer.paths, intervals, found, trainer.thresholds)
    if choice is not None:
        trainer.journal.emit(Notice("info", choice.why))
    if best is None:
        return
    if best in made:
        judged = [one for one in trainer.materials.evaluation if one.name not in TAKEN_FROM]
        _score(trainer, base, made[best], judged, best=True)
    else:
        step = next(step for step in steps if step_name(step) == best)
        trainer.journal.emit(AdapterSaved(step, adapter_hash(trainer.paths.adapter(step)), best=True))
    trainer.scorer.stopping.check_folder()
    trainer.link(best)
    trainer.journal.sync()


def _score(
    trainer: Trainer, base: SpeechModel, candidate: Candidate, datasets: Iterable[Dataset], *, best: bool = False
) -> None:
    """Save the candidate if it is new, score it on the sets, and tell of it with all that is known by then."""
    started, paths = time.perf_counter(), trainer.paths
    name = adapter_name(candidate.steps, candidate.alpha)
    known = trainer.candidates.get(name)
    folder = paths.adapter(name)
    trainer.journal.phase("evaluating", candidate.step, name)
    trainer.scorer.stopping.check_folder()
    if known is None:
        facts = replace(trainer.facts, step=candidate.step, made_of=candidate.steps, way=candidate.alpha)
        make(paths.root, folder)
        try:
            sources = [paths.adapter(step) for step in candidate.steps]
            make_candidate(sources, folder, candidate.alpha, facts, lambda layer: _weights(base, layer))
        except ModelError as error:
            trainer.journal.emit(Notice("warning", f"{name} is no candidate: {error}"))
            return
    digest = adapter_hash(folder)
    sets = {} if known is None else _told(known)
    with loaded(base, folder) as speech:
        for dataset in datasets:
            score = trainer.scorer(speech, dataset, candidate.step, digest)
            write_json(paths.root, paths.evaluation(name, dataset.name), score.plain())
            sets[dataset.name] = score.event
    seconds = round(time.perf_counter() - started, 3)
    event = CandidateScored(name, candidate.steps, candidate.alpha, digest, sets, seconds, best)
    trainer.candidates[name] = candidate_of(event)
    trainer.journal.emit(event)


def _told(known: CandidateScore) -> dict[str, dict[str, Any]]:
    """The sets of an event that was written, as the next one of the candidate repeats them."""
    scores: Mapping[str, Any] = {name: getattr(known, name) for name in (*TAKEN_FROM, "domain", "heldout")}
    return {name: {**asdict(one.counts), "loss": one.loss} for name, one in scores.items() if one is not None}


def _weights(base: SpeechModel, layer: str) -> Any:
    return base.network.get_submodule(layer).weight
