"""The last word on an accepted run: a part of a reserve that no other run has seen, and what is believed of it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_run import FakeRun

from core.manifests.hashing import lines_of, lines_sha256
from core.manifests.manifest import read_manifest
from core.manifests.sets import reserve_part
from core.plan.schema import DataSettings
from core.queue.report import caveats
from core.runs.adapter_files import adapter_hash
from core.runs.contents import Comparison
from core.runs.folder import create_json
from core.runs.judged import Judged, judged
from core.runs.paths import RunsFolder
from core.runs.reserve import _key, draw, other_part
from core.runs.scores import read_score
from core.runs.store import read_run
from core.scoring.data_health import RESERVES
from core.scoring.evidence import Decision, State, Thresholds
from core.system.files import write_json

HASHES = {"reserve_domain": "d1" * 32, "reserve_heldout": "e1" * 32}
PARTS = {"domain": "d2" * 32, "heldout": "e2" * 32}


@pytest.fixture
def run(fake_run: Callable[..., FakeRun]) -> FakeRun:
    """A run that its ordinary sets accept, with a reserve that it was not scored on yet."""
    run = fake_run()
    config = json.loads(run.paths.config.read_text())
    config["settings"]["data"] = {role: f"/data/{role}.jsonl" for role in HASHES}
    write_json(run.paths.config, config | {"hashes": HASHES})
    return run.good()


def score(run: FakeRun, domain: tuple[int, int] = (300, 180), heldout: tuple[int, int] = (30, 30), **more: Any) -> None:
    """Base and tuned errors of 600 words on part 2 of 4. `more`: of the tuned documents."""
    sets = {}
    for name, errors in (("domain", domain), ("heldout", heldout)):
        alike = {"dataset": RESERVES[name], "manifest_sha256": PARTS[name]}
        own = {"step": 1000, "adapter_hash": adapter_hash(run.paths.best)} | more
        for who, count, fields in (("base", errors[0], {"step": 0}), ("tuned", errors[1], own)):
            run.score(run.paths.reserve(name, who), count, **(alike | fields))
        base, _ = read_score(run.paths.reserve(name, "base"))
        assert base is not None
        lines = lines_sha256(utterance.line for utterance in base.utterances)
        sets[name] = {
            "whole_sha256": HASHES[RESERVES[name]], "manifest_sha256": PARTS[name], "lines_sha256": lines,
        }  # fmt: skip
    write_json(run.paths.reserve_drawn, {"schema": 1, "part": 2, "of": 4, "sets": sets})
    run.result()


def seen(run: FakeRun, **thresholds: Any) -> Judged:
    return judged(read_run(run.paths), Thresholds(**thresholds))


def test_a_run_that_passes_again_is_accepted(run: FakeRun) -> None:
    score(run)
    found = seen(run)
    reserve = found.verdict.criterion("reserve")
    assert (reserve.state, found.verdict.decision, found.problems) == (State.PASS, Decision.ACCEPTED, ())
    assert reserve.reason.startswith(
        "On part 2 of 4 of the reserve: Domain WER 50.00 → 30.00 %, a change of −20.00 points"
    )
    assert "Heldout WER 5.00 → 5.00 %" in reserve.reason


@pytest.mark.parametrize("fails", [{"domain": (300, 300)}, {"heldout": (30, 40)}])
def test_a_run_that_fails_there_is_rejected(run: FakeRun, fails: dict[str, tuple[int, int]]) -> None:
    score(run, **fails)
    found = seen(run)
    assert [c.name for c in found.verdict.criteria if c.state is State.FAIL] == ["reserve"]
    assert found.verdict.decision is Decision.REJECTED


def test_what_is_asked_for_must_be_sure_there_too(run: FakeRun) -> None:
    score(run, heldout=(30, 31))
    found = seen(run, confidence=0.95, unknown_speakers="made up", heldout_regression_pp=5.0)
    assert found.verdict.criterion("heldout").state is State.PASS
    assert "sure" in found.verdict.criterion("reserve").reason


def test_without_scores_it_is_not_known(run: FakeRun) -> None:
    found = seen(run)
    assert (found.verdict.criterion("reserve").state, found.verdict.decision) == (State.UNKNOWN, Decision.UNDECIDED)
    assert (
        "was not scored on the reserve: it was not accepted when it ended" in found.verdict.criterion("reserve").reason
    )


def test_what_the_ordinary_sets_reject_is_not_asked_again(run: FakeRun) -> None:
    score(run)
    found = seen(run, domain_gain_pp=50.0)
    assert (
        found.verdict.criterion("reserve").reason
        == "Only a run that the ordinary sets accept is scored on the reserve."
    )
    assert found.verdict.decision is Decision.REJECTED


@pytest.mark.parametrize("data", [{"data": {}}, {}])
def test_a_run_json_that_no_longer_names_the_reserve_does_not_do_away_with_it(
    run: FakeRun, data: dict[str, Any]
) -> None:
    """The paths of manifests are no part of the identity; their hashes are."""
    score(run, heldout=(30, 40))
    settings = json.loads(run.paths.config.read_text())["settings"]
    edited(run.paths.config, settings={name: settings[name] for name in settings if name != "data"} | data)
    run.health()
    found = seen(run)
    assert found.verdict.criterion("reserve").state is State.FAIL
    assert found.verdict.decision is Decision.REJECTED


def test_a_run_without_a_reserve_has_no_such_criterion(fake_run: Callable[..., FakeRun]) -> None:
    verdict = seen(fake_run().good()).verdict
    assert "reserve" not in [criterion.name for criterion in verdict.criteria]


def test_when_all_parts_are_taken_it_is_not_known(run: FakeRun) -> None:
    write_json(run.paths.reserve_drawn, {"schema": 1, "part": None, "of": 4, "sets": {}})
    run.result()
    reserve = seen(run).verdict.criterion("reserve")
    assert reserve.state is State.UNKNOWN
    assert reserve.reason.startswith("No part of the reserve was left that no other accepted run had drawn")


def edited(path: Path, **changes: Any) -> None:
    write_json(path, json.loads(path.read_text()) | changes)


def claim(run: FakeRun, content: dict[str, Any] | None) -> None:
    """What lies beside the runs for part 2 of 4; a pipe for None."""
    root = run.paths.root.parent
    place = RunsFolder(root, root).reserve_part(_key(HASHES, 4), 2)
    place.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        os.mkfifo(place)
    else:
        write_json(place, content)


def beside(run: FakeRun, name: str) -> None:
    """A copy of the run folder under another name."""
    shutil.copytree(run.paths.root, run.paths.root.parent / name, symlinks=True)


FORGERIES: dict[str, tuple[Callable[[FakeRun], None], str]] = {
    "the scores of another adapter": (lambda run: score(run, adapter_hash="f" * 64), "its adapter_hash is"),
    "another step": (lambda run: score(run, step=900), "its step is"),
    "another set": (lambda run: edited(run.paths.reserve("heldout", "tuned"), dataset="heldout"), "its dataset is"),
    "another manifest": (
        lambda run: edited(run.paths.reserve("heldout", "tuned"), manifest_sha256="0" * 64),
        "not of the part that was drawn",
    ),
    "another decoding": (
        lambda run: edited(
            run.paths.reserve("domain", "base"),
            decode={"method": "greedy", "tokens_per_second": 1.0, "max_tokens": 194, "lifted": []},
        ),
        "was decoded otherwise",
    ),
    "a base model that is an adapter": (
        lambda run: edited(run.paths.reserve("domain", "base"), adapter_hash="f" * 64),
        "its adapter_hash is",
    ),
    "other reserve manifests": (
        lambda run: edited(run.paths.config, hashes=HASHES | {"reserve_domain": "0" * 64}),
        "was drawn from another reserve_domain",
    ),
    "no such part": (lambda run: edited(run.paths.reserve_drawn, part=9), "there is no such part"),
    "other parts than the run has": (lambda run: edited(run.paths.reserve_drawn, of=5), "has 5 parts, run.json 4"),
    "a base model that is cut shorter": (
        lambda run: edited(
            run.paths.reserve("domain", "base"),
            decode={"method": "greedy", "tokens_per_second": 6.5, "max_tokens": 2, "lifted": []},
        ),
        "was decoded otherwise than the base model's score",
    ),
    "a part that another run has drawn": (
        lambda run: claim(run, {"run": "2.2-ffffffffff"}),
        "part 2 of the reserve was drawn by another run, '2.2-ffffffffff'",
    ),
    "a claim that is none": (lambda run: claim(run, {"run": 2}), "was drawn by another run, 2"),
    "a claim of nobody": (lambda run: claim(run, {"run": None}), "was drawn by another run, None"),
    "a claim that cannot be read": (lambda run: claim(run, None), "cannot be read"),
    "no claim, and another run that has drawn it": (
        lambda run: beside(run, "2.2-ffffffffff"),
        "part 2 of the reserve was drawn by another run, '2.2-ffffffffff'",
    ),
    "a draw that is none": (lambda run: edited(run.paths.reserve_drawn, part="2"), "restore the file"),
    "a document that is gone": (lambda run: run.paths.reserve("domain", "tuned").unlink(), "missing"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_documents_are_no_evidence(run: FakeRun, name: str) -> None:
    score(run)
    forge, why = FORGERIES[name]
    forge(run)
    run.health()
    found = seen(run)
    reserve = found.verdict.criterion("reserve")
    assert (reserve.state, found.verdict.decision) == (State.UNKNOWN, Decision.UNDECIDED)
    assert why in reserve.reason and reserve.reason in found.problems


def test_counts_that_the_texts_do_not_bear_out_are_no_evidence(run: FakeRun) -> None:
    score(run, heldout=(30, 60))
    path = run.paths.reserve("heldout", "tuned")
    document = json.loads(path.read_text())
    for utterance in document["utterances"]:
        utterance["substitutions"] = 0
    write_json(path, document | {"counts": run.counts(0)})
    run.result()
    found = seen(run)
    assert found.verdict.criterion("reserve").state is State.UNKNOWN
    assert "its texts" in found.verdict.criterion("reserve").reason


def test_transcripts_that_a_cap_has_cut_are_no_evidence_there_either(run: FakeRun) -> None:
    score(run)
    edited(run.paths.reserve("domain", "base"), capped=["clip40"])
    run.result()
    reserve = seen(run).verdict.criterion("reserve")
    assert reserve.state is State.UNKNOWN
    assert "1 of 60 transcripts of the base model on reserve_domain reached their token cap" in reserve.reason


def test_a_document_that_was_edited_after_the_end_is_told(run: FakeRun) -> None:
    score(run, heldout=(30, 60))
    run.score(run.paths.reserve("heldout", "tuned"), 30, dataset="reserve_heldout", manifest_sha256=PARTS["heldout"])
    found = seen(run)
    assert found.verdict.decision is not Decision.ACCEPTED
    assert any("heldout-tuned.json: changed since the run ended" in problem for problem in found.problems)


def test_each_accepted_run_draws_the_next_part_and_keeps_it(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path / "runs", tmp_path / "state")
    for folder in (runs.root, runs.state / "locks"):
        folder.mkdir(parents=True)
    one, two, three = (runs.run("a", f"{number:010d}") for number in (1, 2, 3))
    assert [draw(runs, run, HASHES, 2) for run in (two, one, two, three)] == [1, 2, 1, None]
    assert draw(runs, runs.run("a copy", f"{1:010d}"), HASHES, 2) == 2
    # another reserve is other speech, the same in other parts is not
    assert draw(runs, three, HASHES | {"reserve_domain": "0" * 64}, 2) == 1
    assert draw(runs, three, HASHES, 3) is None


def test_the_claim_and_a_copy_of_the_run_do_not_take_its_part_away(run: FakeRun) -> None:
    score(run)
    claim(run, {"run": run.paths.name})
    beside(run, "copy-0123456789")
    beside(run, "2.2-ffffffffff")
    assert seen(run).verdict.criterion("reserve").state is State.PASS
    claim(run, {"run": "renamed-0123456789"})
    assert seen(run).verdict.criterion("reserve").state is State.PASS


def test_a_run_beside_which_nobody_may_look_is_judged(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    score(run)

    def denied(_: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.listdir", denied)
    assert seen(run).verdict.criterion("reserve").state is State.PASS


def test_a_part_whose_claim_was_deleted_is_not_drawn_again(run: FakeRun) -> None:
    """Part 2 was seen by the run whose folder says so, whatever became of the claim."""
    score(run)
    runs = RunsFolder(run.paths.root.parent, run.paths.root.parent / "state")
    others = [runs.run("b", f"{number:010d}") for number in range(4)]
    assert [draw(runs, other, HASHES, 4) for other in others] == [1, 3, 4, None]
    assert draw(runs, runs.run("c", f"{9:010d}"), HASHES, 5) is None


def test_two_machines_that_draw_at_once_draw_two_parts(tmp_path: Path) -> None:
    """Each has locks of its own, and both see that the first part is free."""
    root, start = tmp_path / "runs", threading.Barrier(4)
    root.mkdir()

    def one(number: int) -> int | None:
        runs = RunsFolder(root, tmp_path / f"state{number}")
        start.wait()
        return draw(runs, runs.run("a", f"{number:010d}"), HASHES, 4)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(4)), key=str) == [1, 2, 3, 4]


def test_what_is_there_is_not_claimed_again(tmp_path: Path) -> None:
    place = tmp_path / "reserve" / "part-001.json"
    assert [create_json(tmp_path, place, {"run": name}) for name in ("a", "b")] == [True, False]
    assert json.loads(place.read_text()) == {"run": "a"}


def test_the_documents_must_be_of_the_part_of_the_plan_s_own_reserve(run: FakeRun, tmp_path: Path) -> None:
    """The gate has the manifests: copies of the ordinary scores, hashes and all, are no scores of the reserve."""
    score(run)
    base, _ = read_score(run.paths.reserve("domain", "base"))
    assert base is not None
    lines = [{"audio_filepath": f"{u.id}.wav", "id": u.id, "text": u.reference, "duration": 1} for u in base.utterances]
    for name in HASHES:
        others = [line | {"text": f"text {number}"} for number, line in enumerate(lines)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in others))
    data = DataSettings(**{name: str(tmp_path / f"{name}.jsonl") for name in HASHES})
    said = other_part(run.paths, data)
    assert said is not None and said.endswith(f"not part 2 of 4 of {tmp_path}/reserve_domain.jsonl")
    row = SimpleNamespace(match=None, resolved=SimpleNamespace(settings=SimpleNamespace(data=data), lines={}))
    plan: Any = SimpleNamespace(
        assigned={"a": row},
        folder=lambda _: run.paths,
        others=lambda _: (),
        comparison=lambda _: Comparison((), ()),
        recorded_run=lambda _: None,
    )
    assert caveats(plan, "a", Thresholds()) == ((), said)
    parts = {
        name: lines_sha256(lines_of(reserve_part(read_manifest(Path(path), check_audio=False), 2, 4)))
        for name, path in (("domain", data.reserve_domain), ("heldout", data.reserve_heldout))
        if path is not None
    }
    drawn = json.loads(run.paths.reserve_drawn.read_text())
    for name, digest in parts.items():
        drawn["sets"][name]["lines_sha256"] = digest
    write_json(run.paths.reserve_drawn, drawn)
    assert other_part(run.paths, data) is None
    assert other_part(run.paths, DataSettings(reserve_domain="/nowhere.jsonl")) is None
