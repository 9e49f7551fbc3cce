"""Which interval of a run is its best: by `core.scoring.choice` and its score documents, where both sets are chosen on.

Trainer, gate and verify all ask here, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core.runs.paths import RunPaths, step_name, step_of
from core.runs.scores import Score, read_score
from core.scoring.choice import Scored, SetErrors, choose
from core.scoring.data_health import TAKEN_FROM
from core.scoring.evidence import Choice, Interval, Thresholds
from core.scoring.verdict import best_interval


def chooses_apart(intervals: Iterable[Interval]) -> bool:
    """Whether the base model was scored on both selection sets, so that what is chosen is chosen there."""
    return any(one.step == 0 and one.selection is not None and one.selection_heldout is not None for one in intervals)


def best_of(
    paths: RunPaths, intervals: Sequence[Interval], thresholds: Thresholds
) -> tuple[int | None, bool | None, Choice | None]:
    """(the step of the best interval, whether it keeps the guardrail, how it was chosen on the selection sets).

    None for the last where there are none. ValueError where a score document of the selection sets cannot be used.
    """
    if not chooses_apart(intervals):
        return *best_interval(intervals, thresholds), None
    choice = chosen(paths, [step_name(one.step) for one in intervals if one.step > 0], thresholds)
    return None if choice.name is None else step_of(choice.name), choice.kept, choice


def chosen(paths: RunPaths, names: Iterable[str], thresholds: Thresholds) -> Choice:
    """The choice among candidates by the names of their folders in `evals/`. ValueError, with the reason."""
    baseline = scored(paths, step_name(0), thresholds)
    return choose(baseline, [scored(paths, name, thresholds) for name in names], thresholds)


def scored(paths: RunPaths, name: str, thresholds: Thresholds) -> Scored:
    """A candidate, or the base model, on both selection sets. ValueError where a document is missing or none."""
    sets = {}
    for dataset in TAKEN_FROM:
        score, problem = read_score(paths.evals / name / f"{dataset}.json")
        if score is None:
            raise ValueError(problem)
        sets[dataset] = set_errors(score, thresholds.block_by)
    return Scored(name, sets["selection"], sets["selection_heldout"])


def set_errors(score: Score, block_by: str) -> SetErrors:
    """A score document as a choice takes it. `block_by`: speaker, or another field of the manifest."""
    utterances = score.utterances
    names = [one.speaker if block_by == "speaker" else one.fields.get(block_by) for one in utterances]
    return SetErrors(
        tuple(one.reference_words for one in utterances),
        tuple(one.errors for one in utterances),
        tuple(None if name is None or not str(name).strip() else str(name) for name in names),
        score.loss,
    )
