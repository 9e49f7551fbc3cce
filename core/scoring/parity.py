"""Parity: the score of the adapter on disk, made by another process, equals the trainer's own."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from core.scoring.criteria import points, rise_points
from core.scoring.evidence import Criterion, Evidence, Parity, State, Thresholds


def parity(evidence: Evidence, thresholds: Thresholds) -> Criterion:
    """The tuned score, made by another process, equals the trainer's own at that interval."""
    found = evidence.parity
    # Nothing is known yet: the score is usually made on the device that trained.
    same_device = found is None or found.same_device
    limit, unit = (0.0, "transcripts") if same_device else (thresholds.parity_pp, "points")

    def say(state: State, reason: str, value: float | None = None) -> Criterion:
        return Criterion("parity", "Parity", state, value, limit, unit, reason)

    if found is None:
        return say(State.UNKNOWN, "There is no tuned score to compare with the trainer's own.")
    delta = _trainer_difference(evidence)
    differing = _sum(found.domain_transcripts_differing, found.heldout_transcripts_differing)
    value = _float(differing) if found.same_device else (None if delta is None else float(delta))

    failures, gaps = _fingerprints_and_singles(found, thresholds)
    if found.same_device:
        if differing is None:
            gaps.append("the transcripts of the two processes could not be compared")
        elif differing:
            failures.append(f"transcripts that differ from the trainer's own on the same device: {differing}")
        elif delta:
            failures.append(f"the transcripts agree, but WER differs by {float(delta):.2f} points")
    elif delta is not None and delta > points(thresholds.parity_pp):
        failures.append(f"WER differs by {float(delta):.2f} points from the trainer's own")
    if delta is None:
        gaps.append("the trainer's own score at that interval is missing or of other words")

    if failures or gaps:
        state = State.FAIL if failures else State.UNKNOWN
        return say(state, _sentence(failures or gaps), value)
    where = "the same device" if found.same_device else "another device or precision"
    singles = f"{found.single_transcripts_compared} clips decoded one by one agree"
    same = "the same transcripts" if found.same_device else f"WER within {float(delta or 0):.2f} points"
    return say(State.PASS, f"On {where}, {same} as the trainer's own; {singles}.", value)


def _fingerprints_and_singles(found: Parity, thresholds: Thresholds) -> tuple[list[str], list[str]]:
    """(what fails, what is missing) of the normalisation fingerprints and the clips decoded one by one."""
    failures: list[str] = []
    gaps: list[str] = []
    if found.trainer_fingerprint is None or found.evaluator_fingerprint is None:
        gaps.append("a normalisation fingerprint is missing")
    elif found.trainer_fingerprint != found.evaluator_fingerprint:
        mine, theirs = found.trainer_fingerprint, found.evaluator_fingerprint
        told = f"their fingerprints differ: {mine} and {theirs}"
        failures.append(f"trainer and evaluation normalised differently ({told})")
    compared, differing = found.single_transcripts_compared, found.single_transcripts_differing
    need = thresholds.parity_single_clips
    if found.clips_available is not None:
        need = min(need, found.clips_available)
    if differing:
        failures.append(f"clips that give another transcript when decoded one by one: {differing} of {compared}")
    elif differing is None or compared < max(need, 1):
        gaps.append(f"{compared} of {need} clips were decoded one by one")
    return failures, gaps


def _trainer_difference(evidence: Evidence) -> Fraction | None:
    """The larger |ΔWER| of domain and heldout, in points, from the trainer's own score; None if unknown."""
    artifact, tuned_domain, tuned_heldout = evidence.artifact, evidence.tuned_domain, evidence.tuned_heldout
    if artifact is None or tuned_domain is None or tuned_heldout is None:
        return None
    own = next((i for i in evidence.intervals if i.step == artifact.scored_step), None)
    if own is None:
        return None
    deltas = [rise_points(own.domain.counts, tuned_domain), rise_points(own.heldout.counts, tuned_heldout)]
    known = [abs(delta) for delta in deltas if delta is not None]
    return max(known) if len(known) == len(deltas) else None


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _float(count: int | None) -> float | None:
    return None if count is None else float(count)


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts) + "."
    return text[0].upper() + text[1:]
