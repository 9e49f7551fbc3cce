"""What is stored of the base model is believed by the next run; a link is neither believed nor written behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.runs.paths import RunsFolder
from core.training.baseline import SharedBaseline
from core.training.evaluation import Transcripts

FACTS: dict[str, Any] = {"model": "m", "prompt": (1, 2)}
FOUND = Transcripts(("zero", "one"), 1.5, "plan", (), 0, (), ())


class Once:
    """Computes the baseline, and counts how often it is asked to."""

    def __init__(self, runs: Path, state: Path) -> None:
        self.times, self.refused = 0, list[str]()
        self.shared = SharedBaseline(RunsFolder(runs, state), FACTS, 2)

    def __call__(self) -> Transcripts:
        def compute() -> Transcripts:
            self.times += 1
            return FOUND

        return self.shared.transcripts(compute, lambda: None, self.refused.append)


@pytest.fixture
def once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Once:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to("disk")
    return Once(tmp_path / "runs", tmp_path / "state")


def test_it_is_computed_once_in_a_runs_folder_that_is_a_link(once: Once) -> None:
    assert once() == once() == FOUND
    assert once.times == 1 and not once.refused


def test_one_behind_a_link_is_computed_anew_and_left_alone(once: Once, tmp_path: Path) -> None:
    once()
    (tmp_path / "disk" / "baselines").rename(tmp_path / "theirs")
    (tmp_path / "disk" / "baselines").symlink_to(tmp_path / "theirs")
    [stored] = (tmp_path / "theirs").rglob("scores.json")
    before = stored.stat().st_mtime_ns
    assert once() == FOUND
    assert once.times == 2 and "baselines: a link" in once.refused[0]
    assert stored.stat().st_mtime_ns == before and list(stored.parent.iterdir()) == [stored]
