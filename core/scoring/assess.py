"""From two or more score documents of each manifest to `Significance`: texts in, figures out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from core.scoring.alignment import Alignment, Comparison, align, compare, segments
from core.scoring.certainty import LEVEL, Certainty, Significance, SliceScore
from core.scoring.evidence import Thresholds
from core.scoring.mapsswe import mapsswe
from core.scoring.significance import (
    RESAMPLES,
    SEED,
    Floats,
    PairedErrors,
    Units,
    interval,
    needed_units,
    optimism,
    probability_up_to,
    rises,
    units_of,
)
from core.scoring.slices import sliced
from core.scoring.spelling import spelling_of
from core.scoring.text import Normaliser

_COUNTS = ("substitutions", "deletions", "insertions", "reference_words")
Utterances = Sequence[Mapping[str, Any]]
"""The `utterances` of a score document (docs/events.md)."""


class RecountError(ValueError):
    """A document's counts are not those of its own texts, or its utterances are not those of the baseline."""


@dataclass(frozen=True, slots=True, eq=False)
class Documents:
    """The score documents of one manifest. `tuned` None: a set that only chooses (selection)."""

    baseline: Utterances
    tuned: Utterances | None
    intervals: Sequence[Utterances]
    """At each interval ≥ 1, in their order."""


@dataclass(frozen=True, slots=True, eq=False)
class _Aligned:
    before: list[Alignment]
    after: list[Alignment]
    errors: PairedErrors

    def part(self, places: Sequence[int]) -> _Aligned:
        """Some of the utterances; without the intervals, among which nothing is chosen by a part."""
        errors = self.errors
        blocks = None if errors.blocks is None else [errors.blocks[place] for place in places]
        words, old, new = (column[list(places)] for column in (errors.words, errors.before, errors.after))
        none = np.zeros((0, len(places)))
        before, after = ([alignments[place] for place in places] for alignments in (self.before, self.after))
        return _Aligned(before, after, PairedErrors(words, old, new, none, blocks))


def recounted(utterances: Utterances, normalise: Callable[[str], str]) -> list[Alignment]:
    """Each utterance aligned anew. RecountError where its counts are not those of its texts."""
    references = [normalise(str(u["reference"])) for u in utterances]
    found = align(references, [normalise(str(u["hypothesis"])) for u in utterances])
    for utterance, alignment in zip(utterances, found, strict=True):
        counts = alignment.counts
        # Two alignments of equal cost may part S, D and I otherwise: their sum and N may not differ.
        written = {name: utterance[name] for name in _COUNTS}
        errors = sum(written[name] for name in _COUNTS[:3])
        if errors != counts.errors or written["reference_words"] != counts.reference_words:
            raise RecountError(
                f"utterance {utterance['id']}: its counts say {errors} errors in {written['reference_words']} words, "
                f"its texts {counts.errors} in {counts.reference_words}"
            )
    return found


def assess(
    domain: Documents,
    heldout: Documents,
    selection: Documents | None,
    thresholds: Thresholds,
    normaliser: Normaliser,
    key: str,
    resamples: int = RESAMPLES,
) -> Significance:
    """How sure the gain and the regression are. RecountError, or ValueError when there is nothing to resample."""
    block_by = thresholds.block_by
    # The references are the same at every interval, and many transcripts are.
    normalise = cache(normaliser.apply)
    found = {"domain": _align(domain, normalise, block_by), "heldout": _align(heldout, normalise, block_by)}
    units = {name: units_of(aligned.errors) for name, aligned in found.items()}
    choosing = None if selection is None else units_of(_align(selection, normalise, block_by).errors)
    gain, allowed = thresholds.domain_gain_pp, thresholds.heldout_regression_pp
    flattered = optimism(units["domain"], units["heldout"], allowed, choosing, seed=(SEED, 0))
    by_domain, by_heldout = (None, None) if flattered is None else flattered
    return Significance(
        _certainty(found["domain"], units["domain"], by_domain, gain, thresholds, "domain", resamples),
        _certainty(found["heldout"], units["heldout"], by_heldout, allowed, thresholds, "heldout", resamples),
        resamples,
        key,
        tuple(_slices({"domain": domain, "heldout": heldout}, found, thresholds, resamples)),
        tuple(
            spelling_of(name, one.baseline, one.tuned, normaliser)
            for name, one in (("domain", domain), ("heldout", heldout))
            if one.tuned is not None
        ),
    )


def _slices(
    documents: Mapping[str, Documents], found: Mapping[str, _Aligned], thresholds: Thresholds, resamples: int
) -> Iterator[SliceScore]:
    """Every slice that the gate has a threshold for; how sure it is only where it has enough utterances."""
    for number, rule in enumerate(thresholds.slices):
        for name, document in documents.items():
            threshold = rule.threshold(name)
            if threshold is None:
                continue
            for label, places in sliced(rule, document.baseline).items():
                part = found[name].part(places)
                words, before, after = (
                    int(x.sum()) for x in (part.errors.words, part.errors.before, part.errors.after)
                )
                certainty = None
                if len(places) >= rule.min_utterances and words > 0:
                    certainty = _certainty(part, units_of(part.errors), None, threshold, thresholds, name, resamples)
                yield SliceScore(number, name, label, len(places), words, before, after, certainty)


def _align(documents: Documents, normalise: Callable[[str], str], block_by: str) -> _Aligned:
    before = recounted(documents.baseline, normalise)
    after = before if documents.tuned is None else _same(documents, documents.tuned, normalise)
    intervals = [_errors(_same(documents, one, normalise)) for one in documents.intervals]
    words = np.array([a.counts.reference_words for a in before], dtype=np.float64)
    table = np.array(intervals, dtype=np.float64).reshape(len(intervals), len(words))
    errors = PairedErrors(words, _errors(before), _errors(after), table, _blocks(documents.baseline, block_by))
    return _Aligned(before, after, errors)


def _same(documents: Documents, other: Utterances, normalise: Callable[[str], str]) -> list[Alignment]:
    """`other`, aligned, in the baseline's order."""
    by_id = {str(u["id"]): u for u in other}
    names = [str(u["id"]) for u in documents.baseline]
    if len(other) != len(names) or by_id.keys() != set(names):
        raise RecountError("not the utterances of the baseline")
    ordered = [by_id[name] for name in names]
    for own, base in zip(ordered, documents.baseline, strict=True):
        if own["reference"] != base["reference"]:
            raise RecountError(f"utterance {own['id']}: another reference than in the baseline")
    return recounted(ordered, normalise)


def _errors(alignments: Sequence[Alignment]) -> Floats:
    return np.array([a.counts.errors for a in alignments], dtype=np.float64)


def _blocks(utterances: Utterances, field: str) -> list[str] | None:
    """The field's value for each utterance; None where one has none."""
    values = [u.get("speaker") if field == "speaker" else (u.get("fields") or {}).get(field) for u in utterances]
    return None if any(value is None for value in values) else [str(value) for value in values]


def _certainty(
    aligned: _Aligned,
    units: Units,
    flattered_pp: float | None,
    threshold: float,
    thresholds: Thresholds,
    name: str,
    resamples: int,
) -> Certainty:
    gain = name == "domain"
    # Domain is told as a gain, heldout as a rise.
    way = -1.0 if gain else 1.0
    raw_rise = float(units.points[0])
    # The choice can only have flattered the run: what it seems to have cost is chance.
    corrected_rise = raw_rise + max(0.0, flattered_pp or 0.0)
    spread = rises(units, resamples, (SEED, 1 if gain else 2)) + (corrected_rise - raw_rise)
    low, high = sorted(way * limit for limit in interval(spread))
    probability = probability_up_to(spread, -threshold if gain else threshold, units.margin_pp)
    level = thresholds.confidence or LEVEL
    need = needed_units(spread, way * corrected_rise, threshold, len(aligned.before), units.margin_pp, level)
    decided = not 1 - level < probability < level
    more = None if need is None else 0 if decided else max(1, need - len(aligned.before))
    pairs = list(zip(aligned.before, aligned.after, strict=True))
    changes = sum((compare(*pair) for pair in pairs), Comparison())
    test = mapsswe(errors for pair in pairs for errors in segments(*pair))
    return Certainty(
        raw_pp=way * raw_rise,
        corrected_pp=None if flattered_pp is None else way * corrected_rise,
        low_pp=low,
        high_pp=high,
        threshold_pp=threshold,
        probability=probability,
        unit=thresholds.block_by if units.blocked else "utterance",
        units=len(units),
        conditional=not units.blocked,
        utterances=len(pairs),
        fixed=changes.fixed,
        broken=changes.broken,
        inserted_less=changes.inserted_less,
        inserted_more=changes.inserted_more,
        mapsswe_z=test.z,
        mapsswe_p=test.p_value,
        mapsswe_segments=test.segments,
        more_utterances=more,
    )
