"""From two or more score documents of each manifest to `Significance`: texts in, figures out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from core.scoring.alignment import Alignment, Comparison, align, compare, segments
from core.scoring.certainty import LEVEL, Certainty, Significance, SliceScore
from core.scoring.data_health import Together
from core.scoring.evidence import SliceRule, Thresholds
from core.scoring.significance import (
    RESAMPLES,
    SEED,
    Floats,
    PairedErrors,
    Units,
    interval,
    mapsswe,
    needed_units,
    optimism,
    over_blocks,
    probability_up_to,
    rises,
    units_of,
)
from core.scoring.slices import sliced
from core.scoring.spelling import spelling_of
from core.scoring.text import Normaliser
from core.scoring.units import Unit

_COUNTS = ("substitutions", "deletions", "insertions", "reference_words")
Utterances = Sequence[Mapping[str, Any]]
"""The `utterances` of a score document (docs/events.md)."""


class RecountError(ValueError):
    """A document's counts are not those of its own texts, or its utterances are not those of the baseline."""


@dataclass(frozen=True, slots=True, eq=False)
class Documents:
    """The score documents of one manifest. `tuned` None: a set that only chooses."""

    baseline: Utterances
    tuned: Utterances | None
    intervals: Sequence[Utterances]
    """At each interval ≥ 1, in their order."""


@dataclass(frozen=True, slots=True, eq=False)
class _Aligned:
    before: list[Alignment]
    after: list[Alignment]
    errors: PairedErrors

    names: list[str | None]
    """What each utterance says of its block."""

    def part(self, places: Sequence[int], blocked: bool) -> _Aligned:
        """Some of the utterances, by their blocks or without; no intervals, among which nothing is chosen by a part."""
        errors = self.errors
        recordings = None if errors.recordings is None else [errors.recordings[place] for place in places]
        named = [self.names[place] for place in places]
        blocks = _blocks(named) if blocked else None
        words, old, new = (column[list(places)] for column in (errors.words, errors.before, errors.after))
        none = np.zeros((0, len(places)))
        before, after = ([alignments[place] for place in places] for alignments in (self.before, self.after))
        part = PairedErrors(words, old, new, none, blocks, recordings)
        return _Aligned(before, after, part, named)


@dataclass(frozen=True, slots=True)
class Counting:
    """How the texts of score documents are counted."""

    normalise: Callable[[str], str]
    scored: Unit = Unit.WORD
    """What the documents' own counts are of."""
    unit: Unit = Unit.WORD
    """What is counted now."""

    def again(self, utterances: Utterances) -> list[Alignment]:
        """Each utterance aligned anew by `unit`. RecountError where its own counts are not those of its texts."""
        found = recounted(utterances, self.normalise, self.scored)
        return found if self.unit is self.scored else _aligned(utterances, self.normalise, self.unit)


def _aligned(utterances: Utterances, normalise: Callable[[str], str], unit: Unit) -> list[Alignment]:
    references = [normalise(str(u["reference"])) for u in utterances]
    return align(references, [normalise(str(u["hypothesis"])) for u in utterances], unit)


def recounted(utterances: Utterances, normalise: Callable[[str], str], unit: Unit = Unit.WORD) -> list[Alignment]:
    """Each utterance aligned anew. RecountError where its counts are not those of its texts."""
    found = _aligned(utterances, normalise, unit)
    for utterance, alignment in zip(utterances, found, strict=True):
        counts = alignment.counts
        # Two alignments of equal cost may part S, D and I otherwise: their sum and N may not differ.
        written = {name: utterance[name] for name in _COUNTS}
        errors = sum(written[name] for name in _COUNTS[:3])
        if errors != counts.errors or written["reference_words"] != counts.reference_words:
            raise RecountError(
                f"utterance {utterance['id']}: its counts say {errors} errors in {written['reference_words']} "
                f"{unit.plural}, its texts {counts.errors} in {counts.reference_words}"
            )
    return found


def assess(
    domain: Documents,
    heldout: Documents,
    choosing: Mapping[str, Documents],
    thresholds: Thresholds,
    normaliser: Normaliser,
    key: str,
    together: Sequence[Together] = (),
    resamples: int = RESAMPLES,
    scored: Unit = Unit.WORD,
) -> Significance:
    """How sure the gain and the regression are. RecountError, or ValueError when there is nothing to resample.

    `choosing`: the documents of `selection` and `selection_heldout`, where given. With both, nothing was chosen on what
    is judged, so that the correction for choosing is 0.

    `together`: utterances that are of one recording, and therefore no evidence of their own. `scored`: what the
    documents count; errors are counted again where the gate counts by another unit.
    """
    # The references are the same at every interval, and many transcripts are.
    counting = Counting(cache(normaliser.apply), scored, thresholds.unit)
    documents = {"domain": domain, "heldout": heldout, **choosing}
    groups = {one.dataset: one.groups for one in together}
    found = {name: _align(one, counting, thresholds.block_by, groups.get(name, ())) for name, one in documents.items()}
    units = {name: units_of(aligned.errors) for name, aligned in found.items()}
    apart = {"selection", "selection_heldout"} <= choosing.keys()
    gain, allowed = thresholds.domain_gain_pp, thresholds.heldout_regression_pp
    flattered = None
    if not apart:
        flattered = optimism(units["domain"], units["heldout"], allowed, units.get("selection"), seed=(SEED, 0))
    by_domain, by_heldout = (None, None) if flattered is None else flattered
    sure_of = {
        name: replace(_certainty(found[name], units[name], by, limit, thresholds, name, resamples), chosen_apart=apart)
        for name, by, limit in (("domain", by_domain, gain), ("heldout", by_heldout, allowed))
    }
    return Significance(
        sure_of["domain"],
        sure_of["heldout"],
        resamples,
        key,
        tuple(_slices({"domain": domain, "heldout": heldout}, found, thresholds, resamples)),
        tuple(
            spelling_of(name, one.baseline, one.tuned, normaliser, thresholds.unit)
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
                # Of a speaker's own slice it is asked how that speaker fares, not how others would.
                part = found[name].part(places, rule.by != thresholds.block_by)
                words, before, after = (
                    int(x.sum()) for x in (part.errors.words, part.errors.before, part.errors.after)
                )
                certainty = None
                if len(places) >= rule.min_utterances and words > 0:
                    certainty = _slice_certainty(part, threshold, thresholds, name, rule, resamples)
                yield SliceScore(number, name, label, len(places), words, before, after, certainty)


def _slice_certainty(
    part: _Aligned, threshold: float, thresholds: Thresholds, name: str, rule: SliceRule, resamples: int
) -> Certainty | None:
    try:
        units = units_of(part.errors)
    except ValueError:  # copies of one recording
        return None
    found = _certainty(part, units, None, threshold, thresholds, name, resamples)
    return replace(found, conditional=False) if rule.by == thresholds.block_by else found


def _align(documents: Documents, counting: Counting, block_by: str, groups: Sequence[Sequence[int]]) -> _Aligned:
    before = counting.again(documents.baseline)
    after = before if documents.tuned is None else _same(documents, documents.tuned, counting)
    intervals = [_errors(_same(documents, one, counting)) for one in documents.intervals]
    words = np.array([a.counts.reference_words for a in before], dtype=np.float64)
    table = np.array(intervals, dtype=np.float64).reshape(len(intervals), len(words))
    recordings = list(range(len(words)))
    for group in groups:
        for place in group:
            if place >= len(recordings):
                raise ValueError(f"the audit of the data says of utterance {place} what it is a copy of: there is none")
            recordings[place] = group[0]
    names = _names(documents.baseline, block_by)
    errors = PairedErrors(words, _errors(before), _errors(after), table, _blocks(names), recordings)
    return _Aligned(before, after, errors, names)


def _same(documents: Documents, other: Utterances, counting: Counting) -> list[Alignment]:
    """`other`, aligned, in the baseline's order."""
    by_id = {str(u["id"]): u for u in other}
    names = [str(u["id"]) for u in documents.baseline]
    if len(other) != len(names) or by_id.keys() != set(names):
        raise RecountError("not the utterances of the baseline")
    ordered = [by_id[name] for name in names]
    for own, base in zip(ordered, documents.baseline, strict=True):
        if own["reference"] != base["reference"]:
            raise RecountError(f"utterance {own['id']}: another reference than in the baseline")
    return counting.again(ordered)


def _errors(alignments: Sequence[Alignment]) -> Floats:
    return np.array([a.counts.errors for a in alignments], dtype=np.float64)


def _names(utterances: Utterances, field: str) -> list[str | None]:
    """The field's value for each utterance; None where it has none, or an empty one."""
    values = [u.get("speaker") if field == "speaker" else (u.get("fields") or {}).get(field) for u in utterances]
    return [None if value is None or not str(value).strip() else str(value) for value in values]


def _blocks(names: Sequence[str | None]) -> list[str] | None:
    """The names, if all have one. Else none: whoever said nothing may be one speaker or many, or one of those named."""
    named = [name for name in names if name is not None]
    return named if len(named) == len(names) else None


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
    have = len(units) if units.blocked else len(aligned.before)
    need = needed_units(units, spread, way * corrected_rise, threshold, have, level)
    decided = not 1 - level < probability < level
    more = None if need is None else 0 if decided else max(1, need - have)
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
        block_by=thresholds.block_by,
        blocked=units.blocked,
        units=len(units),
        like_units=over_blocks(units)[1] + 1 if units.blocked else None,
        conditional=not units.blocked,
        unnamed=aligned.names.count(None),
        utterances=len(pairs),
        fixed=changes.fixed,
        broken=changes.broken,
        inserted_less=changes.inserted_less,
        inserted_more=changes.inserted_more,
        mapsswe_z=test.z,
        mapsswe_p=test.p_value,
        mapsswe_segments=test.segments,
        unit=thresholds.unit,
        more_units=more,
    )
