"""What runs share lies in the runs folder itself: a link there leads nowhere, neither for reading nor for writing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.runs.data_health import read_shared, write_shared
from core.runs.folder import read_json
from core.runs.paths import RunsFolder

KEY = "0123456789abcdef"
AUDIT: dict[str, Any] = {"key": KEY, "leaks": []}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "runs"


def test_a_shared_audit_is_read_back(runs: Path) -> None:
    write_shared(runs, KEY, AUDIT)
    assert read_shared(runs, KEY) == AUDIT


def test_a_runs_folder_may_be_a_link_to_another_disk(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("runs")
    write_shared(tmp_path / "link", KEY, AUDIT)
    assert read_shared(runs, KEY) == read_shared(tmp_path / "link", KEY) == AUDIT


@pytest.mark.parametrize("link", ["data_health", f"data_health/{KEY}", f"data_health/{KEY}/health.json"])
def test_a_link_is_neither_read_nor_written_behind(runs: Path, tmp_path: Path, link: str) -> None:
    write_shared(runs, KEY, AUDIT)
    theirs = tmp_path / "elsewhere" / "moved"
    (runs / link).rename(theirs)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "elsewhere").rglob("*")}
    (runs / link).symlink_to(theirs)
    assert read_shared(runs, KEY) is None
    write_shared(runs, KEY, AUDIT)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "elsewhere").rglob("*")} == before


def test_what_is_behind_a_link_is_named(runs: Path, tmp_path: Path) -> None:
    (runs / "baselines").symlink_to(tmp_path / "elsewhere")
    document, problem = read_json(runs, RunsFolder(runs, runs).baseline_scores("f"))
    assert document is None and problem is not None and f"{runs / 'baselines'}: a link" in problem
    (runs / "baselines").unlink()
    assert read_json(runs, RunsFolder(runs, runs).baseline_scores("f")) == (None, None)
