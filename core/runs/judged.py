"""The verdict on a run by its files: evidence is gathered and judged here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.runs.evidence import gather
from core.runs.snapshot import RunSnapshot
from core.scoring.evidence import Criterion, Evidence, State, Thresholds, Verdict
from core.scoring.verdict import judge, thresholds_of


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A run at one moment, and what its files come to."""

    snapshot: RunSnapshot
    thresholds: Thresholds
    """What the verdict was passed by."""
    evidence: Evidence
    problems: tuple[str, ...]
    """One sentence for each file that should have been evidence and could not be."""
    verdict: Verdict
    gave_up: str | None = None
    """Why the queue does not go on with a run that did not end by itself."""

    @property
    def ended(self) -> bool:
        """Whether the verdict is the last word: the run is done, broke, or was given up."""
        state = self.snapshot.state
        return state == "done" or state.broken or self.gave_up is not None

    def so_far(self) -> dict[str, Criterion]:
        """What the WER criteria would be by the trainer's own score at the best interval, while none is tuned."""
        evidence = self.evidence
        best = next((i for i in evidence.intervals if i.step == self.verdict.best_step), None)
        if best is None or (evidence.tuned_domain is not None and evidence.tuned_heldout is not None):
            return {}
        guess = replace(evidence, tuned_domain=best.domain.counts, tuned_heldout=best.heldout.counts)
        would_be = judge(guess, self.thresholds)
        names = ("domain_gain", "heldout")
        return {n: would_be.criterion(n) for n in names if self.verdict.criterion(n).state is State.UNKNOWN}


def judged(snapshot: RunSnapshot, thresholds: Thresholds, gave_up: str | None = None) -> Judged:
    """The run's evidence and its verdict by these thresholds. Never raises for what is in the files.

    `gave_up` rejects: why the queue does not go on with a run that did not end by itself.
    """
    gathered = gather(snapshot, snapshot.paths, gave_up, thresholds)
    verdict = judge(gathered.evidence, thresholds)
    if snapshot.unit is not thresholds.unit:  # whoever draws its intervals draws what the gate counts
        snapshot = replace(snapshot, intervals=gathered.evidence.intervals, unit=thresholds.unit)
    return Judged(snapshot, thresholds, gathered.evidence, gathered.problems, verdict, gave_up)


def recorded_thresholds(config: Mapping[str, Any] | None) -> Thresholds:
    """Those of the `[gate]` that a run was submitted with. `config`: its run.json; None: the defaults.

    TypeError or ValueError where its values are none that a plan can have.
    """
    return thresholds_of((config or {}).get("gate") or {})
