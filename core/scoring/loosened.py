"""Which thresholds of a gate are weaker than the defaults. Pure.

Whoever loosens a gate may have good reasons; whoever reads an accepted run must see that it was done.
"""

from __future__ import annotations

from core.scoring.evidence import SliceRule, Thresholds

WEAK_CONFIDENCE = 0.8
"""A confidence up to this lets one wrong decision in five through, and still looks like a promise."""
_SENTENCE = "by a gate looser than the default: "


def loosened(thresholds: Thresholds) -> tuple[str, ...]:
    """A phrase for each threshold that is weaker than its default, in the order of the criteria; none: empty."""
    default, least = Thresholds(), SliceRule(by="").min_utterances
    # Asked the other way round, so that what is no number is weaker, too.
    weaker = [
        (
            not thresholds.domain_gain_pp >= default.domain_gain_pp,
            f"gain ≥ {thresholds.domain_gain_pp:g} instead of {default.domain_gain_pp:.1f}",
        ),
        (
            not thresholds.heldout_regression_pp <= default.heldout_regression_pp,
            f"regression ≤ {thresholds.heldout_regression_pp:g} instead of {default.heldout_regression_pp:.1f}",
        ),
        (
            thresholds.confidence is not None and not thresholds.confidence > WEAK_CONFIDENCE,
            f"{_percent(thresholds.confidence)} confidence, above {_percent(WEAK_CONFIDENCE)} is sound",
        ),
        (
            not thresholds.stability_range_pp <= default.stability_range_pp,
            f"stability within {thresholds.stability_range_pp:g} points instead of {default.stability_range_pp:.1f}",
        ),
        (
            not thresholds.stability_intervals >= default.stability_intervals,
            f"stability over {thresholds.stability_intervals} intervals instead of {default.stability_intervals}",
        ),
        (
            not thresholds.stability_min_steps >= default.stability_min_steps,
            f"stability after {thresholds.stability_min_steps} steps instead of {default.stability_min_steps}",
        ),
        (
            thresholds.confidence is not None and thresholds.block_by != default.block_by,
            f"sure by {thresholds.block_by} instead of {default.block_by}",
        ),
        (
            thresholds.confidence is not None and thresholds.unknown_speakers is not None,
            f"speakers unknown ({thresholds.unknown_speakers})",
        ),
        (
            thresholds.unknown_speakers is not None,
            f"other speakers unknown, accepted ({thresholds.unknown_speakers})",
        ),
        (thresholds.accept_leakage is not None, f"leakage accepted ({thresholds.accept_leakage})"),
    ]
    slices = [
        (
            not rule.min_utterances >= least,
            f"slices by {rule.by} of {rule.min_utterances} utterances instead of {least}",
        )
        for rule in thresholds.slices
    ]
    return tuple(phrase for weak, phrase in [*weaker, *slices] if weak)


def loosened_words(phrases: tuple[str, ...]) -> str:
    """`by a gate looser than the default: gain ≥ 0.1 instead of 1.0`, or nothing."""
    return _SENTENCE + ", ".join(phrases) if phrases else ""


def _percent(confidence: float | None) -> str:
    return "no" if confidence is None else f"{100 * confidence:g} %"
