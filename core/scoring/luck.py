"""How often one run of several would be accepted by luck: runs that are tried until one is accepted are a choice, too.

A run by which nothing is gained, or that regresses, is accepted by luck. The worst case is that of a run exactly at a
threshold: by point estimates it passes every other time, at a confidence of c in 1 - c. Of n such runs one at least
passes with 1 - (1 - a)^n, were they independent (Šidák 1967). Runs that are judged on the same sets have the chance of
the sets in common, so their tests are positively correlated, and it is at most that (Slepian 1962). A reserve set that
no run has seen is a second test, independent of the first: a² takes the place of a. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

SURE = 0.95
"""The confidence that is shown beside the point policy, where the gate has none."""


def by_luck(runs: int, confidence: float | None, *, reserve: bool = False) -> float:
    """The largest probability that one of so many runs is accepted wrongly. `confidence` None: by point estimates.

    `reserve`: whether each accepted run must also pass on a part of a reserve that no other accepted run has drawn.
    """
    one = 0.5 if confidence is None else 1 - confidence
    return 1 - (1 - (one**2 if reserve else one)) ** max(0, runs)


@dataclass(frozen=True, slots=True)
class Tried:
    """The runs that were judged on the same domain and heldout sets."""

    runs: int
    confidence: float | None
    """Of the gate; None: its policy is the point estimates."""
    reserve: bool = False

    @property
    def shown(self) -> tuple[tuple[str, float], ...]:
        """(policy, chance) of the point estimates, and of the gate's confidence or 0.95."""
        sure = self.confidence or SURE
        return tuple(
            (name, by_luck(self.runs, level, reserve=self.reserve))
            for name, level in (("point", None), (f"{sure:g}", sure))
        )

    @property
    def short(self) -> str:
        """For the end of a line: `12 runs judged on these sets (chance that luck alone has one accepted: up to …)`."""
        return f"{self.runs} runs judged on these sets (chance that luck alone has one accepted: {self._chances})"

    @property
    def brief(self) -> tuple[str, str]:
        """`chance that any of the 17 runs judged on these sets does: …`, behind `Passing by luck`; and shorter."""
        return (
            f"chance that any of the {self.runs} runs judged on these sets does: {self._chances}",
            f"chance that any of {self.runs} runs does: {self._chances}",
        )

    @property
    def sentence(self) -> str:
        """What must be known before one of several runs is believed; nothing of a single run."""
        if self.runs < 2:
            return ""
        reserve = ", each of which must also pass on its own part of a reserve" if self.reserve else ""
        return (
            f"{self.runs} runs were judged on these sets{reserve}: that luck alone had one of them accepted has a "
            f"chance of {self._chances}."
        )

    @property
    def _chances(self) -> str:
        """The largest by each policy, the gate's own first."""
        told = [
            f"{100 * chance:.3g} % {'by point estimates' if name == 'point' else f'at confidence {name}'}"
            for name, chance in self.shown
        ]
        return f"up to {', '.join(told if self.confidence is None else reversed(told))}"
