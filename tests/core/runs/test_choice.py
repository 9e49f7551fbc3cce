"""Where a run has both selection sets its best interval is the one that they give, and no correction is made."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from fake_run import FakeRun

from core.manifests.hashing import HashCache
from core.runs.choice import easier
from core.runs.folder import replace_link
from core.runs.judged import judged
from core.runs.model_card import render
from core.runs.signing import Keys
from core.runs.store import read_run
from core.runs.verify import verify
from core.scoring.certainty import sentence
from core.scoring.evidence import Decision, Interval, SetScore, State, Thresholds
from core.scoring.units import ErrorCounts

INTERVALS = {
    # step: (domain, heldout, selection, selection_heldout), errors of 600 words
    0: (300, 30, 300, 30),
    400: (200, 30, 200, 0),
    800: (182, 30, 170, 0),
    900: (181, 31, 150, 90),
    1000: (180, 30, 171, 0),
}


@pytest.fixture
def run(fake_run: Callable[..., FakeRun]) -> FakeRun:
    """Step 800 has the largest gain of those that keep the guardrail on the selection sets."""
    run = fake_run()
    run.start()
    run.scored(INTERVALS)
    run.adapter(1000)
    run.adapter(800)
    run.tuned(800, 182, 30)
    run.health()
    run.result()
    return run


def seen(run: FakeRun, thresholds: Thresholds = Thresholds()):  # noqa: B008
    return judged(read_run(run.paths), thresholds)


def test_the_choice_is_told_and_nothing_is_corrected(run: FakeRun) -> None:
    found = seen(run)
    assert found.verdict.decision is Decision.ACCEPTED
    choice = found.evidence.choice
    assert choice is not None and (choice.name, choice.kept) == ("step-000800", True)
    assert [one.name for one in choice.standings][-1] == "step-001000"
    assert choice.why in found.verdict.criterion("heldout").reason
    certainty = found.verdict.criterion("domain_gain").certainty
    assert certainty is not None
    assert (certainty.corrected_pp, certainty.chosen_apart) == (None, True)
    assert "chosen on other sets, so that nothing is to be corrected" in sentence(certainty, "domain_gain")
    assert "need no correction for the choice" in render(found)


def test_an_adapter_that_the_selection_sets_do_not_give_is_refused(run: FakeRun) -> None:
    """Step 1000 is the best on domain: whoever links it chose on what is reported."""
    replace_link(run.paths.root, run.paths.best, "adapters/step-001000")
    run.tuned(1000, 180, 30)
    run.result()
    found = seen(run)
    integrity = found.verdict.criterion("integrity")
    assert (integrity.state, found.verdict.decision) == (State.FAIL, Decision.REJECTED)
    assert "leads to step 1000, the selection sets give step 800" in integrity.reason


def test_other_thresholds_of_the_gate_do_not_choose_again(run: FakeRun) -> None:
    loose = seen(run, Thresholds(heldout_regression_pp=50.0, selection_confidence=0.5))
    assert loose.verdict.criterion("integrity").state is State.PASS


def test_an_edited_score_of_a_selection_set_is_no_evidence(run: FakeRun) -> None:
    path = run.paths.evaluation(900, "selection_heldout")
    document = json.loads(path.read_text())
    run.score(path, 10, step=900, dataset="selection_heldout", loss=document["loss"])
    run.result()
    found = seen(run)
    assert found.verdict.decision is not Decision.ACCEPTED
    assert any("selection_heldout.json: its counts are not those of the interval event" in p for p in found.problems)


def test_a_score_of_a_selection_set_that_is_gone_leaves_it_unknown(run: FakeRun) -> None:
    run.paths.evaluation(400, "selection").unlink()
    found = seen(run)
    assert found.verdict.decision is not Decision.ACCEPTED
    assert found.verdict.criterion("integrity").state is State.UNKNOWN


def checked(run: FakeRun) -> tuple[str, ...]:
    return verify(run.paths, HashCache(run.paths.root.parent / "hashes"), Keys()).problems


def test_verify_chooses_again(run: FakeRun) -> None:
    result = json.loads(run.paths.result.read_text())
    assert not any("best_step" in problem for problem in checked(run))
    run.paths.result.write_text(json.dumps(result | {"best_step": 1000}))
    assert any("its best_step is 1000" in problem for problem in checked(run))


@pytest.mark.parametrize(
    ("heldout", "selection_heldout", "warned"),
    [(60, 29, True), (60, 30, False), (60, 0, True), (19, 0, False), (60, 90, False), (60, None, False)],
)
def test_a_heldout_selection_set_that_the_base_model_knows_by_heart_is_warned_of(
    heldout: int, selection_heldout: int | None, warned: bool
) -> None:
    def score(errors: int) -> SetScore:
        return SetScore(ErrorCounts(errors, 0, 0, 600), 1.0)

    own = None if selection_heldout is None else score(selection_heldout)
    said = easier(Interval(0, score(300), score(heldout), score(300), own))
    assert (said is not None) is warned
    assert said is None or f"{100 * heldout / 600:.2f} % of heldout" in said
