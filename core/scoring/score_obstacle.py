"""Why the WERs of a run cannot be judged, whatever they are: for its data, or for how its texts were written. Pure."""

from __future__ import annotations

from core.scoring.caps import caps_obstacle
from core.scoring.data_health import data_obstacle
from core.scoring.evidence import Evidence, Thresholds
from core.scoring.joined_words import joined_sentence
from core.scoring.spelling import spelling_remarks


def obstacle(evidence: Evidence, thresholds: Thresholds) -> str:
    """The first reason, without a full stop, or nothing."""
    leaks = data_obstacle(evidence.data_health, thresholds.accept_leakage)
    if leaks:
        return leaks
    if said := caps_obstacle(evidence.caps):
        return said
    for one in () if evidence.significance is None else evidence.significance.spelling:
        if joined := joined_sentence(one.dataset, one.joined, one.utterances):
            return joined
    if not thresholds.normaliser_chosen and (remarks := spelling(evidence, thresholds)):
        return (
            f"{remarks[0].removesuffix('.')}: say which spelling counts with data.normaliser in the plan "
            "(`digits` takes number words and digits for the same; docs/data.md)"
        )
    return ""


def spelling(evidence: Evidence, thresholds: Thresholds) -> tuple[str, ...]:
    """A sentence for each way in which spelling may be what the WERs show, whether or not the plan chose one."""
    if evidence.significance is None:
        return ()
    return spelling_remarks(evidence.significance.spelling, thresholds.heldout_regression_pp)
