"""A run on a model of the hub: from a local cache in the hub's own format, without the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hub_kit import NEW, OLD, cached, write_cache
from safetensors.numpy import load_file, save_file
from training_kit import QUICK, TrainingRun

from core.runs.status import Status


@pytest.fixture
def moved_upstream(tmp_path: Path, tiny_moonshine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`org/tiny`, planned while main was OLD; since then main is NEW, with other weights."""
    other = tmp_path / "other"
    shutil.copytree(tiny_moonshine, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: value * 0.5 for name, value in weights.items()}, other / "model.safetensors", {"format": "pt"})
    hub = tmp_path / "hub"
    cached(hub, monkeypatch)
    write_cache(hub, "org/tiny", other, main=NEW)
    write_cache(hub, "org/tiny", tiny_moonshine, main=OLD)
    return hub


@pytest.mark.heavy
def test_the_commit_that_was_planned_is_trained_scored_and_recorded(
    tmp_path: Path, quick_sets: dict[str, Path], moved_upstream: Path
) -> None:
    run = TrainingRun(tmp_path / "a", Path("org/tiny"), quick_sets, *QUICK)
    write_cache(moved_upstream, "org/tiny", tmp_path / "other", main=NEW)
    assert run.fork() == 0, run.log
    assert run.snapshot.state is Status.DONE
    facts = json.loads((run.paths.best / "reproduce.json").read_text())
    assert (facts["model"], facts["revision"], facts["model_hash"]) == ("org/tiny", OLD, f"hub:org/tiny@{OLD}")
    later = TrainingRun(tmp_path / "b", Path("org/tiny"), quick_sets, *QUICK, runs=run.folder.root)
    assert later.paths.name != run.paths.name, "what is upstream now makes another run"
    assert later.fork() == 0, later.log
    scores = [json.loads(one.paths.evaluation(0, "domain").read_text()) for one in (run, later)]
    assert scores[0]["loss"] != scores[1]["loss"], "with a baseline of its own"


def test_a_commit_that_is_not_there_any_more_is_refused(
    tmp_path: Path, quick_sets: dict[str, Path], moved_upstream: Path
) -> None:
    run = TrainingRun(tmp_path / "a", Path("org/tiny"), quick_sets, *QUICK)
    shutil.rmtree(moved_upstream / "models--org--tiny" / "snapshots" / OLD)
    write_cache(moved_upstream, "org/tiny", tmp_path / "other", main=NEW)
    assert run.fork() != 0
    assert run.final.outcome == "error" and "model org/tiny: cannot be loaded" in run.final.message


def test_a_revision_that_is_not_the_planned_commit_is_refused(
    tmp_path: Path, quick_sets: dict[str, Path], moved_upstream: Path
) -> None:
    """The path of a model is no part of the identity, and neither is its revision: only the hash is."""
    run = TrainingRun(tmp_path / "a", Path("org/tiny"), quick_sets, *QUICK)
    write_cache(moved_upstream, "org/tiny", tmp_path / "other", main=NEW)
    run.config["settings"]["model"]["revision"] = NEW
    run.write()
    assert run.fork() != 0
    assert f"this run was planned for hub:org/tiny@{OLD}, and run.json names {NEW}" in run.final.message
