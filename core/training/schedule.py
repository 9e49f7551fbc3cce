"""The learning rate as a pure function of the step, so that resuming needs no scheduler state."""

from __future__ import annotations


def learning_rate(step: int, steps: int, peak: float, warmup: float, schedule: str) -> float:
    """The rate of optimiser step `step` (1 … `steps`): linear warm-up over a share of the steps, then decay.

    `linear` falls to 0 just after the last step; `constant` stays at the peak.
    """
    warm = round(steps * warmup)
    if step <= warm:
        return peak * step / warm
    if schedule == "constant":
        return peak
    return peak * (steps - step + 1) / (steps - warm + 1)
