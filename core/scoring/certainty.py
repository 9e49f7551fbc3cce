"""How sure a WER difference is: plain values, beside the point estimates of the criteria."""

from __future__ import annotations

from dataclasses import dataclass

from core.scoring.signs import change, interval, limit, signed
from core.scoring.units import Unit

LEVEL = 0.95
"""Of the interval that is shown beside a number, and of the decision that `more_units` is for."""
MINIMUM_BLOCKS = 2
"""Speakers (or values of another field) that it takes to tell how much speakers differ."""


@dataclass(frozen=True, slots=True)
class Certainty:
    """One WER difference. Points as in its criterion: the gain for domain, the rise for heldout."""

    raw_pp: float
    """The point estimate on the set."""
    corrected_pp: float | None
    """Without what choosing the best interval on these same sets flatters it by (out of bag); None: no choice made."""
    low_pp: float
    high_pp: float
    """The 95 % interval, of the corrected difference where there is one."""
    threshold_pp: float
    probability: float
    """That the difference meets the threshold: gain ≥, or rise ≤."""
    block_by: str
    """speaker, or another field of the manifest: what of errors comes together, where it is known."""
    blocked: bool
    """Whether the figures are over its values; else they are over recordings."""
    units: int
    """Speakers (values of `block_by`), or recordings: copies of one count once."""
    like_units: float | None
    """Of blocks: as how many of equal size they count (degrees of freedom + 1): fewer where some have most words."""
    conditional: bool
    """The figures hold for these speakers, and say nothing of others."""
    unnamed: int
    """Utterances that do not say whose they are."""
    utterances: int
    fixed: int
    broken: int
    """Reference words that were wrong and are right, and the other way round."""
    inserted_less: int
    inserted_more: int
    """Inserted words that went and that came."""
    mapsswe_z: float | None
    mapsswe_p: float | None
    """NIST's matched-pairs test: the probability of such a difference between equals."""
    mapsswe_segments: int
    more_units: int | None
    """Speakers (values of `block_by`) like these, or utterances of this kind, that a decision would need beside these;
    None: the point estimate is on the threshold, so that no number would do."""
    unit: Unit = Unit.WORD
    """What is called a word here."""
    chosen_apart: bool = False
    """Whether the candidate was chosen on sets that nothing is judged on: the correction for the choice is 0 then."""


@dataclass(frozen=True, slots=True)
class SliceScore:
    """One slice of one set, before and after."""

    rule: int
    """Which of the gate's rules it is of."""
    dataset: str
    """domain or heldout."""
    label: str
    """`speaker alice`, `2 to 5 s`."""
    utterances: int
    words: int
    before: int
    after: int
    """Errors of the base model, and of the tuned adapter."""
    certainty: Certainty | None = None
    """None for slices of fewer utterances than the rule asks for."""


@dataclass(frozen=True, slots=True)
class SetSpelling:
    """The change of one set's WER under several text normalisers."""

    dataset: str
    normaliser: str
    """Of the scores."""
    rise_pp: float
    others: tuple[tuple[str, float], ...]
    """(normaliser, rise in points under it): each that the change was counted under beside the scores' own."""
    utterances: int
    numbers: int
    """Utterances in which one side has digits and no number word, and the other number words."""
    joined: int = 0
    """References that are written without spaces between words."""


@dataclass(frozen=True, slots=True)
class Significance:
    """How sure both WER criteria are, and the slices that the gate asks for."""

    domain: Certainty
    heldout: Certainty
    resamples: int
    key: str
    """Hash of the evaluations and thresholds that it was computed from."""
    slices: tuple[SliceScore, ...] = ()
    spelling: tuple[SetSpelling, ...] = ()
    """What other text normalisers make of the same transcripts."""


def sentence(certainty: Certainty, name: str) -> str:
    """All of it in words. `name`: domain_gain or heldout."""
    corrected = certainty.corrected_pp
    threshold = limit(change(name, certainty.threshold_pp))
    parts = [
        f"95 % interval {' to '.join(interval(name, certainty.low_pp, certainty.high_pp))} points, "
        f"P(≤ {threshold}) = {probability(certainty.probability)}",
        "chosen on other sets, so that nothing is to be corrected for the choice" if certainty.chosen_apart else "",
        "" if corrected is None else f"{signed(change(name, corrected))} when corrected for the choice of the interval",
        f"{certainty.fixed} {certainty.unit.plural} fixed, {certainty.broken} broken, "
        f"{certainty.inserted_less} insertions gone, {certainty.inserted_more} new",
        _mapsswe(certainty),
        _resampled(certainty),
        _more(certainty),
    ]
    return "; ".join(part for part in parts if part) + "."


def short(certainty: Certainty, name: str) -> str:
    """`[−7.72, −5.10] P(≤ −1) 99.7 %`, of the change; `P(≤ −1 | these speakers)` where it says nothing of others."""
    given = f" | these {plural(certainty.block_by)}" if certainty.conditional else ""
    threshold = limit(change(name, certainty.threshold_pp))
    chance = f"P(≤ {threshold}{given}) {probability(certainty.probability)}"
    return f"[{', '.join(interval(name, certainty.low_pp, certainty.high_pp))}] {chance}"


def probability(value: float) -> str:
    """In percent. Never 0 or 100 %: a finite number of resamples cannot say that."""
    if value > 0.999:
        return "> 99.9 %"
    return "< 0.1 %" if value < 0.001 else f"{100 * value:.1f} %"


def _mapsswe(certainty: Certainty) -> str:
    if certainty.mapsswe_p is None:
        return f"MAPSSWE: not to be computed from {certainty.mapsswe_segments} segments"
    p = "p < 0.001" if certainty.mapsswe_p < 0.001 else f"p = {certainty.mapsswe_p:.3f}"
    return f"MAPSSWE {p} over {certainty.mapsswe_segments} segments"


def plural(field: str) -> str:
    """Several speakers, or values of another field."""
    return "speakers" if field == "speaker" else f"values of {field}"


def nobody(certainty: Certainty) -> str:
    """Why nothing can be said of other speakers, where that is so."""
    if certainty.unnamed == 0:
        return f"all utterances have one {certainty.block_by}"
    if certainty.unnamed == certainty.utterances:
        return f"no utterance names its {certainty.block_by}"
    return f"{certainty.unnamed} of {certainty.utterances} utterances name no {certainty.block_by}"


def more(certainty: Certainty) -> str:
    """What a decision would take beside what there is, or nothing: `about 12 more speakers`."""
    count = certainty.more_units
    if not count:
        return ""
    if not certainty.blocked:
        return f"about {count} more utterances"
    one = certainty.block_by if certainty.block_by == "speaker" else f"value of {certainty.block_by}"
    return f"about {count} more {one if count == 1 else plural(certainty.block_by)}"


def _resampled(certainty: Certainty) -> str:
    if certainty.blocked:
        alike = certainty.like_units
        unequal = alike is not None and alike < certainty.units - 0.5
        as_many = f", which count as {alike:.1f} of equal size" if unequal else ""
        return f"by {certainty.units} {plural(certainty.block_by)}{as_many}"
    copies = certainty.utterances - certainty.units
    units = f"{certainty.units} utterances"
    units += f" ({copies} more have a recording in common with these)" if copies else ""
    if not certainty.conditional:
        return f"by {units}"
    return f"by {units}, so conditional on the {plural(certainty.block_by)}: {nobody(certainty)}"


def _more(certainty: Certainty) -> str:
    if certainty.more_units is None:
        what = plural(certainty.block_by) if certainty.blocked else "utterances"
        return f"on the threshold: no number of {what} would decide it at 95 %"
    if certainty.more_units == 0:
        return ""
    return f"a decision at 95 % would need {more(certainty)} of this kind"
