"""An export beside the adapter that was judged: what changed, and whether it keeps what the adapter had. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core.scoring.criteria import POINTS, domain_gain, heldout, rise_points
from core.scoring.evidence import Criterion, Evidence, State, Thresholds
from core.scoring.significance import SEED, PairedErrors, interval, rises, units_of
from core.scoring.signs import signed

TITLE = "Runtime parity"
_ERRORS = ("substitutions", "deletions", "insertions")
Utterances = Sequence[Mapping[str, Any]]
"""The `utterances` of a score document."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What one set's transcripts say in the runtime and did not when the adapter was judged."""

    utterances: int
    changed: int
    """Transcripts that are not the same to the letter."""
    errors: int
    """In the runtime."""
    reference_words: int
    rise_pp: float
    """Points by which the error rate is higher in the runtime."""
    low_pp: float | None
    high_pp: float | None
    """The 95 % interval of that; None where it cannot be told, of a single utterance."""


def difference(judged: Utterances, served: Utterances) -> Difference:
    """Of two score documents of the same clips in the same order, in the unit that they count.

    The interval is that of other recordings (`rises`): what a conversion changes depends on the clip, and speakers, who
    differ in how well they are heard, are heard by the same weights twice. ValueError without reference words.
    """
    words = np.array([u["reference_words"] for u in judged], dtype=np.float64)
    before, after = (
        np.array([sum(u[name] for name in _ERRORS) for u in utterances], dtype=np.float64)
        for utterances in (judged, served)
    )
    if not words.sum() > 0:
        raise ValueError("there are no reference words")
    low = high = None
    if len(words) > 1:
        units = units_of(PairedErrors(words, before, after, np.zeros((0, len(words)))))
        low, high = interval(rises(units, seed=(SEED, 3)))
    return Difference(
        utterances=len(words),
        changed=sum(one["hypothesis"] != other["hypothesis"] for one, other in zip(judged, served, strict=True)),
        errors=int(after.sum()),
        reference_words=int(words.sum()),
        rise_pp=float(100 * (after - before).sum() / words.sum()),
        low_pp=low,
        high_pp=high,
    )


def sentence(dataset: str, found: Difference, rate: str = "WER") -> str:
    """`domain: 3 of 100 transcripts changed, WER +0.12 points (95 % interval −0.10 to +0.34)`."""
    low, high = found.low_pp, found.high_pp
    interval_ = "" if low is None or high is None else f" (95 % interval {signed(low)} to {signed(high)})"
    return (
        f"{dataset}: {found.changed} of {found.utterances} transcripts changed, {rate} {signed(found.rise_pp)} "
        f"points{interval_}"
    )


def runtime_parity(
    evidence: Evidence, thresholds: Thresholds, convergence: Criterion, guardrail_kept: bool | None
) -> Criterion:
    """The domain gain and the heldout guardrail hold for the transcripts of the runtime that the gate names.

    Its number is the larger rise of the error rate, of both sets, from the adapter that was judged.
    """
    served, target = evidence.served, thresholds.runtime

    def say(state: State, reason: str, value: float | None = None) -> Criterion:
        return Criterion("runtime", TITLE, state, value, None, POINTS, reason)

    if served is None or served.problem is not None or served.domain is None or served.heldout is None:
        missing = f"No export of this adapter as {target} was heard by its runtime: lora-cli export makes one."
        return say(State.UNKNOWN, missing if served is None or served.problem is None else served.problem)
    heard = replace(
        evidence,
        tuned_domain=served.domain,
        tuned_heldout=served.heldout,
        significance=served.significance,
        caps=(*evidence.caps, *served.caps),
    )
    both = (domain_gain(heard, thresholds, convergence), heldout(heard, thresholds, convergence, guardrail_kept))
    states = {one.state for one in both}
    state = next(state for state in (State.FAIL, State.UNKNOWN, State.PASS) if state in states)
    rises = [
        rise_points(judged, now)
        for judged, now in ((evidence.tuned_domain, served.domain), (evidence.tuned_heldout, served.heldout))
        if judged is not None
    ]
    known = [rise for rise in rises if rise is not None]
    changed = f"{served.changed} of {served.utterances} transcripts are not those that were judged"
    said = " ".join(one.reason for one in both)
    reason = f"As {target}, by {served.runtime}: {said} {changed[:1].upper()}{changed[1:]}."
    return say(state, reason, float(max(known)) if known else None)
