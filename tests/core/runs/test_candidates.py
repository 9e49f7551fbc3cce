"""A run whose best adapter is made of intervals: how it is read, judged and verified, and what is not believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fake_run import SETS, FakeRun

from core.manifests.hashing import HashCache
from core.plan.candidates import Candidate, further_candidates
from core.runs.events import AttemptStarted, CandidateScored
from core.runs.folder import replace_link
from core.runs.judged import judged
from core.runs.model_card import render
from core.runs.paths import adapter_name, adapter_step
from core.runs.row import Row
from core.runs.signing import Keys
from core.runs.store import read_run
from core.runs.verify import verify
from core.scoring.evidence import Decision, State, Thresholds
from core.system.files import write_json
from lora_tui.dashboard.plots import charts
from lora_tui.dashboard.plots.charts import PlotStyle
from lora_tui.dashboard.reading.watch import Watch
from lora_tui.dashboard.text.run_pages import interval_lines
from lora_tui.dashboard.text.verdict_lines import verdict_lines

INTERVALS = {
    # step: (domain, heldout, selection, selection_heldout), errors of 600 words
    0: (300, 30, 300, 30),
    400: (200, 90, 200, 90),
    800: (182, 90, 170, 90),
    900: (181, 91, 150, 90),
    1000: (180, 90, 171, 90),
}
FURTHER = {
    "step-001000-x0.30": ((1000,), 0.3, (220, 30, 230, 0)),
    "step-001000-x0.50": ((1000,), 0.5, (200, 30, 200, 0)),
}
BEST = "step-001000-x0.50"


def add_candidate(run: FakeRun, name: str, *, best: bool = False, **changes: Any) -> None:
    made_of, alpha, errors = FURTHER[name]
    digest = run.adapter(name, made_of=list(made_of), way=alpha)
    sets = dict(zip(SETS, errors, strict=True))
    counts = {n: run.counts(c) | {"loss": 1.0} for n, c in sets.items() if best or n not in ("domain", "heldout")}
    told = {"name": name, "made_of": made_of, "alpha": alpha, "hash": digest, "sets": counts, "best": best} | changes
    run.event(CandidateScored(seconds=2.0, **told))
    for n in counts:
        path = run.paths.evaluation(name, n)
        run.score(path, sets[n], step=made_of[-1], dataset=n, loss=1.0, adapter_hash=digest)


@pytest.fixture
def run(fake_run: Callable[..., FakeRun]) -> FakeRun:
    """No interval keeps the guardrail on the selection sets, and half of the way to the last one does."""
    run = fake_run()
    config = json.loads(run.paths.config.read_text())
    config["settings"]["train"] |= {"interpolate": [0.3, 0.5]}
    write_json(run.paths.config, config)
    run.start()
    run.scored(INTERVALS)
    run.adapter(1000)
    for name in FURTHER:
        add_candidate(run, name)
    return shipped(run, BEST)


def shipped(run: FakeRun, name: str) -> FakeRun:
    """As a trainer ends it that chose this candidate."""
    add_candidate(run, name, best=True)
    domain, heldout, *_ = FURTHER[name][2]
    run.tuned(1000, domain, heldout)
    run.health()
    run.result()
    return run


def seen(run: FakeRun, thresholds: Thresholds = Thresholds()):  # noqa: B008
    return judged(read_run(run.paths), thresholds)


def checked(run: FakeRun) -> tuple[str, ...]:
    found = verify(run.paths, HashCache(run.paths.root.parent / "hashes"), Keys()).problems
    return tuple(one for one in found if "its settings are not whole" not in one)  # of a run that no plan made


def test_a_candidate_that_is_shipped_can_be_accepted(run: FakeRun) -> None:
    found = seen(run)
    assert (found.verdict.decision, found.problems) == (Decision.ACCEPTED, ())
    assert found.verdict.best == f"candidate {BEST}"
    assert (found.verdict.best_step, found.verdict.guardrail_kept) == (1000, True)
    convergence = found.verdict.criterion("convergence").reason
    assert f"2.0000 at step 0, 1.0000 of {BEST}" in convergence
    assert found.verdict.criterion("parity").state is State.PASS
    assert found.evidence.choice is not None and found.evidence.choice.name == BEST
    assert "0.5 of the way from the base model to those of step 1000" in render(found)
    assert checked(run) == ()


def test_the_model_card_says_where_weights_are_moving_averages(run: FakeRun) -> None:
    found = seen(run)
    assert "moving average" not in render(found)
    settings = found.snapshot.config["settings"]
    config = found.snapshot.config | {"settings": settings | {"train": settings["train"] | {"ema": 0.99}}}
    averaged = render(replace(found, snapshot=replace(found.snapshot, config=config)))
    assert "each the moving average of the steps before it (train.ema = 0.99)" in averaged


def test_the_snapshot_tells_of_the_candidates(run: FakeRun) -> None:
    found = read_run(run.paths)
    assert [(one.name, one.step, one.made_of, one.alpha, one.chosen) for one in found.candidates] == [
        ("step-001000-x0.30", 1000, (1000,), 0.3, False),
        (BEST, 1000, (1000,), 0.5, True),
    ]
    assert found.chosen is not None and found.chosen.domain is not None
    assert found.chosen.domain.counts.errors == 200


def test_the_dashboard_shows_a_run_whose_best_is_made_of_intervals(run: FakeRun) -> None:
    watch = Watch(run.paths)
    watch.refresh(Thresholds())
    view = watch.view(watch.row(Row("x", "2.1")))
    assert view is not None
    page = ["".join(text for text, _ in pieces) for pieces in interval_lines(view, 200)]
    starred = [line.split()[1] for line in page if line.startswith("★")]
    assert starred == [BEST], "the interval that it is made of is not what ships"
    assert any(line.split()[:2] == ["step-001000-x0.30", "−11.67"] for line in page)
    look = PlotStyle()
    assert charts.trade_off(view, look) is not None and charts.interval_places(view, look)
    assert verdict_lines(view)


def test_an_attempt_takes_back_candidates_of_steps_after_its_checkpoint(run: FakeRun) -> None:
    run.event(AttemptStarted(1, {}, 900, "cpu", "fp32"), attempt=run.attempt + 1)
    assert read_run(run.paths).candidates == ()


def unchosen(run: FakeRun) -> None:
    """The link leads to the other candidate, and all else is made to agree but for what was chosen."""
    other = "step-001000-x0.30"
    replace_link(run.paths.root, run.paths.best, f"adapters/{other}")
    for name in ("domain", "heldout"):
        run.score(run.paths.evaluation(other, name), 220 if name == "domain" else 30, step=1000, dataset=name, loss=1.0)
    run.tuned(1000, 220, 30)
    run.result()


def never_scored(run: FakeRun) -> None:
    run.adapter("step-001000-x0.70", made_of=[1000], way=0.7)
    run.tuned(1000, 200, 30)
    run.result()


def not_of_these_settings(run: FakeRun) -> None:
    FURTHER["step-001000-x0.70"] = ((1000,), 0.7, (150, 30, 140, 0))
    shipped(run, "step-001000-x0.70")
    del FURTHER["step-001000-x0.70"]


def forged_as_chosen(run: FakeRun) -> None:
    """The one of less gain, with an event that says it was chosen."""
    shipped(run, "step-001000-x0.30")


def other_weights(run: FakeRun) -> None:
    run.adapter(BEST, b"other", made_of=[1000], way=0.5)
    run.tuned(1000, 200, 30)
    run.result()


def other_facts(run: FakeRun) -> None:
    digest = run.adapter(BEST, made_of=[800, 1000], way=0.5)
    add = {name: run.counts(n) | {"loss": 1.0} for name, n in zip(SETS, FURTHER[BEST][2], strict=True)}
    run.event(CandidateScored(BEST, (1000,), 0.5, digest, add, 2.0, True))
    for name, n in zip(SETS, FURTHER[BEST][2], strict=True):
        run.score(run.paths.evaluation(BEST, name), n, step=1000, dataset=name, loss=1.0, adapter_hash=digest)
    run.tuned(1000, 200, 30)
    run.result()


FORGED: dict[str, tuple[Callable[[FakeRun], None], State, str]] = {
    "a link to one that was not chosen": (unchosen, State.FAIL, "no event says that it was chosen"),
    "a link to one that was never scored": (never_scored, State.FAIL, "no event says that it was scored"),
    "one that the settings do not make": (not_of_these_settings, State.FAIL, "no candidate of a run with these"),
    "one that the selection sets do not give": (forged_as_chosen, State.FAIL, "the selection sets give"),
    "other weights": (other_weights, State.FAIL, "changed since it was saved"),
    "facts of another": (other_facts, State.FAIL, "its made_of is"),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_candidate_is_not_accepted(case: str, run: FakeRun) -> None:
    forge, state, reason = FORGED[case]
    forge(run)
    found = seen(run)
    integrity = found.verdict.criterion("integrity")
    assert (integrity.state, found.verdict.decision) == (state, Decision.REJECTED)
    assert any(reason in problem for problem in found.problems), found.problems
    assert any(reason in problem for problem in checked(run))


@pytest.mark.parametrize("name", SETS)
def test_a_score_that_its_event_does_not_bear_out_is_no_evidence(name: str, run: FakeRun) -> None:
    path = run.paths.evaluation(BEST, name)
    run.score(path, 7, step=1000, dataset=name, loss=1.0, adapter_hash=json.loads(path.read_text())["adapter_hash"])
    run.result()
    found = seen(run)
    assert found.verdict.criterion("integrity").state is not State.PASS
    assert found.verdict.decision is not Decision.ACCEPTED
    assert any(f"its counts are not those of the event of {BEST}" in problem for problem in found.problems)


def test_without_selection_sets_no_candidate_is_believed(run: FakeRun) -> None:
    """A run of before, with the events of candidates written into it."""
    lines = [json.loads(line) for line in run.paths.events.read_text().splitlines()]
    for line in lines:
        if line["event"] == "interval":
            line["sets"] = {name: line["sets"][name] for name in ("domain", "heldout")}
    run.paths.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.result()
    found = seen(run)
    assert found.verdict.decision is Decision.REJECTED
    assert any("no selection sets on which it could have been chosen" in problem for problem in found.problems)


@pytest.mark.parametrize("asked", [{"interpolate": [0.5, 2.0]}, {"interpolate": [0.5] * 21}, {"average": -1}])
def test_settings_that_no_plan_has_are_none(asked: dict[str, Any], run: FakeRun) -> None:
    config = json.loads(run.paths.config.read_text())
    config["settings"]["train"] |= asked
    write_json(run.paths.config, config)
    found = read_run(run.paths)
    assert found.config is None and any(f"train.{next(iter(asked))}: " in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "step-001000"), ("name", "../x"), ("made_of", []), ("made_of", [1000, 800]), ("made_of", [True]),
     ("alpha", 0.0), ("alpha", 1.5), ("alpha", "nan"), ("sets", {"train": {}}), ("sets", {"domain": {}})],
)  # fmt: skip
def test_an_event_that_no_trainer_writes_is_passed_over(field: str, value: Any, run: FakeRun) -> None:
    lines = [json.loads(line) for line in run.paths.events.read_text().splitlines()]
    lines = [line | {field: value} if line["event"] == "candidate_scored" else line for line in lines]
    run.paths.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_run(run.paths)
    assert found.candidates == () and found.foreign_lines == len(FURTHER) + 1
    assert judged(found, Thresholds()).verdict.decision is Decision.REJECTED


def test_problems_without_end_are_counted_and_not_listed(run: FakeRun) -> None:
    for number in range(1, 1201):
        run.event(CandidateScored(adapter_name((number,), 0.5), (number,), 0.5, "0" * 64, {}, 1.0))
    result = json.loads(run.paths.result.read_text())
    files = {f"evals/step-000400/{number}.json": "0" * 64 for number in range(2000)}
    write_json(run.paths.result, result | {"files": result["files"] | files})
    found = verify(run.paths, HashCache(run.paths.root.parent / "hashes"), Keys())
    for problems in (found.problems, found.judged.problems, found.unchecked):
        assert len(problems) <= 501
    assert "more problems of this run are not listed" in found.problems[-1]
    assert found.verdict.decision is not Decision.ACCEPTED


def test_an_interval_is_no_candidate_once_more(run: FakeRun) -> None:
    """Its own event says what it did on the selection sets, and no other."""
    run.event(CandidateScored("step-000900", (900,), 1.0, "0" * 64, {}, 1.0))
    run.result()
    found = read_run(run.paths)
    assert (found.foreign_lines, "step-000900" in {one.name for one in found.candidates}) == (1, False)
    assert judged(found, Thresholds()).verdict.decision is Decision.ACCEPTED


@pytest.mark.parametrize(
    ("made_of", "alpha", "name"),
    [
        ((400,), 1.0, "step-000400"),
        ((400,), 0.3, "step-000400-x0.30"),
        ((400,), 0.125, "step-000400-x0.125"),
        ((100, 200, 400), 1.0, "average-000100-000400"),
        ((100, 200, 4_000_000), 0.05, "average-000100-4000000-x0.05"),
    ],
)
def test_the_name_of_a_candidate_tells_its_step(made_of: tuple[int, ...], alpha: float, name: str) -> None:
    assert adapter_name(made_of, alpha) == name
    assert adapter_step(name) == made_of[-1]


@pytest.mark.parametrize("name", ["tuned", "step-4", "step-000400-x1.00", "average-000400", "step-000400-x0.3/..", ""])
def test_other_names_are_none(name: str) -> None:
    assert adapter_step(name) is None


def test_averages_come_at_each_interval_and_what_stands_at_the_end_is_interpolated() -> None:
    made = further_candidates((100, 200, 300), (0.7, 0.3), 2)
    assert [adapter_name(one.steps, one.alpha) for one in made] == [
        "average-000100-000200",
        "average-000200-000300",
        *("step-000300-x0.30", "step-000300-x0.70"),
        *("average-000200-000300-x0.30", "average-000200-000300-x0.70"),
    ]
    assert further_candidates((100,), (), 2) == further_candidates((), (0.5,), 0) == ()


def test_as_many_of_the_last_intervals_and_averages_are_interpolated_as_asked() -> None:
    made = further_candidates((100, 200, 300), (0.5,), 2, 2)
    assert [adapter_name(one.steps, one.alpha) for one in made] == [
        "average-000100-000200",
        "average-000200-000300",
        *("step-000200-x0.50", "step-000300-x0.50"),
        *("average-000100-000200-x0.50", "average-000200-000300-x0.50"),
    ]
    assert further_candidates((100, 200), (0.5,), 0, 9) == (Candidate((100,), 0.5), Candidate((200,), 0.5))


def edited(run: FakeRun, **changes: Any) -> None:
    """What run.json records of the manifests, and then the run's last word."""
    config = json.loads(run.paths.config.read_text())
    write_json(run.paths.config, config | changes)
    run.health()


def test_documents_of_those_that_lost_must_be_what_their_events_say(run: FakeRun) -> None:
    """Made worse on disk, the better one loses to whichever is wanted, and is scored on nothing that would show it."""
    other = "step-001000-x0.30"
    FURTHER[other] = ((1000,), 0.3, (150, 30, 140, 0))
    try:
        shipped(run, BEST)
        path = run.paths.evaluation(other, "selection")
        run.score(path, 299, step=1000, dataset="selection", loss=1.0)
        run.result()
        found = seen(run)
    finally:
        FURTHER[other] = ((1000,), 0.3, (220, 30, 230, 0))
    assert found.verdict.decision is not Decision.ACCEPTED
    assert found.verdict.criterion("integrity").state is not State.PASS
    assert any(f"its counts are not those of the event of {other}" in problem for problem in found.problems)


@pytest.mark.parametrize("kept", [(), ("domain", "heldout"), ("domain", "heldout", "selection")])
def test_the_base_model_must_have_been_scored_on_the_selection_sets_that_the_run_has(
    kept: tuple[str, ...], run: FakeRun
) -> None:
    """Else nothing says which one is to be shipped, and no correction is made for having chosen it on domain."""
    hashes = dict.fromkeys(SETS, "ab" * 32)
    if kept:
        lines = [json.loads(line) for line in run.paths.events.read_text().splitlines()]
        for line in lines:
            if line["event"] == "interval" and line["step"] == 0:
                line["sets"] = {name: line["sets"][name] for name in kept}
        run.paths.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
        replace_link(run.paths.root, run.paths.best, "adapters/step-001000")
        run.tuned(1000, 180, 90)
    edited(run, hashes=hashes)
    found = seen(run, Thresholds(heldout_regression_pp=50.0))
    wrong = any("is not scored on selection" in problem for problem in found.problems)
    assert (wrong, found.verdict.decision) == ((True, Decision.REJECTED) if kept else (False, Decision.ACCEPTED))


def test_selection_sets_that_the_run_does_not_have_choose_nothing(run: FakeRun) -> None:
    edited(run, hashes=dict.fromkeys(("domain", "heldout"), "ab" * 32))
    found = seen(run)
    assert found.verdict.decision is Decision.REJECTED
    assert any("is scored on selection, and run.json has no such manifest" in problem for problem in found.problems)
