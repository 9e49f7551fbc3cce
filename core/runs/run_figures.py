"""The row of a run: what its files say in figures, and what the verdict and its repeats with other seeds come to.

The WERs of a set, their change and their limit are computed here for every face; the criteria judge exact fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from core.runs.judged import Judged
from core.runs.row import Figures, Outcome, Row, Wer
from core.runs.snapshot import RunSnapshot, reason
from core.scoring.criteria import rise_points
from core.scoring.evidence import Decision, State, Verdict, best_scores
from core.scoring.standing import Stand, Standing
from core.scoring.units import ErrorCounts
from core.system.process import other_host


def wer(
    baseline: ErrorCounts | None, tuned: ErrorCounts | None, best: ErrorCounts | None = None, allowed: float = 0.0
) -> Wer:
    """Of one set. `best`: at the best interval, for want of a tuned score; `allowed`: the rise that is, in points."""
    now = tuned or best
    base = None if baseline is None else baseline.wer_percent
    return Wer(
        baseline=base,
        tuned=None if tuned is None else tuned.wer_percent,
        now=None if now is None else now.wer_percent,
        change=change(baseline, now),
        limit=None if base is None else base + allowed,
    )


def change(before: ErrorCounts | None, after: ErrorCounts | None) -> float | None:
    """How many points WER rose; None where one of the two is not known, or they are of different words."""
    rise = None if before is None or after is None else rise_points(before, after)
    return None if rise is None else float(rise)


_OF_DECISION = {
    Decision.ACCEPTED: Outcome.ACCEPTED,
    Decision.REJECTED: Outcome.REJECTED,
    Decision.UNDECIDED: Outcome.UNDECIDED,
}


def figures(judged: Judged) -> Figures:
    """The figures of one run."""
    snapshot, evidence, verdict = judged.snapshot, judged.evidence, judged.verdict
    own_domain, own_heldout = best_scores(evidence, verdict.best_step)
    allowed = judged.thresholds
    domain = wer(
        evidence.baseline_domain,
        evidence.tuned_domain,
        own_domain.counts if own_domain is not None else None,
        -allowed.domain_gain_pp,
    )
    heldout = wer(
        evidence.baseline_heldout,
        evidence.tuned_heldout,
        own_heldout.counts if own_heldout is not None else None,
        allowed.heldout_regression_pp,
    )
    train = snapshot.settings.get("train")
    rate = train.get("learning_rate") if isinstance(train, dict) else None
    return Figures(
        attempts=len(snapshot.attempts),
        steps=snapshot.steps_completed,
        steps_planned=snapshot.steps_planned,
        pace_s=snapshot.steps.seconds_per_step,
        eta_s=eta_s(snapshot) if snapshot.state.active else None,
        best_step=verdict.best_step,
        domain=domain,
        heldout=heldout,
        word=verdict.word if snapshot.intervals or not snapshot.state.active else None,
        criteria=tuple((c.name, c.state.value) for c in verdict.criteria),
        standing=judged.standing if snapshot.intervals or not snapshot.state.active or snapshot.attempts else None,
        note=evidence.failure or first_reason(verdict),
        duration_s=snapshot.duration_s if snapshot.attempts else None,
        adapter_hash=evidence.artifact.current_hash if evidence.artifact is not None else None,
        learning_rate=rate if isinstance(rate, float) else None,
        settings=snapshot.settings,
        unit=snapshot.unit,
        measured_here=_is_here(snapshot),
    )


def _is_here(snapshot: RunSnapshot) -> bool:
    process = snapshot.attempts[-1].process if snapshot.attempts else None
    return process is not None and other_host(process) != "machine"


def of_run(bare: Row, judged: Judged) -> Row:
    """The row with all that its run's files say."""
    snapshot, verdict, found = judged.snapshot, judged.verdict, figures(judged)
    return replace(
        bare,
        title=bare.title or snapshot.title,
        run=snapshot.paths,
        status=snapshot.state,
        reason=reason(snapshot),
        figures=found if found.settings else replace(found, settings=bare.figures.settings),
        verdict=verdict,
        outcome=_OF_DECISION[verdict.decision] if judged.ended else Outcome.UNDECIDED,
        judged=judged,
    )


def doubted(row: Row, why: str, *, always: bool = False) -> Row:
    """The row, undecided: the verdict on its run may be one on something else. One that rejects it stays.

    But for `always`: it is not known at all whether the run is the row's.
    """
    if not always and row.figures.word in ("rejected", "failed"):
        return row
    verdict, word = row.verdict, "undecided"
    if verdict is not None:
        criteria = tuple(replace(one, state=State.UNKNOWN, reason=why) for one in verdict.criteria)
        verdict = replace(verdict, criteria=criteria, decision=Decision.UNDECIDED)
        word = verdict.word
    states = tuple((name, State.UNKNOWN.value) for name, _ in row.figures.criteria)
    told = replace(row.figures, word=word, criteria=states, note=why, standing=Standing(Stand.UNDECIDED, why))
    return replace(row, figures=told, verdict=verdict, outcome=Outcome.UNDECIDED)


def with_seeds(rows: Sequence[Row], asked: Mapping[str, int]) -> tuple[Row, ...]:
    """The rows; those accepted by themselves with what came of their repeats with other seeds.

    They stand accepted only when all were: rejected once a repeat is, undecided until then. `asked`: row key → repeats
    that it needs.
    """
    repeats: dict[str, list[Row]] = {}
    for row in rows:
        if row.planned and row.confirms is not None:
            repeats.setdefault(row.confirms, []).append(row)
    return tuple(_with_seeds(row, repeats.get(row.key, []), asked.get(row.key, 0)) for row in rows)


def _with_seeds(row: Row, repeats: Sequence[Row], asked: int) -> Row:
    if not asked or not row.planned or row.confirms is not None or row.outcome is not Outcome.ACCEPTED:
        return row
    outcomes = [repeat.outcome for repeat in repeats]
    accepted = outcomes.count(Outcome.ACCEPTED)
    outcome: Outcome = row.outcome
    if accepted < asked:
        outcome = Outcome.REJECTED if Outcome.REJECTED in outcomes else Outcome.UNDECIDED
    told = tuple((repeat.key, _came_of(repeat)) for repeat in repeats)
    return replace(row, outcome=outcome, seeds=(accepted, asked), repeats=told)


def _came_of(repeat: Row) -> str:
    word = repeat.figures.word
    return word if word is not None and not repeat.active else repeat.status.text


def first_reason(verdict: Verdict) -> str:
    """Why it is not ACCEPTED: the reason of the first criterion that fails, else of the first that is unknown."""
    for state in (State.FAIL, State.UNKNOWN):
        for criterion in verdict.criteria:
            if criterion.state is state:
                return criterion.reason
    return ""


def eta_s(snapshot: RunSnapshot) -> float | None:
    """Seconds that are left of training, evaluations included; None before a step, or when nothing is left.

    What the attempt's time holds beside its steps was spent on its evaluations, interval 0 among them.
    """
    each = snapshot.steps.seconds_per_step
    left = snapshot.steps_planned - snapshot.steps_completed
    if each is None or left <= 0 or not snapshot.attempts:
        return None
    attempt = snapshot.attempts[-1]
    since = attempt.resumed_from or 0
    first = int(np.searchsorted(snapshot.steps.step, since, side="right"))
    stepping = float(np.nansum(snapshot.steps.seconds[first:]))
    scored = sum(1 for interval in snapshot.intervals if interval.step > since or attempt.resumed_from is None)
    an_evaluation = max(0.0, attempt.duration_s - stepping) / max(1, scored)
    train = snapshot.settings.get("train")
    every = train.get("eval_every") if isinstance(train, dict) else None
    every = every if isinstance(every, int) and every > 0 else snapshot.steps_planned
    to_come = math.ceil(snapshot.steps_planned / every) - snapshot.steps_completed // every
    return each * left + an_evaluation * to_come
