"""Which candidates a run makes besides its intervals: averages of them, and interpolations with the base. Pure.

A candidate is an adapter that a run could ship. Every interval is one. The others are made of the saved adapters of
intervals when training is over: `train.average` gives, at each interval, the average of its weights and those of the
intervals before it; `train.interpolate` goes part of the way from the base model to what stands at the end of the run,
its last interval and the last average, or as many of each as `train.interpolate_last` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.plan.rows import interval_steps
from core.plan.schema import TrainSettings


@dataclass(frozen=True, slots=True)
class Candidate:
    """The average of intervals (of one: itself), `alpha` of the way from the base model to it."""

    steps: tuple[int, ...]
    """Of the intervals that it is made of, ascending."""
    alpha: float = 1.0

    @property
    def step(self) -> int:
        """Of the newest interval that it is made of."""
        return self.steps[-1]

    @property
    def is_interval(self) -> bool:
        """Whether it is an interval as training left it."""
        return len(self.steps) == 1 and self.alpha == 1.0

    def in_words(self) -> str:
        """`those of step 100`, `0.3 of the way from the base model to those of step 100`, `the average of steps …`."""
        first = ", ".join(map(str, self.steps[:-1]))
        of = f"the average of those of steps {first} and {self.step}" if first else f"those of step {self.step}"
        return of if self.alpha == 1.0 else f"{self.alpha:g} of the way from the base model to {of}"


def further_candidates(
    steps: Sequence[int], interpolate: Sequence[float], average: int, interpolate_last: int = 1
) -> tuple[Candidate, ...]:
    """Those that a run with intervals at these steps (ascending, without 0) makes, in the order of making."""
    averages = [Candidate(tuple(steps[end - average : end])) for end in range(average, len(steps) + 1) if average > 1]
    late = set(steps[-interpolate_last:])
    ends = [*(Candidate((step,)) for step in steps if step in late), *(one for one in averages if one.step in late)]
    between = [Candidate(end.steps, alpha) for end in ends for alpha in sorted(set(interpolate))]
    return (*averages, *between)


def planned_candidates(train: TrainSettings) -> tuple[Candidate, ...]:
    """Those that a run makes which goes on to its last step."""
    return candidates_of(train, interval_steps(train.steps, train.eval_every))


def candidates_of(train: TrainSettings, steps: Sequence[int]) -> tuple[Candidate, ...]:
    """Those that these settings ask for of a run with intervals at these steps."""
    return further_candidates(steps, train.interpolate, train.average, train.interpolate_last)


def makes_candidates(train: TrainSettings) -> bool:
    """Whether the settings ask for any."""
    return bool(train.interpolate) or train.average > 0
