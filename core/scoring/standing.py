"""Where a run stands, as plain values: the word and the text of its headline. `core.scoring.outlook` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stand(StrEnum):
    """The word that the sentence begins with."""

    SHIP = "SHIP"
    """Accepted."""
    REJECTED = "rejected"
    FAILED = "failed"
    """It broke down, which says nothing of its settings."""
    UNDECIDED = "undecided"
    """It has ended, and evidence is missing."""
    CANNOT_PASS = "cannot pass"  # noqa: S105
    """Whatever comes, a criterion stays unknown."""
    ON_COURSE = "on course"
    """It goes on, and what can be known now passes."""
    OFF_COURSE = "off course"
    """It goes on, and would be rejected now."""
    OPEN = "open"
    """It goes on, and neither is as sure as the gate asks for, or candidates that go back to the base are to come."""
    EARLY = "too early"
    """It goes on, and there is nothing to judge by yet."""

    @property
    def last(self) -> bool:
        """Whether it is said of runs that have ended, and is the last word."""
        return self in (Stand.SHIP, Stand.REJECTED, Stand.FAILED, Stand.UNDECIDED)

    @property
    def ships(self) -> bool:
        """Whether the run's best interval ships, or would if the run ended now."""
        return self in (Stand.SHIP, Stand.ON_COURSE)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands by its evidence."""

    word: Stand
    text: str
    """What follows the word."""
    step: int | None = None
    """The best one so far, whether or not it ships."""

    def sentence(self, name: str) -> str:
        """`on course: step 100 would ship, …`; of one that ships, `SHIP 2.1 step 100: …`. `name`: of its row."""
        if self.word is Stand.SHIP:
            return f"{self.word} {name} step {self.step}: {self.text}"
        return f"{self.word}: {self.text}"
