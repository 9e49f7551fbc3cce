"""The last word on an accepted run: gain and guardrail again, on its part of a reserve. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.scoring.criteria import POINTS, domain_gain, heldout, rise_points
from core.scoring.evidence import Criterion, Evidence, State, Thresholds

TITLE = "Reserve"


def reserve(
    evidence: Evidence, thresholds: Thresholds, convergence: Criterion, ordinary: Sequence[Criterion]
) -> Criterion:
    """The domain gain and the heldout guardrail hold on the run's part of the reserve, by the gate's own thresholds.

    `ordinary`: the criteria on the ordinary sets. Only a run that meets them all is scored on the reserve: else each
    run would see it, and it would be a set like any other. Its number is the change of the heldout error rate.
    """
    found = evidence.reserve

    def say(state: State, reason: str, value: float | None = None) -> Criterion:
        return Criterion("reserve", TITLE, state, value, thresholds.heldout_regression_pp, POINTS, reason)

    if any(one.state is not State.PASS for one in ordinary) or evidence.failure is not None:
        return say(State.UNKNOWN, "Only a run that the ordinary sets accept is scored on the reserve.")
    if found is None or found.problem is not None:
        missing = "The run was not scored on the reserve."
        return say(State.UNKNOWN, missing if found is None or found.problem is None else found.problem)
    drawn = replace(
        evidence,
        baseline_domain=found.baseline_domain,
        baseline_heldout=found.baseline_heldout,
        tuned_domain=found.tuned_domain,
        tuned_heldout=found.tuned_heldout,
        significance=found.significance,
        choice=None,
        caps=found.caps,
    )
    both = (domain_gain(drawn, thresholds, convergence), heldout(drawn, thresholds, convergence, None))
    states = {one.state for one in both}
    state = next(state for state in (State.FAIL, State.UNKNOWN, State.PASS) if state in states)
    rise = None
    if found.baseline_heldout is not None and found.tuned_heldout is not None:
        rise = rise_points(found.baseline_heldout, found.tuned_heldout)
    reason = f"On part {found.part} of {found.of} of the reserve: {' '.join(one.reason for one in both)}"
    return say(state, reason, None if rise is None else float(rise))
