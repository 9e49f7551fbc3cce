import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.runs.paths import RunPaths, RunsFolder, step_name, step_of
from core.system.files import write_bytes


@given(st.integers(0, 10**9))
def test_step_names_come_back(step: int) -> None:
    assert step_of(step_name(step)) == step


def test_step_names_sort_as_steps_do() -> None:
    assert [step_name(s) for s in (0, 400, 1000)] == ["step-000000", "step-000400", "step-001000"]


@pytest.mark.parametrize("name", ["", "step-", "step-1", "step-00040x", "step-000400.tmp", "tuned", "last"])
def test_other_names_are_no_steps(name: str) -> None:
    assert step_of(name) is None


def test_the_files_of_a_run_are_where_the_design_says() -> None:
    run = RunPaths(Path("runs/2.1-0123456789"))
    relative = {
        "config": "run.json",
        "events": "events.jsonl",
        "log": "log.txt",
        "result": "result.json",
        "best": "lora_adapter_best",
        "last": "lora_adapter_last",
    }
    assert {name: str(getattr(run, name).relative_to(run.root)) for name in relative} == relative
    assert str(run.checkpoint(400).relative_to(run.root)) == "checkpoints/step-000400"
    assert run.checkpoint_marker(400).parent == run.checkpoint(400)
    assert str(run.evaluation(400, "domain").relative_to(run.root)) == "evals/step-000400/domain.json"
    assert str(run.tuned("heldout").relative_to(run.root)) == "evals/tuned/heldout.json"
    assert str(run.adapter(400).relative_to(run.root)) == "adapters/step-000400"
    assert run.name == "2.1-0123456789"


@given(st.text(min_size=1), st.from_regex(r"[0-9a-f]{10}", fullmatch=True))
def test_an_experiment_id_never_leaves_the_runs_folder(experiment: str, identity: str) -> None:
    root = Path("/runs")
    run = RunsFolder(root, root).run(experiment, identity)
    assert run.root.parent == root
    assert run.name.endswith(f"-{identity}")
    assert run.name.isascii()


def test_runs_are_found_by_identity_whichever_experiment_made_them(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path / "runs", tmp_path / "state")
    assert folder.runs() == []
    assert folder.find_all("0123456789") == []
    run = folder.run("2.1", "0123456789")
    run.root.mkdir(parents=True)
    assert folder.runs() == [], "a folder without run.json is no run"
    run.config.write_text("{}")
    assert folder.runs() == [run]
    assert folder.find_all("0123456789") == [run]
    assert folder.find_all("9876543210") == []


@pytest.mark.parametrize("letter", ["a", "\udcff", "é"])
def test_the_longest_name_of_a_run_overflows_no_name_of_a_lock_or_cache(tmp_path: Path, letter: str) -> None:
    folder = RunsFolder(tmp_path / "runs", tmp_path / "state")
    long = letter * (255 // len(os.fsencode(letter)))
    (folder.root / long).mkdir(parents=True)
    for file in (folder.run_lock(long), folder.sink_lock("tensorboard", long), folder.history_cache(long)):
        write_bytes(file, b"")
    assert folder.run_lock(long) != folder.run_lock(long[:-1]), "no two runs share a lock"
    assert folder.histories_of_gone_runs() == []
    (folder.root / long).rmdir()
    assert folder.histories_of_gone_runs() == [folder.history_cache(long)]
    assert folder.run_lock("a-0123456789").name == "run-a-0123456789.lock"
