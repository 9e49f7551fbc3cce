"""From two or more score documents of each manifest to `Significance`: texts in, figures out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.scoring.alignment import Alignment, Comparison, align, compare, segments
from core.scoring.certainty import Certainty, Significance
from core.scoring.evidence import Thresholds
from core.scoring.mapsswe import mapsswe
from core.scoring.significance import (
    RESAMPLES,
    SEED,
    Floats,
    PairedErrors,
    Units,
    interval,
    more_units,
    optimism,
    rises,
    share_up_to,
    units_of,
)
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


def recounted(utterances: Utterances, normaliser: Normaliser) -> list[Alignment]:
    """Each utterance aligned anew. RecountError where its counts are not those of its texts."""
    references = [normaliser.apply(str(u["reference"])) for u in utterances]
    found = align(references, [normaliser.apply(str(u["hypothesis"])) for u in utterances])
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
    found = {"domain": _align(domain, normaliser, block_by), "heldout": _align(heldout, normaliser, block_by)}
    units = {name: units_of(aligned.errors) for name, aligned in found.items()}
    choosing = None if selection is None else units_of(_align(selection, normaliser, block_by).errors)
    allowed = thresholds.heldout_regression_pp
    flattered = optimism(units["domain"], units["heldout"], allowed, choosing, seed=(SEED, 0))
    by_domain, by_heldout = (None, None) if flattered is None else flattered
    return Significance(
        _certainty(found["domain"], units["domain"], by_domain, thresholds, "domain", resamples),
        _certainty(found["heldout"], units["heldout"], by_heldout, thresholds, "heldout", resamples),
        resamples,
        key,
    )


def _align(documents: Documents, normaliser: Normaliser, block_by: str) -> _Aligned:
    before = recounted(documents.baseline, normaliser)
    after = before if documents.tuned is None else _same(documents, documents.tuned, normaliser)
    intervals = [_errors(_same(documents, one, normaliser)) for one in documents.intervals]
    words = np.array([a.counts.reference_words for a in before], dtype=np.float64)
    table = np.array(intervals, dtype=np.float64).reshape(len(intervals), len(words))
    errors = PairedErrors(words, _errors(before), _errors(after), table, _blocks(documents.baseline, block_by))
    return _Aligned(before, after, errors)


def _same(documents: Documents, other: Utterances, normaliser: Normaliser) -> list[Alignment]:
    """`other`, aligned, in the baseline's order."""
    by_id = {str(u["id"]): u for u in other}
    names = [str(u["id"]) for u in documents.baseline]
    if len(other) != len(names) or by_id.keys() != set(names):
        raise RecountError("not the utterances of the baseline")
    ordered = [by_id[name] for name in names]
    for own, base in zip(ordered, documents.baseline, strict=True):
        if own["reference"] != base["reference"]:
            raise RecountError(f"utterance {own['id']}: another reference than in the baseline")
    return recounted(ordered, normaliser)


def _errors(alignments: Sequence[Alignment]) -> Floats:
    return np.array([a.counts.errors for a in alignments], dtype=np.float64)


def _blocks(utterances: Utterances, field: str) -> list[str] | None:
    """The field's value for each utterance; None where one has none."""
    values = [u.get("speaker") if field == "speaker" else (u.get("fields") or {}).get(field) for u in utterances]
    return None if any(value is None for value in values) else [str(value) for value in values]


def _certainty(
    aligned: _Aligned, units: Units, flattered_pp: float | None, thresholds: Thresholds, name: str, resamples: int
) -> Certainty:
    gain = name == "domain"
    # Domain is told as a gain, heldout as a rise.
    way = -1.0 if gain else 1.0
    threshold = thresholds.domain_gain_pp if gain else thresholds.heldout_regression_pp
    raw_rise = float(units.points[0])
    # The choice can only have flattered the run: what it seems to have cost is chance.
    corrected_rise = raw_rise + max(0.0, flattered_pp or 0.0)
    spread = rises(units, resamples, (SEED, 1 if gain else 2)) + (corrected_rise - raw_rise)
    low, high = sorted(way * limit for limit in interval(spread))
    probability = share_up_to(spread, -threshold if gain else threshold)
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
        more_utterances=more_units(spread, way * corrected_rise, threshold, len(pairs)),
    )
