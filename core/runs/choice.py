"""Which candidate of a run is its best: by `core.scoring.choice` and its score documents, where it is chosen apart.

Trainer, gate and verify all ask here, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from core.runs.paths import RunPaths, adapter_words, step_name
from core.runs.scores import Score, read_score
from core.scoring.choice import Scored, SetErrors, choose
from core.scoring.data_health import TAKEN_FROM
from core.scoring.evidence import CandidateScore, Choice, Interval, SetScore, Thresholds
from core.scoring.units import ErrorCounts
from core.scoring.verdict import best_interval
from core.system.files import stamp

_EASIER = 0.5
"""Of the error rate on heldout: a heldout selection set with a lower one is not like it."""
_FEW_ERRORS = 20
"""Of fewer on heldout, no rate is known well enough to compare."""


def chooses_apart(intervals: Iterable[Interval]) -> bool:
    """Whether the base model was scored on both selection sets, so that what is chosen is chosen there."""
    return any(one.step == 0 and one.selection is not None and one.selection_heldout is not None for one in intervals)


def easier(base: Interval) -> str | None:
    """What to say of a heldout selection set on which the base model errs far less than on heldout; None: it does not.

    Speech that it was trained on is such: what it knows by heart it is slow to forget, so that nothing is seen of what
    it forgets elsewhere.
    """
    if base.selection_heldout is None:
        return None
    rates = [one.counts.wer_percent for one in (base.selection_heldout, base.heldout)]
    chosen, heldout = (0.0 if rate is None else rate for rate in rates)
    if chosen >= _EASIER * heldout or base.heldout.counts.errors < _FEW_ERRORS:
        return None
    return (
        f"data.selection_heldout: the base model errs in {chosen:.2f} % of it and in {heldout:.2f} % of heldout: if it "
        "was trained on that speech, what is chosen there may forget on heldout; take other ordinary speech"
    )


def best_of(
    paths: RunPaths, intervals: Sequence[Interval], others: Iterable[CandidateScore], thresholds: Thresholds
) -> tuple[str | None, bool | None, Choice | None]:
    """(the name of the best candidate, whether it keeps the guardrail, how it was chosen on the selection sets).

    `others`: candidates made of intervals, among which it can only be chosen on selection sets. None for the last where
    there are none. ValueError where a score document of the selection sets cannot be used.
    """
    if not chooses_apart(intervals):
        step, kept = best_interval(intervals, thresholds)
        return None if step is None else step_name(step), kept, None
    told: dict[str, Interval | CandidateScore] = {
        step_name(one.step): one for one in sorted(intervals, key=lambda one: one.step)
    }
    told |= {one.name: one for one in others}
    events = tuple((name, tuple(_counts(one, dataset) for dataset in TAKEN_FROM)) for name, one in told.items())
    choice = _chosen(paths, events, thresholds, tuple(_stamps(paths, told)))
    return choice.name, choice.kept, choice


_Told = tuple[tuple[str, tuple[ErrorCounts | None, ...]], ...]
"""By the events: each candidate, the base model first, with its errors on the selection sets."""


def _counts(one: Interval | CandidateScore, dataset: str) -> ErrorCounts | None:
    score: SetScore | None = getattr(one, dataset)
    return None if score is None else score.counts


def _stamps(paths: RunPaths, names: Iterable[str]) -> Iterator[tuple[int, ...]]:
    for name in names:
        for dataset in TAKEN_FROM:
            try:
                yield stamp(paths.evaluation(name, dataset).lstat())
            except OSError:
                yield ()


# A dashboard asks again every second; the stamps make the answer cacheable.
@lru_cache(maxsize=32)
def _chosen(paths: RunPaths, events: _Told, thresholds: Thresholds, _stamps: object) -> Choice:
    baseline, *candidates = (_scored(paths, name, counts, thresholds) for name, counts in events)
    return choose(baseline, candidates, thresholds)


def _scored(paths: RunPaths, name: str, told: Iterable[ErrorCounts | None], thresholds: Thresholds) -> Scored:
    """A candidate, or the base model, on both selection sets. ValueError where a document is not what `told` says.

    A candidate that is not chosen is scored on nothing else: its documents are all that says that it was worse.
    """
    sets = {}
    for dataset, counts in zip(TAKEN_FROM, told, strict=True):
        path = paths.evaluation(name, dataset)
        score, problem = read_score(path)
        if score is None:
            raise ValueError(problem)
        if score.dataset != dataset or score.counts.plain != counts:
            raise ValueError(f"{path}: its counts are not those of the event of {adapter_words(name)}")
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
