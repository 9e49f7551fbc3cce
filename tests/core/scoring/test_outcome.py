from dataclasses import replace

import pytest

from core.queue.run_status import outcome_facts
from core.scoring.data_health import DataHealth
from core.scoring.evidence import Artifact, Evidence, Interval, Parity, SetScore, Thresholds
from core.scoring.units import ErrorCounts
from core.scoring.verdict import judge


def errors(count: int) -> ErrorCounts:
    return ErrorCounts(substitutions=count, reference_words=1000)


def run(domain: list[int], heldout: list[int], **changes: object) -> Evidence:
    """A run with an interval every 250 steps, whose last one is the tuned score."""
    intervals = tuple(
        Interval(250 * i, SetScore(errors(d), 2.0 - i / 10), SetScore(errors(h), 1.0))
        for i, (d, h) in enumerate(zip(domain, heldout, strict=True))
    )
    last = intervals[-1].step
    evidence = Evidence(
        steps_planned=last,
        steps_completed=last,
        intervals=intervals,
        baseline_domain=errors(domain[0]),
        baseline_heldout=errors(heldout[0]),
        tuned_domain=errors(domain[-1]),
        tuned_heldout=errors(heldout[-1]),
        artifact=Artifact(last, "aa", "aa", last),
        parity=Parity(True, 0, 0, 50, 0, "f", "f"),
        data_health=DataHealth((), ()),
    )
    return replace(evidence, **changes)  # type: ignore[arg-type]


def facts(evidence: Evidence, seconds: float | None = 0.5) -> dict[str, bool | float | None]:
    return outcome_facts(evidence, judge(evidence, Thresholds()), seconds)


def test_an_accepted_run() -> None:
    assert facts(run([400, 300, 255, 253, 252], [20, 20, 20, 20, 21])) == {
        "accepted": True,
        "rejected": False,
        "stable": True,
        "converged": True,
        "falling": True,
        "guardrail_broken": False,
        "slices_kept": None,
        "domain_gain": pytest.approx(14.8),
        "heldout_regression": pytest.approx(0.1),
        "domain_wer": pytest.approx(25.2),
        "heldout_wer": pytest.approx(2.1),
        "seconds_per_step": 0.5,
    }


def test_stable_but_slow() -> None:
    found = facts(run([400, 399, 397, 395, 394], [20] * 5))
    wanted = {"stable": True, "accepted": False, "rejected": True, "falling": True, "guardrail_broken": False}
    assert wanted.items() <= found.items()


@pytest.mark.parametrize("domain", [[400, 300, 250, 250, 249], [400, 300, 248, 250, 249]])
def test_falling_means_strictly_over_the_last_three(domain: list[int]) -> None:
    assert facts(run(domain, [20] * 5))["falling"] is False


def test_interval_0_is_not_part_of_a_trend() -> None:
    assert facts(run([400, 300, 200], [20] * 3))["falling"] is None


@pytest.mark.parametrize(
    ("heldout", "broken"),
    [([20, 30, 30, 30, 30], True), ([20, 22, 22, 22, 23], True), ([20, 30, 30, 30, 22], False)],
)
def test_guardrail_broken(heldout: list[int], broken: bool) -> None:
    assert facts(run([400, 300, 250, 250, 250], heldout))["guardrail_broken"] is broken


def test_the_guardrail_is_not_known_without_a_tuned_score() -> None:
    evidence = run([400, 300, 250, 250, 250], [20] * 5, tuned_heldout=None, artifact=None, parity=None)
    found = facts(evidence)
    assert found["guardrail_broken"] is None
    assert (found["accepted"], found["rejected"], found["heldout_wer"]) == (None, None, None)


def test_without_convergence_gains_are_not_known_but_the_guardrail_is() -> None:
    evidence = run([400, 300, 250, 250, 250], [20] * 5)
    flat = tuple(replace(i, domain=replace(i.domain, loss=2.0)) for i in evidence.intervals)
    found = facts(replace(evidence, intervals=flat))
    assert (found["converged"], found["rejected"]) == (False, True)
    assert (found["domain_gain"], found["domain_wer"], found["guardrail_broken"]) == (None, None, False)


def test_a_run_that_broke_down_is_neither_stable_nor_converged() -> None:
    evidence = run([400, 300], [20] * 2, tuned_domain=None, tuned_heldout=None, failure="The run diverged.")
    found = facts(evidence)
    assert (found["accepted"], found["stable"], found["converged"]) == (False, False, False)


@pytest.mark.parametrize("seconds", [None, float("nan"), float("inf")])
def test_seconds_per_step_are_known_or_none(seconds: float | None) -> None:
    assert facts(run([400, 300], [20] * 2), seconds)["seconds_per_step"] is None
