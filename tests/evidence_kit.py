"""Evidence that passes every criterion, and ways to change it."""

from dataclasses import replace

from core.scoring.data_health import DataHealth
from core.scoring.evidence import (
    Artifact,
    Evidence,
    Interval,
    Parity,
    SetScore,
    State,
    Thresholds,
)
from core.scoring.units import ErrorCounts
from core.scoring.verdict import judge

WORDS = 1000
NAMES = ("convergence", "stability", "integrity", "domain_gain", "heldout", "parity")
PASS, FAIL, UNKNOWN = State.PASS, State.FAIL, State.UNKNOWN


def errors(count: int, words: int = WORDS) -> ErrorCounts:
    return ErrorCounts(substitutions=count, reference_words=words)


def interval(step: int, domain: int, heldout: int, loss: float | None, selection: int | None = None) -> Interval:
    chosen = None if selection is None else SetScore(errors(selection), 1.0)
    return Interval(step, SetScore(errors(domain), loss), SetScore(errors(heldout), 1.0), chosen)


GOOD = Evidence(
    steps_planned=1000,
    steps_completed=1000,
    intervals=(
        interval(0, 400, 20, 2.0),
        interval(400, 300, 21, 1.5),
        interval(800, 252, 22, 1.1),
        interval(900, 250, 22, 1.0),
        interval(1000, 248, 21, 0.9),
    ),
    baseline_domain=errors(400),
    baseline_heldout=errors(20),
    tuned_domain=errors(248),
    tuned_heldout=errors(21),
    artifact=Artifact(1000, "aa", "aa", 1000),
    parity=Parity(True, 0, 0, 50, 0, "f1", "f1"),
    data_health=DataHealth((), ()),
)


def losses(*values: float | None) -> Evidence:
    """GOOD with other domain losses."""
    changed = tuple(
        replace(i, domain=replace(i.domain, loss=loss)) for i, loss in zip(GOOD.intervals, values, strict=True)
    )
    return replace(GOOD, intervals=changed)


def last_domain(*counts: int) -> Evidence:
    """GOOD with other domain errors in the last intervals; the last is also the tuned score."""
    kept = len(GOOD.intervals) - len(counts)
    changed = [
        replace(i, domain=replace(i.domain, counts=errors(count)))
        for i, count in zip(GOOD.intervals[kept:], counts, strict=True)
    ]
    return replace(GOOD, intervals=(*GOOD.intervals[:kept], *changed))


def artifact(**changes: object) -> Evidence:
    return replace(GOOD, artifact=replace(GOOD.artifact, **changes))  # type: ignore[type-var]


def parity(**changes: object) -> Evidence:
    return replace(GOOD, parity=replace(GOOD.parity, **changes))  # type: ignore[type-var]


def tuned(domain: int = 248, heldout: int = 21) -> Evidence:
    """GOOD with another tuned score, borne out by the trainer's own."""
    best = GOOD.intervals[-1]
    changed = replace(
        best,
        domain=replace(best.domain, counts=errors(domain)),
        heldout=replace(best.heldout, counts=errors(heldout)),
    )
    return replace(
        GOOD,
        intervals=(*GOOD.intervals[:-1], changed),
        tuned_domain=errors(domain),
        tuned_heldout=errors(heldout),
    )


def states(evidence: Evidence, thresholds: Thresholds = Thresholds()) -> dict[str, State]:  # noqa: B008
    return {c.name: c.state for c in judge(evidence, thresholds).criteria}
