"""The row of a run: what its files say in figures, and what the verdict and its repeats with other seeds come to.

The WERs of a set, their change and their limit are computed here for every face; the criteria judge exact fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from core.runs.evidence import planned_intervals
from core.runs.judged import Judged
from core.runs.row import Figures, Outcome, Row, Wer, shown_settings
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
        figures=replace(found, settings=shown_settings(bare, found.settings)),
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


_FINAL_SCORING = 1.5
"""Evaluations that the final scoring counts as: one of both sets, and the clips that are decoded one by one."""
_MEASURED_S = 1.0
"""An evaluation of the base model that took no longer was there already, and tells nothing of others."""


def eta_s(snapshot: RunSnapshot) -> float | None:
    """Seconds that are left: steps, evaluations, final scoring and parity; None as long as that is not known.

    An evaluation is reckoned as long as those of the run so far took on average.
    """
    each, evaluation = snapshot.steps.seconds_per_step, _evaluation_s(snapshot)
    left = max(0, snapshot.steps_planned - snapshot.steps_completed)
    if each is None or evaluation is None or not snapshot.attempts or snapshot.steps_planned < 1:
        return None
    scored = {interval.step for interval in snapshot.intervals}
    planned = planned_intervals(snapshot) or (snapshot.steps_planned,)
    to_come = sum(step not in scored and step >= snapshot.steps_completed for step in planned)
    return each * left + evaluation * (to_come + _FINAL_SCORING * _share_left(snapshot))


def _evaluation_s(snapshot: RunSnapshot) -> float | None:
    """How long an evaluation takes: the mean of those after step 0, else that of the base model if it was made here."""
    took = [one.seconds for one in snapshot.intervals if one.step > 0 and one.seconds is not None]
    if took:
        return sum(took) / len(took)
    base = next((one.seconds for one in snapshot.intervals if one.step == 0), None)
    return base if base is not None and base > _MEASURED_S else None


def _share_left(snapshot: RunSnapshot) -> float:
    """Of the final scoring, which takes the domain set first."""
    if snapshot.phase != "finishing" or snapshot.progress is None:
        return 1.0
    done, total = snapshot.progress
    share = 1.0 - min(done, total) / total if total > 0 else 1.0
    return (share + (1.0 if "domain" in snapshot.phase_detail else 0.0)) / 2
