"""Candidates made of intervals when training is over: scored on selection sets, chosen, shipped, resumed, verified."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from forked_trainer import signal_at
from training_kit import QUICK, TrainingRun, made_up_set

from core.manifests.hashing import HashCache
from core.queue.prune import prunable
from core.runs.adapter_files import adapter_hash, read_facts
from core.runs.events import AdapterSaved, CandidateScored, Event, IntervalScored, Phase
from core.runs.judged import judged, recorded_thresholds
from core.runs.model_card import render
from core.runs.signing import Keys
from core.runs.status import Status
from core.runs.verify import verify
from core.scoring.evidence import State

FURTHER = {
    "dora": (
        "train.interpolate=[0.3, 0.6]",
        "gate.heldout_regression=100.0",
        "train.learning_rate=0.06",
        "train.seed=1",
    ),
    "lora": (
        "train.interpolate=[0.3, 0.6]",
        "train.average=2",
        "gate.heldout_regression=100.0",
        "train.learning_rate=0.1",
    ),
}
"""By the method: rates that go so far that the best lies on the way back, by more than rounding changes."""
CAUTIOUS = "train.learning_rate=0.001"
"""Each interval is better than the one before, and than what lies on its way."""
AVERAGE = "average-000005-000008"
NAMES = {
    "dora": [f"step-000008-x0.{way}" for way in (30, 60)],
    "lora": [AVERAGE, *(f"{end}-x0.{way}" for end in ("step-000008", AVERAGE) for way in (30, 60))],
}


@pytest.fixture(scope="module")
def choosing_sets(tmp_path_factory: pytest.TempPathFactory, quick_sets: dict[str, Path]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("selection")
    return quick_sets | {
        "selection": made_up_set(folder, "selection", 5, 21),
        "selection_heldout": made_up_set(folder, "selection_heldout", 5, 22),
    }


@pytest.fixture(scope="module", params=["dora", "lora"])
def chosen_run(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_moonshine: Path,
    choosing_sets: dict[str, Path],
) -> TrainingRun:
    return made(tmp_path_factory.mktemp("chosen"), tiny_moonshine, choosing_sets, request.param).trained()


def made(root: Path, model: Path, sets: dict[str, Path], method: str = "dora", *more: str) -> TrainingRun:
    return TrainingRun(
        root, model, sets, *QUICK, "train.eval_every=5", *FURTHER[method], f"adapter.method={method}", *more
    )


@pytest.mark.heavy
def test_candidates_are_scored_on_selection_sets_and_the_best_of_all_is_shipped(chosen_run: TrainingRun) -> None:
    paths, snapshot = chosen_run.paths, chosen_run.snapshot
    assert snapshot.state is Status.DONE, chosen_run.log
    names = NAMES[snapshot.config["settings"]["adapter"]["method"]]
    assert [one.name for one in snapshot.candidates] == names
    best = paths.best.readlink().name
    for one in snapshot.candidates:
        scored = {path.stem for path in (paths.evals / one.name).iterdir()}
        assert scored == {"selection", "selection_heldout"} | ({"domain", "heldout"} if one.name == best else set())
        assert one.chosen is (one.name == best)
        assert paths.adapter(one.name).is_dir() is one.chosen, "what was not chosen can be made again, and goes"
    choice = judged(snapshot, recorded_thresholds(snapshot.config)).evidence.choice
    assert choice is not None
    assert choice.name == best
    assert {one.name for one in choice.standings} == {*names, *(f"step-{step:06d}" for step in (5, 8))}
    assert choice.why in [notice.message for notice in snapshot.notices]


@pytest.mark.heavy
def test_a_shipped_candidate_is_judged_as_an_interval_is(chosen_run: TrainingRun) -> None:
    paths, snapshot = chosen_run.paths, chosen_run.snapshot
    found = judged(snapshot, recorded_thresholds(snapshot.config))
    assert found.problems == ()
    assert found.verdict.criterion("parity").state is State.PASS, found.verdict.criterion("parity").reason
    assert found.verdict.criterion("integrity").state is State.PASS, found.verdict.criterion("integrity").reason
    result, chosen = json.loads(paths.result.read_text()), snapshot.chosen
    assert chosen is not None, "the settings of this test have a candidate chosen"
    assert (result["candidate"], result["best_step"]) == (chosen.name, chosen.step)
    assert result["adapter_hash"] == chosen.hash == adapter_hash(paths.best)
    assert chosen.name in found.verdict.best
    facts = read_facts(paths.best)
    assert facts is not None
    assert (facts.step, facts.made_of, facts.way) == (chosen.step, chosen.made_of, chosen.alpha)
    for name in ("domain", "heldout"):
        tuned, own = (json.loads(p.read_text()) for p in (paths.tuned(name), paths.evaluation(chosen.name, name)))
        assert {key for key in own if own[key] != tuned[key]} == {"single"}
    checked = verify(paths, HashCache(chosen_run.folder.hash_cache), Keys())
    assert checked.problems == ()
    assert "by the effective weights of each layer" in render(found)


@pytest.mark.heavy
def test_pruning_keeps_the_candidate_and_may_take_what_it_is_made_of(chosen_run: TrainingRun) -> None:
    wanted = prunable(chosen_run.paths, adapters=True)
    assert wanted is not None
    assert [path.name for path in wanted.paths] == ["step-000005"]


def at(kind: type[Event], number: int) -> Any:
    seen: list[Event] = []

    def when(event: Event) -> bool:
        seen.extend([event] if isinstance(event, kind) else [])
        return isinstance(event, kind) and len(seen) == number

    return when


def making(event: Event) -> bool:
    return isinstance(event, Phase) and event.detail == NAMES["dora"][1]


DEATHS = {
    "before the first candidate": at(IntervalScored, 3),
    "while one is made": making,
    "after one": at(CandidateScored, 1),
    "before the choice": at(CandidateScored, len(NAMES["dora"])),
    "after the choice": at(CandidateScored, len(NAMES["dora"]) + 1),
    "while it is scored from disk": lambda event: isinstance(event, Phase) and "evaluate on heldout" in event.detail,
}

OTHER_DEATHS = [name for name in DEATHS if name not in ("while one is made", "after the choice")]


@pytest.mark.heavy
@pytest.mark.parametrize(
    "death",
    ["while one is made", "after the choice", *(pytest.param(name, marks=pytest.mark.long) for name in OTHER_DEATHS)],
)
@pytest.mark.parametrize("chosen_run", ["dora"], indirect=True)
def test_a_run_killed_while_it_chooses_ends_as_one_that_was_not(
    death: str, chosen_run: TrainingRun, tmp_path: Path, tiny_moonshine: Path, choosing_sets: dict[str, Path]
) -> None:
    run = made(tmp_path, tiny_moonshine, choosing_sets, "dora")
    assert run.fork(signal_at(signal.SIGKILL, DEATHS[death])) == signal.SIGKILL
    before = sum(isinstance(record.event, CandidateScored) for record in run.records)
    run.trained()
    assert run.result() == chosen_run.result()
    assert run.history() == chosen_run.history()
    again = sum(isinstance(record.event, CandidateScored) for record in run.records) - before
    assert again <= len(NAMES["dora"]) + 1 - min(before, len(NAMES["dora"])), "what was scored is not scored again"


@pytest.mark.heavy
@pytest.mark.parametrize("chosen_run", ["lora"], indirect=True)
def test_a_run_that_is_stopped_while_it_chooses_goes_on_from_there(
    chosen_run: TrainingRun, tmp_path: Path, tiny_moonshine: Path, choosing_sets: dict[str, Path]
) -> None:
    run = made(tmp_path, tiny_moonshine, choosing_sets, "lora")
    run.fork(signal_at(signal.SIGTERM, DEATHS["after one"]))
    assert run.final.outcome == "stopped"
    assert 1 <= len(run.snapshot.candidates) < len(NAMES["lora"])
    run.trained()
    assert run.result() == chosen_run.result()
    assert run.history() == chosen_run.history()


@pytest.mark.heavy
def test_where_no_candidate_does_better_an_interval_is_shipped(
    tmp_path: Path, tiny_moonshine: Path, choosing_sets: dict[str, Path]
) -> None:
    run = made(tmp_path, tiny_moonshine, choosing_sets, "lora", "train.eval_every=2", CAUTIOUS).trained()
    snapshot = run.snapshot
    assert snapshot.chosen is None and len(snapshot.candidates) == 7
    best = run.paths.best.readlink().name
    assert best == f"step-{json.loads(run.paths.result.read_text())['best_step']:06d}"
    assert "candidate" not in json.loads(run.paths.result.read_text())
    last = [record.event for record in run.records if isinstance(record.event, AdapterSaved)][-1]
    assert last.best and best == f"step-{last.step:06d}"
    assert judged(snapshot, recorded_thresholds(snapshot.config)).problems == ()
    assert verify(run.paths, HashCache(run.folder.hash_cache), Keys()).problems == ()
